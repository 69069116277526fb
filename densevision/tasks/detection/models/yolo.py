"""YOLO: an anchor-free detector of any timm backbone, a PAN neck, and branches for class and box.

Its head follows RTMDet (Lyu et al., 2022); it is trained with task-aligned assignment (TOOD) and distribution focal
loss. It loads no weights of other YOLO implementations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.backbone import Backbone
from densevision.nn.class_matching import ClassRows
from densevision.nn.detector import DetectionOptions, Detector
from densevision.nn.inference_form import folded_convolution
from densevision.nn.model import Tensors
from densevision.nn.necks import PAN
from densevision.ops.boxes import anchor_points, boxes_to_distances, join_levels, two_hot
from densevision.ops.nms import drop_weak_anchors, gather_rows, select_detections
from densevision.sample import InputSpec
from densevision.tasks.detection.models.yolo_loss import MIN_DISTANCE, TaskAlignedAssigner, decode_boxes, yolo_losses

__all__ = ["STRIDES", "YOLO", "YoloHead"]

STRIDES = (8, 16, 32)
PRIOR = 0.01
"""Score of every class before training: most anchor points see background (Lin et al., Focal Loss, ICCV 2017)."""
FILL = 114 / 255
"""Gray of the canvas outside the image: near the mean of photographs."""
MAX_LOGIT = 20.0
"""Logit of a score that is 1, and with the other sign 0, to eight digits."""


class YOLO(Detector):
    """Anchor-free detector.

    Args:
        num_classes: Number of classes C.
        in_channels: Channels of the image.
        encoder: Backbone by its timm name.
        encoder_options: Further arguments of `densevision.nn.backbone.Backbone`.
        image_size: Side, or (height, width), that an image is scaled to fit into; rounded up to multiples of 32.
        width: Channels of neck and branches.
        depth: Blocks per stage of the neck.
        reg_max: Values that each distance is distributed over, a stride apart, from one stride outside the box inwards.
        topk: Anchor points per object in training.
        alpha: Exponent of the score when anchor points are ranked for an object.
        beta: Exponent of the IoU when they are ranked.
        class_weight: Weight of the classification loss.
        box_weight: Weight of the complete IoU loss.
        dfl_weight: Weight of the distribution focal loss.
        score_threshold: Lowest score of a detection, where `postprocess` is not given one.
        iou_threshold: IoU above which the weaker of two boxes of a class is suppressed, where it is not given one.
        max_detections: Number of detections K per image, where it is not given one.
        max_candidates: Most (anchor point, class) pairs per image that enter the suppression.

    Raises:
        UsageError: The backbone has no levels of strides 8, 16 and 32.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 3,
        encoder: str = "mobilenetv2_100",
        encoder_options: Mapping[str, Any] | None = None,
        image_size: int | tuple[int, int] = 640,
        width: int = 96,
        depth: int = 1,
        reg_max: int = 16,
        topk: int = 10,
        alpha: float = 0.5,
        beta: float = 6.0,
        class_weight: float = 0.5,
        box_weight: float = 7.5,
        dfl_weight: float = 1.5,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.7,
        max_detections: int = 300,
        max_candidates: int = 1000,
    ):
        super().__init__()
        multiple = max(STRIDES)
        # At least two cells per side: an exported graph takes a side of one for a constant.
        spec = InputSpec(in_channels, "letterbox", image_size, multiple_of=multiple, min_side=2 * multiple, fill=FILL)
        self.input_spec = {"image": spec}
        self.encoder = Backbone(encoder, in_channels, **(encoder_options or {}))
        self.head = YoloHead(self.encoder.channels, self.encoder.strides, num_classes, width, depth, reg_max)
        self.num_classes, self.reg_max = num_classes, reg_max
        self.assigner = TaskAlignedAssigner(topk, alpha, beta)
        self.loss_weights = {"class": class_weight, "box": box_weight, "dfl": dfl_weight}
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections, self.max_candidates = max_detections, max_candidates

    @property
    def class_tensors(self) -> dict[str, ClassRows]:
        """The tensors with rows per class."""
        return {f"head.classify.predict.{leaf}": ClassRows() for leaf in ("weight", "bias")}

    def forward(self, image: Tensor) -> Tensors:
        """Runs the network.

        Args:
            image: (B, in_channels, H, W), RGB in [0, 1].

        Returns:
            "logits" (B, A, C) of the classes, "distances" (B, A, 4 * reg_max): logits of the distances to the left,
            top, right and bottom side in strides, and "anchors" (A, 3) of x, y, stride in pixels.
        """
        return self.head(self.encoder(image))

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Weighted losses "class", "box" and "dfl", per unit of target score.

        Args:
            outputs: Of `forward`.
            targets: "boxes" (B, N, 4) xyxy in pixels, "labels" (B, N), "valid" (B, N) bool, "crowd" (B, N) bool;
                "known" (B,) bool, False for unlabeled images, is optional.
        """
        losses = yolo_losses(outputs, targets, self.assigner)
        return {name: self.loss_weights[name] * value for name, value in losses.items()}

    def select_objects(self, outputs: Tensors, options: DetectionOptions) -> Tensors:
        """The strongest boxes that do not suppress each other; an anchor point may yield several classes."""
        outputs = drop_weak_anchors(outputs, outputs["logits"].amax(2), options.score_threshold)
        return select_detections(
            outputs["logits"].sigmoid(),
            lambda rows: decode_boxes(gather_rows(outputs["distances"], rows), outputs["anchors"][rows]),
            *options,
        )

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """Outputs from which `postprocess` reads these targets.

        Each object is predicted by one anchor point, the finest and nearest that can express it. Crowd regions are not
        predicted. An object that no free anchor point can express is left out.
        """
        coarsest = max(STRIDES)
        rows, columns = (math.ceil(side / coarsest) for side in size)
        cells = [(rows * coarsest // stride, columns * coarsest // stride) for stride in STRIDES]
        anchors = anchor_points([torch.empty(1, 1, *cell) for cell in cells], STRIDES)
        batch = len(targets["boxes"])
        logits = torch.full((batch, len(anchors), self.num_classes), -MAX_LOGIT)
        distances = torch.zeros(batch, len(anchors), 4, self.reg_max)
        is_single = targets["valid"] & ~targets["crowd"]
        for image, keep in enumerate(is_single):
            boxes, labels = targets["boxes"][image, keep], targets["labels"][image, keep]
            for row, anchor in _pick_anchors(boxes, anchors, self.reg_max):
                logits[image, anchor, labels[row]] = MAX_LOGIT
                steps = boxes_to_distances(anchors[anchor, :2], boxes[row]) / anchors[anchor, 2]
                distances[image, anchor] = two_hot(steps, self.reg_max, MIN_DISTANCE).log().clamp(min=-100)
        return {"logits": logits, "distances": distances.flatten(2), "anchors": anchors}


class YoloHead(nn.Module):
    """Features of strides 8, 16 and 32 to class logits and distance distributions at every anchor point.

    Args:
        channels: Channels of the encoder's levels.
        strides: Strides of the encoder's levels.
        num_classes: Number of classes.
        width: Channels of neck and branches.
        depth: Blocks per stage of the neck.
        reg_max: Values that a distance is distributed over: -1, 0, ..., reg_max - 2 strides.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], num_classes: int, width: int, depth: int, reg_max: int
    ):
        super().__init__()
        if missing := set(STRIDES) - set(strides):
            hint = "Leave out backbone.output_stride, or choose another backbone."
            problem = "the detector needs levels of strides 8, 16 and 32; missing"
            raise UsageError(problem, field="backbone.name", value=missing, hint=hint)
        self.levels = [list(strides).index(stride) for stride in STRIDES]
        self.neck = PAN([channels[level] for level in self.levels], width, depth)
        self.classify = Branch(width, num_classes)
        self.regress = Branch(width, 4 * reg_max)
        nn.init.constant_(cast(Tensor, self.classify.predict.bias), math.log(PRIOR / (1 - PRIOR)))

    def forward(self, image: Sequence[Tensor]) -> Tensors:
        """The encoder's levels of an image to the outputs of `YOLO.forward`."""
        levels = self.neck([image[level] for level in self.levels])
        return {
            "logits": self.classify(levels),
            "distances": self.regress(levels),
            "anchors": anchor_points(levels, STRIDES),
        }


