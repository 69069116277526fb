"""A U-Net without a pretrained backbone."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from densevision.nn.model import Model, Tensors
from densevision.nn.unet import UNetDecoder
from densevision.sample import InputSpec

__all__ = ["MattingUNet"]


class MattingUNet(Model):
    """Strided convolutions down to 1/8 of the image, and a U-Net decoder.

    Args:
        in_channels: Channels of the image.
        width: Channels at the size of the image.
    """

    def __init__(self, in_channels: int = 3, width: int = 16):
        super().__init__()
        self.input_spec = {"image": InputSpec(in_channels, multiple_of=8, min_side=16, fill="edge")}
        widths = [in_channels, 2 * width, 4 * width, 4 * width]
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(above, below, 3, 2, 1), nn.ReLU()) for above, below in pairwise(widths)
        )
        self.up = UNetDecoder(widths, width)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, image: Tensor) -> Tensors:
        """(B, in_channels, H, W) to "logits" (B, 1, H, W)."""
        levels = [image - 0.5]
        for step in self.down:
            levels.append(step(levels[-1]))
        return {"logits": self.last(self.up(levels))}

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Cross-entropy of the known pixels; "alpha" and "known" are (B, 1, H, W)."""
        each = F.binary_cross_entropy_with_logits(outputs["logits"].float(), targets["alpha"], reduction="none")
        return {"entropy": (each * targets["known"]).sum() / targets["known"].sum().clamp(min=1)}

    def postprocess(self, outputs: Tensors) -> Tensors:  # type: ignore[override]
        """Logits to "alpha" (B, 1, H, W) in [0, 1]."""
        return {"alpha": outputs["logits"].sigmoid()}

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """The logits of the target."""
        return {"logits": targets["alpha"].logit(1e-6)}
