"""Predictions and ground truths as the columns that COCO's tools take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from densevision.errors import DataError

if TYPE_CHECKING:
    from hotcoco import COCO

__all__ = ["CocoColumns", "ImageArrays", "ObjectArrays"]


class ObjectArrays(Protocol):
    """Objects of one image, as in `Detections`.

    Attributes:
        size: (height, width) of the image.
        boxes: (N, 4) xyxy in pixels.
        scores: (N,) confidences; not used for ground truth.
        labels: (N,) indices into the class names.
        areas: (N,) areas in pixels, which define small, medium and large; used for ground truth only.
        crowd: (N,) bool; used for ground truth only.

    The IoU of masks also needs `masks`, N run-length encodings as in COCO ({"size", "counts"}); OKS needs `keypoints`,
    (N, K, 3) x, y and visibility.
    """

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def boxes(self) -> np.ndarray: ...

    @property
    def scores(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def areas(self) -> np.ndarray: ...

    @property
    def crowd(self) -> np.ndarray: ...


class ImageArrays(NamedTuple):
    """The arrays of one image; copies, so that no batch is held in memory."""

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
    def from_records(cls, prediction: Any, truth: Any, iou_type: str) -> ImageArrays:
        """Copies what an IoU type needs.

        Args:
            prediction: `ObjectArrays`.
            truth: `ObjectArrays`.
            iou_type: "bbox", "segm", "boundary" or "keypoints".
        """
        has_masks, has_keypoints = iou_type in ("segm", "boundary"), iou_type == "keypoints"
        return cls(
            size=tuple(truth.size),
            boxes=np.array(prediction.boxes).reshape(-1, 4),
            scores=np.array(prediction.scores),
            labels=np.array(prediction.labels, np.int32),
            true_boxes=np.array(truth.boxes).reshape(-1, 4),
            true_labels=np.array(truth.labels, np.int32),
            areas=np.array(truth.areas, np.float64),
            crowd=np.array(truth.crowd, bool),
            masks=list(prediction.masks) if has_masks else None,
            true_masks=list(truth.masks) if has_masks else None,
            keypoints=np.array(prediction.keypoints, np.float64) if has_keypoints else None,
            true_keypoints=np.array(truth.keypoints, np.float64) if has_keypoints else None,
        )

    def validate(self, classes: int, image_id: int | str) -> None:
        """Checks boxes, scores and labels.

        Args:
            classes: Number of classes.
            image_id: For messages.

        Raises:
            DataError: A box or a score is not finite, or a label is out of range.
        """
        for side, boxes, labels in (
            ("prediction", self.boxes, self.labels),
            ("ground truth", self.true_boxes, self.true_labels),
        ):
            if not np.isfinite(boxes).all():
                raise DataError("a box is not finite", field=f"boxes of the {side} of {image_id}", value=boxes.tolist())
            if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
                field, hint = f"labels of the {side} of {image_id}", f"Labels are 0 to {classes - 1}."
                raise DataError("a label is out of range", field=field, value=labels.tolist(), hint=hint)
        if not np.isfinite(self.scores).all():
            field = f"scores of the prediction of {image_id}"
            raise DataError("a score is not finite", field=field, value=self.scores.tolist())


class CocoColumns:
    """All images as columns for hotcoco; image n has the id n + 1, class k the id k + 1."""

    def __init__(self, images: Sequence[ImageArrays]):
        self.images = images

    def truth(self, names: Sequence[str]) -> COCO:
        """The ground truth, with these class names."""
        from hotcoco import COCO

        sizes = enumerate((image.size for image in self.images), 1)
        objects = COCO.from_arrays(
            [{"id": image_id, "height": height, "width": width} for image_id, (height, width) in sizes],
            [{"id": category_id, "name": name} for category_id, name in enumerate(names, 1)],
            self._image_ids("true_labels"),
            self._column("true_labels", np.int64) + 1,
            _to_xywh(self._column("true_boxes", np.float64).reshape(-1, 4)),
            area=self._column("areas", np.float64),
            iscrowd=self._column("crowd", bool),
            segmentation=self._masks("true_masks"),
        )
        if entries := self._keypoint_entries("true_keypoints"):
            objects.update_anns(entries)
        return objects

    def predictions(self, truth: COCO) -> COCO:
        """The predictions, loaded against `truth()`."""
        boxes = _to_xywh(self._column("boxes", np.float64).reshape(-1, 4))
        scores, category_ids = self._column("scores", np.float64), self._column("labels", np.float64) + 1
        masks = self._masks("masks")
        rows = np.column_stack([self._image_ids("labels"), boxes, scores, category_ids])
        results = truth.load_res(rows, segmentation=masks)
        if masks:
            from hotcoco.mask import area

            # Results from arrays get the areas of their boxes, but COCO's size ranges are those of the masks.
            results.update_anns(ids=np.arange(1, len(masks) + 1), area=area(masks))
        if entries := self._keypoint_entries("keypoints"):
            results.update_anns([{**entry, "area": _compute_extent(entry["keypoints"])} for entry in entries])
        return results

    def _image_ids(self, column: str) -> np.ndarray:
        counts = [len(getattr(image, column)) for image in self.images]
        return np.repeat(np.arange(1, len(counts) + 1), counts)

    def _column(self, name: str, dtype: type) -> np.ndarray:
        parts = [np.zeros(0, dtype), *(getattr(image, name).ravel() for image in self.images)]
        return np.concatenate(parts).astype(dtype)

    def _masks(self, name: str) -> list[Any] | None:
        parts = [getattr(image, name) for image in self.images]
        return None if any(part is None for part in parts) else [mask for part in parts for mask in part]

    def _keypoint_entries(self, name: str) -> list[dict[str, Any]]:
        """The keypoints of all objects, as updates of annotations."""
        parts = [getattr(image, name) for image in self.images]
        rows = [points for part in parts if part is not None for points in part]
        return [
            {"id": entry_id, "keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
            for entry_id, points in enumerate(rows, 1)
        ]


def _compute_extent(points: list[float]) -> float:
    """Area of the box around predicted keypoints, by which COCO sorts them into size ranges."""
    x, y = points[::3], points[1::3]
    return (max(x) - min(x)) * (max(y) - min(y))


def _to_xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