class Branch(nn.Module):
    """Two convolutions and a prediction.

    All levels share the convolutions, since objects look alike on each; the norms are separate, since their statistics
    differ (Lyu et al., RTMDet, 2022, section 3.2).
    """

    def __init__(self, width: int, outputs: int, depth: int = 2):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth)) for _ in STRIDES)
        self.predict = nn.Conv2d(width, outputs, 1)
        nn.init.normal_(self.predict.weight, std=0.01)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (B, width, H, W) to (B, A, outputs), level by level, row by row."""
        rows = []
        for x, norms in zip(levels, self.norms):
            for conv, norm in zip(self.convs, cast(nn.ModuleList, norms)):
                x = nn.functional.silu(norm(conv(x)), inplace=True)
            rows.append(self.predict(x))
        return join_levels(rows)

    def rewrite_for_inference(self) -> nn.Module:
        """The same with convolutions for each level, into which its norms can be folded."""
        return LevelBranches(self)


class LevelBranches(nn.Module):
    """A `Branch` for inference.

    Args:
        branch: Its norms are folded into copies of its convolutions.
    """

    def __init__(self, branch: Branch):
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(
                *(
                    layer
                    for conv, norm in zip(branch.convs, cast(nn.ModuleList, norms))
                    for layer in (folded_convolution(cast(nn.Conv2d, conv), norm), nn.SiLU(inplace=True))
                ),
                branch.predict,
            )
            for norms in branch.norms
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """See `Branch.forward`."""
        return join_levels([branch(level) for branch, level in zip(self.levels, levels)])


def _pick_anchors(boxes: Tensor, anchors: Tensor, reg_max: int) -> list[tuple[int, int]]:
    """Pairs of a box and its anchor point; the smallest boxes, which have the fewest candidates, pick first."""
    is_free = torch.ones(len(anchors), dtype=torch.bool)
    pairs = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for row in areas.argsort().tolist():
        steps = boxes_to_distances(anchors[:, :2], boxes[row]) / anchors[:, 2:]
        can_express = (steps >= MIN_DISTANCE).all(1) & (steps <= MIN_DISTANCE + reg_max - 1).all(1)
        candidates = is_free & can_express
        if not candidates.any():
            continue
        distance = (anchors[:, :2] - (boxes[row, :2] + boxes[row, 2:]) / 2).norm(dim=1) + anchors[:, 2]
        anchor = int(distance.where(candidates, torch.inf).argmin())
        is_free[anchor] = False
        pairs.append((row, anchor))
    return pairs
