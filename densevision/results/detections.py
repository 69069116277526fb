"""Boxes with scores and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from densevision.io.atomic_write import write_text
from densevision.results.base import Result

ROWS = ("boxes", "scores", "labels", "crowd", "areas")
"""The fields with one row per object."""

SURE = 0.25
"""Score from which an object is drawn beside the truth; evaluation also counts the guesses below."""

VISIBLE = 0.1
"""A warped box is kept when at least this part of it stays on the canvas."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections(Result):
    """Objects of one image as boxes; truth has scores of 1.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels of the original image.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64 indices into `names`.
        names: Class names.
        ids: Category ids of the dataset, one per name; 1, 2, ... when not given.
        crowd: (N,) bool, truth only: regions that hold many objects and count neither as hit nor as miss.
        areas: (N,) float64, truth only: area in pixels by which COCO sorts small, medium and large.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    ids: tuple[int, ...] | None = None
    crowd: np.ndarray = field(default=None)  # type: ignore[assignment]
    areas: np.ndarray = field(default=None)  # type: ignore[assignment]

    layout: ClassVar[Mapping[str, str]] = {".txt": "_save_yolo"}

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.crowd is None:
            object.__setattr__(self, "crowd", np.zeros(count, bool))
        if self.areas is None:
            sides = (self.boxes[:, 2:] - self.boxes[:, :2]).astype(np.float64)
            object.__setattr__(self, "areas", sides[:, 0] * sides[:, 1])

    @classmethod
    def of(cls, boxes: Any, labels: Any, names: Sequence[str], size: tuple[int, int], **more: Any) -> Detections:
        """Builds a record from any array-likes; scores of 1 when not given."""
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        scores = np.asarray(more.pop("scores", np.ones(len(boxes))), np.float32)
        return cls(
            boxes=boxes, scores=scores, labels=np.asarray(labels, np.int64), names=tuple(names), size=size, **more
        )

    @classmethod
    def joined(cls, parts: Sequence[Detections]) -> Detections:
        """All objects of several records about one image, such as the parts of a mosaic.

        Args:
            parts: At least one; of the same size and the same classes.
        """
        rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ROWS}
        return replace(parts[0], **rows)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: Any) -> Detections:
        """The objects that a mask, slice or index array picks."""
        keep = np.atleast_1d(keep) if isinstance(keep, (int, np.integer)) else keep
        return replace(self, **{name: getattr(self, name)[keep] for name in ROWS})

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> Detections:
        """Boxes around the warped boxes, clipped to the canvas; those nearly out of it are left out."""
        if not len(self):
            return replace(self, size=size, source=None)
        whole = enclosing(self.boxes, matrix)
        clipped = whole.clip(0, (size[1], size[0]) * 2)
        before, after = _area(whole), _area(clipped)
        keep = (after > 0) & (after >= VISIBLE * before)
        areas = self.areas * abs(np.linalg.det(matrix[:, :2])) * after / np.maximum(before, 1e-12)
        moved = replace(self, boxes=clipped.astype(np.float32), areas=areas, size=size, source=None)
        return moved[keep]

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Outlined boxes with class and score."""
        from densevision.draw.shapes import draw_boxes

        return draw_boxes(image, self.boxes, self.labels, self.names, self.scores)

    def beside(self, truth: Result, image: np.ndarray) -> np.ndarray:
        """The objects whose score is `SURE` at least."""
        return self[self.scores >= SURE].overlay(image)

    def category_ids(self) -> np.ndarray:
        """(N,) int64 category ids of the dataset."""
        ids = np.asarray(self.ids if self.ids is not None else np.arange(1, len(self.names) + 1), np.int64)
        return ids[self.labels]

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """COCO result entries: image_id, category_id, bbox (x, y, width, height), score."""
        xywh = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], 1).astype(np.float64)
        rows = zip(self.category_ids().tolist(), xywh.tolist(), self.scores.astype(np.float64).tolist())
        return [{"image_id": image_id, "category_id": c, "bbox": b, "score": s} for c, b, s in rows]

    def to_yolo(self) -> str:
        """YOLO lines: class, center x, center y, width, height (parts of the image), score."""
        height, width = self.size
        x1, y1, x2, y2 = self.boxes.astype(np.float64).T
        parts = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height, self.scores)
        rows = zip(self.labels, *parts)
        return "".join(f"{label} " + " ".join(f"{value:.6f}" for value in row) + "\n" for label, *row in rows)

    def to_supervision(self) -> Any:
        """The record as `supervision.Detections`; needs the package supervision."""
        import supervision

        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels.astype(int),
            data={"class_name": np.asarray([self.names[label] for label in self.labels], dtype=str)},
        )

    def _save_yolo(self, path: Path) -> None:
        write_text(path, self.to_yolo())


def enclosing(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The boxes (N, 4) float64 around boxes (N, 4) that an affine map (2, 3) has moved."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    corners = np.stack([np.stack([x1, x2, x2, x1], 1), np.stack([y1, y1, y2, y2], 1)], 2)
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([corners.min(1), corners.max(1)], 1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
