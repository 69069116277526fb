"""What is looked for in a dataset of depth or disparity. No torch before a dataset is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densevision.datasets.checks import catalog as table
from densevision.datasets.checks.box_edits import rewrite_list
from densevision.datasets.checks.catalog import Check, of_kind
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.fixes import Repair
from densevision.datasets.checks.image_scanner import ImageInfo, ImageScanner, look
from densevision.datasets.checks.pair_similarity import evenly, gray_of
from densevision.datasets.checks.registration import Offsets, point_offsets
from densevision.datasets.scene_splits import scene_splits
from densevision.errors import DataError, DenseVisionError
from densevision.io.depth import SATURATED, read_numbers, write_depth
from densevision.io.label_issues import Kind
from densevision.tasks.depth.config import DepthConfig

if TYPE_CHECKING:
    from densevision.datasets.depth_layouts import Frame

METERS = 0.05, 300.0
"""Between which the median of a map of metric depth lies."""
PIXELS = 0.25, 0.5
"""The median of a map of disparity lies between so many pixels and this share of the image's width."""
INVALID_SHARE = 0.98
"""Of a map's pixels; sparse laser scans know 4 %, so only more than this is worth a look."""
STEREO_PAIRS = 24
"""Pairs of each split whose points are compared, evenly spaced."""
TIMES = ("rgb.txt", "depth.txt")
"""TUM's lists."""
UNRECTIFIED = 1.0
"""Pixels by which points of a pair lie higher or lower, in the median, before it counts as not rectified."""

BROKEN = replace(of_kind(Kind.DEPTH_BROKEN), fix="left out with its image")
BITS = of_kind(Kind.DEPTH_BITS)
SIZE, RIGHT_SIZE = map(of_kind, (Kind.DEPTH_SIZE, Kind.STEREO_SIZE))
UNSTATED = Check(
    "depth-scale-unstated",
    "error",
    "a depth map of integers whose scale is not stated",
    "Set data.scale to its steps per unit: KITTI 256, millimeters 1000, TUM 5000.",
)
SCALE = Check(
    "depth-scale",
    "error",
    f"a depth map whose median lies outside {METERS[0]:g} to {METERS[1]:g} meters, or {PIXELS[0]:g} pixels to "
    f"{PIXELS[1]:.0%} of the width for disparity",
    "Set data.scale: KITTI 256, millimeters 1000, TUM 5000; and data.truth, if it is disparity.",
)
NEGATIVE = Check(
    "depth-negative",
    "error",
    "a depth map with numbers that are negative or NaN",
    "Write 0 where nothing is known.",
    "those pixels 0, which is not known",
)
CONSTANT = Check(
    "depth-constant",
    "error",
    "a depth map with the same number everywhere",
    "Look at what wrote it: no scene is so flat.",
    "left out with its image",
)
INVALID = Check(
    "depth-invalid",
    "warning",
    f"a depth map of which more than {INVALID_SHARE:.0%} is not known",
    "Look whether the scale, or what means not known, is right.",
)
UNRECTIFIED_PAIR = Check(
    "stereo-unrectified",
    "error",
    f"a stereo pair whose points lie more than {UNRECTIFIED:g} pixel higher or lower in the other image",
    "Rectify the pairs with their calibration: disparity is searched along rows.",
)
SWAPPED = Check(
    "stereo-swapped",
    "error",
    "a stereo pair whose points lie further right in the right image",
    "Exchange left and right.",
)

CHECKS = (
    *(*table.SHARED, BROKEN, BITS, SIZE, RIGHT_SIZE, UNSTATED, SCALE, NEGATIVE, CONSTANT, INVALID),
    *(UNRECTIFIED_PAIR, SWAPPED),
)
"""All that `check` may find."""


