"""Datasets from a config: splits, classes, notes, canvases and augmentation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from densevision.datasets.scenes import CLASSES
from densevision.errors import DataError, UsageError
from densevision.io.image import write_image
from densevision.sample import InputSpec
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.dataset import augment, canvas_size, open_split, read_classes

LETTERBOX = InputSpec(3, "letterbox", 64, multiple_of=32)


def config_of(path, **settings):
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return DetectionConfig.resolve(settings={"data.path": str(path), "data.size": 64, **named})


@pytest.fixture
def folder(tmp_path):
    """COCO with a training and a validation split of three images; the second training image has a bad box."""
    boxes = [([2, 2, 10, 10], 8), ([3, 3, 90, 5], 2), ([1, 1, 4, 4], 2)]
    for split in ("train", "val"):
        images = [{"id": i, "file_name": f"{split}{i}.png", "width": 40, "height": 30} for i in range(3)]
        annotations = [
            {"id": i, "image_id": i, "category_id": category, "bbox": box if split == "train" else [1, 1, 5, 5]}
            for i, (box, category) in enumerate(boxes)
        ]
        for entry in images:
            (tmp_path / "images").mkdir(exist_ok=True)
            write_image(tmp_path / "images" / entry["file_name"], np.full((30, 40, 3), 60, np.uint8))
        data = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 2, "name": "b"}, {"id": 8, "name": "a"}],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(data))
    return tmp_path


def test_open_split__policy_and_notes(folder):
    with pytest.raises(DataError, match=r"annotations\[1\]\.bbox: a box extending beyond the image"):
        open_split(config_of(folder), LETTERBOX, "train")
    for on_error, boxes, action in (("fix", 3, "clipped"), ("skip", 2, "skipped")):
        samples = open_split(config_of(folder, data__on_error=on_error), LETTERBOX, "train")
        assert len(samples) == 3 and sum(len(samples.truth(i)) for i in range(3)) == boxes
        assert samples.notes == (f"1 box extending beyond the image, {action}: train1.png",)
    assert open_split(config_of(folder), LETTERBOX, "val").notes == ()


def test_classes__read_or_given(folder):
    config = config_of(folder)
    assert read_classes(config) == (("b", "a"), (2, 8))
    truth = open_split(config, LETTERBOX, "val")[0].truth
    assert truth.names == ("b", "a") and truth.get_category_ids().tolist() == [8]
    chosen = open_split(config_of(folder, classes=["a", "z"]), LETTERBOX, "val")
    assert [len(chosen.truth(i)) for i in range(3)] == [1, 0, 0] and chosen.truth(0).labels.tolist() == [0]
    assert chosen.notes == ("2 boxes of other classes than a, z, left out",)
    with pytest.raises(DataError, match="none of the requested classes"):
        open_split(config_of(folder, classes=["z"]), LETTERBOX, "val")


def test_open_split__what_is_not_there(folder, tmp_path):
    (folder / "train.json").unlink()
    with pytest.raises(DataError, match="there is no train split") as failure:
        open_split(config_of(folder), LETTERBOX, "train")
    assert failure.value.field == "data.train"
    with pytest.raises(UsageError, match=r"data\.path"):
        open_split(DetectionConfig(), LETTERBOX, "train")
    for image in (folder / "images").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="no images remain"):
        open_split(config_of(folder, data__on_error="skip"), LETTERBOX, "val")


def test_scenes__train_and_validation_differ():
    config = config_of("scenes:6:3")
    assert read_classes(config).names == CLASSES
    train, val = open_split(config, LETTERBOX, "train"), open_split(config, LETTERBOX, "val")
    assert (len(train), len(val)) == (6, 16) and train[0].size == (64, 64)
    images = {samples[i].images["image"].tobytes() for samples in (train, val) for i in range(6)}
    assert len(images) == 12
    few = open_split(config_of("scenes:6:3", classes=list(CLASSES[:2])), LETTERBOX, "train")
    assert sum(len(few[i].truth) for i in range(6)) == sum((train[i].truth.labels < 2).sum() for i in range(6))


def test_canvas_size__multiples_of_the_stride():
    assert canvas_size(InputSpec(3, "letterbox", 65, multiple_of=32)) == (96, 96)
    assert canvas_size(InputSpec(3, "letterbox", (48, 64), multiple_of=32)) == (64, 64)
    assert canvas_size(InputSpec(3, "stretch", (48, 64)), (100, 100)) == (48, 64)


def test_canvas_size__shorter_side_keeps_the_aspect_ratio():
    spec = InputSpec(3, "shortest", 128, 200, multiple_of=32)
    assert canvas_size(spec, (100, 200)) == (100, 200) and canvas_size(spec, (100, 100)) == (128, 128)


def test_augment__canvas_truth_and_last_epochs(folder):
    config = config_of(folder, data__on_error="fix", train__epochs=20, augment__scale=[1.0, 1.0])
    samples = open_split(config, LETTERBOX, "train")
    for epoch, most in ((0, 4), (9, 4), (10, 1), (19, 1)):
        found = [augment(config, LETTERBOX, samples, 0, np.random.default_rng(seed), epoch) for seed in range(8)]
        assert {sample.size for sample in found} == {(64, 64)}
        assert all(sample.truth.size == (64, 64) and (sample.truth.boxes <= 64).all() for sample in found)
        assert (max(len(sample.truth) for sample in found) > 1) == (most > 1)
        assert all(sample.images["image"].dtype == np.uint8 for sample in found)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["bccd", "coco128"])
def test_real__opens_clean_and_augments(real_data, name):
    config = config_of(real_data / "data" / name, augment__mixup=0.5, augment__rotate=10.0)
    samples = open_split(config, LETTERBOX, "train")
    assert not [note for note in samples.notes if "is read, not" not in note]
    for index in range(0, len(samples), 40):
        sample = augment(config, LETTERBOX, samples, index, np.random.default_rng(index), 0)
        assert sample.size == (64, 64) and np.isfinite(sample.truth.boxes).all()
        truth = samples[index].truth
        assert truth.draw().shape == (*truth.size, 3)
