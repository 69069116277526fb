"""The task as a whole: the contract, heads of every kind, tiles, files, recipes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from densevision.datasets.copy_paste import copy_paste
from densevision.errors import UsageError
from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchModel
from densevision.results import Instances
from densevision.run_config import PredictOptions
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.scoring import score
from densevision.tasks.instance.task import Instance
from densevision.testing import check_task
from densevision.training.train import card_of

TINY = {
    "data.path": "scenes:8:0",
    "data.size": 128,
    "data.longest": 192,
    "backbone.name": "mobilenetv2_050",
    "rcnn.width": 16,
    "rcnn.strides": [8, 16, 32],
    "rcnn.anchors.sizes": [24, 48, 96, 128],
    "rcnn.proposals.candidates": 100,
    "rcnn.proposals.kept": 50,
    "rcnn.proposals.training_candidates": 100,
    "rcnn.proposals.training_kept": 100,
    "rcnn.box.hidden": [64],
    "rcnn.box.samples": 32,
    "mask.resolution": 10,
    "mask.width": 16,
    "mask.convolutions": 2,
    "decode.max_detections": 20,
    "decode.candidates": 100,
}


def task(**settings) -> Instance:
    return Instance(Instance.infer_from_data(InstanceConfig.resolve(None, {**TINY, **settings})))


def model(own: Instance) -> TorchModel:
    torch.manual_seed(0)
    return TorchModel(own, own.net().eval(), card_of(own.config, 1))


def test_contract():
    check_task(Instance, InstanceConfig.resolve(None, TINY))


def posed(seed: int, size: tuple[int, int], names=("person",)) -> Instances:
    rng = np.random.default_rng(seed)
    boxes = np.array([[10, 12, 60, 100], [70, 20, 120, 110]], np.float32)
    points = boxes[:, None, :2] + rng.random((2, 4, 2)) * (boxes[:, None, 2:] - boxes[:, None, :2])
    points = np.dstack([points, np.full((2, 4), 2)]).astype(np.float32)
    return Instances.of(boxes, [0, 0], names, size, keypoints=points)


def pose_task() -> Instance:
    keypoint_names = {
        "keypoint_names": ["nose", "left_hand", "right_hand", "hip"],
        "skeleton_edges": [[0, 1], [0, 2]],
        "classes": ["person"],
    }
    more = {"keypoint.width": 16, "keypoint.convolutions": 1, "sigmas": [0.1] * 4}
    return Instance(InstanceConfig.resolve(None, {**TINY, **keypoint_names, **more, "masks": False, "keypoints": True}))


def test_keypoints__decode_inverts_encode():
    own = pose_task()
    truth = posed(0, (128, 128))
    view = own.inputs["image"].view((128, 128))
    (again,) = own.decode(own.encode([truth]), [view], own.evaluation_options())
    assert np.allclose(again.keypoints[..., :2], truth.keypoints[..., :2], atol=0.75)
    metric = own.metric()
    metric.update(again, truth, 0)
    assert metric.compute()["keypoints/AP"] == pytest.approx(1)
    assert own.monitor == ("keypoints/AP", "max")
    assert again.draw(np.zeros((128, 128, 3), np.uint8)).any()


def test_keypoints__train_and_answer():
    from densevision.sample import Sample

    own = pose_task()
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    batch = Collate(own)([Sample({"image": image}, posed(0, (128, 128)))])
    net = own.net().train()
    losses = own.losses(net, batch, None, "net")
    assert set(losses) == {"objectness", "proposal", "class", "box", "keypoint"}
    sum(losses.values()).backward()
    assert all(weight.grad is not None for weight in net.head.keypoint.parameters())
    (found,) = model(own).infer([Sample({"image": image})], PredictOptions(score_threshold=0.0, precision="float32"))
    assert len(found) and found.keypoints.shape[1:] == (4, 3) and found.masks is None


def test_rules__follow_the_options():
    own = task()
    sample = own.dataset("val")[0]
    run = model(own)
    everything, few = (
        run.infer([sample], PredictOptions(score_threshold=0.0, max_detections=count, precision="float32"))[0]
        for count in (None, 3)
    )
    assert len(few) == 3 and len(everything) <= own.config.decode.max_detections
    assert np.array_equal(few.scores, everything.scores[:3])
    name = own.config.classes[1]
    (one,) = run.infer([sample], PredictOptions(score_threshold=0.0, classes=(name,), precision="float32"))
    assert set(one.labels.tolist()) == {1}
    with pytest.raises(UsageError, match="no such class"):
        run.infer([sample], PredictOptions(classes=("nothing",)))


def test_predict__in_tiles_and_looks_merges():
    own = task()
    run = model(own)
    image = own.dataset("val")[0].images["image"]
    large = np.tile(image, (2, 2, 1))
    for options in ({"tile": 128}, {"tta": ("flip", "scale")}):
        found = run.predict(large, score_threshold=0.2, precision="float32", **options)
        assert found.size == large.shape[:2]
        assert all(mask["size"] == list(found.size) for mask in found.masks)
        assert len(found) <= own.config.decode.max_detections


def test_copy_paste__the_pasted_lies_above():
    own = task()
    first, second = (own.dataset("train")[index] for index in (0, 1))
    mixed = copy_paste(first, second, np.random.default_rng(1))
    dense = mixed.truth.dense()
    assert dense.sum(0).max() <= 1, "the masks of scenes do not overlap, and what is covered is taken away"
    assert len(mixed.truth.masks) == len(mixed.truth.boxes) == len(mixed.truth.labels)
    changed = (mixed.images["image"] != first.images["image"]).any(-1)
    assert not changed[~second.truth.dense().any(0)].any()


def test_canvas__of_training_samples():
    own = task(**{"data.canvas": [128, 160]})
    sample = own.augment(own.dataset("train"), 0, np.random.default_rng(0), 0)
    assert sample.images["image"].shape[:2] == (128, 160)
    assert own.inputs["image"].view((128, 160)).identity
    with pytest.raises(UsageError, match="canvas"):
        task(**{"data.canvas": 512})


def test_preview__draws_a_batch_of_several_sizes(tmp_path, monkeypatch):
    from densevision.inference.loader import training_loader
    from densevision.training.preview import draw_batches

    own = task(**{"train.batch": 2})
    shapes = iter([(128, 160), (160, 128)] * 8)
    monkeypatch.setattr("densevision.tasks.instance.dataset._canvas", lambda *_: next(shapes))
    draw_batches(tmp_path, own, training_loader(own, own.dataset("train"), 0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"masks": False}, "masks, keypoints or both"),
        ({"keypoint_names": ["a"]}, "without keypoints"),
        ({"rcnn.anchors.sizes": [16, 32]}, "anchors.sizes"),
        ({"rcnn.proposals.negative": 0.9}, "proposals.negative"),
        ({"data.longest": 64}, "data.longest"),
        ({"augment.multi_scale": 0.2}, "augment.multi_scale"),
    ],
)
def test_config__contradictions_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        InstanceConfig.resolve(None, {**TINY, **settings})


def test_score__of_files_equals_the_metric(tmp_path):
    own = task()
    samples = own.dataset("val")
    metric, results, ground_truths, images = own.metric(), [], [], []
    for index in range(4):
        truth = samples[index].truth
        answer = truth.warp(np.array([[1.0, 0, 2], [0, 1, 1]]), truth.size)
        metric.update(answer, truth, index)
        results += answer.to_coco(index)
        images.append({"id": index, "height": truth.size[0], "width": truth.size[1]})
        for entry, area in zip(truth.to_coco(index), truth.areas):
            ground_truths.append({**entry, "id": len(ground_truths) + 1, "area": float(area), "iscrowd": 0})
    categories = [{"id": id, "name": name} for id, name in zip(own.config.category_ids, own.config.classes)]
    content = {"images": images, "annotations": ground_truths, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "found.json").write_text(json.dumps(results))
    found = score(tmp_path / "truth.json", tmp_path / "found.json")["metrics"]
    expected = metric.compute()
    assert found.keys() == expected.keys()
    # Results that have boxes too are sorted into small, medium and large by them, as pycocotools does; arrays by masks.
    alike = [name for name in found if not (name.startswith("segm/") and name[-1] in "sml")]
    assert all(np.isclose(found[name], expected[name], atol=1e-9, equal_nan=True) for name in alike)


@pytest.mark.parametrize("file", sorted(Path("configs/instance").glob("*.yaml")), ids=lambda file: file.stem)
def test_recipes__can_be_read(file):
    assert InstanceConfig.resolve(file).train.epochs
