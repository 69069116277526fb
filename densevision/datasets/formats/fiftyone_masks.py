"""Masks of FiftyOne's detections: zlib-compressed NPY files of the box's window, in MongoDB's extended JSON."""

from __future__ import annotations

import base64
import binascii
import io
import math
import zlib
from typing import Any

import numpy as np

from densevision.io.image import MAX_PIXELS
from densevision.io.numpy_errors import NUMPY_ERRORS

__all__ = ["decode_mask", "encode_mask"]

MAX_BYTES = 8 * MAX_PIXELS
"""Bytes of the largest mask, whose elements may have up to eight bytes."""
MAX_HEADER = 1 << 12


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Encodes the window of a mask, (h, w) bool.

    >>> decode_mask(encode_mask(np.eye(2, dtype=bool)))
    array([[ True, False],
           [False,  True]])
    """
    stream = io.BytesIO()
    np.save(stream, mask, allow_pickle=False)
    content = base64.b64encode(zlib.compress(stream.getvalue())).decode("ascii")
    return {"$binary": {"base64": content, "subType": "00"}}


def decode_mask(value: Any) -> np.ndarray | None:
    """Decodes the window of a mask, (h, w) bool, also of files from before extended JSON; None if it is malformed."""
    binary = value.get("$binary") if isinstance(value, dict) else value
    text = binary.get("base64") if isinstance(binary, dict) else binary
    if not isinstance(text, str):
        return None
    try:
        inflater = zlib.decompressobj()
        stream = io.BytesIO(inflater.decompress(base64.b64decode(text, validate=True), MAX_BYTES))
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = header[np.lib.format.read_magic(stream)](stream, max_header_size=MAX_HEADER)
        content = stream.read()
        # NumPy takes the memory that the header states, so the header is checked before.
        is_complete = inflater.eof and math.prod(shape) * dtype.itemsize == len(content)
        if not is_complete or len(shape) != 2 or dtype.kind not in "biuf":
            return None
        array = np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
    except (binascii.Error, *NUMPY_ERRORS):
        return None
    return array > 0
