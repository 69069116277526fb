"""Checks of datasets of optical flow. No torch before a dataset is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from densevision.datasets.checks import catalog
from densevision.datasets.checks.box_edits import rewrite_list
from densevision.datasets.checks.catalog import Check, make_check
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.fixes import FixPlan
from densevision.datasets.checks.image_scanner import FAULT_CHECKS, ImageInfo, ImageScanner
from densevision.datasets.checks.map_statistics import MapStatistics
from densevision.datasets.checks.pair_similarity import read_gray
from densevision.datasets.checks.split_files import list_file_splits, list_split_files
from densevision.errors import DenseVisionError
from densevision.io.label_issues import IssueKind
from densevision.tasks.flow.config import FlowConfig

if TYPE_CHECKING:
    from densevision.datasets.flow_layouts import FlowPair

__all__ = ["FieldStatistics", "SplitListEdit", "check", "compute_statistics"]

INVALID_FRACTION = 0.98
"""Unknown pixels of a field above which a warning is due; sparse laser scans know 15 %."""
OUTSIDE_FRACTION = 0.5
"""Known pixels that leave the image above which the flow is implausible."""
SPLIT_LISTS = ("FlyingChairs_train_val.txt", "chairs_split.txt")
"""FlyingChairs' lists of splits."""
MAX_RESIDUAL_RATIO = 0.7
"""A different interpretation of the field is reported if its residual is below this fraction of the given one's, and of
that of no motion."""

BROKEN, SIZE = map(make_check, (IssueKind.FLOW_BROKEN, IssueKind.FLOW_SIZE))
FRAME_SIZE = make_check(IssueKind.FRAME_SIZE)
MAGNITUDE = Check(
    "flow-magnitude",
    "error",
    f"a flow field that moves more than {OUTSIDE_FRACTION:.0%} of its pixels out of the image",
    "Check unit and scale: flow is in pixels, x to the right, y down.",
)
CONSTANT = Check(
    "flow-constant",
    "warning",
    "a flow field with the same value everywhere",
    "Check the program that wrote it: no scene moves like this.",
)
INVALID = Check(
    "flow-invalid",
    "warning",
    f"a flow field of which more than {INVALID_FRACTION:.0%} is unknown",
    "Check the program that wrote it.",
)
SWAPPED_FRAMES = Check(
    "flow-frames-swapped",
    "error",
    "a flow field that fits its frames only when these are swapped",
    "Swap the frames, or use the flow of the other direction.",
)
SWAPPED_COMPONENTS = Check(
    "flow-components-swapped",
    "error",
    "a flow field that fits its frames only when x and y are swapped",
    "Write x (to the right) first, then y (down).",
)
UNEXPLAINED = Check(
    "flow-unexplained",
    "warning",
    "a flow field that makes its frames less similar than no motion",
    "Check whether it belongs to these frames; strong changes of illumination have the same effect.",
)

CHECKS = (
    *(*catalog.FILE_CHECKS, BROKEN, SIZE, FRAME_SIZE, MAGNITUDE, CONSTANT, INVALID),
    *(SWAPPED_FRAMES, SWAPPED_COMPONENTS, UNEXPLAINED),
)
"""All checks of this task."""


@dataclass(frozen=True)
class FieldStatistics(MapStatistics):
    """Statistics of a flow field.

    Attributes:
        outside: Fraction of the known pixels that leave the image.
        constant: The flow, if it is the same everywhere.
        residuals: Difference of the frames after warping, relative to that without motion, by interpretation of the
            field: "given", with "frames" swapped, with "components" swapped.
    """

    outside: float = 0.0
    constant: tuple[float, float] | None = None
    residuals: dict[str, float] | None = None


@dataclass(frozen=True)
class SplitListEdit:
    """Edits FlyingChairs' list of splits, which has a line for each pair in the order of their names."""

    root: Path

    def apply(self, plan: FixPlan) -> None:
        """Removes the lines of left-out pairs."""
        kept = [not plan.is_excluded(flow) for flow in sorted(self.root.glob("data/*_flow.flo"))]
        for file in (self.root / name for name in SPLIT_LISTS):
            if file.is_file():
                rewrite_list(file, _keep_in_order(kept), plan)


def _keep_in_order(kept: Sequence[bool]) -> Callable[[str], bool]:
    """Whether each next line stays; lines beyond the last do."""
    remaining = iter(kept)
    return lambda line: next(remaining, True)


def check(config: FlowConfig, context: CheckContext) -> None:
    """Checks every frame and flow field, and how well each field fits its frames.

    Raises:
        DataError: The dataset is not recognized.
    """
    scanner = ImageScanner(context, sequences=True)
    training_pairs: list[FlowPair] = []
    for split in list_file_splits(config.data, context):
        pairs = _list_pairs(config, split, context)
        if pairs and pairs == training_pairs:
            context.set_counts(split, **context.counts["train"])
            context.notes.append("train and val are the same pairs: they are checked once")
            continue
        training_pairs = pairs
        context.fix_plan.get_edit(config.data.path, lambda: SplitListEdit(Path(config.data.path or "")))
        frames = list(dict.fromkeys(path for pair in pairs for path in (pair.first, pair.second)))
        facts = dict(zip(frames, scanner.scan(split, frames)))
        context.set_counts(split, pairs=len(pairs))
        _check_pairs(context, split, pairs, facts)
    scanner.check_images()


