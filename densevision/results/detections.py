"""Boxes with scores and classes."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from densevision.io.atomic_write import atomic_write, write_text
from densevision.optional_packages import import_optional
from densevision.results.base import Result

__all__ = ["COMPARISON_THRESHOLD", "MIN_VISIBLE_FRACTION", "OBJECT_FIELDS", "Detections", "warp_boxes"]

D = TypeVar("D", bound="Detections")

OBJECT_FIELDS = ("boxes", "scores", "labels", "crowd", "areas", "track_ids")
"""Fields with one entry per object."""

COMPARISON_THRESHOLD = 0.25
"""Score from which an object is drawn next to ground truth; metrics also count objects below it."""

MIN_VISIBLE_FRACTION = 0.1
"""A warped box is kept if at least this fraction of its area is on the canvas."""

MAX_SUMMARY_CLASSES = 4
"""Number of classes that `repr` names."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Detections(Result):
    """Objects of one image as boxes; ground truth has scores of 1.

    Attributes:
        boxes: (N, 4) float32 xyxy in pixels of the original image.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64 indices into `names`.
        names: Class names.
        category_ids: Category ids of the dataset, one per name; by default 1, 2, ...
        crowd: (N,) bool, ground truth only: regions of many objects that count neither as hits nor as misses.
        areas: (N,) float64, ground truth only: area in pixels by which COCO classifies small, medium and large.
        track_ids: (N,) int64 identities across the frames of a sequence, -1 for objects without one; None where nothing
            was tracked.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    category_ids: tuple[int, ...] | None = None
    crowd: np.ndarray = None  # type: ignore[assignment]
    areas: np.ndarray = None  # type: ignore[assignment]
    track_ids: np.ndarray | None = None

    save_methods: ClassVar[Mapping[str, str]] = {".txt": "_save_yolo", ".csv": "_save_csv"}
    object_fields: ClassVar[tuple[str, ...]] = OBJECT_FIELDS

    def __post_init__(self) -> None:
        if self.crowd is None:
            object.__setattr__(self, "crowd", np.zeros(len(self.boxes), bool))
        if self.areas is None:
            object.__setattr__(self, "areas", _compute_box_areas(self.boxes.astype(np.float64)))

    @classmethod
    def from_arrays(
        cls: type[D], boxes: Any, labels: Any, names: Sequence[str], size: tuple[int, int], **fields: Any
    ) -> D:
        """Builds a record from any array-likes; scores are 1 by default."""
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        scores = np.asarray(fields.pop("scores", np.ones(len(boxes))), np.float32)
        labels = np.asarray(labels, np.int64)
        return cls(boxes=boxes, scores=scores, labels=labels, names=tuple(names), size=size, **fields)

    @classmethod
    def concatenate(cls: type[D], parts: Sequence[D]) -> D:
        """Joins the objects of several records of one image, such as the parts of a mosaic.

        Args:
            parts: At least one record; all with the same size, classes and fields.
        """
        fields: dict[str, Any] = {}
        for name, value in parts[0]._get_object_fields().items():
            values = [getattr(part, name) for part in parts]
            is_tuple = isinstance(value, tuple)
            fields[name] = tuple(item for part in values for item in part) if is_tuple else np.concatenate(values)
        return replace(parts[0], **fields)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self: D, key: Any) -> D:
        """Selects objects by a mask, slice, index or index array."""
        rows = np.atleast_1d(np.arange(len(self))[key])
        fields: dict[str, Any] = {
            name: tuple(value[row] for row in rows) if isinstance(value, tuple) else value[rows]
            for name, value in self._get_object_fields().items()
        }
        return replace(self, **fields)

    def warp(self: D, matrix: np.ndarray, size: tuple[int, int]) -> D:
        """Computes boxes around the warped ones, clipped to the canvas; those almost outside are dropped."""
        warped = warp_boxes(self.boxes, matrix)
        clipped = warped.clip(0, (size[1], size[0]) * 2)
        area, visible_area = _compute_box_areas(warped), _compute_box_areas(clipped)
        is_kept = (visible_area > 0) & (visible_area >= MIN_VISIBLE_FRACTION * area)
        areas = self.areas * abs(np.linalg.det(matrix[:, :2])) * visible_area / np.maximum(area, 1e-12)
        return replace(self, boxes=clipped.astype(np.float32), areas=areas, size=size, source=None)[is_kept]

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Draws boxes with class and score; tracked objects with their identity, in its color."""
        from densevision.draw.canvas import copy_canvas

        return self._overlay_in_place(copy_canvas(image))

    def overlay_for_comparison(self, ground_truth: Result, image: np.ndarray) -> np.ndarray:
        """Draws the objects with a score of at least `COMPARISON_THRESHOLD`."""
        return self[self.scores >= COMPARISON_THRESHOLD].overlay(image)

    def get_category_ids(self) -> np.ndarray:
        """(N,) int64 category ids of the dataset, one per object."""
        ids = self.category_ids if self.category_ids is not None else range(1, len(self.names) + 1)
        return np.asarray(ids, np.int64)[self.labels]

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Converts to COCO results: image_id, category_id, bbox (x, y, width, height), score."""
        xywh = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], 1).astype(np.float64)
        rows = zip(self.get_category_ids().tolist(), xywh.tolist(), self.scores.astype(np.float64).tolist())
        return [{"image_id": image_id, "category_id": c, "bbox": b, "score": s} for c, b, s in rows]

    def to_yolo(self) -> str:
        """Converts to YOLO lines: class, center x, center y, width, height (fractions of the image), score."""
        height, width = self.size
        x1, y1, x2, y2 = self.boxes.astype(np.float64).T
        columns = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height, self.scores)
        rows = zip(self.labels, *columns)
        return "".join(f"{label} " + " ".join(f"{value:.6f}" for value in row) + "\n" for label, *row in rows)

    def to_supervision(self) -> Any:
        """Converts to `supervision.Detections`.

        Raises:
            UsageError: The package supervision is not installed.
        """
        supervision = import_optional("supervision", "to_supervision")
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels.astype(int),
            tracker_id=None if self.track_ids is None else self.track_ids.astype(int),
            data={"class_name": np.asarray([self.names[label] for label in self.labels], dtype=str)},
        )

    def to_pandas(self) -> Any:
        """Converts to a `pandas.DataFrame` with one row per object: x1, y1, x2, y2, score, label, name, and
        track_id where objects were tracked.

        Raises:
            UsageError: The package pandas is not installed.
        """
        pandas = import_optional("pandas", "to_pandas")
        return pandas.DataFrame(self._get_columns())

    def _overlay_in_place(self, canvas: np.ndarray) -> np.ndarray:
        from densevision.draw.shapes import draw_boxes

        return draw_boxes(canvas, self.boxes, self.labels, self.names, self.scores, self.track_ids, in_place=True)

    def _get_columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T))
        names = [self.names[label] for label in self.labels]
        columns |= {"score": self.scores, "label": self.labels, "name": np.asarray(names, dtype=object)}
        return columns if self.track_ids is None else {**columns, "track_id": self.track_ids}

    def _get_object_fields(self) -> dict[str, Any]:
        """The fields with one entry per object that this record has."""
        values = {name: getattr(self, name) for name in self.object_fields}
        return {name: value for name, value in values.items() if value is not None}

    def _summarize(self) -> str:
        counts = Counter(self.names[label] for label in self.labels).most_common()
        classes = [f"{count} {name}" for name, count in counts[:MAX_SUMMARY_CLASSES]]
        classes += ["..."] if len(counts) > MAX_SUMMARY_CLASSES else []
        objects = "1 object" if len(self) == 1 else f"{len(self)} objects"
        return f"{objects}: {', '.join(classes)}" if classes else objects

    def _save_yolo(self, path: Path) -> None:
        write_text(path, self.to_yolo())

    def _save_csv(self, path: Path) -> None:
        """Writes the columns of `to_pandas`, one row per object."""
        columns = self._get_columns()
        rows = zip(*(column.tolist() for column in columns.values()))
        with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([tuple(columns), *rows])


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Computes the boxes (N, 4) float64 around boxes (N, 4) xyxy that are warped by an affine map (2, 3)."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    corners = np.stack([np.stack([x1, x2, x2, x1], 1), np.stack([y1, y1, y2, y2], 1)], 2)
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([corners.min(1), corners.max(1)], 1)


def _compute_box_areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
