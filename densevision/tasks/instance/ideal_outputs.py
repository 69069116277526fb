"""The outputs of a perfect network: the inverse of decoding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.ops.masks import decode
from densevision.results import Instances
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.keypoints import heatmaps_of

CELLS = 64
"""Least cells a side of encoded masks and heatmaps; a large box gets two for each of its pixels."""


def encode(ground_truths: Sequence[Instances | None], config: InstanceConfig) -> dict[str, Tensor]:
    """Outputs from which `decode` reads these truths again; crowd regions are no objects.

    Args:
        truths: Truths on the network's canvas.
        config: Which heads there are.

    Returns:
        What the head returns, with finer masks and heatmaps than it has.
    """
    single = [None if truth is None else truth[~truth.crowd] for truth in ground_truths]
    count = max([1, *(len(truth) for truth in single if truth is not None)])
    resolution = max([CELLS, *(2 * _longest(truth) for truth in single if truth is not None)])
    shape = (len(ground_truths), count)
    outputs = {
        "boxes": torch.zeros(*shape, 4),
        "scores": torch.zeros(shape),
        "labels": torch.zeros(shape, dtype=torch.long),
        "valid": torch.zeros(shape, dtype=torch.bool),
    }
    if config.masks:
        outputs["masks"] = torch.zeros(*shape, resolution, resolution)
    if config.keypoints:
        outputs["heatmaps"] = torch.zeros(*shape, len(config.keypoint_names or ()), resolution, resolution)
    for row, truth in enumerate(single):
        for name, values in {} if truth is None else _outputs(truth, config, resolution).items():
            outputs[name][row, : len(truth)] = torch.from_numpy(values).to(outputs[name].dtype)
    return outputs


def _outputs(truth: Instances, config: InstanceConfig, resolution: int) -> dict[str, np.ndarray]:
    values = {
        "boxes": truth.boxes,
        "scores": np.ones(len(truth)),
        "labels": truth.labels,
        "valid": np.ones(len(truth), bool),
    }
    if config.masks:
        cells = [_over_box(mask, box, resolution) for mask, box in zip(truth.masks, truth.boxes)]
        values["masks"] = np.reshape(cells, (-1, resolution, resolution))
    if config.keypoints:
        values["heatmaps"] = heatmaps_of(truth.keypoints[..., :2], truth.boxes, resolution)
    return values


def _over_box(mask: dict, box: np.ndarray, resolution: int) -> np.ndarray:
    """(resolution, resolution) float32: what the mask holds at the center of each cell of the box."""
    dense = decode(mask)
    steps = (np.arange(resolution) + 0.5) / resolution
    x, y = (np.floor(box[axis] + steps * (box[axis + 2] - box[axis])).astype(int) for axis in (0, 1))
    return dense[y.clip(0, dense.shape[0] - 1)][:, x.clip(0, dense.shape[1] - 1)].astype(np.float32)


def _longest(truth: Instances) -> int:
    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    return int(np.ceil(sides.max(initial=0)))
