"""Weights of other classes, or of the same in another order: rows go where their names are."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import nn

from densevision.nn.class_matching import ClassRows, match_classes

SOURCE = ("cat", "dog", "bird")


class Head(nn.Module):
    """A classifier with a background row first, four rows per class, and a padding row last."""

    class_tensors: ClassVar[dict[str, ClassRows]] = {
        "score.weight": ClassRows(before=1),
        "score.bias": ClassRows(before=1),
        "boxes.weight": ClassRows(per_class=4),
        "embedding.weight": ClassRows(after=1),
    }

    def __init__(self, num_classes: int):
        super().__init__()
        self.score = nn.Linear(2, 1 + num_classes)
        self.boxes = nn.Linear(2, 4 * num_classes, bias=False)
        self.embedding = nn.Embedding(num_classes + 1, 3)
        self.other = nn.Linear(2, num_classes)


def test_match_classes__same_order_changes_nothing():
    tensors = Head(3).state_dict()
    matched, message = match_classes(Head(3), tensors, SOURCE, SOURCE)
    assert message is None and all(torch.equal(matched[name], tensors[name]) for name in tensors)


def test_match_classes__another_order():
    tensors, model = Head(3).state_dict(), Head(3)
    matched, message = match_classes(model, tensors, SOURCE, ("bird", "cat", "dog"))
    assert torch.equal(matched["score.weight"], tensors["score.weight"][[0, 3, 1, 2]])
    assert torch.equal(matched["score.bias"], tensors["score.bias"][[0, 3, 1, 2]])
    expected = tensors["boxes.weight"].unflatten(0, (3, 4))[[2, 0, 1]].flatten(0, 1)
    assert torch.equal(matched["boxes.weight"], expected)
    assert torch.equal(matched["embedding.weight"], tensors["embedding.weight"][[2, 0, 1, 3]])
    assert torch.equal(matched["other.weight"], tensors["other.weight"]), "only declared tensors are changed"
    assert message


def test_match_classes__new_classes_keep_the_models_rows():
    tensors, model = Head(3).state_dict(), Head(4)
    matched, message = match_classes(model, tensors, SOURCE, ("fish", "dog", "horse", "cat"))
    result, initial = matched["score.weight"], model.state_dict()["score.weight"]
    assert torch.equal(result[[0, 2, 4]], tensors["score.weight"][[0, 2, 1]])
    assert torch.equal(result[[1, 3]], initial[[1, 3]])
    assert torch.equal(matched["embedding.weight"][-1], tensors["embedding.weight"][-1])
    assert "dog" in message and "cat" in message and "fish" not in message


def test_match_classes__no_common_class_leaves_the_tensors_out():
    matched, message = match_classes(Head(2), Head(3).state_dict(), SOURCE, ("a", "b"))
    assert set(matched) == {"other.weight", "other.bias"} and message


def test_match_classes__undeclared_models_are_not_changed():
    tensors = nn.Linear(2, 3).state_dict()
    matched, message = match_classes(nn.Linear(2, 3), tensors, SOURCE, SOURCE[::-1])
    assert message is None and torch.equal(matched["weight"], tensors["weight"])


@pytest.mark.parametrize("arch", ["yolo_n", "faster_rcnn"])
def test_match_classes__detector_gives_the_same_scores_by_name(arch):
    from densevision.tasks.detection.models import MODELS

    torch.manual_seed(0)
    small = {"encoder": "mobilenetv3_small_050", "image_size": 64, "num_classes": 3}
    model, other = (MODELS[arch].build(small).eval() for _ in range(2))
    order = [2, 0, 1]
    matched, _ = match_classes(other, model.state_dict(), SOURCE, [SOURCE[row] for row in order])
    other.load_state_dict(matched)
    inputs = {"image": torch.rand(1, 3, 64, 64)}
    if arch == "faster_rcnn":
        inputs |= {"size": torch.tensor([[64.0, 64.0]]), "score_threshold": 0.0}
    with torch.no_grad():
        expected, result = model(**inputs), other(**inputs)
    if arch == "yolo_n":
        assert torch.equal(result["logits"], expected["logits"][..., order])
    else:
        names, other_names = ([SOURCE[label] for label in expected["labels"][0]],
                              [SOURCE[order[label]] for label in result["labels"][0]])  # fmt: skip
        assert torch.allclose(result["scores"], expected["scores"], atol=1e-6)
        assert sorted(names) == sorted(other_names)


SMALL_VIT = {"encoder": "vit_tiny_patch16_224", "image_size": 64, "encoder_options": {"mean": [0.5], "std": [0.5]}}
DETECTORS = {
    "yolo_n": {"encoder": "resnet10t"},
    "yolox_nano": {},
    "dfine_n": {},
    "faster_rcnn": {"encoder": "resnet10t"},
}
SEGMENTERS = {
    "fcn": {"encoder": "resnet10t", "auxiliary": True},
    "fcn8s": {"encoder": "resnet10t", "width": 16, "auxiliary": True},
    "unet": {"encoder": "resnet10t", "auxiliary": True},
    "deeplabv3_torchvision": {"encoder": "resnet10t", "head_channels": 16, "auxiliary": True},
    "lraspp": {"encoder": "resnet10t"},
    "smp": {"encoder": "resnet18"},
    "eomt_small": SMALL_VIT,
}
INSTANCES = {"mask_rcnn": {"encoder": "resnet10t"}, "eomt_instance_large": SMALL_VIT}
ALL = {**DETECTORS, **SEGMENTERS, **INSTANCES}


@pytest.mark.parametrize("arch", ALL)
def test_class_tensors__are_those_that_depend_on_the_number_of_classes(arch):
    from densevision.models import create_model

    with torch.device("meta"):
        few, many = (create_model(arch, num_classes=count, **ALL[arch]) for count in (5, 7))
    others = many.state_dict()
    expected = {name for name, tensor in few.state_dict().items() if tensor.shape != others[name].shape}
    assert expected and set(few.class_tensors) == expected
    for name, rows in few.class_tensors.items():
        assert rows.count(5) == len(few.state_dict()[name]) and rows.count(7) == len(others[name])


@pytest.mark.parametrize("arch", SEGMENTERS)
def test_match_classes__segmentation_gives_the_same_scores_by_name(arch):
    from densevision.models import create_model

    torch.manual_seed(0)
    model, other = (create_model(arch, num_classes=count, **SEGMENTERS[arch]).eval() for count in (3, 4))
    for parameter in model.parameters():  # classifiers may start at zero
        torch.nn.init.normal_(parameter, std=0.05)
    matched, _ = match_classes(other, model.state_dict(), SOURCE, ("bird", "new", "cat", "dog"))
    other.load_state_dict(matched)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        outputs, expected = other(image=image), model(image=image)
    for name, scores in expected.items():
        if name == "mask_logits":
            torch.testing.assert_close(outputs[name], scores)
            continue
        dim = 2 if name == "class_logits" else 1
        order = torch.tensor([2, 0, 1] + ([3] if name == "class_logits" else []))
        kept = torch.tensor([0, 2, 3] + ([4] if name == "class_logits" else []))
        torch.testing.assert_close(outputs[name].index_select(dim, kept), scores.index_select(dim, order))


def test_match_classes__rows_and_columns():
    class Upsampling(nn.Module):
        class_tensors: ClassVar[dict[str, ClassRows]] = {"weight": ClassRows(has_columns=True)}

        def __init__(self, num_classes: int):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(num_classes, num_classes, 2))

    source, model = Upsampling(3), Upsampling(4)
    matched, _ = match_classes(model, source.state_dict(), SOURCE, ("bird", "new", "cat", "dog"))
    for new, old in ((0, 2), (2, 0), (3, 1)):
        for new_column, old_column in ((0, 2), (2, 0), (3, 1)):
            assert torch.equal(matched["weight"][new, new_column], source.weight[old, old_column])
        assert torch.equal(matched["weight"][new, 1], model.weight[new, 1])
