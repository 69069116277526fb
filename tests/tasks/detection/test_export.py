"""The bundled detector in other runtimes: the same detections on images of any size."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import densevision
from densevision.datasets.scenes import Scenes
from densevision.errors import UsageError
from densevision.exporting.export import SUFFIXES, export
from densevision.exporting.exported_predictor import ExportedPredictor, OpenVinoPredictor, load_exported
from densevision.inference.predictor import TorchPredictor
from densevision.io.image import write_image
from densevision.published_weights import find_bundled_weights
from densevision.results import Detections
from densevision.tasks import load_config, load_task
from densevision.training.train import make_card

pytestmark = [pytest.mark.export, pytest.mark.slow]
TOLERANCE = 1e-3
PAGE = Path(__file__).parents[3] / "docs/export.md"
"""The page with programs in plain ONNX Runtime."""
INCLUDE_FOLDERS = ("/usr/include", "/usr/local/include", "/usr/include/onnxruntime", "/usr/local/include/onnxruntime")


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


@pytest.mark.parametrize("export_format", SUFFIXES)
def test_half__about_as_many_detections(export_format, model, tmp_path, images):
    half = load_exported(export(model, tmp_path / f"half{SUFFIXES[export_format]}", export_format, half=True))
    counts = [len(result) for result in half.predict(images)]
    assert np.abs(np.subtract(counts, [len(result) for result in model.predict(images)])).mean() < 0.5


@pytest.mark.parametrize("export_format", ["onnx", "openvino"])
@pytest.mark.parametrize(("arch", "suppressions"), [("yolox_nano", 1), ("dfine_n", 0)])
def test_other_architectures__any_batch(arch, suppressions, export_format, tmp_path):
    """One suppression in the graph of YOLOX, none in that of D-FINE; batches of one and of three."""
    small = {"data.size": 96} if arch == "yolox_nano" else {"data.size": 128, "model.num_queries": 40}
    settings = {"arch": arch, "data.path": "scenes:4:0", **small}
    task = load_task("detection")(
        load_task("detection").infer_from_data(load_config("detection").resolve(None, settings))
    )
    torch.manual_seed(0)
    model = task.build_model().eval()
    with torch.no_grad():  # random scores nearly tie; these lie far enough apart to be compared
        for name, parameter in model.named_parameters():
            if "cls_preds" in name and parameter.ndim > 1:
                parameter.mul_(100)
    predictor = TorchPredictor(task, model, make_card(task.config, 4))
    path = export(predictor, tmp_path / f"model{SUFFIXES[export_format]}", export_format)
    exported = load_exported(path)
    inputs = torch.rand(3, 3, *[128 if arch == "dfine_n" else 96] * 2)
    together = exported.run({"image": inputs}, "cpu", "float32")["scores"]
    alone = torch.cat([exported.run({"image": image[None]}, "cpu", "float32")["scores"] for image in inputs])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    if export_format == "onnx":
        import onnx

        kinds = [node.op_type for node in onnx.load(path).graph.node]
        assert kinds.count("NonMaxSuppression") == suppressions


def test_raw__supports_every_option(model, tmp_path, images):
    raw = load_exported(export(model, tmp_path / "raw.onnx", decode=False))
    options = {"iou_threshold": 0.4, "class_agnostic": True, "classes": ("moon", "disk"), "score_threshold": 0.02}
    assert assert_same(model.predict(images, **options, precision="float32"), raw.predict(images, **options)) > 20


def read_program(language: str) -> str:
    """The program of the page in a language."""
    (program,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return program


def assert_predicts_the_same(command: list[str], model: TorchPredictor, onnx: Path, folder: Path) -> None:
    """The program's boxes and scores are those of `predict`, for images that are shrunk, enlarged and kept."""
    total = 0
    for index, size in enumerate([(411, 523), (150, 97), (192, 256)]):
        image = folder / f"{index}.png"
        write_image(image, Scenes(1, 20 + index, size)[0].image)
        output = subprocess.run([*command, str(onnx), str(image)], check=True, capture_output=True, text=True).stdout
        rows = [line.split() for line in output.splitlines()]
        expected = model.predict(image, precision="float32")
        assert [row[0] for row in rows] == [expected.names[label] for label in expected.labels]
        numbers = np.array([row[1:] for row in rows], float).reshape(-1, 5)
        np.testing.assert_allclose(numbers[:, 0], expected.scores, atol=TOLERANCE)
        np.testing.assert_allclose(numbers[:, 1:], expected.boxes, atol=TOLERANCE, rtol=1e-5)
        total += len(rows)
    assert total > 5


def test_metadata__plain_keys(onnx):
    import onnx as library

    entries = {entry.key: entry.value for entry in library.load(onnx).metadata_props}
    assert entries["color_order"] == "RGB" and entries["value_range"] == "0 1" and entries["layout"] == "NCHW float32"
    assert entries["resize_mode"] == "letterbox" and entries["resize_position"] == "center"
    assert entries["input_size"] == "256 256" and entries["multiple_of"] == "32" and entries["min_side"] == "64"
    assert float(entries["fill"]) == pytest.approx(114 / 255)
    assert entries["box_format"] == "x1 y1 x2 y2 in pixels of the input"
    assert entries["class_names"].split("\n") == [
        "disk",
        "ring",
        "square",
        "triangle",
        "star",
        "cross",
        "heart",
        "moon",
    ]
    assert float(entries["score_threshold"]) == 0.25


def test_page__program_in_python(onnx, model, tmp_path):
    program = tmp_path / "detect.py"
    program.write_text(read_program("python"), encoding="utf-8")
    assert_predicts_the_same([sys.executable, str(program)], model, onnx, tmp_path)


def test_page__program_in_cpp(onnx, model, tmp_path):
    """Needs a compiler, OpenCV's headers, and those of ONNX Runtime, in the folder ONNXRUNTIME_INCLUDE or installed."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    folders = [*filter(None, [os.environ.get("ONNXRUNTIME_INCLUDE")]), *INCLUDE_FOLDERS]
    headers = next((folder for folder in folders if (Path(folder) / "onnxruntime_cxx_api.h").exists()), None)
    opencv = Path("/usr/include/opencv4")
    if compiler is None or headers is None or not opencv.exists():
        found = {"compiler": compiler, "onnxruntime_cxx_api.h": headers, "opencv4": opencv.exists()}
        pytest.skip(f"no C++ here: {found}")
    package = importlib.util.find_spec("onnxruntime")
    assert package is not None and package.origin is not None
    (library, *_) = (Path(package.origin).parent / "capi").glob("libonnxruntime.so*")
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)  # the name that programs look for, which the wheel lacks
    (tmp_path / "detect.cpp").write_text(read_program("cpp"), encoding="utf-8")
    includes = [f"-I{headers}", f"-I{opencv}"]
    libraries = [
        str(library),
        f"-Wl,-rpath,{tmp_path}",
        *(f"-lopencv_{n}" for n in ("imgcodecs", "imgproc", "core")),
    ]
    command = [
        compiler,
        "-std=c++17",
        str(tmp_path / "detect.cpp"),
        *includes,
        "-o",
        str(tmp_path / "detect"),
        *libraries,
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert_predicts_the_same([str(tmp_path / "detect")], model, onnx, tmp_path)
