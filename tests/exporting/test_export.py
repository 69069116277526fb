"""Exported files predict as PyTorch does, say what they hold, and are refused where they do not."""

from __future__ import annotations

import json
import logging
import sys
import zipfile
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision.config import Config
from densevision.datasets.scenes import Scenes
from densevision.errors import DenseVisionError, ExportError, UsageError, WeightsError
from densevision.exporting import exported_predictor
from densevision.exporting.export import SUFFIXES, export
from densevision.exporting.exported_predictor import load_exported
from densevision.exporting.metadata import CARD_KEY, EXPORT_KEY
from densevision.exporting.writers import WRITERS
from densevision.inference import card_config
from densevision.inference.predictor import TorchPredictor
from densevision.io.weights import SCHEMA, Card
from densevision.nn.model import Model
from densevision.ops.nms import batched_nms
from densevision.results import Detections
from densevision.run_config import PredictOptions, TaskConfig
from densevision.sample import InputSpec
from densevision.tasks.base import Task
from densevision.tasks.registry import Architecture

pytestmark = pytest.mark.export
FORMATS = tuple(SUFFIXES)
FAST_FORMATS = [pytest.param(name, marks=() if name == "torch" else pytest.mark.slow) for name in FORMATS]
"""All formats; by default only the one that needs no conversion."""


