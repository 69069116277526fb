"""The bundled detector in other runtimes: the same detections on images of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import densevision
from densevision.datasets.scenes import Scenes
from densevision.errors import UsageError
from densevision.exporting.export import SUFFIXES, export
from densevision.exporting.exported_predictor import ExportedPredictor, OpenVinoPredictor, load_exported
from densevision.inference.predictor import TorchPredictor
from densevision.published_weights import find_bundled_weights
from densevision.results import Detections

pytestmark = pytest.mark.export
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def model() -> TorchPredictor:
    return densevision.load(find_bundled_weights("detection"))


@pytest.fixture(scope="module")
def onnx(model, tmp_path_factory) -> Path:
    pytest.importorskip("onnxruntime")
    return export(model, tmp_path_factory.mktemp("exports") / "detection.onnx")


@pytest.fixture(scope="module")
def runtimes(onnx) -> dict[str, ExportedPredictor]:
    """The same graph under ONNX Runtime and under OpenVINO, which reads it as it does for its own files."""
    openvino = pytest.importorskip("openvino")
    first = load_exported(onnx, "detection")
    second = OpenVinoPredictor(first.task, first.card, first.metadata, openvino.Core().read_model(str(onnx)))
    return {"onnx": first, "openvino": second}


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    sizes = [(61 + 37 * i, 401 - 17 * i) for i in range(16)] + [(33, 400), (401, 29), (24, 24), (1025, 771)]
    return [Scenes(1, seed, size)[0].image for seed, size in enumerate(sizes)]


def assert_same(results: list[Detections], exported: list[Detections]) -> int:
    for one, other in zip(results, exported, strict=True):
        np.testing.assert_array_equal(other.labels, one.labels)
        np.testing.assert_allclose(other.boxes, one.boxes, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(other.scores, one.scores, atol=TOLERANCE, rtol=0)
    return sum(map(len, results))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_predictions__equal_pytorchs_on_twenty_sizes(runtime, model, runtimes, images):
    assert len({image.shape for image in images}) == 20
    results = model.predict(images, score_threshold=0.05, precision="float32")
    assert assert_same(results, runtimes[runtime].predict(images, score_threshold=0.05)) > 100
    few = {"max_detections": 3}
    assert_same(model.predict(images[:4], **few, precision="float32"), runtimes[runtime].predict(images[:4], **few))


@pytest.mark.realdata
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_predictions__equal_pytorchs_on_photographs(runtime, model, runtimes, real_data):
    photographs = sorted(str(file) for file in (real_data / "data" / "bccd").rglob("*.jpg"))[:4]
    low = {"score_threshold": 0.02}
    results = model.predict(photographs, **low, precision="float32")
    assert assert_same(results, runtimes[runtime].predict(photographs, **low)) > 10


def test_evaluate__same_metrics(model, onnx):
    options = {"data": "scenes:8:3", "overrides": {"data.val": None}}
    metrics = [
        densevision.evaluate(weights=each, **options, precision="float32").metrics
        for each in (model, load_exported(onnx))
    ]
    assert metrics[0]["AP"] > 0
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-6, nan_ok=True)


def test_predict__options_of_the_suppression_are_fixed(runtimes, images):
    for option, value in (("iou_threshold", 0.4), ("class_agnostic", True), ("classes", ("moon",))):
        with pytest.raises(UsageError, match=option):
            runtimes["onnx"].predict(images[0], **{option: value})


@pytest.mark.slow
@pytest.mark.parametrize("export_format", SUFFIXES)
def test_half__about_as_many_detections(export_format, model, tmp_path, images):
    half = load_exported(export(model, tmp_path / f"half{SUFFIXES[export_format]}", export_format, half=True))
    counts = [len(result) for result in half.predict(images)]
    assert np.abs(np.subtract(counts, [len(result) for result in model.predict(images)])).mean() < 0.5


@pytest.mark.slow
def test_raw__supports_every_option(model, tmp_path, images):
    raw = load_exported(export(model, tmp_path / "raw.onnx", decode=False))
    options = {"iou_threshold": 0.4, "class_agnostic": True, "classes": ("moon", "disk"), "score_threshold": 0.02}
    assert assert_same(model.predict(images, **options, precision="float32"), raw.predict(images, **options)) > 20
