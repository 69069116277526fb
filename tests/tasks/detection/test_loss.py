"""Losses against formulas written out object by object."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import complete_box_iou_loss

from densevision.datasets.targets import stack
from densevision.results import Detections
from densevision.tasks.detection.assigner import assign
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.losses import detection_losses, distribution_loss
from densevision.tasks.detection.models.yolo import YoloHead, predicted_boxes

CONFIG = DetectionConfig(classes=("a", "b"), bins=8)


def small_head() -> YoloHead:
    torch.manual_seed(0)
    return YoloHead([3, 8, 8, 8], [1, 8, 16, 32], classes=2, width=8, depth=1, bins=8)


def features(batch: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.rand(batch, 3, 64, 64), *(torch.rand(batch, 8, 64 // s, 64 // s) for s in (8, 16, 32))]


def truth(boxes, labels=None, **more) -> Detections:
    return Detections.of(boxes, [0] * len(boxes) if labels is None else labels, ("a", "b"), (64, 64), **more)


def test_distribution_loss__is_the_weighted_cross_entropy_of_the_two_bins_beside():
    torch.manual_seed(0)
    logits, steps = torch.randn(5, 4 * 8), torch.rand(5, 4) * 6.9 - 1
    rows = logits.view(20, 8)
    position = steps.flatten() + 1  # bins start at -1
    left = position.floor().long()
    share = position - left
    expected = F.cross_entropy(rows, left, reduction="none") * (1 - share)
    expected += F.cross_entropy(rows, left + 1, reduction="none") * share
    assert torch.allclose(distribution_loss(logits, steps), expected.view(5, 4).mean(1), atol=1e-6)


def test_distribution_loss__is_least_at_the_truth():
    steps = torch.tensor([[0.25, 1.5, 2.0, 3.75]], requires_grad=False)
    logits = torch.zeros(1, 32, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        distribution_loss(logits, steps).sum().backward()
        optimizer.step()
    anchors = torch.tensor([[0.0, 0.0, 1.0]])
    expected = torch.tensor([[-0.25, -1.5, 2.0, 3.75]])
    assert torch.allclose(predicted_boxes(logits, anchors), expected, atol=0.05)


def test_losses__equal_the_sum_written_out():
    with torch.no_grad():
        outputs = small_head()(features())
    targets = stack([truth([[4, 4, 40, 50], [30, 8, 60, 30]], [0, 1]), truth([[1, 1, 12, 9]], [1])])
    losses = detection_losses(outputs, targets, CONFIG)
    boxes = predicted_boxes(outputs["distances"], outputs["anchors"])
    found = assign(outputs["logits"].sigmoid(), boxes, outputs["anchors"], targets, 10, 0.5, 6.0)
    total = max(1.0, float(found.quality.sum()))
    expected = dict.fromkeys(losses, 0.0)
    for image in range(2):
        for row, (x, y, stride) in enumerate(outputs["anchors"].tolist()):
            quality, object_ = float(found.quality[image, row]), int(found.truth[image, row])
            label = int(targets["labels"][image, object_])
            for number, logit in enumerate(outputs["logits"][image, row].tolist()):
                wanted, score = quality if number == label else 0.0, 1 / (1 + math.exp(-logit))
                expected["class"] -= wanted * math.log(score) + (1 - wanted) * math.log(1 - score)
            if quality == 0:
                continue
            box = targets["boxes"][image, object_]
            expected["box"] += quality * float(complete_box_iou_loss(boxes[image, row], box))
            steps = torch.stack([x - box[0], y - box[1], box[2] - x, box[3] - y]) / stride
            expected["distribution"] += quality * float(distribution_loss(outputs["distances"][image, row], steps))
    weights = {"class": 0.5, "box": 7.5, "distribution": 1.5}
    for name, value in losses.items():
        assert float(value) == pytest.approx(weights[name] * expected[name] / total, rel=1e-4), name


NOTHING = {
    "no objects": [truth([]), truth([])],
    "nothing known": [None, None],
    "only a crowd": [truth([[0, 0, 64, 64]], crowd=np.array([True])), truth([])],
    "one pixel": [truth([[10, 10, 11, 11]]), truth([])],
    "half a pixel in the corner": [truth([[63.5, 63.5, 64, 64]]), None],
}


@pytest.mark.parametrize("truths", NOTHING.values(), ids=NOTHING.keys())
def test_losses__are_finite_with_a_gradient_on_every_parameter(ground_truths):
    head = small_head()
    losses = detection_losses(head(features()), stack(ground_truths), CONFIG)
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values()), losses
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_losses__of_unknown_images_are_zero():
    losses = detection_losses(small_head()(features()), stack([None, None]), CONFIG)
    assert all(value.item() == 0 for value in losses.values())


def test_losses__reach_every_parameter_where_there_are_objects():
    head = small_head()
    targets = stack([truth([[2, 2, 14, 12], [0, 0, 64, 64], [10, 20, 40, 50]]), truth([[30, 30, 60, 62]], [1])])
    everywhere = CONFIG.changed(assign__topk=100)
    sum(detection_losses(head(features()), targets, everywhere).values()).backward()
    still = [name for name, parameter in head.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not still


def test_stack__pads_and_marks():
    record = truth([[0, 0, 1, 1], [0, 0, 9, 9]], [1, 0], crowd=np.array([False, True]))
    targets = stack([record, None, truth([])])
    assert targets["boxes"].shape == (3, 2, 4)
    assert targets["valid"].tolist() == [[True, True], [False, False], [False, False]]
    assert targets["crowd"][0].tolist() == [False, True]
    assert targets["known"].tolist() == [True, False, True]
    assert stack([None])["boxes"].shape == (1, 1, 4), "there is always a row, so that reductions are defined"
