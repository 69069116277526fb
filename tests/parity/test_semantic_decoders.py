"""Decoders and whole models beside segmentation_models_pytorch's own, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from random_norms import randomize_norms

from densevision.inference.predictor import load_torch
from densevision.io.weights import PublishedWeights
from densevision.tasks.semantic import weights as published
from densevision.tasks.semantic.models import MODELS

pytestmark = pytest.mark.parity

SMP_CLASSES = {
    "unet": "Unet",
    "unetplusplus": "UnetPlusPlus",
    "manet": "MAnet",
    "linknet": "Linknet",
    "fpn": "FPN",
    "pspnet": "PSPNet",
    "deeplabv3": "DeepLabV3",
    "deeplabv3plus": "DeepLabV3Plus",
    "pan": "PAN",
    "upernet": "UPerNet",
    "segformer": "Segformer",
}


@pytest.mark.parametrize("name", SMP_CLASSES)
def test_decoder__equals_that_of_smps_model(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name].build({"num_classes": 3, "encoder": "resnet18"}).eval()
    reference = getattr(smp, SMP_CLASSES[name])("tu-resnet18", encoder_weights=None, classes=3).eval()
    # Strict: as many tensors, of the same names and shapes.
    reference.decoder.load_state_dict(model.decoder.state_dict())
    reference.segmentation_head[0].load_state_dict(model.classifier.state_dict())
    image = torch.rand(1, 3, 256 if name == "pan" else 64, 128)
    with torch.inference_mode():
        levels = model.encoder(image)
        shapes = [tuple(level.shape) for level in reference.encoder(image)]
        scores = reference.segmentation_head[0](reference.decoder(levels[: len(shapes)]))
        # smp's last interpolation aligns corners, which shifts pixels; both get the other one here.
        expected = F.interpolate(scores, image.shape[-2:], mode="bilinear")
        logits = model(image=image)["logits"]
    assert [tuple(level.shape) for level in levels][: len(shapes)] == shapes
    torch.testing.assert_close(logits, expected)


WHOLE_MODELS = {
    "unet": ("resnet18", {}, {}),
    "upernet": ("tu-convnext_atto", {"decoder_channels": 16}, {}),
    "segformer": ("mit_b0", {"decoder_segmentation_channels": 32}, {}),
    "dpt": (
        "tu-vit_tiny_patch16_224",
        {"decoder_intermediate_channels": (16, 16, 16, 16), "decoder_fusion_channels": 16},
        {"dynamic_img_size": True},
    ),
    "deeplabv3plus": ("resnet18", {}, {}),
}


@pytest.mark.parametrize("architecture", WHOLE_MODELS)
def test_whole_model__reads_smps_state_dict_and_equals_it(architecture: str) -> None:
    encoder, options, encoder_options = WHOLE_MODELS[architecture]
    torch.manual_seed(0)
    reference = smp.create_model(architecture, encoder, encoder_weights=None, classes=5, **options, **encoder_options)
    torch.manual_seed(1)
    randomize_norms(reference).double()
    model = MODELS["smp"].build(
        {"num_classes": 5},
        {
            "architecture": architecture,
            "encoder": encoder,
            "decoder_options": options,
            "encoder_options": {"options": encoder_options},
        },
    )
    model.double().eval().load_state_dict(reference.state_dict(), strict=True)
    mean, std = (torch.tensor(x).view(3, 1, 1).double() for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image = torch.rand(2, 3, 64, 96).double()
    with torch.inference_mode():
        expected = reference((image - mean) / std)
        logits = model(image=image)["logits"]
    assert expected.std() > 1e-4
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_published_upernet__converts_and_predicts_as_smp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of smp-hub/upernet-*, with a small encoder."""
    entry = published._smp_upernet("tiny", "convnext_atto", 1)
    monkeypatch.setitem(published._BY_NAME, entry.name, entry)
    torch.manual_seed(0)
    reference = smp.create_model("upernet", "tu-convnext_atto", encoder_weights=None, classes=150, decoder_channels=512)
    torch.manual_seed(1)
    randomize_norms(reference)
    torch.save(reference.state_dict(), tmp_path / "model.pth")
    weights = PublishedWeights(entry.name, "semantic", entry.address, "", entry.license, 1, "ADE20K")
    published.convert(weights, tmp_path / "model.pth", tmp_path / "out.safetensors")
    model = load_torch(tmp_path / "out.safetensors", "semantic")
    assert model.task.config.classes[:2] == ("wall", "building")
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    x = torch.from_numpy(image).movedim(-1, 0)[None].float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = reference((x - mean) / std).argmax(1)[0].numpy()
    assert (model.predict(image, precision="float32").labels == expected).mean() > 0.999
