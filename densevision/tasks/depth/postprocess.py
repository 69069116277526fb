"""The network's numbers to records in original pixels and real units: how they follow the image's size and camera."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from densevision.errors import UsageError
from densevision.ops.fields import to_original
from densevision.ops.view import View
from densevision.results.depth_map import Camera, DepthMap
from densevision.run_config import PredictOptions
from densevision.sample import InputSpec
from densevision.tasks.depth.config import DepthConfig

Tensors = dict[str, Tensor]

RIM = 0.05
"""Part of the width, at its left, that a mirrored look knows better: its surroundings are hidden from the right eye."""
LEAST = 1e-3
"""Least weight of a look anywhere."""


def fields(answers: Tensors, view: View, mirrored: bool, config: DepthConfig) -> Tensors:
    """Answers on the image's own pixels, as the image's camera would have them.

    Learned from pairs, the left rim of a look is guessed, for the right eye does not see it; it is taken from the
    mirrored look, and the right rim of the mirrored one from the direct look.
    Source: Godard et al., CVPR 2017, section 3.3, post-processing.

    Args:
        answers: "depth" (B, 1, h, w) on the canvas.
        view: How the network saw the image; where a look is scaled, its scale is included.
        mirrored: Left and right were exchanged before the view.
        config: What the network says.

    Returns:
        "depth" (B, 1, H, W); learned from pairs, this times "weight", beside it.
    """
    depth = to_original(answers["depth"], view)
    if config.unit == "px" or config.stereo:
        depth = depth / view.scale[0]
    elif config.unit == "m" and config.data.shorter is None:
        # What is looked at enlarged seems nearer. Under `shorter` all looks come to the same size.
        depth = depth * view.scale[0]
    if not config.stereo:
        return {"depth": depth.flip(-1) if mirrored else depth}
    weight = _rim_weight(depth)
    if mirrored:
        depth, weight = depth.flip(-1), weight.flip(-1)
    return {"depth": depth * weight, "weight": weight.expand_as(depth).clone()}


def results(
    answers: Tensors, views: Sequence[View], spec: InputSpec, options: PredictOptions, config: DepthConfig
) -> list[DepthMap]:
    """One record per image.

    Args:
        answers: Of the network, or fields that were averaged over looks and windows.
        views: How the network saw each image.
        spec: The rule by which images come to the network.
        options: `focal` is the images' own focal length.
        config: What the network says.

    Raises:
        UsageError: The answer needs a focal length that nobody gave, or that cannot be used.
    """
    records = []
    for row, view in enumerate(views):
        own = {name: answer[row : row + 1] for name, answer in answers.items()}
        if "weight" not in own:
            own = fields(own, view, False, config)
        depth = own["depth"] / own["weight"] if "weight" in own else own["depth"]
        records.append(_record(depth[0, 0].float(), view, spec, options, config))
    return records


def align(found: Tensors, guide: Tensors, config: DepthConfig) -> Tensors:
    """The fields of a window, brought to the scale of what the answer to the whole image says there.

    By the least-squares factor, and offset where the numbers have neither; where there is nothing to fit, unchanged.
    """
    depth, wanted = (part["depth"] / part["weight"] if "weight" in part else part["depth"] for part in (found, guide))
    if config.output == "disparity" and not config.unit:
        factor, offset = _line(depth, wanted)
        fitted = (depth * factor + offset).clamp(min=0)
    else:
        fitted = depth * ((depth * wanted).sum() / depth.square().sum().clamp(min=1e-12))
    return {**found, "depth": fitted * found["weight"] if "weight" in found else fitted}


def _record(depth: Tensor, view: View, spec: InputSpec, options: PredictOptions, config: DepthConfig) -> DepthMap:
    camera, usual = _camera(view, spec, options, config), _usual_focal(view, spec, options, config)
    if config.stereo and config.output == "metric":
        return _metric_from_disparity(depth, view, camera)
    limit = config.max if config.bounded else None
    if config.unit == "px":
        limit = config.max / view.scale[0]
    elif config.unit == "m" and options.focal_length is not None and usual is not None:
        depth, limit = depth * (options.focal_length / usual), config.max * options.focal_length / usual
    kind = {"kind": config.output, "unit": config.unit, "max": limit, "camera": camera}
    return DepthMap(depth=depth.numpy(), size=view.original, **kind)


def _metric_from_disparity(depth: Tensor, view: View, camera: Camera | None) -> DepthMap:
    if camera is None or camera.baseline is None:
        hint = "Give focal, in pixels of the image, to weights that know their baseline."
        raise UsageError("metric depth needs a calibrated camera", field="focal_length", value=None, hint=hint)
    disparity = DepthMap(depth=depth.numpy(), kind="disparity", unit="px", camera=camera, size=view.original)
    return disparity.metric()


def _camera(view: View, spec: InputSpec, options: PredictOptions, config: DepthConfig) -> Camera | None:
    """The camera of the image: that of `focal`, or else the one that the network takes it for."""
    focal = options.focal_length or _usual_focal(view, spec, options, config)
    if focal is None:
        return None
    offset = (config.camera.offset or 0.0) / spec.view(view.original).scale[0]
    return Camera(focal, baseline=config.camera.baseline, offset=offset)


def _usual_focal(view: View, spec: InputSpec, options: PredictOptions, config: DepthConfig) -> float | None:
    """The focal length, in pixels of the image, for which the numbers hold as they are."""
    if config.camera.focal is None:
        return None
    if config.data.shorter is not None and options.tile is not None:
        if options.focal_length is None:
            return None
        problem = "windows of networks with data.shorter have no known zoom"
        raise UsageError(
            problem, field="focal_length", value=options.focal_length, hint="Leave out focal_length, or tile."
        )
    return config.camera.focal / spec.view(view.original).scale[0]


def _rim_weight(depth: Tensor) -> Tensor:
    """Weights (1, 1, 1, W) of a direct look: those of its mirror image add up to 1, but for `LEAST`."""
    part = torch.linspace(0, 1, depth.shape[-1], device=depth.device)
    left = 1 - ((part - RIM) / RIM).clamp(0, 1)
    weight = left.flip(0) + 0.5 * (1 - left - left.flip(0))
    return weight.clamp(LEAST, 1 - LEAST).view(1, 1, 1, -1)


def _line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and offset of the least-squares line y = factor * x + offset; a flat x is only moved."""
    centered = x - x.mean()
    spread = centered.square().sum()
    factor = (centered * y).sum() / spread.clamp(min=1e-12)
    factor = torch.where((spread > 1e-12) & (factor > 0), factor, torch.ones_like(factor))
    return factor, y.mean() - factor * x.mean()
