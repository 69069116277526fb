"""Objects with their masks, kept as run lengths, and with their keypoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from densevision.errors import UsageError
from densevision.ops.skeleton import Skeleton
from densevision.results.detections import ROWS, VISIBLE, Detections, enclosing

SURE = 2.0
"""Score of a joint from which it is drawn."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Instances(Detections):
    """Objects of one image as boxes with masks, or keypoints, or both; truth has scores of 1.

    Attributes:
        masks: N run-length encodings as COCO writes them, {"size": [height, width], "counts": text}; None where the
            task has no masks.
        keypoints: (N, K, 3) float32 x, y in pixels and visibility: 0 not labeled, 1 hidden, 2 seen; None where the
            task has no keypoints.
        joint_scores: (N, K) float32, answers only: height of the heatmap's peak, a logit; above 2 is sure.
        skeleton: What the keypoints are.
    """

    masks: tuple[dict[str, Any], ...] | None = None
    keypoints: np.ndarray | None = None
    joint_scores: np.ndarray | None = None
    skeleton: Skeleton | None = None

    layout: ClassVar[Mapping[str, str]] = {".txt": "_save_yolo"}

    @classmethod
    def joined(cls, parts: Sequence[Instances]) -> Instances:
        """All objects of several records about one image.

        Args:
            parts: At least one; of the same size, classes and kind.
        """
        rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _arrays(parts[0])}
        masks = None if parts[0].masks is None else tuple(mask for part in parts for mask in part.masks)
        return replace(parts[0], masks=masks, **rows)

    def __getitem__(self, keep: Any) -> Instances:
        """The objects that a mask, slice or index array picks."""
        chosen = np.atleast_1d(np.arange(len(self))[keep])
        rows = {name: getattr(self, name)[chosen] for name in _arrays(self)}
        masks = None if self.masks is None else tuple(self.masks[row] for row in chosen)
        return replace(self, masks=masks, **rows)

    def dense(self) -> np.ndarray:
        """The masks as (N, H, W) bool. An image's size for each object: for many, take `each_mask` one by one."""
        return np.stack(list(self.each_mask())) if len(self) else np.zeros((0, *self.size), bool)

    def each_mask(self) -> Iterator[np.ndarray]:
        """The masks one after the other, (H, W) bool each.

        Raises:
            UsageError: There are none.
        """
        from densevision.ops.masks import decode

        if self.masks is None:
            raise UsageError("these objects have no masks", hint="Use weights with a mask head.")
        return (decode(mask) for mask in self.masks)

    def polygons(self) -> list[list[np.ndarray]]:
        """For each object the outlines of its parts, (points, 2) float32 xy each; holes are lost."""
        from densevision.ops.masks import polygons

        return [polygons(mask) for mask in self.masks or ()]

    def crops(self, image: Any = None) -> list[np.ndarray]:
        """Each object cut out: (h, w, 4) uint8 RGB with the mask as its opacity, the size of the mask's tight box.

        Args:
            image: The image, anything that `predict` takes; the source when not given.

        Raises:
            UsageError: There is no image, or there are no masks.
        """
        from densevision.io.image import as_image, to_display
        from densevision.ops.masks import window

        source = self.source if image is None else image
        if source is None or self.masks is None:
            raise UsageError("crops need an image and masks", field="image", hint="Give the image.")
        pixels_of_image = to_display(as_image(source))
        cut = []
        for mask in self.masks:
            pixels, (x, y) = window(mask)
            part = pixels_of_image[y : y + pixels.shape[0], x : x + pixels.shape[1]]
            cut.append(np.dstack([part, np.where(pixels, np.uint8(255), np.uint8(0))]))
        return cut

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> Instances:
        """Boxes, masks and keypoints through the map; objects nearly out of the canvas are left out.

        Where the map turns, or the canvas cuts an object, its box is that of what is left of its mask. In a mirror the
        left keypoints are the right ones.
        """
        whole = enclosing(self.boxes, matrix)
        boxes = whole.clip(0, (size[1], size[0]) * 2)
        before, after = ((part[:, 2:] - part[:, :2]).prod(1) for part in (whole, boxes))
        keep = np.flatnonzero((after > 0) & (after >= VISIBLE * before))
        areas = self.areas * abs(np.linalg.det(matrix[:, :2])) * after / np.maximum(before, 1e-12)
        moved = replace(self, boxes=boxes.astype(np.float32), areas=areas, size=size, source=None)[keep]
        turned = bool(matrix[0, 1] or matrix[1, 0])
        moved = moved._with_points(matrix) if self.keypoints is not None else moved
        return moved._with_masks(matrix, turned | (whole != boxes).any(1)[keep]) if self.masks is not None else moved

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """Tinted and outlined masks with class and score, or boxes where there are none; skeletons over them.

        Small objects are drawn over large ones.
        """
        from densevision.draw.shapes import draw_boxes, draw_keypoints, draw_masks
        from densevision.ops.masks import areas

        if self.masks is None:
            image = draw_boxes(image, self.boxes, self.labels, self.names, self.scores)
        else:
            shown = self[np.argsort(-areas(self.masks), kind="stable")]
            image = draw_masks(image, shown.each_mask(), shown.labels, shown.names, shown.scores)
        if self.keypoints is None:
            return image
        visible = self.keypoints[..., 2] > 0 if self.joint_scores is None else self.joint_scores > SURE
        return draw_keypoints(
            image, self.keypoints[..., :2], visible, self.skeleton.skeleton_edges if self.skeleton else ()
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The record's arrays by name; the run lengths are texts."""
        masks = {} if self.masks is None else {"masks": np.array([mask["counts"] for mask in self.masks], dtype=str)}
        return super().arrays() | masks

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """COCO result entries: image_id, category_id, bbox, score, and segmentation and keypoints where there are."""
        entries = super().to_coco(image_id)
        for row, entry in enumerate(entries):
            if self.masks is not None:
                entry["segmentation"] = self.masks[row]
            if self.keypoints is not None:
                entry["keypoints"] = self.keypoints[row].astype(np.float64).ravel().tolist()
        return entries

    def to_yolo(self) -> str:
        """YOLO lines: class, then x y of the outline's points as parts of the image; one line for each part."""
        if self.masks is None:
            return super().to_yolo()
        lines = []
        for label, outlines in zip(self.labels, self.polygons()):
            for outline in outlines:
                points = (outline / self.size[::-1]).ravel()
                lines.append(f"{label} " + " ".join(f"{value:.6f}" for value in points) + "\n")
        return "".join(lines)

    def to_supervision(self) -> Any:
        """The record as `supervision.Detections`; needs the package supervision."""
        found = super().to_supervision()
        if self.masks is not None:
            found.mask = self.dense()
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        values = super().to_dict()
        if self.skeleton is not None:
            skeleton_edges = [list(limb) for limb in self.skeleton.skeleton_edges]
            values["skeleton"] = {"names": list(self.skeleton.names), "skeleton_edges": skeleton_edges}
        return values

    def _with_points(self, matrix: np.ndarray) -> Instances:
        points = self.keypoints.copy()
        points[..., :2] = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
        inside = ((points[..., :2] >= 0) & (points[..., :2] <= self.size[::-1])).all(-1)
        points[~inside] = 0
        order = np.arange(points.shape[1])
        if np.linalg.det(matrix[:, :2]) < 0 and self.skeleton is not None:
            order = self.skeleton.mirrored()
        scores = None if self.joint_scores is None else self.joint_scores[:, order]
        return replace(self, keypoints=points[:, order], joint_scores=scores)

    def _with_masks(self, matrix: np.ndarray, loose: np.ndarray) -> Instances:
        """Moves the masks; boxes that are loose around them become tight. What has lost all its pixels is left out."""
        from densevision.ops.masks import areas, boxes, warp

        masks = tuple(warp(mask, matrix, self.size) for mask in self.masks)
        pixels, tight = areas(masks), boxes(masks)
        seen = (pixels > 0) | (areas(self.masks) == 0)
        fitted = np.where((loose & (pixels > 0))[:, None], tight, self.boxes).astype(np.float32)
        return replace(self, masks=masks, boxes=fitted)[seen]


def _arrays(record: Instances) -> tuple[str, ...]:
    """The fields with one row per object that this record has."""
    return tuple(name for name in (*ROWS, "keypoints", "joint_scores") if getattr(record, name) is not None)
