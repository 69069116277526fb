"""Network outputs to records in original pixels and real units: how they follow the image's size and camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.errors import UsageError
from densevision.ops.fields import resize_to_original
from densevision.ops.view import View
from densevision.results.depth_map import Camera, DepthMap
from densevision.run_config import PredictOptions
from densevision.sample import InputSpec
from densevision.tasks.depth.config import DepthConfig

__all__ = ["align_to_reference", "to_image_space", "to_results"]

Tensors = dict[str, Tensor]
Upsampling = Literal["bilinear", "bicubic"]

BORDER = 0.05
"""Fraction of the width at the left that is occluded for the right camera, where the mirrored view is better."""
MIN_WEIGHT = 1e-3
"""Smallest weight of a view anywhere."""


def to_image_space(
    predictions: Tensors, view: View, mirrored: bool, config: DepthConfig, upsampling: Upsampling = "bilinear"
) -> Tensors:
    """Brings predictions to the image's own pixels, for the image's camera.

    After stereo training the left border of a view is a guess, because the right camera does not see it; it is taken
    from the mirrored view, and the right border of the mirrored view from the direct one.
    Source: Godard et al., CVPR 2017, section 3.3, post-processing.

    Args:
        predictions: "depth" (B, 1, h, w) on the canvas.
        view: How the network saw the image; includes the scale of a TTA view.
        mirrored: The image was flipped horizontally before the view.
        config: What the network predicts.
        upsampling: How depth is resized.

    Returns:
        "depth" (B, 1, H, W); after stereo training multiplied by a "weight", which is then returned as well.
    """
    depth = _resize(predictions["depth"], view, upsampling)
    if config.unit == "px" or config.is_stereo:
        depth = depth / view.scale[0]
    elif config.unit == "m" and config.data.shorter is None:
        # An enlarged image looks nearer. With `shorter` all views have the same size.
        depth = depth * view.scale[0]
    if not config.is_stereo:
        return {"depth": depth.flip(-1) if mirrored else depth}
    weight = _border_weight(depth)
    if mirrored:
        depth, weight = depth.flip(-1), weight.flip(-1)
    return {"depth": depth * weight, "weight": weight.expand_as(depth).clone()}


def to_results(
    predictions: Tensors,
    views: Sequence[View],
    spec: InputSpec,
    options: PredictOptions,
    config: DepthConfig,
    upsampling: Upsampling = "bilinear",
) -> list[DepthMap]:
    """Converts predictions to one record per image.

    Args:
        predictions: On the canvas, or averages of `to_image_space` over views and tiles.
        views: How the network saw each image.
        spec: Size rule of the network.
        options: `focal_length` is that of the images.
        config: What the network predicts.
        upsampling: How depth is resized.

    Raises:
        UsageError: A focal length is needed, or cannot be used.
    """
    records = []
    for row, view in enumerate(views):
        maps = {name: prediction[row : row + 1] for name, prediction in predictions.items()}
        if "weight" not in maps:
            maps = to_image_space(maps, view, False, config, upsampling)
        records.append(_make_record(_unweighted(maps)[0, 0].float(), view, spec, options, config))
    return records


def align_to_reference(maps: Tensors, reference: Tensors, config: DepthConfig) -> Tensors:
    """Fits the maps of a tile to the prediction for the whole image.

    Fits a least-squares scale, and a shift where the predictions have none; unchanged where nothing can be fitted.
    """
    depth, target = _unweighted(maps), _unweighted(reference)
    if config.output == "disparity" and not config.unit:
        scale, shift = _fit_line(depth, target)
        fitted = (depth * scale + shift).clamp(min=0)
    else:
        fitted = depth * ((depth * target).sum() / depth.square().sum().clamp(min=1e-12))
    return {**maps, "depth": fitted * maps["weight"] if "weight" in maps else fitted}


def _unweighted(maps: Tensors) -> Tensor:
    return maps["depth"] / maps["weight"] if "weight" in maps else maps["depth"]


def _resize(depth: Tensor, view: View, upsampling: Upsampling) -> Tensor:
    if upsampling == "bilinear" or view.content != view.size:
        return resize_to_original(depth, view)
    if depth.shape[-2:] == view.original:
        return depth
    resized = F.interpolate(depth, view.original, mode="bicubic", align_corners=False)
    return resized.clamp(min=0)  # bicubic interpolation overshoots


def _make_record(depth: Tensor, view: View, spec: InputSpec, options: PredictOptions, config: DepthConfig) -> DepthMap:
    camera, default_focal = _get_camera(view, spec, options, config), _get_default_focal(view, spec, options, config)
    if config.is_stereo and config.output == "metric":
        return _convert_to_metric(depth, view, camera)
    limit = config.max_depth if config.is_bounded else None
    if config.unit == "px":
        limit = config.max_depth / view.scale[0]
    elif config.unit == "m" and options.focal_length is not None and default_focal is not None:
        zoom = options.focal_length / default_focal
        depth, limit = depth * zoom, config.max_depth * zoom
    return DepthMap(
        depth=depth.numpy(), kind=config.output, unit=config.unit, max=limit, camera=camera, size=view.original
    )


def _convert_to_metric(depth: Tensor, view: View, camera: Camera | None) -> DepthMap:
    if camera is None or camera.baseline is None:
        hint = "Set focal_length, in pixels of the image; the weights must know their baseline."
        raise UsageError("metric depth needs a calibrated camera", field="focal_length", value=None, hint=hint)
    disparity = DepthMap(depth=depth.numpy(), kind="disparity", unit="px", camera=camera, size=view.original)
    return disparity.metric()


def _get_camera(view: View, spec: InputSpec, options: PredictOptions, config: DepthConfig) -> Camera | None:
    """The camera of the image: with `focal_length`, or else the one that predictions are stated for."""
    focal = options.focal_length or _get_default_focal(view, spec, options, config)
    if focal is None:
        return None
    offset = (config.camera.offset or 0.0) / spec.view(view.original).scale[0]
    return Camera(focal, baseline=config.camera.baseline, offset=offset)


def _get_default_focal(view: View, spec: InputSpec, options: PredictOptions, config: DepthConfig) -> float | None:
    """The focal length in pixels of the image for which predictions need no correction."""
    if config.camera.focal is None:
        return None
    if config.data.shorter is not None and options.tile is not None:
        if options.focal_length is None:
            return None
        problem = "has no effect with tiles of networks with data.shorter, whose zoom is unknown"
        hint = "Leave out focal_length, or tile."
        raise UsageError(problem, field="focal_length", value=options.focal_length, hint=hint)
    return config.camera.focal / spec.view(view.original).scale[0]


def _border_weight(depth: Tensor) -> Tensor:
    """Weights (1, 1, 1, W) of a direct view; with those of its mirror image they add up to 1."""
    position = torch.linspace(0, 1, depth.shape[-1], device=depth.device)
    left = 1 - ((position - BORDER) / BORDER).clamp(0, 1)
    weight = left.flip(0) + 0.5 * (1 - left - left.flip(0))
    return weight.clamp(MIN_WEIGHT, 1 - MIN_WEIGHT).view(1, 1, 1, -1)


def _fit_line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of the least-squares line y = scale * x + shift; a constant x is only shifted."""
    centered = x - x.mean()
    variance = centered.square().sum()
    scale = (centered * y).sum() / variance.clamp(min=1e-12)
    scale = torch.where((variance > 1e-12) & (scale > 0), scale, torch.ones_like(scale))
    return scale, y.mean() - scale * x.mean()
