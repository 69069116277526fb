"""YOLO's losses against formulas evaluated object by object."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import complete_box_iou_loss

from densevision.datasets.targets import stack_object_targets
from densevision.results import Detections
from densevision.tasks.detection.models.yolo import YoloHead
from densevision.tasks.detection.models.yolo_loss import (
    TaskAlignedAssigner,
    decode_boxes,
    dfl_loss,
    yolo_losses,
)

ASSIGNER = TaskAlignedAssigner()


def small_head() -> YoloHead:
    torch.manual_seed(0)
    return YoloHead([3, 8, 8, 8], [1, 8, 16, 32], num_classes=2, width=8, depth=1, reg_max=8)


def features(batch: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.rand(batch, 3, 64, 64), *(torch.rand(batch, 8, 64 // s, 64 // s) for s in (8, 16, 32))]


def truth(boxes, labels=None, **fields) -> Detections:
    return Detections.from_arrays(boxes, [0] * len(boxes) if labels is None else labels, ("a", "b"), (64, 64), **fields)


def test_dfl_loss__is_the_cross_entropy_of_the_two_nearest_bins():
    torch.manual_seed(0)
    logits, steps = torch.randn(5, 4 * 8), torch.rand(5, 4) * 6.9 - 1
    rows = logits.view(20, 8)
    position = steps.flatten() + 1  # bins start at -1
    left = position.floor().long()
    share = position - left
    expected = F.cross_entropy(rows, left, reduction="none") * (1 - share)
    expected += F.cross_entropy(rows, left + 1, reduction="none") * share
    assert torch.allclose(dfl_loss(logits, steps), expected.view(5, 4).mean(1), atol=1e-6)


def test_dfl_loss__minimum_decodes_to_the_true_box():
    steps = torch.tensor([[0.25, 1.5, 2.0, 3.75]])
    logits = torch.zeros(1, 32, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        dfl_loss(logits, steps).sum().backward()
        optimizer.step()
    anchors = torch.tensor([[0.0, 0.0, 1.0]])
    assert torch.allclose(decode_boxes(logits, anchors), torch.tensor([[-0.25, -1.5, 2.0, 3.75]]), atol=0.05)


def test_losses__equal_sums_over_anchor_points():
    with torch.no_grad():
        outputs = small_head()(features())
    targets = stack_object_targets([truth([[4, 4, 40, 50], [30, 8, 60, 30]], [0, 1]), truth([[1, 1, 12, 9]], [1])])
    losses = yolo_losses(outputs, targets, ASSIGNER)
    boxes = decode_boxes(outputs["distances"], outputs["anchors"])
    assignment = ASSIGNER(outputs["logits"].sigmoid(), boxes, outputs["anchors"], targets)
    total = max(1.0, float(assignment.quality.sum()))
    expected = dict.fromkeys(losses, 0.0)
    for image in range(2):
        for row, (x, y, stride) in enumerate(outputs["anchors"].tolist()):
            quality, match = float(assignment.quality[image, row]), int(assignment.matches[image, row])
            label = int(targets["labels"][image, match])
            for number, logit in enumerate(outputs["logits"][image, row].tolist()):
                target, score = quality if number == label else 0.0, 1 / (1 + math.exp(-logit))
                expected["class"] -= target * math.log(score) + (1 - target) * math.log(1 - score)
            if quality == 0:
                continue
            box = targets["boxes"][image, match]
            expected["box"] += quality * float(complete_box_iou_loss(boxes[image, row], box))
            steps = torch.stack([x - box[0], y - box[1], box[2] - x, box[3] - y]) / stride
            expected["dfl"] += quality * float(dfl_loss(outputs["distances"][image, row], steps))
    for name, value in losses.items():
        assert float(value) == pytest.approx(expected[name] / total, rel=1e-4), name


DEGENERATE = {
    "no objects": [truth([]), truth([])],
    "unlabeled": [None, None],
    "only a crowd region": [truth([[0, 0, 64, 64]], crowd=np.array([True])), truth([])],
    "one pixel": [truth([[10, 10, 11, 11]]), truth([])],
    "half a pixel in the corner": [truth([[63.5, 63.5, 64, 64]]), None],
}


@pytest.mark.parametrize("records", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_losses__finite_with_a_gradient_on_every_parameter(records):
    head = small_head()
    losses = yolo_losses(head(features()), stack_object_targets(records), ASSIGNER)
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values()), losses
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_losses__unlabeled_images_are_zero():
    losses = yolo_losses(small_head()(features()), stack_object_targets([None, None]), ASSIGNER)
    assert all(value.item() == 0 for value in losses.values())


def test_losses__without_known_all_images_are_labeled():
    outputs = small_head()(features())
    targets = stack_object_targets([truth([[4, 4, 40, 50]]), truth([])])
    expected = yolo_losses(outputs, targets, ASSIGNER)
    del targets["known"]
    assert yolo_losses(outputs, targets, ASSIGNER) == expected


def test_losses__objects_reach_every_parameter():
    head = small_head()
    objects = truth([[2, 2, 14, 12], [0, 0, 64, 64], [10, 20, 40, 50]])
    targets = stack_object_targets([objects, truth([[30, 30, 60, 62]], [1])])
    sum(yolo_losses(head(features()), targets, TaskAlignedAssigner(topk=100)).values()).backward()
    assert [name for name, parameter in head.named_parameters() if not parameter.grad.abs().sum() > 0] == []
