"""Predicted maps to records in original pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from densevision.ops.fields import resize_to_original
from densevision.ops.view import View
from densevision.results import FlowField

__all__ = ["to_image_space", "to_results"]

Tensors = dict[str, Tensor]


def to_image_space(predictions: Tensors, view: View, mirrored: bool = False) -> Tensors:
    """Brings predictions to the image's own pixels: flow scales with the image, and changes direction in a mirror.

    Args:
        predictions: "flow" (B, 2, h, w), and optionally "occlusion" (B, 1, h, w), on the canvas.
        view: How the network saw the images.
        mirrored: The images were flipped horizontally before.

    Returns:
        The same maps, (B, C, H, W).
    """
    maps = {name: resize_to_original(prediction, view) for name, prediction in predictions.items()}
    maps["flow"] = maps["flow"] / maps["flow"].new_tensor(view.scale).view(2, 1, 1)
    if mirrored:
        maps = {name: each.flip(-1) for name, each in maps.items()}
        maps["flow"] = maps["flow"] * maps["flow"].new_tensor([-1.0, 1.0]).view(2, 1, 1)
    return maps


def to_results(predictions: Tensors, views: Sequence[View]) -> list[FlowField]:
    """Converts predictions on the CPU to one record per pair."""
    records = []
    for row, view in enumerate(views):
        maps = to_image_space({name: each[row : row + 1] for name, each in predictions.items()}, view)
        occlusion = maps["occlusion"][0, 0].numpy() if "occlusion" in maps else None
        records.append(FlowField.from_arrays(maps["flow"][0].numpy(), occlusion=occlusion))
    return records
