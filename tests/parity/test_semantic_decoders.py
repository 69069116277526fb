"""Every decoder of smp by name, on the shared encoder's levels, is the one in smp's own model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.task import Semantic

pytestmark = pytest.mark.parity

MODELS = {
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


@pytest.mark.parametrize("arch", MODELS)
def test_decoder__answers_as_in_smps_model(arch: str) -> None:
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    config = SemanticConfig.checked({"arch": arch, "classes": ("a", "b", "c"), "backbone": {"name": "resnet18"}})
    net = Semantic(config).net().eval()
    theirs = getattr(smp, MODELS[arch])("tu-resnet18", encoder_weights=None, classes=3).eval()
    # Strict: as many tensors, of the same names and shapes.
    theirs.decoder.load_state_dict(net.head.main.decoder.state_dict())
    theirs.segmentation_head[0].load_state_dict(net.head.main.score.state_dict())
    image = torch.rand(1, 3, 256 if arch == "pan" else 64, 128)
    with torch.inference_mode():
        levels = net.encoder(image)
        shapes = [tuple(level.shape) for level in theirs.encoder(image)]
        scores = theirs.segmentation_head[0](theirs.decoder(levels[: len(shapes)]))
        # smp's last resizing aligns corners, which shifts pixels: here ours is given to both.
        wanted = F.interpolate(scores, image.shape[-2:], mode="bilinear")
        found = net(image=image)["logits"]
    assert [tuple(level.shape) for level in levels][: len(shapes)] == shapes
    torch.testing.assert_close(found, wanted)
