"""Training that starts from weights: matching tensors are loaded, the others are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from densevision.errors import WeightsError
from densevision.inference.predictor import TorchPredictor, load_matching_weights
from densevision.io.weights import Card, save_weights
from densevision.models import create_model
from densevision.tasks import load_config, load_task
from densevision.tasks.base import Task
from densevision.training.train import make_card


def make_task(name: str = "semantic", **settings: Any) -> Task:
    defaults = {"backbone.name": "test_resnet"}
    if name == "semantic" and "arch" not in settings:
        defaults |= {"arch": "fcn32s", "model.width": 16, "classes": ["a", "b"]}
    return load_task(name)(load_config(name).resolve(None, {**defaults, **settings}))


def save(task: Task, path: Path) -> nn.Module:
    model = task.build_model()
    TorchPredictor(task, model, make_card(task.config, 0)).save(path)
    return model


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save(make_task(), tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_load_matching_weights__same_model(weights: Path) -> None:
    first, second = make_task().build_model(), make_task().build_model()
    assert load_matching_weights(first, weights, "semantic") == []
    assert load_matching_weights(second, weights, "semantic") == []
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


def test_load_matching_weights__names_what_does_not_fit(weights: Path) -> None:
    model = make_task(classes=["a", "b", "c"]).build_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    skipped = load_matching_weights(model, weights, "semantic")
    assert skipped and not any(name.startswith("encoder.") for name in skipped)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in skipped)


def test_load_matching_weights__backbone_of_another_task(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = save(make_task("depth"), tmp_path / "depth.safetensors")
    model = make_task().build_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    skipped = load_matching_weights(model, tmp_path / "depth.safetensors", "semantic")
    assert skipped == [name for name in before if not name.startswith("encoder.")]
    state = donor.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in skipped else state[name])


def test_load_matching_weights__refuses_other_models(weights: Path) -> None:
    with pytest.raises(WeightsError) as error:
        load_matching_weights(nn.Linear(3, 4), weights, "semantic")
    assert error.value.file == weights


def test_load_matching_weights__classes_are_matched_by_name_not_by_position(tmp_path: Path) -> None:
    names, reordered = ("cat", "dog", "bird"), ("bird", "cat", "dog")
    model = create_model("yolo_n", num_classes=3, encoder="resnet10t")
    card = Card("detection", {}, classes=names)
    save_weights(tmp_path / "a.safetensors", model.state_dict(), card)
    other = create_model("yolo_n", num_classes=3, encoder="resnet10t")
    load_matching_weights(other, tmp_path / "a.safetensors", "detection", reordered)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = (each.eval()(image=image)["logits"] for each in (model, other))
    order = [names.index(name) for name in reordered]
    torch.testing.assert_close(after, before[..., order])
    assert not torch.allclose(after, before)


def test_load_matching_weights__other_channels(weights: Path) -> None:
    model = make_task(**{"backbone.channels": 1}).build_model()
    assert load_matching_weights(model, weights, "semantic", ("a", "b")) == []
    source = make_task().build_model()
    load_matching_weights(source, weights, "semantic", ("a", "b"))
    stem = "encoder.network.conv1.0.weight"
    expected = source.state_dict()[stem].sum(1, keepdim=True)
    torch.testing.assert_close(model.state_dict()[stem], expected)


def test_load_matching_weights__vit_of_another_size_and_task(tmp_path: Path) -> None:
    vit = {"backbone.name": "vit_tiny_patch16_224", "backbone.mean": [0.5], "backbone.std": [0.5]}
    semantic = {**vit, "arch": "eomt_small", "data.size": 64, "classes": ["a", "b"]}
    torch.manual_seed(0)
    donor = save(make_task(**semantic), tmp_path / "a.safetensors")
    larger = make_task(**{**semantic, "data.size": 96}).build_model()
    assert load_matching_weights(larger, tmp_path / "a.safetensors", "semantic", ("a", "b")) == []
    other = make_task(
        "instance", **vit, **{"arch": "eomt_instance_large", "data.size": 64}, classes=["x"]
    ).build_model()
    skipped = load_matching_weights(other, tmp_path / "a.safetensors", "instance", ("x",))
    assert not any(name.startswith("network.encoder.") for name in skipped)
    for name, tensor in donor.network.encoder.state_dict().items():
        assert torch.equal(other.network.encoder.state_dict()[name], tensor)


@pytest.mark.parametrize("ids", [(0, 1), (1, 2), (2, 1), (7, 90)], ids=str)
def test_category_ids__cannot_shift_the_classes(tmp_path: Path, ids: tuple[int, int]) -> None:
    """Whether ids start at 0 or 1, are swapped or have gaps: names decide, in labels, weights and predictions."""
    source = ("person", "dog", "cat")
    settings = {"arch": "yolo_n", "backbone.name": "resnet10t", "data.size": 64}
    donor = make_task("detection", **settings, classes=source)
    torch.manual_seed(0)
    donor_model = save(donor, tmp_path / "a.safetensors")

    dog, cat = ids
    boxes = {dog: [4, 4, 16, 16], cat: [32, 32, 24, 24]}
    annotations = [
        {"id": n, "image_id": 5, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for n, (category, box) in enumerate(boxes.items(), 1)
    ]
    truth = {
        "images": [{"id": 5, "file_name": "a.png", "width": 64, "height": 64}],
        "annotations": annotations,
        "categories": [{"id": dog, "name": "dog"}, {"id": cat, "name": "cat"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(truth))
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "a.png")

    task_class = load_task("detection")
    config = load_config("detection").resolve(None, {**settings, "data.path": str(tmp_path)})
    task = task_class(task_class.infer_from_data(config))
    objects = task.open_dataset("train")[0].truth
    names = [task.config.classes[label] for label in objects.labels]
    assert {name: box[0] for name, box in zip(names, objects.boxes.tolist())} == {"dog": 4, "cat": 32}
    model = task.build_model()
    load_matching_weights(model, tmp_path / "a.safetensors", "detection", task.config.classes)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, logits = (each.eval()(image=image)["logits"][0] for each in (donor_model, model))
    for row, name in enumerate(task.config.classes):
        torch.testing.assert_close(logits[:, row], expected[:, source.index(name)])
        assert task.config.category_ids[row] == {"dog": dog, "cat": cat}[name]