class SpotDetector(Model):
    """A detector small enough to be exported in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = {"image": InputSpec(mode="letterbox", size=96, multiple_of=32, min_side=32)}
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1))
        self.head = nn.Conv2d(8, 5, 1)
        nn.init.normal_(self.encoder[0].weight, std=0.5)
        nn.init.normal_(self.head.weight)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        rows = self.head(self.encoder(image - 0.5))
        height, width = rows.shape[2:]
        y, x = torch.meshgrid(torch.arange(height) * 4.0, torch.arange(width) * 4.0, indexing="ij")
        rows = rows + 1e-3 * x + 1e-4 * y  # no two scores are equal, not even on the padding
        return {"rows": rows.flatten(2).transpose(1, 2), "anchors": torch.stack([x, y], -1).flatten(0, 1)}

    def postprocess(
        self, outputs: dict[str, Tensor], score_threshold: float, iou_threshold: float, max_detections: int
    ) -> dict[str, Tensor]:
        scores, order = outputs["rows"][..., 4].sigmoid().topk(24)
        sides = outputs["rows"].gather(1, order[..., None].expand(-1, -1, 5))[..., :4].abs() * 30
        anchors = outputs["anchors"][order]
        boxes = torch.cat([anchors - sides[..., :2], anchors + sides[..., 2:] + 1], -1)
        keep = batched_nms(boxes, scores >= score_threshold, iou_threshold)
        rank = torch.arange(24)
        order = torch.where(keep, rank, rank + 24).topk(max_detections, largest=False).indices
        return {
            "boxes": boxes.gather(1, order[..., None].expand(-1, -1, 4)),
            "scores": scores.gather(1, order),
            "valid": keep.gather(1, order),
        }


class Difference(Model):
    """Two images by name, without postprocessing."""

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = {"image": InputSpec(multiple_of=8), "second": InputSpec(multiple_of=8)}
        self.encoder = nn.Conv2d(3, 2, 3, 1, 1)

    def forward(self, image: Tensor, second: Tensor, iterations: int) -> dict[str, Tensor]:
        return {"flow": self.encoder(image) - iterations * self.encoder(second)}


class SpotsDecode(Config):
    score_threshold: float = 0.6
    max_detections: int = 12
    iou_threshold: float = 0.3


class SpotsConfig(TaskConfig):
    models: ClassVar = {"spots": Architecture(f"{__name__}:SpotDetector")}
    task: Literal["spots"] = "spots"
    arch: str = "spots"
    decode: SpotsDecode = SpotsDecode()


class Spots(Task):
    name, Config, Result, monitor = "spots", SpotsConfig, Detections, ("AP", "max")
    supported_options = frozenset({"score_threshold", "max_detections", "iou_threshold"})
    open_dataset = remove_labels = collate_targets = build_metric = None

    def build_model(self) -> Model:
        return SpotDetector()

    def thresholds(self, options: PredictOptions) -> dict[str, Any]:
        values = {name: getattr(options, name) for name in SpotsDecode.model_fields}
        return {name: getattr(self.config.decode, name) if value is None else value for name, value in values.items()}

    def evaluation_options(self) -> PredictOptions:
        return PredictOptions(score_threshold=0.05)

    def to_results(self, predictions: dict[str, Tensor], views: Any, options: PredictOptions) -> list[Detections]:
        rows = zip(views, *(predictions[name].numpy() for name in ("boxes", "scores", "valid")))
        return [
            Detections.from_arrays(
                view.boxes_to_original(boxes[valid]), [0] * valid.sum(), ["spot"], view.original, scores=scores[valid]
            )
            for view, boxes, scores, valid in rows
        ]


class Shift(Spots):
    supported_options = frozenset({"iterations"})

    def build_model(self) -> Model:
        return Difference()

    def thresholds(self, options: PredictOptions) -> dict[str, Any]:
        return {}

    def forward_kwargs(self, options: PredictOptions) -> dict[str, Any]:
        return {"iterations": options.iterations or 2}


@pytest.fixture(autouse=True, scope="module")
def registered_tasks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exported_predictor, "load_task", {"spots": Spots, "shift": Shift}.get)
        patch.setattr(card_config, "load_config", lambda name: SpotsConfig)
        yield


def build(task_class: type[Task] = Spots, name: str = "spots", config: SpotsConfig | None = None) -> TorchPredictor:
    torch.manual_seed(0)
    task = task_class(config or SpotsConfig())
    card = Card(name, task.config.to_dict(), ("spot",), license="none")
    return TorchPredictor(task, task.build_model().eval(), card)


@pytest.fixture(scope="module")
def model() -> TorchPredictor:
    return build()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {name: export(model, folder / f"spots{suffix}", name) for name, suffix in SUFFIXES.items()}


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    sizes = ((64, 96), (97, 131), (33, 20), (15, 70), (200, 150))
    return [Scenes(1, seed, size)[0].image for seed, size in enumerate(sizes)]


def assert_close(results: list[Detections], others: list[Detections], tolerance: float = 1e-3) -> int:
    for result, other in zip(results, others, strict=True):
        assert len(result) == len(other)
        np.testing.assert_allclose(result.boxes, other.boxes, atol=tolerance)
        np.testing.assert_allclose(result.scores, other.scores, atol=tolerance)
    return sum(map(len, results))


@pytest.mark.parametrize("name", FORMATS)
def test_export__predicts_as_the_weights(name, model, files, images):
    exported = load_exported(files[name], "spots")
    expected = model.predict(images, precision="float32")
    assert assert_close(expected, exported.predict(images, batch=2, precision="float32")) >= 5
    assert exported.card == model.card
    assert exported.task.config == model.task.config


@pytest.mark.parametrize("name", FORMATS)
def test_export__metadata(name, files):
    metadata = load_exported(files[name]).metadata
    assert set(metadata.differences) == {"boxes", "scores"}
    assert all(0 <= difference < 1e-3 for difference in metadata.differences.values())
    assert metadata.images >= 6
    assert metadata.decoded and metadata.options["score_threshold"] == 0.05
    assert metadata.inputs["image"]["multiple_of"] == 32 and metadata.inputs["image"]["fill"] == 0.0
    assert metadata.color_order == "RGB" and metadata.value_range == (0.0, 1.0) and metadata.classes == ("spot",)
    assert set(metadata.outputs) == {"boxes", "scores", "valid"} and "x1, y1, x2, y2" in metadata.outputs["boxes"]


@pytest.mark.parametrize("name", FORMATS)
def test_export__stricter_options_apply_and_others_are_refused(name, model, files, images):
    exported = load_exported(files[name])
    stricter = {"score_threshold": 0.65, "max_detections": 3}
    assert_close(model.predict(images, **stricter, precision="float32"), exported.predict(images, **stricter))
    for option, value in (("iou_threshold", 0.5), ("max_detections", 20), ("score_threshold", 0.01)):
        with pytest.raises(UsageError) as error:
            exported.predict(images[0], **{option: value})
        assert error.value.field == option
    with pytest.raises(UsageError):
        exported.predict(images[0], precision="float16")


def test_configure__changes_the_data_but_not_the_model(files):
    exported = load_exported(files["torch"])
    exported.configure({"data.path": "scenes:4"})
    assert exported.task.config.data.path == "scenes:4"
    with pytest.raises(UsageError):
        exported.configure({"backbone.name": "resnet50"})


def test_export__onnx_has_named_axes_and_no_paths(files):
    import onnx

    graph = onnx.load(files["onnx"]).graph
    assert [value.name for value in graph.input] == ["image"]
    assert [value.name for value in graph.output] == ["boxes", "scores", "valid"]
    axes = [axis.dim_param or axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "height", "width"]
    assert str(Path(__file__).parent).encode() not in files["onnx"].read_bytes()
    with zipfile.ZipFile(files["torch"]) as archive:
        assert not any(str(Path(__file__).parent).encode() in archive.read(member) for member in archive.namelist())


def test_export__without_postprocessing_leaves_all_options_open(model, tmp_path, images):
    exported = load_exported(export(model, tmp_path / "raw.pt2", "torch", decode=False))
    options = {"iou_threshold": 0.9, "score_threshold": 0.2}
    assert_close(model.predict(images, **options, precision="float32"), exported.predict(images, **options))


@pytest.mark.parametrize("name", FAST_FORMATS)
def test_export__half_precision(name, model, tmp_path, images):
    path = export(model, tmp_path / f"half{SUFFIXES[name]}", name, decode=False, half=True)
    exported = load_exported(path)
    assert exported.metadata.half and 0 < max(exported.metadata.differences.values()) < 2e-2
    with pytest.raises(UsageError):
        exported.predict(images[0], precision="float32")


@pytest.mark.parametrize("name", FAST_FORMATS)
def test_export__several_inputs_by_name(name, tmp_path):
    model = build(Shift, "shift")
    exported = load_exported(export(model, tmp_path / f"shift{SUFFIXES[name]}", name))
    inputs = {"image": torch.rand(1, 3, 40, 56), "second": torch.rand(1, 3, 40, 56)}
    swapped = {"second": inputs["second"], "image": inputs["image"]}
    options = PredictOptions(precision="float32")
    expected = model.predict_tensors(inputs, options)["flow"]
    torch.testing.assert_close(exported.predict_tensors(swapped, options)["flow"], expected)
    with pytest.raises(UsageError) as error:
        exported.predict_tensors(inputs, PredictOptions(iterations=3))
    assert error.value.field == "iterations"


@pytest.mark.parametrize("name", FAST_FORMATS)
def test_export__wrong_graph_leaves_no_file(name, model, tmp_path, monkeypatch):
    forward = SpotDetector.forward

    def forward_with_fault(self, image):
        outputs = forward(self, image)
        return {**outputs, "rows": outputs["rows"] + 0.01} if torch.compiler.is_exporting() else outputs

    monkeypatch.setattr(SpotDetector, "forward", forward_with_fault)
    with pytest.raises(ExportError) as error:
        export(model, tmp_path / f"spots{SUFFIXES[name]}", name)
    assert error.value.exit_code == 5 and error.value.field == "boxes" and 0.1 < error.value.value < 1
    assert list(tmp_path.iterdir()) == []
    export(model, tmp_path / f"spots{SUFFIXES[name]}", name, tolerance=2.0)


def test_export__wrong_graph_of_a_detector_that_finds_nothing(tmp_path, monkeypatch):
    """Without any detection there would be nothing to compare: then all candidates are."""
    forward, predictor = SpotDetector.forward, build(config=SpotsConfig(decode=SpotsDecode(score_threshold=1.0)))
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    assert not len(predictor.predict(noise))

    def forward_with_fault(self, image):
        outputs = forward(self, image)
        return {**outputs, "rows": outputs["rows"] + 0.01} if torch.compiler.is_exporting() else outputs

    export(predictor, tmp_path / "right.pt2", "torch")
    assert load_exported(tmp_path / "right.pt2", "spots").metadata.differences["boxes"] < 1e-3
    monkeypatch.setattr(SpotDetector, "forward", forward_with_fault)
    with pytest.raises(ExportError):
        export(predictor, tmp_path / "wrong.pt2", "torch")
    assert not (tmp_path / "wrong.pt2").exists()


FULL = Path("/dev/full")
"""A disk without free space."""


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_export__full_disk():
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    with pytest.raises(OSError, match="No space left"):
        WRITERS["torch"](program, [], False)(FULL, {})


@pytest.mark.slow
def test_export__openvino_on_a_full_disk_leaves_no_file(model, tmp_path, monkeypatch):
    import openvino

    def fail(network, path, **_):
        Path(path).write_text("half")
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", fail)
    with pytest.raises(DenseVisionError, match="cannot write: RuntimeError: basic_ios"):
        export(model, tmp_path / "x.xml", "openvino")
    assert list(tmp_path.iterdir()) == []


def test_export__model_that_cannot_be_traced(tmp_path, monkeypatch):
    def forward(self, image):
        return {"rows": image if image.sum() > 0 else -image}

    monkeypatch.setattr(SpotDetector, "forward", forward)
    with pytest.raises(ExportError, match="cannot trace"):
        export(build(), tmp_path / "spots.onnx")


def test_export__images_of_the_caller_are_compared(model, tmp_path, images, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "densevision")
    monkeypatch.setattr(logging.getLogger("densevision"), "propagate", True)
    path = export(model, tmp_path / "spots.pt2", "torch", images=images)
    assert load_exported(path).metadata.images == 7 + len(images)
    assert "largest difference from PyTorch in boxes" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"export_format": "onx"}, "Did you mean 'onnx'"),
        ({"export_format": "torch", "out": "spots.onnx"}, r"suffix of torch is \.pt2"),
        ({"tolerance": 0.0}, "above 0"),
        ({"images": []}, "no image"),
    ],
)
def test_export__bad_options(model, options, message):
    with pytest.raises(UsageError, match=message):
        export(model, **options)


def test_export__options_without_effect(files):
    with pytest.raises(UsageError, match="has no effect"):
        export(build(Shift, "shift"), decode=False)
    with pytest.raises(UsageError, match="exported file already"):
        export(load_exported(files["torch"]))


def test_export__without_the_extra(model, files, tmp_path, monkeypatch):
    for module in ("onnxscript", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("onnx", "openvino"):
        with pytest.raises(ExportError, match=r'pip install "densevision\[export\]"'):
            export(model, tmp_path / f"spots{SUFFIXES[name]}", name)
        with pytest.raises(WeightsError, match=r'pip install "densevision\[export\]"'):
            load_exported(files[name])


def test_openvino__has_no_telemetry(files):
    load_exported(files["openvino"])
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize("name", FORMATS)
def test_load_exported__truncated_or_empty(name, files, tmp_path):
    path = tmp_path / files[name].name
    if name == "openvino":
        path.with_suffix(".bin").write_bytes(files[name].with_suffix(".bin").read_bytes())
    data = files[name].read_bytes()
    for count in (0, 100, len(data) // 2):
        path.write_bytes(data[:count])
        with pytest.raises(WeightsError, match="empty" if count == 0 else "damaged"):
            load_exported(path)


def test_load_exported__openvino_without_its_weights(files, tmp_path):
    path = tmp_path / "spots.xml"
    path.write_bytes(files["openvino"].read_bytes())
    with pytest.raises(WeightsError, match=r"spots\.xml.*\.bin"):
        load_exported(path)


def test_load_exported__missing(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        load_exported(tmp_path / "none.onnx")


def test_load_exported__another_task(files):
    with pytest.raises(WeightsError, match=r"another task.*spots"):
        load_exported(files["torch"], "depth")


def write_onnx(source: Path, path: Path, texts: dict[str, str]) -> Path:
    """Copies an ONNX file with other metadata."""
    import onnx

    graph = onnx.load(source)
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, texts)
    onnx.save(graph, path)
    return path


def test_load_exported__without_card(files, tmp_path):
    with pytest.raises(WeightsError, match="no densevision card"):
        load_exported(write_onnx(files["onnx"], tmp_path / "foreign.onnx", {}))


def test_load_exported__newer_schema_and_damaged_metadata(model, files, tmp_path):
    newer = json.dumps({**json.loads(model.card.to_json()), "schema": SCHEMA + 1})
    with pytest.raises(WeightsError, match="newer schema"):
        load_exported(write_onnx(files["onnx"], tmp_path / "newer.onnx", {CARD_KEY: newer, EXPORT_KEY: "{}"}))
    with pytest.raises(WeightsError, match="metadata is damaged"):
        load_exported(
            write_onnx(files["onnx"], tmp_path / "note.onnx", {CARD_KEY: model.card.to_json(), EXPORT_KEY: "{}"})
        )


class Hostile:
    def __reduce__(self):
        return print, ("hostile code",)


def test_load_exported__executes_no_code(files, tmp_path, capsys):
    path = tmp_path / "spots.pt2"
    with zipfile.ZipFile(files["torch"]) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            if not name.endswith(".pt"):
                archive.writestr(name, source.read(name))
        torch.save({"inputs": Hostile()}, tmp_path / "inputs.pt")
        archive.write(tmp_path / "inputs.pt", "spots/data/sample_inputs/model.pt")
    with pytest.raises(WeightsError, match="spots"):
        load_exported(path)
    assert "hostile" not in capsys.readouterr().out
