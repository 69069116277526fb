"""Label maps class by class equal those of all probabilities at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.ops.view import View
from densevision.run_config import PredictOptions
from densevision.tasks import load_config, load_task
from densevision.tasks.semantic.label_maps import find_classes, find_most_probable

VIEWS = {
    "larger": View((37, 53), (16, 24), (20 / 53, 14 / 37), (2.0, 1.0)),
    "smaller": View((9, 13), (32, 32), (26 / 13, 18 / 9), (3.0, 4.0)),
    "padded": View((15, 22), (16, 24)),
}
CLASSES = 7


def make_probabilities(view: View, seed: int = 0) -> Tensor:
    return torch.randn(1, CLASSES, *view.size, generator=torch.Generator().manual_seed(seed)).softmax(1)


def resize_all(probabilities: Tensor, view: View) -> Tensor:
    """Without densevision: crops the padding and resizes all classes at once."""
    (height, width), (x, y) = view.content, map(int, view.offset)
    cropped = probabilities[..., y : y + height, x : x + width]
    is_shrunk = view.original[0] < height
    resized = F.interpolate(cropped, view.original, mode="bilinear", align_corners=False, antialias=is_shrunk)
    return resized[0]


@pytest.mark.parametrize("name", VIEWS)
def test_find_most_probable__equals_the_argmax(name: str) -> None:
    view = VIEWS[name]
    probabilities = make_probabilities(view)
    labels = find_most_probable(probabilities[0], view)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, resize_all(probabilities, view).argmax(0).numpy())


def test_find_most_probable__of_equal_classes_the_first() -> None:
    canvas = torch.tensor([0.2, 0.4, 0.4])[:, None, None].expand(3, 4, 5)
    assert (find_most_probable(canvas, View((4, 5), (4, 5))) == 1).all()


@pytest.mark.parametrize("name", VIEWS)
def test_find_classes__is_the_set_above_the_threshold(name: str) -> None:
    view = VIEWS[name]
    probabilities = make_probabilities(view)
    labels = find_classes(probabilities[0], view, 0.2)
    bits = labels[None] >> np.arange(CLASSES, dtype=np.uint16)[:, None, None] & 1
    np.testing.assert_array_equal(bits.astype(bool), (resize_all(probabilities, view) > 0.2).numpy())


def test_probabilities__are_those_of_all_classes() -> None:
    view = VIEWS["larger"]
    probabilities = make_probabilities(view)
    settings: dict[str, Any] = {"classes": [str(index) for index in range(CLASSES)], "backbone.name": "resnet18"}
    task = load_task("semantic")(load_config("semantic").resolve(None, settings))
    options = PredictOptions(probabilities=True)
    (result,) = task.to_results({"probabilities": probabilities}, [view], options)
    expected = resize_all(probabilities, view).numpy().astype(np.float16)
    np.testing.assert_array_equal(result.probabilities, expected)


def test_max_untiled_pixels__is_low_only_where_the_canvas_grows_with_the_image() -> None:
    def build(**settings: Any) -> Any:
        base = {"classes": ["a", "b"], "backbone.name": "resnet18", **settings}
        return load_task("semantic")(load_config("semantic").resolve(None, base))

    stretched = build(arch="smp", **{"model.input_size": 64})
    assert build(arch="fcn32s").max_untiled_pixels < 3e6 < stretched.max_untiled_pixels
