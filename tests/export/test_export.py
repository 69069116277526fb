"""Exports answer as PyTorch does, hold what they say, and are refused when they do not."""

from __future__ import annotations

import json
import logging
import sys
import zipfile
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import nn

from densevision.config import Config
from densevision.datasets.scenes import Scenes
from densevision.errors import DenseVisionError, ExportError, UsageError, WeightsError
from densevision.export import exported_predictor as exported
from densevision.export.export import _WRITERS, SUFFIXES, export
from densevision.export.exported_predictor import CARD, STAMP, load_exported
from densevision.inference.predictor import TorchModel
from densevision.io.weights import SCHEMA, Card
from densevision.ops.boxes import nms_dense
from densevision.results import Detections
from densevision.run_config import PredictOptions, TaskConfig
from densevision.sample import InputSpec
from densevision.tasks.base import DenseModel, Task

pytestmark = pytest.mark.export
FORMATS = tuple(SUFFIXES)
ONE_QUICK = [pytest.param(form, marks=() if form == "torch" else pytest.mark.slow) for form in FORMATS]
"""Every format; by default only the one that is translated no further."""


class SpotsDecode(Config):
    score_threshold: float = 0.6
    max_detections: int = 12
    nms: float = 0.3


class SpotsConfig(TaskConfig):
    task: Literal["spots"] = "spots"
    decode: SpotsDecode = SpotsDecode()


class Encoder(nn.Module):
    channels, strides = (3, 8), (1, 4)

    def __init__(self):
        super().__init__()
        self.deep = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1))

    def forward(self, image):
        return [image, self.deep(image - 0.5)]


class SpotsHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.predict = nn.Conv2d(8, 5, 1)

    def forward(self, image):
        rows = self.predict(image[1])
        height, width = rows.shape[2:]
        y, x = torch.meshgrid(torch.arange(height) * 4.0, torch.arange(width) * 4.0, indexing="ij")
        rows = rows + 1e-3 * x + 1e-4 * y  # no two scores are equal, not even on the padding
        return {"rows": rows.flatten(2).transpose(1, 2), "anchors": torch.stack([x, y], -1).flatten(0, 1)}


class Spots(Task):
    """A detector small enough to be exported in seconds."""

    name, Config, Result, monitor = "spots", SpotsConfig, Detections, ("AP", "max")
    supported_options = frozenset({"score_threshold", "max_detections", "iou_threshold"})
    inputs: ClassVar = {"image": InputSpec(how="letterbox", size=96, multiple_of=32, minimum=32)}

    def encoder(self):
        return Encoder()

    def head(self, channels, strides):
        return SpotsHead()

    def evaluation_options(self):
        return PredictOptions(score_threshold=0.05)

    def answers(self, outputs, options):
        decode = self.config.decode
        least = decode.score_threshold if options.score_threshold is None else options.score_threshold
        limit = options.max_detections or decode.max_detections
        strength, order = outputs["rows"][..., 4].sigmoid().topk(24)
        sides = outputs["rows"].gather(1, order[..., None].expand(-1, -1, 5))[..., :4].abs() * 30
        anchors = outputs["anchors"][order]
        boxes = torch.cat([anchors - sides[..., :2], anchors + sides[..., 2:] + 1], -1)
        keep = nms_dense(
            boxes, strength >= least, decode.iou_threshold if options.iou_threshold is None else options.iou_threshold
        )
        rank = torch.arange(24)
        order = torch.where(keep, rank, rank + 24).topk(limit, largest=False).indices
        return {
            "boxes": boxes.gather(1, order[..., None].expand(-1, -1, 4)),
            "scores": strength.gather(1, order),
            "valid": keep.gather(1, order),
        }

    def results(self, answers, views, options):
        rows = zip(views, *(answers[name].numpy() for name in ("boxes", "scores", "valid")))
        return [
            Detections.of(
                view.boxes_to_original(boxes[valid]), [0] * valid.sum(), ["spot"], view.original, scores=scores[valid]
            )
            for view, boxes, scores, valid in rows
        ]

    dataset = unlabeled = targets = losses = encode = metric = None


