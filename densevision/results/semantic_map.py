"""The class of every pixel of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from densevision.io.atomic_write import atomic_write
from densevision.io.masks import write_palette_png
from densevision.ops.view import warp_image
from densevision.optional_packages import import_optional
from densevision.results.base import Result

__all__ = ["UNKNOWN", "UNKNOWN_MULTILABEL", "SemanticMap"]

UNKNOWN = 255
"""Label of pixels whose class is unknown; losses and metrics ignore them."""
UNKNOWN_MULTILABEL = 65535
"""The same in maps where a pixel may have several classes."""
MAX_SUMMARY_CLASSES = 4
"""Number of classes that `repr` names."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SemanticMap(Result):
    """The class of each pixel of an image.

    Attributes:
        labels: (H, W) uint8 indices into `names`, 255 unknown. With `multilabel`: (H, W) uint16 sets of classes, bit i
            for class i, 65535 unknown.
        names: Class names: at most 255, with `multilabel` at most 15.
        probabilities: (C, H, W) float16 in [0, 1] of each class, if they were requested.
        multilabel: A pixel may have several classes, or none.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    probabilities: np.ndarray | None = None
    multilabel: bool = False

    save_methods: ClassVar[Mapping[str, str]] = {".labels.png": "_save_labels", ".npy": "_save_npy"}
    row_axes: ClassVar[Mapping[str, int]] = {"labels": 0, "probabilities": 1}

    @classmethod
    def unknown(cls, size: tuple[int, int], names: tuple[str, ...], multilabel: bool = False) -> SemanticMap:
        """A map whose pixels are all unknown."""
        dtype, value = (np.uint16, UNKNOWN_MULTILABEL) if multilabel else (np.uint8, UNKNOWN)
        return cls(labels=np.full(size, value, dtype), names=names, multilabel=multilabel, size=size)

    @property
    def known(self) -> np.ndarray:
        """(H, W) bool: pixels whose class is known."""
        return self.labels != (UNKNOWN_MULTILABEL if self.multilabel else UNKNOWN)

    def mask(self, index: int) -> np.ndarray:
        """(H, W) bool: pixels of the class `names[index]`."""
        return (self.labels >> index & 1).astype(bool) & self.known if self.multilabel else self.labels == index

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> SemanticMap:
        """The map on a canvas, by nearest neighbor; unknown outside the image. Probabilities are dropped."""
        fill = UNKNOWN_MULTILABEL if self.multilabel else UNKNOWN
        labels = warp_image(self.labels, matrix, size, cv2.INTER_NEAREST, fill)
        return replace(self, labels=labels, probabilities=None, size=size, source=None)

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Draws each class in its color, with a legend; of several classes of a pixel, the last in `names` is drawn."""
        from densevision.draw.canvas import copy_canvas

        return self._overlay_in_place(copy_canvas(image))

    def to_dict(self) -> dict[str, Any]:
        """Size, class names, and the run lengths of each class that occurs."""
        names = list(self.names)
        return {"size": list(self.size), "names": names, "multilabel": self.multilabel, "segments": self.to_coco()}

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """COCO stuff entries, one per class that occurs: image_id, category_id (index + 1), segmentation as RLE."""
        from pycocotools import mask as coco_mask

        entries = []
        for index in range(len(self.names)):
            mask = self.mask(index)
            if mask.any():
                runs = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
                segmentation = {"size": list(self.size), "counts": runs["counts"].decode("ascii")}
                entries.append({"image_id": image_id, "category_id": index + 1, "segmentation": segmentation})
        return entries

    def to_pandas(self) -> Any:
        """Converts to a `pandas.DataFrame` with one row per class: label, name, pixels, fraction of all pixels.

        Raises:
            UsageError: The package pandas is not installed.
        """
        pandas = import_optional("pandas", "to_pandas")
        pixels = self._count_pixels()
        columns = {"label": range(len(self.names)), "name": list(self.names), "pixels": pixels}
        return pandas.DataFrame({**columns, "fraction": pixels / max(1, self.labels.size)})

    def _overlay_in_place(self, canvas: np.ndarray) -> np.ndarray:
        from densevision.draw.fields import draw_semantic

        return draw_semantic(canvas, self.topmost(), self.names, UNKNOWN, in_place=True)

    def _count_pixels(self) -> np.ndarray:
        """(C,) int64 pixels of each class."""
        return np.array([np.count_nonzero(self.mask(index)) for index in range(len(self.names))], np.int64)

    def _summarize(self) -> str:
        pixels = self._count_pixels()
        largest = [index for index in np.argsort(-pixels, kind="stable") if pixels[index]]
        total = max(1, self.labels.size)
        parts = [f"{self.names[index]} {pixels[index] / total:.0%}" for index in largest[:MAX_SUMMARY_CLASSES]]
        return ", ".join(parts + ["..."] * (len(largest) > MAX_SUMMARY_CLASSES)) or "no known pixels"

    def topmost(self) -> np.ndarray:
        """(H, W) uint8 labels, the last of several; 255 where there is none."""
        if not self.multilabel:
            return self.labels
        labels = np.full(self.size, UNKNOWN, np.uint8)
        for index in range(len(self.names)):
            labels[self.mask(index)] = index
        return labels

    def _save_labels(self, path: Path) -> None:
        """Writes a PNG of class indices with a color palette; multilabel maps as 16-bit gray."""
        from densevision.draw.colors import build_palette
        from densevision.io.image import write_image

        if self.multilabel:
            write_image(path, self.labels)
        else:
            write_palette_png(path, self.labels, build_palette(max(1, len(self.names))))

    def _save_npy(self, path: Path) -> None:
        """Writes the labels in NumPy's format."""
        with atomic_write(path) as temporary, open(temporary, "wb") as stream:
            np.save(stream, self.labels)
