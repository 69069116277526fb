"""Checks of datasets of depth or disparity. No torch before a dataset is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densevision.datasets.checks import catalog
from densevision.datasets.checks.box_edits import rewrite_list
from densevision.datasets.checks.catalog import Check, make_check
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.fixes import FixPlan
from densevision.datasets.checks.image_scanner import FAULT_CHECKS, ImageInfo, ImageScanner, scan_image
from densevision.datasets.checks.map_statistics import MapStatistics
from densevision.datasets.checks.pair_similarity import read_gray, sample_evenly
from densevision.datasets.checks.registration import PointOffsets, measure_point_offsets
from densevision.datasets.checks.split_files import list_file_splits, list_split_files
from densevision.datasets.shards.location import locate_dataset
from densevision.errors import DataError, DenseVisionError
from densevision.io.depth import SATURATED, permits_8bit, read_numbers, write_depth
from densevision.io.label_issues import IssueKind
from densevision.tasks.depth.config import DepthConfig

if TYPE_CHECKING:
    from densevision.datasets.depth_layouts import DepthFrame

__all__ = ["DepthStatistics", "ListEdit", "check", "compute_statistics"]

MEDIAN_METERS = 0.05, 300.0
"""Plausible range of the median of metric depth."""
MEDIAN_PIXELS = 0.25, 0.5
"""Plausible range of the median disparity: pixels, and a fraction of the image's width."""
INVALID_FRACTION = 0.98
"""Unknown pixels of a map above which a warning is due; sparse laser scans know 4 %."""
STEREO_PAIRS = 24
"""Evenly spaced pairs of each split whose points are compared."""
TIMESTAMP_LISTS = ("rgb.txt", "depth.txt")
"""TUM's lists."""
MAX_ROW_OFFSET = 1.0
"""Median vertical offset of points in pixels above which a pair counts as not rectified."""

BROKEN = replace(make_check(IssueKind.DEPTH_BROKEN), fix="left out with its image")
BITS = make_check(IssueKind.DEPTH_BITS)
SIZE, RIGHT_SIZE = map(make_check, (IssueKind.DEPTH_SIZE, IssueKind.STEREO_SIZE))
UNSTATED = Check(
    "depth-scale-unstated",
    "error",
    "a depth map of integers whose scale is not stated",
    "Set data.scale to its steps per unit: KITTI 256, millimeters 1000, TUM 5000.",
)
SCALE = Check(
    "depth-scale",
    "error",
    f"a depth map whose median lies outside {MEDIAN_METERS[0]:g} to {MEDIAN_METERS[1]:g} meters, "
    f"or {MEDIAN_PIXELS[0]:g} pixels to {MEDIAN_PIXELS[1]:.0%} of the width for disparity",
    "Set data.scale: KITTI 256, millimeters 1000, TUM 5000; and data.target_kind, if it is disparity.",
)
NEGATIVE = Check(
    "depth-negative",
    "error",
    "a depth map with negative numbers",
    "Write 0 where depth is unknown, and disparity as positive numbers.",
    "those pixels set to 0, which is unknown",
)
CONSTANT = Check(
    "depth-constant",
    "error",
    "a depth map with the same number everywhere",
    "Check the program that wrote it: no scene is this flat.",
    "left out with its image",
)
INVALID = Check(
    "depth-invalid",
    "warning",
    f"a depth map of which more than {INVALID_FRACTION:.0%} is unknown",
    "Check the scale, and the value that marks unknown pixels.",
)
UNRECTIFIED_PAIR = Check(
    "stereo-unrectified",
    "error",
    f"a stereo pair whose points lie more than {MAX_ROW_OFFSET:g} pixel higher or lower in the other image",
    "Rectify the pairs with their calibration: disparity is measured along rows.",
)
SWAPPED = Check(
    "stereo-swapped",
    "error",
    "a stereo pair whose points lie further right in the right image",
    "Swap left and right.",
)

CHECKS = (
    *(*catalog.FILE_CHECKS, BROKEN, BITS, SIZE, RIGHT_SIZE, UNSTATED, SCALE, NEGATIVE, CONSTANT, INVALID),
    *(UNRECTIFIED_PAIR, SWAPPED),
)
"""All checks of this task."""


