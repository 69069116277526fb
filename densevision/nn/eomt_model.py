"""The base of EoMT's models: forward pass and training, which all tasks share.

Source: Kerssies et al., Your ViT is Secretly an Image Segmentation Model, CVPR 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from densevision.nn.class_matching import ClassRows
from densevision.nn.eomt import EomtNetwork
from densevision.nn.mask_classification import MaskClassificationLoss, MaskPrediction, MaskTargets, pad_targets
from densevision.nn.model import Model, Tensors

__all__ = ["EomtModel"]


class EomtModel(Model):
    """Masks and classes of an `EomtNetwork`. Subclasses say what the targets are, and implement `postprocess`.

    Args:
        num_classes: Classes.
        image_size: Side, or (height, width), that the position embeddings are made for.
        num_queries: Queries.
        encoder: timm ViT.
        patch_size: Pixels per patch.
        num_blocks: Last blocks of the encoder that see the queries.
        in_channels: Channels of the image.
        num_points: Points at which masks are compared in training.
        encoder_options: Fields of `densevision.run_config.BackboneConfig`, such as `pretrained` and `options`.

    Attributes:
        network: The network.
        criterion: Its losses.
    """

    backbone_name = "network.encoder"

    def __init__(
        self,
        num_classes: int,
        image_size: int | tuple[int, int],
        num_queries: int,
        *,
        encoder: str = "vit_large_patch14_reg4_dinov2",
        patch_size: int = 16,
        num_blocks: int = 4,
        in_channels: int = 3,
        num_points: int = 12544,
        encoder_options: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.network = EomtNetwork(
            num_classes, encoder, image_size, patch_size, num_queries, num_blocks, in_channels, encoder_options
        )
        self.criterion = MaskClassificationLoss(num_points=num_points)

    @property
    def class_tensors(self) -> dict[str, ClassRows]:
        """The tensors with rows per class."""
        return {f"network.class_head.{leaf}": ClassRows(after=1) for leaf in ("weight", "bias")}

    def forward(self, image: Tensor) -> Tensors:
        """Predicts masks and their classes.

        Args:
            image: (B, C, H, W) float RGB in [0, 1].

        Returns:
            "mask_logits": (B, Q, h, w) at stride `network.mask_stride` of the image padded to whole patches.
            "class_logits": (B, Q, num_classes + 1), the last one "no object".
        """
        mask_logits, class_logits = self.network(image)[-1]
        return {"mask_logits": mask_logits, "class_logits": class_logits}

    def make_targets(self, targets: Tensors) -> MaskTargets:
        """The segments of a batch."""
        raise NotImplementedError

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Losses of the final prediction; `compute_losses` also supervises the blocks before.

        Args:
            outputs: What `forward` returns.
            targets: See `make_targets`.

        Returns:
            "class", "mask" and "dice".
        """
        return self._losses([MaskPrediction(outputs["mask_logits"], outputs["class_logits"])], targets)

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Losses summed over the blocks with queries and the final prediction."""
        return self._losses(self.network(inputs["image"]), targets)

    def on_progress(self, fraction: float) -> None:
        """Anneals the masked attention; see `EomtNetwork.anneal_masks`."""
        self.network.anneal_masks(fraction)

    def _losses(self, predictions: list[MaskPrediction], targets: Tensors) -> Tensors:
        height, width = (side * self.network.mask_stride for side in predictions[-1].mask_logits.shape[-2:])
        return self.criterion(predictions, pad_targets(self.make_targets(targets), (height, width)))
