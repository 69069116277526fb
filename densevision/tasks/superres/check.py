"""What is looked for in a dataset of pictures to be made larger or better. No torch here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from densevision.checks import table
from densevision.checks.compression import blockiness, jpeg_quality
from densevision.checks.pictures import Album, Facts
from densevision.checks.registration import outline_shift
from densevision.checks.semblance import evenly, grey_of, signal_to_noise
from densevision.checks.survey import Survey
from densevision.checks.table import Check, of_kind
from densevision.data.picture_pairs import PicturePairs, find_pairs, is_undivided
from densevision.data.scene_splits import scene_splits
from densevision.errors import DataError
from densevision.io.findings import Findings, Kind
from densevision.tasks.superres.config import HELD_OUT, SuperresConfig

KERNELS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
"""How inputs may have been made of their targets; Pillow widens kernels as MATLAB does, and agrees to a grey level."""
EXACT = 38.0
"""PSNR in dB from which an input is a target's reduction by a kernel; rounding leaves 50, another kernel less."""
MARGIN = 1.5
"""dB by which another kernel must be nearer than bicubic."""
SHIFT = 0.2
"""Pixels of the input by which it may be shifted."""
PEAK = 0.15
"""Least peak of the phase correlation for a shift to be believed."""
UNRELATED = 0.5
"""Correlation with the reduced target below which an input shows something else."""
PAIRS = 100
"""Pairs of a split that are compared, evenly spaced."""
QUALITY = 90
"""JPEG quality below which a target counts as compressed."""
BLOCKS = 1.12
"""How much steeper the rims of 8 x 8 blocks may be than what lies between them."""

PARTNER, PAIR_SIZE, SMALL = map(of_kind, (Kind.PARTNER_MISSING, Kind.PAIR_SIZE, Kind.PICTURE_SMALL))
OTHER_KERNEL = Check(
    "input-other-kernel",
    "warning",
    "an input that was reduced by another kernel than bicubic",
    "Figures of the papers are for bicubic: make the inputs anew, or say so beside the figures.",
)
NOT_REDUCED = Check(
    "input-not-reduced",
    "warning",
    "an input that is no kernel's reduction of its target",
    "Fine for pictures that were spoilt on purpose; otherwise make the inputs anew from the targets.",
)
SHIFTED = Check(
    "pair-shifted",
    "error",
    f"an input that is shifted by more than {SHIFT:g} of its pixels",
    "Make the inputs anew with corners aligned: a network learns the shift.",
)
UNRELATED_PAIR = Check(
    "pair-unrelated",
    "error",
    "an input that shows something else than its target",
    "Look at the names: another picture's partner was taken.",
    "left out",
)
COMPRESSED = Check(
    "target-compressed",
    "warning",
    "a target that was compressed with loss",
    "Bring the originals: a network learns to draw the blocks.",
)
CHECKS = (
    *(*table.SHARED, PARTNER, PAIR_SIZE, SMALL),
    *(OTHER_KERNEL, NOT_REDUCED, SHIFTED, UNRELATED_PAIR, COMPRESSED),
)
"""All that `check` may find."""


@dataclass(frozen=True)
class Likeness:
    """How an input is related to its target.

    Attributes:
        decibels: Kernel -> PSNR of the input to the target's reduction.
        correlation: With the bicubic reduction.
        shift: Right and down, in pixels of the input.
        peak: How much the shift can be believed, 0 to 1.
    """

    decibels: dict[str, float]
    correlation: float
    shift: tuple[float, float]
    peak: float


def check(config: SuperresConfig, survey: Survey) -> None:
    """Looks at every picture, and at what inputs have to do with their targets.

    Raises:
        DataError: The dataset is not recognised.
    """
    scenes = scene_splits(config.data.path or "")
    album = Album(survey)
    for split in ("train", "val"):
        if scenes is not None:
            survey.counted(split, scenes=scenes[split].count)
            continue
        pairs = _listed(config, split, survey)
        if pairs is None:
            continue
        survey.notes += pairs.notes
        facts = album.look(split, pairs.targets)
        _check_targets(config, survey, split, facts)
        if pairs.inputs is not None:
            for target, given in zip(pairs.targets, pairs.inputs):
                survey.repair.follow(target, given)
            inputs = Album(survey)
            given = inputs.look(f"{split} inputs", pairs.inputs)
            _check_sizes(config, survey, pairs, facts, given)
            _check_reductions(survey, split, pairs, facts, given)
    album.judge()


def liken(target: np.ndarray, given: np.ndarray) -> Likeness:
    """Compares an input with the reductions of its target, both (H, W) uint8 grey."""
    height, width = given.shape
    scale = target.shape[0] // height
    image = Image.fromarray(np.ascontiguousarray(target[: height * scale, : width * scale]))
    reduced = {name: np.asarray(image.resize((width, height), kernel)) for name, kernel in KERNELS.items()}
    decibels = {name: signal_to_noise(given, other) for name, other in reduced.items()}
    first, second = (picture - picture.mean() for picture in (given.astype(np.float64), reduced["bicubic"]))
    product = float((first * second).mean() / max(first.std() * second.std(), 1e-9))
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(reduced["bicubic"].astype(np.float32), given.astype(np.float32), window)
    if scale == 1 and product < UNRELATED:
        *shift, peak = outline_shift(reduced["bicubic"], given)
    return Likeness(decibels, product, (float(shift[0]), float(shift[1])), float(peak))


