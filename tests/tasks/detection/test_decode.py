"""Decoding against torchvision's greedy suppression, and the way back to the original images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from densevision.errors import UsageError
from densevision.ops.boxes import anchor_points
from densevision.ops.view import View, fit
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.tasks.detection import postprocess as decode
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.models.yolo import STRIDES, predicted_boxes

CONFIG = DetectionConfig(classes=("a", "b", "c"), category_ids=(7, 90, 3), bins=8)


def outputs(batch: int, height: int = 96, width: int = 128, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    anchors = anchor_points([torch.empty(1, 1, height // s, width // s) for s in STRIDES], STRIDES)
    logits = (torch.randn(batch, len(anchors), 3, generator=generator) * 2).round(decimals=1)  # many are equal
    distances = torch.randn(batch, len(anchors), 32, generator=generator) * 3
    return {"logits": logits, "distances": distances, "anchors": anchors}


def reference(outputs, image: int, least: float, threshold: float, most: int, class_agnostic: bool = False):
    """Boxes, scores and labels by torchvision, every pair of anchor point and class a candidate."""
    scores, labels = outputs["logits"][image].sigmoid(), torch.arange(3)
    boxes = predicted_boxes(outputs["distances"][image], outputs["anchors"])
    boxes, labels = boxes.repeat_interleave(3, 0), labels.repeat(len(boxes))
    chosen = (scores.flatten() >= least).nonzero()[:, 0]
    boxes, scores, labels = boxes[chosen], scores.flatten()[chosen], labels[chosen]
    keep = batched_nms(boxes, scores, torch.zeros_like(labels) if class_agnostic else labels, threshold)[:most]
    return boxes[keep], scores[keep], labels[keep]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_answers__equal_torchvisions_greedy_suppression(seed, class_agnostic):
    raw = outputs(2, seed=seed)
    options = PredictOptions(score_threshold=0.3, iou_threshold=0.47, class_agnostic=class_agnostic)
    found = decode.answers(raw, options, CONFIG)
    for image in range(2):
        boxes, scores, labels = reference(raw, image, 0.3, 0.47, 300, class_agnostic)
        count = int(found["valid"][image].sum())
        assert found["valid"][image, :count].all(), "valid rows come first"
        assert torch.equal(found["scores"][image, :count], scores)
        assert torch.equal(found["labels"][image, :count], labels)
        assert torch.allclose(found["boxes"][image, :count], boxes, atol=1e-4)


def test_answers__have_a_fixed_shape_on_the_smallest_canvas():
    found = decode.answers(outputs(3, 32, 32), PredictOptions(max_detections=50), CONFIG)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "boxes": (3, 50, 4), "scores": (3, 50), "labels": (3, 50), "valid": (3, 50)
    }  # fmt: skip


def test_answers__keep_the_strongest_when_there_are_too_many():
    raw = outputs(1)
    many, few = (decode.answers(raw, PredictOptions(score_threshold=0.01, max_detections=n), CONFIG) for n in (300, 5))
    assert few["valid"].all()
    assert torch.equal(few["scores"], many["scores"][:, :5])


def test_answers__keep_the_classes_that_are_asked_for():
    raw = outputs(1)
    found = decode.answers(raw, PredictOptions(classes=("b", "c"), score_threshold=0.0), CONFIG)
    assert set(found["labels"][found["valid"]].tolist()) == {1, 2}
    only_b = decode.answers(raw, PredictOptions(classes=("b",), score_threshold=0.7), CONFIG)
    everything = decode.answers(raw, PredictOptions(score_threshold=0.7), CONFIG)
    of_b = everything["valid"] & (everything["labels"] == 1)
    assert torch.equal(only_b["scores"][only_b["valid"]], everything["scores"][of_b])


def test_answers__refuse_an_unknown_class():
    with pytest.raises(UsageError, match="classes: no such class"):
        decode.answers(outputs(1), PredictOptions(classes=("bb",)), CONFIG)


def test_results__lie_in_the_original_image_with_names_and_ids():
    view = fit((50, 100), "letterbox", (96, 128), multiple_of=32)
    answers = {
        "boxes": torch.tensor([[[10.0, 20, 30, 40], [-5, -5, 200, 200], [0, 0, 9, 9], [0, 0, 9, 1]]]),
        "scores": torch.tensor([[0.9, 0.8, 0.7, 0.6]]),
        "labels": torch.tensor([[0, 1, 2, 0]]),
        "valid": torch.tensor([[True, True, False, True]]),
    }
    (record,) = decode.results(answers, [view], CONFIG)
    assert record.size == (50, 100)
    assert record.scores.tolist() == pytest.approx([0.9, 0.8]), "invalid, and outside of the image"
    assert record.category_ids().tolist() == [7, 90]
    back = record.boxes[0] * np.tile(view.scale, 2) + np.tile(view.offset, 2)
    assert back.tolist() == pytest.approx([10, 20, 30, 40], abs=1e-4)
    assert record.boxes[1].tolist() == [0, 0, 100, 50]
    assert (record.boxes.dtype, record.labels.dtype, record.scores.dtype) == (np.float32, np.int64, np.float32)


def test_results__of_nothing_are_empty_records():
    answers = decode.answers(outputs(1), PredictOptions(score_threshold=1.0), CONFIG)
    (record,) = decode.results(answers, [View((96, 128), (96, 128))], CONFIG)
    assert len(record) == 0
    assert record.boxes.shape == (0, 4)


def record(boxes, scores, labels) -> Detections:
    return Detections.of(boxes, labels, CONFIG.classes, (100, 100), scores=scores, ids=CONFIG.category_ids)


def test_merge__keeps_the_stronger_of_two_looks_at_an_object():
    one = record([[10, 10, 30, 30], [50, 50, 60, 60]], [0.6, 0.9], [0, 1])
    other = record([[11, 10, 30, 31]], [0.8], [0])
    merged = decode.merge([one, other], PredictOptions(), CONFIG)
    assert merged.scores.tolist() == pytest.approx([0.9, 0.8])
    assert merged.ids == CONFIG.category_ids


def test_merge__leaves_out_pieces_of_an_object_that_a_tile_cut():
    whole, piece = (
        record([[10, 10, 50, 50]], [0.9], [0]),
        record([[10, 10, 50, 22], [10, 10, 50, 22]], [0.7, 0.8], [0, 1]),
    )
    by_tiles = decode.merge([whole, piece], PredictOptions(tile=64), CONFIG)
    assert by_tiles.labels.tolist() == [0, 1], "a piece of another class is an object of its own"
    by_looks = decode.merge([whole, piece], PredictOptions(tta=("flip",)), CONFIG)
    assert len(by_looks) == 3


def test_merge__of_one_answer_is_that_answer():
    raw = outputs(1)
    options = PredictOptions(score_threshold=0.5)
    inner = View((500, 500), (96, 128), offset=(-200.0, -200.0))  # far from the border, where clipping joins boxes
    (single,) = decode.results(decode.answers(raw, options, CONFIG), [inner], CONFIG)
    merged = decode.merge([single], options, CONFIG)
    assert np.array_equal(merged.boxes, single.boxes)
    assert np.array_equal(merged.scores, single.scores)


def test_merge__keeps_at_most_what_is_allowed():
    answers = [record([[i * 10, 0, i * 10 + 8, 8] for i in range(5)], [0.5] * 5, [0] * 5)] * 2
    assert len(decode.merge(answers, PredictOptions(), CONFIG)) == 5
    assert len(decode.merge(answers, PredictOptions(max_detections=3), CONFIG)) == 3
