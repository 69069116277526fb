"""The base of every network: it knows its inputs, its losses, and how its outputs become predictions."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from densevision.sample import InputSpec

Tensors = dict[str, Tensor]


class Model(nn.Module):
    """A network that can be trained and decoded without anything around it.

    Images enter as (B, C, H, W) float RGB in [0, 1]; a model normalizes them itself, so that an exported file cannot be
    fed wrongly. Subclasses are plain modules: constructor arguments instead of config objects.

    Attributes:
        input_spec: Size rule of each input, by the name under which `forward` takes it.
    """

    input_spec: dict[str, InputSpec]

    def forward(self, **inputs: Tensor) -> Tensors:
        """Runs the network; keys, types and ranks of the outputs are the same in training and evaluation."""
        raise NotImplementedError

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Named losses, already weighted; their sum is minimized. Finite for batches without any ground truth."""
        raise NotImplementedError

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Runs the network and its losses; what a training step minimizes.

        Override it where losses need more than `forward` returns: sampled proposals, every iteration, denoising queries.
        """
        return self.loss(self(**inputs), targets)

    def postprocess(self, outputs: Tensors, **thresholds: Any) -> Tensors:
        """Outputs to predictions on the canvas by tensor arithmetic alone, so that an export can hold it."""
        return outputs
