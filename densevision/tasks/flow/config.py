"""Options of optical flow. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, NonNegative, Positive
from densevision.run_config import BackboneConfig, ColorConfig, DataConfig, TaskConfig


class FlowData(DataConfig):
    """Where the pairs come from, and what training sees of them."""

    size: tuple[Count, Count] = (192, 256)
    """Height and width of a training crop; multiples of 8, at least 128. RAFT's stages take 368 x 496 and more."""
    passes: tuple[Literal["clean", "final"], ...] = ("clean", "final")
    """Renderings of Sintel and FlyingThings3D that are read."""

    @model_validator(mode="after")
    def _crop_fits_the_network(self) -> FlowData:
        if any(side % 8 or side < 128 for side in self.size):
            raise ValueError("data.size must be multiples of 8, at least 128")
        return self


class FlowAugment(ColorConfig):
    """What chance does to a training pair: one warp for both images, colors and an eraser for each."""

    scale: tuple[Positive, Positive] = (0.87, 1.5)
    """Least and largest factor of size; the crop stays inside the image where it can."""
    stretch: Annotated[float, Field(ge=1)] = 1.15
    """Largest factor by which one side is stretched against the other."""
    stretched: Fraction = 0.8
    """Probability of stretching."""
    rotate: NonNegative = 0.0
    """Largest rotation, in degrees to either side."""
    flip: Fraction = 0.5
    """Probability of mirroring left and right."""
    flip_vertical: Fraction = 0.1
    """Probability of mirroring top and bottom."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.16
    """Largest turn of the hue, as a part of the color circle."""
    saturation: Fraction = 0.4
    """Largest change of the saturation, as a factor of 1 plus or minus this."""
    blur: Fraction = 0.0
    """Probability of a Gaussian blur."""
    gray: Fraction = 0.0
    """Probability of taking the colors away."""
    asymmetric: Fraction = 0.2
    """Probability that each image changes its colors on its own."""
    erase: Fraction = 0.5
    """Probability of painting one or two rectangles of the second image in its mean color."""
    erased: tuple[Count, Count] = (50, 100)
    """Least and largest side of such a rectangle, in pixels."""

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> FlowAugment:
        for name in ("scale", "erased"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"augment.{name} reads [least, largest]")
        return self


class LossConfig(Config):
    """What the network is trained on."""

    supervision: Literal["truth", "photometric"] = "truth"
    """`truth`: the flow is known; `photometric`: only that both images show the same things."""
    kind: Literal["l1", "robust"] = "l1"
    """Distance to the truth: absolute, or (absolute + 0.01)^0.4, which cares less for what is hopeless."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Weight of a step's loss relative to that of the next step."""
    largest: Positive = 400.0
    """Truths that move farther, in pixels, are left out."""
    occlusion: NonNegative = 0.5
    """Weight of the losses of occlusion, where it is predicted and known: cross-entropy, and Dice at the end."""
    matching: NonNegative = 0.0
    """Weight of the cross-entropy of each cell's match among all cells, which teaches the features directly."""
    smoothness: NonNegative = 2.0
    """`photometric`: weight of the flow's changes where the image does not change."""
    census: Annotated[int, Field(ge=1)] = 3
    """`photometric`: pixels to each side that describe a pixel."""


class FlowConfig(TaskConfig):
    """A flow network, its data and its training."""

    task: Literal["flow"] = "flow"
    """The task that this config is for."""
    arch: Literal["raft", "raft_timm"] = "raft"
    """`raft`: RAFT with its own encoders; `raft_timm`: RAFT on the stride-8 level of any timm pyramid."""
    preset: Literal["tiny", "small", "large"] = "small"
    """Widths of the network: RAFT's own small and large, and one for training without a GPU."""
    iterations: Count = 12
    """Steps of refinement in prediction."""
    train_iterations: Count = 12
    """Steps of refinement in training."""
    occlusion: bool = True
    """Predict what is occluded, and feed it back into the next step."""
    correlation: Literal["auto", "volume", "blocks"] = "auto"
    """`volume` compares all pairs once, `blocks` what is looked at when it is; equal answers, less memory."""
    frozen_norms: bool = False
    """Keep the statistics of the context encoder's batch norms, as RAFT does after FlyingChairs."""
    data: FlowData = FlowData()
    augment: FlowAugment = FlowAugment()
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> FlowConfig:
        """Refuses what the chosen network and losses would ignore."""
        if self.arch == "raft" and self.backbone != BackboneConfig(channels=self.backbone.channels):
            raise ValueError("backbone has no effect on arch raft but for channels; set arch to raft_timm")
        if self.frozen_norms and (self.arch == "raft_timm" or self.preset != "large"):
            raise ValueError("frozen_norms has no effect: only arch raft, preset large, has batch norms of its own")
        if self.loss.matching and self.loss.supervision == "photometric":
            raise ValueError("loss.matching has no effect with loss.supervision=photometric; leave it out")
        if self.loss.supervision == "truth":
            for name in ("smoothness", "census"):
                if getattr(self.loss, name) != LossConfig.model_fields[name].default:
                    raise ValueError(f"loss.{name} has no effect with loss.supervision=truth; leave it out")
        return self


CONFIG = FlowConfig
