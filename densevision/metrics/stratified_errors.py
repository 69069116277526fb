"""Where the errors of maps lie: by distance, speed, texture, occlusion, class, and by how near a border is.

Every pixel of the truth falls into one part of each division; a part tells its mean error, its share of the pixels and
its share of the whole error. Errors are those of `error_maps`.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import cv2
import numpy as np

from densevision.metrics.confusion import UNKNOWN, Confusion, overlaps
from densevision.metrics.error_maps import error_map
from densevision.results import DepthMap, FlowField, Image, Result, SemanticMap

BORDERS = (1, 2, 4, 8, 16)
"""Distances to a border, in pixels, at which parts end."""
TEXTURES = {"flat": 0.0, "weak": 4.0, "medium": 12.0, "strong": 32.0}
"""Parts by the strength of the brightness's gradient, in levels of 255 per pixel, and where they begin."""
SPEEDS = (1, 3, 10, 40)
DISTANCES = (1, 2, 5, 10, 20, 40, 80)
JUMP = 0.1
"""Relative difference of neighbors from which depth has an edge."""
TURN = 1.0
"""Difference of neighbors, in pixels, from which motion has an edge."""
LISTED = 20
"""Confusions in the table."""


class Division(NamedTuple):
    """An image's pixels in parts.

    Attributes:
        title: By what.
        parts: Names of the parts.
        place: (H, W) index of each pixel's part, -1 where it has none.
    """

    title: str
    parts: tuple[str, ...]
    place: np.ndarray


class PixelErrors:
    """Errors of maps by part; see `engine.diagnosis`.

    Attributes:
        sums: Division -> part -> [pixels, error].
        caption: What an error is.
    """

    def __init__(self) -> None:
        self.sums: dict[str, dict[str, np.ndarray]] = {}
        self.caption = "error"
        self.confusion: Confusion | None = None
        self.names: tuple[str, ...] = ()

    def update(self, answer: Result, truth: Result, image: np.ndarray | None, id: str) -> None:
        """Takes one image; without the image itself there is no division by texture."""
        errors = error_map(answer, truth)
        if errors is None:
            return
        self.caption = errors.caption.partition(",")[0]
        for division in divisions(truth, image):
            parts = self.sums.setdefault(division.title, {part: np.zeros(2) for part in division.parts})
            counted = errors.known & (division.place >= 0)
            place = division.place[counted]
            for row, weights in enumerate((None, errors.values[counted])):
                for part, value in zip(division.parts, np.bincount(place, weights, len(division.parts))):
                    parts[part][row] += value
        if isinstance(truth, SemanticMap) and isinstance(answer, SemanticMap) and not truth.multilabel:
            self.names = truth.names
            self.confusion = self.confusion or Confusion(len(truth.names))
            self.confusion.update(answer.labels, truth.labels)

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """Mean error, share of the pixels and share of the whole error, by part; and the confusions that cost most."""
        tables = {}
        for title, parts in self.sums.items():
            pixels, error = np.sum(list(parts.values()), 0)
            tables[title] = {
                part: {
                    self.caption: many[1] / many[0],
                    "share of pixels": many[0] / pixels,
                    "share of error": many[1] / error if error else 0.0,
                }
                for part, many in parts.items()
                if many[0]
            }
        return {**self._confusions(), **tables}

    def draw(self, answer: Result, truth: Result, canvas: np.ndarray) -> tuple[np.ndarray, str]:
        """Where the answer is wrong."""
        from densevision.draw.fields import draw_errors

        errors = error_map(answer, truth)
        if errors is None:
            return answer.overlay(canvas), "answer"
        return draw_errors(errors.values, errors.known, errors.limit), errors.caption

    def _confusions(self) -> dict[str, dict[str, dict[str, float]]]:
        """What is taken for what, and by how much mIoU would rise if it were not."""
        if self.confusion is None:
            return {}
        matrix = self.confusion.matrix
        wrong = matrix - np.diag(matrix.diagonal())
        total = max(int(wrong.sum() + self.confusion.unanswered.sum()), 1)
        before = float(_iou(matrix, self.confusion.ground_truths))
        rows = {}
        for flat in np.argsort(-wrong, axis=None, kind="stable")[: LISTED * 2]:
            true, said = np.unravel_index(flat, wrong.shape)
            pixels = wrong[true, said]
            if not pixels:
                break
            fixed = matrix.copy()
            fixed[true, true] += pixels
            fixed[true, said] = 0
            cost = float(_iou(fixed, self.confusion.ground_truths)) - before
            rows[f"{self.names[true]} taken for {self.names[said]}"] = {
                "cost in mIoU": cost,
                "pixels": int(pixels),
                "share of errors": pixels / total,
            }
        dearest = sorted(rows, key=lambda name: -rows[name]["cost in mIoU"])[:LISTED]
        return {f"confusions; mIoU is {before:.4f}": {name: rows[name] for name in dearest}} if rows else {}


