"""Training of networks that predict a set of masks with classes: matching, point sampling and losses.

Sources: Cheng et al., Masked-attention Mask Transformer for Universal Image Segmentation, CVPR 2022, sections 3.3 and
4.1; the importance sampling of points is that of Kirillov et al., PointRend, CVPR 2020, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

__all__ = [
    "MaskClassificationLoss",
    "MaskPrediction",
    "MaskTargets",
    "labels_to_targets",
    "pad_targets",
    "sample_points",
]

IGNORE_INDEX = 255


class MaskTargets(NamedTuple):
    """The segments of a batch.

    Attributes:
        masks: Per image (N, H, W) bool.
        classes: Per image (N,) int64.
        known: (B, H, W) bool: labeled pixels; others are neither inside nor outside of any mask.
    """

    masks: list[Tensor]
    classes: list[Tensor]
    known: Tensor


class MaskPrediction(NamedTuple):
    """Masks and classes of the queries, predicted by one layer.

    Attributes:
        mask_logits: (B, Q, h, w).
        class_logits: (B, Q, C + 1); the last class is "no object".
    """

    mask_logits: Tensor
    class_logits: Tensor


class MaskClassificationLoss:
    """Hungarian matching of queries with segments, then cross-entropy of classes and BCE and Dice of masks at points.

    Args:
        class_weight: Weight of the classes, in the loss and in the matching.
        mask_weight: Weight of the binary cross-entropy, likewise.
        dice_weight: Weight of the Dice loss, likewise.
        no_object_weight: Weight of the class "no object" in the cross-entropy.
        num_points: Points at which a mask is compared.
        oversample_ratio: Candidates per point, from which the most uncertain are taken.
        importance_ratio: Share of the points that are taken by uncertainty; the others are uniform.
    """

    def __init__(
        self,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_ratio: float = 0.75,
    ):
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.no_object_weight = no_object_weight
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_ratio = importance_ratio

    def __call__(self, predictions: Sequence[MaskPrediction], targets: MaskTargets) -> dict[str, Tensor]:
        """Sums the losses of all layers.

        Args:
            predictions: One per supervised layer.
            targets: Segments on the canvas that the mask logits cover.

        Returns:
            "class", "mask" and "dice", weighted. Images without a known pixel count nowhere.
        """
        total: dict[str, Tensor] = {}
        for prediction in predictions:
            with torch.autocast(prediction.mask_logits.device.type, enabled=False):
                floats = MaskPrediction(prediction.mask_logits.float(), prediction.class_logits.float())
                for name, loss in self._layer_losses(floats, targets).items():
                    total[name] = total[name] + loss if name in total else loss
        return total

    @torch.no_grad()
    def match(self, prediction: MaskPrediction, targets: MaskTargets) -> list[tuple[Tensor, Tensor]]:
        """Assigns segments to queries at the least cost, image by image.

        Returns:
            Per image the queries and the segments assigned to them, (M,) int64 each with M = min(Q, N).
        """
        matches = []
        for image, (masks, classes) in enumerate(zip(targets.masks, targets.classes)):
            mask_logits = prediction.mask_logits[image]
            points = torch.rand(1, self.num_points, 2, device=mask_logits.device)
            if len(masks) == 0:
                empty = torch.zeros(0, dtype=torch.int64, device=mask_logits.device)
                matches.append((empty, empty))
                continue
            known = sample_points(targets.known[image][None].to(mask_logits), points, "nearest")
            logits = sample_points(mask_logits, points)
            target = sample_points(masks.to(mask_logits), points) * known
            probability = logits.sigmoid() * known
            cross_entropy = F.softplus(-logits) @ target.T + (F.softplus(logits) * known) @ (known - target).T
            dice = (2 * probability @ target.T + 1) / (probability.sum(1)[:, None] + target.sum(1) + 1)
            cost = self.mask_weight * cross_entropy / known.sum().clamp(min=1) + self.dice_weight * (1 - dice)
            cost = cost - self.class_weight * prediction.class_logits[image].softmax(1)[:, classes]
            largest = torch.finfo(cost.dtype).max
            cost = cost.nan_to_num(largest, largest, largest)
            rows, columns = linear_sum_assignment(cost.cpu().numpy())
            matches.append((torch.as_tensor(rows, device=cost.device), torch.as_tensor(columns, device=cost.device)))
        return matches

    def _layer_losses(self, prediction: MaskPrediction, targets: MaskTargets) -> dict[str, Tensor]:
        matches = self.match(prediction, targets)
        mask, dice = self._mask_losses(prediction.mask_logits, targets, matches)
        classes = self._class_loss(prediction.class_logits, targets, matches)
        return {
            "class": self.class_weight * classes,
            "mask": self.mask_weight * mask,
            "dice": self.dice_weight * dice,
        }

    def _class_loss(self, logits: Tensor, targets: MaskTargets, matches: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        nothing = logits.shape[2] - 1
        labels = torch.full(logits.shape[:2], nothing, dtype=torch.int64, device=logits.device)
        for row, classes, (queries, segments) in zip(labels, targets.classes, matches):
            row[queries] = classes[segments]
        weights = torch.where(labels == nothing, self.no_object_weight, 1.0)
        weights = weights * targets.known.flatten(1).any(1)[:, None]
        losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        return (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(losses.dtype).eps)

    def _mask_losses(
        self, mask_logits: Tensor, targets: MaskTargets, matches: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        logits = torch.cat([image[queries] for image, (queries, _) in zip(mask_logits, matches)])
        if len(logits) == 0:
            zero = 0 * mask_logits.sum()
            return zero, zero
        target = torch.cat([masks[segments] for masks, (_, segments) in zip(targets.masks, matches)])
        images = torch.cat([torch.full_like(queries, row) for row, (queries, _) in enumerate(matches)])
        points = self._uncertain_points(logits.detach())
        known = sample_points(targets.known[images, None].to(logits), points, "nearest")[:, 0]
        target = sample_points(target[:, None].to(logits), points)[:, 0]
        logits = sample_points(logits[:, None], points)[:, 0]
        count = max(1, sum(map(len, targets.classes)))
        cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        cross_entropy = (cross_entropy * known).sum(1) / known.sum(1).clamp(min=1)
        probability, target = logits.sigmoid() * known, target * known
        dice = (2 * (probability * target).sum(1) + 1) / (probability.sum(1) + target.sum(1) + 1)
        return cross_entropy.sum() / count, (1 - dice).sum() / count

    def _uncertain_points(self, logits: Tensor) -> Tensor:
        """(M, h, w) to (M, num_points, 2): mostly where logits are near 0."""
        count, uncertain = len(logits), int(self.importance_ratio * self.num_points)
        candidates = torch.rand(count, int(self.num_points * self.oversample_ratio), 2, device=logits.device)
        distance = sample_points(logits[:, None], candidates)[:, 0].abs()
        nearest = distance.topk(uncertain, dim=1, largest=False).indices
        points = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))
        uniform = torch.rand(count, self.num_points - uncertain, 2, device=logits.device)
        return torch.cat([points, uniform], 1)


def sample_points(maps: Tensor, points: Tensor, mode: str = "bilinear") -> Tensor:
    """Reads maps at points.

    Args:
        maps: (N, K, H, W), or (K, H, W) with `points` of one row.
        points: (N, P, 2) x and y in [0, 1] of the maps' extent.
        mode: `bilinear` or `nearest`.

    Returns:
        (N, K, P), or (K, P).
    """
    if maps.ndim == 3:
        return sample_points(maps[None], points, mode)[0]
    return F.grid_sample(maps, 2 * points[:, :, None] - 1, mode=mode, align_corners=False)[..., 0]


def labels_to_targets(labels: Tensor, ignore_index: int = IGNORE_INDEX) -> MaskTargets:
    """Semantic labels (B, H, W) int64 as one segment per class and image; `ignore_index` is unknown."""
    known = labels != ignore_index
    classes = [image[inside].unique() for image, inside in zip(labels, known)]
    masks = [image[None] == present[:, None, None] for image, present in zip(labels, classes)]
    return MaskTargets(masks, classes, known)


def pad_targets(targets: MaskTargets, size: tuple[int, int]) -> MaskTargets:
    """Extends the targets at the right and the bottom to (height, width); what is added is unknown."""
    height, width = targets.known.shape[-2:]
    padding = (0, size[1] - width, 0, size[0] - height)
    if not any(padding):
        return targets
    return MaskTargets(
        [F.pad(masks, padding) for masks in targets.masks], targets.classes, F.pad(targets.known, padding)
    )
