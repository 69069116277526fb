"""DeepLabV3 and LR-ASPP beside torchvision's own classes, with random weights.

Both run in float64, so that a difference means another network and not another order of sums.
"""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from random_norms import randomize_norms
from torchvision.models import segmentation

from densevision.tasks.semantic.models.torchvision_heads import LRASPP, DeepLabV3
from densevision.tasks.semantic.models.torchvision_layout import convert_state_dict

pytestmark = pytest.mark.parity

DEEPLABS = {
    "deeplabv3_resnet50": "resnet50",
    "deeplabv3_resnet101": "resnet101",
    "deeplabv3_mobilenet_v3_large": "mobilenetv3_large_100",
}


def build_reference(name: str, **options) -> torch.nn.Module:
    """torchvision's network with random weights and norm statistics, whose logits keep a spread."""
    torch.manual_seed(0)
    network = getattr(segmentation, name)(weights=None, weights_backbone=None, **options)
    return randomize_norms(network).double()


def load(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Loads all tensors but the constants of the normalization, which torchvision's networks do not hold."""
    constants = {name: model.state_dict()[name] for name in ("encoder.mean", "encoder.std")}
    model.load_state_dict({**constants, **weights}, strict=True)


def normalize(image: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (image - mean.double()) / std.double()


def make_image(height: int, width: int, batch: int = 1) -> torch.Tensor:
    torch.manual_seed(1)
    return F.interpolate(torch.rand(batch, 3, 9, 9), (height, width), mode="bicubic").clamp(0, 1).double()


@pytest.mark.parametrize("name", DEEPLABS)
def test_deeplabv3__equals_torchvision(name):
    reference = build_reference(name, aux_loss=True, num_classes=7)
    model = DeepLabV3(7, DEEPLABS[name], auxiliary=True).double().eval()
    load(model, convert_state_dict(reference.state_dict()))
    image = make_image(65, 98)
    with torch.inference_mode():
        expected, outputs = reference(normalize(image)), model(image)
    assert expected["out"].std() > 1e-2 and expected["aux"].std() > 1e-2
    torch.testing.assert_close(outputs["logits"], expected["out"], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(outputs["auxiliary"], expected["aux"], atol=1e-6, rtol=1e-6)


def test_lraspp__equals_torchvision():
    reference = build_reference("lraspp_mobilenet_v3_large")
    model = LRASPP().double().eval()
    load(model, convert_state_dict(reference.state_dict()))
    for size in ((97, 130), (128, 64)):
        image = make_image(*size)
        with torch.inference_mode():
            expected, outputs = reference(normalize(image))["out"], model(image)
        assert expected.std() > 1e-2 and list(outputs) == ["logits"]
        torch.testing.assert_close(outputs["logits"], expected, atol=1e-6, rtol=1e-6)


def test_google_layout__equals_its_network_of_timm_and_torchvision():
    """MobileNetV2 of timm, torchvision's spatial pyramid without atrous branches, and one classifier."""
    torch.manual_seed(0)
    reference = torch.nn.ModuleDict(
        {
            "backbone": timm.create_model("mobilenetv2_100", features_only=True, out_indices=(4,), output_stride=16),
            "aspp": segmentation.deeplabv3.ASPP(320, [], 256),
            "logits": torch.nn.Conv2d(256, 21, 1),
        }
    )
    reference.double().eval()
    options = {"atrous_rates": (), "refine": False, "align_corners": True, "input_size": 65}
    half = (128 / 255,) * 3
    model = DeepLabV3(21, "mobilenetv2_100", encoder_options={"mean": half, "std": half}, **options).double().eval()
    load(model, convert_state_dict(reference.state_dict()))
    levels = torch.randint(0, 256, (1, 3, 65, 65)).double()
    with torch.inference_mode():
        scores = reference["logits"](reference["aspp"](reference["backbone"]((levels - 128) / 128)[0]))
        expected = F.interpolate(scores, (65, 65), mode="bilinear", align_corners=True)
        torch.testing.assert_close(model(levels / 255)["logits"], expected, atol=1e-6, rtol=1e-6)


def test_published_weights__load_without_their_auxiliary_head():
    """All of torchvision's published DeepLabV3 files hold one."""
    reference = build_reference("deeplabv3_mobilenet_v3_large", aux_loss=True)
    model = DeepLabV3(encoder="mobilenetv3_large_100").double().eval()
    load(model, convert_state_dict(reference.state_dict(), auxiliary=False))
    image = make_image(64, 80)
    with torch.inference_mode():
        torch.testing.assert_close(model(image)["logits"], reference(normalize(image))["out"], atol=1e-6, rtol=1e-6)


def test_training__losses_and_gradients_equal_torchvision():
    reference = build_reference("deeplabv3_mobilenet_v3_large", aux_loss=True, num_classes=5)
    model = DeepLabV3(5, "mobilenetv3_large_100", auxiliary=True).double()
    load(model, convert_state_dict(reference.state_dict()))
    for network in (reference, model):
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    image = make_image(64, 64, batch=2)
    labels = torch.randint(0, 5, (2, 64, 64))
    labels[:, :10] = 255
    outputs = reference(normalize(image))
    expected = F.cross_entropy(outputs["out"], labels, ignore_index=255)
    expected = expected + 0.5 * F.cross_entropy(outputs["aux"], labels, ignore_index=255)
    loss = sum(model.compute_losses({"image": image}, {"labels": labels}).values())
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    expected.backward()
    loss.backward()
    gradients = convert_state_dict({name: p.grad for name, p in reference.named_parameters()})
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-3 * float(largest), rtol=1e-2, msg=name)