@dataclass(frozen=True)
class DepthStatistics(MapStatistics):
    """Statistics of a depth map in its unit; known are pixels with a positive number.

    Attributes:
        median: Of the known pixels; NaN without any.
        minimum: Of those.
        maximum: Of those.
        negative: Number of negative pixels.
    """

    median: float = np.nan
    minimum: float = np.nan
    maximum: float = np.nan
    negative: int = 0


@dataclass(frozen=True)
class ListEdit:
    """Removes the lines of left-out files from TUM's lists and from lists that the config names."""

    root: Path
    lists: tuple[Path, ...]

    def apply(self, plan: FixPlan) -> None:
        """Rewrites the lists."""
        for file in (*self.lists, *(path for name in TIMESTAMP_LISTS for path in sorted(self.root.glob(f"**/{name}")))):
            folders = (file.parent, self.root)

            def is_kept(line: str, folders: tuple[Path, ...] = folders) -> bool:
                words = [word.lstrip("/") for word in line.split()]
                return not any(plan.is_excluded(folder / word) for word in words for folder in folders)

            rewrite_list(file, is_kept, plan)


def check(config: DepthConfig, context: CheckContext) -> None:
    """Checks every image and depth map, and some of the stereo pairs.

    Raises:
        DataError: The dataset is not recognized, or neither split has an image.
    """
    scanner = ImageScanner(context, sequences=True)
    root = Path(locate_dataset(config.data))
    lists = [path for name in (config.data.train, config.data.val) if name for path in (Path(name), root / name)]
    context.fix_plan.get_edit(root, lambda: ListEdit(root, tuple(path for path in lists if path.is_file())))
    splits = list_file_splits(config.data, context)
    if not splits:
        return
    frames_by_split = {split: _list_frames(config, split, context) for split in splits}
    if not any(frames_by_split.values()):
        from densevision.tasks.depth.dataset import make_layout_hint

        problem = "neither split has an image with depth or a pair"
        raise DataError(problem, file=root, hint=make_layout_hint(root))
    for split, frames in frames_by_split.items():
        for frame in frames:
            context.fix_plan.exclude_together(frame.image, frame.truth, frame.right)
        facts = scanner.scan(split, [frame.image for frame in frames])
        _check_target_records(config, context, split, frames, facts)
        _check_pairs(context, split, frames, facts)
    scanner.check_images()


def compute_statistics(
    path: Path, scale: float | None, offset: float = 0.0, allow_8bit: bool = False
) -> DepthStatistics:
    """Computes statistics of a depth map; never raises for what is wrong with it."""
    try:
        file = read_numbers(path, allow_8bit)
    except DenseVisionError as error:
        is_8bit = "16 bits" in error.problem
        message = error.problem if path.is_file() else "no such file"
        return DepthStatistics(failed=BITS if is_8bit else BROKEN, message=message)
    numbers, size = file.depth, file.depth.shape
    if numbers.dtype.kind in "ui" and scale is None:
        return DepthStatistics(size, failed=UNSTATED, message=f"{numbers.min()} to {numbers.max()}")
    known = np.isfinite(numbers) & (numbers != 0) & file.valid
    if numbers.dtype == np.uint16:
        known &= numbers != SATURATED
    values = (numbers[known].astype(np.float64) - offset) / (scale or 1)
    negative = int((values < 0).sum())
    values = values[values > 0]
    if not values.size:
        return DepthStatistics(size, negative=negative)
    extremes = float(values.min()), float(values.max())
    return DepthStatistics(size, values.size / numbers.size, float(np.median(values)), *extremes, negative)


def _list_frames(config: DepthConfig, split: str, context: CheckContext) -> list[DepthFrame]:
    """The frames of a split; reports a split without any."""
    from densevision.tasks.depth.dataset import list_frames

    return list_split_files(config.data, split, lambda: list_frames(config, split, keep_pairs=True), context)


