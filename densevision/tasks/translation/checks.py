"""What is looked for in a dataset of pairs. No torch here."""

from __future__ import annotations

import sys

import numpy as np

from densevision.datasets.checks import catalog as table
from densevision.datasets.checks.catalog import Check, of_kind
from densevision.datasets.checks.context import CheckContext, Place
from densevision.datasets.checks.image_scanner import ImageScanner
from densevision.datasets.checks.pair_alignment import COUNTERPARTS, Likeness, compare, judge_counterparts
from densevision.datasets.checks.pair_similarity import evenly
from densevision.datasets.scene_splits import scene_splits
from densevision.errors import DataError
from densevision.io.image import to_display
from densevision.io.label_issues import Findings, Kind
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.dataset import FileReader
from densevision.tasks.translation.layouts import Pairs, find_pairs, is_undivided

PAIRS = 200
"""Pairs of a split that are compared, evenly spaced."""
SAME = 1.0
"""Mean difference in gray levels below which A and B are one image."""
FLAT = 1.0
"""Standard deviation in gray levels below which an answer shows nothing."""

ALIKE = Check(
    "pair-alike",
    "warning",
    "a pair whose two images are the same",
    "Look at the files: there is nothing to translate, and a network learns to copy.",
)
BLANK = Check(
    "answer-blank",
    "warning",
    "an answer of a single color",
    "Look whether the image failed to load or to render where it was made.",
)
CHECKS = (
    *table.SHARED,
    *map(of_kind, (Kind.PARTNER_MISSING, Kind.PARTNER_SIZE, Kind.HALVES_ODD)),
    *(ALIKE, BLANK, *COUNTERPARTS),
)
"""All that `check` may find."""


def check(config: TranslationConfig, context: CheckContext) -> None:
    """Looks at every image, and at what the two of a pair have to do with each other.

    Raises:
        DataError: The dataset is not recognized.
    """
    scenes = scene_splits(config.data.path or "")
    scanner, likenesses = ImageScanner(context), []
    for split in ("train", "val"):
        if scenes is not None:
            context.counted(split, scenes=scenes[split].count)
            continue
        pairs = _listed(config, split, context)
        if pairs is None:
            continue
        scanner.look(split, [a for a, _ in pairs.files])
        if pairs.layout == "folders":
            for a, b in (*pairs.files, *pairs.dropped):
                context.repair.follow(a, b)
                context.repair.follow(b, a)
            ImageScanner(context).look(f"{split} B", [b for _, b in pairs.files])
        context.counted(split, pairs=len(pairs.files))
        likenesses += _compare(config, context, split, pairs)
    scanner.judge()
    judge_counterparts(context, likenesses)


def _listed(config: TranslationConfig, split: str, context: CheckContext) -> Pairs | None:
    data, findings = config.data, Findings("skip", remembered=sys.maxsize)
    if split == "val" and data.val is None and is_undivided(config):
        context.notes.append("no folder's name says that it validates: all images are of one split")
        return None
    try:
        pairs = find_pairs(config, split, findings)
    except DataError as failure:
        # What was found stands in the table, and says more than that nothing is left.
        if not findings.examples and (split == "train" or data.val is not None):
            raise
        _take(context, findings)
        context.add(table.EMPTY_SPLIT, data.path or "", split, failure.problem)
        return None
    _take(context, findings)
    context.notes += pairs.notes
    return pairs


def _take(context: CheckContext, findings: Findings) -> None:
    context.take(findings)
    for example in findings.examples:
        context.repair.leave_out(example.file, of_kind(example.kind).name)


def _compare(config: TranslationConfig, context: CheckContext, split: str, pairs: Pairs) -> list[Likeness]:
    """Reports pairs that show nothing, or twice the same; gives what the others tell."""
    reader, found = FileReader(pairs, config), []
    rows = evenly([row for row in range(len(reader)) if _readable(context, pairs, row)], PAIRS)
    sides = context.spread(lambda row: tuple(map(to_display, reader.read(row))), rows, f"{split}: pairs")
    for row, (a, b) in zip(rows, sides):
        answer = b if config.data.direction == "AtoB" else a
        if answer.std() < FLAT:
            context.add(BLANK, pairs.files[row][config.data.direction == "AtoB"], None, f"{answer.mean():.0f}")
        elif pairs.layout != "images" and np.abs(a.astype(np.float32) - b).mean() < SAME:
            context.add(ALIKE, pairs.files[row][0])
        elif pairs.layout != "images":
            found.append(compare(Place(str(pairs.files[row][0])), a, b))
    return found


def _readable(context: CheckContext, pairs: Pairs, row: int) -> bool:
    return not any(context.repair.is_left_out(file) for file in pairs.files[row])
