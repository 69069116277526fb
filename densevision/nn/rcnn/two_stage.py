"""The head of two-stage detectors: a pyramid, proposals, and what each of them is.

    levels -> FPN -> proposals -> pool -> boxes -> pool -> masks, keypoints

Source: Ren et al., Faster R-CNN, NeurIPS 2015; Lin et al., Feature Pyramid Networks, CVPR 2017; He et al., Mask R-CNN,
ICCV 2017. Layers, order and rounding are torchvision's, so that its weights answer here as they do there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.nn.necks import FPN
from densevision.nn.rcnn.anchors import Anchors
from densevision.nn.rcnn.config import KeypointConfig, MaskConfig, RcnnConfig
from densevision.nn.rcnn.heads import BoxHead, KeypointHead, MaskHead
from densevision.nn.rcnn.losses import box_losses, keypoint_loss, mask_loss, proposal_losses
from densevision.nn.rcnn.matcher import Samples, Truth, sample_proposals
from densevision.nn.rcnn.pooling import into_slots, occupied, pool, rois_of
from densevision.nn.rcnn.postprocess import Detected, Rules, detect
from densevision.nn.rcnn.rpn import ProposalHead, Proposals, propose


class TwoStage(nn.Module):
    """Features and the size of the image to objects; with truth, to losses.

    Args:
        channels: Channels of the encoder's levels.
        strides: Strides of the encoder's levels.
        classes: Number of classes.
        config: Pyramid, proposals and box head.
        rules: Which boxes are answers when `forward` is not told.
        mask: The mask head; none when not given.
        keypoint: The keypoint head; none when not given.
        keypoints: Number of keypoints.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        config: RcnnConfig,
        rules: Rules,
        mask: MaskConfig | None = None,
        keypoint: KeypointConfig | None = None,
        keypoints: int = 0,
    ):
        super().__init__()
        self.config, self.rules, self.mask_config, self.keypoint_config = config, rules, mask, keypoint
        self.levels, self.strides = _positions(config.strides, strides), config.strides
        norm = nn.BatchNorm2d if config.norm == "batch" else None
        sizes, levels = config.anchors.sizes, len(config.strides) + 1
        self.neck = FPN([channels[level] for level in self.levels], config.width, extra=True, norm=norm)
        self.anchors = Anchors(
            [sizes] * levels if config.anchors.everywhere else [(size,) for size in sizes], config.anchors.ratios
        )
        self.proposals = ProposalHead(config.width, self.anchors.per_cell, config.proposals.depth)
        self.box = BoxHead(config.width, classes, config.box, norm)
        self.mask = MaskHead(config.width, classes, mask, norm) if mask else None
        self.keypoint = KeypointHead(config.width, keypoints, keypoint) if keypoint else None

    def forward(self, image: Sequence[Tensor], size: Tensor, rules: Rules | None = None) -> dict[str, Tensor]:
        """Answers the levels of an image.

        Args:
            image: The encoder's levels; level 0 is the image (B, C, H, W).
            size: (B, 2) height and width that the image covers on its canvas.
            rules: Which boxes are answers.

        Returns:
            K being the limit of the rules: "boxes" (B, K, 4) in pixels of the canvas, "scores" (B, K), strongest first,
            "labels" (B, K), "valid" (B, K) bool, and with those heads "masks" (B, K, R, R) in [0, 1] over the box and
            "heatmaps" (B, K, keypoints, R, R) logits over the box.
        """
        rules = rules or self.rules
        levels = self.pyramid(image)
        logits, offsets = self.proposals(levels)
        anchors = self.anchors(levels, image[0].shape[-2:])
        proposals = propose(logits, offsets, anchors, size, self.config.proposals)
        found = self.detections(levels, proposals, size, rules)
        return found._asdict() | self.details(levels, found)

    def pyramid(self, image: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's levels to those of the feature pyramid, and the one of every second cell."""
        return self.neck([image[level] for level in self.levels])

    def detections(self, levels: Sequence[Tensor], proposals: Proposals, size: Tensor, rules: Rules) -> Detected:
        """Proposals to boxes with classes."""
        slots = occupied(proposals.valid)
        logits, offsets = self.box(self._pooled(levels, rois_of(proposals.boxes, slots), self.config.box.resolution))
        logits, offsets = (into_slots(part, slots, proposals.valid) for part in (logits, offsets))
        return detect(logits, offsets, proposals, size, rules)

    def details(self, levels: Sequence[Tensor], found: Detected) -> dict[str, Tensor]:
        """Boxes to masks and heatmaps, as far as there are heads for them."""
        slots, details = occupied(found.valid), {}
        rois = rois_of(found.boxes, slots)
        if self.mask is not None:
            labels = found.labels.flatten() + 1
            pooled = self._pooled(levels, rois, self.mask_config.resolution)
            masks = self.mask(pooled, labels if slots is None else labels[slots]).sigmoid()
            details["masks"] = into_slots(masks, slots, found.valid)
        if self.keypoint is not None:
            heatmaps = self.keypoint(self._pooled(levels, rois, self.keypoint_config.resolution))
            details["heatmaps"] = into_slots(heatmaps, slots, found.valid)
        return details

    def losses(self, image: Sequence[Tensor], size: Tensor, ground_truths: Sequence[Truth]) -> dict[str, Tensor]:
        """Runs the stages with truth.

        Args:
            image: The encoder's levels.
            size: (B, 2) height and width that the image covers on its canvas.
            truths: One per image, on the canvas.

        Returns:
            "objectness", "proposal", "class", "box", and with those heads "mask" and "keypoint": scalars, finite for
            any truth, also none.
        """
        levels = self.pyramid(image)
        logits, offsets = self.proposals(levels)
        anchors = self.anchors(levels, image[0].shape[-2:])
        stage = self.config.proposals
        parts = (torch.cat(part, 1) for part in (logits, offsets))
        objectness, proposal = proposal_losses(*parts, torch.cat(anchors), ground_truths, stage)
        proposals = propose(logits, offsets, anchors, size, stage, training=True)
        box = self.config.box
        samples = sample_proposals(
            proposals.boxes, proposals.valid, ground_truths, box.overlap, box.samples, box.positive_part
        )
        class_loss, box_loss = box_losses(
            *self.box(self._pooled(levels, samples.rois, box.resolution)), samples, ground_truths
        )
        losses = {"objectness": objectness, "proposal": proposal, "class": class_loss, "box": box_loss}
        return losses | self._detail_losses(levels, samples.objects(), ground_truths)

    def _detail_losses(
        self, levels: Sequence[Tensor], objects: Samples, ground_truths: Sequence[Truth]
    ) -> dict[str, Tensor]:
        losses = {}
        if self.mask is not None:
            logits = self.mask(self._pooled(levels, objects.rois, self.mask_config.resolution), objects.labels)
            losses["mask"] = mask_loss(logits, objects, ground_truths)
        if self.keypoint is not None:
            logits = self.keypoint(self._pooled(levels, objects.rois, self.keypoint_config.resolution))
            losses["keypoint"] = keypoint_loss(logits, objects, ground_truths)
        return losses

    def _pooled(self, levels: Sequence[Tensor], rois: Tensor, resolution: int) -> Tensor:
        return pool(levels[: len(self.strides)], self.strides, rois, resolution)


def _positions(wanted: Sequence[int], there: Sequence[int]) -> list[int]:
    """The level of each wanted stride; of several levels of one stride, the first that is not taken."""
    found: list[int] = []
    for stride in wanted:
        free = [level for level, own in enumerate(there) if own == stride and level not in found]
        if not free:
            hint = f"Take another backbone, or set rcnn.strides to some of {', '.join(map(str, there[1:]))}."
            raise UsageError("the backbone has no level of stride", field="rcnn.strides", value=stride, hint=hint)
        found.append(free[0])
    return found
