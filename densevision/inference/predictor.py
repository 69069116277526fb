"""Predictors: a task together with something that computes, a PyTorch model or an exported file."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from densevision.errors import UsageError, WeightsError, convert_error
from densevision.inference.card_config import read_card_config
from densevision.inference.device import autocast, pick_device, pick_precision
from densevision.inference.inference_form_cache import InferenceFormCache
from densevision.inference.predict import predict
from densevision.inference.sharing import EvaluationMode, ForkSafeLock
from densevision.io.weights import Card, check_task, load_card, load_shapes, load_weights, save_weights
from densevision.nn.class_matching import match_classes
from densevision.nn.input_adaptation import adapt_to_input
from densevision.nn.joint_model import split_names
from densevision.nn.model import Model, Tensors
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import Sample, prepare_inputs
from densevision.tasks import load_config, load_task
from densevision.tasks.base import Task

__all__ = [
    "Predictor",
    "TorchPredictor",
    "build_without_weights",
    "load_matching_tensors",
    "load_matching_weights",
    "load_torch",
]

log = logging.getLogger("densevision")

_MISMATCH = "the tensors do not fit the model that the card describes"


class Predictor(ABC):
    """A model that predicts samples.

    Attributes:
        task: The task, with the config of the weights.
        card: The card of the weights.
        options: Default options of `predict`.
        file: File of the weights, if they came from one.
        lock: For runtimes that only one thread may use at a time, such as the session of an exported file.
    """

    file: Path | None = None
    is_exported: ClassVar[bool] = False
    """Whether it runs the graph of an exported file, which takes images alone."""

    def __init__(self, task: Task, card: Card, options: PredictOptions | None = None):
        self.task = task
        self.card = card
        self.options = options or PredictOptions()
        self.lock = ForkSafeLock()

    @abstractmethod
    def predict_tensors(self, inputs: Tensors, options: PredictOptions) -> Tensors:
        """Computes the postprocessed predictions for inputs on the model's canvas: float32 tensors on the CPU."""

    def precision(self, options: PredictOptions) -> str:
        """The precision in which it computes under these options."""
        return pick_precision(options.precision, pick_device(options.device))

    def predict_batch(
        self, samples: Sequence[Sample], options: PredictOptions, previous: Result | None = None
    ) -> list[Result]:
        """Predicts samples whose canvases have the same size.

        Args:
            samples: At least one.
            options: The options.
            previous: The result of the previous image, where a single sample continues a sequence.
        """
        inputs, views = prepare_inputs(samples, self.task.input_spec)
        if previous is not None:
            inputs |= self.task.warm_start_inputs(previous, views[0])
        return self.task.to_results(self.predict_tensors(inputs, options), views, options)

    def take_part(self, name: str) -> Predictor:
        """A predictor of a part of the task by itself; see `Task.parts`."""
        return _PartPredictor(self, name)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Replaces options of the config by their dotted names, e.g. the dataset or the protocol of evaluation.

        Raises:
            UsageError: An option affects training only.
        """
        for name, value in settings.items():
            if name.startswith(("train.", "augment.")):
                problem = f"has no effect on trained weights of {self.task.name}"
                raise UsageError(problem, field=name, value=value, hint="Leave it out, or train with it.")
        changes = {name.replace(".", "__"): value for name, value in settings.items()}
        self.task = type(self.task)(self.task.config.replace(**changes))

    def predict(self, source: Any, **options: Any) -> Any:
        """Predicts a source; the same as `densevision.predict(source, weights=...)`."""
        return predict(self, source, **options)


class _PartPredictor(Predictor):
    def __init__(self, whole: Predictor, name: str):
        super().__init__(whole.task.parts[name], whole.card, whole.options)
        self.whole, self.name = whole, name

    def predict_tensors(self, inputs: Tensors, options: PredictOptions) -> Tensors:
        """The predictions of the part; those of the others are computed with them and dropped."""
        return split_names(self.whole.predict_tensors(inputs, options))[self.name]


class TorchPredictor(Predictor):
    """A PyTorch model in evaluation mode.

    Args:
        task: The task.
        model: The network.
        card: The card of the weights.
        options: Default options of `predict`.
        is_owner: Whether nothing else uses the network. Predictions then run on its inference form
            (`densevision.nn.inference_form`), until `model` hands the network out.
    """

    def __init__(
        self, task: Task, model: Model, card: Card, options: PredictOptions | None = None, is_owner: bool = False
    ):
        super().__init__(task, card, options)
        self._model = model
        self._inference_form = InferenceFormCache() if is_owner else None
        self._evaluation_mode = EvaluationMode()
        self._kept_outputs: tuple[dict[str, Any], Tensors] | None = None
        if not is_owner:
            self._use_plain_model()

    @property
    def model(self) -> Model:
        """The network. Whoever asks for it may change it or add hooks to it, so predictions run on itself from then on.

        They are equal up to rounding, and a little slower.
        """
        if self._inference_form is not None:
            self._use_plain_model()
        return self._model

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Replaces options of the config; where they change the model, it is rebuilt around the same weights.

        Raises:
            WeightsError: The weights do not fit the new model.
        """
        previous = self.task
        super().configure(settings)
        config = self.task.config
        before = previous.config.to_dict()
        if config.replace(data=before["data"], train=before["train"]) == previous.config:
            return
        try:
            self._model = _build_with_weights(self.task, self._model.state_dict()).eval()
            self._evaluation_mode = EvaluationMode()
            if self._inference_form is not None:
                self._inference_form = InferenceFormCache()
        except RuntimeError:
            self.task = previous
            options = [name for name in settings if not name.startswith(("data.", "train."))]
            value = ", ".join(f"{name}={settings[name]}" for name in options)
            hint = "Leave it out, or use weights that were trained with it."
            raise WeightsError("the weights do not fit a model with this option", value=value, hint=hint) from None

    def predict_tensors(self, inputs: Tensors, options: PredictOptions) -> Tensors:
        """Runs the model on the device and in the precision of the options; threads may share a predictor."""
        device, precision = pick_device(options.device), self.precision(options)
        with self._running_model(device, precision) as model, torch.inference_mode():
            with autocast(device, precision):
                moved = {name: tensor.to(device) for name, tensor in inputs.items()}
                arguments = {**moved, **self.task.forward_kwargs(options)}
                outputs = self._take_kept_outputs(arguments)
                outputs = model(**arguments) if outputs is None else outputs
            predictions = self.task.postprocess(_to_float32(outputs), options)
        return {name: tensor.cpu() for name, tensor in predictions.items()}

    @contextmanager
    def keep_outputs(self) -> Iterator[None]:
        """Keeps what the network returns within the block, so that the next prediction of the same inputs costs none.

        The network must run once, as `predict_tensors` would run it: in evaluation mode, on its device and in its
        precision.
        """
        calls: list[tuple[dict[str, Any], Tensors]] = []
        handle = self.model.register_forward_hook(
            lambda _, arguments, keywords, outputs: calls.append((keywords, dict(outputs))), with_kwargs=True
        )
        try:
            yield
        finally:
            handle.remove()
        self._kept_outputs = calls[0] if len(calls) == 1 else None

    def _take_kept_outputs(self, arguments: Mapping[str, Any]) -> Tensors | None:
        """The outputs that were kept, if they belong to these arguments; they are used once."""
        kept, self._kept_outputs = self._kept_outputs, None
        if kept is None or kept[0].keys() != arguments.keys():
            return None
        pairs = [(value, arguments[name]) for name, value in kept[0].items()]
        is_same = all(
            isinstance(old, Tensor) and isinstance(new, Tensor) and old.device == new.device and torch.equal(old, new)
            for old, new in pairs
        )
        return kept[1] if is_same else None

    def save(self, path: str | Path, half: bool = False) -> None:
        """Writes the weights with their card as safetensors."""
        save_weights(path, self._model.state_dict(), self.card, half=half)

    def _use_plain_model(self) -> None:
        self._inference_form = None
        self._model.to(memory_format=self._model.memory_format)

    def _running_model(self, device: torch.device, precision: str) -> AbstractContextManager[nn.Module]:
        """The network, or its inference form, on a device and in evaluation mode, for as long as a prediction takes."""
        cache = self._inference_form
        if cache is None:
            return self._evaluation_mode(self._model, device)
        return nullcontext(cache.get(self._model, device, precision))


