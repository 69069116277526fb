"""Objects with masks as run-length encodings, and with keypoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from densevision.errors import UsageError
from densevision.ops.skeleton import Skeleton
from densevision.results.detections import MIN_VISIBLE_FRACTION, OBJECT_FIELDS, Detections, warp_boxes

__all__ = ["Instances"]

I = TypeVar("I", bound="Instances")  # noqa: E741

KEYPOINT_THRESHOLD = 2.0
"""Score above which a predicted keypoint is drawn."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Instances(Detections):
    """Objects of one image as boxes with masks, keypoints, or both; ground truth has scores of 1.

    Attributes:
        masks: N run-length encodings in COCO's format, {"size": [height, width], "counts": text}; None without masks.
        keypoints: (N, K, 3) float32 x, y in pixels and visibility (0 not labeled, 1 hidden, 2 visible); None without
            keypoints.
        keypoint_scores: (N, K) float32, predictions only: the peak of the heatmap, a logit; above 2 is reliable.
        skeleton: Names and edges of the keypoints.
    """

    masks: tuple[dict[str, Any], ...] | None = None
    keypoints: np.ndarray | None = None
    keypoint_scores: np.ndarray | None = None
    skeleton: Skeleton | None = None

    object_fields: ClassVar[tuple[str, ...]] = (*OBJECT_FIELDS, "masks", "keypoints", "keypoint_scores")

    def dense(self) -> np.ndarray:
        """Decodes all masks to (N, H, W) bool. This takes the memory of N images; see `iterate_masks`."""
        return np.stack(list(self.iterate_masks())) if len(self) else np.zeros((0, *self.size), bool)

    def iterate_masks(self) -> Iterator[np.ndarray]:
        """Decodes the masks one by one, (H, W) bool each.

        Raises:
            UsageError: There are no masks.
        """
        from densevision.ops.masks import decode

        return (decode(mask) for mask in self._require_masks())

    def to_polygons(self) -> list[list[np.ndarray]]:
        """Converts each mask to the outlines of its parts, (points, 2) float32 xy each; holes are lost.

        Raises:
            UsageError: There are no masks.
        """
        from densevision.ops.masks import extract_polygons

        return [extract_polygons(mask) for mask in self._require_masks()]

    def crop_objects(self, image: Any = None) -> list[np.ndarray]:
        """Crops each object from the image: (h, w, 4) uint8 RGBA of the mask's tight box, with the mask as alpha.

        Args:
            image: The image, in any form that `predict` takes; by default the source.

        Raises:
            UsageError: There is no image, or there are no masks.
        """
        from densevision.io.image import load_image, to_display
        from densevision.ops.masks import crop_to_box

        source = self.source if image is None else image
        if source is None:
            raise UsageError("crop_objects needs an image", field="image", hint="Pass the image of the prediction.")
        pixels = to_display(load_image(source))
        crops = []
        for mask in self._require_masks():
            inside, (x, y) = crop_to_box(mask)
            part = pixels[y : y + inside.shape[0], x : x + inside.shape[1]]
            crops.append(np.dstack([part, np.where(inside, np.uint8(255), np.uint8(0))]))
        return crops

    def warp(self: I, matrix: np.ndarray, size: tuple[int, int]) -> I:
        """Warps boxes, masks and keypoints; objects almost outside the canvas are dropped.

        Where the map rotates, or the canvas cuts an object, its box becomes the tight box of the remaining mask. A
        mirroring map swaps left and right keypoints.
        """
        warped = warp_boxes(self.boxes, matrix)
        boxes = warped.clip(0, (size[1], size[0]) * 2)
        area, visible_area = ((part[:, 2:] - part[:, :2]).prod(1) for part in (warped, boxes))
        rows = np.flatnonzero((visible_area > 0) & (visible_area >= MIN_VISIBLE_FRACTION * area))
        areas = self.areas * abs(np.linalg.det(matrix[:, :2])) * visible_area / np.maximum(area, 1e-12)
        result = replace(self, boxes=boxes.astype(np.float32), areas=areas, size=size, source=None)[rows]
        result = result._warp_keypoints(matrix)
        is_rotated = bool(matrix[0, 1] or matrix[1, 0])
        return result._warp_masks(matrix, is_rotated | (warped != boxes).any(1)[rows])

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Draws masks with class and score, or boxes if there are no masks, and skeletons over them.

        Small objects are drawn over large ones.
        """
        return super().overlay(image)

    def numpy(self) -> dict[str, np.ndarray]:
        """The arrays of the result by name; masks are the texts of their run lengths."""
        masks = {} if self.masks is None else {"masks": np.array([mask["counts"] for mask in self.masks], dtype=str)}
        return super().numpy() | masks

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Converts to COCO results: image_id, category_id, bbox, score, and segmentation and keypoints if present."""
        entries = super().to_coco(image_id)
        for row, entry in enumerate(entries):
            if self.masks is not None:
                entry["segmentation"] = self.masks[row]
            if self.keypoints is not None:
                entry["keypoints"] = self.keypoints[row].astype(np.float64).ravel().tolist()
        return entries

    def to_yolo(self) -> str:
        """Converts to YOLO lines: class, then x y of an outline in fractions of the image; one line per mask part."""
        if self.masks is None:
            return super().to_yolo()
        lines = []
        for label, outlines in zip(self.labels, self.to_polygons()):
            for outline in outlines:
                points = (outline / self.size[::-1]).ravel()
                lines.append(f"{label} " + " ".join(f"{value:.6f}" for value in points) + "\n")
        return "".join(lines)

    def to_supervision(self) -> Any:
        """Converts to `supervision.Detections`, with masks if present.

        Raises:
            UsageError: The package supervision is not installed.
        """
        detections = super().to_supervision()
        if self.masks is not None:
            detections.mask = self.dense()
        return detections

    def to_dict(self) -> dict[str, Any]:
        """Converts to plain data for JSON."""
        values = super().to_dict()
        if self.skeleton is not None:
            edges = [list(edge) for edge in self.skeleton.edges]
            values["skeleton"] = {"names": list(self.skeleton.names), "edges": edges}
        return values

    def _overlay_in_place(self, canvas: np.ndarray) -> np.ndarray:
        from densevision.draw.shapes import draw_keypoints, draw_masks
        from densevision.ops.masks import compute_areas

        if self.masks is None:
            canvas = super()._overlay_in_place(canvas)
        else:
            ordered = self[np.argsort(-compute_areas(self.masks), kind="stable")]
            masks, ids = ordered.iterate_masks(), ordered.track_ids
            canvas = draw_masks(canvas, masks, ordered.labels, ordered.names, ordered.scores, ids, in_place=True)
        if self.keypoints is None:
            return canvas
        scores = self.keypoint_scores
        visible = self.keypoints[..., 2] > 0 if scores is None else np.greater(scores, KEYPOINT_THRESHOLD)
        edges = self.skeleton.edges if self.skeleton else ()
        return draw_keypoints(canvas, self.keypoints[..., :2], visible, edges, self.track_ids, in_place=True)

    def _get_columns(self) -> dict[str, Any]:
        from densevision.ops.masks import compute_areas

        columns = super()._get_columns()
        if self.masks is not None:
            columns["mask_area"] = compute_areas(self.masks)
        if self.keypoints is not None:
            count = self.keypoints.shape[1]
            names = self.skeleton.names if self.skeleton else tuple(f"keypoint{index}" for index in range(count))
            for index, name in enumerate(names):
                for channel, quantity in enumerate(("x", "y", "visibility")):
                    columns[f"{name}_{quantity}"] = self.keypoints[:, index, channel]
        return columns

    def _summarize(self) -> str:
        parts = [name for name in ("masks", "keypoints") if getattr(self, name) is not None]
        return ", ".join([super()._summarize(), *parts])

    def _require_masks(self) -> tuple[dict[str, Any], ...]:
        if self.masks is None:
            raise UsageError("these objects have no masks", hint="Use weights with a mask head.")
        return self.masks

    def _warp_keypoints(self: I, matrix: np.ndarray) -> I:
        if self.keypoints is None:
            return self
        points = self.keypoints.copy()
        points[..., :2] = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
        is_inside = ((points[..., :2] >= 0) & (points[..., :2] <= self.size[::-1])).all(-1)
        points[~is_inside] = 0
        order = np.arange(points.shape[1])
        if np.linalg.det(matrix[:, :2]) < 0 and self.skeleton is not None:
            order = self.skeleton.get_flip_indices()
        scores = None if self.keypoint_scores is None else self.keypoint_scores[:, order]
        return replace(self, keypoints=points[:, order], keypoint_scores=scores)

    def _warp_masks(self: I, matrix: np.ndarray, is_loose: np.ndarray) -> I:
        """Warps the masks, tightens the boxes that are loose around them, and drops objects that lost all pixels."""
        from densevision.ops.masks import compute_areas, compute_boxes, warp

        if self.masks is None:
            return self
        masks = tuple(warp(mask, matrix, self.size) for mask in self.masks)
        areas, tight_boxes = compute_areas(masks), compute_boxes(masks)
        is_kept = (areas > 0) | (compute_areas(self.masks) == 0)
        boxes = np.where((is_loose & (areas > 0))[:, None], tight_boxes, self.boxes).astype(np.float32)
        return replace(self, masks=masks, boxes=boxes)[is_kept]
