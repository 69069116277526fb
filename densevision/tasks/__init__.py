"""The tasks by name, and where they live. Adding a task costs a folder here and a line in TASKS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from densevision.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from densevision.metrics.scoring import Scoring
    from densevision.run_config import TaskConfig
    from densevision.tasks.base import Task

TASKS: dict[str, str] = {
    "detection": "Objects as boxes: YOLO-style or Faster R-CNN.",
    "semantic": "The class of every pixel: FCN, and the decoders of smp by name.",
    "instance": "Which pixels each object covers, or where its keypoints are: Mask R-CNN.",
    "depth": "How far away every pixel is: DPT and U-Net, learned from truth or from stereo pairs.",
    "flow": "Where every pixel goes between two images, and which are lost: RAFT.",
    "superres": "A larger or better image: EDSR, RRDB, U-Net and others; scale 1 restores.",
    "translation": "An image of another kind, such as a photo from a drawing of labels: pix2pix.",
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
    return import_module(f"densevision.tasks.{known(name)}.scoring").score


def load_files(name: str) -> Callable[..., Scoring]:
    """The function that pairs prediction files with truth files, image by image; imports no torch."""
    return import_module(f"densevision.tasks.{known(name)}.scoring").open_files


def scoring_options(name: str, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a task's `score` and `open_files` are called with besides their files: `config`, where options are set.

    Args:
        name: A name in `TASKS`.
        settings: Dotted names of the task's config to values, of those that its score.py names in `SUPPORTS`.

    Raises:
        UsageError: One of them has no effect on files.
    """
    if not settings:
        return {}
    supported_options = getattr(import_module(f"densevision.tasks.{known(name)}.scoring"), "SUPPORTS", ())
    for option, value in settings.items():
        if not any(f"{option}.".startswith(f"{supported}.") for supported in supported_options):
            hint = f"It supports {', '.join(supported_options)}." if supported_options else "It supports none."
            raise UsageError(f"has no effect on {name} score", field=option, value=value, hint=hint)
    return {"config": load_config(name).resolve(None, settings)}


def load_check(name: str) -> ModuleType:
    """The module that says what is looked for in a task's datasets (`CHECKS`) and looks for it; imports no torch."""
    return import_module(f"densevision.tasks.{known(name)}.checks")


def known(name: str) -> str:
    """The name itself, when it is a task's.

    Raises:
        UsageError: There is no such task.
    """
    if name not in TASKS:
        raise UsageError("no such task", value=name, hint=did_you_mean(name, TASKS))
    return name
