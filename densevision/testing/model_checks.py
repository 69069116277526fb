"""`check_model`: everything that a `Model` must do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from densevision.errors import UsageError
from densevision.inference.loader import Collate
from densevision.inference.seed import seed_everything
from densevision.models import find_architectures
from densevision.nn.model import Model, Tensors
from densevision.nn.skip_init import SkipInit
from densevision.sample import Batch, InputSpec
from densevision.tasks import TASKS, load_config, load_task
from densevision.tasks.base import Task
from densevision.tasks.registry import Architecture

__all__ = ["MODEL_CHECKS", "check_model"]


@dataclass(frozen=True)
class _ClassArchitecture(Architecture):
    """An architecture of a class that need not be importable by name."""

    model_class: type[Model] = Model

    def load_class(self) -> type[Model]:
        return self.model_class


class ModelBench:
    """A model with a batch of its task's procedural scenes."""

    def __init__(self, architecture: Architecture, task: Task, arguments: Mapping[str, Any]):
        self.architecture, self.task, self.arguments = architecture, task, arguments
        # The task prepares inputs and targets for this model instead of the one of its config.
        self.task.__dict__["meta_model"] = self.build()
        samples = task.open_dataset("train")
        indices = range(min(2, len(samples)))
        augmented = [task.augment(samples, index, np.random.default_rng(index), 0) for index in indices]
        self.batch: Batch = Collate(task)(augmented)

    def build(self) -> Model:
        """Builds the model with the same initial weights each time."""
        seed_everything(0)
        backbone = self.task.config.backbone
        encoder_options = {**backbone.to_options(), "pretrained": False}
        offered = {"in_channels": backbone.channels, "encoder_options": encoder_options, **self.task.model_arguments()}
        return self.architecture.build(offered, self.arguments)


def check_model(
    model: str | type[Model],
    task: str | None = None,
    settings: Mapping[str, Any] | None = None,
    skip: Sequence[str] = (),
    **arguments: Any,
) -> list[str]:
    """Runs all checks of a model on procedural scenes, on the CPU.

    Args:
        model: The name of an architecture, or a class.
        task: The task of the model; needed for a class.
        settings: Dotted options of the task's config, e.g. `{"data.size": 64}` to keep the checks fast.
        skip: Names of checks to leave out, e.g. ("export",).
        **arguments: Arguments of the constructor.

    Returns:
        The names of the checks that were run.

    Raises:
        AssertionError: A check failed; the message begins with its name.
        UsageError: There is no such architecture, or the task of a class is not given.
    """
    if isinstance(model, str):
        names = [name for name in TASKS if model in find_architectures(name)]
        if not names:
            raise UsageError("no such architecture", field="model", value=model)
        task, architecture = names[0], find_architectures(names[0])[model]
    elif task is None:
        raise UsageError("pass the task of the model", field="task", value=None)
    else:
        architecture = _ClassArchitecture(f"{model.__module__}:{model.__qualname__}", model_class=model)
    config = load_config(task).resolve(None, {"data.path": "scenes:4:0", **(settings or {})})
    task_class = load_task(task)
    ran = []
    for check in MODEL_CHECKS:
        name = check.__name__.removeprefix("check_")
        if name in skip:
            continue
        try:
            check(ModelBench(architecture, task_class(task_class.infer_from_data(config)), arguments))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        ran.append(name)
    return ran


def check_input_spec(bench: ModelBench) -> None:
    """`input_spec` names the arguments of `forward`, and its first input is an image."""
    model = bench.build()
    assert isinstance(model, Model), f"{type(model).__name__} is not a subclass of Model"
    specs = getattr(model, "input_spec", None)
    assert isinstance(specs, dict) and specs, "input_spec is not a dict"
    assert all(isinstance(spec, InputSpec) for spec in specs.values()), "input_spec holds other values than InputSpec"
    assert next(iter(specs.values())).kind == "image", "the first input is not an image"
    assert set(specs) <= set(bench.batch.inputs), f"inputs are {list(bench.batch.inputs)}"