def _iou(matrix: np.ndarray, ground_truths: np.ndarray) -> np.ndarray:
    return overlaps(matrix.diagonal(), ground_truths, matrix.sum(0))["mIoU"]


def divisions(truth: Result, image: np.ndarray | None) -> list[Division]:
    """All divisions of one image that its truth allows."""
    found: list[Division] = []
    if isinstance(truth, SemanticMap) and not truth.multilabel:
        labels = np.where(truth.known, truth.labels, -1).astype(np.int64)
        found = [Division("by class", truth.names, labels), _by_border(_class_edges(truth.labels), "classes")]
    elif isinstance(truth, DepthMap):
        found = _of_depth(truth)
    elif isinstance(truth, FlowField):
        found = _of_flow(truth)
    elif isinstance(truth, Image):
        image = np.nan_to_num(truth.unit()[..., :3] * 255)
    texture = None if image is None or image.shape[:2] != tuple(truth.size) else texture_of(image)
    if texture is not None:
        starts = np.array(list(TEXTURES.values()))
        found.append(Division("by texture", tuple(TEXTURES), np.searchsorted(starts, texture, "right") - 1))
    return found


def texture_of(image: np.ndarray) -> np.ndarray:
    """(H, W) strength of the brightness's gradient, in levels per pixel, the mean of 5 x 5.

    Args:
        image: (H, W, C), 0 to 255.
    """
    gray = np.ascontiguousarray(image, np.float32).mean(2)
    across, down = (cv2.Sobel(gray, cv2.CV_32F, x, 1 - x, ksize=3, scale=1 / 8) for x in (1, 0))
    return cv2.blur(np.hypot(across, down), (5, 5))


def _of_depth(truth: DepthMap) -> list[Division]:
    known = truth.valid & (truth.depth > 0)
    depth = np.where(known, truth.depth, 1).astype(np.float64)
    found = [_by_border(_edges(np.log(depth)[None], known, np.log1p(JUMP)), "depth")]
    if truth.unit:
        title = "by disparity [px]" if truth.kind == "disparity" else f"by distance [{truth.unit}]"
        found.insert(0, _by_value(title, depth, DISTANCES, known))
    return found


def _of_flow(truth: FlowField) -> list[Division]:
    speed = np.hypot(*truth.flow.astype(np.float64))
    found = [
        _by_value("by speed [px]", speed, SPEEDS, truth.valid),
        _by_border(_edges(truth.flow.astype(np.float64), truth.valid, TURN), "motion"),
    ]
    if truth.hidden is not None:
        found.append(Division("by occlusion", ("seen in both", "occluded"), truth.hidden.astype(np.int64)))
    return found


def _by_value(title: str, values: np.ndarray, ends: tuple[float, ...], known: np.ndarray) -> Division:
    place = np.where(known, np.searchsorted(ends, values, "right"), -1)
    return Division(title, _spans(ends), place)


def _by_border(edges: np.ndarray, what: str) -> Division:
    """Parts by the distance, in pixels, to the nearest edge; all of an image without edges is far."""
    far = np.full(edges.shape, np.inf) if not edges.any() else cv2.distanceTransform(
        np.where(edges, 0, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )  # fmt: skip
    return Division(f"by distance to a border of {what} [px]", _spans(BORDERS), np.searchsorted(BORDERS, far, "right"))


def _spans(ends: tuple[float, ...]) -> tuple[str, ...]:
    """Names of the parts between ends.

    >>> _spans((1, 4))
    ('below 1', '1 to 4', '4 and more')
    """
    inner = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(ends)]
    return (f"below {ends[0]:g}", *inner, f"{ends[-1]:g} and more")


def _class_edges(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels beside one of another known class."""
    return _edges(labels[None].astype(np.float64), labels != UNKNOWN, 0.5)


def _edges(fields: np.ndarray, known: np.ndarray, jump: float) -> np.ndarray:
    """(H, W) bool: known pixels from whose known neighbors a field (C, H, W) differs by more than a jump."""
    edges = np.zeros(known.shape, bool)
    for axis in (0, 1):
        step = np.sqrt((np.diff(fields, axis=axis + 1) ** 2).sum(0)) > jump
        first, second = (slice(None, -1), slice(1, None))
        one, other = ((first, second)[side] for side in (0, 1))
        before = (one, slice(None)) if axis == 0 else (slice(None), one)
        after = (other, slice(None)) if axis == 0 else (slice(None), other)
        step &= known[before] & known[after]
        edges[before] |= step
        edges[after] |= step
    return edges
