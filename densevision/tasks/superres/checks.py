"""What is looked for in a dataset of images to be made larger or better. No torch here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from densevision.datasets.checks import catalog as table
from densevision.datasets.checks.catalog import Check, of_kind
from densevision.datasets.checks.compression import blockiness, jpeg_quality
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.image_scanner import ImageInfo, ImageScanner
from densevision.datasets.checks.pair_similarity import evenly, gray_of, signal_to_noise
from densevision.datasets.checks.registration import outline_shift
from densevision.datasets.image_pairs import ImagePairs, find_pairs, is_undivided
from densevision.datasets.scene_splits import scene_splits
from densevision.errors import DataError
from densevision.io.label_issues import Findings, Kind
from densevision.tasks.superres.config import HELD_OUT, SuperresConfig

KERNELS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
"""How inputs may have been made of their targets; Pillow widens kernels as MATLAB does, and agrees to a gray level."""
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

PARTNER, PAIR_SIZE, SMALL = map(of_kind, (Kind.PARTNER_MISSING, Kind.PAIR_SIZE, Kind.IMAGE_SMALL))
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
    "Fine for images that were spoilt on purpose; otherwise make the inputs anew from the targets.",
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
    "Look at the names: another image's partner was taken.",
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


def check(config: SuperresConfig, context: CheckContext) -> None:
    """Looks at every image, and at what inputs have to do with their targets.

    Raises:
        DataError: The dataset is not recognized.
    """
    scenes = scene_splits(config.data.path or "")
    scanner = ImageScanner(context)
    for split in ("train", "val"):
        if scenes is not None:
            context.counted(split, scenes=scenes[split].count)
            continue
        pairs = _listed(config, split, context)
        if pairs is None:
            continue
        context.notes += pairs.notes
        facts = scanner.look(split, pairs.targets)
        _check_targets(config, context, split, facts)
        if pairs.inputs is not None:
            for target, given in zip(pairs.targets, pairs.inputs):
                context.repair.follow(target, given)
            inputs = ImageScanner(context)
            given = inputs.look(f"{split} inputs", pairs.inputs)
            _check_sizes(config, context, pairs, facts, given)
            _check_reductions(context, split, pairs, facts, given)
    scanner.judge()


def liken(target: np.ndarray, given: np.ndarray) -> Likeness:
    """Compares an input with the reductions of its target, both (H, W) uint8 gray."""
    height, width = given.shape
    scale = target.shape[0] // height
    image = Image.fromarray(np.ascontiguousarray(target[: height * scale, : width * scale]))
    reduced = {name: np.asarray(image.resize((width, height), kernel)) for name, kernel in KERNELS.items()}
    decibels = {name: signal_to_noise(given, other) for name, other in reduced.items()}
    first, second = (array - array.mean() for array in (given.astype(np.float64), reduced["bicubic"]))
    product = float((first * second).mean() / max(first.std() * second.std(), 1e-9))
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(reduced["bicubic"].astype(np.float32), given.astype(np.float32), window)
    if scale == 1 and product < UNRELATED:
        *shift, peak = outline_shift(reduced["bicubic"], given)
    return Likeness(decibels, product, (float(shift[0]), float(shift[1])), float(peak))


def _listed(config: SuperresConfig, split: str, context: CheckContext) -> ImagePairs | None:
    data, findings = config.data, Findings("skip", remembered=sys.maxsize)
    held = data.val == HELD_OUT
    source = "train" if held else split
    given = getattr(data, source)
    named = (given,) if isinstance(given, str) else given or ()
    if split == "val" and not named and not held and Path(data.path or "").is_dir() and is_undivided(Path(data.path)):
        context.notes.append("no folder's name says that it validates: all images are of one split")
        return None
    try:
        pairs = find_pairs(Path(data.path or ""), source, named, config.scale, findings, split if held else None)
    except DataError as failure:
        # What was found stands in the table, and says more than that nothing is left.
        if not findings.examples and (named or not Path(data.path or "").is_dir() or split == "train"):
            raise
        _take(context, findings)
        context.add(table.EMPTY_SPLIT, data.path or "", split, failure.problem)
        return None
    _take(context, findings)
    return pairs


def _take(context: CheckContext, findings: Findings) -> None:
    context.take(findings)
    for example in findings.examples:
        context.repair.leave_out(example.file, PARTNER.name)


def _check_targets(config: SuperresConfig, context: CheckContext, split: str, facts: Sequence[ImageInfo]) -> None:
    """Whether targets are large enough, and were ever JPEGs: by their tables where they are there, or by blocks."""
    sound = [facts for facts in facts if facts.fault is None]
    least = config.data.crop * config.scale if split == "train" else config.scale
    for found in sound:
        if min(found.size) < least:
            context.add(SMALL, found.file, None, f"{_told(found.size)}, needed are {least}", "warning")
    for found, words in zip(sound, context.spread(_compression, sound, f"{split}: compression")):
        if words:
            context.add(COMPRESSED, found.file, None, words)


def _told(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _compression(facts: ImageInfo) -> str:
    if facts.format in ("JPEG", "MPO"):
        quality = jpeg_quality(facts.file)
        return f"JPEG of quality {quality}" if quality is not None and quality < QUALITY else ""
    steeper = blockiness(gray_of(facts.file))
    return f"rims of 8 x 8 blocks are {steeper:.2f} times as steep as what lies between" if steeper > BLOCKS else ""


def _check_sizes(
    config: SuperresConfig,
    context: CheckContext,
    pairs: ImagePairs,
    targets: Sequence[ImageInfo],
    inputs: Sequence[ImageInfo],
) -> None:
    for target, given in zip(targets, inputs):
        if target.fault is not None or given.fault is not None:
            context.repair.leave_out(target.file, target.fault or given.fault or "")
            context.repair.leave_out(given.file, target.fault or given.fault or "")
        elif given.size != tuple(side // config.scale for side in target.size):
            value = f"{_told(given.size)} to {_told(target.size)} at scale {config.scale}"
            context.add(PAIR_SIZE, given.file, None, value)
            context.repair.leave_out(target.file, PAIR_SIZE.name)
            context.repair.leave_out(given.file, PAIR_SIZE.name)


def _check_reductions(
    context: CheckContext, split: str, pairs: ImagePairs, targets: Sequence[ImageInfo], inputs: Sequence[ImageInfo]
) -> None:
    repair = context.repair
    sound = [
        (target.file, given.file)
        for target, given in zip(targets, inputs)
        if not (target.fault or given.fault or repair.is_left_out(given.file)) and min(given.size) >= 8
    ]
    chosen = evenly(sound, PAIRS)
    likenesses = context.spread(lambda pair: liken(gray_of(pair[0]), gray_of(pair[1])), chosen, f"{split}: reductions")
    for (target, given), found in zip(chosen, likenesses):
        best = max(found.decibels, key=found.decibels.__getitem__)
        level = found.decibels[best]
        if found.correlation < UNRELATED:
            context.add(UNRELATED_PAIR, given, None, f"correlation {found.correlation:.2f}")
            repair.leave_out(target, UNRELATED_PAIR.name)
            repair.leave_out(given, UNRELATED_PAIR.name)
        elif level < EXACT and max(map(abs, found.shift)) > SHIFT and found.peak > PEAK:
            context.add(SHIFTED, given, None, "{:+.2f}, {:+.2f} px".format(*found.shift))
        elif level < EXACT:
            context.add(NOT_REDUCED, given, None, f"nearest {best} with {level:.1f} dB")
        elif found.decibels["bicubic"] < level - MARGIN:
            context.add(OTHER_KERNEL, given, None, f"{best} {level:.1f} dB, bicubic {found.decibels['bicubic']:.1f}")
