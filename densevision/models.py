"""Models as a library: `create_model` and `list_models`, as in timm, and `create_joint_model`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from densevision.errors import UsageError, did_you_mean
from densevision.tasks import TASKS, check_task_name, import_task_module
from densevision.tasks.registry import Architecture

if TYPE_CHECKING:
    from densevision.nn.joint_model import JointModel
    from densevision.nn.model import Model

__all__ = ["create_joint_model", "create_model", "find_architectures", "list_models"]

log = logging.getLogger(__name__)


def find_architectures(task: str | None = None) -> dict[str, Architecture]:
    """Every architecture by name; imports no torch.

    Args:
        task: Only those of this task.

    Raises:
        UsageError: There is no such task.
    """
    tasks = TASKS if task is None else (check_task_name(task),)
    return {name: architecture for each in tasks for name, architecture in _get_registry(each).items()}


def list_models(task: str | None = None) -> list[str]:
    """Names that `create_model` takes, sorted.

    Args:
        task: Only those of this task.

    Raises:
        UsageError: There is no such task.

    Example:
        >>> "yolo_n" in list_models("detection")
        True
    """
    return sorted(find_architectures(task))


def create_model(
    name: str,
    *,
    pretrained: str | os.PathLike[str] | None = None,
    class_names: Sequence[str] | None = None,
    **arguments: Any,
) -> Model:
    """Builds a model: an ordinary `torch.nn.Module` with `forward`, `loss`, `postprocess` and `input_spec`.

    Args:
        name: A name of `list_models()`.
        pretrained: Weights to start from: a densevision weights file, a name that `densevision models` lists, or
            `hf://owner/name`; names are downloaded. Tensors of other shapes, such as the head for other classes, keep
            their initial values; a log message names them.
        class_names: Names of the model's classes in order, which set `num_classes`. Rows of `pretrained` for classes of
            the same name are moved to their place, as `train.init_from` does it; without names they are matched by
            position.
        **arguments: Arguments of the model's constructor, such as `num_classes`, `in_channels` or `encoder`.

    Raises:
        UsageError: There is no such model, or it has no such argument.
        WeightsError: The weights cannot be read, or none of them fits.

    Example:
        >>> model = create_model("yolo_n", num_classes=3)
        >>> sorted(model.input_spec)
        ['image']
    """
    architectures = find_architectures()
    if name not in architectures:
        raise UsageError("no such model", value=name, hint=did_you_mean(name, architectures))
    if class_names is not None:
        num_classes = arguments.setdefault("num_classes", len(class_names))
        if num_classes != len(class_names):
            problem = f"is not the number of class_names, {len(class_names)}"
            raise UsageError(problem, field="num_classes", value=num_classes, hint="Leave it out.")
    model = architectures[name].build({}, arguments)
    if pretrained is not None:
        _load_pretrained(model, name, pretrained, class_names)
    return model


def create_joint_model(
    models: Mapping[str, Model], loss_weights: Mapping[str, float] | None = None, uncertainty_weights: bool = False
) -> JointModel:
    """Joins models into one with a shared encoder, which runs once per image.

    Args:
        models: Name of each head -> its model, of `create_model`, with the same `encoder`. They are taken over.
        loss_weights: Factor of the losses of a head, 1 by default.
        uncertainty_weights: Learn these factors instead (Kendall, Gal and Cipolla, CVPR 2018).

    Raises:
        UsageError: A model has no encoder to share, or the encoders differ.

    Example:
        >>> options = {"encoder": "test_resnet", "num_classes": 3}
        >>> heads = {"boxes": create_model("yolo_n", **options), "classes": create_model("fcn32s", **options)}
        >>> sorted(create_joint_model(heads).split())
        ['boxes', 'classes']
    """
    from densevision.nn.joint_model import JointModel

    return JointModel(models, loss_weights, uncertainty_weights)


def _load_pretrained(
    model: Model, name: str, pretrained: str | os.PathLike[str], class_names: Sequence[str] | None
) -> None:
    from densevision.inference.predictor import load_matching_weights
    from densevision.published_weights import resolve_weights

    task = next(task for task in TASKS if name in _get_registry(task))
    skipped = load_matching_weights(model, resolve_weights(pretrained, task), task, class_names)
    if skipped:
        log.warning("%d tensors of %s are not in %s: %s", len(skipped), name, pretrained, ", ".join(skipped))


def _get_registry(task: str) -> dict[str, Architecture]:
    return import_task_module(task, "models").MODELS
