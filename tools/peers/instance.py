"""Mask R-CNN."""

from __future__ import annotations

from pathlib import Path

import torch
from benchmark_instance import SCORE_THRESHOLD, build_networks

from densevision.datasets.scenes import Scenes
from peers import Call, Row, predict_in_precisions, run_in_bfloat16

__all__ = ["ROWS"]

SIZE = (800, 1216)


def prepare(folder: Path) -> dict[str, Call]:
    """The same random weights in torchvision's Mask R-CNN and in ours; a hundred objects."""
    reference, model = build_networks(folder)
    image = Scenes(1, 0, SIZE)[0].image
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    options = {"score_threshold": SCORE_THRESHOLD}
    return {
        **predict_in_precisions(model, image, **options),
        "torchvision float32": lambda: reference([tensor]),
        "torchvision bfloat16": run_in_bfloat16(lambda: reference([tensor])),
    }


ROWS = {"mask_rcnn": Row("Mask R-CNN R50-FPN, 800 x 1216", prepare, ("torchvision",), 1.5)}
