"""The base of the segmentation networks that predict logits for every pixel."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.errors import UsageError
from densevision.nn.class_matching import ClassRows
from densevision.nn.model import Model, Tensors
from densevision.ops.view import Interpolation
from densevision.results.semantic_map import UNKNOWN, UNKNOWN_MULTILABEL
from densevision.sample import InputSpec
from densevision.tasks.semantic.losses import Mode, SegmentationCriterion, pad_labels

__all__ = ["CanvasSize", "Criterion", "SegmentationModel", "make_input_spec"]

Criterion = Callable[[Tensors, Tensors], Tensors]
"""Outputs and targets to named, weighted losses."""
CanvasSize = int | tuple[int, int]
"""A side, or (height, width)."""
GRAY = 0.5
"""Value of the canvas outside the image."""
IDEAL_LOGIT = 20.0
"""Logit of the right class in the outputs of a perfect model, above that of the others."""


class SegmentationModel(Model):
    """A network whose outputs are "logits" (B, C, H, W) and perhaps "auxiliary", same shape.

    Args:
        input_spec: Size rule of the image.
        num_classes: Classes, the background included.
        mode: "multiclass": one class per pixel. "binary": background or foreground, from one logit. "multilabel": any
            number of classes per pixel.
        criterion: The losses; cross-entropy when not given.

    Raises:
        ValueError: "binary" with another number of classes than 2.
    """

    min_train_batch = 1
    """Smallest batch that can be trained; 2 for networks with batch norm on globally pooled features."""
    may_have_image_size = False
    """Whether scores may have the size of the image already; comparing the sizes would limit the export of others."""

    def __init__(
        self,
        input_spec: InputSpec,
        num_classes: int,
        mode: Mode = "multiclass",
        criterion: Criterion | None = None,
    ):
        super().__init__()
        if mode == "binary" and num_classes != 2:
            raise ValueError(f"mode='binary' has 2 classes, not {num_classes}")
        self.input_spec = {"image": input_spec}
        self.num_classes = num_classes
        self.mode = mode
        self.criterion = criterion if criterion is not None else SegmentationCriterion(mode=mode)

    @property
    def num_outputs(self) -> int:
        """Channels that a head predicts: the classes, or one logit for "binary"."""
        return 1 if self.mode == "binary" else self.num_classes

    @property
    def class_layers(self) -> tuple[str, ...]:
        """Names of the convolutions whose outputs are the scores of the classes."""
        return ()

    @property
    def class_tensors(self) -> dict[str, ClassRows]:
        """The tensors with rows per class; none for "binary", whose only logit is that of the foreground."""
        layers = () if self.mode == "binary" else self.class_layers
        names = {name for name, _ in self.named_parameters()}
        rows = {f"{layer}.{leaf}": ClassRows() for layer in layers for leaf in ("weight", "bias")}
        return {name: layout for name, layout in rows.items() if name in names}

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """The losses of `criterion`.

        Args:
            outputs: What `forward` returns.
            targets: "labels" (B, H, W) int64, 255 unknown; with "multilabel" int32 sets of classes, bit i for class i,
                65535 unknown.
        """
        return self.criterion(outputs, targets)

    def postprocess(self, outputs: Tensors) -> Tensors:
        """ "probabilities" (B, C, H, W) float32; they sum to 1 over the classes unless "multilabel"."""
        logits = outputs["logits"].float().contiguous()  # three times as fast as along the channels of each pixel
        return {"probabilities": logits.sigmoid() if self.mode == "multilabel" else logits.softmax(1)}

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """Logits that are certain where the class is known and equal for all classes elsewhere."""
        is_multilabel = self.mode == "multilabel"
        labels = pad_labels(targets["labels"], size, is_multilabel)
        if is_multilabel:
            known = labels != UNKNOWN_MULTILABEL
            bits = torch.arange(self.num_classes, device=labels.device, dtype=labels.dtype)
            classes = 2 * (labels[:, None] >> bits[:, None, None] & 1) - 1
        else:
            known = labels != UNKNOWN
            classes = F.one_hot(labels.where(known, 0), self.num_classes).movedim(-1, 1)
        return {"logits": (IDEAL_LOGIT * classes * known[:, None]).float()}

    def _finish(self, scores: Tensors, image: Tensor, align_corners: bool = False) -> Tensors:
        """Scores at any resolution to logits of every class at every pixel of the image."""
        resized = {name: self._resize(score, image, align_corners) for name, score in scores.items()}
        if self.mode != "binary":
            return resized
        # One logit is enough for two exclusive classes: that of the background is zero.
        return {name: torch.cat([torch.zeros_like(score), score], 1) for name, score in resized.items()}

    def _resize(self, scores: Tensor, image: Tensor, align_corners: bool) -> Tensor:
        """Scores (B, C, h, w) bilinearly resized to the image (B, *, H, W)."""
        if self.may_have_image_size and scores.shape[-2:] == image.shape[-2:]:
            return scores
        # Losses and softmax run over the channels of every pixel: contiguous planes avoid copies there.
        return F.interpolate(scores.contiguous(), image.shape[-2:], mode="bilinear", align_corners=align_corners)


def make_input_spec(
    in_channels: int,
    image_size: CanvasSize | None = None,
    multiple_of: int = 1,
    min_side: int = 1,
    shorter_side: int | None = None,
    interpolation: Interpolation = "auto",
) -> InputSpec:
    """The size rule of an image: stretched to a size, scaled by its shorter side, or padded to a multiple.

    Args:
        in_channels: Channels of the image.
        image_size: Size to which images are stretched.
        multiple_of: Each side of an image that is not stretched is padded to a multiple of this.
        min_side: Minimum side of an image that is not stretched.
        shorter_side: Shorter side to which images are scaled, as torchvision's published weights need it.
        interpolation: Interpolation of stretching.

    Raises:
        UsageError: Both sizes are given.
    """
    if shorter_side is not None:
        if image_size is not None:
            raise UsageError("has no effect with input_size", field="model.shorter_side", value=shorter_side)
        return InputSpec(in_channels, "shortest", shorter_side, fill=GRAY, interpolation="antialiased")
    if image_size is None:
        min_side = max(min_side, multiple_of)
        return InputSpec(in_channels, "pad", multiple_of=multiple_of, min_side=min_side, fill=GRAY)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    return InputSpec(in_channels, "stretch", size, fill=GRAY, interpolation=interpolation)
