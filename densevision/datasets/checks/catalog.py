"""A check has a name, a severity, a meaning and a fix; those that all tasks share stand here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from densevision.io.label_issues import LEFT_OUT, Kind

Severity = Literal["error", "warning", "note"]
SEVERITIES: dict[Severity, str] = {
    "error": "training stops there, learns what is false, or its numbers are false",
    "warning": "probably not meant",
    "note": "worth knowing, and normal in many datasets",
}
"""Severity -> what it says; the gravest first."""


@dataclass(frozen=True)
class Check:
    """One thing that is looked for.

    Attributes:
        name: As reports have it.
        severity: "error", "warning" or "note".
        meaning: What was found, as the end of "there is ..." or a clause.
        fix: What a person does about it, one or more sentences.
        fix: What `--fix` does about it; None where it does nothing.
    """

    name: str
    severity: Severity
    metric_info: str
    hint: str
    fix: str | None = None


MILD = (Kind.BOX_TWICE, Kind.MASK_UNKNOWN, Kind.IMAGE_SMALL)
"""What readers find and training does not stop at."""


def of_kind(kind: Kind) -> Check:
    """The check that a reader of labels makes."""
    name = kind.name.lower().replace("_", "-")
    severity: Severity = "warning" if kind in MILD else "error"
    return Check(name, severity, f"{kind.one} {kind.wrong}", kind.hint, kind.fixed or LEFT_OUT)


MISSING, BROKEN, TRUNCATED = map(of_kind, (Kind.IMAGE_MISSING, Kind.IMAGE_BROKEN, Kind.IMAGE_TRUNCATED))
WRONG_SUFFIX = Check(
    "image-suffix",
    "warning",
    "an image whose suffix names another format than its bytes",
    "Rename it: other tools may refuse it.",
)
ODD_MODE = Check(
    "image-mode",
    "warning",
    "an image with other channels or bits than nearly all others",
    "Look whether it belongs here; convert it like the others.",
)
ORIENTATION = Check(
    "image-orientation",
    "warning",
    "an image that its EXIF orientation turns",
    "Labels are taken in the upright image. Were they made in the stored one, turn the image for good.",
)
CASE = Check(
    "name-case",
    "warning",
    "two names that differ in upper and lower case alone",
    "Rename one: on many disks they are one file.",
)
TWICE = Check(
    "image-twice",
    "warning",
    "one image, byte for byte, under two names in a split",
    "Remove one, and see that both had the same labels.",
    "the later one left out",
)
LEAK = Check(
    "leak",
    "error",
    "an image, byte for byte, in training and in validation",
    "Take it out of one split: numbers on it are no measure.",
    "left out of training, unless both splits list that one file",
)
NEAR = Check(
    "image-nearly-twice",
    "warning",
    "an image that looks the same as another one in its split",
    "Copies, resized or compressed anew, weigh twice: remove them. Frames of a video are thinned out.",
)
NEAR_LEAK = Check(
    "leak-near",
    "warning",
    "an image in validation that looks the same as one in training",
    "Divide by scene, video or patient, so that nothing like a validation image is trained on.",
)
EMPTY_SPLIT = Check("split-missing", "note", "a split without images", "Name it as data.train or data.val.")
UNUSED = Check(
    "class-unused", "warning", "a class of which nothing is there", "Remove it from the list, or add examples."
)
ABSENT = Check(
    "class-in-one-split",
    "warning",
    "a class that is in one split only",
    "Divide the images anew: what is not trained is not found, and what is not validated is not known.",
)
RARE = Check("class-rare", "warning", "a class with very few examples in training", "Add examples, or join classes.")
IMBALANCE = Check(
    "class-imbalance",
    "note",
    "a class that is far more frequent than another one",
    "Consider weights of classes, or sampling the rare ones more often.",
)

SHARED = (
    *(MISSING, BROKEN, TRUNCATED, WRONG_SUFFIX, ODD_MODE, ORIENTATION, CASE),
    *(TWICE, LEAK, NEAR, NEAR_LEAK, EMPTY_SPLIT),
)
"""The checks of files, which every task makes."""
CLASSES = (UNUSED, ABSENT, RARE, IMBALANCE)
"""The checks of classes, for tasks that have them."""