def _check_target_records(
    config: DepthConfig, context: CheckContext, split: str, frames: Sequence[DepthFrame], facts: Sequence[ImageInfo]
) -> None:
    data = config.data
    maps = [(frame.truth, frame, image) for frame, image in zip(frames, facts) if frame.truth is not None]

    def read(item: tuple[Path, DepthFrame, ImageInfo]) -> DepthStatistics:
        path, frame, _ = item
        return compute_statistics(path, data.scale or frame.scale, data.offset, permits_8bit(data.scale))

    for (path, frame, image), statistics in zip(maps, context.map_parallel(read, maps, f"{split}: depth")):
        for check, message in _find_failed(statistics, image, data.target_kind or frame.kind):
            context.add(check, path, None, message)
            if check.fix is not None and check is not NEGATIVE:
                _leave_out(context, frame, check)
        if statistics.negative:
            context.fix_plan.rewrite(path, _without_negatives(path), "rewritten without negative numbers")
    context.set_counts(split, depth_maps=len(maps))


def _find_failed(statistics: DepthStatistics, image: ImageInfo, kind: str) -> list[tuple[Check, str]]:
    """The failed checks of a map with details."""
    if statistics.failed is not None:
        return [(statistics.failed, statistics.message)]
    failed = []
    if image.fault is None and statistics.size != image.size:
        failed.append((SIZE, f"{statistics.size} for {image.size}"))
    if statistics.negative:
        failed.append((NEGATIVE, f"{statistics.negative} pixels"))
    if statistics.known <= 1 - INVALID_FRACTION:
        failed.append((INVALID, f"{1 - statistics.known:.1%}"))
    if np.isnan(statistics.median):
        return failed
    if statistics.minimum == statistics.maximum:
        return [*failed, (CONSTANT, f"{statistics.minimum:g} everywhere")]
    low, high = MEDIAN_METERS if kind == "metric" else (MEDIAN_PIXELS[0], MEDIAN_PIXELS[1] * statistics.size[1])
    if not low <= statistics.median <= high:
        unit = "m" if kind == "metric" else "px"
        failed.append((SCALE, f"median {statistics.median:.4g} {unit}"))
    return failed


def _check_pairs(context: CheckContext, split: str, frames: Sequence[DepthFrame], facts: Sequence[ImageInfo]) -> None:
    """Checks right images: files, sizes, and for some of them rectification."""
    pairs = [
        (frame.right, frame, left)
        for frame, left in zip(frames, facts)
        if frame.right is not None and left.fault is None
    ]
    complete = []
    scans = context.map_parallel(scan_image, [path for path, _, _ in pairs], f"{split}: right images")
    for (path, frame, left), right in zip(pairs, scans):
        if right.fault is not None:
            context.add(FAULT_CHECKS[right.fault], right.file, None, right.detail)
            _leave_out(context, frame, catalog.IMAGE_BROKEN)
        elif right.size != left.size:
            context.add(RIGHT_SIZE, right.file, None, f"{right.size} beside {left.size}")
            _leave_out(context, frame, RIGHT_SIZE)
        else:
            complete.append((frame.image, path))
    if not pairs:
        return
    context.set_counts(split, stereo_pairs=len(pairs))
    selected = sample_evenly(complete, STEREO_PAIRS)
    offsets_of_pairs = context.map_parallel(_measure_offsets, selected, f"{split}: rectification")
    for (image, _), offsets in zip(selected, offsets_of_pairs):
        if offsets is not None and offsets.spread > MAX_ROW_OFFSET:
            context.add(UNRECTIFIED_PAIR, image, None, f"{offsets.vertical:+.1f} px over {offsets.count} points")
        if offsets is not None and offsets.horizontal > 0.5:
            context.add(SWAPPED, image, None, f"{offsets.horizontal:+.1f} px over {offsets.count} points")


def _measure_offsets(pair: tuple[Path, Path]) -> PointOffsets | None:
    left, right = pair
    return measure_point_offsets(read_gray(left), read_gray(right))


def _leave_out(context: CheckContext, frame: DepthFrame, check: Check) -> None:
    for path in (frame.image, frame.truth, frame.right):
        if path is not None:
            context.fix_plan.exclude(path, check.name)


def _without_negatives(path: Path) -> Callable[[Path], None]:
    def write(target: Path) -> None:
        file = read_numbers(path)
        valid = np.isfinite(file.depth) & (file.depth > 0) & file.valid
        write_depth(target, file.depth, valid, kind=file.kind, unit=file.unit)

    return write
