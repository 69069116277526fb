"""Definition of a check, and the checks that several tasks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from densevision.io.label_issues import SKIPPED, IssueKind

__all__ = ["CLASS_CHECKS", "FILE_CHECKS", "SEVERITIES", "Check", "Severity", "make_check"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: dict[Severity, str] = {
    "error": "training fails, learns from wrong labels, or reports wrong metrics",
    "warning": "probably a mistake",
    "note": "worth knowing, and normal in many datasets",
}
"""Severity -> its meaning; the most severe first."""


@dataclass(frozen=True)
class Check:
    """A check for one kind of problem.

    Attributes:
        name: Identifier in reports.
        severity: "error", "warning" or "note".
        description: The problem, as a noun phrase.
        hint: How a person fixes it, one or more sentences.
        fix: What `--fix` does about it; None if nothing.
    """

    name: str
    severity: Severity
    description: str
    hint: str
    fix: str | None = None


UNFIXED_KINDS = (
    IssueKind.IMAGE_FRAMES,
    IssueKind.FILE_HIDDEN,
    IssueKind.FILE_IGNORED,
    IssueKind.SHAPE_WITHOUT_AREA,
    IssueKind.LABELS_TURNED,
)
"""Issues of label readers that need no fix."""
WARNING_KINDS = (IssueKind.BOX_DUPLICATE, IssueKind.MASK_UNKNOWN, IssueKind.IMAGE_SMALL, *UNFIXED_KINDS)
"""Issues of label readers that training accepts."""


def make_check(kind: IssueKind) -> Check:
    """Creates the check for an issue that a label reader reports."""
    name = kind.name.lower().replace("_", "-")
    severity: Severity = "warning" if kind in WARNING_KINDS else "error"
    fix = None if kind in UNFIXED_KINDS else kind.fix_action or SKIPPED
    return Check(name, severity, f"{kind.singular} {kind.problem}", kind.hint, fix)


IMAGE_MISSING = make_check(IssueKind.IMAGE_MISSING)
IMAGE_BROKEN = make_check(IssueKind.IMAGE_BROKEN)
IMAGE_TRUNCATED = make_check(IssueKind.IMAGE_TRUNCATED)
IMAGE_SUFFIX = Check(
    "image-suffix",
    "warning",
    "an image whose suffix does not match its format",
    "Rename it: other tools may refuse it.",
)
IMAGE_MODE = Check(
    "image-mode",
    "warning",
    "an image with a different number of channels or bits than nearly all others",
    "Check whether it belongs to this dataset, and convert it to the format of the others.",
)
IMAGE_ORIENTATION = Check(
    "image-orientation",
    "warning",
    "an image with an EXIF orientation other than upright",
    "Images are read upright. Labels are turned with them if their file states the stored size; otherwise they must "
    "be in upright coordinates.",
)
NAME_CASE = Check(
    "name-case",
    "warning",
    "two file names that differ only in upper and lower case",
    "Rename one: on case-insensitive file systems they are the same file.",
)
DUPLICATE = Check(
    "image-duplicate",
    "warning",
    "two byte-identical images in one split",
    "Remove one, and check that both have the same labels.",
    "the later one left out",
)
LEAK = Check(
    "leak",
    "error",
    "byte-identical images in training and validation",
    "Remove it from one split: validation metrics are meaningless on it.",
    "left out of training, unless both splits list the same file",
)
NEAR_DUPLICATE = Check(
    "image-near-duplicate",
    "warning",
    "an image that looks like another one in its split",
    "Remove resized or recompressed copies, which count twice; subsample frames of videos.",
)
NEAR_LEAK = Check(
    "leak-near",
    "warning",
    "an image in validation that looks like one in training",
    "Split by scene, video or patient, so that similar images are in the same split.",
)
SPLIT_MISSING = Check("split-missing", "note", "a split without images", "Name it as data.train or data.val.")
CLASS_UNUSED = Check(
    "class-unused", "warning", "a class without any example", "Remove it from the list, or add examples."
)
CLASS_IN_ONE_SPLIT = Check(
    "class-in-one-split",
    "warning",
    "a class that occurs in only one split",
    "Split the images again, so that each class is both trained and validated.",
)
CLASS_RARE = Check(
    "class-rare", "warning", "a class with very few examples in training", "Add examples, or merge classes."
)
CLASS_IMBALANCE = Check(
    "class-imbalance",
    "note",
    "a class that is far more frequent than another one",
    "Consider class weights, or sampling images of rare classes more often.",
)

FILE_CHECKS = (
    *(IMAGE_MISSING, IMAGE_BROKEN, IMAGE_TRUNCATED, IMAGE_SUFFIX, IMAGE_MODE, IMAGE_ORIENTATION, NAME_CASE),
    *(DUPLICATE, LEAK, NEAR_DUPLICATE, NEAR_LEAK, SPLIT_MISSING),
)
"""Checks of image files, which every task runs."""
CLASS_CHECKS = (CLASS_UNUSED, CLASS_IN_ONE_SPLIT, CLASS_RARE, CLASS_IMBALANCE)
"""Checks of tasks with classes."""
