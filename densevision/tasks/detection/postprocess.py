"""Network outputs to boxes, boxes to records, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.errors import UsageError, did_you_mean
from densevision.ops.boxes import nms_dense
from densevision.ops.merging import strongest_of_parts
from densevision.ops.view import View
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.models.yolo import predicted_boxes

Tensors = dict[str, Tensor]


def answers(outputs: Tensors, options: PredictOptions, config: DetectionConfig) -> Tensors:
    """The strongest boxes that do not suppress one another, as tensors of fixed length.

    An anchor point may answer with several classes. Nothing here depends on values except by tensor arithmetic, so an
    exported graph can hold it, with any batch and canvas.

    Args:
        outputs: Of the head.
        options: `score_threshold`, `max_detections`, `iou_threshold`, `class_agnostic`, `classes`; the config's where not given.
        config: Class names and the defaults.

    Returns:
        "boxes" (B, K, 4) in pixels of the canvas, "scores" (B, K), strongest first, "labels" (B, K) and "valid" (B, K)
        bool; K is the number of detections allowed.
    """
    chosen = config.decode
    limit = options.max_detections or chosen.max_detections
    least = chosen.score_threshold if options.score_threshold is None else options.score_threshold
    threshold = chosen.iou_threshold if options.iou_threshold is None else options.iou_threshold
    scores = _class_scores(outputs["logits"], options, config)
    count = max(limit, chosen.candidates)
    if not torch.compiler.is_exporting():  # a graph has one size for all images; here no more enter than take part
        count = min(count, max(limit, int((scores >= least).sum((1, 2)).max())))
    scores, rows, labels = _candidates(scores, count)
    distances = outputs["distances"].gather(1, rows[..., None].expand(-1, -1, outputs["distances"].shape[2]))
    boxes = predicted_boxes(distances, outputs["anchors"][rows])
    keep = nms_dense(boxes, (scores >= least) & (scores > 0), threshold, None if options.class_agnostic else labels)
    order = _kept_first(keep, limit)
    return {
        "boxes": boxes.gather(1, order[..., None].expand(-1, -1, 4)),
        "scores": scores.gather(1, order),
        "labels": labels.gather(1, order),
        "valid": keep.gather(1, order),
    }


def results(answers: Tensors, views: Sequence[View], config: DetectionConfig) -> list[Detections]:
    """Records in pixels of the original images; boxes that lie outside are left out.

    Args:
        answers: Of `answers`, on the CPU.
        views: How the network saw each image.
        config: Class names and category ids.
    """
    records = []
    arrays = (answers[name].numpy() for name in ("boxes", "scores", "labels", "valid"))
    for view, boxes, scores, labels, valid in zip(views, *arrays):
        boxes = view.boxes_to_original(boxes).astype(np.float32)
        keep = valid & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        records.append(
            Detections(
                boxes=boxes[keep],
                scores=scores[keep].astype(np.float32),
                labels=labels[keep].astype(np.int64),
                names=config.classes,
                ids=config.category_ids,
                size=view.original,
            )
        )
    return records


def merge(results: Sequence[Detections], options: PredictOptions, config: DetectionConfig) -> Detections:
    """One record from several about the same image: the strongest boxes that do not suppress one another.

    Under `tile` the pieces of an object that a tile's border cut give way to the whole.
    """
    threshold = config.decode.iou_threshold if options.iou_threshold is None else options.iou_threshold
    boxes, scores, labels = (np.concatenate([getattr(one, name) for one in results]) for name in _ROWS)
    groups = np.zeros_like(labels) if options.class_agnostic else labels
    keep = strongest_of_parts(boxes, scores, groups, threshold, pieces=options.tile is not None)
    keep = keep[: options.max_detections or config.decode.max_detections]
    return Detections(
        boxes=boxes[keep],
        scores=scores[keep],
        labels=labels[keep],
        names=results[0].names,
        ids=results[0].ids,
        size=results[0].size,
    )


_ROWS = ("boxes", "scores", "labels")


def _class_scores(logits: Tensor, options: PredictOptions, config: DetectionConfig) -> Tensor:
    """(B, A, C) scores; 0 for classes that are not asked for."""
    scores = logits.sigmoid()
    if options.classes is None:
        return scores
    names = config.classes or ()
    for name in options.classes:
        if name not in names:
            raise UsageError("no such class", field="classes", value=name, hint=did_you_mean(name, names))
    asked = [float(name in options.classes) for name in names]
    return scores * torch.tensor(asked, dtype=scores.dtype, device=scores.device)


def _candidates(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The strongest scores (B, K), strongest first and by position where equal; their anchor points and classes."""
    classes = scores.shape[2]
    flat = scores.flatten(1)
    padded = torch.cat([flat, flat.new_zeros(flat.shape[0], count)], 1)  # a small canvas has fewer than `count`
    strength, position = padded.topk(count)
    if not torch.compiler.is_exporting():  # ONNX orders equal scores by position; PyTorch leaves it open
        position = position.sort().values
        strength, order = padded.gather(1, position).sort(descending=True, stable=True)
        position = position.gather(1, order)
    position = position.clamp(max=flat.shape[1] - 1)
    return strength, position // classes, position % classes


def _kept_first(keep: Tensor, count: int) -> Tensor:
    """(B, count) positions: the kept ones in their order, then the others."""
    rank = torch.arange(keep.shape[1], device=keep.device)
    return torch.where(keep, rank, rank + keep.shape[1]).topk(count, largest=False).indices
