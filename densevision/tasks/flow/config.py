"""Options of optical flow. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative, Positive
from densevision.run_config import CachedDataConfig, ColorConfig, TaskConfig
from densevision.tasks.flow.models import MODELS

__all__ = ["FlowAugment", "FlowConfig", "FlowData", "LossConfig"]


class FlowData(CachedDataConfig):
    """Where frame pairs come from, and what a training step sees of them."""

    size: tuple[Count, Count] = (192, 256)
    """Height and width of a training crop; multiples of 8, at least 128. RAFT's schedule uses 368 x 496 and larger."""
    passes: tuple[Literal["clean", "final"], ...] = ("clean", "final")
    """Rendering passes of Sintel and FlyingThings3D."""

    @model_validator(mode="after")
    def _check_crop_size(self) -> FlowData:
        if any(side % 8 or side < 128 for side in self.size):
            raise ValueError("data.size must be multiples of 8, at least 128")
        return self


class FlowAugment(ColorConfig):
    """Random augmentation: one warp for both images, colors and erased rectangles."""

    scale: tuple[Positive, Positive] = (0.87, 1.5)
    """Smallest and largest scale factor; the image at least fills the crop."""
    stretch: Annotated[float, Field(ge=1)] = 1.15
    """Largest factor by which one side is stretched relative to the other."""
    stretch_probability: Fraction = 0.8
    """Probability of stretching."""
    rotate: NonNegative = 0.0
    """Largest rotation in degrees to either side."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip."""
    flip_vertical: Fraction = 0.1
    """Probability of a vertical flip."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.16
    """Largest shift of the hue, as a fraction of the color circle."""
    saturation: Fraction = 0.4
    """Largest change of the saturation, as a factor of 1 plus or minus this."""
    blur: Fraction = 0.0
    """Probability of a Gaussian blur."""
    gray: Fraction = 0.0
    """Probability of conversion to gray."""
    asymmetric: Fraction = 0.2
    """Probability that the colors of both images change independently."""
    erase: Fraction = 0.5
    """Probability of filling one or two rectangles of the second image with its mean color."""
    erase_size: tuple[Count, Count] = (50, 100)
    """Smallest and largest side of such a rectangle in pixels."""

    @model_validator(mode="after")
    def _check_ranges(self) -> FlowAugment:
        for name in ("scale", "erase_size"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"augment.{name} must be [smallest, largest]")
        return self


class LossConfig(Config):
    """The losses of RAFT; SEA-RAFT has its own, whose options are `model.gamma` and `model.max_flow`."""

    supervision: Literal["ground_truth", "photometric"] = "ground_truth"
    """`ground_truth`: known flow; `photometric`: pairs without ground truth."""
    distance: Literal["l1", "robust"] = "l1"
    """Distance of flows: absolute, or (absolute + 0.01)^0.4, which is less sensitive to outliers."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Weight of an iteration's loss relative to the next one's."""
    max_flow: Positive = 400.0
    """Pixels whose true flow is at least this long are ignored."""
    occlusion: NonNegative = 0.5
    """Weight of the occlusion losses, where it is predicted and known: cross-entropy, and Dice for the final output."""
    matching: NonNegative = 0.0
    """Weight of the cross-entropy of each cell's match among all cells, which trains the features directly."""
    smoothness: NonNegative = 2.0
    """`photometric`: weight of the edge-aware smoothness."""
    census_radius: Annotated[int, Field(ge=1)] = 3
    """`photometric`: pixels to each side that describe a pixel."""

    @model_validator(mode="after")
    def _check_effects(self) -> LossConfig:
        unused = {
            "photometric": ("matching", "distance", "max_flow"),
            "ground_truth": ("smoothness", "census_radius"),
        }
        for name in unused[self.supervision]:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"loss.{name} has no effect with loss.supervision={self.supervision}; leave it out")
        return self


class FlowConfig(TaskConfig):
    """A flow network, its data and its training."""

    models: ClassVar[Mapping[str, Any]] = MODELS
    predict_options: ClassVar[frozenset[str]] = frozenset(
        {"tile", "overlap", "tta", "iterations", "warm_start", "forward_backward"}
    )

    task: Literal["flow"] = "flow"
    """The task that this config is for."""
    arch: str = "raft_small"
    """The architecture; `densevision models flow` lists the names."""
    data: FlowData = FlowData()
    augment: FlowAugment = FlowAugment()
    loss: LossConfig = LossConfig()


CONFIG = FlowConfig
