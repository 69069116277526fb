"""Several models on one encoder: `JointModel`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.nn.model import Model, Tensors
from densevision.sample import InputSpec

__all__ = ["ROWS", "ComputeLosses", "JointModel", "join_names", "split_names"]

ROWS = "rows"
"""Name of a head's target (n,) int64: the images of the batch that its other targets are of; all without it."""
ComputeLosses = Callable[[str, Model, Tensors, Tensors, Sequence[int]], Tensors]
"""Computes the losses of a head: its name, its model, inputs, targets, and the positions of its images in the batch."""


class _Levels(NamedTuple):
    """The levels of the images that the heads take."""

    encoder: Backbone
    image: Tensor
    levels: list[Tensor]


_levels: ContextVar[_Levels] = ContextVar("levels")


class JointModel(Model):
    """Several models as heads of one encoder, which runs once per image.

    Names of outputs, targets, losses and predictions begin with that of their head, such as "depth/valid". A batch
    teaches the heads whose targets it has.

    Args:
        models: Name of each head -> a model on a `Backbone`. All have the same timm model with the same options. The
            joint model takes their modules over. Its encoder starts with the weights of the model that reads the most
            levels, of the first one of several.
        loss_weights: Factor of the losses of a head, 1 by default.
        uncertainty_weights: Learn a factor exp(-s) for the losses of each head, with s / 2 added to their sum (Kendall,
            Gal and Cipolla, Multi-Task Learning Using Uncertainty, CVPR 2018, equation 10, with s the logarithm of the
            variance).

    Attributes:
        encoder: The shared encoder.
        heads: The models, with placeholders as encoders.
        log_variances: s of each head, with `uncertainty_weights`.

    Raises:
        UsageError: There is no model, a name is no word, a model has no `Backbone`, or the encoders differ.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        loss_weights: Mapping[str, float] | None = None,
        uncertainty_weights: bool = False,
    ):
        super().__init__()
        encoders = _check_encoders(models)
        self.encoder = max(encoders.values(), key=lambda encoder: len(encoder.strides))
        for name, encoder in encoders.items():
            _check_same_encoder(name, encoder, self.encoder)
        # Not modules: the weights of all of them are those of the encoder.
        self._skeletons = {name: _copy_without_weights(encoder) for name, encoder in encoders.items()}
        for name, model in models.items():
            setattr(model, model.backbone_name, SharedLevels(encoders[name], self.encoder))
        self.heads = nn.ModuleDict(dict(models))
        if unknown := set(loss_weights or {}) - set(models):
            problem = "there is no such head"
            raise UsageError(problem, field="loss_weights", value=sorted(unknown), hint=f"Heads: {', '.join(models)}.")
        self.loss_weights = dict(loss_weights or {})
        self.log_variances = nn.ParameterDict({name: torch.zeros(()) for name in models if uncertainty_weights})
        self.input_spec = _merge_input_specs(models)

    def forward(self, arguments: Mapping[str, Mapping[str, Any]] | None = None, **inputs: Tensor) -> Tensors:
        """Runs the encoder and all heads.

        Args:
            arguments: Name of a head -> further arguments of its `forward`.
            **inputs: "image" (B, C, H, W) float RGB in [0, 1], and what else `input_spec` names.

        Returns:
            The outputs of every head, as "head/output".
        """
        with self._encode(inputs["image"]):
            outputs = {
                name: head(**_select(inputs, head), **(arguments or {}).get(name, {}))
                for name, head in self.iterate_heads()
            }
        return join_names(outputs)

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Weighted losses of the heads that have targets, as "head/loss"; see `compute_losses`."""
        outputs_by_head, targets_by_head = split_names(outputs), split_names(targets)
        losses = {
            name: head.loss(outputs_by_head[name], targets_by_head[name])
            for name, head in self.iterate_heads()
            if name in targets_by_head
        }
        return self._weight(losses)

    def compute_losses(self, inputs: Tensors, targets: Tensors, compute: ComputeLosses | None = None) -> Tensors:
        """Runs the encoder and the heads that have targets, and computes their losses.

        Args:
            inputs: As for `forward`.
            targets: Those of each head, as "head/target": of all images of the batch, or of those that "head/rows"
                names. The head then sees no others.
            compute: Computes the losses of one head; its `compute_losses` by default.

        Returns:
            Weighted losses as "head/loss"; with `uncertainty_weights` also "log_variance", which is added to them.

        Raises:
            UsageError: No head has targets.
        """
        targets_by_head = split_names(targets)
        losses = {}
        with self._encode(inputs["image"]) as shared:
            for name, head in self.iterate_heads():
                if name not in targets_by_head:
                    continue
                own_inputs, own_targets = _select(inputs, head), targets_by_head[name]
                rows = own_targets.pop(ROWS, None)
                with _take_rows(shared, own_inputs, rows) as taken:
                    if compute is None:
                        losses[name] = head.compute_losses(taken, own_targets)
                    else:
                        numbers = range(len(inputs["image"])) if rows is None else rows.tolist()
                        losses[name] = compute(name, head, taken, own_targets, numbers)
        return self._weight(losses)

    def on_progress(self, fraction: float) -> None:
        """Tells every head the finished share of training."""
        for _, head in self.iterate_heads():
            head.on_progress(fraction)

    def postprocess(self, outputs: Tensors, **thresholds: Mapping[str, Any]) -> Tensors:
        """Predictions of every head, as "head/prediction".

        Args:
            outputs: Of `forward`.
            **thresholds: Name of a head -> arguments of its `postprocess`, e.g. `detection={"score_threshold": 0.5}`.
        """
        outputs_by_head = split_names(outputs)
        return join_names(
            {
                name: head.postprocess(outputs_by_head[name], **thresholds.get(name, {}))
                for name, head in self.iterate_heads()
            }
        )

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """The outputs of perfect heads."""
        targets_by_head = split_names(targets)
        return join_names(
            {name: head.ideal_outputs(targets_by_head[name], size) for name, head in self.iterate_heads()}
        )

    def split(self) -> dict[str, Model]:
        """A model of its own for every head, with a copy of the weights; each computes what its head does here."""
        weights = self.encoder.state_dict()
        device = next(self.encoder.parameters()).device
        models = {}
        for name, head in self.iterate_heads():
            encoder, model = copy.deepcopy(self._skeletons[name]), copy.deepcopy(head)
            own = {key: weights[key].detach().clone() for key in encoder.state_dict()}
            encoder.load_state_dict(own, assign=True)
            setattr(model, model.backbone_name, encoder)
            models[name] = model.to(device).train(self.training)
        return models

    def iterate_heads(self) -> Iterator[tuple[str, Model]]:
        """Name and model of every head."""
        return ((name, cast(Model, head)) for name, head in self.heads.items())

    @contextmanager
    def expose(self, name: str) -> Iterator[Model]:
        """Gives a head as a model with the shared encoder within the block, to load weights into both."""
        head = cast(Model, self.heads[name])
        placeholder = getattr(head, head.backbone_name)
        setattr(head, head.backbone_name, self.encoder)
        try:
            yield head
        finally:
            setattr(head, head.backbone_name, placeholder)

    @contextmanager
    def _encode(self, image: Tensor) -> Iterator[_Levels]:
        """Runs the encoder, whose levels the heads take within the block."""
        shared = _Levels(self.encoder, image, self.encoder(image))
        token = _levels.set(shared)
        try:
            yield shared
        finally:
            _levels.reset(token)

    def _weight(self, losses: Mapping[str, Tensors]) -> Tensors:
        if not losses:
            hint = f"Targets are named HEAD/TARGET; heads: {', '.join(self.heads)}."
            raise UsageError("no head has targets", field="targets", hint=hint)
        weighted = dict(losses)
        for name in losses:
            factor: float | Tensor = self.loss_weights.get(name, 1.0)
            if name in self.log_variances:
                factor = factor * torch.exp(-self.log_variances[name])
            if isinstance(factor, Tensor) or factor != 1:
                weighted[name] = {key: factor * value for key, value in losses[name].items()}
        named = join_names(weighted)
        if self.log_variances:
            named["log_variance"] = torch.stack([self.log_variances[name] / 2 for name in losses]).sum()
        return named


