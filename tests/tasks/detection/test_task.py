"""The task with every architecture: contract, config, thresholds, sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from class_tensors import assert_class_tensors
from small_models import TWO_STAGE_RUN

from densevision.datasets.rescale import rescale_batch
from densevision.errors import UsageError
from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchPredictor
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks import load_config, load_task
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.models import MODELS
from densevision.tasks.detection.task import Detection
from densevision.testing import CHECKS, check_task
from densevision.training.train import make_card

SCENES = {"data.path": "scenes:8:0"}
YOLO = {**SCENES, "arch": "yolo_n", "data.size": 96}
FASTER_RCNN = {**TWO_STAGE_RUN, "arch": "faster_rcnn", "augment.mosaic": 0.0}
YOLOX = {**SCENES, "arch": "yolox_nano", "data.size": 96}
DFINE = {**SCENES, "arch": "dfine_n", "data.size": 64, "model.num_queries": 20, "model.num_denoising": 8}


def make_task(base: dict, **settings) -> Detection:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return Detection(Detection.infer_from_data(DetectionConfig.resolve(None, {**base, **named})))


def make_predictor(task: Detection) -> TorchPredictor:
    torch.manual_seed(0)
    return TorchPredictor(task, task.build_model().eval(), make_card(task.config, 1))


def test_contract__every_check():
    assert len(check_task(Detection, DetectionConfig.resolve(None, YOLO))) == len(CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [FASTER_RCNN, YOLOX, DFINE], ids=["faster_rcnn", "yolox", "dfine"])
def test_contract__every_check_of_large_networks(settings):
    assert len(check_task(Detection, DetectionConfig.resolve(None, settings))) == len(CHECKS)


def test_task__by_name():
    assert load_task("detection") is Detection and load_config("detection") is DetectionConfig


@pytest.mark.parametrize("arch", MODELS)
def test_class_tensors__are_those_that_depend_on_the_number_of_classes(arch):
    assert_class_tensors(MODELS[arch])


# -- config -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["yolo_n", "yolo_s", "yolo_m", "yolo_l", "faster_rcnn", "dfine_n"])
def test_config__backbone_of_the_architecture_unless_named(arch):
    assert DetectionConfig.from_dict({"arch": arch}).backbone.name == MODELS[arch].arguments["encoder"]
    assert DetectionConfig.from_dict({"arch": arch, "backbone": {"name": "resnet18"}}).backbone.name == "resnet18"


def test_config__canvas_of_the_architecture_unless_given():
    sizes = {
        arch: DetectionConfig.from_dict({"arch": arch}).data.size for arch in ("yolo_s", "yolox_nano", "faster_rcnn")
    }
    assert sizes == {"yolo_s": 640, "yolox_nano": 416, "faster_rcnn": 800}
    assert DetectionConfig.resolve(None, {"arch": "yolox_nano", "data.size": 320}).data.size == 320


def test_config__round_trip():
    config = DetectionConfig.resolve(None, FASTER_RCNN)
    assert DetectionConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "base, settings, field",
    [
        (FASTER_RCNN, {"model.reg_max": 8}, "model.reg_max"),
        (FASTER_RCNN, {"data.size": [128, 160]}, "data.size"),
        (FASTER_RCNN, {"model.max_size": 64}, "model.max_size"),
        (FASTER_RCNN, {"model.encoder_modules": ["blocks.5"]}, "model.encoder_modules"),
        (FASTER_RCNN, {"model.anchor_sizes": [24, 48]}, "model.anchor_sizes"),
        (FASTER_RCNN, {"model.encoder_strides": [8, 64]}, "model.encoder_strides"),
        (FASTER_RCNN, {"model.rpn_bg_iou_thresh": 0.9}, "model.rpn_bg_iou_thresh"),
        (YOLO, {"model.max_size": 800}, "model.max_size"),
        (YOLO, {"model.width": "wide"}, "model.width"),
        (YOLOX, {"backbone.name": "resnet18"}, "backbone.name"),
        (DFINE, {"backbone.freeze": 2}, "backbone.freeze"),
    ],
)
def test_build_model__options_without_effect_are_errors(base, settings, field):
    config = DetectionConfig.resolve(None, {**base, **settings, "classes": ["a"]})
    with pytest.raises(UsageError) as error:
        Detection(config).build_model()
    assert error.value.field == field


def test_config__unknown_architecture_and_ids_without_classes():
    with pytest.raises(UsageError) as error:
        DetectionConfig.from_dict({"arch": "yolo_xs"})
    assert error.value.field == "arch" and "yolo_" in error.value.hint
    with pytest.raises(UsageError, match="category_ids"):
        DetectionConfig.from_dict({"category_ids": (1, 2)})


def test_build_model__without_classes_is_an_error():
    with pytest.raises(UsageError) as error:
        Detection(DetectionConfig()).build_model()
    assert error.value.field == "classes"


@pytest.mark.parametrize("file", sorted(Path("configs/detection").glob("*.yaml")), ids=lambda file: file.stem)
def test_config_files__are_valid(file):
    config = DetectionConfig.resolve(file)
    Detection(config.replace(classes=("a",), backbone__pretrained=False)).input_spec


# -- data and losses --------------------------------------------------------------------------------------------------


def test_remove_labels__empty_record():
    sample = make_task(YOLO).remove_labels(Sample({"image": np.zeros((5, 7, 3), np.uint8)}))
    assert len(sample.truth) == 0 and sample.truth.size == (5, 7)


def test_rescale_batch__content_sizes_follow():
    task = make_task(FASTER_RCNN)
    batch = Collate(task)([task.open_dataset("train")[0]])
    small = rescale_batch(batch, 0.5, 32)
    assert small.inputs["image"].shape[-2:] == (64, 64)
    assert small.inputs["size"].tolist() == [[64, 64]]
    assert torch.allclose(small.targets["boxes"] * 2, batch.targets["boxes"])


# -- thresholds -------------------------------------------------------------------------------------------------------


def test_thresholds__options_then_config_then_model():
    task = make_task(YOLO, decode__iou_threshold=0.6)
    thresholds = task.thresholds(PredictOptions(score_threshold=0.1, classes=(task.config.classes[1],)))
    assert (thresholds["score_threshold"], thresholds["iou_threshold"], thresholds["max_detections"]) == (0.1, 0.6, 300)
    assert thresholds["class_mask"].nonzero().tolist() == [[1]]
    with pytest.raises(UsageError) as error:
        task.thresholds(PredictOptions(classes=("unknown",)))
    assert error.value.field == "classes"


@pytest.mark.parametrize("base", [YOLO, FASTER_RCNN, YOLOX, DFINE], ids=["yolo", "faster_rcnn", "yolox", "dfine"])
def test_predict__follows_the_thresholds(base):
    task = make_task(base)
    predictor, image = make_predictor(task), task.open_dataset("val")[0].images["image"]

    def predict(**options):
        return predictor.predict(image, score_threshold=0.0, precision="float32", **options)

    detections, few, name = predict(), predict(max_detections=3), task.config.classes[1]
    assert len(detections) > 3 and len(few) == 3 and np.array_equal(few.scores, detections.scores[:3])
    assert set(predict(classes=(name,)).labels.tolist()) == {1}


def test_export__raw_outputs_need_postprocessing(tmp_path):
    from densevision.exporting.export import export

    task = make_task(FASTER_RCNN)
    with pytest.raises(UsageError):
        export(make_predictor(task), tmp_path / "a.pt2", "torch", decode=False)


def test_models__one_registry_line_each():
    for architecture in MODELS.values():
        assert architecture.summary and dataclasses.is_dataclass(architecture)
        assert set(architecture.arguments) <= set(architecture.parameters())
