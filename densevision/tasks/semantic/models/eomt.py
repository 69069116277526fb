"""EoMT for semantic segmentation.

Source: Kerssies et al., Your ViT is Secretly an Image Segmentation Model, CVPR 2025.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from densevision.nn.eomt_model import EomtModel
from densevision.nn.mask_classification import MaskTargets, labels_to_targets
from densevision.nn.model import Tensors
from densevision.sample import InputSpec

__all__ = ["SemanticEomt"]

IDEAL_LOGIT = 20.0
"""Logit of the right class and inside the mask in the outputs of a perfect model."""


class SemanticEomt(EomtModel):
    """EoMT whose queries are summed to the probabilities of every pixel.

    Args:
        num_classes: Classes.
        image_size: Side, or (height, width), that the position embeddings are made for; images are resized to this
            shorter side.
        num_queries: Queries.
        ignore_index: Label of unknown pixels.
        options: Further arguments of `EomtModel`.
    """

    def __init__(
        self,
        num_classes: int = 150,
        image_size: int | tuple[int, int] = 512,
        num_queries: int = 100,
        *,
        ignore_index: int = 255,
        **options: Any,
    ):
        super().__init__(num_classes, image_size, num_queries, **options)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        patch_size = self.network.patch_size
        shorter = image_size if isinstance(image_size, int) else min(image_size)
        self.input_spec = {
            "image": InputSpec(
                self.network.in_channels,
                "shortest",
                shorter,
                multiple_of=patch_size,
                min_side=patch_size,
                fill=self.network.fill,
                interpolation="antialiased",
            )
        }

    def make_targets(self, targets: Tensors) -> MaskTargets:
        """The segments of "labels" (B, H, W) int64."""
        return labels_to_targets(targets["labels"], self.ignore_index)

    def postprocess(self, outputs: Tensors) -> Tensors:
        """Probabilities of the classes at every pixel.

        Returns:
            "probabilities": (B, num_classes, H, W) of the image padded to whole patches: the masks' probabilities
            weighted by those of their classes and normalized to a sum of 1.
        """
        stride = self.network.mask_stride
        masks = F.interpolate(outputs["mask_logits"].float(), scale_factor=stride, mode="bilinear").sigmoid()
        classes = outputs["class_logits"].float().softmax(2)[..., :-1]
        scores = torch.einsum("bqc,bqhw->bchw", classes, masks)
        scores = scores / scores.sum(1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)
        return {"probabilities": scores}

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """One query per class whose mask is certain; labels finer than the masks' stride are averaged."""
        stride = self.network.mask_stride
        labels = targets["labels"]
        labels = F.pad(labels, (0, size[1] - labels.shape[2], 0, size[0] - labels.shape[1]), value=self.ignore_index)
        inside = torch.stack([labels == index for index in range(self.num_classes)], 1).float()
        height, width = (-(-side // self.network.patch_size) * self.network.patch_size // stride for side in size)
        masks = F.interpolate(inside, (height, width), mode="area")
        classes = torch.eye(self.num_classes, self.num_classes + 1, device=labels.device)
        return {
            "mask_logits": IDEAL_LOGIT * (2 * masks - 1),
            "class_logits": IDEAL_LOGIT * classes.expand(len(labels), -1, -1),
        }
