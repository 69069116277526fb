"""Checks of a super-resolution or restoration dataset. No torch here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from densevision.datasets.checks import catalog
from densevision.datasets.checks.catalog import Check, make_check
from densevision.datasets.checks.compression import estimate_jpeg_quality, measure_blockiness
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.checks.image_scanner import ImageInfo, ImageScanner
from densevision.datasets.checks.pair_similarity import compute_psnr, read_gray, sample_evenly
from densevision.datasets.checks.registration import measure_edge_shift
from densevision.datasets.checks.split_files import list_file_splits
from densevision.datasets.image_pairs import ImagePairs, has_no_split_folders
from densevision.datasets.shards.location import locate_dataset
from densevision.errors import DataError
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.tasks.superres.config import HELD_OUT, SuperresConfig
from densevision.tasks.superres.splits import find_pairs

__all__ = ["CHECKS", "PairSimilarity", "check", "compare_pair"]

KERNELS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}
"""Kernels by which inputs may have been downscaled; Pillow widens them like MATLAB, and agrees to a gray level."""
MIN_PSNR = 38.0
"""PSNR in dB from which an input counts as a target downscaled by a kernel; rounding leaves 50, another kernel less."""
MIN_PSNR_GAIN = 1.5
"""dB by which another kernel must fit better than bicubic."""
MAX_SHIFT = 0.2
"""Pixels of the input by which it may be shifted."""
MIN_PEAK = 0.15
"""Minimum peak of the phase correlation for a shift to be reported."""
MIN_CORRELATION = 0.5
"""Correlation with the downscaled target below which an input shows something else."""
MIN_COMPARED_SIDE = 8
MAX_PAIRS = 100
"""Pairs of a split that are compared, evenly spaced."""
MIN_QUALITY = 90
"""JPEG quality below which a target counts as compressed."""
MAX_BLOCKINESS = 1.12
"""Maximum ratio of gradients at the borders of 8 x 8 blocks to those inside."""

PARTNER, PAIR_SIZE, SMALL = map(make_check, (IssueKind.PARTNER_MISSING, IssueKind.PAIR_SIZE, IssueKind.IMAGE_SMALL))
OTHER_KERNEL = Check(
    "input-other-kernel",
    "warning",
    "an input that was downscaled by another kernel than bicubic",
    "Numbers of papers are for bicubic: generate the inputs again, or state the kernel with the numbers.",
)
NOT_REDUCED = Check(
    "input-not-reduced",
    "warning",
    "an input that is not its target downscaled by a known kernel",
    "Expected for images that were degraded on purpose; otherwise generate the inputs again from the targets.",
)
SHIFTED = Check(
    "pair-shifted",
    "error",
    f"an input that is shifted by more than {MAX_SHIFT:g} of its pixels",
    "Generate the inputs again with aligned corners: a network learns the shift.",
)
UNRELATED_PAIR = Check(
    "pair-unrelated",
    "error",
    "an input that shows something else than its target",
    "Check the names: the input belongs to another image.",
    "left out",
)
COMPRESSED = Check(
    "target-compressed",
    "warning",
    "a target with lossy compression",
    "Use the originals: a network learns to reproduce the blocks.",
)
CHECKS = (
    *(*catalog.FILE_CHECKS, PARTNER, PAIR_SIZE, SMALL),
    *(OTHER_KERNEL, NOT_REDUCED, SHIFTED, UNRELATED_PAIR, COMPRESSED),
)
"""All checks of this task."""


@dataclass(frozen=True)
class PairSimilarity:
    """How an input is related to its target.

    Attributes:
        psnr: Kernel -> PSNR in dB of the input against the downscaled target.
        correlation: With the target downscaled by the bicubic kernel.
        shift: Right and down, in pixels of the input.
        peak: Peak of the phase correlation, 0 to 1.
    """

    psnr: dict[str, float]
    correlation: float
    shift: tuple[float, float]
    peak: float


def check(config: SuperresConfig, context: CheckContext) -> None:
    """Checks every image, and how inputs are related to their targets.

    Raises:
        DataError: The dataset is not recognized.
    """
    scanner = ImageScanner(context)
    for split in list_file_splits(config.data, context):
        pairs = _find_pairs(config, split, context)
        if pairs is None:
            continue
        context.notes += pairs.notes
        targets = scanner.scan(split, pairs.targets)
        _check_targets(config, context, split, targets)
        if pairs.inputs is not None:
            for target, path in zip(pairs.targets, pairs.inputs):
                context.fix_plan.exclude_together(target, path)
            inputs = ImageScanner(context).scan(f"{split} inputs", pairs.inputs)
            _check_sizes(config, context, targets, inputs)
            _check_kernels(context, split, targets, inputs)
    scanner.check_images()


def compare_pair(target: np.ndarray, image: np.ndarray) -> PairSimilarity:
    """Compares an input with its target downscaled by every kernel, both (H, W) uint8 gray."""
    height, width = image.shape
    scale = target.shape[0] // height
    original = Image.fromarray(np.ascontiguousarray(target[: height * scale, : width * scale]))
    downscaled = {name: np.asarray(original.resize((width, height), kernel)) for name, kernel in KERNELS.items()}
    psnr = {name: compute_psnr(image, other) for name, other in downscaled.items()}
    bicubic = downscaled["bicubic"]
    first, second = (array - array.mean() for array in (image.astype(np.float64), bicubic))
    correlation = float((first * second).mean() / max(first.std() * second.std(), 1e-9))
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(bicubic.astype(np.float32), image.astype(np.float32), window)
    if scale == 1 and correlation < MIN_CORRELATION:
        *shift, peak = measure_edge_shift(bicubic, image)
    return PairSimilarity(psnr, correlation, (float(shift[0]), float(shift[1])), float(peak))


def _find_pairs(config: SuperresConfig, split: str, context: CheckContext) -> ImagePairs | None:
    """The pairs of a split, all of them counted; None where there is no such split."""
    data, issues = config.data, LabelIssues("skip", max_examples=sys.maxsize)
    is_held_out = data.val == HELD_OUT
    is_named = bool(getattr(data, "train" if is_held_out else split))
    root = Path(locate_dataset(data))
    if split == "val" and not is_named and not is_held_out and root.is_dir() and has_no_split_folders(root):
        context.notes.append("no folder has the name of a validation split: all images belong to one split")
        return None
    try:
        pairs = find_pairs(config, split, issues)
    except DataError as error:
        # The issues are already listed, and say more than that no image is left.
        if not issues.examples and (is_named or not root.is_dir() or split == "train"):
            raise
        _take_issues(context, issues)
        context.add(catalog.SPLIT_MISSING, data.path or "", split, error.problem)
        return None
    _take_issues(context, issues)
    return pairs


def _take_issues(context: CheckContext, issues: LabelIssues) -> None:
    context.add_issues(issues)
    for example in issues.examples:
        context.fix_plan.exclude(example.file, PARTNER.name)


def _check_targets(config: SuperresConfig, context: CheckContext, split: str, targets: Sequence[ImageInfo]) -> None:
    """Whether targets are large enough, and were compressed: by their JPEG tables, or by the blocks that they show."""
    readable = [info for info in targets if info.fault is None]
    min_side = config.data.crop * config.scale if split == "train" else config.scale
    for info in readable:
        if min(info.size) < min_side:
            context.add(SMALL, info.file, None, f"{_format_size(info.size)}, at least {min_side} needed", "warning")
    descriptions = context.map_parallel(_describe_compression, readable, f"{split}: compression")
    for info, description in zip(readable, descriptions):
        if description:
            context.add(COMPRESSED, info.file, None, description)


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _describe_compression(info: ImageInfo) -> str:
    """How an image was compressed; empty where it was not, or hardly."""
    if info.file_format in ("JPEG", "MPO"):
        quality = estimate_jpeg_quality(info.file)
        return f"JPEG of quality {quality}" if quality is not None and quality < MIN_QUALITY else ""
    ratio = measure_blockiness(read_gray(info.file))
    return f"gradients at borders of 8 x 8 blocks are {ratio:.2f} times those inside" if ratio > MAX_BLOCKINESS else ""


def _check_sizes(
    config: SuperresConfig, context: CheckContext, targets: Sequence[ImageInfo], inputs: Sequence[ImageInfo]
) -> None:
    for target, image in zip(targets, inputs):
        reason = target.fault or image.fault
        if reason is None and image.size != tuple(side // config.scale for side in target.size):
            value = f"{_format_size(image.size)} to {_format_size(target.size)} at scale {config.scale}"
            context.add(PAIR_SIZE, image.file, None, value)
            reason = PAIR_SIZE.name
        if reason is not None:
            context.fix_plan.exclude(target.file, reason)
            context.fix_plan.exclude(image.file, reason)


def _check_kernels(
    context: CheckContext, split: str, targets: Sequence[ImageInfo], inputs: Sequence[ImageInfo]
) -> None:
    """Compares inputs with their downscaled targets."""
    plan = context.fix_plan
    usable = [
        (target.file, image.file)
        for target, image in zip(targets, inputs)
        if not (target.fault or image.fault or plan.is_excluded(image.file)) and min(image.size) >= MIN_COMPARED_SIDE
    ]
    pairs = sample_evenly(usable, MAX_PAIRS)
    results = context.map_parallel(lambda pair: compare_pair(*map(read_gray, pair)), pairs, f"{split}: kernels")
    for (target, image), similarity in zip(pairs, results):
        psnr = similarity.psnr
        best = max(psnr, key=psnr.__getitem__)
        if similarity.correlation < MIN_CORRELATION:
            context.add(UNRELATED_PAIR, image, None, f"correlation {similarity.correlation:.2f}")
            plan.exclude(target, UNRELATED_PAIR.name)
            plan.exclude(image, UNRELATED_PAIR.name)
        elif psnr[best] < MIN_PSNR and max(map(abs, similarity.shift)) > MAX_SHIFT and similarity.peak > MIN_PEAK:
            context.add(SHIFTED, image, None, "{:+.2f}, {:+.2f} px".format(*similarity.shift))
        elif psnr[best] < MIN_PSNR:
            context.add(NOT_REDUCED, image, None, f"closest: {best} with {psnr[best]:.1f} dB")
        elif psnr["bicubic"] < psnr[best] - MIN_PSNR_GAIN:
            context.add(OTHER_KERNEL, image, None, f"{best} {psnr[best]:.1f} dB, bicubic {psnr['bicubic']:.1f}")
