"""The tasks by name, and where they live.

Adding a task costs a folder here and a line in TASKS. Other packages add theirs by an entry point of the group
`densevision.tasks`, from the task's name to the package that holds its modules:

    [project.entry-points."densevision.tasks"]
    counting = "my_package.counting"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from densevision.cached_property import cached_property
from densevision.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from densevision.metrics.metric_info import MetricInfo
    from densevision.metrics.scoring import Scoring
    from densevision.run_config import TaskConfig
    from densevision.tasks.base import Task

__all__ = [
    "TASKS",
    "check_task_name",
    "get_metric_info",
    "get_score",
    "get_scoring_options",
    "import_task_module",
    "load_check",
    "load_config",
    "load_files",
    "load_score",
    "load_task",
]

ENTRY_POINT_GROUP = "densevision.tasks"


class TaskTable(Mapping[str, str]):
    """Task name -> one line about it, for the tasks of this package and those of other installed packages.

    Other packages are looked for only where no task of this package will do, and none is imported before it is used.

    Attributes:
        built_in: The tasks of this package, each in the package of its name.
    """

    def __init__(self, built_in: dict[str, str]):
        self.built_in = built_in

    @cached_property
    def outside(self) -> dict[str, str]:
        """The tasks of other packages: name -> package."""
        from importlib.metadata import entry_points

        found = entry_points(group=ENTRY_POINT_GROUP)
        return {entry.name: entry.value for entry in found if entry.name not in self.built_in}

    def __getitem__(self, name: str) -> str:
        if name in self.built_in:
            return self.built_in[name]
        lines = (import_module(self.outside[name]).__doc__ or name).strip().splitlines()
        return lines[0]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self.outside

    def __iter__(self) -> Iterator[str]:
        return iter([*self.built_in, *self.outside])

    def __len__(self) -> int:
        return len(self.built_in) + len(self.outside)


TASKS = TaskTable(
    {
        "detection": "Objects as boxes: YOLO-style detectors, YOLOX, D-FINE, Faster R-CNN.",
        "semantic": "The class of every pixel: FCN, DeepLabV3, U-Net and the other decoders of smp.",
        "instance": "Objects with masks or keypoints: Mask R-CNN, Keypoint R-CNN.",
        "depth": "The depth of every pixel: DPT and U-Net, supervised or self-supervised from stereo pairs.",
        "flow": "Optical flow between two images, with occlusion: RAFT, SEA-RAFT.",
        "superres": "Super-resolution and restoration: EDSR, RRDB, NAFNet and others; scale 1 restores.",
        "translation": "Image-to-image translation, such as photographs from label maps: pix2pix.",
        "joint": "Several of these tasks by one model: their heads on one encoder.",
    }
)


def import_task_module(name: str, module: str) -> ModuleType:
    """Imports a module of a task's package, such as "config".

    Raises:
        UsageError: There is no such task.
    """
    check_task_name(name)
    package = f"densevision.tasks.{name}" if name in TASKS.built_in else TASKS.outside[name]
    return import_module(f"{package}.{module}")


def load_task(name: str) -> type[Task]:
    """The task class of a name; imports torch."""
    return import_task_module(name, "task").TASK


def load_config(name: str) -> type[TaskConfig]:
    """The config class of a task; imports no torch."""
    return import_task_module(name, "config").CONFIG


def load_score(name: str) -> Callable[..., dict[str, Any]]:
    """The function that scores prediction files against ground-truth files; imports no torch."""
    return get_score(import_task_module(name, "scoring"))


def get_score(scoring: ModuleType) -> Callable[..., dict[str, Any]]:
    """A scoring module's `score`; where it has none, the files of its `open_files` are scored image by image."""

    def score_pairs(*arguments: Any, **options: Any) -> dict[str, Any]:
        return scoring.open_files(*arguments, **options).report()

    return getattr(scoring, "score", score_pairs)


def load_files(name: str) -> Callable[..., Scoring]:
    """The function that pairs prediction files with ground-truth files, image by image; imports no torch."""
    return import_task_module(name, "scoring").open_files


def get_scoring_options(name: str, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Further arguments of a task's `score` and `open_files`: `config`, where options are overridden.

    Args:
        name: A name in `TASKS`.
        overrides: Dotted names of the task's config to values, among those in the scoring module's `SUPPORTED_OPTIONS`;
            they are added to its `BASE_SETTINGS`.

    Raises:
        UsageError: One of them has no effect on files.
    """
    if not overrides:
        return {}
    module = import_task_module(name, "scoring")
    supported = getattr(module, "SUPPORTED_OPTIONS", ())
    for option, value in overrides.items():
        if not any(f"{option}.".startswith(f"{prefix}.") for prefix in supported):
            hint = f"Supported: {', '.join(supported)}." if supported else "No option is supported."
            raise UsageError(f"is not supported by {name} score", field=option, value=value, hint=hint)
    return {"config": load_config(name).resolve(None, {**getattr(module, "BASE_SETTINGS", {}), **overrides})}


def load_check(name: str) -> ModuleType:
    """The module with a task's dataset checks (`CHECKS`, `check`); imports no torch."""
    return import_task_module(name, "checks")


def get_metric_info(task: str, name: str) -> MetricInfo:
    """What a metric of a task measures, by `METRIC_INFO` of the task's module `metrics`; imports no torch.

    >>> get_metric_info("instance", "segm/AP50").text
    'masks: IoU 0.50, all sizes'
    """
    from densevision.metrics.metric_info import find_metric_info

    return find_metric_info(import_task_module(task, "metrics").METRIC_INFO, name)


def check_task_name(name: str) -> str:
    """Returns the name if it is a task's.

    Raises:
        UsageError: There is no such task.
    """
    if name not in TASKS:
        raise UsageError("there is no such task", value=name, hint=did_you_mean(name, TASKS))
    return name
