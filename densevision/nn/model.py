"""The base class of all models: inputs, forward pass, losses, and postprocessing."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from densevision.sample import InputSpec

__all__ = ["Model", "Tensors"]

Tensors = dict[str, Tensor]


class Model(nn.Module):
    """A network with its losses and its postprocessing.

    Images are (B, C, H, W) float RGB in [0, 1]; a model normalizes them itself, so that exported files need no other
    preprocessing. Subclasses are plain modules: constructor arguments instead of config objects.

    Inputs and thresholds are keyword arguments that each subclass names: `forward(self, image)`, or
    `postprocess(self, outputs, score_threshold)`. The base declares them as `*args: Any, **kwargs: Any`, which the
    typing specification reads as "any parameters", so that type checkers accept every such override.

    Attributes:
        input_spec: Size rule of each input, by the name under which `forward` takes it.
    """

    input_spec: dict[str, InputSpec]
    has_timm_encoder: ClassVar[bool] = True
    """Whether an argument `encoder` of the constructor names a timm model."""
    backbone_name: ClassVar[str] = "encoder"
    """Name of the submodule that is pretrained: other tasks take it over, and it has a learning rate of its own."""

    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    """Layout of the weights of convolutions in predictions by the network itself."""
    allows_packing: ClassVar[bool] = True
    """Whether the inference form may lay out weights and maps as it likes; not where modules reshape by `view`."""

    def forward(self, *args: Any, **inputs: Any) -> Tensors:
        """Runs the network; keys, types and ranks of the outputs are equal in training and evaluation."""
        raise NotImplementedError

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Computes named, weighted losses whose sum is minimized; finite for batches without ground truth."""
        raise NotImplementedError

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Runs the network and computes its losses.

        Override it where losses need more than `forward` returns, such as sampled proposals or every iteration.
        """
        return self.loss(self(**inputs), targets)

    def on_progress(self, fraction: float) -> None:
        """Called by the training loop before every step with the finished share of training, in [0, 1].

        Override it for schedules inside the model, such as the annealing of masked attention.
        """

    def postprocess(self, outputs: Tensors, *args: Any, **thresholds: Any) -> Tensors:
        """Converts outputs to predictions on the canvas, by tensor operations that can be exported.

        It must not use parameters: it is also called on a copy of the model without weights.
        """
        return outputs

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """Computes the outputs of a perfect model for targets on a canvas of (height, width): inverts `postprocess`."""
        raise NotImplementedError
