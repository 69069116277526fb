"""The detector with two stages: the contract, what its config refuses, how its answers follow the options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from densevision.errors import UsageError
from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchModel
from densevision.run_config import PredictOptions
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.task import Detection
from densevision.testing import CHECKS, check_task
from densevision.training.train import card_of

TINY = {
    "arch": "faster_rcnn",
    "data.path": "scenes:8:0",
    "data.size": 128,
    "backbone.name": "mobilenetv2_050",
    "augment.mosaic": 0.0,
    "rcnn.width": 16,
    "rcnn.strides": [8, 16, 32],
    "rcnn.anchors.sizes": [24, 48, 96, 128],
    "rcnn.proposals.candidates": 100,
    "rcnn.proposals.kept": 50,
    "rcnn.proposals.training_candidates": 100,
    "rcnn.proposals.training_kept": 100,
    "rcnn.box.hidden": [64],
    "rcnn.box.samples": 32,
    "decode.max_detections": 20,
    "decode.candidates": 100,
}


def task(**settings) -> Detection:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return Detection(Detection.infer_from_data(DetectionConfig.resolve(None, {**TINY, **named})))


def test_contract() -> None:
    assert len(check_task(Detection, DetectionConfig.resolve(None, TINY))) == len(CHECKS)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"preset": "nano"}, "preset has no effect with arch=faster_rcnn"),
        ({"bins": 8}, "bins has no effect"),
        ({"assign.topk": 3}, "assign has no effect"),
        ({"loss.distribution": 2.0}, "loss.distribution has no effect"),
        ({"data.size": [128, 160]}, "data.size is one side"),
        ({"data.longest": 64}, "data.longest must not be below"),
        ({"rcnn.levels": ["blocks.5"]}, "levels must name one module for each"),
        ({"arch": "yolo"}, "rcnn has no effect with arch=yolo"),
    ],
)
def test_config__what_has_no_effect_is_refused(settings, words) -> None:
    with pytest.raises(UsageError, match=words):
        DetectionConfig.resolve(None, {**TINY, **settings})


def test_config__yolo_knows_no_second_stage() -> None:
    for name, value in (("data.longest", 800), ("loss.objectness", 2.0), ("loss.proposal", 2.0)):
        with pytest.raises(UsageError, match=f"{name} has no effect with arch=yolo"):
            DetectionConfig.resolve(None, {name: value})


def test_config__silence_means_what_the_paper_says() -> None:
    config = DetectionConfig.resolve(None, {"arch": "faster_rcnn", "data.size": 600})
    assert config.backbone.name == "resnet50" and config.data.longest == 1000
    assert (config.loss.classification, config.loss.box) == (1.0, 1.0)
    assert (config.decode.iou_threshold, config.decode.max_detections) == (0.5, 100)
    own = DetectionConfig.resolve(
        None, {"arch": "faster_rcnn", "decode.iou_threshold": 0.6, "backbone.name": "resnet18"}
    )
    assert own.decode.iou_threshold == 0.6 and own.decode.max_detections == 100 and own.backbone.name == "resnet18"
    assert DetectionConfig.checked(own.plain()) == own
    yolo = DetectionConfig.resolve(None, {})
    assert yolo.data.longest is None and yolo.decode.iou_threshold == 0.7 and yolo.loss.box == 7.5


def test_rules__follow_the_options() -> None:
    own = task()
    torch.manual_seed(0)
    run = TorchModel(own, own.net().eval(), card_of(own.config, 1))
    sample = own.dataset("val")[0]

    def found(**options):
        return run.infer([sample], PredictOptions(score_threshold=0.0, precision="float32", **options))[0]

    everything, few, name = found(), found(max_detections=3), own.config.classes[1]
    assert np.array_equal(few.scores, everything.scores[:3]) and len(everything) <= 20
    assert set(found(classes=(name,)).labels.tolist()) == {1}
    with pytest.raises(UsageError, match="no such class"):
        found(classes=("nothing",))


def test_export__without_decoding_is_refused(tmp_path) -> None:
    from densevision.export.export import export

    own = task()
    run = TorchModel(own, own.net().eval(), card_of(own.config, 1))
    with pytest.raises(UsageError, match="its network's outputs are its answers"):
        export(run, tmp_path / "a.pt2", "torch", decode=False)


def test_multi_scale__moves_the_size_with_the_image() -> None:
    from densevision.datasets.rescale import rescale_batch

    own = task()
    batch = Collate(own)([own.dataset("train")[0]])
    small = rescale_batch(batch, 0.5, 32)
    assert small.inputs["image"].shape[-2:] == (64, 64)
    assert small.inputs["size"].tolist() == [[64, 64]]
    assert torch.allclose(small.targets["boxes"] * 2, batch.targets["boxes"])


def test_training_canvas__keeps_the_shape_of_the_image() -> None:
    from densevision.tasks.detection.dataset import canvas_size

    config = DetectionConfig.resolve(None, {**TINY, "data.longest": 200})
    assert canvas_size(config, (100, 200)) == (100, 200)
    assert canvas_size(config, (100, 100)) == (128, 128)


def test_recipe__can_be_read() -> None:
    config = DetectionConfig.resolve(Path("configs/detection/coco_faster_rcnn.yaml"))
    assert config.arch == "faster_rcnn" and config.train.epochs == 12
