"""Sources of every kind give the same predictions; options without effect are refused."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import densevision
from densevision.datasets.scenes import Scenes
from densevision.errors import DataError, UsageError
from densevision.inference.predictor import Predictor
from densevision.io.video import VideoWriter
from densevision.results import Detections

OPTIONS: dict[str, Any] = {"precision": "float32", "score_threshold": 0.2}


@pytest.fixture(scope="module")
def model(weights: Path) -> Predictor:
    return densevision.load(weights)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index, size in enumerate(((120, 160), (97, 131), (160, 120))):
        cv2.imwrite(str(folder / f"{index}.png"), Scenes(3, 0, size)[index].image[..., ::-1])
    return folder


def are_equal(first: Detections, second: Detections) -> bool:
    return all(np.array_equal(first.numpy()[name], second.numpy()[name]) for name in first.numpy())


def test_predict__all_forms_of_one_image(model: Predictor, images: Path) -> None:
    path = images / "0.png"
    array = np.asarray(Image.open(path))
    forms = [str(path), path, array, Image.open(path), torch.from_numpy(array.copy()).permute(2, 0, 1)]
    results = [model.predict(form, **OPTIONS) for form in forms]
    assert len(results[0]) > 0 and results[0].size == (120, 160)
    assert all(are_equal(results[0], result) for result in results)
    from_floats = model.predict(array.astype(np.float32) / 255, **OPTIONS)  # resized without rounding to integers
    assert abs(len(from_floats) - len(results[0])) <= 0.1 * len(results[0])


def test_predict__folder_glob_and_list(model: Predictor, images: Path) -> None:
    single = [model.predict(images / f"{index}.png", **OPTIONS) for index in range(3)]
    first, *others = (str(images / f"{index}.png") for index in range(3))
    for source in (images, str(images / "*.png"), [first, *others], [first, str(images / "[12].png")]):
        results = model.predict(source, **OPTIONS)
        assert isinstance(results, list) and len(results) == 3
        assert all(are_equal(a, b) for a, b in zip(single, results))


def test_predict__batch_does_not_change_results(model: Predictor, images: Path) -> None:
    sources = [images / f"{index}.png" for index in (0, 1, 2, 0, 1)]
    single, batched = (model.predict(sources, batch=batch, **OPTIONS) for batch in (1, 4))
    for a, b in zip(single, batched, strict=True):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def test_predict__video_is_an_iterator(model: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 10) as writer:
        for index in range(5):
            writer.write(Scenes(5, 1, (96, 128))[index].image)
    results = model.predict(path, **OPTIONS)
    assert not isinstance(results, list)
    assert [result.size for result in results] == [(96, 128)] * 5


def test_predict__stream_of_a_single_image(model: Predictor, images: Path) -> None:
    (result,) = model.predict(images / "0.png", stream=True, **OPTIONS)
    assert are_equal(result, model.predict(images / "0.png", **OPTIONS))


@pytest.mark.parametrize("shape", [(50, 60), (50, 60, 1), (50, 60, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_predict__gray_alpha_and_16_bit(model: Predictor, shape: tuple[int, ...], dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    assert model.predict(image, **OPTIONS).size == (50, 60)


def test_predict__tiles(model: Predictor, images: Path) -> None:
    whole = model.predict(images / "0.png", **OPTIONS)
    assert are_equal(whole, model.predict(images / "0.png", tile=200, **OPTIONS))
    tiled = model.predict(images / "0.png", tile=64, tta=("flip", "scale"), **OPTIONS)
    assert tiled.size == (120, 160) and (tiled.boxes[:, 2:] <= (160, 120)).all() and (tiled.boxes >= 0).all()


def test_predict__flip_of_a_mirrored_image(model: Predictor) -> None:
    image = Scenes(1, 3, (128, 128))[0].image
    result = model.predict(image, tta=("flip",), **OPTIONS)
    mirrored = model.predict(np.ascontiguousarray(image[:, ::-1]), tta=("flip",), **OPTIONS)
    restored = mirrored.warp(np.array([[-1.0, 0, 128], [0, 1, 0]]), (128, 128))
    assert len(result) == len(restored)
    order, other = np.lexsort(result.boxes.T), np.lexsort(restored.boxes.T)
    np.testing.assert_allclose(result.boxes[order], restored.boxes[other], atol=1e-2)


def test_predict__single_tta_transform_needs_no_list(model: Predictor, images: Path) -> None:
    results = [model.predict(images / "0.png", tta=tta, **OPTIONS) for tta in ("flip", ["flip"])]
    assert are_equal(*results)


def test_predict__classes_and_max_detections(model: Predictor, images: Path) -> None:
    result = model.predict(images / "0.png", precision="float32", score_threshold=0.1)
    name = result.names[result.labels[0]]
    filtered = model.predict(images / "0.png", precision="float32", score_threshold=0.1, classes=(name,))
    assert set(filtered.labels) == {result.labels[0]}
    assert len(model.predict(images / "0.png", precision="float32", score_threshold=0.1, max_detections=2)) == 2


@pytest.mark.parametrize(
    ("options", "field", "hint"),
    [
        ({"iterations": 3}, "iterations", "Supported: "),
        ({"score_treshold": 0.3}, "score_treshold", "Did you mean 'score_threshold'"),
        ({"overlap": 0.5}, "overlap", ""),
        ({"score_threshold": 2.0}, "score_threshold", ""),
        ({"classes": ("dsk",)}, "classes", "Did you mean 'disk'"),
        ({"classes": "dsk"}, "classes", "Did you mean 'disk'"),
        ({"tta": "foo"}, "tta.0", "flip, rotate, scale"),
        ({"device": "cuda"}, "device", "cpu"),
        ({"device": "gpu"}, "device", ""),
    ],
)
def test_predict__bad_option(model: Predictor, images: Path, options: dict, field: str, hint: str) -> None:
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError) as error:
        model.predict(images / "0.png", **options)
    assert error.value.field == field and hint in (error.value.hint or "")


@pytest.mark.parametrize("source", ["", ["a.mp4"], "absent.jpg", "absent/*.jpg"])
def test_predict__bad_source(model: Predictor, source: str | list[str]) -> None:
    with pytest.raises(DataError):
        model.predict(source)


def test_predict__empty_folder(model: Predictor, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        model.predict(tmp_path)
    assert str(error.value.file) == str(tmp_path)


def test_main_paths__use_no_network(
    weights: Path, images: Path, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prediction, evaluation and training, while every connection fails."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("the network was used")

    for owner, name in ((socket.socket, "connect"), (socket, "getaddrinfo"), (socket, "create_connection")):
        monkeypatch.setattr(owner, name, refuse)
    assert len(densevision.predict(images / "0.png", weights=weights, score_threshold=0.1))
    densevision.evaluate(weights=weights)
    overrides = {**tiny, "train.epochs": 1, "augment.blur": 0.5}
    run = densevision.train("detection", "scenes:4:0", overrides=overrides, out=tmp_path / "run")
    assert (run / "best.safetensors").exists()
