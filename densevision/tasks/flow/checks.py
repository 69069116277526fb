"""What is looked for in a dataset of motion. No torch before a dataset is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from densevision.datasets.checks import catalog as table
from densevision.datasets.checks.box_edits import rewrite_list
from densevision.datasets.checks.catalog import Check, of_kind
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.fixes import Repair
from densevision.datasets.checks.image_scanner import FAULTS, ImageInfo, ImageScanner
from densevision.datasets.checks.pair_similarity import gray_of
from densevision.datasets.scene_splits import scene_splits
from densevision.errors import DataError, DenseVisionError
from densevision.io.label_issues import Kind
from densevision.tasks.flow.config import FlowConfig

if TYPE_CHECKING:
    from densevision.datasets.flow_layouts import Pair

INVALID_SHARE = 0.98
"""Of a field's pixels; sparse laser scans know 15 %, so only more than this is worth a look."""
OUTSIDE_SHARE = 0.5
"""Of the known pixels; that so many leave the image is no motion of a video."""
MARKS = ("FlyingChairs_train_val.txt", "chairs_split.txt")
"""FlyingChairs' lists of splits."""
BETTER = 0.7
"""What another reading of the field may leave of what the given one leaves of the difference, to be believed instead;
and of the difference itself."""

BROKEN, SIZE = map(of_kind, (Kind.FLOW_BROKEN, Kind.FLOW_SIZE))
FRAME_SIZE = of_kind(Kind.FRAME_SIZE)
MAGNITUDE = Check(
    "flow-magnitude",
    "error",
    f"a field of motion that leads more than {OUTSIDE_SHARE:.0%} of its pixels out of the image",
    "Look at unit and scale: motion is in pixels, x to the right, y down.",
)
CONSTANT = Check(
    "flow-constant",
    "warning",
    "a field of motion with the same number everywhere",
    "Look at what wrote it: nothing moves so.",
)
INVALID = Check(
    "flow-invalid",
    "warning",
    f"a field of motion of which more than {INVALID_SHARE:.0%} is not known",
    "Look at what wrote it.",
)
SWAPPED_FRAMES = Check(
    "flow-frames-swapped",
    "error",
    "a field of motion that explains its frames only when they are exchanged",
    "Exchange the frames, or bring the motion of the other direction.",
)
SWAPPED_PARTS = Check(
    "flow-components-swapped",
    "error",
    "a field of motion that explains its frames only when x and y are exchanged",
    "Write x (to the right) first, then y (down).",
)
UNEXPLAINED = Check(
    "flow-unexplained",
    "warning",
    "a field of motion that makes its frames less alike than no motion at all",
    "Look whether it belongs to these frames; strong changes of light do this too.",
)

CHECKS = (
    *(*table.SHARED, BROKEN, SIZE, FRAME_SIZE, MAGNITUDE, CONSTANT, INVALID),
    *(SWAPPED_FRAMES, SWAPPED_PARTS, UNEXPLAINED),
)
"""All that `check` may find."""


@dataclass(frozen=True)
class Reading:
    """What a field of motion tells.

    Attributes:
        size: (height, width).
        known: Share of pixels whose motion is known.
        outside: Share of those that leave the image.
        constant: The motion, where it is the same everywhere.
        left: What is left of the difference between the frames, in parts of what no motion leaves, by each reading of
            the field: "given", "frames" exchanged, "parts" exchanged.
        fault: Why it cannot be read, if so.
        words: What was found.
    """

    size: tuple[int, int] = (0, 0)
    known: float = 0.0
    outside: float = 0.0
    constant: tuple[float, float] | None = None
    left: dict[str, float] | None = None
    fault: Check | None = None
    words: str = ""


@dataclass(frozen=True)
class MarksEdit:
    """FlyingChairs' list of splits, which has a line for each pair in the order of their names."""

    root: Path

    def apply(self, repair: Repair) -> None:
        """Rewrites the list without the lines of pairs that were left out."""
        flows = sorted(self.root.glob("data/*_flow.flo"))
        for file in (self.root / name for name in MARKS):
            if file.is_file():
                stays = iter([not repair.is_left_out(flow) for flow in flows])
                rewrite_list(file, lambda line, stays=stays: next(stays, True), repair)


def check(config: FlowConfig, context: CheckContext) -> None:
    """Looks at every frame and every field of motion, and how well each explains its frames.

    Raises:
        DataError: The dataset is not recognized.
    """
    scenes = scene_splits(config.data.path or "")
    scanner = ImageScanner(context, sequences=True)
    trained: list[Pair] = []
    for split in ("train", "val"):
        if scenes is not None:
            context.counted(split, scenes=scenes[split].count)
            continue
        pairs = _listed(config, split, context)
        if pairs and pairs == trained:
            context.counted(split, **context.counts["train"])
            context.notes.append("train and val are the same pairs: they are looked at once, and nothing leaks")
            continue
        trained = pairs
        context.repair.edit(config.data.path, lambda: MarksEdit(Path(config.data.path or "")))
        frames = list(dict.fromkeys(path for pair in pairs for path in (pair.first, pair.second)))
        facts = dict(zip(frames, scanner.look(split, frames)))
        context.counted(split, pairs=len(pairs))
        _check_pairs(context, split, pairs, facts)
    scanner.judge()


