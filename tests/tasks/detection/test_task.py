"""The detector as a whole: it learns, exports, and is what its config says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.errors import UsageError
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks import load_config, load_task
from densevision.tasks.detection.config import BACKBONES, DetectionConfig
from densevision.tasks.detection.losses import detection_losses
from densevision.tasks.detection.task import Detection

SMALL = DetectionConfig.checked(
    {
        "backbone": {"name": "mobilenetv3_small_050"},
        "preset": "nano",
        "classes": ("square", "bar"),
        "data": {"size": 64},
    }
)


def net(config: DetectionConfig = SMALL):
    torch.manual_seed(0)
    return Detection(config).net()


def squares_and_bars(count: int) -> tuple[torch.Tensor, list[Detections]]:
    """White squares and black bars on gray, one of each per image."""
    rng = np.random.default_rng(0)
    images, ground_truths = np.full((count, 3, 64, 64), 0.5, np.float32), []
    for image in images:
        x, y = rng.integers(2, 40, 2)
        bar = rng.integers(2, 30)
        image[:, y : y + 20, x : x + 20] = 1
        image[:, bar : bar + 8, 2:60] = 0
        boxes = [[x, y, x + 20, y + 20], [2, bar, 60, bar + 8]]
        ground_truths.append(Detections.of(boxes, [0, 1], SMALL.classes, (64, 64)))
    return torch.from_numpy(images), ground_truths


def test_task__is_found_by_name():
    assert load_task("detection") is Detection
    assert load_config("detection") is DetectionConfig


def test_net__answers_alike_in_training_and_evaluation():
    model, image = net(), torch.rand(2, 3, 64, 96)
    training, evaluating = model.train()(image=image), model.eval()(image=image)
    anchors = 8 * 12 + 4 * 6 + 2 * 3
    shapes = {"logits": (2, anchors, 2), "distances": (2, anchors, 4 * SMALL.bins), "anchors": (anchors, 3)}
    for outputs in (training, evaluating):
        assert {name: tuple(value.shape) for name, value in outputs.items()} == shapes


def test_net__starts_out_expecting_background():
    with torch.no_grad():
        logits = net().eval()(image=torch.rand(1, 3, 64, 64))["logits"]
    assert logits.sigmoid().mean() < 0.02


def test_net__is_half_precision_under_autocast_and_its_losses_are_not():
    images, ground_truths = squares_and_bars(2)
    task, model = Detection(SMALL), net().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(image=images)
    assert outputs["logits"].dtype == torch.bfloat16
    assert outputs["anchors"].dtype == torch.float32, "centers beyond 256 need more than 8 bits"
    losses = detection_losses(outputs, task.targets(ground_truths), SMALL)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


def test_training__learns_four_images_by_heart():
    images, ground_truths = squares_and_bars(4)
    task, model = Detection(SMALL), net().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    targets = task.targets(ground_truths)
    for _ in range(60):
        optimizer.zero_grad()
        sum(detection_losses(model(image=images), targets, SMALL).values()).backward()
        optimizer.step()
    with torch.no_grad():
        model(image=images)  # norms as in training: so small a batch has no settled statistics
        outputs = model(image=images)
    views = [task.inputs["image"].view((64, 64))] * 4
    metric = task.metric()
    for position, (found, truth) in enumerate(
        zip(task.decode(outputs, views, task.evaluation_options()), ground_truths)
    ):
        metric.update(found, truth, position)
    assert metric.compute()["AP50"] > 0.95


class Whole(torch.nn.Module):
    """Network and decoding in one, as an export holds them."""

    def __init__(self, task: Detection, model: torch.nn.Module):
        super().__init__()
        self.task, self.model = task, model

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.task.answers(self.model(image=image), PredictOptions(score_threshold=0.005, max_detections=20))


def test_export__answers_alike_for_any_batch_and_size():
    # An untrained classifier scores anchor points within 1e-8 of one another: in single precision their order would be
    # rounding's.
    whole = Whole(Detection(SMALL), net()).double().eval()
    dims = {0: torch.export.Dim("batch", min=1, max=16), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(whole, (torch.rand(2, 3, 64, 96).double(),), dynamic_shapes={"image": dims})
    for shape in ((2, 3, 64, 96), (1, 3, 128, 64)):
        image = torch.rand(shape).double()
        with torch.no_grad():
            expected, found = whole(image), program.module()(image)
        assert expected["valid"].any()
        for name in expected:
            assert torch.allclose(expected[name].double(), found[name].double(), atol=1e-9), (shape, name)


@pytest.mark.parametrize("preset", ["nano", "small", "medium", "large"])
def test_preset__picks_the_backbone_unless_one_is_named(preset):
    assert DetectionConfig.checked({"preset": preset}).backbone.name == BACKBONES[preset]
    named = DetectionConfig.checked({"preset": preset, "backbone": {"name": "resnet18"}})
    assert named.backbone.name == "resnet18"


def test_preset__widens_the_neck():
    heads = [
        Detection(SMALL.changed(preset=preset)).head([3, 16, 24, 32], [1, 8, 16, 32])
        for preset in ("nano", "small", "medium", "large")
    ]
    sizes = [sum(weight.numel() for weight in head.parameters()) for head in heads]
    assert sizes == sorted(sizes) and len(set(sizes)) == 4


def test_config__refuses_ids_without_classes():
    with pytest.raises(UsageError, match="category_ids"):
        DetectionConfig.checked({"category_ids": (1, 2)})


def test_head__without_classes_says_what_to_do():
    with pytest.raises(UsageError, match="classes are not known"):
        Detection(DetectionConfig()).head([3, 16, 24, 32], [1, 8, 16, 32])


def test_head__without_the_levels_it_needs_says_what_to_do():
    with pytest.raises(UsageError, match="output_stride"):
        Detection(SMALL).head([3, 16, 24, 32], [1, 4, 8, 8])


def test_without_truth__is_a_image_of_nothing():
    sample = Detection(SMALL).unlabeled(Sample({"image": np.zeros((5, 7, 3), np.uint8)}))
    assert len(sample.truth) == 0
    assert sample.truth.size == (5, 7)


def test_inputs__keep_the_form_of_the_image():
    spec = Detection(SMALL.changed(data__size=640)).inputs["image"]
    assert spec.view((480, 640)).size == (480, 640)
    assert spec.view((1, 1)).size == (640, 640)
    assert spec.view((1000, 1700)).size == (384, 640)
    assert spec.view((10, 1700)).size == (64, 640)
