"""Options of two-stage detectors, whatever their task. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from densevision.config import Config, Count, Fraction, Positive


class AnchorConfig(Config):
    """Boxes from which the proposal network starts."""

    sizes: tuple[Positive, ...] = (32.0, 64.0, 128.0, 256.0, 512.0)
    """Square root of the anchors' area in pixels: one size for each level of the pyramid, the pooled one included."""
    ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    """Heights divided by widths."""
    everywhere: bool = False
    """Every level has anchors of all sizes, for pyramids of few levels."""


class ProposalConfig(Config):
    """The first stage: where there may be something."""

    depth: Count = 1
    """Convolutions before the prediction."""
    candidates: Count = 1000
    """Strongest proposals of each level that enter the suppression."""
    kept: Count = 1000
    """Most proposals per image."""
    training_candidates: Count = 2000
    """As `candidates`, while training."""
    training_kept: Count = 2000
    """As `kept`, while training."""
    nms: Fraction = 0.7
    """Intersection over union above which the weaker of two proposals of a level is dropped."""
    score_threshold: Fraction = 0.0
    """Lowest score of a proposal."""
    positive: Fraction = 0.7
    """Overlap with a truth from which an anchor is an object."""
    negative: Fraction = 0.3
    """Overlap with every truth below which an anchor is background."""
    samples: Count = 256
    """Anchors per image that are learned from."""
    positive_part: Fraction = 0.5
    """Largest part of them that are objects."""

    @model_validator(mode="after")
    def _thresholds_are_ordered(self) -> ProposalConfig:
        """Refuses a background that would reach into the objects."""
        if self.negative > self.positive:
            raise ValueError("proposals.negative must not be above proposals.positive")
        return self


class BoxConfig(Config):
    """The second stage: what it is, and where exactly."""

    resolution: Count = 7
    """Side of the features that are pooled for each proposal."""
    convolutions: int = Field(0, ge=0)
    """Convolutions before the dense layers."""
    hidden: tuple[Count, ...] = (1024, 1024)
    """Widths of the dense layers."""
    overlap: Fraction = 0.5
    """Overlap with a truth from which a proposal is that object, and below which it is background."""
    samples: Count = 512
    """Proposals per image that are learned from."""
    positive_part: Fraction = 0.25
    """Largest part of them that are objects."""


class MaskConfig(Config):
    """The mask head."""

    resolution: Count = 14
    """Side of the features that are pooled for each object; its mask has twice as many cells a side."""
    convolutions: Count = 4
    """Convolutions before the mask is enlarged."""
    width: Count = 256
    """Their channels."""


class KeypointConfig(Config):
    """The keypoint head."""

    resolution: Count = 14
    """Side of the features that are pooled for each object; its heatmaps have four times as many cells a side."""
    convolutions: Count = 8
    """Convolutions before the heatmaps are enlarged."""
    width: Count = 512
    """Their channels."""


class RcnnConfig(Config):
    """What all two-stage detectors have: a feature pyramid, proposals and a box head."""

    width: Count = 256
    """Channels of the feature pyramid."""
    strides: tuple[Count, ...] = (4, 8, 16, 32)
    """Levels of the backbone from which the pyramid is made; one more is added by taking every second cell."""
    levels: tuple[str, ...] | None = None
    """Modules of the timm model whose outputs are those levels, as in torchvision's MobileNet detectors; the ends of
    its stages when not given."""
    norm: Literal["none", "batch"] = "none"
    """Batch norms in the pyramid and in the heads' convolutions."""
    anchors: AnchorConfig = AnchorConfig()
    proposals: ProposalConfig = ProposalConfig()
    box: BoxConfig = BoxConfig()

    @model_validator(mode="after")
    def _levels_have_anchors(self) -> RcnnConfig:
        """Refuses sizes that are not one for each level."""
        levels = len(self.strides) + 1
        if self.levels is not None and len(self.levels) != len(self.strides):
            raise ValueError("levels must name one module for each of strides")
        if not self.anchors.everywhere and len(self.anchors.sizes) != levels:
            raise ValueError(f"anchors.sizes must name {levels} sizes: one for each of strides, and one for the pooled")
        return self