@dataclass(frozen=True)
class Reading:
    """What a depth map tells: its size, and its numbers in their unit; or the check that it fails.

    Attributes:
        size: (height, width).
        known: Share of pixels with a sound number.
        median, least, most: Of those; NaN where there are none.
        wrong: Pixels that are negative or NaN.
        fault: Why it cannot be read, if so.
        words: What was found.
    """

    size: tuple[int, int] = (0, 0)
    known: float = 0.0
    median: float = np.nan
    least: float = np.nan
    most: float = np.nan
    wrong: int = 0
    fault: Check | None = None
    words: str = ""


@dataclass(frozen=True)
class ListEdit:
    """TUM's lists of times and files, and lists that the config names, without lines of files that were left out."""

    root: Path
    named: tuple[Path, ...]

    def apply(self, repair: Repair) -> None:
        """Rewrites the lists."""
        for file in (*self.named, *(path for name in TIMES for path in sorted(self.root.glob(f"**/{name}")))):
            folders = (file.parent, self.root)

            def stays(line: str, folders: tuple[Path, ...] = folders) -> bool:
                words = [word.lstrip("/") for word in line.split()]
                return not any(repair.is_left_out(folder / word) for word in words for folder in folders)

            rewrite_list(file, stays, repair)


def check(config: DepthConfig, context: CheckContext) -> None:
    """Looks at every image and depth map, and at some of the stereo pairs.

    Raises:
        DataError: The dataset is not recognized, or neither split has an image.
    """
    scenes = scene_splits(config.data.path or "")
    scanner = ImageScanner(context, sequences=True)
    root = Path(config.data.path or "")
    named = [path for name in (config.data.train, config.data.val) if name for path in (Path(name), root / name)]
    context.repair.edit(root, lambda: ListEdit(root, tuple(path for path in named if path.is_file())))
    if scenes is not None:
        for split in ("train", "val"):
            context.counted(split, scenes=scenes[split].count)
        return
    listed = {split: _listed(config, split, context) for split in ("train", "val")}
    if not any(listed.values()):
        hint = "Images and depth lie in rgb/ and depth/, pairs in left/ and right/, or as a known dataset has them."
        raise DataError("neither split has an image with depth or a pair", file=root, hint=hint)
    for split, frames in listed.items():
        for frame in frames:
            context.repair.follow(frame.image, frame.truth, frame.right)
        facts = scanner.look(split, [frame.image for frame in frames])
        _check_ground_truths(config, context, split, frames, facts)
        _check_pairs(context, split, frames, facts)
    scanner.judge()


def read_truth(path: Path, scale: float | None) -> Reading:
    """Looks at every pixel of a depth map; never raises for what is wrong with it."""
    try:
        found = read_numbers(path)
    except DenseVisionError as failure:
        eight_bits = "16 bits" in failure.problem
        words = failure.problem if path.is_file() else "no such file"
        return Reading(fault=BITS if eight_bits else BROKEN, words=words)
    numbers, size = found.depth, found.depth.shape
    if numbers.dtype.kind in "ui" and scale is None:
        return Reading(size, fault=UNSTATED, words=f"{numbers.min()} to {numbers.max()}")
    known = np.isfinite(numbers) & (numbers > 0) & found.valid
    if numbers.dtype == np.uint16:
        known &= numbers != SATURATED
    wrong = int(((np.isnan(numbers) | (numbers < 0)) & found.valid).sum())
    sound = numbers[known].astype(np.float64) / (scale or 1)
    if not sound.size:
        return Reading(size, wrong=wrong)
    extremes = float(sound.min()), float(sound.max())
    return Reading(size, float(known.mean()), float(np.median(sound)), *extremes, wrong)


def _listed(config: DepthConfig, split: str, context: CheckContext) -> list[Frame]:
    """The frames of a split; none where there are none."""
    from densevision.tasks.depth.dataset import frames_of

    try:
        frames, notes = frames_of(config, split, every=True)
    except DataError as failure:
        if getattr(config.data, split) is not None or not Path(config.data.path or "").is_dir():
            raise
        context.add(table.EMPTY_SPLIT, config.data.path or "", split, failure.problem)
        return []
    context.notes += notes
    return frames


