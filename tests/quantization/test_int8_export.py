"""Integers predict nearly as well as floats, say what they lose, and are refused where they lose too much."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision import api
from densevision.errors import DataError, ExportError, UsageError, WeightsError
from densevision.exporting.exported_predictor import load_exported
from densevision.exporting.metadata import EXPORT_KEY, ExportMetadata
from densevision.file_info import info
from densevision.inference.predictor import TorchPredictor
from densevision.io.image import write_image
from densevision.io.weights import Card
from densevision.sample import InputSpec
from densevision.tasks.registry import Architecture
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.models import MODELS
from densevision.tasks.semantic.models.segmentation_model import SegmentationModel
from densevision.tasks.semantic.task import Semantic

pytestmark = pytest.mark.export
SIZE = (48, 64)
SLOW = pytest.mark.slow  # NNCF alone takes seconds to import
FORMATS = [pytest.param("onnx", ".onnx"), pytest.param("openvino", ".xml", marks=SLOW)]


class Brightness(SegmentationModel):
    """Tells bright from dark pixels by convolutions whose weights are known: no training, mIoU 1 in float.

    Args:
        num_classes: Two.
        outlier: Factor of a second channel, which takes part in no prediction: large, it takes all levels of integers.
    """

    def __init__(self, num_classes: int = 2, outlier: float = 1.0):
        super().__init__(InputSpec(mode="letterbox", size=SIZE, multiple_of=16, min_side=32), num_classes)
        channels = (3, 4, 4, 4, 2)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(channels))
        for index, layer in enumerate(self.layers):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            with torch.no_grad():
                layer.weight[0, : 3 if index == 0 else 1, 1, 1] = 1 / 3 if index == 0 else 1.0
        with torch.no_grad():
            self.layers[0].weight[1, :, 1, 1] = outlier
            self.layers[2].weight[0, 0, 1, 1] = 0.5  # equal weights would be stored once
            self.layers[3].weight[0, 0, 1, 1], self.layers[3].bias[0] = -8.0, 4.0
            self.layers[3].weight[1, 0, 1, 1] = 8.0

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        for layer in self.layers[:-1]:
            image = layer(image).relu()
        return {"logits": self.layers[-1](image)}


@pytest.fixture(autouse=True, scope="module")
def registered_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "brightness", Architecture(f"{__name__}:Brightness", "known weights"))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Images of bright disks on dark ground, with their masks, as train and val."""
    folder, rng = tmp_path_factory.mktemp("disks"), np.random.default_rng(0)
    for number in range(12):
        part = folder / ("train" if number < 6 else "val")
        mask = np.zeros(SIZE, np.uint8)
        cv2.circle(mask, (int(rng.integers(20, 44)), int(rng.integers(16, 32))), int(rng.integers(6, 14)), 1, -1)
        image = np.where(mask, 190, 60) + rng.integers(-30, 30, SIZE)
        for name, array in (("images", np.repeat(image[..., None], 3, 2).astype(np.uint8)), ("masks", mask)):
            (part / name).mkdir(parents=True, exist_ok=True)
            write_image(part / name / f"{number}.png", array)
    return folder


def build(outlier: float = 1.0) -> TorchPredictor:
    settings = {"arch": "brightness", "classes": ("dark", "bright"), "model.outlier": outlier}
    task = Semantic(SemanticConfig.resolve(None, settings))
    return TorchPredictor(task, task.build_model().eval(), Card("semantic", task.config.to_dict(), ("dark", "bright")))


def export(predictor: TorchPredictor, data: Path, out: Path, **options) -> Path:
    options = {"quantize": "int8", "calibration": data, "quiet": True, **options}
    return api.export("semantic", predictor, out=out, **options)


@pytest.mark.parametrize(("name", "suffix"), FORMATS)
def test_int8__predicts_as_evaluated_and_says_what_it_loses(name, suffix, data, tmp_path):
    path = export(build(), data, tmp_path / f"net{suffix}", export_format=name)
    record = load_exported(path).metadata.quantization
    assert record["metric"] == "mIoU" and record["float32"] == 1.0
    assert record["int8"] == pytest.approx(1.0, abs=0.01) and record["tolerance"] == 0.01
    assert record["loss"] == pytest.approx(record["float32"] - record["int8"])
    assert record["interval"][0] <= record["loss"] <= record["interval"][1]
    assert record["images"] == 6 and record["calibration"] == {"split": "train", "images": 6}
    assert record["protocol"]["prediction"]["precision"] == "int8" and record["data"]["data.path"] == str(data)
    assert record["layers"] == 2 and set(record["kept_in_float"]) == {"layers.0", "layers.3"}
    report = api.evaluate("semantic", data, path, quiet=True)
    assert report.metrics["mIoU"] == record["int8"]
    assert info(path)["quantization"] == record
    assert count_integer_weights(path) == 2
    with pytest.raises(UsageError):
        api.predict(np.zeros((40, 40, 3), np.uint8), weights=path, precision="float32")


