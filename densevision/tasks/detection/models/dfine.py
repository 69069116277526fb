"""D-FINE: a real-time detection transformer that predicts a set of boxes and needs no suppression.

Source: Peng et al., "D-FINE: Redefine Regression Task of DETRs as Fine-grained Distribution Refinement", ICLR 2025
(arXiv 2410.13842).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn

from densevision.nn.class_matching import ClassRows
from densevision.nn.detector import DetectionOptions, Detector
from densevision.nn.model import Tensors
from densevision.sample import InputSpec
from densevision.tasks.detection.models.deformable_decoder import DeformableDecoder
from densevision.tasks.detection.models.dfine_loss import (
    WEIGHTS,
    LayerOutputs,
    LayerPrediction,
    Prediction,
    box_losses,
    class_loss,
    denoising_losses,
    edge_scale,
    match,
    mean_over_processes,
    set_losses,
    weighted_sums,
)
from densevision.tasks.detection.models.dfine_queries import DenoisingQueries, QuerySelection, denoising_queries
from densevision.tasks.detection.models.dfine_targets import BoxTargets, box_targets, to_corners
from densevision.tasks.detection.models.hybrid_encoder import HybridEncoder

__all__ = ["DFine"]

MULTIPLE = 32
"""The sides of the canvas are multiples of this."""
CERTAIN = 20.0
"""Logit of a score that is 1, and with the other sign 0, to eight digits."""


class TrainingOutputs(NamedTuple):
    """What the losses are computed from.

    Attributes:
        targets: Ground truth.
        matched: The decoder's layers, of the queries that are matched.
        encoder: The proposals that these queries come from.
        noised: The decoder's layers, of the denoising queries; None without such.
        noised_queries: How these were made.
    """

    targets: BoxTargets
    matched: LayerOutputs
    encoder: Prediction
    noised: LayerOutputs | None
    noised_queries: DenoisingQueries | None


class DFine(Detector):
    """Backbone, hybrid encoder, and a decoder that refines boxes as distributions of their edges.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of an image.
        encoder: Backbone by its timm name; the published sizes use `hgnetv2_b0`, `_b2`, `_b4` and `_b5`.
        pretrained: Weights of the backbone: True downloads timm's, a path names a file, False starts from random ones.
        image_size: Side, or (height, width), that images are resized to; multiples of 32.
        strides: Pixels per position of the levels that are used, finest first.
        encoder_width: Channels of the hybrid encoder.
        encoder_feedforward: Hidden features of its attention layer.
        encoder_expansion: Channels inside its blocks, as part of half its width.
        encoder_depth: Multiplier of the depth of its blocks.
        width: Features of a query.
        feedforward: Hidden features of the decoder's layers.
        layers: Number of the decoder's layers.
        heads: Attention heads of encoder and decoder.
        points: Sampling points per head and level; weights that are loaded may divide their sum differently.
        num_queries: Boxes predicted per image.
        bins: Intervals of the edges' distributions.
        reg_scale: Curvature of the distributions' values.
        num_denoising: Noised objects per image in training, about; 0 for none.
        label_noise: Half of this part of their labels is random.
        box_noise: Scale of the displacement of their boxes.
        freeze_norm: Whether the backbone's norms keep their statistics and weights.
        freeze_stem: Whether the backbone's stem keeps its weights.
        loss_weights: Weights of "vfl", "l1", "giou", "fgl" and "ddf"; the published ones where not given.
        score_threshold: Lowest score of a detection, where `postprocess` is not given one.
        max_detections: Number of detections per image, where `postprocess` is not given one.

    Raises:
        ValueError: A size that the architecture cannot have.
    """

    backbone_name = "backbone"
    uses_nms = False
    memory_format = torch.contiguous_format
    """Rounding as in other implementations: the selection of queries depends on it where scores are nearly equal."""

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 3,
        encoder: str = "hgnetv2_b4",
        pretrained: bool | str = False,
        image_size: int | tuple[int, int] = 640,
        strides: Sequence[int] = (8, 16, 32),
        encoder_width: int = 256,
        encoder_feedforward: int = 1024,
        encoder_expansion: float = 1.0,
        encoder_depth: float = 1.0,
        width: int = 256,
        feedforward: int = 1024,
        layers: int = 6,
        heads: int = 8,
        points: Sequence[int] = (3, 6, 3),
        num_queries: int = 300,
        bins: int = 32,
        reg_scale: float = 4.0,
        num_denoising: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
        freeze_norm: bool = False,
        freeze_stem: bool = False,
        loss_weights: Mapping[str, float] | None = None,
        score_threshold: float = 0.25,
        max_detections: int = 300,
    ):
        super().__init__()
        if len(points) != len(strides):
            raise ValueError(f"points needs one number per stride; points={tuple(points)}, strides={tuple(strides)}")
        canvas = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
        if any(side % MULTIPLE for side in canvas):
            raise ValueError(f"image_size must be multiples of {MULTIPLE}; image_size={image_size}")
        spec = InputSpec(in_channels, "stretch", canvas, multiple_of=MULTIPLE, interpolation="antialiased")
        self.input_spec = {"image": spec}
        self.num_classes = num_classes
        self.num_denoising, self.label_noise, self.box_noise = num_denoising, label_noise, box_noise
        self.freeze_norm, self.freeze_stem = freeze_norm, freeze_stem
        self.loss_weights = WEIGHTS | dict(loss_weights or {})
        self.score_threshold, self.max_detections = score_threshold, max_detections
        self.backbone, channels = _backbone(encoder, in_channels, strides, pretrained)
        self.encoder = HybridEncoder(
            channels,
            encoder_width,
            encoder_feedforward,
            heads,
            encoder_expansion,
            encoder_depth,
        )
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(encoder_width, width, 1, bias=False), nn.BatchNorm2d(width))
            if encoder_width != width
            else nn.Identity()
            for _ in strides
        )
        self.selection = QuerySelection(num_classes, width, num_queries)
        self.denoising_embedding = nn.Embedding(num_classes + 1, width, padding_idx=num_classes)
        self.decoder = DeformableDecoder(num_classes, width, layers, points, heads, feedforward, bins, reg_scale)
        self._freeze()

    @property
    def class_tensors(self) -> dict[str, ClassRows]:
        """The tensors with rows per class."""
        layers = ["selection.score", *(f"decoder.score.{i}" for i in range(len(self.decoder.score)))]
        tensors = {f"{layer}.{leaf}": ClassRows() for layer in layers for leaf in ("weight", "bias")}
        return {**tensors, "denoising_embedding.weight": ClassRows(after=1)}

    def forward(self, image: Tensor) -> Tensors:
        """Predicts a set of boxes.

        Args:
            image: (B, in_channels, H, W) in [0, 1]; not normalized any further.

        Returns:
            "logits" (B, Q, C), "boxes" (B, Q, 4) cxcywh as parts of the canvas's sides, and "size" (B, 2) float, height
            and width of the canvas in pixels. Queries are in the order of the encoder's scores.
        """
        levels = self._levels(image)
        proposals = self.selection(levels)
        outputs = self.decoder(proposals["queries"].detach(), proposals["box_logits"].detach(), levels)
        return {"logits": outputs["logits"][-1], "boxes": outputs["boxes"][-1], "size": _canvas_size(image)}

    def select_objects(self, outputs: Tensors, options: DetectionOptions) -> Tensors:
        """The strongest pairs of query and class; nothing is suppressed, because queries find an object once."""
        scores = outputs["logits"].float().sigmoid()
        if options.class_mask is not None:
            # Below every score, so that a class that is left out takes no place and can't be valid.
            mask = torch.as_tensor(options.class_mask, dtype=torch.bool, device=scores.device)
            scores = torch.where(mask, scores, -1.0)
        labels = None
        if options.class_agnostic:
            scores, labels = scores.max(-1, keepdim=True)
        queries, classes = scores.shape[1:]
        scores, index = scores.flatten(1).topk(min(options.max_detections, queries * classes), 1)
        query = index // classes
        labels = index % classes if labels is None else labels[..., 0].gather(1, query)
        canvas = outputs["size"].float().flip(1).repeat(1, 2)[:, None]
        boxes = outputs["boxes"].float().gather(1, query[..., None].expand(-1, -1, 4))
        boxes = to_corners(boxes).clamp(0, 1) * canvas
        return {
            "boxes": boxes,
            "scores": scores.clamp(min=0),
            "labels": labels,
            "valid": (scores >= options.score_threshold) & (scores >= 0),
        }

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """The outputs of a perfect model: one query for each object, none for crowd regions.

        Args:
            targets: As for `compute_losses`.
            size: (height, width) of the canvas.
        """
        canvas = torch.tensor([size], dtype=torch.float32).expand(len(targets["labels"]), -1)
        ground_truth = box_targets(targets, canvas)
        is_class = nn.functional.one_hot(ground_truth.labels.clamp(0, self.num_classes - 1), self.num_classes).bool()
        logits = torch.where(is_class & ground_truth.valid[..., None], CERTAIN, -CERTAIN)
        return {"logits": logits, "boxes": ground_truth.boxes, "size": canvas}

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Losses of the last layer's classes and boxes, for a loop that has nothing but `forward`'s outputs.

        Training uses `compute_losses`, which sees every layer, the distributions and the denoising queries.

        Returns:
            "vfl", "l1" and "giou", weighted.
        """
        ground_truth = box_targets(targets, outputs["size"])
        prediction = Prediction(outputs["logits"], outputs["boxes"])
        objects = mean_over_processes(int(ground_truth.valid.sum()), outputs["logits"].device)
        (assignment,) = match([prediction], ground_truth)
        losses = {"vfl": class_loss(prediction, ground_truth, assignment, objects)}
        losses |= box_losses(prediction, ground_truth, assignment, objects)
        return weighted_sums(losses, self.loss_weights)

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Runs the network with denoising queries, and its losses on every layer.

        Args:
            inputs: "image", as for `forward`.
            targets: "boxes" (B, N, 4) xyxy in pixels of the canvas, "labels" (B, N), "valid" (B, N) bool and, where
                known, "crowd" (B, N) bool.

        Returns:
            "vfl" classes, "l1" and "giou" boxes, "fgl" distributions, "ddf" self-distillation, all summed over layers,
            and "denoising": all kinds of the denoising queries. Weighted.
        """
        return weighted_sums(self.detailed_losses(inputs["image"], targets), self.loss_weights)

    def detailed_losses(self, image: Tensor, targets: Tensors) -> Tensors:
        """The losses of `compute_losses` by kind, layer and group of queries, not weighted; see `dfine_loss`."""
        outputs = self.training_outputs(image, targets)
        with torch.autocast(image.device.type, enabled=False):
            objects = mean_over_processes(int(outputs.targets.valid.sum()), image.device)
            losses, balance = set_losses(outputs.matched, outputs.encoder, outputs.targets, objects)
            queries = outputs.noised_queries
            if outputs.noised is None or queries is None:
                # Every parameter has a gradient in every step, as distributed training wants.
                return losses | {"vfl_dn_0": 0.0 * self.denoising_embedding.weight.sum()}
            normalizer = objects * queries.groups
            return losses | denoising_losses(outputs.noised, outputs.targets, queries.assignment, normalizer, balance)

    def training_outputs(self, image: Tensor, targets: Tensors) -> TrainingOutputs:
        """Runs the network with denoising queries: the predictions of every layer for every query."""
        ground_truth = box_targets(targets, _canvas_size(image))
        levels = self._levels(image)
        proposals = self.selection(levels)
        queries, references, mask = proposals["queries"].detach(), proposals["box_logits"].detach(), None
        noised = denoising_queries(
            ground_truth,
            self.num_classes,
            queries.shape[1],
            self.num_denoising,
            self.label_noise,
            self.box_noise,
        )
        count = 0 if noised is None else noised.count
        if noised is not None:
            queries = torch.cat([self.denoising_embedding(noised.labels).to(queries.dtype), queries], 1)
            references, mask = torch.cat([noised.box_logits, references], 1), noised.mask
        outputs = self.decoder(queries, references, levels, mask, every_layer=True)
        return TrainingOutputs(
            targets=ground_truth,
            matched=self._layer_outputs(outputs, slice(count, None)),
            encoder=Prediction(proposals["logits"].float(), proposals["box_logits"].sigmoid()),
            noised=self._layer_outputs(outputs, slice(0, count)) if noised is not None else None,
            noised_queries=noised,
        )

    def train(self, mode: bool = True) -> DFine:
        """Switches to training; frozen norms stay as they are."""
        super().train(mode)
        if self.freeze_norm:
            for norm in self._norms():
                norm.eval()
        return self

    def _layer_outputs(self, outputs: Tensors, part: slice) -> LayerOutputs:
        names = ("logits", "boxes", "corners")
        layers = [LayerPrediction(*row) for row in zip(*(outputs[name][:, :, part].float() for name in names))]
        initial = Prediction(outputs["initial_logits"][:, part].float(), outputs["initial_boxes"][:, part])
        decoder = self.decoder
        scale = edge_scale(initial.boxes, decoder.bins, decoder.up, decoder.reg_scale)
        return LayerOutputs(layers, initial, scale)

    def _levels(self, image: Tensor) -> list[Tensor]:
        levels = self.encoder(self.backbone(image))
        return [project(level) for project, level in zip(self.project, levels)]

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.backbone.modules() if isinstance(module, nn.BatchNorm2d)]

    def _freeze(self) -> None:
        frozen = [*self._norms()] if self.freeze_norm else []
        if self.freeze_stem:
            frozen += [module for name, module in self.backbone.named_children() if name.startswith("stem")]
        for module in frozen:
            module.requires_grad_(False)


def _backbone(
    name: str, in_channels: int, strides: Sequence[int], pretrained: bool | str
) -> tuple[nn.Module, list[int]]:
    """The levels of a timm model at these strides, and their channels."""
    with torch.device("meta"):
        reductions = list(_info(timm.create_model(name, features_only=True)).reduction())
    if missing := [stride for stride in strides if stride not in reductions]:
        raise ValueError(f"encoder {name} has no level of strides {missing}; it has {reductions}")
    indices = tuple(reductions.index(stride) for stride in strides)
    source: dict[str, Any] = {"pretrained_cfg_overlay": {"file": pretrained}} if isinstance(pretrained, str) else {}
    model = timm.create_model(
        name, pretrained=bool(pretrained), features_only=True, out_indices=indices, in_chans=in_channels, **source
    )
    return model, _info(model).channels()


def _info(model: nn.Module) -> FeatureInfo:
    return cast(FeatureInfo, model.feature_info)


def _canvas_size(image: Tensor) -> Tensor:
    """Height and width of a batch: (B, 2) float."""
    height, width = (torch.full_like(image[:, :1, 0, 0], side) for side in image.shape[-2:])
    return torch.cat([height, width], 1)
