"""Images on which the ranges of activations are measured."""

from __future__ import annotations

import numpy as np

from densevision.sample import InputSpec, SampleSet, prepare_inputs

__all__ = ["MAX_IMAGES", "CalibrationInputs"]

MAX_IMAGES = 128
"""Ranges of activations change little beyond so many images."""


class CalibrationInputs:
    """Inputs of a network for images of a dataset, spread evenly over it and made one at a time.

    Args:
        samples: The dataset.
        specs: Size rule of each input.
    """

    def __init__(self, samples: SampleSet, specs: dict[str, InputSpec]):
        self.samples, self.specs = samples, specs
        count = min(len(samples), MAX_IMAGES)
        self.rows = np.linspace(0, len(samples) - 1, count).round().astype(int).tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        inputs, _ = prepare_inputs([self.samples[self.rows[index]]], self.specs)
        return {name: tensor.numpy() for name, tensor in inputs.items()}
