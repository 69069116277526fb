"""What is looked for in a dataset of pairs. No torch here."""

from __future__ import annotations

import sys

import numpy as np

from densevision.checks import table
from densevision.checks.counterparts import COUNTERPARTS, Likeness, compare, judge_counterparts
from densevision.checks.pictures import Album
from densevision.checks.semblance import evenly
from densevision.checks.survey import Place, Survey
from densevision.checks.table import Check, of_kind
from densevision.data.scene_splits import scene_splits
from densevision.errors import DataError
from densevision.io.findings import Findings, Kind
from densevision.io.image import to_display
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.data import FileReader
from densevision.tasks.translation.pairs import Pairs, find_pairs, is_undivided

PAIRS = 200
"""Pairs of a split that are compared, evenly spaced."""
SAME = 1.0
"""Mean difference in grey levels below which A and B are one picture."""
FLAT = 1.0
"""Standard deviation in grey levels below which an answer shows nothing."""

ALIKE = Check(
    "pair-alike",
    "warning",
    "a pair whose two pictures are the same",
    "Look at the files: there is nothing to translate, and a network learns to copy.",
)
BLANK = Check(
    "answer-blank",
    "warning",
    "an answer of a single colour",
    "Look whether the picture failed to load or to render where it was made.",
)
CHECKS = (
    *table.SHARED,
    *map(of_kind, (Kind.PARTNER_MISSING, Kind.PARTNER_SIZE, Kind.HALVES_ODD)),
    *(ALIKE, BLANK, *COUNTERPARTS),
)
"""All that `check` may find."""


def check(config: TranslationConfig, survey: Survey) -> None:
    """Looks at every picture, and at what the two of a pair have to do with each other.

    Raises:
        DataError: The dataset is not recognised.
    """
    scenes = scene_splits(config.data.path or "")
    album, likenesses = Album(survey), []
    for split in ("train", "val"):
        if scenes is not None:
            survey.counted(split, scenes=scenes[split].count)
            continue
        pairs = _listed(config, split, survey)
        if pairs is None:
            continue
        album.look(split, [a for a, _ in pairs.files])
        if pairs.layout == "folders":
            for a, b in (*pairs.files, *pairs.dropped):
                survey.repair.follow(a, b)
                survey.repair.follow(b, a)
            Album(survey).look(f"{split} B", [b for _, b in pairs.files])
        survey.counted(split, pairs=len(pairs.files))
        likenesses += _compare(config, survey, split, pairs)
    album.judge()
    judge_counterparts(survey, likenesses)


def _listed(config: TranslationConfig, split: str, survey: Survey) -> Pairs | None:
    data, findings = config.data, Findings("skip", remembered=sys.maxsize)
    if split == "val" and data.val is None and is_undivided(config):
        survey.notes.append("no folder's name says that it validates: all pictures are of one split")
        return None
    try:
        pairs = find_pairs(config, split, findings)
    except DataError as failure:
        # What was found stands in the table, and says more than that nothing is left.
        if not findings.examples and (split == "train" or data.val is not None):
            raise
        _take(survey, findings)
        survey.add(table.EMPTY_SPLIT, data.path or "", split, failure.problem)
        return None
    _take(survey, findings)
    survey.notes += pairs.notes
    return pairs


def _take(survey: Survey, findings: Findings) -> None:
    survey.take(findings)
    for example in findings.examples:
        survey.repair.leave_out(example.file, of_kind(example.kind).name)


def _compare(config: TranslationConfig, survey: Survey, split: str, pairs: Pairs) -> list[Likeness]:
    """Reports pairs that show nothing, or twice the same; gives what the others tell."""
    reader, found = FileReader(pairs, config), []
    rows = evenly([row for row in range(len(reader)) if _readable(survey, pairs, row)], PAIRS)
    sides = survey.spread(lambda row: tuple(map(to_display, reader.read(row))), rows, f"{split}: pairs")
    for row, (a, b) in zip(rows, sides):
        answer = b if config.data.direction == "AtoB" else a
        if answer.std() < FLAT:
            survey.add(BLANK, pairs.files[row][config.data.direction == "AtoB"], None, f"{answer.mean():.0f}")
        elif pairs.layout != "pictures" and np.abs(a.astype(np.float32) - b).mean() < SAME:
            survey.add(ALIKE, pairs.files[row][0])
        elif pairs.layout != "pictures":
            found.append(compare(Place(str(pairs.files[row][0])), a, b))
    return found


def _readable(survey: Survey, pairs: Pairs, row: int) -> bool:
    return not any(survey.repair.is_left_out(file) for file in pairs.files[row])
