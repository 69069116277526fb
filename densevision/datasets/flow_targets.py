"""Ground-truth optical flow of a frame pair, with validity and occlusion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from densevision.datasets.flow_layouts import FlowPair
from densevision.errors import DataError
from densevision.io.flow import read_array, read_flow
from densevision.io.image import read_image
from densevision.results.flow_field import FlowField

__all__ = ["read_flow_field"]


def read_flow_field(pair: FlowPair, size: tuple[int, int] | None = None) -> FlowField:
    """Reads the flow of a pair with the validity and occlusion that its dataset provides.

    Args:
        pair: Its files; `flow` is given.
        size: (height, width) of the frames; that of the flow by default.

    Raises:
        DataError: A file is missing, broken, or its size differs from the frames.
    """
    assert pair.flow is not None
    flow, valid = read_flow(pair.flow)
    if pair.is_double_resolution:
        flow, valid = flow[:, ::2, ::2], valid[::2, ::2]
    invalid = occlusion = None
    if pair.invalid is not None:
        invalid = _read_mask(pair.invalid)
    if pair.occlusion is not None:
        occlusion = _read_mask(pair.occlusion)
    if pair.visible is not None:
        occlusion = ~read_flow(pair.visible)[1]
    if pair.mask is not None:
        occlusion = read_array(pair.mask) > 0
    expected_size = valid.shape if size is None else tuple(size)
    occlusion_file = pair.occlusion or pair.visible or pair.mask
    for file, array in ((pair.flow, valid), (pair.invalid, invalid), (occlusion_file, occlusion)):
        if array is not None and array.shape != expected_size:
            problem, hint = f"its size differs from the image, {expected_size}", "Check that it belongs to this image."
            raise DataError(problem, file=file, value=array.shape, hint=hint)
    return FlowField.from_arrays(flow, valid if invalid is None else valid & ~invalid, occlusion, str(pair.first))


def _read_mask(path: Path) -> np.ndarray:
    return read_image(path)[..., 0] > 0
