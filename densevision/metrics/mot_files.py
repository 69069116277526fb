"""Scores of MOTChallenge's text files: one for each sequence, ground truth and results of any tracker.

Sources: MOT16, Milan et al. 2016, section 3 (columns); TrackEval's MotChallenge2DBox (which rows are evaluated).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from densevision.errors import DataError
from densevision.io.lines import parse_decimals, read_lines
from densevision.metrics.scoring import UNLABELED
from densevision.metrics.tracking import (
    TrackedFrame,
    TrackingCounts,
    compute_tracking_metrics,
    count_sequence,
    describe_tracking_protocol,
)

__all__ = ["MotRows", "find_sequences", "pair_frames", "read_mot", "score_mot"]

PEDESTRIAN = 1
DISTRACTORS = (2, 7, 8, 12)
"""Classes of MOT16 and MOT17 next to which predictions do not count: person on vehicle, static person, distractor,
reflection."""
NON_MOT_VEHICLE = 6
"""One more in MOT20."""
MATCH_IOU = 0.5
MIN_COLUMNS = 6
MAX_NUMBER = 1_000_000_000
COLUMN_NAMES = ("frame", "id", "left", "top", "width", "height")


class MotRows(NamedTuple):
    """The rows of a file.

    Attributes:
        frames: (R,) int from 1.
        ids: (R,) int.
        boxes: (R, 4) float64 left, top, width, height.
        flags: (R,) float64, 0 in ground truth that is not evaluated; the score in results.
        labels: (R,) int classes of MOTChallenge; 1 where the file has none.
    """

    frames: np.ndarray
    ids: np.ndarray
    boxes: np.ndarray
    flags: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> MotRows:
        """Builds them from frame, id, left, top, width, height of each row; all are evaluated."""
        table = np.array(rows, float).reshape(-1, 6)
        frames, ids = table[:, :2].astype(int).T
        return cls(frames, ids, table[:, 2:], np.ones(len(table)), np.full(len(table), PEDESTRIAN))


def score_mot(truth: Path, predictions: Path, benchmark: str | None = None) -> dict[str, Any]:
    """The metrics of tracks over all sequences: metrics, protocol, counts, named, tables.

    Args:
        truth: A file, a folder of NAME.txt, or MOTChallenge's folder of NAME/gt/gt.txt.
        predictions: A file, or a folder of NAME.txt.
        benchmark: MOT16, MOT17 or MOT20: its rules. By default all rows of the ground truth whose flag is not 0 count,
            whatever their classes are.

    Raises:
        DataError: A file is missing or broken.
    """
    pairs, unlabeled = find_sequences(truth, predictions)
    total, table = TrackingCounts(), {}
    boxes = {"ground truths": 0, "predictions": 0}
    for name, (truth_file, file) in pairs.items():
        frames = pair_frames(read_mot(truth_file, is_truth=True), read_mot(file, is_truth=False), benchmark)
        boxes["ground truths"] += sum(len(frame.truth_ids) for frame in frames)
        boxes["predictions"] += sum(len(frame.ids) for frame in frames)
        counts = count_sequence(frames)
        table[name] = compute_tracking_metrics(counts)
        total += counts
    counted = {"sequences": len(pairs), **boxes, UNLABELED: len(unlabeled)}
    return {
        "metrics": compute_tracking_metrics(total),
        "protocol": {**describe_tracking_protocol(), "benchmark": benchmark},
        "counts": counted,
        "named": {UNLABELED: unlabeled} if unlabeled else {},
        "tables": {"per sequence": table} if len(table) > 1 else {},
    }


def find_sequences(truth: Path, predictions: Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Name -> (ground truth, results) of each sequence, and the names of results without ground truth.

    Raises:
        DataError: A sequence has no results, or a path is missing.
    """
    for path in (truth, predictions):
        if not path.exists():
            raise DataError("there is no such file or folder", file=path)
    if truth.is_file():
        file = predictions if predictions.is_file() else predictions / f"{truth.stem}.txt"
        truth_files, files = {truth.stem: truth}, {truth.stem: file} if file.is_file() else {}
    else:
        if predictions.is_file():
            hint = "Give a folder with a file for each sequence."
            raise DataError("one file for a folder of ground truths", file=predictions, hint=hint)
        nested = {path.parent.parent.name: path for path in sorted(truth.glob("*/gt/gt.txt"))}
        truth_files = nested or {path.stem: path for path in sorted(truth.glob("*.txt"))}
        files = {path.stem: path for path in sorted(predictions.glob("*.txt"))}
    missing = sorted(truth_files.keys() - files.keys())
    if missing:
        hint = "Each sequence needs NAME.txt, which may be empty."
        raise DataError("no results of these sequences", file=predictions, value=missing, hint=hint)
    return {name: (truth_files[name], files[name]) for name in truth_files}, sorted(files.keys() - truth_files.keys())