def check_same_outputs(bench: ModelBench) -> None:
    """Outputs have the same keys, types and ranks in training and evaluation."""
    model, inputs = bench.build(), bench.batch.inputs
    with torch.no_grad():
        training, evaluation = model.train()(**inputs), model.eval()(**inputs)
    first, second = (
        {name: (value.dtype, value.ndim) for name, value in outputs.items()} for outputs in (training, evaluation)
    )
    assert first == second, f"{first} in training, {second} in evaluation"


def check_deterministic(bench: ModelBench) -> None:
    """Evaluation gives the same outputs twice."""
    model = bench.build().eval()
    with torch.no_grad():
        first, second = model(**bench.batch.inputs), model(**bench.batch.inputs)
    assert all(torch.equal(first[name], second[name]) for name in first), "outputs differ between two calls"


def check_losses(bench: ModelBench) -> None:
    """Losses are finite scalars, with and without ground truth."""
    task, model = bench.task, bench.build().train()
    samples = task.open_dataset("train")
    unlabeled = Collate(task)([task.remove_labels(samples[0])])
    for title, batch in (("", bench.batch), (" without ground truth", unlabeled)):
        for name, value in _compute_losses(bench, model, batch).items():
            assert value.ndim == 0 and torch.isfinite(value), f"{name} is {value}{title}"


def check_gradients(bench: ModelBench) -> None:
    """Every trainable parameter gets a finite gradient."""
    model = bench.build().train()
    torch.stack(list(_compute_losses(bench, model, bench.batch).values())).sum().backward()
    parameters = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    missing = [name for name, weight in parameters.items() if weight.grad is None]
    assert not missing, f"no gradient: {missing[:5]}"
    broken = [
        name for name, weight in parameters.items() if weight.grad is not None and not weight.grad.isfinite().all()
    ]
    assert not broken, f"gradient not finite: {broken[:5]}"


def check_postprocess(bench: ModelBench) -> None:
    """Postprocessing runs on a copy of the model without weights."""
    model = bench.build().eval()
    with torch.no_grad():
        outputs = model(**bench.batch.inputs)
    with SkipInit():
        blank = bench.build()
    bench.task.__dict__["meta_model"] = blank
    problem = "postprocess uses parameters of the model"
    try:
        predictions = bench.task.postprocess(outputs, bench.task.evaluation_options())
    except RuntimeError as error:  # tensors on the meta device mixed with others
        raise AssertionError(f"{problem}: {error}") from error
    assert all(not value.is_meta for value in predictions.values()), problem


def check_state_dict(bench: ModelBench) -> None:
    """The state dict of one model fits another one of the same arguments, which then computes the same."""
    first = bench.build().eval()
    seed_everything(1)
    second = bench.build().eval()
    second.load_state_dict(first.state_dict(), strict=True)
    with torch.no_grad():
        outputs, others = first(**bench.batch.inputs), second(**bench.batch.inputs)
    assert all(torch.equal(outputs[name], others[name]) for name in outputs), "outputs differ after loading"


def check_export(bench: ModelBench) -> None:
    """`torch.export` gives the same outputs."""
    model = bench.build().eval()
    inputs = {name: value[:1] for name, value in bench.batch.inputs.items()}
    with torch.no_grad():
        try:
            program = torch.export.export(model, (), kwargs=inputs, strict=False)
        except Exception as error:  # whatever the code of the model raises under tracing
            raise AssertionError(f"torch.export cannot trace the model: {error}") from error
        outputs, others = model(**inputs), program.module()(**inputs)
    for name, value in outputs.items():
        assert torch.allclose(value.float(), others[name].float(), atol=1e-4), f"{name} differs after torch.export"


def _compute_losses(bench: ModelBench, model: Model, batch: Batch) -> Tensors:
    return bench.task.compute_losses(model, batch, None, "net")


MODEL_CHECKS: tuple[Callable[[ModelBench], None], ...] = (
    check_input_spec,
    check_same_outputs,
    check_deterministic,
    check_losses,
    check_gradients,
    check_postprocess,
    check_state_dict,
    check_export,
)
