"""What an encoder sees in an image, as one vector: for finding similar and diverse images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from densevision.errors import UsageError
from densevision.inference.device import pick_device
from densevision.inference.predictor import Predictor, TorchPredictor
from densevision.nn.backbone import Backbone
from densevision.nn.timm_weights import find_cached_file, get_repository
from densevision.sample import InputSpec, Sample, prepare_inputs

__all__ = ["build_encoder", "extract_features", "find_encoder", "make_input_spec"]

SIDE = 224
"""Side of the square to which images are resized, whatever their shape."""
GRID = 2
"""The deepest level is averaged over each of GRID x GRID parts of the image, so that layout counts."""
BATCH = 16
_HINT = "Name a timm model as encoder, with encoder_weights=FILE."


def find_encoder(predictor: Predictor) -> Backbone:
    """Finds the encoder of a model.

    Raises:
        UsageError: The model is an exported file, or has no timm encoder.
    """
    modules = predictor.model.modules() if isinstance(predictor, TorchPredictor) else ()
    encoder = next((module for module in modules if isinstance(module, Backbone)), None)
    if encoder is None:
        problem = "has no encoder whose features can be read"
        raise UsageError(problem, file=predictor.file, field="weights", value=predictor.task.name, hint=_HINT)
    return encoder


def build_encoder(name: str, weights: str | Path | None) -> Backbone:
    """Builds a timm model with the weights of a file, or with those that timm has downloaded before.

    Raises:
        UsageError: There is no such model, or there are no weights.
        WeightsError: The file belongs to another model.
    """
    if weights is None and find_cached_file(get_repository(name)) is None:
        hint = "Give the state dict of timm's model as encoder_weights (--encoder-weights FILE)."
        raise UsageError("has no weights on this machine", field="encoder", value=name, hint=hint)
    return Backbone(name, pretrained=True if weights is None else str(weights)).eval()


def make_input_spec(encoder: Backbone) -> dict[str, InputSpec]:
    """The input of an encoder whose features are compared: a square."""
    return {"image": InputSpec(size=(SIDE, SIDE), mode="stretch", channels=encoder.channels[0])}


def extract_features(encoder: Backbone, samples: Iterable[Sample], device: str = "auto") -> Iterator[np.ndarray]:
    """Yields a vector of length 1 for the first image of each sample: averages of the deepest level over its parts.

    Args:
        encoder: The encoder, in evaluation mode.
        samples: Images with the encoder's number of channels.
        device: Where to compute; see `PredictOptions.device`.

    Yields:
        (D,) float32.
    """
    specs, place, samples = make_input_spec(encoder), pick_device(device), iter(samples)
    encoder = encoder.to(place).eval()
    while batch := [Sample({"image": next(iter(sample.images.values()))}) for sample in islice(samples, BATCH)]:
        inputs, _ = prepare_inputs(batch, specs)
        with torch.inference_mode():
            level = encoder(inputs["image"].to(place))[-1].float()
            vectors = torch.nn.functional.adaptive_avg_pool2d(level, GRID).flatten(1)
            vectors = torch.nn.functional.normalize(vectors)
        yield from vectors.cpu().numpy()