def load_torch(path: str | Path, task: str | None = None) -> TorchPredictor:
    """Loads a weights file into the model that its card describes.

    Args:
        path: A safetensors file with a card.
        task: Refuse weights of any other task.

    Raises:
        WeightsError: The file is truncated, of another format, newer, of another task, or does not fit its own card.
    """
    card = load_card(path)
    check_task(card, path, task)
    config = read_card_config(card, path)
    loaded_task = load_task(card.task)(config)
    try:
        _check_shapes(loaded_task.meta_model, load_shapes(path), path)
        model = _build_with_weights(loaded_task, load_weights(path, task)[0])
    except RuntimeError as error:
        detail = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise WeightsError(_MISMATCH, file=path, value=detail) from None
    except UsageError as error:
        raise convert_error(error, WeightsError, path) from None
    return TorchPredictor(loaded_task, model.eval(), card, is_owner=True)


def build_without_weights(task: str, settings: Mapping[str, Any]) -> TorchPredictor:
    """Builds a predictor whose model has no weights, such as an interpolation.

    Args:
        task: Name of the task.
        settings: Dotted names to values of its config.
    """
    config = load_config(task).resolve(None, settings)
    built_task = load_task(task)(config)
    card = Card(task=task, config=config.to_dict(), license="none needed")
    return TorchPredictor(built_task, built_task.build_model().eval(), card, is_owner=True)


