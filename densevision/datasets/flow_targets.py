"""What the files of a pair say of its motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from densevision.datasets.flow_layouts import Pair
from densevision.errors import DataError
from densevision.io.flow import read_array, read_flow
from densevision.io.image import read_image
from densevision.results.flow_field import FlowField


def read_truth(pair: Pair, size: tuple[int, int] | None = None) -> FlowField:
    """The truth of a pair, with what its dataset says of occlusion.

    Args:
        pair: Its files; `flow` is one of them.
        size: Of the frames, (height, width); that of the motion when not given.

    Raises:
        DataError: A file is missing, broken, or of another size than the frames.
    """
    flow, valid = read_flow(pair.flow)
    if pair.doubled:
        flow, valid = flow[:, ::2, ::2], valid[::2, ::2]
    invalid = occlusion = None
    if pair.invalid is not None:
        invalid = _mask(pair.invalid)
    if pair.occlusion is not None:
        occlusion = _mask(pair.occlusion)
    if pair.visible is not None:
        occlusion = ~read_flow(pair.visible)[1]
    if pair.mask is not None:
        occlusion = read_array(pair.mask) > 0
    size = valid.shape if size is None else tuple(size)
    hiding = pair.occlusion or pair.visible or pair.mask
    for file, array in ((pair.flow, valid), (pair.invalid, invalid), (hiding, occlusion)):
        if array is not None and array.shape != size:
            problem = f"not of the size of its image, {size}"
            raise DataError(problem, file=file, value=array.shape, hint="Is it the truth of another image?")
    return FlowField.of(flow, valid if invalid is None else valid & ~invalid, occlusion, str(pair.first))


def _mask(path: Path) -> np.ndarray:
    return read_image(path)[..., 0] > 0
