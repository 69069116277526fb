"""The same weights under other runtimes: equal results, one export per state of the weights, and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import densevision
from densevision import engines
from densevision.errors import DenseVisionError, UsageError
from densevision.inference.predictor import TorchPredictor
from densevision.published_weights import find_bundled_weights

pytest.importorskip("onnxruntime")
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DENSEVISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


def find_weights(task: str) -> Path:
    file = find_bundled_weights(task)
    if file is None:
        pytest.skip("the bundled weights are not part of this checkout")
    return file


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_predict__equals_torch_and_exports_once(engine: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(engine)
    file = find_weights("superres")
    expected = densevision.predict(IMAGE, weights=file, precision="float32").image
    result = densevision.load(file, engine=engine).predict(IMAGE)
    assert np.abs(result.image.astype(int) - expected).max() <= 1
    monkeypatch.setattr(engines, "export", lambda *_, **__: pytest.fail("exported again"))
    again = densevision.load(file, engine=engine)
    np.testing.assert_array_equal(again.predict(IMAGE).image, result.image)
    assert again.file == file and again.card == densevision.load(file).card
    assert len(list(cache.iterdir())) == 1


def test_cache__by_weights_and_repaired(cache: Path) -> None:
    predictor = densevision.load(find_weights("superres"))
    assert isinstance(predictor, TorchPredictor)
    first = engines.open_engine(predictor, "onnxruntime")
    (exported,) = cache.glob("*/model.onnx")
    exported.write_bytes(exported.read_bytes()[:100])
    repaired = engines.open_engine(predictor, "onnxruntime")
    np.testing.assert_array_equal(repaired.predict(IMAGE).image, first.predict(IMAGE).image)
    with torch.no_grad():
        next(iter(predictor.model.parameters())).mul_(1.5)
    changed = engines.open_engine(predictor, "onnxruntime").predict(IMAGE).image
    assert len(list(cache.glob("*/model.onnx"))) == 2
    np.testing.assert_allclose(changed.astype(int), predictor.predict(IMAGE, precision="float32").image, atol=1)


@pytest.mark.slow
def test_thresholds__are_chosen_at_each_prediction() -> None:
    file = find_weights("detection")
    options = {"precision": "float32", "score_threshold": 0.01, "iou_threshold": 0.3, "max_detections": 50}
    image = np.kron(IMAGE, np.ones((6, 6, 1), np.uint8))
    expected = densevision.predict(image, weights=file, **options)
    found = densevision.predict(image, weights=file, engine="onnxruntime", **options)
    assert len(expected) == len(found) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    metrics = [
        densevision.evaluate("detection", "scenes:16:0", file, engine=engine, quiet=True, precision="float32").metrics
        for engine in ("torch", "onnxruntime")
    ]
    assert metrics[0]["AP"] == pytest.approx(metrics[1]["AP"], abs=1e-4)


def test_errors(tmp_path: Path) -> None:
    file = find_weights("superres")
    with pytest.raises(UsageError) as caught:
        densevision.load(file, engine="onxruntime")  # type: ignore[arg-type]
    assert caught.value.field == "engine" and "onnxruntime" in str(caught.value.hint)
    exported = densevision.export(None, file, out=tmp_path / "a.onnx")
    with pytest.raises(UsageError) as caught:
        densevision.load(exported, engine="openvino")
    assert caught.value.field == "engine"
    with pytest.raises(DenseVisionError):
        densevision.predict(IMAGE, weights=file, engine="onnxruntime", precision="bfloat16")
