"""Run lengths and polygons of label files."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from densevision.io.segmentations import parse_rle
from densevision.ops.masks import decode, encode


def compress(counts: list[int]) -> str:
    """COCO's compressed text of run lengths, after its description in maskApi.c."""
    text = ""
    for index, count in enumerate(counts):
        value, more = count - (counts[index - 2] if index > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 if more else bits))
    return text


def test_parse_rle__text_equals_the_list() -> None:
    counts = [3, 40, 2, 1, 20, 30]
    mask = parse_rle({"size": [8, 12], "counts": compress(counts)}, (8, 12))
    assert mask == parse_rle({"counts": counts}, (8, 12)) is not None
    assert decode(mask).sum() == 40 + 1 + 30 == coco.area(mask)


@pytest.mark.parametrize(
    "counts",
    [
        compress([200, 96, -200]),  # the sum is right, and a decoder would write before the mask
        compress([10, -4, 90]),
        "P" * 13 + encode(np.zeros((8, 12), bool))["counts"],  # more than 64 bits of one length
        compress([96, 96]),
        "",
        "\x00",
    ],
)
def test_parse_rle__text_that_is_no_mask(counts: str) -> None:
    assert parse_rle({"size": [8, 12], "counts": counts}, (8, 12)) is None
