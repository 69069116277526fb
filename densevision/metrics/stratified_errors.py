"""Per-pixel errors by distance, speed, texture, occlusion, class, and distance to a boundary.

Every pixel of the ground truth falls into one stratum of each stratification; a stratum reports its mean error, its
share of the pixels and its share of the total error. Errors are those of `error_maps`.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import cv2
import numpy as np

from densevision.metrics.confusion import UNKNOWN, Confusion, compute_overlap_metrics
from densevision.metrics.error_maps import compute_error_map
from densevision.metrics.metric import Tables
from densevision.results import DepthMap, FlowField, Image, Result, SemanticMap

__all__ = ["Stratification", "StratifiedErrors", "compute_texture", "stratify"]

BOUNDARY_LIMITS = (1, 2, 4, 8, 16)
"""Limits between the strata of distance to a boundary, in pixels."""
TEXTURE_LEVELS = {"flat": 0.0, "weak": 4.0, "medium": 12.0, "strong": 32.0}
"""Strata by the strength of the brightness gradient, and their lower limits in levels of 255 per pixel."""
SPEED_LIMITS = (1, 3, 10, 40)
DISTANCE_LIMITS = (1, 2, 5, 10, 20, 40, 80)
DEPTH_EDGE = 0.1
"""Minimum relative difference of neighbors at an edge of depth."""
MOTION_EDGE = 1.0
"""Minimum difference of neighbors at an edge of motion, in pixels."""
MAX_CONFUSIONS = 20
"""Rows in the table of confusions."""


class Stratification(NamedTuple):
    """The pixels of an image in strata.

    Attributes:
        title: Title of the table.
        names: Names of the strata.
        stratum: (H, W) index of each pixel's stratum, -1 for none.
    """

    title: str
    names: tuple[str, ...]
    stratum: np.ndarray


class StratifiedErrors:
    """Errors of dense results by stratum; an `evaluation.error_analysis.ErrorAccumulator`.

    Attributes:
        sums: Title -> stratum -> [pixels, error].
        caption: What the errors are.
    """

    def __init__(self) -> None:
        self.sums: dict[str, dict[str, np.ndarray]] = {}
        self.caption = "error"
        self.confusion: Confusion | None = None
        self.names: tuple[str, ...] = ()

    def update(self, prediction: Result, truth: Result, image: np.ndarray | None, image_id: str) -> None:
        """Adds one image; without the image itself there are no strata of texture."""
        errors = compute_error_map(prediction, truth)
        if errors is None:
            return
        self.caption = errors.caption.partition(",")[0]
        for stratification in stratify(truth, image):
            names = stratification.names
            rows = self.sums.setdefault(stratification.title, {name: np.zeros(2) for name in names})
            counted = errors.known & (stratification.stratum >= 0)
            index = stratification.stratum[counted]
            for column, weights in enumerate((None, errors.values[counted])):
                for name, value in zip(names, np.bincount(index, weights, len(names))):
                    rows[name][column] += value
        if isinstance(truth, SemanticMap) and isinstance(prediction, SemanticMap) and not truth.multilabel:
            self.names = truth.names
            self.confusion = self.confusion or Confusion(len(truth.names))
            self.confusion.update(prediction.labels, truth.labels)

    def tables(self) -> Tables:
        """Mean error, share of the pixels and share of the error by stratum; and the most costly confusions."""
        tables: Tables = {}
        for title, strata in self.sums.items():
            total_pixels, total_error = np.sum(list(strata.values()), 0)
            tables[title] = {
                name: {
                    self.caption: float(error / pixels),
                    "share of pixels": float(pixels / total_pixels),
                    "share of error": float(error / total_error) if total_error else 0.0,
                }
                for name, (pixels, error) in strata.items()
                if pixels
            }
        return {**self._tabulate_confusions(), **tables}

    def draw(self, prediction: Result, truth: Result, canvas: np.ndarray) -> tuple[np.ndarray, str]:
        """Draws the error of each pixel."""
        from densevision.draw.fields import draw_errors

        errors = compute_error_map(prediction, truth)
        if errors is None:
            return prediction.overlay(canvas), "prediction"
        return draw_errors(errors.values, errors.known, errors.limit), errors.caption

    def _tabulate_confusions(self) -> Tables:
        """Which class is predicted instead of which, and by how much mIoU would rise without that confusion."""
        if self.confusion is None:
            return {}
        matrix, true_pixels = self.confusion.matrix, self.confusion.true_pixels
        wrong = matrix - np.diag(matrix.diagonal())
        total = max(int(wrong.sum() + self.confusion.unpredicted.sum()), 1)
        mean_iou = _compute_mean_iou(matrix, true_pixels)
        rows: dict[str, dict[str, float]] = {}
        for cell in np.argsort(-wrong, axis=None, kind="stable")[: MAX_CONFUSIONS * 2]:
            true, predicted = np.unravel_index(cell, wrong.shape)
            pixels = wrong[true, predicted]
            if not pixels:
                break
            fixed = matrix.copy()
            fixed[true, true] += pixels
            fixed[true, predicted] = 0
            rows[f"{self.names[true]} taken for {self.names[predicted]}"] = {
                "cost in mIoU": _compute_mean_iou(fixed, true_pixels) - mean_iou,
                "pixels": int(pixels),
                "share of errors": float(pixels / total),
            }
        costly = sorted(rows, key=lambda name: -rows[name]["cost in mIoU"])[:MAX_CONFUSIONS]
        return {f"confusions; mIoU is {mean_iou:.4f}": {name: rows[name] for name in costly}} if rows else {}


def _compute_mean_iou(matrix: np.ndarray, true_pixels: np.ndarray) -> float:
    return float(compute_overlap_metrics(matrix.diagonal(), true_pixels, matrix.sum(0))["mIoU"])


def stratify(truth: Result, image: np.ndarray | None) -> list[Stratification]:
    """All stratifications of one image that its ground truth allows."""
    strata: list[Stratification] = []
    if isinstance(truth, SemanticMap) and not truth.multilabel:
        labels = np.where(truth.known, truth.labels, -1).astype(np.int64)
        edges = _find_edges(truth.labels[None].astype(np.float64), truth.labels != UNKNOWN, 0.5)
        strata = [Stratification("by class", truth.names, labels), _stratify_by_boundary(edges, "classes")]
    elif isinstance(truth, DepthMap):
        strata = _stratify_depth(truth)
    elif isinstance(truth, FlowField):
        strata = _stratify_flow(truth)
    elif isinstance(truth, Image):
        image = np.nan_to_num(truth.unit()[..., :3] * 255)
    if image is not None and image.shape[:2] == tuple(truth.size):
        index = np.searchsorted(list(TEXTURE_LEVELS.values()), compute_texture(image), "right") - 1
        strata.append(Stratification("by texture", tuple(TEXTURE_LEVELS), index))
    return strata


def compute_texture(image: np.ndarray) -> np.ndarray:
    """(H, W) strength of the brightness gradient in levels per pixel, averaged over 5 x 5 pixels.

    Args:
        image: (H, W, C), 0 to 255.
    """
    gray = np.ascontiguousarray(image, np.float32).mean(2)
    across, down = (cv2.Sobel(gray, cv2.CV_32F, x, 1 - x, ksize=3, scale=1 / 8) for x in (1, 0))
    return cv2.blur(np.hypot(across, down), (5, 5))


def _stratify_depth(truth: DepthMap) -> list[Stratification]:
    known = truth.valid & (truth.depth > 0)
    depth = np.where(known, truth.depth, 1).astype(np.float64)
    strata = [_stratify_by_boundary(_find_edges(np.log(depth)[None], known, np.log1p(DEPTH_EDGE)), "depth")]
    if truth.unit:
        title = "by disparity [px]" if truth.kind == "disparity" else f"by distance [{truth.unit}]"
        strata.insert(0, _stratify_by_value(title, depth, DISTANCE_LIMITS, known))
    return strata


def _stratify_flow(truth: FlowField) -> list[Stratification]:
    flow = truth.flow.astype(np.float64)
    strata = [
        _stratify_by_value("by speed [px]", np.hypot(*flow), SPEED_LIMITS, truth.valid),
        _stratify_by_boundary(_find_edges(flow, truth.valid, MOTION_EDGE), "motion"),
    ]
    if truth.occluded is not None:
        names = ("seen in both", "occluded")
        strata.append(Stratification("by occlusion", names, truth.occluded.astype(np.int64)))
    return strata


def _stratify_by_value(title: str, values: np.ndarray, limits: tuple[float, ...], known: np.ndarray) -> Stratification:
    index = np.where(known, np.searchsorted(limits, values, "right"), -1)
    return Stratification(title, _name_ranges(limits), index)


def _stratify_by_boundary(edges: np.ndarray, kind: str) -> Stratification:
    """Strata by the distance to the nearest edge, in pixels; without edges all pixels are in the farthest."""
    if edges.any():
        inverse = np.where(edges, 0, 1).astype(np.uint8)
        distance = cv2.distanceTransform(inverse, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    else:
        distance = np.full(edges.shape, np.inf)
    index = np.searchsorted(BOUNDARY_LIMITS, distance, "right")
    return Stratification(f"by distance to a border of {kind} [px]", _name_ranges(BOUNDARY_LIMITS), index)


def _name_ranges(limits: tuple[float, ...]) -> tuple[str, ...]:
    """Names of the ranges between limits.

    >>> _name_ranges((1, 4))
    ('below 1', '1 to 4', '4 and more')
    """
    inner = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(limits)]
    return (f"below {limits[0]:g}", *inner, f"{limits[-1]:g} and more")


def _find_edges(fields: np.ndarray, known: np.ndarray, threshold: float) -> np.ndarray:
    """(H, W) bool: known pixels that differ from a known neighbor by more than a threshold; fields are (C, H, W)."""
    edges = np.zeros(known.shape, bool)
    for axis in (0, 1):
        before: list[slice] = [slice(None), slice(None)]
        after: list[slice] = [slice(None), slice(None)]
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        first, second = tuple(before), tuple(after)
        is_edge = np.sqrt((np.diff(fields, axis=axis + 1) ** 2).sum(0)) > threshold
        is_edge &= known[first] & known[second]
        edges[first] |= is_edge
        edges[second] |= is_edge
    return edges
