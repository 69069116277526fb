"""Non-maximum suppression over batches, in forms that an exported graph can hold.

Boxes are xyxy. Tensors have a fixed number of rows per image; a mask says which of them are valid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

__all__ = [
    "batched_nms",
    "drop_weak_anchors",
    "gather_rows",
    "nms_operator",
    "select_detections",
    "suppress_flat",
    "top_k",
    "trace_torchvision_nms",
]

_is_traced_inline: ContextVar[bool] = ContextVar("is_traced_inline", default=False)


@contextmanager
def trace_torchvision_nms() -> Iterator[None]:
    """Graphs that are traced meanwhile hold torchvision's operator, which programs without densevision have too."""
    token = _is_traced_inline.set(True)
    try:
        yield
    finally:
        _is_traced_inline.reset(token)


def batched_nms(
    boxes: Tensor, valid: Tensor, iou_threshold: float, groups: Tensor | None = None, num_groups: int = 1
) -> Tensor:
    """Greedy non-maximum suppression over a batch of sorted boxes.

    A box is kept if no kept, stronger box of its group overlaps it by more than the threshold. An exported graph holds
    this as one operator; the exporter replaces it by that of the format.

    Args:
        boxes: (B, K, 4), strongest first.
        valid: (B, K) bool, boxes that take part.
        iou_threshold: Intersection over union above which the weaker box is suppressed.
        groups: (B, K) integers from 0; boxes of different groups do not suppress each other. None for one group.
        num_groups: Number of groups.

    Returns:
        (B, K) bool, the boxes that are kept.

    >>> row = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 7]]])
    >>> batched_nms(row, torch.ones(1, 3, dtype=torch.bool), 0.75)
    tensor([[ True, False,  True]])
    """
    if groups is None:
        groups = torch.zeros_like(valid, dtype=torch.int64)
    if _is_traced_inline.get():
        return suppress_flat(boxes.detach(), valid, float(iou_threshold), groups, num_groups)
    # Called eagerly, a custom operator would import torch's compiler.
    suppress = nms_operator if torch.compiler.is_compiling() else _suppress_each
    return suppress(boxes.detach(), valid, float(iou_threshold), groups, num_groups)


@torch.library.custom_op("densevision::nms", mutates_args=())
def nms_operator(boxes: Tensor, valid: Tensor, iou_threshold: float, groups: Tensor, num_groups: int) -> Tensor:
    """`batched_nms` as an operator that `torch.export` keeps whole."""
    return _suppress_each(boxes, valid, iou_threshold, groups, num_groups)


@nms_operator.register_fake
def _(boxes: Tensor, valid: Tensor, iou_threshold: float, groups: Tensor, num_groups: int) -> Tensor:
    return torch.empty_like(valid)


def _suppress_each(boxes: Tensor, valid: Tensor, iou_threshold: float, groups: Tensor, num_groups: int) -> Tensor:
    images = zip(boxes, valid, groups)
    return torch.stack([suppress_flat(*image[:2], iou_threshold, image[2], num_groups) for image in images])


def suppress_flat(boxes: Tensor, valid: Tensor, iou_threshold: float, groups: Tensor, num_groups: int) -> Tensor:
    """`batched_nms` by torchvision's operator, for rows (..., K) whose groups and order are common to the whole batch.

    Every group is moved to a place of its own, in double precision, so that boxes keep their overlaps.
    """
    rows = valid.flatten().nonzero()[:, 0]
    candidates = boxes.flatten(0, -2)[rows].double()
    images = torch.arange(valid.numel(), device=valid.device) // valid.shape[-1]
    places = (images * num_groups + groups.flatten())[rows]
    span = torch.cat([candidates.abs().flatten(), candidates.new_ones(1)]).amax()
    candidates = candidates + (places * (2 * span + 1))[:, None]
    # Positions are the scores: equal scores keep their order.
    kept = rows[ops.nms(candidates, -rows.double(), iou_threshold)]
    return torch.zeros_like(valid).flatten().scatter(0, kept, True).view_as(valid)


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


def drop_weak_anchors(outputs: Mapping[str, Tensor], strength: Tensor, score_threshold: float) -> dict[str, Tensor]:
    """Leaves out the anchor points that give no detection in any image, before scores and boxes are computed.

    A graph that is exported keeps all: its shapes must not depend on values.

    Args:
        outputs: "anchors" (A, ...), all others (B, A, ...).
        strength: (B, A), a logit that no score of the anchor point exceeds.
        score_threshold: Lowest score of a detection.
    """
    # Close to 1 float32 cannot tell scores apart by their logits.
    if torch.compiler.is_exporting() or not 0 < score_threshold < 0.999:
        return dict(outputs)
    lowest = math.log(score_threshold / (1 - score_threshold)) - 0.01  # more than rounding of the scores can bridge
    rows = (strength.amax(0) >= lowest).nonzero()[:, 0]
    rows = rows if len(rows) else rows.new_zeros(1)
    return {name: values[rows] if name == "anchors" else values[:, rows] for name, values in outputs.items()}


def select_detections(
    scores: Tensor,
    decode_boxes: Callable[[Tensor], Tensor],
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    max_candidates: int,
    class_agnostic: bool = False,
    class_mask: Tensor | Sequence[bool] | None = None,
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
    num_classes = 1 if class_agnostic else scores.shape[2]
    if class_mask is not None:
        scores = scores * torch.as_tensor(class_mask, dtype=scores.dtype, device=scores.device)
    count = max(max_detections, max_candidates)
    if not torch.compiler.is_exporting():  # a graph has one size for all images; here no more than needed take part
        count = min(count, max(max_detections, int((scores >= score_threshold).sum((1, 2)).max())))
    scores, rows, labels = _select_candidates(scores, count)
    boxes = decode_boxes(rows)
    candidates = (scores >= score_threshold) & (scores > 0)
    keep = batched_nms(boxes, candidates, iou_threshold, None if class_agnostic else labels, num_classes)
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
