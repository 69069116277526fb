"""What an encoder sees in an image, as one vector: for finding similar and diverse images, and near-duplicates."""

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

__all__ = ["build_encoder", "extract_features", "extract_layouts", "find_encoder", "make_input_spec", "mirror_layouts"]

SIDE = 224
"""Side of the square to which images are resized, whatever their shape."""
GRID = 2
"""The deepest level is averaged over each of GRID x GRID parts of the image, so that layout counts."""
LAYOUT_GRID = 4
"""Parts per side of an image whose differences from one another make its layout."""
LAYOUT_LEVELS = 2
"""Number of deepest levels that a layout consists of, besides the colors."""
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
    for levels in _run(encoder, samples, device):
        vectors = torch.nn.functional.adaptive_avg_pool2d(levels[-1], GRID).flatten(1)
        yield from torch.nn.functional.normalize(vectors).cpu().numpy()


def extract_layouts(encoder: Backbone, samples: Iterable[Sample], device: str = "auto") -> Iterator[np.ndarray]:
    """Yields what is where in the first image of each sample: the same for copies, whatever their size and compression.

    Colors and the deepest levels are averaged over LAYOUT_GRID x LAYOUT_GRID parts of the image. The mean of the parts
    is subtracted: images of one kind (all of cells, or of streets) have it in common, and it changes with compression.

    Args:
        encoder: The encoder, in evaluation mode.
        samples: Images with the encoder's number of channels.
        device: Where to compute; see `PredictOptions.device`.

    Yields:
        (LAYOUT_GRID, LAYOUT_GRID, C) float32 of length 1; rows are from top to bottom.
    """
    for levels in _run(encoder, samples, device):
        parts = []
        for level in (levels[0], *levels[1:][-LAYOUT_LEVELS:]):
            grid = torch.nn.functional.adaptive_avg_pool2d(level, LAYOUT_GRID)
            grid = grid - grid.mean((2, 3), keepdim=True)
            parts.append(grid / grid.flatten(1).norm(dim=1).clamp_min(1e-9)[:, None, None, None])
        grids = torch.cat(parts, 1).permute(0, 2, 3, 1)
        norms = grids.flatten(1).norm(dim=1).clamp_min(1e-9)
        yield from (grids / norms[:, None, None, None]).cpu().numpy()


def mirror_layouts(layouts: np.ndarray) -> np.ndarray:
    """The layouts (N, rows, columns, C) of the mirrored images, but for details."""
    return layouts[:, :, ::-1]


def _run(encoder: Backbone, samples: Iterable[Sample], device: str) -> Iterator[list[torch.Tensor]]:
    """Yields the levels of the encoder, of which the first one is the image, by batch: (B, C, H, W) float32 each."""
    specs, place, samples = make_input_spec(encoder), pick_device(device), iter(samples)
    encoder = encoder.to(place).eval()
    while batch := [Sample({"image": next(iter(sample.images.values()))}) for sample in islice(samples, BATCH)]:
        inputs = prepare_inputs(batch, specs)[0]["image"].to(place)
        with torch.inference_mode():
            yield [level.float() for level in encoder(inputs)]
