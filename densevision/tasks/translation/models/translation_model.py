"""The base of generators: an image to an image of another kind and of the same size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densevision.nn.model import Model, Tensors
from densevision.sample import InputSpec
from densevision.tasks.translation.losses import L1Criterion
from densevision.tasks.translation.models.layers import Norm, get_norm

__all__ = ["TranslationModel"]

MIN_SIDE = 8
"""Smallest side of the canvas."""
MAX_ASPECT_RATIO = 4
"""Maximum longer side of a resized image, in `image_size`."""


class TranslationModel(Model):
    """Predicts an image of the size of its input.

    Subclasses implement `generate`.

    Args:
        in_channels: Channels of the image.
        norm: `batch` or `instance`.
        use_batch_stats: In evaluation, batch norms use the statistics of the image instead of running averages.
        image_size: Side of the square images of training.
        resize: Resize the shorter side of images to `image_size` for prediction; otherwise they keep their size.
        criterion: (B, C, H, W) prediction and targets to named losses; the L1 loss of pix2pix by default.

    Attributes:
        build_norm: Builds the norm of a number of channels.
        multiple_of: The network needs sides that are multiples of this; other images are padded inside the model, so
            that an exported file takes any size, too.
    """

    multiple_of: int = 1

    def __init__(
        self,
        in_channels: int = 3,
        *,
        norm: Norm = "batch",
        use_batch_stats: bool = True,
        image_size: int = 256,
        resize: bool = True,
        criterion: nn.Module | None = None,
    ):
        super().__init__()
        self.norm, self.build_norm = norm, get_norm(norm, use_batch_stats)
        self.image_size = image_size
        self.criterion = criterion or L1Criterion()
        spec = InputSpec(in_channels, min_side=MIN_SIDE, fill="edge")
        if resize:
            longest = MAX_ASPECT_RATIO * image_size
            spec = InputSpec(in_channels, "shortest", image_size, longest, min_side=MIN_SIDE, fill="edge")
        self.input_spec = {"image": spec}

    def generate(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], with sides that are multiples of `multiple_of`, to (B, C', H, W) from -1 to 1."""
        raise NotImplementedError

    def check_batch_size(self, batch_size: int) -> None:
        """Refuses batches that the network cannot be trained with.

        Raises:
            UsageError: A batch norm would see a single value.
        """

    def forward(self, image: Tensor) -> Tensors:
        """Translates an image.

        Args:
            image: (B, C, H, W) float in [0, 1], with sides of at least 8.

        Returns:
            "image": (B, C', H, W) in [0, 1].
        """
        height, width = image.shape[-2:]
        output = self.generate(_pad_to_multiple(image, self.multiple_of))[..., :height, :width]
        return {"image": (output + 1) / 2}

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """The L1 loss against "image" (B, C', H, W) where "known" (B, 1, H, W) is True."""
        return self.criterion(outputs["image"], targets)

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """The target images."""
        return {"image": targets["image"]}


def _pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeats the last row and column of a (B, C, H, W) image until both sides are multiples.

    By gathering, and with sides written as multiples, because an export must know that later layers halve them evenly.
    """
    for axis in (2, 3) if multiple > 1 else ():
        length = image.shape[axis]
        padded = (length + multiple - 1) // multiple * multiple
        index = torch.arange(padded, device=image.device).clamp(max=length - 1)
        image = image.index_select(axis, index)
    return image
