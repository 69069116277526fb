"""Average precision over any choice of images, from matches that were made once.

An image's predictions are matched with its own truth alone, so drawing images anew changes how often a match counts
and never the match. Where predictions of equal score belong to an image that counts more than once, all copies of the
first count before those of the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from densevision.metrics.per_image import Columns

CHUNK = 1 << 22
"""Weights of predictions that are held at once."""
TINY = float(np.spacing(1))


class Rules(NamedTuple):
    """What the numbers are made of.

    Attributes:
        definitions: Name, area label, most predictions, threshold and kind of each metric, as hotcoco gives them.
        thresholds: (T,) IoU thresholds.
        recalls: (R,) recalls at which precision is read.
        areas: Label -> [least, largest] area.
    """

    definitions: Sequence[dict[str, Any]]
    thresholds: np.ndarray
    recalls: np.ndarray
    areas: dict[str, Sequence[float]]


class _Cell(NamedTuple):
    """The predictions of one class judged by the truth of one range of areas, in falling order of score.

    Attributes:
        image: (D,) index of each prediction's image.
        rank: (D,) its place among its image's predictions.
        hit: (T, D) bool.
        counts: (T, D) bool, whether it counts at all.
        positives: (N,) truths of each image.
    """

    image: np.ndarray
    rank: np.ndarray
    hit: np.ndarray
    counts: np.ndarray
    positives: np.ndarray


class Matches:
    """Matches of all images, from which COCO's numbers follow; see `metrics.images.Images`.

    Args:
        ids: Identities of the images; image n has the image id n + 1.
        parts: Entries of all images, a few whole classes at a time: one for each image, class and range of areas,
            as `COCOeval.evalImgs` has them.
        rules: What the numbers are made of.
    """

    def __init__(self, ids: Sequence[int | str], parts: Iterable[list[dict[str, Any] | None]], rules: Rules):
        self.ids, self.rules = tuple(map(str, ids)), rules
        labels = {tuple(map(float, ends)): label for label, ends in rules.areas.items()}
        self.cells: dict[tuple[int, str], _Cell] = {}
        for entries in parts:
            grouped: dict[tuple[int, str], list[dict[str, Any]]] = {}
            for entry in entries:
                if entry is not None:
                    label = labels[tuple(map(float, entry["aRng"]))]
                    grouped.setdefault((int(entry["category_id"]), label), []).append(entry)
            self.cells |= {key: self._cell(found) for key, found in grouped.items()}
        self.classes = sorted({number for number, _ in self.cells})

    def _cell(self, entries: list[dict[str, Any]]) -> _Cell:
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

        def joined(key: str) -> np.ndarray:
            return np.concatenate([blank, *(np.reshape(e[key], (thresholds, -1)) != 0 for e in entries)], 1)

        matched, ignored = joined("dtMatches"), joined("dtIgnore")
        order = np.argsort(-scores, kind="mergesort")
        return _Cell(
            image[order], rank[order], (matched & ~ignored)[:, order], ~ignored[:, order], positives
        )  # fmt: skip

    def numbers(self, weights: np.ndarray) -> Columns:
        """COCO's numbers for (B, N) weights: name -> (B,), each the mean over the classes that have truth."""
        weights = np.asarray(weights, np.float64)
        most = max((len(cell.image) for cell in self.cells.values()), default=1)
        step = max(1, CHUNK // max(most, 1))
        parts = [self._numbers(weights[start : start + step]) for start in range(0, len(weights), step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def _numbers(self, weights: np.ndarray) -> Columns:
        tables: dict[tuple[str, int, bool], list[np.ndarray]] = {}
        for definition in self.rules.definitions:
            tables.setdefault((definition["area"], definition["max_det"], bool(definition["ap"])), [])
        for (area, most, precise), rows in tables.items():
            for number in self.classes:
                cell = self.cells.get((number, area))
                if cell is not None:
                    rows.append(self._precision(cell, weights) if precise else _recall(cell, weights, most))
        return {one["name"]: self._mean(one, tables, len(weights)) for one in self.rules.definitions}

    def _mean(self, definition: dict[str, Any], tables: dict[Any, list[np.ndarray]], count: int) -> np.ndarray:
        """(B,) of (B, T) tables by class: over the thresholds, then over the classes with truth."""
        rows = tables[definition["area"], definition["max_det"], bool(definition["ap"])]
        if not rows:
            return np.full(count, np.nan)
        values = np.stack(rows)
        if definition["iou_thr"] is not None:
            values = values[..., np.isclose(self.rules.thresholds, definition["iou_thr"])]
        values = values.mean(-1)
        known = ~np.isnan(values)
        total, many = np.where(known, values, 0).sum(0), known.sum(0)
        return np.where(many > 0, total / np.maximum(many, 1), np.nan)

    def _precision(self, cell: _Cell, weights: np.ndarray) -> np.ndarray:
        """(B, T) average precision of one class, NaN without truth."""
        positives = weights @ cell.positives
        found = np.zeros((len(weights), len(self.rules.thresholds)))
        seen, last = None, None
        for at, (hit, counts) in enumerate(zip(cell.hit, cell.counts)):
            if last is None or not np.array_equal(counts, last):
                seen, last = np.cumsum(weights[:, cell.image] * counts, 1), counts
            hits = np.flatnonzero(hit)
            caught = np.cumsum(weights[:, cell.image[hits]], 1)
            found[:, at] = average_precision(caught, seen[:, hits], positives, self.rules.recalls)
        return np.where(positives[:, None] > 0, found, np.nan)

    def each(self) -> Columns:
        """AP, AP50 and AP75 of each image alone: name -> (N,), NaN for images without truth."""
        total, classes = np.zeros((len(self.ids), len(self.rules.thresholds))), np.zeros(len(self.ids))
        for (_, area), cell in self.cells.items():
            if area != "all":
                continue
            order = np.argsort(cell.image, kind="stable")
            ends = np.searchsorted(cell.image[order], np.arange(len(self.ids) + 1))
            for image in np.flatnonzero(cell.positives):
                rows = order[ends[image] : ends[image + 1]]
                caught, seen = (np.cumsum(part[:, rows], 1, float) for part in (cell.hit, cell.counts))
                total[image] += average_precision(caught, seen, cell.positives[image], self.rules.recalls)
                classes[image] += 1
        values = np.where(classes[:, None] > 0, total / np.maximum(classes, 1)[:, None], np.nan)
        at = {
            f"AP{100 * limit:.0f}": values[:, np.isclose(self.rules.thresholds, limit)].mean(1) for limit in (0.5, 0.75)
        }
        return {"AP": values.mean(1), **at}


def average_precision(caught: np.ndarray, seen: np.ndarray, positives: Any, recalls: np.ndarray) -> np.ndarray:
    """Precision averaged over recalls, where predictions come in falling order of score.

    Source: pycocotools, COCOeval.accumulate: precision is the largest at that recall or a higher one.

    Args:
        caught: (..., D) hits up to each prediction; those that are no hits may be left out.
        seen: (..., D) predictions that count up to there.
        positives: (...) truths.
        recalls: (R,) the recalls, rising from 0.

    Returns:
        (...) in [0, 1]; 0 without truth.

    >>> average_precision(np.array([1.0, 1, 2]), np.array([1.0, 2, 3]), 2, np.array([0.0, 0.5, 1.0]))
    np.float64(0.8888888888888888)
    """
    if not caught.shape[-1]:
        return np.zeros(caught.shape[:-1])
    precision = caught / (seen + TINY)
    envelope = np.maximum.accumulate(precision[..., ::-1], -1)[..., ::-1]
    recall = caught / np.maximum(np.asarray(positives, float), TINY)[..., None]
    reached = np.searchsorted(recalls, recall, side="right")
    steps = np.diff(reached, axis=-1, prepend=0)
    return np.asarray((steps * envelope).sum(-1) / len(recalls))[()]


def _recall(cell: _Cell, weights: np.ndarray, most: int) -> np.ndarray:
    """(B, T) recall of one class by its image's first predictions, NaN without truth."""
    positives = weights @ cell.positives
    hits = (cell.hit & (cell.rank < most)).T.astype(np.float64)
    caught = weights[:, cell.image] @ hits
    return np.where(positives[:, None] > 0, caught / np.maximum(positives, TINY)[:, None], np.nan)