class SharedLevels(nn.Module):
    """Takes the place of a head's encoder: gives the levels that the joint model's encoder has computed.

    Args:
        encoder: The encoder that it replaces.
        shared: The encoder of the joint model, which has the same levels or more.
    """

    def __init__(self, encoder: Backbone, shared: Backbone):
        super().__init__()
        self.strides, self.channels = list(encoder.strides), list(encoder.channels)
        if encoder.pyramid is None:
            self.positions = [0, *(1 + shared.stages.index(stage) for stage in encoder.stages)]
        else:
            self.positions = list(range(len(encoder.strides)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """The levels of the batch's images; a head that resizes them, as for training on several sizes, has a pass of
        its own.
        """
        shared = _levels.get()
        is_shared = image is shared.image or image.shape == shared.image.shape
        levels = shared.levels if is_shared else shared.encoder(image)
        return [levels[position] for position in self.positions]


def join_names(tensors_by_head: Mapping[str, Mapping[str, Tensor]]) -> Tensors:
    """{"depth": {"valid": x}} to {"depth/valid": x}."""
    return {f"{head}/{name}": tensor for head, tensors in tensors_by_head.items() for name, tensor in tensors.items()}


def split_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensors]:
    """{"depth/valid": x} to {"depth": {"valid": x}}; names without a head are left out."""
    tensors_by_head: dict[str, Tensors] = {}
    for full_name, tensor in tensors.items():
        head, slash, name = full_name.partition("/")
        if slash:
            tensors_by_head.setdefault(head, {})[name] = tensor
    return tensors_by_head


@contextmanager
def _take_rows(shared: _Levels, inputs: Tensors, rows: Tensor | None) -> Iterator[Tensors]:
    """Gives the inputs of some images of the batch, and their levels to the head, within the block."""
    if rows is None:
        yield inputs
        return
    taken = {name: tensor[rows] for name, tensor in inputs.items()}
    token = _levels.set(_Levels(shared.encoder, taken["image"], [level[rows] for level in shared.levels]))
    try:
        yield taken
    finally:
        _levels.reset(token)


def _select(inputs: Mapping[str, Tensor], head: Model) -> Tensors:
    return {name: inputs[name] for name in head.input_spec}


def _check_encoders(models: Mapping[str, Model]) -> dict[str, Backbone]:
    if not models:
        raise UsageError("no models", field="models", hint="Give at least one, by the name of its head.")
    encoders = {}
    for name, model in models.items():
        if not name.isidentifier():
            raise UsageError("is no name of a head", field="models", value=name, hint="Use letters, digits and _.")
        encoder = getattr(model, model.backbone_name, None)
        if not isinstance(encoder, Backbone):
            hint = "Use an architecture on the feature pyramid of a timm model."
            raise UsageError("has no encoder to share", field=f"models.{name}", value=type(model).__name__, hint=hint)
        encoders[name] = encoder
    return encoders


def _check_same_encoder(name: str, encoder: Backbone, shared: Backbone) -> None:
    """Refuses encoders of another timm model or other options, and levels that are not computed."""
    ours, theirs = (each.config.replace(pretrained=False) for each in (encoder, shared))
    # The levels of a plain ViT are made by modules of their own, one for each stride.
    is_contained = (
        set(encoder.stages) <= set(shared.stages) if encoder.pyramid is None else encoder.strides == shared.strides
    )
    if ours == theirs and is_contained:
        return
    values = {option: value for option, value in ours.to_dict().items() if value != theirs.to_dict()[option]}
    hint = "Give all models the same encoder, in_channels and encoder_options."
    problem = "its encoder differs from that of another model"
    raise UsageError(problem, field=f"models.{name}", value=values or encoder.strides[1:], hint=hint)


def _copy_without_weights(encoder: Backbone) -> Backbone:
    """A copy whose parameters take no memory; buffers outside of the state dict keep their values."""
    skeleton = copy.deepcopy(encoder)
    for module in skeleton.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(weight.to("meta"), requires_grad=weight.requires_grad))
    return skeleton


def _merge_input_specs(models: Mapping[str, Model]) -> dict[str, InputSpec]:
    """The rule of the first model, on a canvas that suits all of them."""
    specs = {name: spec for model in reversed(list(models.values())) for name, spec in model.input_spec.items()}
    images = [model.input_spec["image"] for model in models.values()]
    multiple_of = math.lcm(*(spec.multiple_of for spec in images))
    min_side = max(spec.min_side for spec in images)
    return {**specs, "image": replace(images[0], multiple_of=multiple_of, min_side=min_side)}