def _check_ground_truths(
    config: DepthConfig, context: CheckContext, split: str, frames: Sequence[Frame], facts: Sequence[ImageInfo]
) -> None:
    data = config.data
    rows = [row for row, frame in enumerate(frames) if frame.truth is not None]

    def read(row: int) -> Reading:
        return read_truth(frames[row].truth, data.scale or frames[row].scale)

    for row, reading in zip(rows, context.spread(read, rows, f"{split}: depth")):
        frame = frames[row]
        kind = data.truth or frame.kind
        for check, words in _faults(reading, facts[row], kind):
            context.add(check, frame.truth, None, words)
            if check.fix is not None and check is not NEGATIVE:
                _leave_out(context, frame, check)
        if reading.wrong:
            context.repair.rewrite(frame.truth, _without_negatives(frame.truth), "written anew without negative or NaN")
    context.counted(split, depth_maps=len(rows))


def _faults(reading: Reading, image: ImageInfo, kind: str) -> list[tuple[Check, str]]:
    if reading.fault is not None:
        return [(reading.fault, reading.words)]
    found = []
    if image.fault is None and reading.size != image.size:
        found.append((SIZE, f"{reading.size} for {image.size}"))
    if reading.wrong:
        found.append((NEGATIVE, f"{reading.wrong} pixels"))
    if reading.known <= 1 - INVALID_SHARE:
        found.append((INVALID, f"{1 - reading.known:.1%}"))
    if np.isnan(reading.median):
        return found
    if reading.least == reading.most:
        return [*found, (CONSTANT, f"{reading.least:g} everywhere")]
    low, high = METERS if kind == "metric" else (PIXELS[0], PIXELS[1] * reading.size[1])
    if not low <= reading.median <= high:
        unit = "m" if kind == "metric" else "px"
        found.append((SCALE, f"median {reading.median:.4g} {unit}"))
    return found


def _check_pairs(context: CheckContext, split: str, frames: Sequence[Frame], facts: Sequence[ImageInfo]) -> None:
    """Right images: their files, their sizes, and for some of them where their points lie."""
    rows = [row for row, frame in enumerate(frames) if frame.right is not None and facts[row].fault is None]
    sound = []
    for row, right in zip(rows, context.spread(lambda row: look(frames[row].right), rows, f"{split}: right images")):
        frame, left = frames[row], facts[row]
        if right.fault is not None:
            context.add({"missing": table.MISSING, "truncated": table.TRUNCATED}.get(right.fault, table.BROKEN),
                       right.file, None, right.words)  # fmt: skip
            _leave_out(context, frame, table.BROKEN)
        elif right.size != left.size:
            context.add(RIGHT_SIZE, right.file, None, f"{right.size} beside {left.size}")
            _leave_out(context, frame, RIGHT_SIZE)
        else:
            sound.append(frame)
    if not rows:
        return
    context.counted(split, stereo_pairs=len(rows))
    chosen = evenly(sound, STEREO_PAIRS)
    measured = context.spread(_offsets, chosen, f"{split}: rectification")
    for frame, offsets in zip(chosen, measured):
        if offsets is not None and offsets.spread > UNRECTIFIED:
            context.add(UNRECTIFIED_PAIR, frame.image, None, f"{offsets.vertical:+.1f} px over {offsets.count} points")
        if offsets is not None and offsets.horizontal > 0.5:
            context.add(SWAPPED, frame.image, None, f"{offsets.horizontal:+.1f} px over {offsets.count} points")


def _offsets(frame: Frame) -> Offsets | None:
    return point_offsets(gray_of(frame.image), gray_of(frame.right))


def _leave_out(context: CheckContext, frame: Frame, check: Check) -> None:
    for path in (frame.image, frame.truth, frame.right):
        if path is not None:
            context.repair.leave_out(path, check.name)


def _without_negatives(path: Path):
    def write(target: Path) -> None:
        found = read_numbers(path)
        sound = np.isfinite(found.depth) & (found.depth > 0) & found.valid
        write_depth(target, found.depth, sound, kind=found.kind, unit=found.unit)

    return write
