"""A U-Net with a ResNet-34: from an image to a map of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from densevision.datasets.scenes import Scenes
from densevision.inference.predictor import build_without_weights
from peers import Call, Row, predict_in_precisions, run_in_bfloat16

__all__ = ["ROWS"]

SIZE = (736, 960)
CLASSES = 11


def prepare(folder: Path) -> dict[str, Call]:
    """segmentation-models-pytorch as its users run it: channels last, and the largest output of each pixel."""
    import segmentation_models_pytorch as smp

    image = Scenes(1, 0, SIZE)[0].image
    network = smp.Unet("resnet34", encoder_weights=None, classes=CLASSES).eval()
    network = network.to(memory_format=torch.channels_last)
    names = [str(number) for number in range(CLASSES)]
    backbone = {"backbone.name": "resnet34", "backbone.pretrained": False}
    model = build_without_weights("semantic", {"arch": "unet", "classes": names, "data.size": list(SIZE), **backbone})

    def predict() -> Any:
        batch = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        return network(batch.contiguous(memory_format=torch.channels_last)).argmax(1).to(torch.uint8)[0].numpy()

    return {
        **predict_in_precisions(model, image),
        "segmentation-models-pytorch float32": predict,
        "segmentation-models-pytorch bfloat16": run_in_bfloat16(predict),
    }


ROWS = {"unet": Row("U-Net ResNet-34, 736 x 960 to classes", prepare, ("segmentation-models-pytorch",), 1.15)}
