"""YOLO: forward pass, postprocessing against torchvision, ideal outputs, training, export."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from densevision.errors import UsageError
from densevision.ops.boxes import anchor_points
from densevision.ops.view import View
from densevision.results import Detections
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.models import MODELS
from densevision.tasks.detection.models.yolo import STRIDES, YOLO, YoloHead
from densevision.tasks.detection.models.yolo_loss import decode_boxes
from densevision.tasks.detection.task import Detection

SMALL = {"num_classes": 3, "encoder": "mobilenetv3_small_050", "image_size": 64, "width": 64}


def make_model(**arguments) -> YOLO:
    torch.manual_seed(0)
    return YOLO(**{**SMALL, **arguments})


MODEL = make_model(reg_max=8)


def test_forward__same_shapes_in_training_and_evaluation():
    model, image = make_model(), torch.rand(2, 3, 64, 96)
    anchors = 8 * 12 + 4 * 6 + 2 * 3
    shapes = {"logits": (2, anchors, 3), "distances": (2, anchors, 4 * model.reg_max), "anchors": (anchors, 3)}
    for outputs in (model.train()(image=image), model.eval()(image=image)):
        assert {name: tuple(value.shape) for name, value in outputs.items()} == shapes


def test_forward__untrained_scores_are_near_the_prior():
    with torch.no_grad():
        assert make_model().eval()(image=torch.rand(1, 3, 64, 64))["logits"].sigmoid().mean() < 0.02


def test_autocast__half_precision_logits_and_single_precision_losses():
    model = make_model().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(image=torch.rand(2, 3, 64, 64))
    assert outputs["logits"].dtype == torch.bfloat16
    assert outputs["anchors"].dtype == torch.float32, "centers beyond 256 need more than 8 bits"
    targets = {
        "boxes": torch.tensor([[[4.0, 4, 40, 50]]] * 2),
        "labels": torch.zeros(2, 1, dtype=torch.long),
        "valid": torch.ones(2, 1, dtype=torch.bool),
        "crowd": torch.zeros(2, 1, dtype=torch.bool),
    }
    losses = model.loss(outputs, targets)
    assert set(losses) == {"class", "box", "dfl"}
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


def random_outputs(batch: int, height: int = 96, width: int = 128, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    anchors = anchor_points([torch.empty(1, 1, height // s, width // s) for s in STRIDES], STRIDES)
    logits = (torch.randn(batch, len(anchors), 3, generator=generator) * 2).round(decimals=1)  # with ties
    distances = torch.randn(batch, len(anchors), 32, generator=generator) * 3
    return {"logits": logits, "distances": distances, "anchors": anchors}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("class_agnostic", [False, True])
def test_postprocess__equals_torchvisions_nms(seed, class_agnostic):
    outputs = random_outputs(2, seed=seed)
    result = MODEL.postprocess(outputs, 0.3, 0.47, class_agnostic=class_agnostic)
    for image in range(2):
        scores, labels = outputs["logits"][image].sigmoid().flatten(), torch.arange(3).repeat(len(outputs["anchors"]))
        boxes = decode_boxes(outputs["distances"][image], outputs["anchors"]).repeat_interleave(3, 0)
        rows = (scores >= 0.3).nonzero()[:, 0]
        groups = torch.zeros_like(labels) if class_agnostic else labels
        rows = rows[batched_nms(boxes[rows], scores[rows], groups[rows], 0.47)[:300]]
        count = int(result["valid"][image].sum())
        assert result["valid"][image, :count].all(), "valid rows come first"
        assert torch.equal(result["scores"][image, :count], scores[rows])
        assert torch.equal(result["labels"][image, :count], labels[rows])
        assert torch.allclose(result["boxes"][image, :count], boxes[rows], atol=1e-4)


def test_postprocess__fixed_shape_on_the_smallest_canvas():
    result = MODEL.postprocess(random_outputs(3, 32, 32), max_detections=50)
    shapes = {"boxes": (3, 50, 4), "scores": (3, 50), "labels": (3, 50), "valid": (3, 50)}
    assert {name: tuple(value.shape) for name, value in result.items()} == shapes


def test_postprocess__limit_keeps_the_strongest():
    many, few = (MODEL.postprocess(random_outputs(1), 0.01, max_detections=count) for count in (300, 5))
    assert few["valid"].all() and torch.equal(few["scores"], many["scores"][:, :5])


def test_postprocess__class_mask():
    outputs = random_outputs(1)
    masked = MODEL.postprocess(outputs, 0.7, class_mask=torch.tensor([False, True, False]))
    complete = MODEL.postprocess(outputs, 0.7)
    is_expected = complete["valid"] & (complete["labels"] == 1)
    assert is_expected.any() and torch.equal(masked["scores"][masked["valid"]], complete["scores"][is_expected])


# -- ideal outputs ----------------------------------------------------------------------------------------------------

CLASSES = ("a", "b", "c")


def truth(boxes, labels=None, size=(128, 160), **fields) -> Detections:
    return Detections.from_arrays(boxes, [0] * len(boxes) if labels is None else labels, CLASSES, size, **fields)


def reconstruct(arch: str, *records: Detections) -> list[Detections]:
    """The records that are read from ideal outputs."""
    task = Detection(DetectionConfig(arch=arch, classes=CLASSES))
    views = [View(record.size, record.size) for record in records]
    return task.decode(task.ideal_outputs(records), views, task.evaluation_options())


def assert_same(result: Detections, expected: Detections) -> None:
    assert len(result) == len(expected)
    orders = [np.lexsort((*one.boxes.round(1).T, one.labels)) for one in (result, expected)]
    one, other = (record[order] for record, order in zip((result, expected), orders))
    assert np.abs(one.boxes - other.boxes).max(initial=0) < 0.01
    assert np.array_equal(one.labels, other.labels)
    assert np.allclose(one.scores, 1)


CASES = {
    "none": [],
    "one pixel": [[3, 3, 4, 4]],
    "one pixel in each corner": [[0, 0, 1, 1], [159, 0, 160, 1], [0, 127, 1, 128], [159, 127, 160, 128]],
    "less than a pixel between anchor points": [[7.9, 7.9, 8.1, 8.2]],
    "fractions": [[10.37, 20.11, 99.83, 77.77]],
    "the complete canvas": [[0, 0, 160, 128]],
    "a line": [[0, 40, 160, 41.5]],
    "same center": [[60, 60, 70, 70], [50, 50, 80, 80], [30, 30, 100, 100]],
    "several in one cell": [[x, y, x + 1, y + 1] for x in (34, 36) for y in (33, 35, 38)],
}


@pytest.mark.parametrize("boxes", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("arch", ["yolo_n", "yolox_nano"])
def test_ideal_outputs__decode_to_the_ground_truth(arch, boxes):
    assert_same(reconstruct(arch, truth(boxes))[0], truth(boxes))


def test_ideal_outputs__random_objects():
    rng = np.random.default_rng(0)
    records = []
    for _ in range(8):
        corner = rng.random((12, 2)) * (150, 118)
        boxes = np.concatenate([corner, corner + rng.random((12, 2)) ** 3 * 120 + 0.5], 1).clip(0, (160, 128) * 2)
        records.append(truth(boxes, np.arange(12) % 3))
    for result, expected in zip(reconstruct("yolo_n", *records), records):
        assert_same(result, expected)


@pytest.mark.parametrize(
    "boxes, size", [([[0, 0, 800, 640]], (640, 800)), ([[0, 0, 33, 1], [90, 50, 97, 61]], (61, 97))]
)
def test_ideal_outputs__large_and_odd_canvases(boxes, size):
    assert_same(reconstruct("yolo_n", truth(boxes, size=size))[0], truth(boxes, size=size))


def test_ideal_outputs__without_crowd_regions():
    mixed = truth([[0, 0, 100, 100], [20, 20, 50, 60]], [0, 0], crowd=np.array([True, False]))
    assert_same(reconstruct("yolo_n", mixed)[0], truth([[20, 20, 50, 60]]))


# -- training, export, construction -----------------------------------------------------------------------------------


def squares_and_bars(count: int) -> tuple[torch.Tensor, list[Detections]]:
    """White squares and black bars on gray, one of each per image."""
    rng = np.random.default_rng(0)
    images, records = np.full((count, 3, 64, 64), 0.5, np.float32), []
    for image in images:
        x, y = rng.integers(2, 40, 2)
        bar = rng.integers(2, 30)
        image[:, y : y + 20, x : x + 20] = 1
        image[:, bar : bar + 8, 2:60] = 0
        records.append(truth([[x, y, x + 20, y + 20], [2, bar, 60, bar + 8]], [0, 1], (64, 64)))
    return torch.from_numpy(images), records


def test_training__overfits_four_images():
    images, records = squares_and_bars(4)
    settings = {"arch": "yolo_n", "backbone.name": SMALL["encoder"], "data.size": 64, "classes": CLASSES}
    task = Detection(DetectionConfig.resolve(None, settings))
    torch.manual_seed(0)
    model = task.build_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    targets = task.collate_targets(records)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model.loss(model(image=images), targets).values()).backward()
        optimizer.step()
    with torch.no_grad():
        model(image=images)  # norms as in training: the statistics of so small a batch have not settled
        outputs = model(image=images)
    views = [task.input_spec["image"].view((64, 64))] * 4
    metric = task.build_metric()
    for number, (result, record) in enumerate(zip(task.decode(outputs, views, task.evaluation_options()), records)):
        metric.update(result, record, number)
    assert metric.compute()["AP50"] > 0.95


class Deployed(torch.nn.Module):
    """Forward pass and postprocessing in one, as an export holds them."""

    def __init__(self, model: YOLO):
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.model.postprocess(self.model(image=image), 0.005, max_detections=20)


def test_export__same_detections_for_any_batch_and_canvas():
    # An untrained classifier scores anchor points within 1e-8 of each other: in single precision, rounding would decide
    # their order.
    deployed = Deployed(make_model()).double().eval()
    dims = {0: torch.export.Dim("batch", min=1, max=16), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(deployed, (torch.rand(2, 3, 64, 96).double(),), dynamic_shapes={"image": dims})
    for shape in ((2, 3, 64, 96), (1, 3, 128, 64)):
        image = torch.rand(shape).double()
        with torch.no_grad():
            expected, result = deployed(image), program.module()(image)
        assert expected["valid"].any()
        for name in expected:
            assert torch.allclose(expected[name].double(), result[name].double(), atol=1e-9), (shape, name)


def test_presets__grow_in_parameters():
    sizes = []
    for size in "nsml":
        arguments = MODELS[f"yolo_{size}"].arguments
        head = YoloHead([3, 16, 24, 32], [1, 8, 16, 32], 2, arguments["width"], arguments["depth"], 16)
        sizes.append(sum(parameter.numel() for parameter in head.parameters()))
    assert sizes == sorted(set(sizes))


def test_constructor__backbone_without_the_levels_is_an_error():
    with pytest.raises(UsageError, match="output_stride"):
        YoloHead([3, 16, 24, 32], [1, 4, 8, 8], 2, 16, 1, 16)


def test_input_spec__keeps_the_aspect_ratio():
    spec = YOLO(**{**SMALL, "image_size": 640}).input_spec["image"]
    sizes = {(480, 640): (480, 640), (1, 1): (640, 640), (1000, 1700): (384, 640), (10, 1700): (64, 640)}
    assert {original: spec.view(original).size for original in sizes} == sizes
