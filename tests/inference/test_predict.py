"""Sources of every kind give the same answers; options that do nothing are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import densevision
from densevision.datasets.scenes import Scenes
from densevision.errors import DataError, UsageError
from densevision.inference.predictor import Model
from densevision.io.video import VideoWriter
from densevision.results import Detections

OPTIONS = {"precision": "float32", "score_threshold": 0.2}


@pytest.fixture(scope="module")
def model(weights: Path) -> Model:
    return densevision.load(weights)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index, size in enumerate(((120, 160), (97, 131), (160, 120))):
        cv2.imwrite(str(folder / f"{index}.png"), Scenes(3, 0, size)[index].image[..., ::-1])
    return folder


def same(one: Detections, other: Detections) -> bool:
    return all(np.array_equal(one.arrays()[name], other.arrays()[name]) for name in one.arrays())


def test_predict__every_form_of_one_image(model: Model, images: Path) -> None:
    path = images / "0.png"
    array = np.asarray(Image.open(path))
    forms = [str(path), path, array, Image.open(path), torch.from_numpy(array.copy()).permute(2, 0, 1)]
    answers = [model.predict(form, **OPTIONS) for form in forms]
    assert len(answers[0]) > 0
    assert all(same(answers[0], answer) for answer in answers)
    as_float = model.predict(array.astype(np.float32) / 255, **OPTIONS)  # resized without rounding to whole levels
    assert abs(len(as_float) - len(answers[0])) <= 0.1 * len(answers[0])
    assert answers[0].size == (120, 160)


def test_predict__folder_glob_list(model: Model, images: Path) -> None:
    single = [model.predict(images / f"{index}.png", **OPTIONS) for index in range(3)]
    first, *others = (str(images / f"{index}.png") for index in range(3))
    for source in (images, str(images / "*.png"), [first, *others], [first, str(images / "[12].png")]):
        answers = model.predict(source, **OPTIONS)
        assert isinstance(answers, list) and len(answers) == 3
        assert all(same(one, other) for one, other in zip(single, answers))


def test_predict__batch_changes_nothing(model: Model, images: Path) -> None:
    twice = [images / f"{index}.png" for index in (0, 1, 2, 0, 1)]
    one, many = (model.predict(twice, batch=batch, **OPTIONS) for batch in (1, 4))
    for answer, other in zip(one, many, strict=True):
        np.testing.assert_allclose(answer.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(answer.scores, other.scores, atol=1e-5)


def test_predict__video_is_an_iterator(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 10) as writer:
        for index in range(5):
            writer.write(Scenes(5, 1, (96, 128))[index].image)
    answers = model.predict(path, **OPTIONS)
    assert not isinstance(answers, list)
    assert [answer.size for answer in answers] == [(96, 128)] * 5


def test_predict__stream_of_one(model: Model, images: Path) -> None:
    (answer,) = model.predict(images / "0.png", stream=True, **OPTIONS)
    assert same(answer, model.predict(images / "0.png", **OPTIONS))


@pytest.mark.parametrize("shape", [(50, 60), (50, 60, 1), (50, 60, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_predict__gray_alpha_and_16_bit(model: Model, shape: tuple[int, ...], dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    assert model.predict(image, **OPTIONS).size == (50, 60)


def test_predict__tiles_find_what_the_whole_finds(model: Model, images: Path) -> None:
    whole = model.predict(images / "0.png", **OPTIONS)
    one_tile = model.predict(images / "0.png", tile=200, **OPTIONS)
    assert len(whole) == len(one_tile) or len(one_tile) > 0
    many = model.predict(images / "0.png", tile=64, tta=("flip", "scale"), **OPTIONS)
    assert many.size == (120, 160) and (many.boxes[:, 2:] <= (160, 120)).all() and (many.boxes >= 0).all()


def test_predict__flip_of_a_mirrored_image(model: Model) -> None:
    image = Scenes(1, 3, (128, 128))[0].image
    mirrored = np.ascontiguousarray(image[:, ::-1])
    one = model.predict(image, tta=("flip",), **OPTIONS)
    other = model.predict(mirrored, tta=("flip",), **OPTIONS)
    back = other.warp(np.array([[-1.0, 0, 128], [0, 1, 0]]), (128, 128))
    assert len(one) == len(back)
    np.testing.assert_allclose(one.boxes[np.lexsort(one.boxes.T)], back.boxes[np.lexsort(back.boxes.T)], atol=1e-2)


def test_predict__one_look_needs_no_list(model: Model, images: Path) -> None:
    one, listed = (model.predict(images / "0.png", tta=examples, **OPTIONS) for looks in ("flip", ["flip"]))
    assert same(one, listed)


def test_predict__classes_and_scores(model: Model, images: Path) -> None:
    answer = model.predict(images / "0.png", precision="float32", score_threshold=0.1)
    name = answer.names[answer.labels[0]]
    kept = model.predict(images / "0.png", precision="float32", score_threshold=0.1, classes=(name,))
    assert set(kept.labels) == {answer.labels[0]}
    assert len(model.predict(images / "0.png", precision="float32", score_threshold=0.1, max_detections=2)) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"iterations": 3}, "no effect on detection"),
        ({"iteration": 3}, "no such option"),
        ({"overlap": 0.5}, "no effect without tile"),
        ({"score_threshold": 2.0}, "less than or equal to 1"),
        ({"classes": ("dsk",)}, "Did you mean 'disk'"),
        ({"classes": "dsk"}, "Did you mean 'disk'"),
        ({"tta": "foo"}, "no such choice.*flip, rotate, scale"),
        ({"device": "cuda"}, "not here"),
    ],
)
def test_predict__bad_option(model: Model, images: Path, options: dict, words: str) -> None:
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UsageError, match=words):
        model.predict(images / "0.png", **options)


@pytest.mark.parametrize(("source", "words"), [("", "empty name"), (["a.mp4"], "a video among other sources")])
def test_predict__no_source(model: Model, source: str | list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        model.predict(source)


@pytest.mark.parametrize("source", ["absent.jpg", "absent/*.jpg"])
def test_predict__absent_source(model: Model, source: str) -> None:
    with pytest.raises(DataError, match="absent"):
        model.predict(source)


def test_predict__empty_folder(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image in this folder"):
        model.predict(tmp_path)


def test_main_paths__no_network(weights: Path, images: Path, tiny: dict, tmp_path: Path) -> None:
    """Prediction, evaluation and training, with all their libraries, while every way out is blocked."""
    program = f"""
import socket
def refuse(*_, **__):
    raise RuntimeError("the network was touched")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import densevision
assert len(densevision.predict({str(images / "0.png")!r}, weights={str(weights)!r}, min_score=0.1))
densevision.evaluate({str(weights)!r})
settings = {{**{tiny!r}, "train.epochs": 1, "augment.blur": 0.5}}
run = densevision.train("detection", "scenes:4:0", set=settings, out={str(tmp_path / "run")!r})
assert (run / "best.safetensors").exists()
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
