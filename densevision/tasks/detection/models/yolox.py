"""YOLOX: an anchor-free detector of CSPDarknet, PAFPN and a decoupled head, trained with SimOTA.

Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021, arXiv 2107.08430.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densevision.nn.class_matching import ClassRows
from densevision.nn.detector import DetectionOptions, Detector
from densevision.nn.model import Tensors
from densevision.nn.normalization import normalize_image
from densevision.ops.boxes import anchor_points, join_levels
from densevision.ops.nms import drop_weak_anchors, gather_rows, select_detections
from densevision.sample import InputSpec
from densevision.tasks.detection.models.yolox_loss import decode_boxes, encode_boxes, yolox_losses

__all__ = ["STRIDES", "YOLOX"]

STRIDES = (8, 16, 32)
FILL = 114 / 255
"""Gray of the canvas outside the image, in training and inference."""
PRIOR = 0.01
"""Objectness and class score of an untrained network: most anchor points see background."""
MAX_LOGIT = 20.0
"""Logit of a score that is 1, and with the other sign 0, to eight digits."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class YOLOX(Detector):
    """YOLOX of any size.

    Args:
        num_classes: Number of classes C.
        in_channels: Channels of the image.
        depth_multiple: Scales the number of blocks per stage; 1 is YOLOX-L.
        width_multiple: Scales the number of channels; 1 is YOLOX-L.
        depthwise: Use depthwise separable 3x3 convolutions, as YOLOX-Nano does.
        legacy: Normalize as release 0.1.0 (RGB, ImageNet mean and standard deviation) instead of as release 0.1.1
            (BGR in 0..255).
        image_size: Side, or (height, width), of the canvas that images are letterboxed to.
        use_l1: Add the L1 loss of the box deltas. The paper does so once mosaic and mixup are off, in the last 15
            epochs; a trainer may set the attribute of the same name at any time.
        box_weight: Weight of the IoU loss.
        objectness_weight: Weight of the objectness loss.
        class_weight: Weight of the classification loss.
        l1_weight: Weight of the L1 loss.
        score_threshold: Lowest score of a detection, where `postprocess` is not given one.
        iou_threshold: Intersection over union above which the weaker of two boxes is suppressed.
        max_detections: Number of detections K per image.
        max_candidates: Most (anchor point, class) pairs per image that enter the suppression.
    """

    backbone_name = "backbone"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 3,
        depth_multiple: float = 0.33,
        width_multiple: float = 0.25,
        depthwise: bool = True,
        legacy: bool = False,
        image_size: int | tuple[int, int] = 416,
        use_l1: bool = False,
        box_weight: float = 5.0,
        objectness_weight: float = 1.0,
        class_weight: float = 1.0,
        l1_weight: float = 1.0,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.65,
        max_detections: int = 300,
        max_candidates: int = 1000,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.backbone = CSPDarknet(in_channels, depth_multiple, width_multiple, depthwise)
        self.neck = PAFPN(self.backbone.out_channels, depth_multiple, depthwise)
        self.head = DecoupledHead(self.backbone.out_channels, int(256 * width_multiple), num_classes, depthwise)
        self.legacy, self.use_l1 = legacy, use_l1
        self.loss_weights = {
            "box": box_weight,
            "objectness": objectness_weight,
            "class": class_weight,
            "l1": l1_weight,
        }
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.max_detections, self.max_candidates = max_detections, max_candidates
        for name, values in (("mean", MEAN), ("std", STD)):
            rgb = torch.tensor(values)
            channels = rgb if in_channels == 3 else rgb.mean().expand(in_channels).clone()
            self.register_buffer(name, channels[:, None, None], persistent=False)
        self.input_spec = {
            "image": InputSpec(
                channels=in_channels,
                mode="letterbox_top_left",
                size=image_size,
                multiple_of=max(STRIDES),
                full_size=True,
                fill=FILL,
                interpolation="linear",
            )
        }

    @property
    def class_tensors(self) -> dict[str, ClassRows]:
        """The tensors with rows per class."""
        return {f"head.cls_preds.{i}.{leaf}": ClassRows() for i in range(3) for leaf in ("weight", "bias")}

    def forward(self, image: Tensor) -> Tensors:
        """Runs the network.

        Args:
            image: (B, in_channels, H, W), RGB in [0, 1]. Sides that are no multiples of 32 are padded at the right and
                the bottom with the gray of the letterbox; an exported graph takes multiples of 32 only.

        Returns:
            "logits" (B, A, C) of the classes, "objectness" (B, A, 1) logits, "box_deltas" (B, A, 4): center relative to
            the top-left corner of the cell, and logarithm of width and height, in strides; "anchors" (A, 3): x and y of
            the center of the cell and its stride, in pixels.
        """
        if not torch.compiler.is_exporting():
            bottom, right = (-side % max(STRIDES) for side in image.shape[2:])
            image = F.pad(image, (0, right, 0, bottom), value=FILL) if bottom or right else image
        levels = self.neck(self.backbone(self._normalize(image)))
        return {**self.head(levels), "anchors": anchor_points(levels, STRIDES)}

    def loss(self, outputs: Tensors, targets: Tensors) -> Tensors:
        """Weighted losses per positive anchor point: "box", "objectness", "class", and "l1" if `use_l1`.

        Args:
            outputs: Of `forward`.
            targets: "boxes" (B, N, 4) xyxy in pixels, "labels" (B, N), "valid" (B, N) bool, "crowd" (B, N) bool.
        """
        losses = yolox_losses(outputs, targets, self.use_l1)
        return {name: self.loss_weights[name] * value for name, value in losses.items()}

    def select_objects(self, outputs: Tensors, options: DetectionOptions) -> Tensors:
        """The strongest boxes that do not suppress each other, by objectness x class.

        An anchor point may yield several classes.
        """
        strength = torch.minimum(outputs["logits"].amax(2), outputs["objectness"][..., 0])
        outputs = drop_weak_anchors(outputs, strength, options.score_threshold)
        scores = outputs["logits"].float().sigmoid() * outputs["objectness"].float().sigmoid()
        deltas, anchors = outputs["box_deltas"].float(), outputs["anchors"]
        return select_detections(scores, lambda rows: decode_boxes(gather_rows(deltas, rows), anchors[rows]), *options)

    def ideal_outputs(self, targets: Tensors, size: tuple[int, int]) -> Tensors:
        """Outputs from which `postprocess` reads these targets: each object at the nearest free anchor point."""
        cells = [tuple(-(-side // stride) for side in size) for stride in STRIDES]
        anchors = anchor_points([torch.empty(1, 1, *cell) for cell in cells], STRIDES)
        batch = len(targets["boxes"])
        logits = torch.full((batch, len(anchors), self.num_classes), -MAX_LOGIT)
        objectness = torch.full((batch, len(anchors), 1), -MAX_LOGIT)
        deltas = torch.zeros(batch, len(anchors), 4)
        for image, row in (targets["valid"] & ~targets["crowd"]).nonzero().tolist():
            box = targets["boxes"][image, row]
            distance = (anchors[:, :2] - (box[:2] + box[2:]) / 2).norm(dim=1) + anchors[:, 2]
            anchor = int(distance.where(objectness[image, :, 0] < 0, torch.inf).argmin())
            logits[image, anchor, targets["labels"][image, row]] = MAX_LOGIT
            objectness[image, anchor] = MAX_LOGIT
            deltas[image, anchor] = encode_boxes(box, anchors[anchor])
        return {"logits": logits, "objectness": objectness, "box_deltas": deltas, "anchors": anchors}

    def _normalize(self, image: Tensor) -> Tensor:
        if self.legacy:
            return normalize_image(image, self.mean, self.std)
        return (image.flip(1) if image.shape[1] == 3 else image) * 255


class ConvNormAct(nn.Module):
    """Convolution, batch norm and SiLU, padded so that stride 1 keeps the size."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1):
        super().__init__()
        padding = (kernel_size - 1) // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        return self.act(self.bn(self.conv(x)))


def make_conv(in_channels: int, out_channels: int, stride: int = 1, depthwise: bool = False) -> nn.Module:
    """A 3x3 convolution block, dense or depthwise separable."""
    if not depthwise:
        return ConvNormAct(in_channels, out_channels, 3, stride)
    spatial = ConvNormAct(in_channels, in_channels, 3, stride, groups=in_channels)
    return nn.Sequential(OrderedDict(dconv=spatial, pconv=ConvNormAct(in_channels, out_channels, 1)))


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 convolution, with or without a residual connection."""

    def __init__(self, channels: int, shortcut: bool, depthwise: bool):
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, 1)
        self.conv2 = make_conv(channels, channels, depthwise=depthwise)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSPLayer(nn.Module):
    """Cross-stage partial block: half of the channels pass through bottlenecks, the other half goes around them.

    Source: Wang et al., CSPNet, CVPR Workshops 2020.
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int, shortcut: bool, depthwise: bool):
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = ConvNormAct(in_channels, hidden, 1)
        self.conv2 = ConvNormAct(in_channels, hidden, 1)
        self.conv3 = ConvNormAct(2 * hidden, out_channels, 1)
        self.m = nn.Sequential(*(Bottleneck(hidden, shortcut, depthwise) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], 1))


class SPPBottleneck(nn.Module):
    """Spatial pyramid pooling over 5x5, 9x9 and 13x13 windows; the larger ones are repeated 5x5 windows."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels // 2, 1)
        self.conv2 = ConvNormAct(channels // 2 * 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        pooled = [self.conv1(x)]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, stride=1, padding=2))
        return self.conv2(torch.cat(pooled, 1))


class CSPDarknet(nn.Module):
    """The backbone; its stem is a 6x6 convolution of stride 2, to which Focus and a 3x3 convolution are equivalent.

    Attributes:
        out_channels: Channels of the levels of strides 8, 16 and 32.
    """

    def __init__(self, in_channels: int, depth_multiple: float, width_multiple: float, depthwise: bool):
        super().__init__()
        width, depth = int(64 * width_multiple), max(round(3 * depth_multiple), 1)
        self.out_channels = (4 * width, 8 * width, 16 * width)
        self.stem = ConvNormAct(in_channels, width, 6, stride=2)
        channels, depths = (width, 2 * width, *self.out_channels), (depth, 3 * depth, 3 * depth, depth)
        for i, depth in enumerate(depths):
            is_last = i == len(depths) - 1
            before, after = channels[i : i + 2]
            layers = [make_conv(before, after, 2, depthwise)]
            layers += [SPPBottleneck(after)] if is_last else []
            layers += [CSPLayer(after, after, depth, not is_last, depthwise)]
            setattr(self, f"dark{i + 2}", nn.Sequential(*layers))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) to the levels of strides 8, 16 and 32."""
        x = self.stem(image)
        levels = []
        for i in range(2, 6):
            x = self.get_submodule(f"dark{i}")(x)
            levels.append(x)
        return levels[1:]


class PAFPN(nn.Module):
    """Path aggregation: a top-down, then a bottom-up pass over three levels (Liu et al., PANet, CVPR 2018)."""

    def __init__(self, channels: Sequence[int], depth_multiple: float, depthwise: bool):
        super().__init__()
        c3, c4, c5 = channels
        depth = max(round(3 * depth_multiple), 1)
        self.lateral_conv0 = ConvNormAct(c5, c4, 1)
        self.C3_p4 = CSPLayer(2 * c4, c4, depth, False, depthwise)
        self.reduce_conv1 = ConvNormAct(c4, c3, 1)
        self.C3_p3 = CSPLayer(2 * c3, c3, depth, False, depthwise)
        self.bu_conv2 = make_conv(c3, c3, 2, depthwise)
        self.C3_n3 = CSPLayer(2 * c3, c4, depth, False, depthwise)
        self.bu_conv1 = make_conv(c4, c4, 2, depthwise)
        self.C3_n4 = CSPLayer(2 * c4, c5, depth, False, depthwise)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels of strides 8, 16 and 32 to levels of the same shapes."""
        x3, x4, x5 = levels
        top = self.lateral_conv0(x5)
        middle = self.reduce_conv1(self.C3_p4(torch.cat([F.interpolate(top, scale_factor=2.0), x4], 1)))
        p3 = self.C3_p3(torch.cat([F.interpolate(middle, scale_factor=2.0), x3], 1))
        p4 = self.C3_n3(torch.cat([self.bu_conv2(p3), middle], 1))
        p5 = self.C3_n4(torch.cat([self.bu_conv1(p4), top], 1))
        return [p3, p4, p5]


class DecoupledHead(nn.Module):
    """One branch for the class, one for the box and objectness, at every cell of every level."""

    def __init__(self, channels: Sequence[int], width: int, num_classes: int, depthwise: bool):
        super().__init__()

        def make_branch() -> nn.Sequential:
            return nn.Sequential(*(make_conv(width, width, depthwise=depthwise) for _ in range(2)))

        self.stems = nn.ModuleList(ConvNormAct(level, width, 1) for level in channels)
        self.cls_convs = nn.ModuleList(make_branch() for _ in channels)
        self.reg_convs = nn.ModuleList(make_branch() for _ in channels)
        self.cls_preds = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for _ in channels)
        self.reg_preds = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in channels)
        self.obj_preds = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in channels)
        for layer in (*self.cls_preds, *self.obj_preds):
            nn.init.constant_(layer.bias, math.log(PRIOR / (1 - PRIOR)))

    def forward(self, levels: Sequence[Tensor]) -> Tensors:
        """Levels to "logits" (B, A, C), "objectness" (B, A, 1) and "box_deltas" (B, A, 4)."""
        rows: dict[str, list[Tensor]] = {"logits": [], "objectness": [], "box_deltas": []}
        for i, level in enumerate(levels):
            x = self.stems[i](level)
            features = self.reg_convs[i](x)
            rows["logits"].append(self.cls_preds[i](self.cls_convs[i](x)))
            rows["objectness"].append(self.obj_preds[i](features))
            rows["box_deltas"].append(self.reg_preds[i](features))
        return {name: join_levels(parts) for name, parts in rows.items()}
