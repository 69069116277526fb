"""Finds images that look the same: 64-bit hashes select candidates, and thumbnails confirm them.

Source of the hash: N. Krawetz, "Kind of like that", hackerfactor.com 2013 (dHash). Two hashes with a Hamming distance
of at most d agree in at least one of d + 1 bands of bits, so only images that share a band are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import cv2
import numpy as np

__all__ = ["NO_FINGERPRINT", "Fingerprint", "compute_fingerprint", "find_leaks", "find_near_duplicates"]

MAX_DISTANCE = 4
"""Bits of 64 in which the hashes of similar images may differ."""
THUMBNAIL_SIDE = 16
MIN_CORRELATION = 0.985
"""Minimum correlation of the thumbnails of similar images."""
MIN_CONTRAST = 3.0
"""Standard deviation in gray levels below which a thumbnail is too flat to be compared."""
BLOCK = 2048
"""Images of one band that are compared at a time."""


@dataclass(frozen=True)
class Fingerprint:
    """What is compared of an image.

    Attributes:
        digest: Of the bytes of the file.
        dhash: 64 bits: where a reduced image gets brighter to the right.
        thumbnail: (256,) uint8, the image reduced to 16 x 16 gray pixels.
    """

    digest: bytes
    dhash: int
    thumbnail: np.ndarray


NO_FINGERPRINT = Fingerprint(b"", 0, np.zeros(THUMBNAIL_SIDE**2, np.uint8))
"""Of a file that cannot be read."""


def compute_fingerprint(data: bytes, gray: np.ndarray) -> Fingerprint:
    """Computes the fingerprint of an image.

    Args:
        data: The bytes of the file.
        gray: (H, W) uint8, the decoded image, which may be reduced.
    """
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    thumbnail = cv2.resize(gray, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
    digest = blake2b(data, digest_size=16).digest()
    return Fingerprint(digest, int.from_bytes(bits.tobytes(), "big"), thumbnail.reshape(-1))


def find_near_duplicates(images: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Finds the images that look like an earlier one: (index of the first such image, index)."""
    pairs = _find_similar_pairs(images)
    indices, rows = np.unique(pairs[:, 1], return_index=True)
    return list(zip(pairs[rows, 0].tolist(), indices.tolist()))


def find_leaks(train: Sequence[Fingerprint], val: Sequence[Fingerprint]) -> list[tuple[int, int, bool]]:
    """Finds the validation images that equal or resemble a training image.

    Returns:
        (index in train, index in val, whether the files are byte-identical).
    """
    by_digest = {image.digest: index for index, image in enumerate(train)}
    leaks = [(by_digest[image.digest], index, True) for index, image in enumerate(val) if image.digest in by_digest]
    others = [index for index, image in enumerate(val) if image.digest not in by_digest]
    pairs = _find_similar_pairs([*train, *(val[index] for index in others)])
    pairs = pairs[(pairs[:, 0] < len(train)) & (pairs[:, 1] >= len(train))]
    positions, rows = np.unique(pairs[:, 1], return_index=True)
    for position, row in zip(positions.tolist(), rows.tolist()):
        leaks.append((int(pairs[row, 0]), others[position - len(train)], False))
    return leaks


def _find_similar_pairs(images: Sequence[Fingerprint]) -> np.ndarray:
    """Returns (n, 2) indices of images that look the same, the earlier first, sorted."""
    if len(images) < 2:
        return np.zeros((0, 2), np.int64)
    thumbnails = np.stack([image.thumbnail for image in images])
    hashes = np.array([image.dhash for image in images], np.uint64)
    candidates = np.flatnonzero(thumbnails.std(1) >= MIN_CONTRAST)
    pairs = [np.zeros((0, 2), np.int64)]
    edges = np.linspace(0, 64, MAX_DISTANCE + 2).astype(int)
    for start, end in pairwise(edges.tolist()):
        keys = (hashes[candidates] >> np.uint64(start)) & np.uint64((1 << (end - start)) - 1)
        order = np.argsort(keys, kind="stable")
        cuts = np.flatnonzero(np.diff(keys[order])) + 1
        for group in np.split(candidates[order], cuts):
            pairs += _compare_group(group, hashes, thumbnails) if len(group) > 1 else []
    return np.unique(np.concatenate(pairs), axis=0)


def _compare_group(group: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> list[np.ndarray]:
    """Returns the similar pairs of a group."""
    similar = []
    for top in range(0, len(group), BLOCK):
        for left in range(top, len(group), BLOCK):
            rows, columns = group[top : top + BLOCK], group[left : left + BLOCK]
            is_near = _count_ones(hashes[rows][:, None] ^ hashes[columns][None]) <= MAX_DISTANCE
            first, second = np.nonzero(is_near)
            pairs = np.stack([rows[first], columns[second]], 1)
            similar.append(_confirm_pairs(pairs[pairs[:, 0] < pairs[:, 1]], thumbnails))
    return similar


def _confirm_pairs(pairs: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Returns the pairs whose thumbnails correlate."""
    confirmed = [pairs[:0]]
    for start in range(0, len(pairs), BLOCK):
        part = pairs[start : start + BLOCK]
        first, second = (thumbnails[part[:, side]].astype(np.float32) for side in (0, 1))
        first, second = (values - values.mean(1, keepdims=True) for values in (first, second))
        correlation = (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))
        confirmed.append(part[correlation >= MIN_CORRELATION])
    return np.concatenate(confirmed)


def _count_ones(numbers: np.ndarray) -> np.ndarray:
    """Counts the set bits of each number; NumPy before version 2 has no function for it."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(numbers)
    return np.unpackbits(np.ascontiguousarray(numbers).view(np.uint8).reshape(*numbers.shape, 8), axis=-1).sum(-1)
