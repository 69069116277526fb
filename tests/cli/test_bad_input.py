"""User errors: one message that names file, field and value, and the right exit code."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from densevision.cli.main import run
from densevision.io.weights import Card, save_weights

Dataset = dict[str, Any]
SETTINGS = ("--set", "arch=yolo_n", "--set", "data.size=64", "--set", "train.epochs=1", "--set", "train.batch=2")


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, Dataset]:
    """A sound COCO dataset of four images, and the content of its json."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    content = {
        "images": [{"id": n + 1, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in range(4)],
        "annotations": [
            {"id": n + 1, "image_id": n + 1, "category_id": 3, "bbox": [8, 8, 20, 20], "area": 400, "iscrowd": 0}
            for n in range(4)
        ],
        "categories": [{"id": 3, "name": "object"}],
    }
    return folder, content


def train(folder: Path, content: Dataset | None, *more: str) -> None:
    if content is not None:
        for split in ("train", "val"):
            (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    run(["detection", "train", "--data", str(folder), "--out", str(folder / "run"), "--quiet", *SETTINGS, *more])


def assert_fails(capsys: pytest.CaptureFixture, code: int, words: list[str], call: Callable[[], None]) -> None:
    with pytest.raises(SystemExit) as ending:
        call()
    message = capsys.readouterr().err
    assert ending.value.code == code, message
    assert "Traceback" not in message
    lines = [line for line in message.splitlines() if line.startswith(("error:", "Error:"))]
    assert len(lines) == 1, message
    assert all(word in lines[0] for word in words), lines[0]


def box(**fields: Any) -> Callable[[Dataset], None]:
    return lambda content: content["annotations"][2].update(fields)


LABELS: dict[str, tuple[Callable[[Dataset], Any], list[str]]] = {
    "category_absent": (box(category_id=9), ["annotations[2]", "category_id", "9"]),
    "box_outside": (box(bbox=[70, 8, 20, 20]), ["annotations[2].bbox", "70"]),
    "box_negative": (box(bbox=[8, 8, -5, 20]), ["annotations[2].bbox", "-5"]),
    "box_nan": (box(bbox=[8, float("nan"), 5, 20]), ["annotations[2].bbox", "nan"]),
    "box_short": (box(bbox=[8, 8, 5]), ["annotations[2].bbox"]),
    "box_text": (box(bbox="wide"), ["annotations[2].bbox", "wide"]),
    "annotation_id_twice": (box(id=1), ["annotations[2]", "id", "1"]),
    "image_id_twice": (lambda content: content["images"][1].update(id=1), ["images[1]", "id"]),
    "image_unknown": (box(image_id=77), ["annotations[2]", "image_id", "77"]),
    "image_absent": (lambda content: content["images"][1].update(file_name="no.jpg"), ["no.jpg"]),
    "leaves_the_folder": (lambda content: content["images"][1].update(file_name="../../x.jpg"), ["../../x.jpg"]),
    "absolute_path": (lambda content: content["images"][1].update(file_name="/etc/passwd"), ["/etc/passwd"]),
    "no_images": (lambda content: content.pop("images"), ["images"]),
    "no_categories": (lambda content: content.pop("categories"), ["categories"]),
}


@pytest.mark.parametrize("fault", LABELS)
def test_labels__fault_is_named(fault: str, dataset, capsys) -> None:
    folder, content = dataset
    corrupt, words = LABELS[fault]
    corrupt(content)
    assert_fails(capsys, 3, ["instances_", *words], lambda: train(folder, content))


def yolo(folder: Path) -> Path:
    """A YOLO dataset of two images; only the first has a label file."""
    image = np.zeros((32, 32, 3), np.uint8)
    (folder / "labels" / "train").mkdir(parents=True)
    (folder / "images" / "train").mkdir(parents=True)
    for number in range(2):
        cv2.imwrite(str(folder / "images" / "train" / f"{number}.png"), image)
    (folder / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [object]\n")
    return folder


def test_labels__file_without_image(tmp_path, capsys) -> None:
    folder = yolo(tmp_path / "data")
    (folder / "labels" / "train" / "9.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert_fails(capsys, 3, ["labels/train/9.txt", "images/train"], lambda: train(folder, None))


def test_labels__image_without_a_file_is_one_without_objects(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        run(["detection", "check", str(yolo(tmp_path / "data")), "--json"])
    findings = {row["name"]: row for row in json.loads(capsys.readouterr().out)["findings"]}
    finding = findings["labels-missing"]
    assert finding["severity"] != "error" and finding["examples"][0]["file"] == "images/train/1.png"


IMAGES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "empty": (lambda file: file.write_bytes(b""), ["1.jpg", "0"]),
    "corrupt": (lambda file: file.write_bytes(b"no image at all" * 9), ["1.jpg"]),
    "truncated": (lambda file: file.write_bytes(file.read_bytes()[:-200]), ["1.jpg"]),
}


@pytest.mark.parametrize("fault", IMAGES)
def test_images__fault_is_named(fault: str, dataset, capsys) -> None:
    folder, content = dataset
    corrupt, words = IMAGES[fault]
    corrupt(folder / "images" / "1.jpg")
    assert_fails(capsys, 3, words, lambda: train(folder, content))


@pytest.mark.parametrize("fault", IMAGES)
def test_predict__fault_is_named(fault: str, dataset, capsys) -> None:
    folder, _ = dataset
    corrupt, words = IMAGES[fault]
    corrupt(folder / "images" / "1.jpg")
    assert_fails(capsys, 3, words, lambda: run(["detection", "predict", str(folder / "images" / "1.jpg"), "--json"]))


def test_data__missing(tmp_path, capsys) -> None:
    assert_fails(capsys, 3, ["absent"], lambda: run(["detection", "train", "--data", str(tmp_path / "absent")]))


def test_data__not_given(capsys) -> None:
    assert_fails(capsys, 2, ["data.path", "--data"], lambda: run(["detection", "train"]))


def test_data__unrecognized_says_what_is_there(tmp_path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("x")
    command = ["detection", "train", "--data", str(tmp_path)]
    assert_fails(capsys, 3, [str(tmp_path), ".txt", "COCO"], lambda: run(command))


def test_data__json_that_is_not_coco(dataset, capsys) -> None:
    folder, _ = dataset
    (folder / "annotations" / "instances_train.json").write_text('{"a": ')
    assert_fails(capsys, 3, ["instances_train.json"], lambda: train(folder, None))


def test_predict__too_many_pixels(dataset, capsys) -> None:
    folder, _ = dataset
    command = ["detection", "predict", str(folder / "images" / "0.jpg"), "--max-pixels", "100", "--json"]
    assert_fails(capsys, 3, ["0.jpg", "3,072", "100", "max_pixels"], lambda: run(command))


USAGE = [
    (["--set", "train.epoch=3"], ["train.epoch", "epochs"]),
    (["--set", "train.epochs=many"], ["train.epochs", "many", "integer"]),
    (["--set", "train.plateau_patience=9"], ["train.plateau_patience", "cosine"]),
    (["--set", "train.epochs"], ["NAME=VALUE"]),
]


@pytest.mark.parametrize(("more", "words"), USAGE)
def test_usage__bad_setting(more: list[str], words: list[str], dataset, capsys) -> None:
    folder, content = dataset
    assert_fails(capsys, 2, words, lambda: train(folder, content, *more))


def test_usage__yaml_with_tags(tmp_path, capsys) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text("task: !!python/object/apply:os.system ['true']\n")
    assert_fails(capsys, 2, ["evil.yaml", "line 1"], lambda: run(["detection", "train", "--config", str(file)]))


def test_usage__config_of_another_task(tmp_path, capsys) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("task: depth\n")
    assert_fails(capsys, 2, ["other.yaml", "depth"], lambda: run(["detection", "train", "--config", str(file)]))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["detecton", "train"], ["detecton", "detection"]),
        (["detection", "tain"], ["tain", "train"]),
        (["detection", "train", "--dat", "x"], ["--dat"]),
        (["detection", "predict", "x.jpg", "--iterations", "3"], ["--iterations"]),
        (["detection", "predict", "x.jpg", "--json", "--out", "y"], ["--out", "--json"]),
        (["detection", "predict", "x.jpg", "--max-detections", "0"], ["max_detections", "0"]),
        (["detection", "predict", "x.jpg", "--tile", "64", "--overlap", "1"], ["overlap", "0.9"]),
        (["detection", "predict", "x.jpg", "--set", "train.epochs=3"], ["train.epochs"]),
        (["detection", "predict", "x.jpg", "--set", "data.val=x"], ["data.val"]),
        (["superres", "predict", "x.jpg", "--set", "quality.crop=1"], ["quality.crop"]),
        (["detection", "benchmark", "--count", "0"], ["--count"]),
    ],
)
def test_usage__unknown_or_without_effect(command: list[str], words: list[str], capsys) -> None:
    assert_fails(capsys, 2, words, lambda: run(command))


def weights_file(folder: Path, kind: str) -> Path:
    path = folder / "weights.safetensors"
    tensors = {"x": torch.zeros(3)}
    if kind == "foreign":
        save_file(tensors, path)
    elif kind == "pickle":
        torch.save(tensors, path)
    elif kind == "truncated":
        save_weights(path, {"x": torch.zeros(999)}, Card("detection", {}))
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "other_task":
        save_weights(path, tensors, Card("depth", {}))
    elif kind == "newer":
        save_weights(path, tensors, Card("detection", {}, schema=99))
    elif kind == "misfit":
        save_weights(path, tensors, Card("detection", {"task": "detection", "classes": ["a"]}, classes=("a",)))
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("absent", []),
        ("foreign", ["convert-weights"]),
        ("pickle", ["convert-weights"]),
        ("truncated", []),
        ("other_task", ["depth", "detection"]),
        ("newer", ["99"]),
        ("misfit", []),
    ],
)
def test_weights__refused(kind: str, words: list[str], dataset, tmp_path, capsys) -> None:
    path = weights_file(tmp_path, kind)
    image = str(dataset[0] / "images" / "0.jpg")
    command = ["detection", "predict", image, "--weights", str(path), "--json"]
    assert_fails(capsys, 4, ["weights.safetensors", *words], lambda: run(command))


def test_train__unwritable_folder(dataset, capsys) -> None:
    folder, content = dataset
    (folder / "run").write_text("a file where the folder should be")
    assert_fails(capsys, 1, ["run"], lambda: train(folder, content))


def test_train__full_disk(dataset, capsys, monkeypatch) -> None:
    folder, content = dataset

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert_fails(capsys, 1, ["No space left"], lambda: train(folder, content))
    assert not [path for path in (folder / "run").glob("*") if path.is_file()]


@pytest.mark.parametrize("data", ["https://example.org/cats.zip", "cats.zip", "cats.tar.gz"])
@pytest.mark.parametrize("verb", [["train", "--data"], ["check"]])
def test_dataset__archives_are_named_as_such(verb: list[str], data: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        run(["detection", *verb, data])
    message = capsys.readouterr().err
    assert ending.value.code == 3
    assert data in message
    assert "archive" in message
