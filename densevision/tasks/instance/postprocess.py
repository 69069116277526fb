"""Outputs to records: boxes back to the image, masks pasted into them, heatmaps read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from densevision.nn.rcnn.postprocess import Rules, asked_for
from densevision.ops.masks import areas
from densevision.ops.merging import strongest_of_parts
from densevision.ops.paste import paste, paste_snapped
from densevision.ops.skeleton import Skeleton
from densevision.ops.view import View
from densevision.results import Instances
from densevision.run_config import PredictOptions
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.keypoints import peaks


def rules(options: PredictOptions, config: InstanceConfig) -> Rules:
    """Which boxes are answers: what the options ask for, and where they are silent, the config.

    Raises:
        UsageError: A class that does not exist.
    """
    chosen = config.decode
    usual = Rules(chosen.score_threshold, chosen.iou_threshold, chosen.max_detections, chosen.candidates)
    return asked_for(options, usual, config.classes or ())


def results(answers: dict[str, Tensor], views: Sequence[View], config: InstanceConfig) -> list[Instances]:
    """Records in pixels of the original images; boxes that lie outside are left out.

    Args:
        answers: What the head returns, on the CPU.
        views: How the network saw each image.
        config: Class names, joints, and how masks are pasted.
    """
    rows = (dict(zip(answers, row)) for row in zip(*(answer.numpy() for answer in answers.values())))
    return [_record(row, view, config) for row, view in zip(rows, views)]


def merge(found: Sequence[Instances], options: PredictOptions, config: InstanceConfig) -> Instances:
    """One record from several about the same image: the strongest objects that do not suppress one another."""
    everything = Instances.joined(found)
    groups = np.zeros_like(everything.labels) if options.class_agnostic else everything.labels
    threshold = config.decode.iou_threshold if options.iou_threshold is None else options.iou_threshold
    tiled = options.tile is not None
    keep = strongest_of_parts(everything.boxes, everything.scores, groups, threshold, pieces=tiled)
    return everything[keep[: options.max_detections or config.decode.max_detections]]


def skeleton(config: InstanceConfig) -> Skeleton | None:
    """What the keypoints of this config are."""
    return Skeleton(config.keypoint_names or (), config.skeleton_edges or ()) if config.keypoints else None


def _record(answer: dict[str, np.ndarray], view: View, config: InstanceConfig) -> Instances:
    boxes = view.boxes_to_original(answer["boxes"]).astype(np.float32)
    keep = np.flatnonzero(answer["valid"] & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    boxes = boxes[keep]
    more = {}
    if config.masks:
        more["masks"] = masks = _pasted(answer["masks"][keep], boxes, view, config.decode.whole_pixels)
        more["areas"] = areas(masks)
    if config.keypoints:
        points, scores = peaks(answer["heatmaps"][keep], answer["boxes"][keep])
        more["keypoints"] = np.dstack([view.points_to_original(points), np.full(scores.shape, 2)]).astype(np.float32)
        more |= {"joint_scores": scores, "skeleton": skeleton(config)}
    return Instances.of(
        boxes,
        answer["labels"][keep],
        config.classes or (),
        view.original,
        scores=answer["scores"][keep],
        ids=config.category_ids,
        **more,
    )


def _pasted(masks: np.ndarray, boxes: np.ndarray, view: View, whole_pixels: bool) -> tuple[dict, ...]:
    onto = paste_snapped if whole_pixels else paste
    return tuple(onto(mask, box, view.original) for mask, box in zip(masks, boxes))
