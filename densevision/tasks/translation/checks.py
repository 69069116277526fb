"""Checks of a dataset of image pairs. No torch here."""

from __future__ import annotations

import sys

import numpy as np

from densevision.datasets.checks import catalog
from densevision.datasets.checks.catalog import Check, make_check
from densevision.datasets.checks.context import CheckContext, Location
from densevision.datasets.checks.image_scanner import ImageScanner
from densevision.datasets.checks.pair_alignment import PAIR_CHECKS, PairMeasurement, check_alignment, measure_pair
from densevision.datasets.checks.pair_similarity import sample_evenly
from densevision.datasets.checks.split_files import list_file_splits
from densevision.errors import DataError
from densevision.io.image import to_display
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.dataset import FileReader
from densevision.tasks.translation.layouts import Pairs, find_pairs, has_no_val_split

__all__ = ["CHECKS", "check"]

MAX_PAIRS = 200
"""Pairs of a split that are compared, evenly spaced."""
MIN_DIFFERENCE = 1.0
"""Mean difference in gray levels below which A and B count as the same image."""
MIN_STD = 1.0
"""Standard deviation in gray levels below which a target counts as blank."""

ALIKE = Check(
    "pair-alike",
    "warning",
    "a pair whose two images are the same",
    "Check the files: there is nothing to translate, and a network learns to copy.",
)
BLANK = Check(
    "target-blank",
    "warning",
    "a target of a single color",
    "Check whether the image failed to load or to render where it was made.",
)
CHECKS = (
    *catalog.FILE_CHECKS,
    *map(make_check, (IssueKind.PARTNER_MISSING, IssueKind.PARTNER_SIZE, IssueKind.HALVES_ODD)),
    *(ALIKE, BLANK, *PAIR_CHECKS),
)
"""All checks of this task."""


def check(config: TranslationConfig, context: CheckContext) -> None:
    """Checks every image, and how the two images of each pair are related.

    Raises:
        DataError: The dataset is not recognized.
    """
    scanner = ImageScanner(context)
    measurements: list[PairMeasurement] = []
    for split in list_file_splits(config.data, context):
        pairs = _find_pairs(config, split, context)
        if pairs is None:
            continue
        scanner.scan(split, [a for a, _ in pairs.files])
        if pairs.layout == "folders":
            for a, b in (*pairs.files, *pairs.excluded):
                context.fix_plan.exclude_together(a, b)
                context.fix_plan.exclude_together(b, a)
            ImageScanner(context).scan(f"{split} B", [b for _, b in pairs.files])
        context.set_counts(split, pairs=len(pairs.files))
        measurements += _compare_pairs(config, context, split, pairs)
    scanner.check_images()
    check_alignment(context, measurements)


def _find_pairs(config: TranslationConfig, split: str, context: CheckContext) -> Pairs | None:
    """The pairs of a split, all of them counted; None where there is no such split."""
    data, issues = config.data, LabelIssues("skip", max_examples=sys.maxsize)
    if split == "val" and data.val is None and has_no_val_split(config):
        context.notes.append("no folder has the name of a validation split: all images belong to one split")
        return None
    try:
        pairs = find_pairs(config, split, issues)
    except DataError as error:
        # The issues are already listed, and say more than that no image is left.
        if not issues.examples and (split == "train" or data.val is not None):
            raise
        _add_issues(context, issues)
        context.add(catalog.SPLIT_MISSING, data.path or "", split, error.problem)
        return None
    _add_issues(context, issues)
    context.notes += pairs.notes
    return pairs


def _add_issues(context: CheckContext, issues: LabelIssues) -> None:
    context.add_issues(issues)
    for example in issues.examples:
        context.fix_plan.exclude(example.file, make_check(example.kind).name)


def _compare_pairs(config: TranslationConfig, context: CheckContext, split: str, pairs: Pairs) -> list[PairMeasurement]:
    """Reports blank targets and pairs of equal images, and measures the others."""
    reader, measurements = FileReader(pairs, config), []
    readable = [row for row, pair in enumerate(pairs.files) if not any(map(context.fix_plan.is_excluded, pair))]
    rows = sample_evenly(readable, MAX_PAIRS)
    images = context.map_parallel(lambda row: tuple(map(to_display, reader.read(row))), rows, f"{split}: pairs")
    target_side = int(config.data.direction == "AtoB")
    for row, pair in zip(rows, images):
        a, b = pair
        target = pair[target_side]
        if target.std() < MIN_STD:
            context.add(BLANK, pairs.files[row][target_side], None, f"{target.mean():.0f}")
        elif pairs.layout != "images" and np.abs(a.astype(np.float32) - b).mean() < MIN_DIFFERENCE:
            context.add(ALIKE, pairs.files[row][0])
        elif pairs.layout != "images":
            measurements.append(measure_pair(Location(str(pairs.files[row][0])), a, b))
    return measurements
