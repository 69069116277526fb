"""Answers and truths of images as the columns that COCO's tools take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from densevision.errors import DataError

if TYPE_CHECKING:
    from hotcoco import COCO


class Objects(Protocol):
    """Objects of one image, as `Detections` holds them.

    Attributes:
        size: Size of the image, (height, width).
        boxes: (N, 4) xyxy in pixels.
        scores: (N,) confidences; not read of a truth.
        labels: (N,) indices into the class names.
        areas: (N,) areas in pixels, by which small, medium and large are told apart; read of a truth only.
        crowd: (N,) bool; read of a truth only.

    For the IoU of masks also `masks`, N run-length encodings as COCO writes them ({"size", "counts"}); for keypoints
    `keypoints`, (N, K, 3) x, y and visibility.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray


class ImageArrays(NamedTuple):
    """One image's arrays, copied so that no batch stays in memory for their sake."""

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    true_boxes: np.ndarray
    true_labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    masks: Sequence[dict[str, Any]] | None
    true_masks: Sequence[dict[str, Any]] | None
    keypoints: np.ndarray | None
    true_keypoints: np.ndarray | None

    @classmethod
    def of(cls, answer: Objects, truth: Objects, iou_type: str) -> ImageArrays:
        """Copies what this IoU needs: "bbox", "segm", "boundary" or "keypoints"."""
        masks, points = iou_type in ("segm", "boundary"), iou_type == "keypoints"
        return cls(
            size=tuple(truth.size),
            boxes=np.array(answer.boxes).reshape(-1, 4),
            scores=np.array(answer.scores),
            labels=np.array(answer.labels, np.int32),
            true_boxes=np.array(truth.boxes).reshape(-1, 4),
            true_labels=np.array(truth.labels, np.int32),
            areas=np.array(truth.areas, np.float64),
            crowd=np.array(truth.crowd, bool),
            masks=list(answer.masks) if masks else None,
            true_masks=list(truth.masks) if masks else None,
            keypoints=np.array(answer.keypoints, np.float64) if points else None,
            true_keypoints=np.array(truth.keypoints, np.float64) if points else None,
        )

    def checked(self, classes: int, id: int | str) -> ImageArrays:
        """The same.

        Args:
            classes: How many there are.
            id: What the image is called in messages.

        Raises:
            DataError: A box or a score is not finite, or a label is none of the classes.
        """
        for name, boxes, labels in (
            ("answer", self.boxes, self.labels),
            ("truth", self.true_boxes, self.true_labels),
        ):
            if not np.isfinite(boxes).all():
                raise DataError("a box is not finite", field=f"boxes of the {name} of {id}", value=boxes.tolist())
            if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
                hint = f"There are {classes} classes; labels count from 0."
                raise DataError(
                    "a label has no class", field=f"labels of the {name} of {id}", value=labels.tolist(), hint=hint
                )
        if not np.isfinite(self.scores).all():
            raise DataError("a score is not finite", field=f"scores of the answer of {id}", value=self.scores.tolist())
        return self


class Columns:
    """All images as COCO's columns; image n has the id n + 1, class k the id k + 1."""

    def __init__(self, images: Sequence[ImageArrays]):
        self.images = images

    def truth(self, names: Sequence[str]) -> COCO:
        """The objects that are there, of classes with these names."""
        from hotcoco import COCO

        sizes = enumerate((image.size for image in self.images), 1)
        objects = COCO.from_arrays(
            [{"id": number, "height": height, "width": width} for number, (height, width) in sizes],
            [{"id": number, "name": name} for number, name in enumerate(names, 1)],
            self._numbers("true_labels"),
            self._column("true_labels", np.int64) + 1,
            _xywh(self._column("true_boxes", np.float64).reshape(-1, 4)),
            area=self._column("areas", np.float64),
            iscrowd=self._column("crowd", bool),
            segmentation=self._masks("true_masks"),
        )
        if self._points("true_keypoints"):
            objects.update_anns(self._points("true_keypoints"))
        return objects

    def predictions(self, truth: COCO) -> COCO:
        """What was predicted, loaded against `truth()`."""
        boxes = _xywh(self._column("boxes", np.float64).reshape(-1, 4))
        others = (self._column("scores", np.float64), self._column("labels", np.float64) + 1)
        rows = np.column_stack([self._numbers("labels"), boxes, *others])
        masks = self._masks("masks")
        found = truth.load_res(rows, segmentation=masks)
        if masks:
            from hotcoco.mask import area

            # An array's rows get the areas of their boxes, where COCO's size ranges want those of the masks.
            found.update_anns(ids=np.arange(1, len(masks) + 1), area=area(masks))
        if points := self._points("keypoints"):
            found.update_anns([{**entry, "area": _extent(entry["keypoints"])} for entry in points])
        return found

    def _numbers(self, column: str) -> np.ndarray:
        counts = [len(getattr(image, column)) for image in self.images]
        return np.repeat(np.arange(1, len(counts) + 1), counts)

    def _column(self, name: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype), *(getattr(image, name).ravel() for image in self.images)]).astype(
            dtype
        )

    def _masks(self, name: str) -> list[dict[str, Any]] | None:
        masks: Iterable[Any] = [getattr(image, name) for image in self.images]
        return None if any(part is None for part in masks) else [mask for part in masks for mask in part]

    def _points(self, name: str) -> list[dict[str, Any]]:
        """The keypoints of all objects, as changes of annotations."""
        parts = [getattr(image, name) for image in self.images]
        rows = [points for part in parts if part is not None for points in part]
        return [
            {"id": number, "keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
            for number, points in enumerate(rows, 1)
        ]


def _extent(points: list[float]) -> float:
    """Area of the box around predicted keypoints, by which COCO sorts them."""
    x, y = points[::3], points[1::3]
    return (max(x) - min(x)) * (max(y) - min(y))


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
