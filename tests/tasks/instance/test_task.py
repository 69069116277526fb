"""The task with every architecture: contract, keypoints, thresholds, tiles, data, config files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from class_tensors import assert_class_tensors
from small_models import TWO_STAGE_RUN

from densevision.datasets.copy_paste import copy_paste
from densevision.errors import UsageError
from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchPredictor
from densevision.ops.masks import encode
from densevision.results import Instances
from densevision.sample import Sample
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.models import MODELS
from densevision.tasks.instance.scoring import score
from densevision.tasks.instance.task import Instance
from densevision.testing import CHECKS, check_task
from densevision.training.train import make_card

MASKS = {"model.mask_resolution": 10, "model.mask_channels": 16, "model.mask_convs": 2}
KEYPOINTS = {
    "arch": "keypoint_rcnn",
    "model.keypoint_channels": 16,
    "model.keypoint_convs": 1,
    "keypoint_names": ["nose", "left_hand", "right_hand", "hip"],
    "skeleton_edges": [[0, 1], [0, 2]],
    "classes": ["person"],
    "sigmas": [0.1] * 4,
}


def make_task(**settings) -> Instance:
    return Instance(Instance.infer_from_data(InstanceConfig.resolve(None, {**TWO_STAGE_RUN, **MASKS, **settings})))


def make_pose_task(**settings) -> Instance:
    return Instance(InstanceConfig.resolve(None, {**TWO_STAGE_RUN, **KEYPOINTS, **settings}))


def make_predictor(task: Instance) -> TorchPredictor:
    torch.manual_seed(0)
    return TorchPredictor(task, task.build_model().eval(), make_card(task.config, 1))


def test_contract__mask_rcnn():
    config = InstanceConfig.resolve(None, {**TWO_STAGE_RUN, **MASKS})
    assert len(check_task(Instance, config, skip=("export",))) == len(CHECKS) - 1


@pytest.mark.slow
def test_contract__mask_rcnn_with_its_export():
    assert len(check_task(Instance, InstanceConfig.resolve(None, {**TWO_STAGE_RUN, **MASKS}))) == len(CHECKS)


@pytest.mark.slow
def test_contract__eomt():
    options = {"embed_dim": 32, "depth": 3, "num_heads": 2}
    settings = {"arch": "eomt_instance_small", "backbone.options": options, "model.num_queries": 12}
    small = {"data.path": "scenes:8:0", "data.size": 64, "model.num_points": 256, "decode.max_detections": 12}
    config = InstanceConfig.resolve(None, {**settings, **small})
    # Its masks are coarser than the image, so that ground truth cannot be expressed exactly.
    assert len(check_task(Instance, config, skip=("decode_encode",))) == len(CHECKS) - 1


def make_pose(size: tuple[int, int] = (128, 128), masks: bool = False) -> Instances:
    rng = np.random.default_rng(0)
    boxes = np.array([[10, 12, 60, 100], [70, 20, 120, 110]], np.float32)
    points = boxes[:, None, :2] + rng.random((2, 4, 2)) * (boxes[:, None, 2:] - boxes[:, None, :2])
    points = np.dstack([points, np.full((2, 4), 2)]).astype(np.float32)
    fields = {}
    if masks:
        dense = np.zeros((2, *size), bool)
        for mask, (x1, y1, x2, y2) in zip(dense, boxes.astype(int)):
            mask[y1:y2, x1:x2] = True
        fields["masks"] = tuple(encode(mask) for mask in dense)
    return Instances.from_arrays(boxes, [0, 0], ("person",), size, keypoints=points, **fields)


@pytest.mark.parametrize("arch", ["keypoint_rcnn", "mask_keypoint_rcnn"])
def test_ideal_outputs__keypoints_decode_to_the_ground_truth(arch):
    task, truth = make_pose_task(arch=arch), make_pose(masks=arch == "mask_keypoint_rcnn")
    view = task.input_spec["image"].view((128, 128))
    (result,) = task.decode(task.ideal_outputs([truth]), [view], task.evaluation_options())
    assert np.allclose(result.keypoints[..., :2], truth.keypoints[..., :2], atol=0.75)
    metric = task.build_metric()
    metric.update(result, truth, 0)
    assert metric.compute()["keypoints/AP"] == pytest.approx(1)
    assert task.monitor == ("keypoints/AP" if arch == "keypoint_rcnn" else "segm/AP", "max")
    assert result.draw(np.zeros((128, 128, 3), np.uint8)).any()


@pytest.mark.parametrize("arch", ["keypoint_rcnn", "mask_keypoint_rcnn"])
def test_keypoints__train_and_predict(arch):
    has_masks = arch == "mask_keypoint_rcnn"
    task = make_pose_task(arch=arch)
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    batch = Collate(task)([Sample({"image": image}, make_pose(masks=has_masks))])
    model = task.build_model().train()
    losses = task.compute_losses(model, batch, None, "net")
    assert set(losses) == {"objectness", "rpn_box", "class", "box", "keypoint", *(["mask"] if has_masks else [])}
    sum(losses.values()).backward()
    assert all(weight.grad is not None for weight in model.head.keypoint.parameters())
    result = make_predictor(task).predict(image, score_threshold=0.0, precision="float32")
    assert len(result) and result.keypoints.shape[1:] == (4, 3) and (result.masks is not None) == has_masks


def test_predict__follows_the_thresholds():
    task = make_task()
    predictor, image = make_predictor(task), task.open_dataset("val")[0].images["image"]

    def predict(**options) -> Instances:
        return predictor.predict(image, score_threshold=0.0, precision="float32", **options)

    detections, few, name = predict(), predict(max_detections=3), task.config.classes[1]
    assert len(few) == 3 and len(detections) <= 20 and np.array_equal(few.scores, detections.scores[:3])
    assert set(predict(classes=(name,)).labels.tolist()) == {1}
    with pytest.raises(UsageError):
        predict(classes=("unknown",))


@pytest.mark.parametrize("options", [{"tile": 128}, {"tta": ("flip", "scale")}], ids=["tiles", "tta"])
def test_predict__tiles_and_views_are_merged(options):
    task = make_task()
    image = np.tile(task.open_dataset("val")[0].images["image"], (2, 2, 1))
    result = make_predictor(task).predict(image, score_threshold=0.2, precision="float32", **options)
    assert result.size == image.shape[:2] and len(result) <= 20
    assert all(mask["size"] == list(result.size) for mask in result.masks)


def test_predict__one_tile_equals_no_tile():
    task = make_task()
    predictor, image = make_predictor(task), task.open_dataset("val")[0].images["image"]
    options = {"score_threshold": 0.0, "precision": "float32"}
    complete, tiled = predictor.predict(image, **options), predictor.predict(image, tile=512, **options)
    assert np.array_equal(complete.boxes, tiled.boxes) and complete.masks == tiled.masks


def test_copy_paste__pasted_objects_are_on_top():
    task = make_task()
    first, second = (task.open_dataset("train")[index] for index in (0, 1))
    mixed = copy_paste(first, second, np.random.default_rng(1))
    dense = mixed.truth.dense()
    assert dense.sum(0).max() <= 1, "scene masks do not overlap, and covered pixels are removed"
    assert len(mixed.truth.masks) == len(mixed.truth.boxes) == len(mixed.truth.labels)
    changed = (mixed.images["image"] != first.images["image"]).any(-1)
    assert not changed[~second.truth.dense().any(0)].any()


def test_canvas__of_training_samples():
    task = make_task(**{"data.canvas": [128, 160]})
    sample = task.augment(task.open_dataset("train"), 0, np.random.default_rng(0), 0)
    assert sample.images["image"].shape[:2] == (128, 160)
    assert task.input_spec["image"].view((128, 160)).is_identity
    too_large = make_task(**{"data.canvas": 512})
    with pytest.raises(UsageError) as error:
        too_large.augment(too_large.open_dataset("train"), 0, np.random.default_rng(0), 0)
    assert error.value.field == "data.canvas"


def test_preview__draws_a_batch_of_several_sizes(tmp_path, monkeypatch):
    from densevision.inference.loader import make_training_loader
    from densevision.training.preview import draw_batches

    task = make_task(**{"train.batch": 2})
    shapes = iter([(128, 160), (160, 128)] * 8)
    monkeypatch.setattr("densevision.tasks.instance.dataset.canvas_size", lambda *_: next(shapes))
    draw_batches(tmp_path, task, make_training_loader(task, task.open_dataset("train"), 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize(
    "settings",
    [
        {"keypoint_names": ["a"]},
        {"arch": "keypoint_rcnn", "boundary": True},
        {"arch": "keypoint_rcnn", "augment.copy_paste": 0.5},
        {"augment.multi_scale": 0.2},
        {"category_ids": [1, 2]},
    ],
)
def test_config__options_without_effect_are_errors(settings):
    with pytest.raises(UsageError):
        InstanceConfig.resolve(None, {**TWO_STAGE_RUN, **settings})


@pytest.mark.parametrize(
    "settings, field",
    [
        ({"model.anchor_sizes": [16, 32]}, "model.anchor_sizes"),
        ({"model.rpn_bg_iou_thresh": 0.9}, "model.rpn_bg_iou_thresh"),
        ({"model.max_size": 64}, "model.max_size"),
        ({"model.keypoint_convs": 2}, "model.keypoint_convs"),
        ({"arch": "keypoint_rcnn", "model.mask_convs": 2}, "model.mask_convs"),
    ],
)
def test_build_model__options_without_effect_are_errors(settings, field):
    config = InstanceConfig.resolve(None, {**TWO_STAGE_RUN, "classes": ["a"], **settings})
    if config.has_keypoints:
        config = config.replace(keypoint_names=("a",))
    with pytest.raises(UsageError) as error:
        Instance(config).build_model()
    assert error.value.field == field


@pytest.mark.parametrize("arch", MODELS)
def test_class_tensors__are_those_that_depend_on_the_number_of_classes(arch):
    assert_class_tensors(MODELS[arch])


def test_score__of_files_equals_the_metric(tmp_path):
    task = make_task()
    samples = task.open_dataset("val")
    metric, results, target_records, images = task.build_metric(), [], [], []
    for index in range(4):
        truth = samples[index].truth
        result = truth.warp(np.array([[1.0, 0, 2], [0, 1, 1]]), truth.size)
        metric.update(result, truth, index)
        results += result.to_coco(index)
        images.append({"id": index, "height": truth.size[0], "width": truth.size[1]})
        for entry, area in zip(truth.to_coco(index), truth.areas):
            target_records.append({**entry, "id": len(target_records) + 1, "area": float(area), "iscrowd": 0})
    classes = zip(task.config.category_ids, task.config.classes)
    categories = [{"id": category, "name": name} for category, name in classes]
    content = {"images": images, "annotations": target_records, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(results))
    scored = score(tmp_path / "truth.json", tmp_path / "results.json")["metrics"]
    expected = metric.compute()
    assert scored.keys() == expected.keys()
    # Results that have boxes too are sorted into small, medium and large by them, as pycocotools does; arrays by masks.
    alike = [name for name in scored if not (name.startswith("segm/") and name[-1] in "sml")]
    assert all(np.isclose(scored[name], expected[name], atol=1e-9, equal_nan=True) for name in alike)


@pytest.mark.parametrize("file", sorted(Path("configs/instance").glob("*.yaml")), ids=lambda file: file.stem)
def test_config_files__are_valid(file):
    config = InstanceConfig.resolve(file)
    keypoints = {"keypoint_names": ("a",)} if config.has_keypoints else {}
    Instance(config.replace(classes=("a",), backbone__pretrained=False, **keypoints)).input_spec
