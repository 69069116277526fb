"""Which images look the same: prints of 64 bits find candidates, small gray images confirm them.

Source of the print: N. Krawetz, "Kind of like that", hackerfactor.com 2013 (dHash). Candidates within a Hamming
distance of d share one of d + 1 bands of bits exactly, so only images of one band are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from densevision.datasets.checks.image_scanner import ImageInfo

DISTANCE = 4
"""Bits of 64 in which the prints of images that look the same may differ."""
SIDE = 16
"""Of the small images that confirm it."""
LIKENESS = 0.985
"""Least correlation of the small images."""
CONTRAST = 3.0
"""Standard deviation, in gray levels, below which a small image is too flat to tell from others."""
BLOCK = 2048
"""Images of one band that are compared at a time."""


def prints(gray: np.ndarray) -> tuple[int, np.ndarray]:
    """The dHash of a gray image, and its 16 x 16 small image as (256,) uint8."""
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    thumbnail = cv2.resize(gray, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return int.from_bytes(bits.tobytes(), "big"), thumbnail.reshape(-1)


def nearly_twice(images: Sequence[ImageInfo]) -> Iterator[tuple[ImageInfo, ImageInfo]]:
    """Each image that looks like an earlier one, after the first such: (earlier, later)."""
    pairs = _alike(images)
    later, rows = np.unique(pairs[:, 1], return_index=True)
    for position, row in zip(later.tolist(), rows.tolist()):
        yield images[pairs[row, 0]], images[position]


def leaks(train: Sequence[ImageInfo], val: Sequence[ImageInfo]) -> Iterator[tuple[ImageInfo, ImageInfo, bool]]:
    """Images of validation with one of training that is the same byte for byte (True), or looks the same (False)."""
    digests = {facts.digest: facts for facts in train}
    others = []
    for facts in val:
        if facts.digest in digests:
            yield digests[facts.digest], facts, True
        else:
            others.append(facts)
    pairs = _alike([*train, *others])
    across = pairs[(pairs[:, 0] < len(train)) & (pairs[:, 1] >= len(train))]
    later, rows = np.unique(across[:, 1], return_index=True)
    for position, row in zip(later.tolist(), rows.tolist()):
        yield train[across[row, 0]], others[position - len(train)], False


def _alike(images: Sequence[ImageInfo]) -> np.ndarray:
    """(n, 2) positions of images that look the same, the earlier first, sorted."""
    if len(images) < 2:
        return np.zeros((0, 2), np.int64)
    thumbnails = np.stack([facts.thumbnail for facts in images])
    hashes = np.array([facts.dhash for facts in images], np.uint64)
    vivid = np.flatnonzero(thumbnails.std(1) >= CONTRAST)
    found = [np.zeros((0, 2), np.int64)]
    edges = np.linspace(0, 64, DISTANCE + 2).astype(int)
    for start, end in pairwise(edges.tolist()):
        keys = (hashes[vivid] >> np.uint64(start)) & np.uint64((1 << (end - start)) - 1)
        order = np.argsort(keys, kind="stable")
        cuts = np.flatnonzero(np.diff(keys[order])) + 1
        for group in np.split(vivid[order], cuts):
            found += _within(group, hashes, thumbnails) if len(group) > 1 else []
    return np.unique(np.concatenate(found), axis=0)


def _within(group: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> list[np.ndarray]:
    """The pairs of a group that look the same."""
    found = []
    for top in range(0, len(group), BLOCK):
        for left in range(top, len(group), BLOCK):
            rows, columns = group[top : top + BLOCK], group[left : left + BLOCK]
            near = _ones(hashes[rows][:, None] ^ hashes[columns][None]) <= DISTANCE
            first, second = np.nonzero(near)
            pairs = np.stack([rows[first], columns[second]], 1)
            found.append(_confirmed(pairs[pairs[:, 0] < pairs[:, 1]], thumbnails))
    return found


def _confirmed(pairs: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    kept = []
    for start in range(0, len(pairs), BLOCK):
        part = pairs[start : start + BLOCK]
        first, second = (thumbnails[part[:, side]].astype(np.float32) for side in (0, 1))
        first, second = (small - small.mean(1, keepdims=True) for small in (first, second))
        product = (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))
        kept.append(part[product >= LIKENESS])
    return np.concatenate(kept) if kept else pairs


def _ones(numbers: np.ndarray) -> np.ndarray:
    """Bits that are set, counted in parallel; NumPy itself counts them from version 2 on."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(numbers)
    return np.unpackbits(np.ascontiguousarray(numbers).view(np.uint8).reshape(*numbers.shape, 8), axis=-1).sum(-1)
