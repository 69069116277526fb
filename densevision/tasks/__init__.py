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

__all__ = [
    "TASKS",
    "check_task_name",
    "get_scoring_options",
    "load_check",
    "load_config",
    "load_files",
    "load_score",
    "load_task",
]

TASKS: dict[str, str] = {
    "detection": "Objects as boxes: YOLO-style detectors, YOLOX, D-FINE, Faster R-CNN.",
    "semantic": "The class of every pixel: FCN, DeepLabV3, U-Net and the other decoders of smp.",
    "instance": "Objects with masks or keypoints: Mask R-CNN, Keypoint R-CNN.",
    "depth": "The depth of every pixel: DPT and U-Net, supervised or self-supervised from stereo pairs.",
    "flow": "Optical flow between two images, with occlusion: RAFT, SEA-RAFT.",
    "superres": "Super-resolution and restoration: EDSR, RRDB, NAFNet and others; scale 1 restores.",
    "translation": "Image-to-image translation, such as photographs from label maps: pix2pix.",
}
"""Task name -> one line about it. The task lives in the package of its name."""


def load_task(name: str) -> type[Task]:
    """The task class of a name; imports torch."""
    return import_module(f"densevision.tasks.{check_task_name(name)}.task").TASK


def load_config(name: str) -> type[TaskConfig]:
    """The config class of a task; imports no torch."""
    return import_module(f"densevision.tasks.{check_task_name(name)}.config").CONFIG


def load_score(name: str) -> Callable[..., dict[str, Any]]:
    """The function that scores prediction files against ground-truth files; imports no torch."""
    return import_module(f"densevision.tasks.{check_task_name(name)}.scoring").score


def load_files(name: str) -> Callable[..., Scoring]:
    """The function that pairs prediction files with ground-truth files, image by image; imports no torch."""
    return import_module(f"densevision.tasks.{check_task_name(name)}.scoring").open_files


def get_scoring_options(name: str, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Further arguments of a task's `score` and `open_files`: `config`, where options are overridden.

    Args:
        name: A name in `TASKS`.
        overrides: Dotted names of the task's config to values, among those in the scoring module's `SUPPORTED_OPTIONS`.

    Raises:
        UsageError: One of them has no effect on files.
    """
    if not overrides:
        return {}
    supported = getattr(import_module(f"densevision.tasks.{check_task_name(name)}.scoring"), "SUPPORTED_OPTIONS", ())
    for option, value in overrides.items():
        if not any(f"{option}.".startswith(f"{prefix}.") for prefix in supported):
            hint = f"Supported: {', '.join(supported)}." if supported else "No option is supported."
            raise UsageError(f"is not supported by {name} score", field=option, value=value, hint=hint)
    return {"config": load_config(name).resolve(None, overrides)}


def load_check(name: str) -> ModuleType:
    """The module with a task's dataset checks (`CHECKS`, `check`); imports no torch."""
    return import_module(f"densevision.tasks.{check_task_name(name)}.checks")


def check_task_name(name: str) -> str:
    """Returns the name if it is a task's.

    Raises:
        UsageError: There is no such task.
    """
    if name not in TASKS:
        raise UsageError("there is no such task", value=name, hint=did_you_mean(name, TASKS))
    return name