def compute_statistics(pair: FlowPair) -> FieldStatistics:
    """Computes statistics of a pair's flow; never raises for what is wrong with it."""
    from densevision.datasets.flow_targets import read_flow_field

    first = read_gray(pair.first)
    try:
        truth = read_flow_field(pair, first.shape)
    except DenseVisionError as error:
        is_size = "size differs" in error.problem
        return FieldStatistics(failed=SIZE if is_size else BROKEN, message=error.problem)
    known = truth.valid
    if not known.any():
        return FieldStatistics(first.shape)
    flow, (height, width) = truth.flow, first.shape
    motion = flow[:, known]
    constant = tuple(motion[:, 0].tolist()) if np.ptp(motion, 1).max() == 0 else None
    x, y = _compute_targets(flow)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    visible = known if truth.occlusion is None else known & ~truth.occlusion
    residuals = _compute_residuals(first, read_gray(pair.second), flow, visible)
    return FieldStatistics(first.shape, float(known.mean()), 1 - float(inside[known].mean()), constant, residuals)


def _compute_residuals(first: np.ndarray, second: np.ndarray, flow: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Residual of each interpretation relative to no motion, over pixels that are inside the image in all of them."""
    variants = {
        "given": (first, second, flow),
        "frames": (second, first, flow),
        "components": (first, second, flow[::-1]),
    }
    targets = {name: _compute_targets(field) for name, (_, _, field) in variants.items()}
    height, width = first.shape
    for x, y in targets.values():
        known = known & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    without_motion = np.abs(first.astype(np.float32) - second)[known]
    if not without_motion.size or not without_motion.mean():
        return {}
    residuals = {}
    for name, (image, other, _) in variants.items():
        x, y = (axis.astype(np.float32) for axis in targets[name])
        warped = cv2.remap(other, x, y, cv2.INTER_LINEAR)
        residuals[name] = float(np.abs(image.astype(np.float32) - warped)[known].mean() / without_motion.mean())
    return residuals


def _compute_targets(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: flow.shape[1], : flow.shape[2]]
    return x + flow[0], y + flow[1]


def _list_pairs(config: FlowConfig, split: str, context: CheckContext) -> list[FlowPair]:
    from densevision.tasks.flow.dataset import list_pairs

    return list_split_files(config.data, split, lambda: list_pairs(config, split), context)


def _check_pairs(context: CheckContext, split: str, pairs: Sequence[FlowPair], facts: dict[Path, ImageInfo]) -> None:
    complete = []
    for pair in pairs:
        for frame in (pair.first, pair.second):
            context.fix_plan.exclude_together(frame, *_target_records(pair))
        first, second = facts[pair.first], facts[pair.second]
        fault = first.fault if first.fault is not None else second.fault
        if fault is not None:
            _leave_out(context, pair, FAULT_CHECKS[fault])
        elif first.size != second.size:
            context.add(FRAME_SIZE, pair.second, None, f"{second.size} after {first.size}")
            _leave_out(context, pair, FRAME_SIZE)
        elif pair.flow is not None:
            complete.append((pair, pair.flow))
    pairs = [pair for pair, _ in complete]
    scans = context.map_parallel(compute_statistics, pairs, f"{split}: flow")
    for (pair, flow), statistics in zip(complete, scans):
        for check, message in _find_failed(statistics):
            context.add(check, flow, None, message)
            if check.fix is not None:
                _leave_out(context, pair, check)


def _find_failed(statistics: FieldStatistics) -> list[tuple[Check, str]]:
    """The failed checks of a field with details."""
    if statistics.failed is not None:
        return [(statistics.failed, statistics.message)]
    failed = []
    if statistics.known <= 1 - INVALID_FRACTION:
        failed.append((INVALID, f"{1 - statistics.known:.1%}"))
    if statistics.constant is not None:
        failed.append((CONSTANT, "{:g}, {:g} everywhere".format(*statistics.constant)))
    if statistics.outside > OUTSIDE_FRACTION:
        return [*failed, (MAGNITUDE, f"{statistics.outside:.0%}")]
    residuals = statistics.residuals or {}
    if not residuals:
        return failed
    best = min(residuals, key=residuals.__getitem__)
    message = "residuals: " + ", ".join(f"{name} {ratio:.0%}" for name, ratio in residuals.items())
    if residuals[best] < MAX_RESIDUAL_RATIO * min(residuals["given"], 1):
        failed.append((SWAPPED_FRAMES if best == "frames" else SWAPPED_COMPONENTS, message))
    elif residuals["given"] > 1:
        failed.append((UNEXPLAINED, message))
    return failed


def _leave_out(context: CheckContext, pair: FlowPair, check: Check) -> None:
    """Leaves out only the flow: its frames may belong to other pairs."""
    for path in _target_records(pair):
        context.fix_plan.exclude(path, check.name)


def _target_records(pair: FlowPair) -> list[Path]:
    """The ground-truth files of a pair."""
    return [path for path in (pair.flow, pair.occlusion, pair.invalid, pair.visible, pair.mask) if path is not None]
