"""From logits to records, their files and drawings; scores from files; crops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from densevision.errors import DataError, UsageError
from densevision.inference.predictor import TorchModel
from densevision.inference.sliding_window import blended
from densevision.io.image import read_index
from densevision.ops.view import View
from densevision.results import SemanticMap
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks.semantic.config import SemanticAugment, SemanticConfig
from densevision.tasks.semantic.crop import crop_matrix, cropped
from densevision.tasks.semantic.scoring import score
from densevision.tasks.semantic.task import Semantic
from densevision.training.train import card_of

NAMES = ("sky", "road", "car")


def record(size: tuple[int, int] = (20, 30), multilabel: bool = False) -> SemanticMap:
    classes = np.random.default_rng(0).integers(0, 3, size)
    labels = (1 << classes).astype(np.uint16) if multilabel else classes.astype(np.uint8)
    labels[:3] = 65535 if multilabel else 255
    return SemanticMap(labels=labels, names=NAMES, multilabel=multilabel, size=size)


def model(**settings) -> TorchModel:
    config = SemanticConfig.resolve(
        None,
        {"classes": NAMES, "backbone.name": "mobilenetv2_050", "arch": "fcn8s", "options": {"width": 16}, **settings},
    )
    torch.manual_seed(0)
    task = Semantic(config)
    return TorchModel(task, task.net().eval(), card_of(config, 0))


@pytest.mark.parametrize("multilabel", [False, True])
def test_save__png_holds_labels_and_json_runs(multilabel: bool, tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    truth = record(multilabel=multilabel)
    np.testing.assert_array_equal(read_index(truth.save(tmp_path / "a.png")), truth.labels)
    segments = json.loads(truth.save(tmp_path / "a.json").read_text())["segments"]
    for entry in segments:
        wanted = truth.mask(entry["category_id"] - 1)
        np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]).astype(bool), wanted)
    assert truth.draw().shape == (20, 30, 3)


def test_warp__nearest_and_unknown_outside() -> None:
    truth = record()
    moved = truth.warp(np.array([[1.0, 0, 2], [0, 1, 1]]), (20, 30))
    np.testing.assert_array_equal(moved.labels[1:, 2:], truth.labels[:-1, :-2])
    assert (moved.labels[0] == 255).all() and (moved.labels[:, :2] == 255).all()


def test_results__probabilities_only_on_request() -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 50, 3), np.uint8)
    plain, full = (model().predict(image, probabilities=asked) for asked in (False, True))
    assert plain.probabilities is None and full.probabilities.shape == (3, 33, 50)
    np.testing.assert_array_equal(full.probabilities.astype(np.float32).argmax(0), full.labels)
    np.testing.assert_allclose(full.probabilities.astype(np.float32).sum(0), 1, atol=2e-3)


def test_predict__options_without_effect_are_refused() -> None:
    with pytest.raises(UsageError, match="has no effect on semantic"):
        model().predict(np.zeros((8, 8, 3), np.uint8), score_threshold=0.5)


def test_tiles__equal_the_whole_where_the_surroundings_are_seen() -> None:
    """FCN-32s sees so far that tiles cannot: a network cut to its first levels can, and then tiles change nothing."""
    built = model(arch="fpn", options={"segmentation_channels": 32, "pyramid_channels": 16})
    near = built.net.encoder

    def local(image: torch.Tensor) -> dict[str, torch.Tensor]:
        found = near(image)[1].mean(1, keepdim=True)
        score = torch.nn.functional.interpolate(found, image.shape[-2:], mode="bilinear")
        return {"logits": torch.cat([score, -score, 0.3 * score], 1)}

    built.net.forward = local
    image = np.random.default_rng(0).integers(0, 256, (300, 420, 3), np.uint8)
    options = PredictOptions(probabilities=True, precision="float32")
    whole = built.infer([Sample({"image": image})], options)[0]
    tiled = blended(built, Sample({"image": image}), options.changed(tile=160, overlap=0.4))
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-3)
    assert (tiled.labels == whole.labels).mean() > 0.999


def test_flip__answers_to_mirrored_images_are_mirrored() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    built = model()
    one, other = (built.predict(x, tta=("flip",), probabilities=True).probabilities for x in (image, image[:, ::-1]))
    np.testing.assert_allclose(one, other[..., ::-1], atol=2e-3)


def test_encode__unknown_pixels_are_indifferent() -> None:
    task, truth = Semantic(SemanticConfig.checked({"classes": NAMES})), record()
    outputs = task.encode([truth])
    assert (outputs["logits"][0, :, :3] == 0).all()
    (again,) = task.decode(outputs, [View(truth.size, truth.size)])
    np.testing.assert_array_equal(again.labels[truth.known], truth.labels[truth.known])


def test_crop__stays_within_the_image() -> None:
    sample = Sample({"image": np.full((60, 90, 3), 200, np.uint8)}, record((60, 90)))
    config = SemanticAugment(scale=(0.9, 1.2), aim=0.5)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        matrix = crop_matrix(config, rng, sample, (40, 50))
        moved = cropped(config, sample, np.random.default_rng(seed), (40, 50))
        corners = np.linalg.inv(np.vstack([matrix, [0, 0, 1]])) @ np.array([[0, 50], [0, 40], [1, 1]])
        assert corners[:2].min() > -1e-6 and (corners[:2].max(1) < (90.001, 60.001)).all()
        assert moved.size == (40, 50) == moved.truth.size


def test_crop__aims_at_rare_classes() -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[20:22, 30:32] = 1
    truth = SemanticMap(labels=labels, names=NAMES, size=(200, 200))
    sample = Sample({"image": np.zeros((200, 200, 3), np.uint8)}, truth)
    hits = {}
    for aim in (0.0, 1.0):
        config = SemanticAugment(scale=(1.0, 1.0), aim=aim)
        crops = (cropped(config, sample, np.random.default_rng(seed), (32, 32)).truth for seed in range(60))
        hits[aim] = sum(crop.mask(1).any() for crop in crops)
    assert hits[1.0] > 20 > hits[0.0]


def test_score__equals_the_metric_and_needs_no_torch(tmp_path: Path) -> None:
    truth = record()
    answer = np.where(truth.labels == 2, 1, truth.labels)
    for folder, labels in (("truth", truth.labels), ("found", answer)):
        SemanticMap(labels=labels, names=NAMES, size=truth.size).save(tmp_path / folder / "a.png")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    report = score(tmp_path / "truth", tmp_path / "found")
    assert report["tables"]["per class"]["car"]["IoU"] == 0 and report["tables"]["per class"]["sky"]["IoU"] == 1
    assert report["counts"]["unknown pixels"] == 90
    code = "import sys, densevision.tasks.semantic.scoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    (tmp_path / "found" / "a.png").unlink()
    with pytest.raises(DataError, match="no prediction"):
        score(tmp_path / "truth", tmp_path / "found")
