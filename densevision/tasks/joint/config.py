"""Options of joint models: those that all tasks share, and a section for each task. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from densevision.config import Config, Count, NonNegative, Positive, set_option
from densevision.errors import UsageError, did_you_mean
from densevision.run_config import DataConfig, GeometryConfig, TaskConfig
from densevision.tasks import TASKS, load_config
from densevision.tasks.joint.names import NAME, get_task_name

__all__ = ["CONFIG", "BalanceConfig", "JointAugment", "JointConfig", "JointData"]

SHARED_SECTIONS = ("backbone", "train")
"""Sections that all tasks share."""
DATASET_FIELDS = ("path", "train", "val", "columns")
"""Options of `data` that a task may set for itself."""
SHARED_DATA_FIELDS = ("workers", "on_error", "max_pixels", "cache_size", "size")
"""Options of `data` that all tasks share."""


class JointData(DataConfig):
    """The dataset of all tasks that name none of their own, and how datasets are read and mixed."""

    size: Count | tuple[Count, Count] | None = None
    """Side, or height and width, of the canvas on which all tasks are trained; that of the first task by default."""
    proportions: dict[str, Positive] | None = None
    """Share of the training images that are labeled for one set of tasks, such as `{detection: 1, semantic+depth: 3}`;
    by default every image occurs once in an epoch. Images of a small share take turns, those of a large one repeat."""


class JointAugment(GeometryConfig):
    """Random augmentation of images with labels of several tasks: a single warp, followed by the colors.

    An image with labels of one task is augmented as that task does it.
    """


class BalanceConfig(Config):
    """How the losses of the tasks are weighted against each other."""

    method: Literal["fixed", "uncertainty", "pcgrad"] = "fixed"
    """`fixed` weights; `uncertainty` learns them (Kendall, CVPR 2018); `pcgrad` has fixed weights and removes conflicts
    between the gradients on the encoder (Yu, NeurIPS 2020), at the cost of one backward pass per task."""
    weights: dict[str, NonNegative] = Field(default_factory=dict)
    """Factor of the losses of a task, such as `{depth: 2}`; 1 by default."""


class JointConfig(TaskConfig):
    """A joint model, its data and its training.

    A task's own options are a section of its name, `detection.arch`; all other sections are shared.
    """

    # The sections of the tasks are extra fields: their names are those of `tasks`.
    model_config = ConfigDict(extra="allow")
    predict_options: ClassVar[frozenset[str]] = frozenset(
        {
            *("tile", "overlap", "tta", "score_threshold", "max_detections", "iou_threshold", "class_agnostic"),
            *("classes", "probabilities", "focal_length"),
        }
    )

    task: Literal["joint"] = "joint"
    """The task that this config is for."""
    tasks: tuple[str, ...] = ("detection", "semantic", "depth")
    """The tasks, such as `[detection, depth]`. Each has a section of its own options, such as `detection.arch` or
    `depth.data.path`. Backbone, training options and resize rule are those of the first one by default."""
    data: JointData = JointData()
    augment: JointAugment = JointAugment()
    balance: BalanceConfig = BalanceConfig()

    __pydantic_extra__: dict[str, dict[str, Any]]
    _heads: dict[str, TaskConfig] = PrivateAttr(default_factory=dict)

    @classmethod
    def join(cls, configs: Mapping[str, TaskConfig]) -> JointConfig:
        """The config of a joint model of these tasks; what is shared comes from the first one.

        Args:
            configs: Name of each task -> its complete config.

        Raises:
            UsageError: They cannot be joined.
        """
        first = next(iter(configs.values())).to_dict()
        data = {name: value for name, value in first["data"].items() if name in SHARED_DATA_FIELDS}
        sections = {name: _strip_shared(config, {}) for name, config in configs.items()}
        shared = {name: first[name] for name in SHARED_SECTIONS}
        return cls.from_dict({"tasks": list(configs), **shared, "data": data, **sections})

    @property
    def heads(self) -> Mapping[str, TaskConfig]:
        """The complete config of each task, by its name."""
        return self._heads

    @property
    def dataset(self) -> str | None:
        """The dataset, or those of the tasks where they differ; None if a task has none."""
        paths = {name: head.data.path for name, head in self.heads.items()}
        if None in paths.values():
            return None
        if len(set(paths.values())) == 1:
            return next(iter(paths.values()))
        return ", ".join(f"{name}: {path}" for name, path in paths.items())

    def own_dataset(self, head: str) -> dict[str, Any]:
        """The fields of `data` that name a dataset of the task's own."""
        data = self.__pydantic_extra__[head]["data"]
        return {name: data[name] for name in DATASET_FIELDS}

    def replace(self, **settings: Any) -> JointConfig:
        """Replaces settings; another dataset also replaces those of the tasks, but for what is set with it."""
        values, dataset = self.to_dict(), {}
        own: dict[str, dict[str, Any]] = {head: {} for head in self.tasks}
        for name, value in settings.items():
            head, _, option = name.partition("__")
            if head in own and option:
                own[head][option] = value
                continue
            set_option(values, name.replace("__", "."), value)
            if name in (f"data__{field}" for field in DATASET_FIELDS):
                dataset[name] = value
        for head, options in own.items():
            # A task may drop what belongs to the previous dataset, such as a camera.
            changes = {**(dataset if "data__path" in dataset else {}), **options}
            if changes:
                own_dataset = dict.fromkeys(DATASET_FIELDS) if "data__path" in dataset else self.own_dataset(head)
                values[head] = self._replace_in_section(head, changes, options, own_dataset)
        return type(self).from_dict(values)

    def replace_section(self, head: str, config: TaskConfig, dataset: Mapping[str, Any]) -> JointConfig:
        """Returns a copy with another config of a task.

        Args:
            head: The name of the task.
            config: Its config, whose shared options are left out.
            dataset: The fields of `data` that name a dataset of the task's own.
        """
        return type(self).from_dict({**self.to_dict(), head: _strip_shared(config, dataset)})

    def _replace_in_section(
        self, head: str, changes: dict[str, Any], options: dict[str, Any], own_dataset: dict[str, Any]
    ) -> dict[str, Any]:
        for name, value in options.items():
            _refuse_shared(head, name.replace("__", "."), value)
        own_dataset |= {name: options[f"data__{name}"] for name in DATASET_FIELDS if f"data__{name}" in options}
        try:
            return _strip_shared(self.heads[head].replace(**changes), own_dataset)
        except UsageError as error:
            raise _add_section(error, head) from None

    @model_validator(mode="before")
    @classmethod
    def _check_sections(cls, values: Any) -> Any:
        """Refuses sections of other names than those of the tasks."""
        if not isinstance(values, dict):
            return values
        tasks = values.get("tasks", cls.model_fields["tasks"].default)
        names = [name for name in tasks if isinstance(name, str)] if isinstance(tasks, (tuple, list)) else []
        for name, section in values.items():
            if name in cls.model_fields:
                continue
            if name not in names:
                is_task = name in TASKS and name != NAME
                hint = f"Add {name} to tasks." if is_task else did_you_mean(name, [*cls.model_fields, *names])
                raise UsageError("no such option", field=name, value=section, hint=hint)
            if not isinstance(section, dict):
                raise UsageError("is a section, not a value", field=name, value=section)
        return values

    @model_validator(mode="after")
    def _complete(self) -> JointConfig:
        """Builds the configs of the tasks; what is not given follows the first one."""
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise UsageError("must name one task or more, each once", field="tasks", value=list(self.tasks))
        for name in self.balance.weights:
            if name not in self.tasks:
                hint = did_you_mean(name, self.tasks)
                raise UsageError("no such task", field=f"balance.weights.{name}", hint=hint)
        if self.arch or self.model:
            option = "arch" if self.arch else "model"
            hint = f"Set {self.tasks[0]}.{option}."
            raise UsageError(
                "has no effect: each task has its own", field=option, value=getattr(self, option), hint=hint
            )
        if self.balance.method == "pcgrad":
            self._check_projection()
        shared = {name: getattr(self, name).model_dump(mode="json", exclude_unset=True) for name in SHARED_SECTIONS}
        data = self.data.model_dump(mode="json", exclude_unset=True)
        for head in self.tasks:
            section = self.__pydantic_extra__.get(head, {})
            config = _build_head(head, section, shared, data)
            if not self._heads:
                shared = {name: getattr(config, name).to_dict() for name in shared}
                data |= {name: value for name, value in config.data.to_dict().items() if name in SHARED_DATA_FIELDS}
                self.__dict__.update(backbone=config.backbone, train=config.train)
                self.model_fields_set.update(shared)
                self.__dict__["data"] = _complete_data(self.data, data)
            self._heads[head] = config
            self.__pydantic_extra__[head] = _strip_shared(config, section.get("data", {}))
        return self

    def _check_projection(self) -> None:
        """Refuses what PCGrad cannot do: its gradients do not pass through Fabric."""
        train = self.train
        for option, is_supported in (
            ("devices", train.devices == 1),
            ("nodes", train.nodes == 1),
            ("precision", train.precision != "float16"),
        ):
            if not is_supported:
                value = getattr(train, option)
                hint = "Use balance.method=uncertainty or fixed."
                raise UsageError(
                    "does not work with balance.method=pcgrad", field=f"train.{option}", value=value, hint=hint
                )


