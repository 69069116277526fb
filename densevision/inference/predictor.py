"""A Model is a task with something that answers: a PyTorch network, or an exported file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from densevision.errors import UsageError, WeightsError
from densevision.inference.device import autocast, pick_device, pick_precision
from densevision.io.weights import Card, load_weights, save_weights
from densevision.ops.view import View
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import Sample, to_inputs
from densevision.tasks import load_config, load_task
from densevision.tasks.base import DenseModel, Task, Tensors


class Model(ABC):
    """Answers samples; base of whatever holds the weights.

    Attributes:
        task: The task, with the config of the weights.
        card: What the weights say of themselves.
        options: How it predicts when nothing else is asked for.
        file: Where the weights lie, if they came from a file.
    """

    file: Path | None = None

    def __init__(self, task: Task, card: Card, options: PredictOptions | None = None):
        self.task = task
        self.card = card
        self.options = options or PredictOptions()

    @abstractmethod
    def answers(self, inputs: Tensors, options: PredictOptions) -> Tensors:
        """Inputs on the network's canvas to the task's answers, as float32 tensors on the CPU."""

    def precision(self, options: PredictOptions) -> str:
        """The precision that it computes in under these options."""
        return pick_precision(options.precision, pick_device(options.device))

    def infer(self, samples: Sequence[Sample], options: PredictOptions, previous: Result | None = None) -> list[Result]:
        """Records of samples whose canvases have the same size.

        Args:
            samples: One at least.
            options: How to answer.
            previous: The answer to what came before, where one sample continues a sequence.
        """
        inputs, views = to_inputs(samples, self.task.inputs)
        if previous is not None:
            inputs |= self.task.warm_start_inputs(previous, views[0])
        return self.to_results(self.answers(inputs, options), views, options)

    def to_results(self, answers: Tensors, views: list[View], options: PredictOptions) -> list[Result]:
        """The task's records of its answers."""
        return self.task.results(answers, views, options)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Replaces options of the config, by dotted names: what data to be judged on, how to judge.

        Raises:
            UsageError: An option that only training supports.
        """
        for name, value in settings.items():
            if name.startswith(("train.", "augment.")):
                problem = f"has no effect on weights of {self.task.name} that are there"
                raise UsageError(problem, field=name, value=value, hint="Leave it out, or train with it.")
        dotted = {name.replace(".", "__"): value for name, value in settings.items()}
        self.task = type(self.task)(self.task.config.changed(**dotted))

    def predict(self, source: Any, **options: Any) -> Any:
        """Answers a source; the same as `densevision.predict(source, weights=...)`."""
        from densevision.inference.predict import predict

        return predict(self, source, **options)


class TorchModel(Model):
    """A PyTorch network in evaluation mode."""

    def __init__(self, task: Task, net: DenseModel, card: Card, options: PredictOptions | None = None):
        super().__init__(task, card, options)
        self.net = net.to(memory_format=torch.channels_last)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Replaces options of the config; those that shape the network build it anew around the same weights.

        Raises:
            WeightsError: The weights do not fit that network.
        """
        before = self.task.config
        super().configure(settings)
        others = [name for name in settings if not name.startswith(("data.", "train."))]
        if self.task.config.changed(data=before.plain()["data"], train=before.plain()["train"]) == before:
            return
        try:
            self.net = _built(self.task, self.net.state_dict()).eval()
        except RuntimeError:
            self.task = type(self.task)(before)
            value = ", ".join(f"{name}={settings[name]}" for name in others)
            hint = "Leave it out, or take weights that were trained with it."
            raise WeightsError("the weights are of a network without this", value=value, hint=hint) from None

    def answers(self, inputs: Tensors, options: PredictOptions) -> Tensors:
        """Runs the network on the device and in the precision that the options name."""
        device = pick_device(options.device)
        net = self.net.to(device)
        training = net.training
        net.eval()
        try:
            with torch.inference_mode(), autocast(device, self.precision(options)):
                moved = {name: tensor.to(device) for name, tensor in inputs.items()}
                outputs = net(**moved, **self.task.forward_kwargs(options))
            with torch.inference_mode():
                answers = self.task.answers(_float32(outputs), options)
        finally:
            net.train(training)
        return {name: tensor.cpu() for name, tensor in answers.items()}

    def save(self, path: str | Path, half: bool = False) -> None:
        """Writes the weights with their card as safetensors."""
        save_weights(path, self.net.state_dict(), self.card, half=half)


def load_torch(path: str | Path, task: str | None = None) -> TorchModel:
    """Reads a weights file into the network that its card describes.

    Args:
        path: A safetensors file with a card.
        task: Refuse weights of any other task.

    Raises:
        WeightsError: The file is truncated, foreign, newer, of another task, or does not fit its own card.
    """
    tensors, card = load_weights(path, task)
    built = load_task(card.task)(load_config(card.task).checked(card.config, path))
    try:
        net = _built(built, tensors)
    except RuntimeError as failure:
        detail = str(failure).splitlines()[1].strip() if "\n" in str(failure) else str(failure)
        raise WeightsError(
            "the tensors do not fit the network that the card describes", file=path, value=detail
        ) from None
    return TorchModel(built, net.eval(), card)


def without_weights(task: str, settings: Mapping[str, Any]) -> TorchModel:
    """A model whose network has nothing to learn, such as an interpolation.

    Args:
        task: Name of the task.
        settings: Dotted names to values of its config.
    """
    config = load_config(task).resolve(None, settings)
    built = load_task(task)(config)
    return TorchModel(built, built.net().eval(), Card(task=task, config=config.plain(), license="none needed"))


def start_from(net: DenseModel, path: str | Path, task: str) -> list[str]:
    """Gives a network the tensors of a weights file that fit it: all of them, or all but a head's of other classes.

    Of another task's weights it takes the backbone, which tasks share.

    Returns:
        Names of the network's tensors that were not taken from the file.

    Raises:
        WeightsError: The file cannot be read, or nothing in it fits.
    """
    tensors, card = load_weights(path)
    shared = "" if card.task == task else "encoder."
    own = net.state_dict()
    fitting = {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith(shared) and name in own and own[name].shape == tensor.shape
    }
    if not fitting:
        hint = "Give weights of a network of the same kind, or with the same backbone."
        raise WeightsError("none of its tensors fits the network", file=path, field="train.init_from", hint=hint)
    net.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _built(task: Task, tensors: Mapping[str, Tensor]) -> DenseModel:
    """The task's network with these weights, not those its backbone began with; RuntimeError where they do not fit."""
    blank = type(task)(task.config.changed(backbone__pretrained=False))
    with torch.device("meta"):
        net = blank.net()
    net.load_state_dict(tensors, strict=True, assign=True)
    _fill_unsaved(net, blank)
    return net


def _fill_unsaved(net: DenseModel, task: Task) -> None:
    """Buffers that are not part of a state dict stay on the meta device: take them from a network built anew."""
    if not any(tensor.is_meta for tensor in net.buffers()):
        return
    fresh = dict(task.net().named_buffers())
    for name, buffer in list(net.named_buffers()):
        if buffer.is_meta:
            owner, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(owner), leaf, fresh[name])


def _float32(tensors: Tensors) -> Tensors:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
