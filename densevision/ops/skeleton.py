"""What keypoints are: their names, their mirror images, and the limbs between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087),
    *(0.089, 0.089),
)
"""Spread of COCO's 17 keypoints."""


def usual_sigmas(count: int) -> tuple[float, ...]:
    """Spread by which each of so many keypoints is judged where nothing else is said: COCO's for its 17, else 1/K.

    >>> usual_sigmas(4)
    (0.25, 0.25, 0.25, 0.25)
    """
    return COCO_SIGMAS if count == len(COCO_SIGMAS) else (1 / count,) * count


@dataclass(frozen=True)
class Skeleton:
    """What the keypoints of an object are.

    Attributes:
        names: Of the K keypoints; `left_` and `right_` before the same word are mirror images of one another.
        limbs: Pairs of keypoints that are joined, counted from 0.
    """

    names: tuple[str, ...]
    skeleton_edges: tuple[tuple[int, int], ...] = ()

    def mirrored(self) -> np.ndarray:
        """(K,) positions of each keypoint's mirror image, its own where it has none.

        >>> Skeleton(("nose", "left_eye", "right_eye")).mirrored()
        array([0, 2, 1])
        """
        other = {"left": "right", "right": "left"}
        partners = [name.split("_", 1) for name in self.names]
        images = ["_".join([other.get(first, first), *rest]) for first, *rest in partners]
        return np.array([self.names.index(image) if image in self.names else i for i, image in enumerate(images)])
