"""The FCN score: metrics of a segmentation model on generated and on real images."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from densevision.datasets.scenes import SEMANTIC_CLASSES
from densevision.errors import DataError
from densevision.inference.predictor import TorchPredictor
from densevision.io.image import write_image
from densevision.tasks import load_config, load_task
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.dataset import open_split
from densevision.training.train import make_card

DATA = "scenes:4:7"
TOOL = Path(__file__).parents[3] / "tools" / "fcn_score.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fcn_score", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def segmenter() -> TorchPredictor:
    settings = {"classes": SEMANTIC_CLASSES, "backbone.name": "mobilenetv2_050", "arch": "fcn8s", "model.width": 8}
    config = load_config("semantic").resolve(None, {**settings, "data.path": DATA})
    torch.manual_seed(0)
    task = load_task("semantic")(config)
    return TorchPredictor(task, task.build_model().eval(), make_card(config, 0))


def read_real_samples(segmenter: TorchPredictor) -> list:
    segmenter.configure({"data.path": DATA})
    samples = segmenter.task.open_dataset("val")
    return [samples[index] for index in range(len(samples))]


def test_score__real_images_reach_the_upper_bound(tool: ModuleType, segmenter: TorchPredictor, tmp_path: Path):
    for sample in read_real_samples(segmenter):
        write_image(tmp_path / f"{sample.id}.png", sample.images["image"])
    result = tool.compute_fcn_score(segmenter, DATA, "val", tool.read_generated(tmp_path))
    assert result["generated"] == result["real"] and result["counts"]["images"] == 16
    blank = tool.compute_fcn_score(segmenter, DATA, "val", lambda sample: np.zeros((*sample.size, 3), np.uint8))
    assert blank["real"] == result["real"] and blank["generated"] != result["real"]


def test_score__names_and_sizes(tool: ModuleType, segmenter: TorchPredictor, tmp_path: Path):
    samples = read_real_samples(segmenter)
    write_image(tmp_path / f"{samples[0].id}.png", samples[0].images["image"])
    with pytest.raises(DataError, match=rf"no generated image of this name \(got '{samples[1].id}'\)"):
        tool.compute_fcn_score(segmenter, DATA, "val", tool.read_generated(tmp_path))
    with pytest.raises(DataError, match="differ in size"):
        tool.compute_fcn_score(segmenter, DATA, "val", lambda sample: np.zeros((8, 8, 3), np.uint8))


def test_labels__are_drawn_like_scenes_of_translation(tool: ModuleType, segmenter: TorchPredictor):
    drawn = []
    generator = SimpleNamespace(predict=lambda image: drawn.append(image) or SimpleNamespace(image=image))
    sample = read_real_samples(segmenter)[0]
    tool.generate_from_labels(generator)(sample)
    config = TranslationConfig.resolve(None, {"data.path": DATA, "data.size": sample.size[0], "model.depth": 2})
    np.testing.assert_array_equal(drawn[0], open_split(config, "val")[0].images["image"])