def read_mot(path: Path, is_truth: bool) -> MotRows:
    """Reads a file: frame, id, left, top, width, height, flag or score, class, ...; by commas or blanks.

    Raises:
        DataError: It cannot be read, a row is broken, or an identity is twice in a frame.
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        parts = line.replace(",", " ").split()
        try:
            values = parse_decimals(parts)
        except ValueError:
            raise DataError("is not a row of numbers", file=path, field=f"line {number}", value=line) from None
        if len(values) < MIN_COLUMNS or not np.isfinite(values).all():
            problem = f"must be finite, and begin with {', '.join(COLUMN_NAMES)}"
            raise DataError(problem, file=path, field=f"line {number}", value=line)
        frame, track_id, *box = values[:MIN_COLUMNS]
        if frame < 1 or track_id < 0 or frame != int(frame) or track_id != int(track_id) or min(box[2:]) < 0:
            problem = "must have a frame from 1, an identity from 0, and a size that is not negative"
            raise DataError(problem, file=path, field=f"line {number}", value=line)
        if max(map(abs, values)) > MAX_NUMBER:
            problem = f"has a number beyond {MAX_NUMBER:,}"
            raise DataError(problem, file=path, field=f"line {number}", value=line)
        flag = values[6] if len(values) > 6 else 1.0
        label = values[7] if is_truth and len(values) > 7 and values[7] >= 0 else PEDESTRIAN
        rows.append((frame, track_id, *box, flag, label))
    table = np.array(rows, float).reshape(-1, 8)
    keys = table[:, :2].astype(int)
    unique, counts = np.unique(keys, axis=0, return_counts=True)
    if (counts > 1).any():
        frame, track_id = unique[counts > 1][0].tolist()
        raise DataError("an identity is twice in a frame", file=path, field=f"frame {frame}", value=track_id)
    return MotRows(keys[:, 0], keys[:, 1], table[:, 2:6], table[:, 6], table[:, 7].astype(int))


def pair_frames(truth: MotRows, rows: MotRows, benchmark: str | None = None) -> list[TrackedFrame]:
    """The frames in which either file has a box, in order, without what the benchmark's rules leave out."""
    frames = np.unique(np.concatenate([truth.frames, rows.frames]))
    truth_order, order = (np.argsort(part.frames, kind="stable") for part in (truth, rows))
    truth_starts, starts = (
        np.searchsorted(part.frames[own_order], np.append(frames, np.inf))
        for part, own_order in ((truth, truth_order), (rows, order))
    )
    return [
        _pair_frame(
            truth,
            truth_order[truth_starts[index] : truth_starts[index + 1]],
            rows,
            order[starts[index] : starts[index + 1]],
            benchmark,
        )
        for index in range(len(frames))
    ]


def _pair_frame(
    truth: MotRows, truth_rows: np.ndarray, rows: MotRows, own_rows: np.ndarray, benchmark: str | None
) -> TrackedFrame:
    iou = _compute_iou(truth.boxes[truth_rows], rows.boxes[own_rows])
    is_evaluated, is_kept = truth.flags[truth_rows] != 0, np.ones(len(own_rows), bool)
    if benchmark is not None:
        labels = truth.labels[truth_rows]
        is_evaluated &= labels == PEDESTRIAN
        distractors = (*DISTRACTORS, *((NON_MOT_VEHICLE,) if benchmark == "MOT20" else ()))
        is_kept[_match_distractors(iou, np.isin(labels, distractors))] = False
    iou = iou[np.ix_(is_evaluated, is_kept)]
    return TrackedFrame(truth.ids[truth_rows][is_evaluated], rows.ids[own_rows][is_kept], iou)


def _match_distractors(iou: np.ndarray, is_distractor: np.ndarray) -> np.ndarray:
    """Columns of the predictions that match distractors best, when all rows of the ground truth are matched."""
    benefit = np.where(iou >= MATCH_IOU - np.finfo(float).eps, iou, 0)
    rows, columns = linear_sum_assignment(-benefit)
    return columns[(benefit[rows, columns] > 0) & is_distractor[rows]]


def _compute_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, M) IoU of boxes left, top, width, height."""
    from pycocotools import mask as mask_api

    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    return np.asarray(mask_api.iou(np.ascontiguousarray(boxes), np.ascontiguousarray(others), [0] * len(others)))