def _listed(config: SuperresConfig, split: str, survey: Survey) -> PicturePairs | None:
    data, findings = config.data, Findings("skip", remembered=sys.maxsize)
    held = data.val == HELD_OUT
    source = "train" if held else split
    given = getattr(data, source)
    named = (given,) if isinstance(given, str) else given or ()
    if split == "val" and not named and not held and Path(data.path or "").is_dir() and is_undivided(Path(data.path)):
        survey.notes.append("no folder's name says that it validates: all pictures are of one split")
        return None
    try:
        pairs = find_pairs(Path(data.path or ""), source, named, config.scale, findings, split if held else None)
    except DataError as failure:
        # What was found stands in the table, and says more than that nothing is left.
        if not findings.examples and (named or not Path(data.path or "").is_dir() or split == "train"):
            raise
        _take(survey, findings)
        survey.add(table.EMPTY_SPLIT, data.path or "", split, failure.problem)
        return None
    _take(survey, findings)
    return pairs


def _take(survey: Survey, findings: Findings) -> None:
    survey.take(findings)
    for example in findings.examples:
        survey.repair.leave_out(example.file, PARTNER.name)


def _check_targets(config: SuperresConfig, survey: Survey, split: str, facts: Sequence[Facts]) -> None:
    """Whether targets are large enough, and were ever JPEGs: by their tables where they are there, or by blocks."""
    sound = [facts for facts in facts if facts.fault is None]
    least = config.data.crop * config.scale if split == "train" else config.scale
    for found in sound:
        if min(found.size) < least:
            survey.add(SMALL, found.file, None, f"{_told(found.size)}, needed are {least}", "warning")
    for found, words in zip(sound, survey.spread(_compression, sound, f"{split}: compression")):
        if words:
            survey.add(COMPRESSED, found.file, None, words)


def _told(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _compression(facts: Facts) -> str:
    if facts.format in ("JPEG", "MPO"):
        quality = jpeg_quality(facts.file)
        return f"JPEG of quality {quality}" if quality is not None and quality < QUALITY else ""
    steeper = blockiness(grey_of(facts.file))
    return f"rims of 8 x 8 blocks are {steeper:.2f} times as steep as what lies between" if steeper > BLOCKS else ""


def _check_sizes(
    config: SuperresConfig, survey: Survey, pairs: PicturePairs, targets: Sequence[Facts], inputs: Sequence[Facts]
) -> None:
    for target, given in zip(targets, inputs):
        if target.fault is not None or given.fault is not None:
            survey.repair.leave_out(target.file, target.fault or given.fault or "")
            survey.repair.leave_out(given.file, target.fault or given.fault or "")
        elif given.size != tuple(side // config.scale for side in target.size):
            value = f"{_told(given.size)} to {_told(target.size)} at scale {config.scale}"
            survey.add(PAIR_SIZE, given.file, None, value)
            survey.repair.leave_out(target.file, PAIR_SIZE.name)
            survey.repair.leave_out(given.file, PAIR_SIZE.name)


def _check_reductions(
    survey: Survey, split: str, pairs: PicturePairs, targets: Sequence[Facts], inputs: Sequence[Facts]
) -> None:
    repair = survey.repair
    sound = [
        (target.file, given.file)
        for target, given in zip(targets, inputs)
        if not (target.fault or given.fault or repair.is_left_out(given.file)) and min(given.size) >= 8
    ]
    chosen = evenly(sound, PAIRS)
    likenesses = survey.spread(lambda pair: liken(grey_of(pair[0]), grey_of(pair[1])), chosen, f"{split}: reductions")
    for (target, given), found in zip(chosen, likenesses):
        best = max(found.decibels, key=found.decibels.__getitem__)
        level = found.decibels[best]
        if found.correlation < UNRELATED:
            survey.add(UNRELATED_PAIR, given, None, f"correlation {found.correlation:.2f}")
            repair.leave_out(target, UNRELATED_PAIR.name)
            repair.leave_out(given, UNRELATED_PAIR.name)
        elif level < EXACT and max(map(abs, found.shift)) > SHIFT and found.peak > PEAK:
            survey.add(SHIFTED, given, None, "{:+.2f}, {:+.2f} px".format(*found.shift))
        elif level < EXACT:
            survey.add(NOT_REDUCED, given, None, f"nearest {best} with {level:.1f} dB")
        elif found.decibels["bicubic"] < level - MARGIN:
            survey.add(OTHER_KERNEL, given, None, f"{best} {level:.1f} dB, bicubic {found.decibels['bicubic']:.1f}")
