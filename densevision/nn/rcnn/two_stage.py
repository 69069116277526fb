"""Two-stage detectors: a feature pyramid, proposals, and a second stage that classifies and refines each of them.

    encoder -> FPN -> RPN -> pool -> box head -> pool -> mask head, keypoint head

Source: Ren et al., Faster R-CNN, NeurIPS 2015; Lin et al., Feature Pyramid Networks, CVPR 2017; He et al., Mask R-CNN,
ICCV 2017. Layers, order and rounding are torchvision's, so that its weights give the same detections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import timm
from timm.models import PretrainedCfg
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.nn.class_matching import ClassRows
from densevision.nn.detector import DetectionDefaults, DetectionOptions
from densevision.nn.model import Model, Tensors
from densevision.nn.necks import FPN
from densevision.nn.rcnn.anchors import AnchorGenerator
from densevision.nn.rcnn.heads import BoxHead, KeypointHead, MaskHead
from densevision.nn.rcnn.losses import box_losses, keypoint_loss, mask_loss
from densevision.nn.rcnn.matcher import GroundTruth, ProposalSampler, Samples, unpack_targets
from densevision.nn.rcnn.module_pyramid import ModulePyramid
from densevision.nn.rcnn.pooling import find_occupied, make_rois, pool, scatter_to_slots
from densevision.nn.rcnn.postprocess import BoxDetections, detect
from densevision.nn.rcnn.rpn import RPN, Proposals
from densevision.sample import InputSpec

__all__ = ["TwoStageDetector", "TwoStageHead"]

MULTIPLE = 32
"""The sides of the canvas are multiples of this."""


class TwoStageHead(nn.Module):
    """Features to detections; with ground truth, to losses.

    Args:
        levels: Positions of the encoder's levels that enter the pyramid.
        strides: Their strides.
        neck: The feature pyramid; it adds one level.
        rpn: The first stage.
        box: Classifies and refines proposals.
        sampler: Draws the proposals that the second stage is trained on.

    Attributes:
        mask: Predicts masks; None without.
        keypoint: Predicts keypoints; None without.
    """

    mask: MaskHead | None
    keypoint: KeypointHead | None

    def __init__(
        self,
        levels: Sequence[int],
        strides: Sequence[int],
        neck: FPN,
        rpn: RPN,
        box: BoxHead,
        sampler: ProposalSampler,
    ):
        super().__init__()
        self.levels, self.strides, self.sampler = levels, strides, sampler
        self.neck, self.rpn, self.box = neck, rpn, box
        self.mask = None
        self.keypoint = None

    def forward(self, levels: Sequence[Tensor], image_sizes: Tensor, options: DetectionOptions) -> Tensors:
        """Runs both stages on the encoder's levels; see `TwoStageDetector.forward`."""
        pyramid = self.make_pyramid(levels)
        proposals = self.rpn.propose(self.rpn(pyramid, levels[0].shape[-2:]), image_sizes)
        detections = self._detect(pyramid, proposals, image_sizes, options)
        return detections._asdict() | self._predict_details(pyramid, detections)

    def losses(
        self, levels: Sequence[Tensor], image_sizes: Tensor, target_records: Sequence[GroundTruth]
    ) -> dict[str, Tensor]:
        """The losses of both stages, not weighted; finite for any ground truth.

        Args:
            levels: The encoder's levels; level 0 is the image.
            image_sizes: (B, 2) height and width that each image covers on its canvas.
            target_records: One per image, on the canvas.

        Returns:
            "objectness", "rpn_box", "class", "box", and "mask" and "keypoint" with those heads.
        """
        pyramid = self.make_pyramid(levels)
        outputs = self.rpn(pyramid, levels[0].shape[-2:])
        objectness, rpn_box = self.rpn.losses(outputs, target_records)
        proposals = self.rpn.propose(outputs, image_sizes, is_training=True)
        samples = self.sampler(proposals.boxes, proposals.valid, target_records)
        logits, deltas = self.box(self._pool(pyramid, samples.rois, self.box.resolution))
        class_loss, box_loss = box_losses(logits, deltas, samples, target_records)
        losses = {"objectness": objectness, "rpn_box": rpn_box, "class": class_loss, "box": box_loss}
        return losses | self._detail_losses(pyramid, samples.objects(), target_records)

    def make_pyramid(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's levels to those of the feature pyramid."""
        return self.neck([levels[level] for level in self.levels])

    def _detect(
        self, pyramid: Sequence[Tensor], proposals: Proposals, image_sizes: Tensor, options: DetectionOptions
    ) -> BoxDetections:
        slots = find_occupied(proposals.valid)
        logits, deltas = self.box(self._pool(pyramid, make_rois(proposals.boxes, slots), self.box.resolution))
        logits, deltas = (scatter_to_slots(part, slots, proposals.valid) for part in (logits, deltas))
        return detect(logits, deltas, proposals, image_sizes, options)

    def _predict_details(self, pyramid: Sequence[Tensor], detections: BoxDetections) -> Tensors:
        """Masks and heatmaps of the detections, if there are heads for them."""
        slots, details = find_occupied(detections.valid), {}
        rois = make_rois(detections.boxes, slots)
        if self.mask is not None:
            labels = detections.labels.flatten() + 1
            pooled = self._pool(pyramid, rois, self.mask.resolution)
            masks = self.mask(pooled, labels if slots is None else labels[slots]).sigmoid()
            details["masks"] = scatter_to_slots(masks, slots, detections.valid)
        if self.keypoint is not None:
            heatmaps = self.keypoint(self._pool(pyramid, rois, self.keypoint.resolution))
            details["heatmaps"] = scatter_to_slots(heatmaps, slots, detections.valid)
        return details

    def _detail_losses(
        self, pyramid: Sequence[Tensor], objects: Samples, target_records: Sequence[GroundTruth]
    ) -> dict[str, Tensor]:
        losses = {}
        if self.mask is not None:
            logits = self.mask(self._pool(pyramid, objects.rois, self.mask.resolution), objects.labels)
            losses["mask"] = mask_loss(logits, objects, target_records)
        if self.keypoint is not None:
            logits = self.keypoint(self._pool(pyramid, objects.rois, self.keypoint.resolution))
            losses["keypoint"] = keypoint_loss(logits, objects, target_records)
        return losses

    def _pool(self, pyramid: Sequence[Tensor], rois: Tensor, resolution: int) -> Tensor:
        return pool(pyramid[: len(self.strides)], self.strides, rois, resolution)


class TwoStageDetector(DetectionDefaults, Model):
    """Base of the two-stage detectors; its arguments are those of all of them.

    Args:
        num_classes: Number of classes, without background.
        in_channels: Channels of the image.
        encoder: Backbone by its timm name.
        encoder_options: Further arguments of `densevision.nn.backbone.Backbone`.
        image_size: Shorter side that an image is scaled to.
        max_size: Limit of the longer side, where it wins over `image_size`; five thirds of `image_size` if None.
        encoder_strides: Strides of the backbone's levels from which the pyramid is made. One more level is added by
            taking every second cell of the last.
        encoder_modules: Modules of the timm model whose outputs are those levels, as in torchvision's MobileNet
            detectors; the ends of its stages if None.
        fpn_channels: Channels of the feature pyramid.
        norm: Batch norms in the pyramid and in the heads' convolutions, or none.
        anchor_sizes: Square root of the anchors' area in pixels: one size for each level of the pyramid.
        aspect_ratios: Heights of the anchors divided by their widths.
        all_sizes_per_level: Every level has anchors of all sizes, for pyramids of few levels.
        rpn_depth: Convolutions of the proposal network before its predictions.
        rpn_pre_nms_top_n_train: Strongest proposals of each level that enter the suppression in training.
        rpn_pre_nms_top_n_test: The same in prediction.
        rpn_post_nms_top_n_train: Most proposals per image in training.
        rpn_post_nms_top_n_test: The same in prediction.
        rpn_nms_thresh: IoU above which the weaker of two proposals of a level is suppressed.
        rpn_score_thresh: Lowest score of a proposal.
        rpn_fg_iou_thresh: IoU with an object from which an anchor is positive.
        rpn_bg_iou_thresh: IoU with every object below which an anchor is negative.
        rpn_batch_size_per_image: Anchors per image that the losses are computed on.
        rpn_positive_fraction: Largest part of positive ones among them.
        box_resolution: Side of the features that are pooled for each proposal.
        box_convs: Convolutions of the box head before its fully connected layers.
        box_hidden: Features of the fully connected layers.
        box_fg_iou_thresh: IoU with an object from which a proposal is that object, and below which it is background.
        box_batch_size_per_image: Proposals per image that the losses are computed on.
        box_positive_fraction: Largest part of objects among them.
        objectness_weight: Weight of the anchors' cross-entropy.
        rpn_box_weight: Weight of the proposals' regression loss.
        class_weight: Weight of the classes' cross-entropy.
        box_weight: Weight of the boxes' regression loss.
        score_threshold: Lowest score of a detection, where `forward` is given none.
        iou_threshold: IoU above which the weaker of two boxes of a class is suppressed, where `forward` is given none.
        max_detections: Number of detections K per image, where `forward` is given none.
        max_candidates: Most boxes per image that enter the suppression.

    Raises:
        UsageError: Arguments that do not fit together, or the backbone has no such levels.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 3,
        encoder: str = "resnet50",
        encoder_options: Mapping[str, Any] | None = None,
        image_size: int = 800,
        max_size: int | None = None,
        encoder_strides: tuple[int, ...] = (4, 8, 16, 32),
        encoder_modules: tuple[str, ...] | None = None,
        fpn_channels: int = 256,
        norm: Literal["none", "batch"] = "none",
        anchor_sizes: tuple[float, ...] = (32.0, 64.0, 128.0, 256.0, 512.0),
        aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
        all_sizes_per_level: bool = False,
        rpn_depth: int = 1,
        rpn_pre_nms_top_n_train: int = 2000,
        rpn_pre_nms_top_n_test: int = 1000,
        rpn_post_nms_top_n_train: int = 2000,
        rpn_post_nms_top_n_test: int = 1000,
        rpn_nms_thresh: float = 0.7,
        rpn_score_thresh: float = 0.0,
        rpn_fg_iou_thresh: float = 0.7,
        rpn_bg_iou_thresh: float = 0.3,
        rpn_batch_size_per_image: int = 256,
        rpn_positive_fraction: float = 0.5,
        box_resolution: int = 7,
        box_convs: int = 0,
        box_hidden: tuple[int, ...] = (1024, 1024),
        box_fg_iou_thresh: float = 0.5,
        box_batch_size_per_image: int = 512,
        box_positive_fraction: float = 0.25,
        objectness_weight: float = 1.0,
        rpn_box_weight: float = 1.0,
        class_weight: float = 1.0,
        box_weight: float = 1.0,
        score_threshold: float = 0.5,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        max_candidates: int = 1000,
    ):
        super().__init__()
        self.input_spec = _make_input_spec(encoder, in_channels, encoder_options or {}, image_size, max_size)
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections, self.max_candidates = max_detections, max_candidates
        self.loss_weights = {
            "objectness": objectness_weight,
            "rpn_box": rpn_box_weight,
            "class": class_weight,
            "box": box_weight,
        }
        self.norm = nn.BatchNorm2d if norm == "batch" else None
        self.encoder: Backbone | ModulePyramid
        options, deepest = dict(encoder_options or {}), max(encoder_strides)
        if encoder_modules is None:
            self.encoder = Backbone(encoder, in_channels, **options, deepest=deepest)
        else:
            if len(encoder_modules) != len(encoder_strides):
                problem = "must name one module for each of encoder_strides"
                raise UsageError(problem, field="model.encoder_modules", value=encoder_modules)
            self.encoder = ModulePyramid(encoder, in_channels, encoder_modules, **options)
        if rpn_bg_iou_thresh > rpn_fg_iou_thresh:
            problem = "must not be above rpn_fg_iou_thresh"
            raise UsageError(problem, field="model.rpn_bg_iou_thresh", value=rpn_bg_iou_thresh)
        levels = _find_levels(encoder_strides, self.encoder.strides)
        channels = [self.encoder.channels[level] for level in levels]
        rpn = RPN(
            fpn_channels,
            AnchorGenerator(_level_sizes(anchor_sizes, len(levels) + 1, all_sizes_per_level), aspect_ratios),
            rpn_depth,
            (rpn_pre_nms_top_n_train, rpn_pre_nms_top_n_test),
            (rpn_post_nms_top_n_train, rpn_post_nms_top_n_test),
            rpn_nms_thresh,
            rpn_score_thresh,
            rpn_fg_iou_thresh,
            rpn_bg_iou_thresh,
            rpn_batch_size_per_image,
            rpn_positive_fraction,
        )
        self.head = TwoStageHead(
            levels,
            encoder_strides,
            FPN(channels, fpn_channels, extra=True, norm=self.norm),
            rpn,
            BoxHead(fpn_channels, num_classes, box_resolution, box_convs, box_hidden, self.norm),
            ProposalSampler(box_fg_iou_thresh, box_batch_size_per_image, box_positive_fraction),
        )
        self.fpn_channels = fpn_channels

    @property
    def class_tensors(self) -> dict[str, ClassRows]:
        """The tensors with rows per class."""
        rows = {"head.box.cls_score": ClassRows(before=1), "head.box.bbox_pred": ClassRows(before=1, per_class=4)}
        if self.head.mask is not None:
            rows["head.mask.predictor"] = ClassRows(before=1)
        return {f"{layer}.{leaf}": value for layer, value in rows.items() for leaf in ("weight", "bias")}

    def forward(
        self,
        image: Tensor,
        size: Tensor,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        class_agnostic: bool = False,
        class_mask: Tensor | Sequence[bool] | None = None,
    ) -> Tensors:
        """Detects objects; the second stage includes the suppression, so that later heads see detections only.

        Args:
            image: (B, in_channels, H, W) in [0, 1].
            size: (B, 2) height and width that each image covers on its canvas.
            score_threshold: A detection scores more than this; the constructor's if None.
            iou_threshold: IoU above which the weaker box is suppressed; the constructor's if None.
            max_detections: Number of detections K; the constructor's if None.
            class_agnostic: Let boxes of different classes suppress each other.
            class_mask: (C,) of bool or 0 and 1: the classes to detect; all if None.

        Returns:
            "boxes" (B, K, 4) xyxy in pixels of the canvas, "scores" (B, K) strongest first, "labels" (B, K) int64,
            "valid" (B, K) bool; with those heads "masks" (B, K, R, R) in [0, 1] over the box and "heatmaps"
            (B, K, num_keypoints, R, R) logits over the box.
        """
        options = self.complete_options(score_threshold, iou_threshold, max_detections, class_agnostic, class_mask)
        return self.head(self.encoder(image), size, options)

    def compute_losses(self, inputs: Tensors, targets: Tensors) -> Tensors:
        """Runs both stages on ground truth.

        Args:
            inputs: "image" and "size", as for `forward`.
            targets: "boxes" (B, N, 4) xyxy in pixels of the canvas, "labels", "valid", "crowd" (B, N); "known" (B,),
                False for unlabeled images, is optional; with those heads "masks" (B, N, H, W) bool and "keypoints"
                (B, N, K, 3) x, y, visibility.

        Returns:
            "objectness", "rpn_box", "class", "box", and "mask" and "keypoint" with those heads. Weighted.
        """
        losses = self.head.losses(self.encoder(inputs["image"]), inputs["size"], unpack_targets(targets))
        return {name: self.loss_weights[name] * value for name, value in losses.items()}

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """Each object detected by its own box; crowd regions are not objects."""
        valid = targets["valid"] & ~targets["crowd"]
        scores = valid.to(targets["boxes"].dtype)
        return {"boxes": targets["boxes"], "scores": scores, "labels": targets["labels"], "valid": valid}


def _make_input_spec(
    encoder: str, channels: int, options: Mapping[str, Any], image_size: int, max_size: int | None
) -> dict[str, InputSpec]:
    """One image, scaled by its shorter side, and the size that it then has on its canvas."""
    if not isinstance(image_size, int):
        hint = "Give one number: the shorter side."
        raise UsageError("must be one side", field="data.size", value=image_size, hint=hint)
    max_size = image_size * 5 // 3 if max_size is None else max_size
    if max_size < image_size:
        raise UsageError(f"must not be below the shorter side of {image_size}", field="model.max_size", value=max_size)
    mean = options.get("mean") or cast(PretrainedCfg, timm.get_pretrained_cfg(encoder)).mean
    image = InputSpec(
        channels,
        "shortest",
        image_size,
        max_size,
        multiple_of=MULTIPLE,
        min_side=2 * MULTIPLE,
        # Zero after normalization, as the padding inside the network.
        fill=tuple(mean) if len(mean) == channels else sum(mean) / len(mean),
        interpolation="linear",
        as_float=True,
    )
    return {"image": image, "size": InputSpec(kind="size")}


def _level_sizes(sizes: Sequence[float], levels: int, all_per_level: bool) -> list[Sequence[float]]:
    if all_per_level:
        return [sizes] * levels
    if len(sizes) != levels:
        hint = f"Give {levels}: one for each of encoder_strides, and one for the level that is added."
        raise UsageError("wrong number of sizes", field="model.anchor_sizes", value=sizes, hint=hint)
    return [(size,) for size in sizes]


def _find_levels(strides: Sequence[int], encoder_strides: Sequence[int]) -> list[int]:
    """The level of each stride; of several levels of one stride, the first that is not taken."""
    levels: list[int] = []
    for stride in strides:
        free = [level for level, value in enumerate(encoder_strides) if value == stride and level not in levels]
        if not free:
            hint = f"Choose another backbone, or some of {', '.join(map(str, encoder_strides[1:]))}."
            problem = "the backbone has no level of this stride"
            raise UsageError(problem, field="model.encoder_strides", value=stride, hint=hint)
        levels.append(free[0])
    return levels
