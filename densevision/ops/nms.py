"""Non-maximum suppression over batches, in forms that an exported graph can hold.

Boxes are xyxy. Tensors have a fixed number of rows per image; a mask says which of them are valid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from densevision.ops.boxes import pairwise_iou

__all__ = ["EXPORTED_ROUNDS", "batched_nms", "gather_rows", "nms_dense", "select_detections", "top_k"]

EXPORTED_ROUNDS = 32
"""Rounds of suppression in an exported graph; see `nms_dense`."""


def nms_dense(boxes: Tensor, valid: Tensor, iou_threshold: float, groups: Tensor | None = None) -> Tensor:
    """Greedy non-maximum suppression of sorted boxes, as tensor arithmetic over a batch.

    A box is kept if no kept, stronger box of its group overlaps it by more than the threshold. One round applies this
    rule to all boxes at once and settles every box whose chain of stronger neighbors is no longer than the number of
    rounds. Repeated until nothing changes, the result equals that of the sequential algorithm. An exported graph
    cannot stop early and holds `EXPORTED_ROUNDS` rounds.

    Args:
        boxes: (B, K, 4), strongest first.
        valid: (B, K) bool, boxes that take part.
        iou_threshold: Intersection over union above which the weaker box is suppressed.
        groups: (B, K) integers; boxes of different groups do not suppress each other. None for one group.

    Returns:
        (B, K) bool, the boxes that are kept.

    >>> row = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 7]]])
    >>> nms_dense(row, torch.ones(1, 3, dtype=torch.bool), 0.75)
    tensor([[ True, False,  True]])
    """
    overlaps = pairwise_iou(boxes, boxes) > iou_threshold
    if groups is not None:
        overlaps = overlaps & (groups[..., :, None] == groups[..., None, :])
    overlaps_stronger = overlaps.to(boxes.dtype).tril(-1)
    candidates = valid.to(boxes.dtype)
    keep = candidates
    is_exporting = torch.compiler.is_exporting()
    for _ in range(EXPORTED_ROUNDS if is_exporting else max(1, boxes.shape[-2])):
        overlap_counts = (overlaps_stronger @ keep[..., None])[..., 0].clamp(max=1)
        previous, keep = keep, candidates * (1 - overlap_counts)
        if not is_exporting and torch.equal(previous, keep):
            break
    return keep > 0


def batched_nms(
    boxes: Tensor, scores: Tensor, valid: Tensor, iou_threshold: float, groups: Tensor | None = None
) -> Tensor:
    """Greedy non-maximum suppression: torchvision's operator, or `nms_dense` in an exported graph.

    Args:
        boxes: (B, K, 4), strongest first.
        scores: (B, K).
        valid: (B, K) bool, boxes that take part.
        iou_threshold: Intersection over union above which the weaker box is suppressed.
        groups: (B, K) integers; boxes of different groups do not suppress each other. None for one group.

    Returns:
        (B, K) bool, the boxes that are kept.
    """
    if torch.compiler.is_exporting():
        return nms_dense(boxes, valid, iou_threshold, groups)
    keep = torch.zeros_like(valid)
    for image, mask in enumerate(valid):
        rows = mask.nonzero()[:, 0]
        candidates = boxes[image, rows], scores[image, rows]
        if groups is None:
            kept = ops.nms(*candidates, iou_threshold)
        else:
            kept = ops.batched_nms(*candidates, groups[image, rows], iou_threshold)
        keep[image, rows[kept]] = True
    return keep


def top_k(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest of scores (B, N), sorted, and their positions: (B, count) each.

    If N is below `count`, minus infinity at the last position fills the rest, so that the shape never depends on N.
    """
    padded = torch.cat([scores, scores.new_full((scores.shape[0], count), -torch.inf)], 1)
    best = padded.topk(count)
    return best.values, best.indices.clamp(max=scores.shape[1] - 1)


def gather_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Picks rows (B, K) of values (B, N, ...): (B, K, ...)."""
    shape = (*rows.shape, *values.shape[2:])
    return values.gather(1, rows.reshape(*rows.shape, *[1] * (values.ndim - 2)).expand(shape))


def select_detections(
    scores: Tensor,
    decode_boxes: Callable[[Tensor], Tensor],
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    max_candidates: int,
    class_agnostic: bool = False,
    class_mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """The detections of a dense detector: the strongest boxes that do not suppress each other.

    An anchor point may yield several classes. Nothing depends on values except by tensor arithmetic, so that an
    exported graph can hold it with any batch and canvas.

    Args:
        scores: (B, A, C) in [0, 1].
        decode_boxes: Maps positions of anchor points (B, K) to their boxes (B, K, 4) in pixels of the canvas.
        score_threshold: Lowest score of a detection.
        iou_threshold: Intersection over union above which the weaker of two boxes of a class is suppressed.
        max_detections: Number of detections K per image.
        max_candidates: Most (anchor point, class) pairs per image that enter the suppression.
        class_agnostic: Let boxes of different classes suppress each other.
        class_mask: (C,) of bool or 0 and 1: the classes to detect; None for all.

    Returns:
        "boxes" (B, K, 4), "scores" (B, K) strongest first, "labels" (B, K) int64, "valid" (B, K) bool.
    """
    if class_mask is not None:
        scores = scores * class_mask.to(scores)
    count = max(max_detections, max_candidates)
    if not torch.compiler.is_exporting():  # a graph has one size for all images; here no more than needed take part
        count = min(count, max(max_detections, int((scores >= score_threshold).sum((1, 2)).max())))
    scores, rows, labels = _select_candidates(scores, count)
    boxes = decode_boxes(rows)
    candidates = (scores >= score_threshold) & (scores > 0)
    keep = nms_dense(boxes, candidates, iou_threshold, None if class_agnostic else labels)
    rank = torch.arange(count, device=keep.device)
    order = torch.where(keep, rank, rank + count).topk(max_detections, largest=False).indices
    detections = {"boxes": boxes, "scores": scores, "labels": labels, "valid": keep}
    return {name: gather_rows(values, order) for name, values in detections.items()}


def _select_candidates(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The strongest of the scores (B, A, C): (B, count) strongest first, their anchor points and their classes.

    The strongest pairs lie among the anchor points with the strongest class, so the large selection runs over A values
    instead of A x C. Equal scores are ordered by position, as ONNX orders them.
    """
    num_anchors, num_classes = scores.shape[1:]
    rows = F.pad(scores.amax(2), (0, count)).topk(count).indices  # a small canvas has fewer than `count` anchor points
    rows = rows.sort(1).values
    is_padding = (rows >= num_anchors)[..., None]
    rows = rows.clamp(max=num_anchors - 1)
    row_scores = gather_rows(scores, rows).masked_fill(is_padding, 0).flatten(1)
    strength, position = row_scores.topk(count)
    if not torch.compiler.is_exporting():
        position = position.sort().values
        strength, order = row_scores.gather(1, position).sort(descending=True, stable=True)
        position = position.gather(1, order)
    return strength, rows.gather(1, position // num_classes), position % num_classes
