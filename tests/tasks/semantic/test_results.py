"""From logits to records and their files; scores of files; random crops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from densevision.errors import DataError, UsageError
from densevision.inference.predictor import TorchPredictor
from densevision.inference.sliding_window import predict_blended
from densevision.io.image import read_image, read_index_mask
from densevision.ops.view import View
from densevision.results import SemanticMap
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks.semantic.config import SemanticAugment, SemanticConfig
from densevision.tasks.semantic.crop import crop_randomly, random_crop_matrix
from densevision.tasks.semantic.scoring import score
from densevision.tasks.semantic.task import Semantic
from densevision.training.train import make_card

NAMES = ("sky", "road", "car")


def make_record(size: tuple[int, int] = (20, 30), multilabel: bool = False) -> SemanticMap:
    classes = np.random.default_rng(0).integers(0, 3, size)
    labels = (1 << classes).astype(np.uint16) if multilabel else classes.astype(np.uint8)
    labels[:3] = 65535 if multilabel else 255
    return SemanticMap(labels=labels, names=NAMES, multilabel=multilabel, size=size)


def build_predictor(**settings) -> TorchPredictor:
    config = SemanticConfig.resolve(
        None,
        {"classes": NAMES, "backbone.name": "test_resnet", "arch": "fcn8s", "model": {"width": 16}, **settings},
    )
    torch.manual_seed(0)
    task = Semantic(config)
    return TorchPredictor(task, task.build_model().eval(), make_card(config, 0))


@pytest.mark.parametrize("multilabel", [False, True])
def test_save__png_holds_labels_and_json_runs(multilabel: bool, tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    truth = make_record(multilabel=multilabel)
    np.testing.assert_array_equal(read_index_mask(truth.save(tmp_path / "a.labels.png")), truth.labels)
    segments = json.loads(truth.save(tmp_path / "a.json").read_text())["segments"]
    for entry in segments:
        mask = coco_mask.decode(entry["segmentation"]).astype(bool)
        np.testing.assert_array_equal(mask, truth.mask(entry["category_id"] - 1))
    assert truth.draw().shape == (20, 30, 3)
    drawn = read_image(truth.save(tmp_path / "b.png"))
    np.testing.assert_array_equal(drawn, truth.draw())


def test_warp__takes_the_nearest_label_and_unknown_outside() -> None:
    truth = make_record()
    moved = truth.warp(np.array([[1.0, 0, 2], [0, 1, 1]]), (20, 30))
    np.testing.assert_array_equal(moved.labels[1:, 2:], truth.labels[:-1, :-2])
    assert (moved.labels[0] == 255).all() and (moved.labels[:, :2] == 255).all()


def test_predict__keeps_probabilities_only_on_request() -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 50, 3), np.uint8)
    plain, full = (build_predictor().predict(image, probabilities=keep) for keep in (False, True))
    assert plain.probabilities is None and full.probabilities.shape == (3, 33, 50)
    np.testing.assert_array_equal(full.probabilities.astype(np.float32).argmax(0), full.labels)
    np.testing.assert_allclose(full.probabilities.astype(np.float32).sum(0), 1, atol=2e-3)


def test_predict__options_without_effect_are_refused() -> None:
    with pytest.raises(UsageError, match="score_threshold"):
        build_predictor().predict(np.zeros((8, 8, 3), np.uint8), score_threshold=0.5)


def test_tiles__equal_the_whole_image_for_a_small_receptive_field() -> None:
    """A network of the first level only: the overlap of the tiles covers its receptive field."""
    options = {"segmentation_channels": 32, "pyramid_channels": 16}
    predictor = build_predictor(arch="fpn", model={"decoder_options": options})
    encoder = predictor.model.encoder

    def local(image: torch.Tensor) -> dict[str, torch.Tensor]:
        level = encoder(image)[1].mean(1, keepdim=True)
        score = torch.nn.functional.interpolate(level, image.shape[-2:], mode="bilinear")
        return {"logits": torch.cat([score, -score, 0.3 * score], 1)}

    predictor.model.forward = local
    image = np.random.default_rng(0).integers(0, 256, (300, 420, 3), np.uint8)
    options = PredictOptions(probabilities=True, precision="float32")
    whole = predictor.predict_batch([Sample({"image": image})], options)[0]
    tiled = predict_blended(predictor, Sample({"image": image}), options.replace(tile=160, overlap=0.4))
    np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=1e-3)
    assert (tiled.labels == whole.labels).mean() > 0.999


def test_tta_flip__of_a_mirrored_image_is_mirrored() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    predictor = build_predictor()
    one, other = (
        predictor.predict(x, tta=("flip",), probabilities=True).probabilities for x in (image, image[:, ::-1])
    )
    np.testing.assert_allclose(one, other[..., ::-1], atol=2e-3)


def test_ideal_outputs__unknown_pixels_have_equal_logits() -> None:
    task, truth = Semantic(SemanticConfig.from_dict({"classes": NAMES})), make_record()
    outputs = task.ideal_outputs([truth])
    assert (outputs["logits"][0, :, :3] == 0).all()
    (again,) = task.decode(outputs, [View(truth.size, truth.size)])
    np.testing.assert_array_equal(again.labels[truth.known], truth.labels[truth.known])


def test_crop__stays_within_the_image() -> None:
    sample = Sample({"image": np.full((60, 90, 3), 200, np.uint8)}, make_record((60, 90)))
    config = SemanticAugment(scale=(0.9, 1.2), aim=0.5)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        matrix = random_crop_matrix(config, rng, sample, (40, 50))
        moved = crop_randomly(config, sample, np.random.default_rng(seed), (40, 50))
        corners = np.linalg.inv(np.vstack([matrix, [0, 0, 1]])) @ np.array([[0, 50], [0, 40], [1, 1]])
        assert corners[:2].min() > -1e-6 and (corners[:2].max(1) < (90.001, 60.001)).all()
        assert moved.size == (40, 50) == moved.truth.size


def test_crop__is_centered_near_rare_classes() -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[20:22, 30:32] = 1
    truth = SemanticMap(labels=labels, names=NAMES, size=(200, 200))
    sample = Sample({"image": np.zeros((200, 200, 3), np.uint8)}, truth)
    hits = {}
    for aim in (0.0, 1.0):
        config = SemanticAugment(scale=(1.0, 1.0), aim=aim)
        crops = (crop_randomly(config, sample, np.random.default_rng(seed), (32, 32)).truth for seed in range(60))
        hits[aim] = sum(crop.mask(1).any() for crop in crops)
    assert hits[1.0] > 20 > hits[0.0]


def test_score__of_files_without_torch(tmp_path: Path) -> None:
    truth = make_record()
    prediction = np.where(truth.labels == 2, 1, truth.labels)
    for folder, labels in (("truth", truth.labels), ("predictions", prediction)):
        SemanticMap(labels=labels, names=NAMES, size=truth.size).save(tmp_path / folder / "a.labels.png")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    report = score(tmp_path / "truth", tmp_path / "predictions")
    assert report["tables"]["per class"]["car"]["IoU"] == 0 and report["tables"]["per class"]["sky"]["IoU"] == 1
    assert report["counts"]["unknown pixels"] == 90
    code = "import sys, densevision.tasks.semantic.scoring; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    (tmp_path / "predictions" / "a.labels.png").unlink()
    with pytest.raises(DataError, match="no prediction"):
        score(tmp_path / "truth", tmp_path / "predictions")
