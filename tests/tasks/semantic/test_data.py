"""Datasets by config: real images, scenes in every mode, and class weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from densevision.datasets.scenes import SEMANTIC_CLASSES, Scenes
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.dataset import canvas_size, complete_config, open_split
from densevision.tasks.semantic.task import Semantic

CONFIGS = Path(__file__).parents[3] / "configs" / "semantic"


def config(**settings) -> SemanticConfig:
    return complete_config(SemanticConfig.resolve(None, {"data.path": "scenes:20:3", "data.size": 64, **settings}))


@pytest.mark.realdata
def test_camvid__by_its_config(real_data: Path) -> None:
    camvid = SemanticConfig.resolve(CONFIGS / "camvid.yaml", {"data.path": str(real_data / "data/camvid")})
    train, val = (open_split(camvid, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (200, 60) and not train.notes
    target_records = [val[index].truth for index in range(0, 60, 6)]
    assert {truth.size for truth in target_records} == {(360, 480)}
    share = {
        name: np.mean([truth.mask(row).mean() for truth in target_records]) for row, name in enumerate(camvid.classes)
    }
    # The dataset's own table: sky 9 %, building 26 %, pole 0.6 %, road 29 % of the validation pixels.
    assert 0.04 < share["Sky"] < 0.15 and 0.2 < share["Road"] < 0.4 and 0.002 < share["Pole"] < 0.012
    assert all(not (truth.labels[truth.known] > 10).any() for truth in target_records)
    sample = Semantic(camvid).augment(train, 0, np.random.default_rng(0), 0)
    assert sample.size == (288, 384) == sample.truth.size


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_configs__are_valid(file: Path) -> None:
    config = SemanticConfig.resolve(file)
    assert config.data.path and not config.data.path.startswith("..")
    assert isinstance(config.backbone.pretrained, bool)
    with torch.device("meta"):
        Semantic(config.replace(classes=tuple("abcdefghijk"), backbone__pretrained=False)).build_model()


def test_scenes__class_maps_in_every_mode() -> None:
    scene = Scenes(20, 3, (320, 320))[4]
    plain, binary, sets = (
        open_split(config(mode=mode), "train")[4].truth for mode in ("multiclass", "binary", "multilabel")
    )
    assert plain.names == SEMANTIC_CLASSES and binary.names == ("background", "foreground")
    np.testing.assert_array_equal(plain.labels, scene.semantic)
    things = [SEMANTIC_CLASSES.index(name) for name in Scenes(1, 0).classes]
    np.testing.assert_array_equal(binary.labels == 1, np.isin(scene.semantic, things))
    for row in range(len(sets.names)):
        np.testing.assert_array_equal(sets.mask(row), plain.mask(row))


def test_scenes__classes_that_are_not_requested_are_unknown() -> None:
    names = SEMANTIC_CLASSES[1::-1]
    truth = open_split(config(classes=names), "train")[0].truth
    whole = open_split(config(), "train")[0].truth
    np.testing.assert_array_equal(truth.mask(0), whole.mask(1))
    np.testing.assert_array_equal(truth.known, whole.labels < 2)


@pytest.mark.parametrize("kind", ["median", "enet"])
def test_class_weights__are_computed_from_the_training_masks(kind: str) -> None:
    weights = config(**{"loss.class_weights": kind}).loss.class_weights
    target_records = [open_split(config(), "train")[index].truth for index in range(20)]
    counts = np.array(
        [[np.count_nonzero(truth.labels == row) for row in range(len(weights))] for truth in target_records]
    )
    pixels = counts.sum(0)
    if kind == "enet":
        expected = 1 / np.log(1.02 + pixels / pixels.sum())
        expected /= expected.mean()
    else:
        present = (counts > 0).sum(0) * 320 * 320
        frequency = np.divide(pixels, present, out=np.full(len(pixels), np.nan), where=present > 0)
        expected = np.nan_to_num(np.nanmedian(frequency) / frequency, nan=1.0)
    np.testing.assert_allclose(weights, expected, rtol=1e-4)


def test_canvas_size__is_one_side_or_both() -> None:
    assert canvas_size(config(**{"data.size": 48})) == (48, 48)
    assert canvas_size(config(**{"data.size": [32, 48]})) == (32, 48)
