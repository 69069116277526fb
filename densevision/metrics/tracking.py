"""HOTA, CLEAR and identity metrics of tracked boxes, as TrackEval computes them.

Sources: HOTA, Luiten et al., IJCV 2021; MOTA and MOTP, Bernardin and Stiefelhagen 2008; IDF1, Ristani et al. 2016.
A sequence gives counts and sums, which add up over sequences; the metrics follow from the totals, as in TrackEval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

__all__ = [
    "ALPHAS",
    "TrackedFrame",
    "TrackingCounts",
    "compute_tracking_metrics",
    "count_sequence",
    "describe_tracking_protocol",
]

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""IoU thresholds over which HOTA and its parts are averaged."""
MATCH_IOU = 0.5
"""IoU from which CLEAR and the identity metrics match."""
EPSILON = np.finfo(float).eps


class TrackedFrame(NamedTuple):
    """One frame of a sequence.

    Attributes:
        truth_ids: (N,) int identities, each once.
        ids: (M,) int predicted identities, each once.
        iou: (N, M) float.
    """

    truth_ids: np.ndarray
    ids: np.ndarray
    iou: np.ndarray


def _zeros() -> np.ndarray:
    return np.zeros(len(ALPHAS))


@dataclass
class TrackingCounts:
    """What the metrics follow from; the counts of several sequences add up.

    Attributes:
        hota_tp, hota_fn, hota_fp: (19,) matches, misses and false positives at each of `ALPHAS`.
        associations: (19,) sums of the association accuracies over the matches.
        hota_iou: (19,) sums of the IoU over the matches.
        tp, fn, fp, switches, interruptions: Of CLEAR.
        iou: Sum of the IoU over CLEAR's matches.
        tracked: Identities tracked mostly, partly, and hardly.
        id_tp, id_fn, id_fp: Boxes with the right identity, and those of the truth and the prediction without.
    """

    hota_tp: np.ndarray = field(default_factory=_zeros)
    hota_fn: np.ndarray = field(default_factory=_zeros)
    hota_fp: np.ndarray = field(default_factory=_zeros)
    associations: np.ndarray = field(default_factory=_zeros)
    hota_iou: np.ndarray = field(default_factory=_zeros)
    tp: int = 0
    fn: int = 0
    fp: int = 0
    switches: int = 0
    interruptions: int = 0
    iou: float = 0.0
    tracked: np.ndarray = field(default_factory=lambda: np.zeros(3, int))
    id_tp: int = 0
    id_fn: int = 0
    id_fp: int = 0

    def __add__(self, other: TrackingCounts) -> TrackingCounts:
        return TrackingCounts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def count_sequence(frames: Sequence[TrackedFrame]) -> TrackingCounts:
    """The counts of one sequence."""
    truth_rows = _number_ids(frame.truth_ids for frame in frames)
    rows = _number_ids(frame.ids for frame in frames)
    numbered = [
        TrackedFrame(_look_up(truth_rows, frame.truth_ids), _look_up(rows, frame.ids), frame.iou) for frame in frames
    ]
    lengths = np.zeros(len(truth_rows)), np.zeros(len(rows))
    for frame in numbered:
        lengths[0][frame.truth_ids] += 1
        lengths[1][frame.ids] += 1
    counts = TrackingCounts()
    _count_hota(counts, numbered, *lengths)
    _count_clear(counts, numbered, lengths[0])
    _count_identities(counts, numbered, *lengths)
    return counts


def compute_tracking_metrics(counts: TrackingCounts) -> dict[str, float]:
    """The metrics of `tracking_info.TRACKING_INFO`; NaN where there is nothing to divide by."""
    c = counts
    detection = _divide(c.hota_tp, c.hota_tp + c.hota_fn + c.hota_fp)
    association = c.associations / np.maximum(1, c.hota_tp)
    return {
        "HOTA": float(np.mean(np.sqrt(detection * association))),
        "DetA": float(np.mean(detection)),
        "AssA": float(np.mean(association)) if c.hota_tp.any() else float("nan"),
        "LocA": float(np.mean(np.where(c.hota_tp > 0, c.hota_iou / np.maximum(1, c.hota_tp), 1)))
        if c.hota_tp.any()
        else float("nan"),
        "MOTA": float(_divide(c.tp - c.fp - c.switches, c.tp + c.fn)),
        "MOTP": float(_divide(c.iou, c.tp)),
        "IDF1": float(_divide(2 * c.id_tp, 2 * c.id_tp + c.id_fp + c.id_fn)),
        "IDP": float(_divide(c.id_tp, c.id_tp + c.id_fp)),
        "IDR": float(_divide(c.id_tp, c.id_tp + c.id_fn)),
        "IDSW": c.switches,
        "FP": c.fp,
        "FN": c.fn,
        "Frag": c.interruptions,
        **dict(zip(("MT", "PT", "ML"), c.tracked.tolist())),
    }


def describe_tracking_protocol() -> dict[str, Any]:
    """What must be known to compare the metrics with those of other tools."""
    return {
        "tool": "TrackEval",
        "similarity": "IoU of boxes",
        "HOTA": "mean over IoU 0.05:0.05:0.95",
        "CLEAR and identity": f"IoU from {MATCH_IOU}",
        "sequences": "counts are added up",
    }