class Shift(Spots):
    """Two images by name, and outputs that are the answers."""

    inputs: ClassVar = {"image": InputSpec(multiple_of=8), "next": InputSpec(multiple_of=8)}
    supported_options = frozenset({"iterations"})
    answers = Task.answers

    def forward_kwargs(self, options):
        return {"iterations": options.iterations or 2}

    def head(self, channels, strides):
        class Difference(nn.Module):
            def forward(self, image, next, iterations):
                difference = image[1] - iterations * next[1]
                return {"flow": nn.functional.interpolate(difference, scale_factor=4.0)[:, :2]}

        return Difference()


@pytest.fixture(autouse=True, scope="module")
def known_tasks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exported, "load_task", {"spots": Spots, "shift": Shift}.get)
        patch.setattr(exported, "load_config", lambda name: SpotsConfig)
        yield


def built(task_class: type[Task] = Spots, name: str = "spots") -> TorchModel:
    torch.manual_seed(0)
    task = task_class(SpotsConfig())
    net = DenseModel(task.encoder(), task.head((3, 8), (1, 4)), task.inputs).eval()
    if task_class is Spots:
        nn.init.normal_(net.encoder.deep[0].weight, std=0.5)
        nn.init.normal_(net.head.predict.weight)
    return TorchModel(task, net, Card(name, task.config.plain(), ("spot",), license="none"))


@pytest.fixture(scope="module")
def model() -> TorchModel:
    return built()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return {form: export(model, folder / f"spots{suffix}", form) for form, suffix in SUFFIXES.items()}


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    sizes = ((64, 96), (97, 131), (33, 20), (15, 70), (200, 150))
    return [Scenes(1, seed, size)[0].image for seed, size in enumerate(sizes)]


def assert_alike(ours: list[Detections], theirs: list[Detections], tolerance: float = 1e-3) -> int:
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == len(other)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=tolerance)
        np.testing.assert_allclose(one.scores, other.scores, atol=tolerance)
    return sum(map(len, ours))


@pytest.mark.parametrize("form", FORMATS)
def test_export__predicts_as_the_weights_do(form, model, files, images):
    again = load_exported(files[form], "spots")
    found = assert_alike(
        model.predict(images, precision="float32"), again.predict(images, batch=2, precision="float32")
    )
    assert found >= 5
    assert again.card == model.card
    assert again.task.config == model.task.config


@pytest.mark.parametrize("form", FORMATS)
def test_export__stores_the_differences_that_it_found(form, files):
    stamp = load_exported(files[form]).stamp
    assert set(stamp.differences) == {"boxes", "scores"}
    assert all(0 <= difference < 1e-3 for difference in stamp.differences.values())
    assert stamp.images >= 6
    assert stamp.decoded and stamp.options["score_threshold"] == 0.05 and stamp.inputs["image"]["multiple_of"] == 32


@pytest.mark.parametrize("form", FORMATS)
def test_export__stricter_options_are_followed_and_others_refused(form, model, files, images):
    again = load_exported(files[form])
    stricter = {"score_threshold": 0.65, "max_detections": 3}
    assert_alike(model.predict(images, **stricter, precision="float32"), again.predict(images, **stricter))
    for option, value in (("iou_threshold", 0.5), ("max_detections", 20), ("score_threshold", 0.01)):
        with pytest.raises(UsageError, match=f"{option}.*for good"):
            again.predict(images[0], **{option: value})
    with pytest.raises(UsageError, match="computes in float32"):
        again.predict(images[0], precision="bfloat16")


def test_configure__changes_data_but_not_the_network(files):
    again = load_exported(files["torch"])
    again.configure({"data.path": "scenes:4"})
    assert again.task.config.data.path == "scenes:4"
    with pytest.raises(UsageError, match="holds its network for good"):
        again.configure({"backbone.name": "resnet50"})