def count_integer_weights(path: Path) -> int:
    """Tensors of 8-bit weights of convolutions, read by the runtime's own tools."""
    if path.suffix == ".onnx":
        import onnx

        tensors = onnx.load(path).graph.initializer
        return sum(each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4 for each in tensors)
    import openvino

    nodes = openvino.Core().read_model(str(path)).get_ops()
    constants = [node for node in nodes if node.get_type_name() == "Constant"]
    return sum(each.get_element_type().to_string() == "i8" and len(each.get_output_shape(0)) == 4 for each in constants)


@pytest.mark.parametrize(("name", "suffix"), FORMATS)
def test_int8__network_that_integers_ruin_is_refused(name, suffix, data, tmp_path):
    ruined, out = build(outlier=1e5), tmp_path / f"net{suffix}"
    with pytest.raises(ExportError) as error:
        export(ruined, data, out, export_format=name)
    assert error.value.field == "mIoU" and error.value.value > 0.3 and error.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []
    # The tolerance accepts it; the record then says what was lost.
    export(ruined, data, out, export_format=name, tolerance=0.9)
    assert load_exported(out).metadata.quantization["loss"] == error.value.value


def test_int8__parts_in_float_save_a_network(data, tmp_path):
    """The layer with the outlier is left out: the next one reads a range without it."""
    path = export(build(outlier=1e5), data, tmp_path / "net.onnx", keep_float=["layers.1"])
    record = load_exported(path).metadata.quantization
    assert record["loss"] < 0.01 and "layers.1" in record["kept_in_float"] and record["layers"] == 1


@SLOW
def test_int8__weights_that_know_nothing_are_refused(data, tmp_path):
    blind = build()
    nn.init.zeros_(blind.model.layers[-1].weight)
    with pytest.raises(ExportError) as error:  # mIoU of one class everywhere: below so large a tolerance
        export(blind, data, tmp_path / "net.onnx", tolerance=0.6)
    assert error.value.field == "mIoU" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("calibration", {"calibration": None}),
        ("quantize", {"quantize": "int4"}),
        ("quantize", {"export_format": "torch"}),
        ("half", {"half": True}),
        ("images", {"images": "folder"}),
        ("calibration", {"quantize": None}),
        ("keep_float", {"quantize": None, "calibration": None, "keep_float": ["layers"]}),
        pytest.param("keep_float", {"keep_float": ["nothing"]}, marks=SLOW),
        ("tolerance", {"tolerance": 0.0}),
    ],
)
def test_int8__wrong_options(field, options, data, tmp_path):
    out = tmp_path / ("net.pt2" if "export_format" in options else "net.onnx")
    with pytest.raises(UsageError) as error:
        export(build(), data, out, **options)
    assert error.value.field == field and list(tmp_path.iterdir()) == []


def test_int8__data_without_images(tmp_path):
    with pytest.raises(DataError):
        export(build(), tmp_path, tmp_path / "net.onnx")


def test_int8__flow_is_refused(tmp_path):
    with pytest.raises(UsageError) as error:
        api.export("flow", out=tmp_path / "flow.onnx", quantize="int8", calibration="scenes:4", quiet=True)
    assert error.value.field == "quantize"


def test_metadata__unknown_type_of_integers():
    metadata = ExportMetadata(True, {}, False, {}, quantization={"type": "int8"})
    assert ExportMetadata.from_json(metadata.to_json(), Path("x.onnx")).precision == "int8"
    for wrong in ({"type": "int3"}, {}, "int8", 3):
        text = json.dumps({**json.loads(metadata.to_json()), "quantization": wrong})
        with pytest.raises(WeightsError) as error:
            ExportMetadata.from_json(text, Path("x.onnx"))
        assert error.value.field == EXPORT_KEY