def _count_hota(
    counts: TrackingCounts, frames: Sequence[TrackedFrame], truth_lengths: np.ndarray, lengths: np.ndarray
) -> None:
    """Matches each frame once, by IoU times how well two tracks fit each other as a whole, and counts at each alpha.

    Source: Luiten et al. 2021, equations 7 to 16, and section 5 for the matching.
    """
    # How much of two tracks coincides: each box distributes itself over those that it overlaps.
    overlap = np.zeros((len(truth_lengths), len(lengths)))
    for frame in frames:
        union = frame.iou.sum(0, keepdims=True) + frame.iou.sum(1, keepdims=True) - frame.iou
        overlap[np.ix_(frame.truth_ids, frame.ids)] += _divide(frame.iou, union, 0)
    total = truth_lengths[:, None] + lengths
    fit = _divide(overlap, total - overlap, 0)
    pairs, overlaps = [np.zeros(0, int)], [np.zeros(0)]
    for frame in frames:
        rows, columns = linear_sum_assignment(-fit[np.ix_(frame.truth_ids, frame.ids)] * frame.iou)
        iou = frame.iou[rows, columns]
        is_matched = iou >= ALPHAS[:, None] - EPSILON
        found = is_matched.sum(1)
        counts.hota_tp += found
        counts.hota_fn += len(frame.truth_ids) - found
        counts.hota_fp += len(frame.ids) - found
        counts.hota_iou += (is_matched * iou).sum(1)
        pairs.append(frame.truth_ids[rows] * len(lengths) + frame.ids[columns])
        overlaps.append(iou)
    keys, all_iou = np.concatenate(pairs), np.concatenate(overlaps)
    for index, alpha in enumerate(ALPHAS):
        matched, common = np.unique(keys[all_iou >= alpha - EPSILON], return_counts=True)
        counts.associations[index] = (common * common / np.maximum(1, total.ravel()[matched] - common)).sum()


def _count_clear(counts: TrackingCounts, frames: Sequence[TrackedFrame], truth_lengths: np.ndarray) -> None:
    """Matches frame by frame: first what matched in the frame before, then by IoU."""
    last = np.full(len(truth_lengths), -1)  # with whom each identity was matched last, at any time
    previous = last.copy()  # and in the frame before
    found, starts = np.zeros(len(truth_lengths)), np.zeros(len(truth_lengths), int)
    for frame in frames:
        if not len(frame.truth_ids) or not len(frame.ids):
            # As in TrackEval, a frame without boxes on one side does not count as one between two others.
            counts.fp += len(frame.ids)
            counts.fn += len(frame.truth_ids)
            continue
        benefit = 1000.0 * (previous[frame.truth_ids][:, None] == frame.ids) + frame.iou
        benefit[frame.iou < MATCH_IOU - EPSILON] = 0
        rows, columns = linear_sum_assignment(-benefit)
        is_match = benefit[rows, columns] > EPSILON
        rows, columns = rows[is_match], columns[is_match]
        matched, ids = frame.truth_ids[rows], frame.ids[columns]
        counts.switches += int(((last[matched] >= 0) & (last[matched] != ids)).sum())
        starts[matched[previous[matched] < 0]] += 1
        last[matched] = ids
        previous = np.full(len(truth_lengths), -1)
        previous[matched] = ids
        found[matched] += 1
        counts.tp += len(rows)
        counts.fn += len(frame.truth_ids) - len(rows)
        counts.fp += len(frame.ids) - len(rows)
        counts.iou += float(frame.iou[rows, columns].sum())
    share = found / truth_lengths
    counts.interruptions = int(np.maximum(0, starts - 1).sum())
    counts.tracked = np.array([(share > 0.8).sum(), ((share >= 0.2) & (share <= 0.8)).sum(), (share < 0.2).sum()])


def _count_identities(
    counts: TrackingCounts, frames: Sequence[TrackedFrame], truth_lengths: np.ndarray, lengths: np.ndarray
) -> None:
    """Matches whole tracks one to one, so that the most boxes have the right identity."""
    common = np.zeros((len(truth_lengths), len(lengths)))
    for frame in frames:
        rows, columns = np.nonzero(frame.iou >= MATCH_IOU)
        common[frame.truth_ids[rows], frame.ids[columns]] += 1
    counts.id_tp = int(common[linear_sum_assignment(-common)].sum())
    counts.id_fn = int(truth_lengths.sum()) - counts.id_tp
    counts.id_fp = int(lengths.sum()) - counts.id_tp


def _number_ids(frames: Iterable[np.ndarray]) -> np.ndarray:
    """All identities, sorted."""
    return np.unique(np.concatenate([np.zeros(0, int), *frames]))


def _look_up(sorted_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Rows of identities."""
    return np.searchsorted(sorted_ids, ids)


def _divide(numerator: Any, denominator: Any, undefined: float = float("nan")) -> np.ndarray:
    """The quotient, `undefined` where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.full_like(denominator, undefined), where=denominator > EPSILON)