def load_matching_weights(model: Model, path: str | Path, task: str, classes: Sequence[str] | None = None) -> list[str]:
    """Loads the tensors of a weights file that fit a model: all, or all but the head of other classes.

    Of another task's weights it takes the backbone only. Where both name their classes, these are matched by name, not
    by position, and a log message says so. Weights of another number of input channels or image size are adapted.

    Args:
        model: The model; its other tensors keep their values.
        path: A densevision weights file.
        task: The model's task.
        classes: Names of the model's classes.

    Returns:
        Names of the model's tensors that were not loaded.

    Raises:
        WeightsError: The file cannot be read, or no tensor fits.
    """
    return load_matching_tensors(model, *load_weights(path), path, task, classes)


def load_matching_tensors(
    model: Model,
    tensors: Mapping[str, Tensor],
    card: Card,
    path: str | Path,
    task: str,
    classes: Sequence[str] | None = None,
) -> list[str]:
    """As `load_matching_weights`, for tensors that were read already.

    Args:
        model: The model.
        tensors: A state dict.
        card: What the tensors are.
        path: Their file, for messages.
        task: The model's task.
        classes: Names of the model's classes.
    """
    tensors = dict(tensors)
    prefix = "" if card.task == task else f"{getattr(model, 'backbone_name', 'encoder')}."
    if not prefix and classes is not None and card.classes is not None:
        tensors, message = match_classes(model, tensors, card.classes, classes)
        if message is not None:
            log.warning("%s: %s", path, message)
    tensors = _adapt(model, tensors, card, path)
    state = model.state_dict()
    matching = {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix) and name in state and state[name].shape == tensor.shape
    }
    if not matching:
        hint = "Use weights of the same architecture, or with the same backbone."
        raise WeightsError("none of its tensors fits the model", file=path, field="train.init_from", hint=hint)
    model.load_state_dict(matching, strict=False)
    return [name for name in state if name not in matching]


def _adapt(model: Model, tensors: dict[str, Tensor], card: Card, path: str | Path) -> dict[str, Tensor]:
    """Fits the tensors to the channels and the size of the model's first input, and says so."""
    spec = next(iter(getattr(model, "input_spec", {}).values()), None)
    source = card.config.get("backbone", {}).get("channels", 3)
    if spec is None or not isinstance(source, int) or source < 1:
        return tensors
    adapted, changed = adapt_to_input(model, tensors, source, spec.channels)
    if changed:
        log.warning("%s: adapted to the input of the model: %s", path, ", ".join(changed))
    return adapted


def _build_with_weights(task: Task, tensors: Mapping[str, Tensor]) -> Model:
    """Copies the task's model without weights around these tensors; RuntimeError where they do not fit."""
    model = copy.deepcopy(task.meta_model)
    model.load_state_dict(tensors, strict=True, assign=True)
    if any(buffer.is_meta for buffer in model.buffers()):  # neither in the state dict nor computed by the constructor
        buffers = dict(type(task)(task.config.replace(backbone__pretrained=False)).build_model().named_buffers())
        for name, buffer in list(model.named_buffers()):
            if buffer.is_meta:
                owner, _, leaf = name.rpartition(".")
                setattr(model.get_submodule(owner), leaf, buffers[name])
    return model


def _check_shapes(model: Model, shapes: Mapping[str, tuple[int, ...]], path: str | Path) -> None:
    """Compares a model with the header of a file, before any tensor is read."""
    model_shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in (*model_shapes, *shapes):
        if model_shapes.get(name) != shapes.get(name):
            expected, actual = (table.get(name, "nothing") for table in (model_shapes, shapes))
            value = f"the card needs {expected}, the file has {actual}"
            raise WeightsError(_MISMATCH, file=path, field=name, value=value)


def _to_float32(tensors: Tensors) -> Tensors:
    """Converts floats of half precision, and lays them out map by map in the same pass: afterwards it takes four times
    as long.
    """
    return {name: _widen(tensor) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _widen(tensor: Tensor) -> Tensor:
    is_wide = tensor.dtype == torch.float32
    return tensor if is_wide else tensor.to(torch.float32, memory_format=torch.contiguous_format)