def test_export__onnx_names_its_ends_and_keeps_no_paths(files):
    import onnx

    graph = onnx.load(files["onnx"]).graph
    assert [value.name for value in graph.input] == ["image"]
    assert [value.name for value in graph.output] == ["boxes", "scores", "valid"]
    axes = [axis.dim_param or axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "height", "width"]
    assert str(Path(__file__).parent).encode() not in files["onnx"].read_bytes()
    with zipfile.ZipFile(files["torch"]) as archive:
        assert not any(str(Path(__file__).parent).encode() in archive.read(name) for name in archive.namelist())


def test_export__raw_leaves_every_option_open(model, tmp_path, images):
    again = load_exported(export(model, tmp_path / "raw.pt2", "torch", decode=False))
    options = {"iou_threshold": 0.9, "score_threshold": 0.2}
    assert_alike(model.predict(images, **options, precision="float32"), again.predict(images, **options))


@pytest.mark.parametrize("form", ONE_QUICK)
def test_export__half_is_smaller_and_near(form, model, files, tmp_path, images):
    path = export(model, tmp_path / f"half{SUFFIXES[form]}", form, decode=False, half=True)
    again = load_exported(path)
    assert again.stamp.half and 0 < max(again.stamp.differences.values()) < 1e-2
    with pytest.raises(UsageError, match="computes in float16"):
        again.predict(images[0], precision="float32")


@pytest.mark.parametrize("form", ONE_QUICK)
def test_export__several_images_by_name(form, tmp_path, images):
    model = built(Shift, "shift")
    again = load_exported(export(model, tmp_path / f"shift{SUFFIXES[form]}", form))
    inputs = {"image": torch.rand(1, 3, 40, 56), "next": torch.rand(1, 3, 40, 56)}
    swapped = {"next": inputs["next"], "image": inputs["image"]}
    options = PredictOptions(precision="float32")
    torch.testing.assert_close(again.answers(swapped, options)["flow"], model.answers(inputs, options)["flow"])
    with pytest.raises(UsageError, match=r"iterations.*for good"):
        again.answers(inputs, PredictOptions(iterations=3))


@pytest.mark.parametrize("form", ONE_QUICK)
def test_export__a_graph_that_answers_otherwise_leaves_no_file(form, model, tmp_path, monkeypatch):
    predict = SpotsHead.forward

    def forward(self, image):
        outputs = predict(self, image)
        return {**outputs, "rows": outputs["rows"] + 0.01} if torch.compiler.is_exporting() else outputs

    monkeypatch.setattr(SpotsHead, "forward", forward)
    with pytest.raises(ExportError, match=r"boxes: differs from PyTorch's .*got 0.\d+") as caught:
        export(model, tmp_path / f"spots{SUFFIXES[form]}", form)
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []
    export(model, tmp_path / f"spots{SUFFIXES[form]}", form, tolerance=2.0)


FULL = Path("/dev/full")
"""A disk without space."""


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_export__torch_says_that_the_disk_is_full():
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    with pytest.raises(OSError, match="No space left"):
        _WRITERS["torch"](program, [], False)(FULL, {})


@pytest.mark.slow
def test_export__openvino_that_cannot_write_leaves_no_file(model, tmp_path, monkeypatch):
    import openvino

    def full(network, path, **_):
        Path(path).write_text("half")
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", full)
    with pytest.raises(DenseVisionError, match="cannot write: RuntimeError: basic_ios"):
        export(model, tmp_path / "x.xml", "openvino")
    assert list(tmp_path.iterdir()) == []


def test_export__tells_why_a_network_cannot_be_traced(tmp_path, monkeypatch):
    def forward(self, image):
        return {"rows": image[1] if image[1].sum() > 0 else -image[1]}

    monkeypatch.setattr(SpotsHead, "forward", forward)
    with pytest.raises(ExportError, match="cannot trace"):
        export(built(), tmp_path / "spots.onnx")


