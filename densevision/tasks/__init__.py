"""The tasks by name, and where they live. Adding a task costs a folder here and a line in TASKS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from densevision.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from densevision.metrics.scoring import Scoring
    from densevision.recipe import TaskConfig
    from densevision.tasks.contract import Task

TASKS: dict[str, str] = {
    "detection": "Objects as boxes: YOLO-style or Faster R-CNN.",
    "semantic": "The class of every pixel: FCN, and the decoders of smp by name.",
    "instance": "Which pixels each object covers, or where its keypoints are: Mask R-CNN.",
    "depth": "How far away every pixel is: DPT and U-Net, learnt from truth or from stereo pairs.",
    "flow": "Where every pixel goes between two pictures, and which are lost: RAFT.",
    "superres": "A larger or better picture: EDSR, RRDB, U-Net and others; scale 1 restores.",
    "translation": "A picture of another kind, such as a photo from a drawing of labels: pix2pix.",
}
"""Task name -> what it answers. The task lives in the module of its name."""


def load_task(name: str) -> type[Task]:
    """The task class of a name; imports torch."""
    return import_module(f"densevision.tasks.{known(name)}.task").TASK


def load_config(name: str) -> type[TaskConfig]:
    """The config class of a task; imports no torch."""
    return import_module(f"densevision.tasks.{known(name)}.config").CONFIG


def load_score(name: str) -> Callable[..., dict[str, Any]]:
    """The function that judges prediction files against truth files; imports no torch."""
    return import_module(f"densevision.tasks.{known(name)}.score").score


def load_files(name: str) -> Callable[..., Scoring]:
    """The function that pairs prediction files with truth files, picture by picture; imports no torch."""
    return import_module(f"densevision.tasks.{known(name)}.score").open_files


def scoring_options(name: str, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a task's `score` and `open_files` are called with besides their files: `config`, where options are set.

    Args:
        name: A name in `TASKS`.
        settings: Dotted names of the task's config to values, of those that its score.py names in `HEEDS`.

    Raises:
        UsageError: One of them has no effect on files.
    """
    if not settings:
        return {}
    heeds = getattr(import_module(f"densevision.tasks.{known(name)}.score"), "HEEDS", ())
    for option, value in settings.items():
        if not any(f"{option}.".startswith(f"{heeded}.") for heeded in heeds):
            mend = f"It heeds {', '.join(heeds)}." if heeds else "It heeds none."
            raise UsageError(f"has no effect on {name} score", field=option, value=value, mend=mend)
    return {"config": load_config(name).resolve(None, settings)}


def load_check(name: str) -> ModuleType:
    """The module that says what is looked for in a task's datasets (`CHECKS`) and looks for it; imports no torch."""
    return import_module(f"densevision.tasks.{known(name)}.check")


def known(name: str) -> str:
    """The name itself, when it is a task's.

    Raises:
        UsageError: There is no such task.
    """
    if name not in TASKS:
        raise UsageError("no such task", value=name, mend=did_you_mean(name, TASKS))
    return name