def _build_head(
    head: str, section: Mapping[str, Any], shared: Mapping[str, dict[str, Any]], data: Mapping[str, Any]
) -> TaskConfig:
    """The complete config of a task.

    Raises:
        UsageError: The section sets what is shared, or one of its options is wrong; the error names the section.
    """
    task = get_task_name(head)
    config_class = load_config(task)
    own_data = section.get("data", {})
    own_data = own_data if isinstance(own_data, dict) else {}
    for name, value in {**section, **{f"data.{option}": value for option, value in own_data.items()}}.items():
        _refuse_shared(head, name, value)
    fields = _get_data_fields(config_class)
    merged = {name: value for name, value in own_data.items() if name not in DATASET_FIELDS or value is not None}
    for name in (*DATASET_FIELDS, *SHARED_DATA_FIELDS):
        # The names of splits and columns belong to the dataset that they were given with.
        is_foreign = name in ("train", "val", "columns") and merged.get("path") is not None
        if name in fields and data.get(name) is not None and not is_foreign:
            merged.setdefault(name, data[name])
    values = {**section, **shared, "data": merged, "task": task}
    try:
        return config_class.from_dict(values)
    except UsageError as error:
        raise _add_section(error, head) from None


def _refuse_shared(head: str, name: str, value: Any) -> None:
    """Refuses an option that a section cannot have."""
    if name == "task":
        raise UsageError(
            "follows from the name of the section", field=f"{head}.task", value=value, hint="Leave it out."
        )
    if name.partition(".")[0] in SHARED_SECTIONS or name in (f"data.{option}" for option in SHARED_DATA_FIELDS):
        raise UsageError("is shared by all tasks", field=f"{head}.{name}", value=value, hint=f"Set {name}.")


def _add_section(error: UsageError, head: str) -> UsageError:
    """The error with the name of the section in front of its field."""
    field = head if error.field is None else f"{head}.{error.field}"
    return UsageError(error.problem, field=field, value=error.value, hint=error.hint)


def _get_data_fields(config_class: type[TaskConfig]) -> Mapping[str, Any]:
    annotation: Any = config_class.model_fields["data"].annotation
    return annotation.model_fields


def _strip_shared(config: TaskConfig, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The section of a task: its options without those that are shared, and the dataset that it names itself."""
    values = {name: value for name, value in config.to_dict().items() if name not in ("task", *SHARED_SECTIONS)}
    values["data"] = {name: value for name, value in values["data"].items() if name not in SHARED_DATA_FIELDS}
    values["data"] |= {name: dataset.get(name) for name in DATASET_FIELDS}
    return values


def _complete_data(data: JointData, values: Mapping[str, Any]) -> JointData:
    """The shared data options with those of the first task; only the given ones count as given."""
    completed = JointData.from_dict({**data.to_dict(), **values})
    completed.model_fields_set.intersection_update(data.model_fields_set)
    return completed


CONFIG = JointConfig
