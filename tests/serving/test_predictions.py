"""Responses hold what `densevision.predict` returns."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import densevision
from densevision.datasets.scenes import Scenes
from densevision.io.image import write_image
from densevision.published_weights import find_bundled_weights
from densevision.tasks import TASKS

FAST = ("detection", "depth", "flow")
WITH_WEIGHTS = [task for task in TASKS.built_in if find_bundled_weights(task)]
"""Tasks of the default run: objects, a map, and a pair of images."""
TOLERANCE = 1e-4
"""Of float32 numbers from batches of different sizes."""


def name_fields(task: str) -> list[str]:
    return ["first", "second"] if task == "flow" else ["image"]


def predict_directly(task: str, model: Any, files: list[Path], **options: Any) -> Any:
    source = tuple(files) if len(files) > 1 else files[0]
    return densevision.predict(source, task, model.predictor, device="cpu", precision="float32", **options)


def assert_same(actual: Any, expected: Any, where: str = "") -> None:
    """Compares JSON values; numbers up to the tolerance."""
    if isinstance(expected, dict):
        assert list(actual) == list(expected), where
        for key in expected:
            assert_same(actual[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, (list, int, float)) and not isinstance(expected, bool):
        if isinstance(expected, list) and any(isinstance(item, (dict, str)) for item in expected):
            assert len(actual) == len(expected), where
            for one, other in zip(actual, expected):
                assert_same(one, other, where)
        else:
            np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=where)
    else:
        assert actual == expected, where


@pytest.mark.parametrize(
    "task", [task if task in FAST else pytest.param(task, marks=pytest.mark.slow) for task in WITH_WEIGHTS]
)
def test_predict__equals_predict_of_the_file(
    task: str, serve: Any, models: Any, encode_image: Any, tmp_path: Path
) -> None:
    files = []
    for number, name in enumerate(name_fields(task)):
        files.append(tmp_path / f"{name}.png")
        files[-1].write_bytes(encode_image(48, 64, number))
    expected = predict_directly(task, models[task], files)
    uploads = [(file.stem, (file.name, file.read_bytes())) for file in files]
    with serve(task) as client:
        response = client.post(f"/v1/{task}/predict", files=uploads)
        drawing = client.post(f"/v1/{task}/predict", files=uploads, headers={"accept": "image/png"})
        arrays = client.post(f"/v1/{task}/predict", files=uploads, data={"format": "npz"})
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["task"], body["model"], len(body["results"])) == (task, "bundled", 1)
    assert_same(body["results"][0], {"source": files[0].name, **json.loads(json.dumps(expected.to_dict()))})

    assert drawing.headers["content-type"] == "image/png"
    expected.save(tmp_path / "expected.png")
    pixels = [
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).astype(int)
        for data in (drawing.content, (tmp_path / "expected.png").read_bytes())
    ]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1

    expected.save(tmp_path / "expected.npz")
    with np.load(io.BytesIO(arrays.content)) as actual, np.load(tmp_path / "expected.npz") as wanted:
        assert set(actual) == set(wanted)
        for name in wanted:
            if wanted[name].dtype.kind == "f":
                np.testing.assert_allclose(actual[name], wanted[name], rtol=TOLERANCE, atol=TOLERANCE)
            else:
                np.testing.assert_array_equal(actual[name], wanted[name])


def test_predict__several_images_in_order(serve: Any, models: Any, encode_image: Any, tmp_path: Path) -> None:
    sizes = [(40, 64), (33, 47), (40, 64)]
    uploads, expected = [], []
    for number, (height, width) in enumerate(sizes):
        file = tmp_path / f"{number}.png"
        file.write_bytes(encode_image(height, width, number))
        uploads.append(("image", (file.name, file.read_bytes())))
        expected.append(predict_directly("depth", models["depth"], [file]))
    with serve("depth") as client:
        results = client.post("/v1/depth/predict", files=uploads).json()["results"]
        refused = client.post("/v1/depth/predict?format=png", files=uploads)
    assert [result["source"] for result in results] == ["0.png", "1.png", "2.png"]
    for result, wanted in zip(results, expected):
        assert_same(result["depth"], wanted.depth.tolist())
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "format")


def test_predict__options_have_the_effect_of_predict(serve: Any, models: Any, tmp_path: Path) -> None:
    file = tmp_path / "scene.png"
    write_image(file, Scenes(1, 20, (192, 256))[0].image)
    names = models["detection"].predictor.card.classes
    options: dict[str, Any] = {"score_threshold": 0.01, "max_detections": 3, "classes": list(names[:4]), "tta": "flip"}
    expected = predict_directly("detection", models["detection"], [file], **options)
    assert len(expected) == 3
    with serve("detection") as client:
        upload = {"image": ("scene.png", file.read_bytes())}
        by_query = client.post("/v1/detection/predict", params=options, files=upload).json()["results"][0]
        by_form = client.post("/v1/detection/predict", data=options, files=upload).json()["results"][0]
    assert by_query == by_form
    assert_same(by_query["boxes"], expected.boxes.tolist())
    assert_same(by_query["scores"], expected.scores.tolist())


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("focal_length=500", "focal_length"),  # of another task
        ("device=cuda", "device"),  # the server's
        ("on_error=skip", "on_error"),
        ("max_pixels=900000000", "max_pixels"),
        ("score_treshold=0.3", "score_treshold"),
        ("score_threshold=1.5", "score_threshold"),
        ("score_threshold=high", "score_threshold"),
        ("score_threshold=0.1&score_threshold=0.2", "score_threshold"),
        ("overlap=0.3", "overlap"),  # without tile
        ("tile=1", "tile"),  # a forward pass per pixel
        ("tile=128&overlap=0.9", "overlap"),
        ("tta=turn", "tta"),
        ("format=doc", "format"),
        ("format=npy", "format"),  # not for boxes
        ("model=other", "model"),
    ],
)
def test_predict__option_without_effect_is_refused(query: str, field: str, serve: Any, encode_image: Any) -> None:
    with serve("detection") as client:
        response = client.post(f"/v1/detection/predict?{query}", files={"image": ("a.png", encode_image())})
    assert response.status_code == 422, response.text
    error = response.json()["error"]
    assert error["field"].startswith(field) and error["message"]


@pytest.mark.parametrize("files", [{}, {"photo": b"x"}, {"first": b"x"}])
def test_predict__missing_or_misnamed_files(files: dict[str, bytes], serve: Any) -> None:
    with serve("flow") as client:
        response = client.post("/v1/flow/predict", files={name: ("a.png", data) for name, data in files.items()})
    assert response.status_code == 422
    assert response.json()["error"]["field"] in ("first", "second", "photo")


def test_predict__images_of_a_pair_must_match(serve: Any, encode_image: Any) -> None:
    pair = {"first": ("a.png", encode_image(32, 48)), "second": ("b.png", encode_image(48, 32))}
    with serve("flow") as client:
        response = client.post("/v1/flow/predict", files=pair)
    assert response.status_code == 422
    assert response.json()["error"]["message"].startswith("a.png: ")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/json"),
        ("text/html, image/png;q=0.5, application/json;q=0.4", "image/png"),
        ("application/x-npy", "application/x-npy"),
        ("image/*", "image/png"),
        ("application/json;q=0, */*;q=0.1", "image/png"),
    ],
)
def test_accept__selects_the_format(accept: str, media: str, serve: Any, encode_image: Any) -> None:
    with serve("depth") as client:
        upload = {"image": ("a.png", encode_image())}
        response = client.post("/v1/depth/predict", files=upload, headers={"accept": accept})
    assert response.headers["content-type"] == media


def test_accept__nothing_that_fits(serve: Any, encode_image: Any) -> None:
    with serve("depth") as client:
        upload = {"image": ("a.png", encode_image())}
        assert client.post("/v1/depth/predict", files=upload, headers={"accept": "text/html"}).status_code == 406


def test_models__are_selected_by_name(models: Any, encode_image: Any, weights: Path) -> None:
    from fastapi.testclient import TestClient

    from densevision.errors import UsageError
    from densevision.serving.app import create_app
    from densevision.serving.served_models import load_model

    mine = load_model(f"detection={weights}")
    with TestClient(create_app([mine, models["detection"]]), base_url="http://localhost") as client:
        listed = client.get("/v1/models").json()["models"]
        upload = {"image": ("a.png", encode_image())}
        used = [
            client.post("/v1/detection/predict", params=query, files=upload).json()["model"]
            for query in ({}, {"model": "bundled"})
        ]
    assert [model["name"] for model in listed] == ["random", "bundled"]
    assert used == ["random", "bundled"]
    with pytest.raises(UsageError):
        create_app([mine, mine])


@pytest.mark.slow
def test_openapi__is_valid_and_needs_no_other_server(serve: Any) -> None:
    from openapi_spec_validator import validate

    with serve(*WITH_WEIGHTS, token="0123456789abcdef") as client:
        headers = {"authorization": "Bearer 0123456789abcdef"}
        document = client.get("/openapi.json", headers=headers).json()
        pages = [client.get(path, headers=headers).status_code for path in ("/docs", "/redoc")]
    validate(document)
    assert pages == [404, 404]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for task in WITH_WEIGHTS:
        operation = document["paths"][f"/v1/{task}/predict"]["post"]
        form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["required"] == name_fields(task)
        example = operation["responses"]["200"]["content"]["application/json"]["example"]
        assert example["task"] == task and "size" in example["results"][0]
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert {"model", "format"} <= names and "device" not in names and "warm_start" not in names
        assert ("tile" in names) == (task != "translation")
