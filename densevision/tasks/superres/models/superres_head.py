"""From the encoder's levels to the answer: one network per architecture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.ops.imresize import enlarge
from densevision.tasks.superres.config import INTERPOLATIONS, SuperresConfig
from densevision.tasks.superres.models.edsr import EDSR
from densevision.tasks.superres.models.espcn import ESPCN
from densevision.tasks.superres.models.fsrcnn import FSRCNN
from densevision.tasks.superres.models.interpolation import Interpolation
from densevision.tasks.superres.models.nafnet import LEVELS, NAFNet
from densevision.tasks.superres.models.rrdb import FOLDS, RRDB
from densevision.tasks.superres.models.srcnn import SRCNN
from densevision.tasks.superres.models.srvgg import SRVGG
from densevision.tasks.superres.models.unet import UNet
from densevision.tasks.superres.models.vdsr import VDSR

NETWORKS: dict[str, Any] = {
    "edsr": EDSR,
    "edsr-large": partial(EDSR, width=256, depth=32, strength=0.1),
    "rrdb": RRDB,
    "srvgg": SRVGG,
    "srcnn": SRCNN,
    "fsrcnn": FSRCNN,
    "espcn": ESPCN,
    "vdsr": VDSR,
}
"""Architectures that see the image alone, by name: built from channels and scale, and a width and depth if given."""


class ImageHead(nn.Module):
    """Answers an image with an image.

    Args:
        network: See `networks`.
        scale: How many times larger the answer is.
        residual: Add the network's output to the bicubic enlargement.
        pyramid: The network takes all levels, not the image alone.
    """

    def __init__(self, network: nn.Module, scale: int, residual: bool = False, pyramid: bool = False):
        super().__init__()
        self.network, self.scale, self.residual, self.pyramid = network, scale, residual, pyramid

    @property
    def receptive_field_radius(self) -> int | None:
        """How far around it, in pixels of the input, a pixel of the answer looks; None where nobody can say."""
        receptive_field_radius = self.network.receptive_field_radius
        return (
            receptive_field_radius
            if receptive_field_radius is None or not self.residual
            else max(receptive_field_radius, Interpolation.receptive_field_radius)
        )

    def forward(self, image: list[Tensor]) -> dict[str, Tensor]:
        """Levels, the image (B, C, H, W) first, to `image` (B, C, scale * H, scale * W), not clipped to [0, 1]."""
        answer = self.network(image if self.pyramid else image[0])
        # Added in float32: half precision would round the image itself.
        return {"image": answer.float() + enlarge(image[0], self.scale).float() if self.residual else answer}


DEEPEST = 32
"""Largest stride of the pyramids of timm's encoders."""


def cell(config: SuperresConfig) -> int:
    """Side of the cells of pixels that the network folds or halves into one: what its canvas is a multiple of."""
    if config.arch == "unet":
        return DEEPEST
    if config.arch == "nafnet":
        return 1 << LEVELS
    return FOLDS.get(config.scale, 1) if config.arch == "rrdb" else 1


def build_head(config: SuperresConfig, channels: Sequence[int]) -> ImageHead:
    """The head that a config names.

    Args:
        config: Architecture, scale, width and depth.
        channels: Channels of every level, the image's first.
    """
    sizes = {name: getattr(config, name) for name in ("width", "depth") if getattr(config, name) is not None}
    pyramid = config.arch == "unet"
    if pyramid:
        network: nn.Module = UNet(channels, config.scale, **sizes)
    elif config.arch == "nafnet":
        network = NAFNet(channels[0], **sizes)
    elif config.arch in INTERPOLATIONS:
        network = Interpolation(config.scale, config.arch)
    elif config.arch == "community":
        problem = "a community file holds its network as it is: neither its scale nor anything else of it can be set"
        raise UsageError(
            problem, field="arch", value=config.arch, hint="Leave out what is set beside data and quality."
        )
    else:
        centered = {"detail": config.residual} if config.arch.startswith("edsr") else {}
        network = NETWORKS[config.arch](channels[0], config.scale, **sizes, **centered)
    return ImageHead(network, config.scale, config.residual, pyramid)
