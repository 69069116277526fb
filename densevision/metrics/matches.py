"""Average precision over any subset or resample of images, from matches that are computed once.

The predictions of an image are matched with its own ground truth only, so resampling images changes how often a match
counts and never the match itself. Where predictions of equal score belong to an image that occurs several times, all
copies of the first count before those of the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from densevision.metrics.per_image import Columns

__all__ = ["MatchRules", "Matches", "average_precision"]

CHUNK = 1 << 22
"""Weights of predictions that are in memory at once."""
TINY = float(np.spacing(1))


class MatchRules(NamedTuple):
    """How metrics follow from matches.

    Attributes:
        definitions: Name, area label, maximum of predictions, threshold and kind of each metric, as in hotcoco.
        thresholds: (T,) IoU thresholds.
        recalls: (R,) recalls at which precision is sampled.
        areas: Label -> [minimum, maximum] area.
    """

    definitions: Sequence[dict[str, Any]]
    thresholds: np.ndarray
    recalls: np.ndarray
    areas: Mapping[str, Sequence[float]]


class _Cell(NamedTuple):
    """The predictions of one class against the ground truth of one range of areas, by descending score.

    Attributes:
        image: (D,) index of each prediction's image.
        rank: (D,) its position among the predictions of its image.
        hit: (T, D) bool, true positives.
        counts: (T, D) bool, predictions that are not ignored.
        positives: (N,) ground truths of each image.
    """

    image: np.ndarray
    rank: np.ndarray
    hit: np.ndarray
    counts: np.ndarray
    positives: np.ndarray


class Matches:
    """Matches of all images; implements `metrics.per_image.PerImageStats` for COCO's metrics.

    Args:
        ids: Identities of the images; image n has the image id n + 1.
        parts: Entries of all images, a few classes at a time: one for each image, class and range of areas, as in
            `COCOeval.evalImgs`.
        rules: How metrics follow from them.
    """

    def __init__(self, ids: Sequence[int | str], parts: Iterable[list[dict[str, Any] | None]], rules: MatchRules):
        self.ids, self.rules = tuple(map(str, ids)), rules
        labels = {tuple(map(float, ends)): label for label, ends in rules.areas.items()}
        self.cells: dict[tuple[int, str], _Cell] = {}
        for entries in parts:
            grouped: dict[tuple[int, str], list[dict[str, Any]]] = {}
            for entry in entries:
                if entry is not None:
                    label = labels[tuple(map(float, entry["aRng"]))]
                    grouped.setdefault((int(entry["category_id"]), label), []).append(entry)
            self.cells |= {key: self._build_cell(group) for key, group in grouped.items()}
        self.classes = sorted({category for category, _ in self.cells})

    def _build_cell(self, entries: list[dict[str, Any]]) -> _Cell:
        entries = sorted(entries, key=lambda entry: entry["image_id"])
        positives = np.zeros(len(self.ids))
        for entry in entries:
            positives[entry["image_id"] - 1] += np.count_nonzero(np.logical_not(entry["gtIgnore"]))
        sizes = [len(entry["dtScores"]) for entry in entries]
        image = np.repeat([entry["image_id"] - 1 for entry in entries], sizes).astype(np.int64)
        rank = np.concatenate([np.zeros(0, np.int64), *map(np.arange, sizes)])
        scores = np.concatenate([np.zeros(0), *(entry["dtScores"] for entry in entries)])
        thresholds = len(self.rules.thresholds)
        blank = np.zeros((thresholds, 0), bool)

        def join(key: str) -> np.ndarray:
            return np.concatenate([blank, *(np.reshape(e[key], (thresholds, -1)) != 0 for e in entries)], 1)

        matched, ignored = join("dtMatches"), join("dtIgnore")
        order = np.argsort(-scores, kind="mergesort")
        return _Cell(image[order], rank[order], (matched & ~ignored)[:, order], ~ignored[:, order], positives)

    def compute_weighted(self, weights: np.ndarray) -> Columns:
        """COCO's metrics for (B, N) weights: name -> (B,), each the mean over the classes with ground truth."""
        weights = np.asarray(weights, np.float64)
        largest = max((len(cell.image) for cell in self.cells.values()), default=1)
        step = max(1, CHUNK // max(largest, 1))
        parts = [self._compute_chunk(weights[start : start + step]) for start in range(0, len(weights), step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def _compute_chunk(self, weights: np.ndarray) -> Columns:
        tables: dict[tuple[str, int, bool], list[np.ndarray]] = {}
        for definition in self.rules.definitions:
            tables.setdefault((definition["area"], definition["max_det"], bool(definition["ap"])), [])
        for (area, max_detections, is_precision), rows in tables.items():
            for category in self.classes:
                cell = self.cells.get((category, area))
                if cell is None:
                    continue
                if is_precision:
                    rows.append(self._compute_precision(cell, weights))
                else:
                    rows.append(_compute_recall(cell, weights, max_detections))
        return {
            definition["name"]: self._average(definition, tables, len(weights)) for definition in self.rules.definitions
        }

    def _average(self, definition: dict[str, Any], tables: dict[Any, list[np.ndarray]], count: int) -> np.ndarray:
        """(B,) of (B, T) tables by class: over the thresholds, then over the classes with ground truth."""
        rows = tables[definition["area"], definition["max_det"], bool(definition["ap"])]
        if not rows:
            return np.full(count, np.nan)
        values = np.stack(rows)
        if definition["iou_thr"] is not None:
            values = values[..., np.isclose(self.rules.thresholds, definition["iou_thr"])]
        values = values.mean(-1)
        defined = ~np.isnan(values)
        total, classes = np.where(defined, values, 0).sum(0), defined.sum(0)
        return np.where(classes > 0, total / np.maximum(classes, 1), np.nan)

    def _compute_precision(self, cell: _Cell, weights: np.ndarray) -> np.ndarray:
        """(B, T) average precision of one class, NaN without ground truth."""
        positives = weights @ cell.positives
        values = np.zeros((len(weights), len(self.rules.thresholds)))
        seen, previous = np.zeros(0), None
        for index, (hit, counts) in enumerate(zip(cell.hit, cell.counts)):
            if previous is None or not np.array_equal(counts, previous):
                seen, previous = np.cumsum(weights[:, cell.image] * counts, 1), counts
            hits = np.flatnonzero(hit)
            true_positives = np.cumsum(weights[:, cell.image[hits]], 1)
            values[:, index] = average_precision(true_positives, seen[:, hits], positives, self.rules.recalls)
        return np.where(positives[:, None] > 0, values, np.nan)

    def compute_each(self) -> Columns:
        """AP, AP50 and AP75 of each image by itself: name -> (N,), NaN for images without ground truth."""
        total, classes = np.zeros((len(self.ids), len(self.rules.thresholds))), np.zeros(len(self.ids))
        for (_, area), cell in self.cells.items():
            if area != "all":
                continue
            order = np.argsort(cell.image, kind="stable")
            ends = np.searchsorted(cell.image[order], np.arange(len(self.ids) + 1))
            for image in np.flatnonzero(cell.positives):
                rows = order[ends[image] : ends[image + 1]]
                true_positives, seen = (np.cumsum(part[:, rows], 1, float) for part in (cell.hit, cell.counts))
                total[image] += average_precision(true_positives, seen, cell.positives[image], self.rules.recalls)
                classes[image] += 1
        values = np.where(classes[:, None] > 0, total / np.maximum(classes, 1)[:, None], np.nan)
        at_thresholds = {
            f"AP{100 * limit:.0f}": values[:, np.isclose(self.rules.thresholds, limit)].mean(1) for limit in (0.5, 0.75)
        }
        return {"AP": values.mean(1), **at_thresholds}


def average_precision(true_positives: np.ndarray, seen: np.ndarray, positives: Any, recalls: np.ndarray) -> np.ndarray:
    """Precision averaged over recalls, of predictions by descending score.

    Source: pycocotools, COCOeval.accumulate: precision is the largest at that recall or a higher one.

    Args:
        true_positives: (..., D) true positives up to each prediction; predictions that are none may be left out.
        seen: (..., D) predictions up to each one.
        positives: (...) number of ground truths.
        recalls: (R,) the recalls, ascending from 0.

    Returns:
        (...) in [0, 1]; 0 without ground truth.

    >>> round(float(average_precision(np.array([1.0, 1, 2]), np.array([1.0, 2, 3]), 2, np.array([0.0, 0.5, 1.0]))), 6)
    0.888889
    """
    if not true_positives.shape[-1]:
        return np.zeros(true_positives.shape[:-1])
    precision = true_positives / (seen + TINY)
    envelope = np.maximum.accumulate(precision[..., ::-1], -1)[..., ::-1]
    recall = true_positives / np.maximum(np.asarray(positives, float), TINY)[..., None]
    reached = np.searchsorted(recalls, recall, side="right")
    steps = np.diff(reached, axis=-1, prepend=0)
    return np.asarray((steps * envelope).sum(-1) / len(recalls))[()]


def _compute_recall(cell: _Cell, weights: np.ndarray, max_detections: int) -> np.ndarray:
    """(B, T) recall of one class by the first predictions of each image, NaN without ground truth."""
    positives = weights @ cell.positives
    hits = (cell.hit & (cell.rank < max_detections)).T.astype(np.float64)
    true_positives = weights[:, cell.image] @ hits
    return np.where(positives[:, None] > 0, true_positives / np.maximum(positives, TINY)[:, None], np.nan)