def read_motion(pair: Pair) -> Reading:
    """Looks at every pixel of a pair's motion; never raises for what is wrong with it."""
    from densevision.datasets.flow_targets import read_truth

    first = gray_of(pair.first)
    try:
        truth = read_truth(pair, first.shape)
    except DenseVisionError as failure:
        size = "size of its image" in failure.problem
        return Reading(fault=SIZE if size else BROKEN, words=failure.problem)
    known = truth.valid
    if not known.any():
        return Reading(first.shape)
    flow, (height, width) = truth.flow, first.shape
    moves = flow[:, known]
    constant = tuple(moves[:, 0].tolist()) if np.ptp(moves, 1).max() == 0 else None
    x, y = _targets(flow)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    visible = known if truth.occlusion is None else known & ~truth.occlusion
    left = _differences(first, gray_of(pair.second), flow, visible)
    return Reading(first.shape, float(known.mean()), 1 - float(inside[known].mean()), constant, left)


def _differences(first: np.ndarray, second: np.ndarray, flow: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """What each reading of the field leaves of the mean absolute difference, over pixels that all of them know."""
    readings = {"given": (first, second, flow), "frames": (second, first, flow), "parts": (first, second, flow[::-1])}
    targets = {name: _targets(field) for name, (_, _, field) in readings.items()}
    height, width = first.shape
    for x, y in targets.values():
        known = known & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    still = np.abs(first.astype(np.float32) - second)[known]
    if not still.size or not still.mean():
        return {}
    left = {}
    for name, (own, other, _) in readings.items():
        x, y = (part.astype(np.float32) for part in targets[name])
        fetched = cv2.remap(other, x, y, cv2.INTER_LINEAR)
        left[name] = float(np.abs(own.astype(np.float32) - fetched)[known].mean() / still.mean())
    return left


def _targets(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: flow.shape[1], : flow.shape[2]]
    return x + flow[0], y + flow[1]


def _listed(config: FlowConfig, split: str, context: CheckContext) -> list[Pair]:
    from densevision.tasks.flow.dataset import pairs_of

    try:
        pairs, notes = pairs_of(config, split)
    except DataError as failure:
        if getattr(config.data, split) is not None or not Path(config.data.path or "").is_dir():
            raise
        context.add(table.EMPTY_SPLIT, config.data.path or "", split, failure.problem)
        return []
    context.notes += notes
    return pairs


def _check_pairs(context: CheckContext, split: str, pairs: Sequence[Pair], facts: dict[Path, ImageInfo]) -> None:
    sound = []
    for pair in pairs:
        for frame in (pair.first, pair.second):
            context.repair.follow(frame, *_ground_truths(pair))
        first, second = facts[pair.first], facts[pair.second]
        if first.fault is not None or second.fault is not None:
            _leave_out(context, pair, FAULTS[first.fault or second.fault])
        elif first.size != second.size:
            context.add(FRAME_SIZE, pair.second, None, f"{second.size} after {first.size}")
            _leave_out(context, pair, FRAME_SIZE)
        elif pair.flow is not None:
            sound.append(pair)
    for pair, reading in zip(sound, context.spread(read_motion, sound, f"{split}: motion")):
        for check, words in _faults(reading):
            context.add(check, pair.flow, None, words)
            if check.fix is not None:
                _leave_out(context, pair, check)


def _faults(reading: Reading) -> list[tuple[Check, str]]:
    if reading.fault is not None:
        return [(reading.fault, reading.words)]
    found = []
    if reading.known <= 1 - INVALID_SHARE:
        found.append((INVALID, f"{1 - reading.known:.1%}"))
    if reading.constant is not None:
        found.append((CONSTANT, "{:g}, {:g} everywhere".format(*reading.constant)))
    if reading.outside > OUTSIDE_SHARE:
        return [*found, (MAGNITUDE, f"{reading.outside:.0%}")]
    left = reading.left or {}
    if not left:
        return found
    best = min(left, key=left.__getitem__)
    words = "left of the difference: " + ", ".join(f"{name} {part:.0%}" for name, part in left.items())
    if left[best] < BETTER * min(left["given"], 1):
        found.append((SWAPPED_FRAMES if best == "frames" else SWAPPED_PARTS, words))
    elif left["given"] > 1:
        found.append((UNEXPLAINED, words))
    return found


def _leave_out(context: CheckContext, pair: Pair, check: Check) -> None:
    """Leaves out the motion alone: its frames may be of other pairs, too."""
    for path in _ground_truths(pair):
        context.repair.leave_out(path, check.name)


def _ground_truths(pair: Pair) -> list[Path]:
    """The files that say something of a pair."""
    return [path for path in (pair.flow, pair.occlusion, pair.invalid, pair.visible, pair.mask) if path is not None]
