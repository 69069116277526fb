"""The class of every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from densevision.io.atomic_write import whole
from densevision.io.masks import write_palette_png
from densevision.ops.view import warp_image
from densevision.results.base import Result

UNKNOWN = 255
"""Label of pixels whose class is not known; they count nowhere."""
UNKNOWN_SET = 65535
"""The same where a pixel may be of several classes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SemanticMap(Result):
    """What each pixel of an image shows.

    Attributes:
        labels: (H, W) uint8 indices into `names`, 255 unknown. With `multilabel`: (H, W) uint16 sets of classes, bit i
            for class i, 65535 unknown.
        names: Class names: at most 255, with `multilabel` at most 15.
        probabilities: (C, H, W) float16 in [0, 1] of each class, when they were asked for.
        multilabel: A pixel may be of several classes, or of none.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    probabilities: np.ndarray | None = None
    multilabel: bool = False

    layout: ClassVar[Mapping[str, str]] = {".png": "_save_labels", ".npy": "_save_npy"}
    rows: ClassVar[Mapping[str, int]] = {"labels": 0, "probabilities": 1}

    @classmethod
    def unknown(cls, size: tuple[int, int], names: tuple[str, ...], multilabel: bool = False) -> SemanticMap:
        """A map that says nothing about any pixel."""
        kind, value = (np.uint16, UNKNOWN_SET) if multilabel else (np.uint8, UNKNOWN)
        return cls(labels=np.full(size, value, kind), names=names, multilabel=multilabel, size=size)

    @property
    def known(self) -> np.ndarray:
        """(H, W) bool: pixels of which something is known."""
        return self.labels != (UNKNOWN_SET if self.multilabel else UNKNOWN)

    def mask(self, index: int) -> np.ndarray:
        """(H, W) bool: pixels of a class."""
        return (self.labels >> index & 1).astype(bool) & self.known if self.multilabel else self.labels == index

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> SemanticMap:
        """Each pixel of the canvas takes the nearest pixel's class; unknown where the image does not reach.

        Probabilities are left out.
        """
        fill = UNKNOWN_SET if self.multilabel else UNKNOWN
        labels = warp_image(self.labels, matrix, size, cv2.INTER_NEAREST, fill)
        return replace(self, labels=labels, probabilities=None, size=size, source=None)

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Each class in its color, with a key; where a pixel has several, the last in `names` shows."""
        from densevision.draw.fields import draw_semantic

        return draw_semantic(image, self._top(), self.names, UNKNOWN)

    def to_dict(self) -> dict[str, Any]:
        """Size, class names, and the run lengths of each class that is there."""
        names = list(self.names)
        return {"size": list(self.size), "names": names, "multilabel": self.multilabel, "segments": self.to_coco()}

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """COCO stuff entries, one per class that is there: image_id, category_id (index + 1), segmentation as RLE."""
        from pycocotools import mask as coco_mask

        entries = []
        for index in range(len(self.names)):
            mask = self.mask(index)
            if mask.any():
                runs = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
                code = {"size": list(self.size), "counts": runs["counts"].decode("ascii")}
                entries.append({"image_id": image_id, "category_id": index + 1, "segmentation": code})
        return entries

    def _top(self) -> np.ndarray:
        """(H, W) uint8 labels, of several the last; 255 where there is none."""
        if not self.multilabel:
            return self.labels
        top = np.full(self.size, UNKNOWN, np.uint8)
        for index in range(len(self.names)):
            top[self.mask(index)] = index
        return top

    def _save_labels(self, path: Path) -> None:
        """A PNG whose pixels are the class numbers, in the classes' colors; sets of classes as 16-bit gray."""
        from densevision.draw.colors import palette
        from densevision.io.image import write_image

        if self.multilabel:
            write_image(path, self.labels)
        else:
            write_palette_png(path, self.labels, palette(max(1, len(self.names))))

    def _save_npy(self, path: Path) -> None:
        """The labels alone, as an array in NumPy's format."""
        with whole(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, self.labels)