def test_export__own_images_are_compared_too(model, tmp_path, images, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "densevision")
    monkeypatch.setattr(logging.getLogger("densevision"), "propagate", True)
    path = export(model, tmp_path / "spots.pt2", "torch", images=images)
    assert load_exported(path).stamp.images == 7 + len(images)
    assert "largest difference from PyTorch in boxes" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onx"}, "Did you mean 'onnx'"),
        ({"format": "torch", "out": "spots.onnx"}, "ends in .pt2"),
        ({"tolerance": 0.0}, "above 0"),
        ({"images": []}, "no image"),
    ],
)
def test_export__options_that_mean_nothing(model, options, message):
    with pytest.raises(UsageError, match=message):
        export(model, **options)


def test_export__refuses_what_has_no_effect(files):
    with pytest.raises(UsageError, match="has no effect"):
        export(built(Shift, "shift"), decode=False)
    with pytest.raises(UsageError, match="is an export already"):
        export(load_exported(files["torch"]))


def test_export__without_the_extra(model, files, tmp_path, monkeypatch):
    for module in ("onnxscript", "onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    for form in ("onnx", "openvino"):
        with pytest.raises(ExportError, match=r'pip install "densevision\[export\]"'):
            export(model, tmp_path / f"spots{SUFFIXES[form]}", form)
        with pytest.raises(WeightsError, match=r'pip install "densevision\[export\]"'):
            load_exported(files[form])


def test_openvino__has_no_one_to_report_to(files):
    load_exported(files["openvino"])
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize("form", FORMATS)
def test_load_exported__truncated_or_empty(form, files, tmp_path):
    path = tmp_path / files[form].name
    if form == "openvino":
        path.with_suffix(".bin").write_bytes(files[form].with_suffix(".bin").read_bytes())
    data = files[form].read_bytes()
    for count in (0, 100, len(data) // 2):
        path.write_bytes(data[:count])
        with pytest.raises(WeightsError, match="empty" if count == 0 else "damaged"):
            load_exported(path)


def test_load_exported__openvino_without_its_weights(files, tmp_path):
    path = tmp_path / "spots.xml"
    path.write_bytes(files["openvino"].read_bytes())
    with pytest.raises(WeightsError, match=r"damaged.*bin file"):
        load_exported(path)


def test_load_exported__missing(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        load_exported(tmp_path / "none.onnx")


def test_load_exported__another_task(files):
    with pytest.raises(WeightsError, match=r"another task.*spots"):
        load_exported(files["torch"], "depth")


def with_texts(source: Path, path: Path, texts: dict[str, str]) -> Path:
    """The ONNX file with other metadata."""
    import onnx

    graph = onnx.load(source)
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, texts)
    onnx.save(graph, path)
    return path


def test_load_exported__foreign(files, tmp_path):
    with pytest.raises(WeightsError, match="no densevision card"):
        load_exported(with_texts(files["onnx"], tmp_path / "foreign.onnx", {}))


def test_load_exported__newer_schema_and_damaged_note(model, files, tmp_path):
    newer = json.dumps({**json.loads(model.card.to_json()), "schema": SCHEMA + 1})
    with pytest.raises(WeightsError, match="newer schema"):
        load_exported(with_texts(files["onnx"], tmp_path / "newer.onnx", {CARD: newer, STAMP: "{}"}))
    with pytest.raises(WeightsError, match="note of the export"):
        load_exported(with_texts(files["onnx"], tmp_path / "note.onnx", {CARD: model.card.to_json(), STAMP: "{}"}))


class Mine:
    def __reduce__(self):
        return print, ("code of a stranger",)


def test_load_exported__runs_no_code_of_strangers(files, tmp_path, capsys):
    path = tmp_path / "spots.pt2"
    with zipfile.ZipFile(files["torch"]) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            if not name.endswith(".pt"):
                archive.writestr(name, source.read(name))
        torch.save({"inputs": Mine()}, tmp_path / "inputs.pt")
        archive.write(tmp_path / "inputs.pt", "spots/data/sample_inputs/model.pt")
    with pytest.raises(WeightsError, match="harmful"):
        load_exported(path)
    assert "stranger" not in capsys.readouterr().out
