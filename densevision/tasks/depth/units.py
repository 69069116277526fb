"""What the network's numbers mean, and how ground truth of any kind is converted to them.

Predictions are stated for one camera. Metric depth is that of a camera of the config's focal length: with twice the
focal length things look twice as near, so their depth is stated at half (Yin et al., Metric3D, ICCV 2023, section
3.2). Disparity is in pixels of the canvas or, where no loss depends on the unit, up to scale and shift.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.errors import DataError
from densevision.results.depth_map import DepthMap
from densevision.tasks.depth.config import DepthConfig

__all__ = ["collate_targets", "convert_to_target"]

Tensors = dict[str, Tensor]


def convert_to_target(truth: DepthMap, config: DepthConfig) -> tuple[np.ndarray, np.ndarray]:
    """Converts ground truth on the canvas to what a perfect network would predict.

    Returns:
        (H, W) numbers, and (H, W) bool where they are known.

    Raises:
        DataError: Metric depth needs a calibration that the disparities lack, or vice versa.
    """
    if config.target_kind == "disparity":
        return _convert_to_disparity(truth, in_pixels=config.is_stereo or config.unit == "px")
    record = truth
    if truth.kind == "disparity" and truth.unit == "px" and (config.output == "metric" or truth.is_calibrated):
        record = truth.metric()
    if config.output == "relative":
        return _reciprocal(record) if record.kind == "disparity" else (record.depth, record.valid)
    if record.kind != "metric":
        hint = "Change output."
        raise DataError("metric depth cannot be learned from this ground truth", value=record.kind, hint=hint)
    focal = config.camera.focal
    zoom = focal / record.camera.focal if focal and record.camera is not None else 1.0
    return record.depth * np.float32(zoom), record.valid


def collate_targets(target_records: Sequence[DepthMap | None], config: DepthConfig) -> Tensors:
    """Stacks ground truths on the canvas as training targets, padded to one size.

    Args:
        target_records: One record per image; None where nothing is known.
        config: What the network predicts.

    Returns:
        "depth" (B, 1, H, W), 1 where it is unknown, and "valid" (B, 1, H, W) bool.
    """
    sizes = [truth.size for truth in target_records if truth is not None] or [(1, 1)]
    height, width = (max(sides) for sides in zip(*sizes))
    depth = np.ones((len(target_records), 1, height, width), np.float32)
    valid = np.zeros(depth.shape, bool)
    for row, truth in enumerate(target_records):
        if truth is not None:
            target, known = convert_to_target(truth, config)
            known = known & (target > 0)
            place = row, 0, slice(truth.size[0]), slice(truth.size[1])
            depth[place], valid[place] = np.where(known, target, 1), known
    return {"depth": torch.from_numpy(depth), "valid": torch.from_numpy(valid)}


def _convert_to_disparity(truth: DepthMap, in_pixels: bool) -> tuple[np.ndarray, np.ndarray]:
    if truth.kind == "disparity":
        return truth.depth, truth.valid
    if not in_pixels:
        return _reciprocal(truth)
    if not truth.is_calibrated:
        problem = "disparity in pixels needs the focal length and the baseline of the cameras"
        hint = "Set camera.focal and camera.baseline."
        raise DataError(problem, field="camera", value=truth.camera, hint=hint)
    known = truth.valid & (truth.depth > 0)
    return truth.camera.disparity(np.where(known, truth.depth, np.float32(np.inf))), known  # type: ignore[union-attr]


def _reciprocal(truth: DepthMap) -> tuple[np.ndarray, np.ndarray]:
    known = truth.valid & (truth.depth > 0)
    return np.divide(1, truth.depth, out=np.zeros_like(truth.depth), where=known), known
