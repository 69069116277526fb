"""Keypoint skeletons: names, left-right pairs, edges and OKS sigmas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["COCO_SIGMAS", "Skeleton", "get_default_sigmas"]

COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087),
    *(0.089, 0.089),
)
"""OKS sigmas of COCO's 17 keypoints."""


def get_default_sigmas(count: int) -> tuple[float, ...]:
    """Default OKS sigmas of `count` keypoints: COCO's for 17 keypoints, otherwise 1 / count.

    >>> get_default_sigmas(4)
    (0.25, 0.25, 0.25, 0.25)
    """
    return COCO_SIGMAS if count == len(COCO_SIGMAS) else (1 / count,) * count


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of an object class.

    Attributes:
        names: Names of the K keypoints; those that differ only in the prefix `left_` or `right_` are mirror images.
        edges: Pairs of keypoint indices that are connected.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()

    def get_flip_indices(self) -> np.ndarray:
        """(K,) index of each keypoint's mirror image: the keypoint itself if it has none.

        >>> Skeleton(("nose", "left_eye", "right_eye")).get_flip_indices()
        array([0, 2, 1])
        """
        opposite = {"left": "right", "right": "left"}
        words = [name.split("_", 1) for name in self.names]
        mirrored = ["_".join([opposite.get(first, first), *rest]) for first, *rest in words]
        return np.array([self.names.index(name) if name in self.names else i for i, name in enumerate(mirrored)])
