"""Predictions as labels: what is written, what is left to people, and errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densevision
from densevision.cli.main import run
from densevision.datasets.scenes import Scenes
from densevision.errors import UsageError
from densevision.io.image import write_image
from densevision.ops.masks import decode
from densevision.published_weights import find_bundled_weights

COUNT = 3
OPTIONS = {"precision": "float32", "device": "cpu"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_bundled_weights("detection") is None:
        pytest.skip("the bundled weights are not part of this checkout")
    folder = tmp_path_factory.mktemp("images")
    for number, scene in enumerate(Scenes(COUNT, 5, (160, 200))):
        write_image(folder / "day" / f"{number}.png", scene.image)
    return folder


def read_truth(task: str, folder: Path) -> dict[str, Any]:
    """The labels by image, of both parts of the dataset."""
    parts = [densevision.open_dataset(task, folder, split=split) for split in ("train", "val")]
    return {Path(sample.file).name: sample.truth for part in parts for sample in part}


@pytest.mark.parametrize("to", ["cvat", "coco", "label-studio", "fiftyone"])
def test_boxes__of_sure_predictions(to: str, images: Path, tmp_path: Path) -> None:
    report = densevision.autolabel(images, "detection", out=tmp_path / "out", to=to, score_threshold=0.4, **OPTIONS)
    results = densevision.predict(images, "detection", score_threshold=0.2, **OPTIONS)
    expected = {Path(result.source).name: result.boxes[result.scores >= 0.4] for result in results}
    assert report.objects == sum(map(len, expected.values())) > 0
    assert report.uncertain == sum(int((result.scores < 0.4).sum()) for result in results)
    found = read_truth("detection", tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, truth in found.items():
        assert len(truth) == len(expected[name])
        for box in expected[name]:
            clipped = np.clip(box, 0, [200, 160, 200, 160])
            assert np.abs(truth.boxes - clipped).max(1).min() < 0.02
    with open(tmp_path / "out" / "review.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["uncertain"]) for row in rows] == sorted((int(row["uncertain"]) for row in rows), reverse=True)
    assert sum(int(row["objects"]) for row in rows) == report.objects and len(rows) == COUNT


def test_masks__are_exact(images: Path, tmp_path: Path) -> None:
    report = densevision.autolabel(images, "instance", out=tmp_path / "out", to="labelme", **OPTIONS)
    assert report.objects > 0
    results = densevision.predict(images, "instance", score_threshold=0.5, **OPTIONS)
    masks = {Path(result.source).name: [decode(mask) for mask in result.masks or ()] for result in results}
    truths = read_truth("instance", tmp_path / "out")
    for name, expected in masks.items():
        written = [decode(mask) for mask in truths[name].masks]
        assert len(written) == len(expected)
        assert all(any(np.array_equal(mask, other) for other in written) for mask in expected)


def test_command_line(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["detection", "autolabel", str(images), str(tmp_path / "out")]
    arguments += ["--to", "yolo", "--json", "--device", "cpu"]
    run(arguments)
    content = json.loads(capsys.readouterr().out)
    assert len(content["images"]) == COUNT and (tmp_path / "out" / "data.yaml").is_file()
    with pytest.raises(SystemExit) as ending:
        run(arguments)
    assert ending.value.code == 2


def test_predict__names_the_verb_that_writes_datasets(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ending:
        run(["detection", "predict", str(images), "--save", "cvat", "--out", str(tmp_path / "out")])
    assert ending.value.code == 2 and "autolabel" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "options", "field"),
    [
        ("depth", {}, "task"),
        ("detection", {"to": "cvatt"}, "to"),
        ("detection", {"score_threshold": 0.1}, "review_threshold"),
        ("detection", {"review_threshold": 0.0}, "review_threshold"),
    ],
)
def test_arguments__wrong(task: str, options: dict, field: str, images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        densevision.autolabel(images, task, out=tmp_path / "out", **options)
    assert caught.value.field == field and not (tmp_path / "out").exists()


def test_source__must_be_files(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        densevision.autolabel(np.zeros((32, 32, 3), np.uint8), "detection", out=tmp_path / "out", **OPTIONS)
    assert caught.value.field == "source" and not (tmp_path / "out").exists()
