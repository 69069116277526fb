"""What the network's numbers mean, and how truths of any kind are brought to them.

The network speaks for one camera. Metric depth is that of a camera of the config's focal length: things seen through
twice the focal length look twice as near, so their depth is stated at half (Yin et al., Metric3D, ICCV 2023, section
3.2). Disparity is in pixels of the network's canvas, or, where no loss binds it to a unit, anything that is larger
where the scene is nearer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.errors import DataError
from densevision.results.depth_map import DepthMap
from densevision.tasks.depth.config import DepthConfig

Tensors = dict[str, Tensor]


def in_network_terms(truth: DepthMap, config: DepthConfig) -> tuple[np.ndarray, np.ndarray]:
    """The numbers that a perfect network would say of a truth on its canvas, and where they are known.

    Raises:
        DataError: Metric depth is wanted of disparities whose focal length or baseline is missing.
    """
    if config.learns == "disparity":
        return _disparity(truth, metric_unit=config.stereo or config.unit == "px")
    record = truth
    if truth.kind == "disparity" and truth.unit == "px" and (config.output == "metric" or _calibrated(truth)):
        record = truth.metric()
    if config.output == "relative":
        return _reciprocal(record) if record.kind == "disparity" else (record.depth, record.valid)
    if record.kind != "metric":
        raise DataError("metric depth cannot be learned from this truth", value=record.kind, hint="Change output.")
    focal = config.camera.focal
    zoom = focal / record.camera.focal if focal and record.camera is not None else 1.0
    return record.depth * np.float32(zoom), record.valid


def stack(ground_truths: Sequence[DepthMap | None], config: DepthConfig) -> Tensors:
    """Truths on the canvas in the network's terms, padded to one size.

    Args:
        truths: One record per image; None where nothing is known.
        config: Says what the network says.

    Returns:
        "depth" (B, 1, H, W), 1 where it is not known, and "valid" (B, 1, H, W) bool.
    """
    sizes = [truth.size for truth in ground_truths if truth is not None] or [(1, 1)]
    height, width = (max(sides) for sides in zip(*sizes))
    depth = np.ones((len(ground_truths), 1, height, width), np.float32)
    valid = np.zeros(depth.shape, bool)
    for row, truth in enumerate(ground_truths):
        if truth is not None:
            numbers, known = in_network_terms(truth, config)
            known = known & (numbers > 0)
            place = row, 0, slice(truth.size[0]), slice(truth.size[1])
            depth[place], valid[place] = np.where(known, numbers, 1), known
    return {"depth": torch.from_numpy(depth), "valid": torch.from_numpy(valid)}


def _disparity(truth: DepthMap, metric_unit: bool) -> tuple[np.ndarray, np.ndarray]:
    if truth.kind == "disparity":
        return truth.depth, truth.valid
    if not metric_unit:
        return _reciprocal(truth)
    if not _calibrated(truth):
        problem = "disparity in pixels needs the focal length and the baseline of the cameras"
        hint = "Set camera.focal and camera.baseline."
        raise DataError(problem, field="camera", value=truth.camera, hint=hint)
    known = truth.valid & (truth.depth > 0)
    return truth.camera.disparity(np.where(known, truth.depth, np.float32(np.inf))), known


def _calibrated(truth: DepthMap) -> bool:
    return truth.camera is not None and truth.camera.baseline is not None


def _reciprocal(truth: DepthMap) -> tuple[np.ndarray, np.ndarray]:
    seen = truth.valid & (truth.depth > 0)
    return np.divide(1, truth.depth, out=np.zeros_like(truth.depth), where=seen), seen
