"""Hostile files are refused with a clear error, without a file or a connection. Numbers refer to SECURITY.md."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import socket
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densevision import api
from densevision.datasets.depth_layouts import read_file_list
from densevision.datasets.format_detection import detect_format
from densevision.errors import DataError, DenseVisionError, UsageError, WeightsError
from densevision.exporting.export import export
from densevision.inference.predictor import TorchPredictor, load_torch
from densevision.io.checkpoint import read_state_dict
from densevision.io.label_issues import LabelIssues
from densevision.io.weights import Card, save_weights
from densevision.limits import LIMITS, check_backbone_options
from densevision.run_config import BackboneConfig
from densevision.tasks import load_config, load_task
from densevision.training.train import make_card, resume
from densevision.yaml_files import read_yaml

MARK = "written-by-the-attacker"


class Run:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for hostile files; afterwards home and working folder are empty, and no connection was tried."""
    home, work, files = (tmp_path / name for name in ("home", "work", "files"))
    for folder in (home, work, files):
        folder.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "TORCH_HOME", "DENSEVISION_CACHE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "fonts"))  # matplotlib caches fonts
    monkeypatch.chdir(work)
    connections: list[Any] = []

    def refuse(*arguments: Any, **options: Any) -> None:
        connections.append(arguments)
        raise OSError("no connection in this test")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    yield files
    assert not connections
    assert not list(home.rglob("*")) and not list(work.rglob("*"))
    assert not list(tmp_path.rglob(f"{MARK}*"))


@pytest.fixture(scope="module")
def model() -> TorchPredictor:
    settings = {"arch": "depth_unet", "backbone.name": "test_resnet", "model.width": 4, "data.size": 64}
    task = load_task("depth")(load_config("depth").resolve(None, settings))
    torch.manual_seed(0)
    return TorchPredictor(task, task.build_model().eval(), make_card(task.config, 3))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in all formats; super-resolution needs no backbone."""
    folder = tmp_path_factory.mktemp("exported")
    task = load_task("superres")(load_config("superres").resolve(None, {"arch": "espcn"}))
    small = TorchPredictor(task, task.build_model().eval(), make_card(task.config, 3))
    for export_format, suffix in (("torch", "pt2"), ("openvino", "xml"), ("onnx", "onnx")):
        export(small, folder / f"model.{suffix}", export_format)
    return folder


def save_with_card(model: TorchPredictor, file: Path, change: Callable[[dict[str, Any]], None], **fields: Any) -> Path:
    config = json.loads(json.dumps(model.card.config))
    change(config)
    save_weights(file, model.model.state_dict(), model.card.replace(config=config, **fields))
    return file


def make_change(dotted: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *path, leaf = dotted.split(".")
        for part in path:
            config = config.setdefault(part, {})
        config[leaf] = value

    return change


# -- 1: options of backbones -------------------------------------------------------------------------------------

OPTIONS = {
    "pretrained": True,
    "pretrained_cfg": {"url": "http://localhost:9/x.pth"},
    "pretrained_cfg_overlay": {"url": "file:///etc/hostname", "hf_hub_id": None},
    "checkpoint_path": "/etc/hostname",
    "cache_dir": f"../{MARK}",
    "scriptable": True,
    "norm_layer": "densevision.errors.UsageError",
    "act_layer": {"url": "x"},
    "embed_dim": 10**9,
    "drop_rate": float("nan"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_1_card__option_of_the_backbone(name: str, guard: Path, model: TorchPredictor) -> None:
    value = None if name == "drop_rate" else OPTIONS[name]
    file = save_with_card(model, guard / "a.safetensors", make_change("backbone.options", {name: value}))
    with pytest.raises(WeightsError) as refusal:
        api.predict(np.zeros((32, 32, 3), np.uint8), weights=file)
    assert refusal.value.field == f"backbone.options.{name}" and refusal.value.file == file


@pytest.mark.parametrize("name", OPTIONS)
def test_1_config__option_of_the_backbone(name: str, guard: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        BackboneConfig(options={name: OPTIONS[name]})
    assert refusal.value.field == f"backbone.options.{name}"
    file = guard / "config.yaml"
    file.write_text(
        json.dumps({"task": "depth", "backbone": {"options": {name: OPTIONS[name]}}}).replace("NaN", ".nan")
    )
    with pytest.raises(UsageError):
        api.train(config=file, data="scenes:4", out=guard / MARK)


def test_1_options__of_the_architecture_are_allowed() -> None:
    check_backbone_options(
        {"pad_type": "same", "drop_path_rate": 0.1, "img_size": [64, 96], "norm_layer": "layernorm2d"}
    )
    assert BackboneConfig(options={"norm_layer": "frozenbatchnorm2d"}).options == {"norm_layer": "frozenbatchnorm2d"}


def test_1_card__option_of_a_decoder(guard: Path) -> None:
    options = {"decoder_options": {"decoder_channels": [10**9, 16]}}
    config = {"task": "semantic", "arch": "unet", "model": options, "classes": ["a", "b"]}
    save_weights(guard / "a.safetensors", {"x": torch.zeros(1)}, Card("semantic", config))
    with pytest.raises(WeightsError) as refusal:
        load_torch(guard / "a.safetensors")
    assert refusal.value.field == "model.decoder_options.decoder_channels"


# -- 2: files and addresses that a card names ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hf-hub:some/model", "hf_hub:some/model", "local-dir:/etc", "file:///etc/hostname"])
def test_2_card__name_of_the_backbone_is_an_address(name: str, guard: Path, model: TorchPredictor) -> None:
    with pytest.raises(WeightsError) as refusal:
        load_torch(save_with_card(model, guard / "a.safetensors", make_change("backbone.name", name)))
    assert refusal.value.field == "backbone.name"


@pytest.mark.parametrize("value", [True, "/etc/hostname", "http://localhost:9/x.pth"])
def test_2_card__pretrained_is_not_followed(value: Any, guard: Path, model: TorchPredictor) -> None:
    loaded = load_torch(save_with_card(model, guard / "a.safetensors", make_change("backbone.pretrained", value)))
    assert loaded.task.config.backbone.pretrained is False
    loaded.configure({"evaluation.align": "median"})
    loaded.predict(np.zeros((32, 32, 3), np.uint8))


def test_2_card__data_is_not_followed(guard: Path, model: TorchPredictor) -> None:
    file = save_with_card(model, guard / "a.safetensors", make_change("data.path", "/etc"))
    with pytest.raises(UsageError) as refusal:
        api.evaluate(weights=file)
    assert refusal.value.field == "data"


def test_2_card__files_of_numbers_and_training_are_not_followed(guard: Path) -> None:
    config = {
        "task": "translation", "arch": "pix2pix_unet", "model": {"width": 4, "depth": 2},
        "data": {"size": 64, "val": "../../x", "max_pixels": 10**15},
        "quality": {"frechet": True, "monitor": "FD", "features": {"name": "resnet18", "pretrained": "/etc/hostname"}},
        "loss": {"perceptual": {"weight": 1.0, "backbone": {"name": "resnet18", "pretrained": True}}},
        "train": {"init_from": "/etc/hostname", "loggers": ["wandb"]},
    }  # fmt: skip
    settings = {"arch": "pix2pix_unet", "model": {"width": 4, "depth": 2}, "data": {"size": 64}}
    task = load_task("translation")(load_config("translation").from_dict(settings))
    save_weights(guard / "a.safetensors", task.build_model().state_dict(), Card("translation", config))
    followed = load_torch(guard / "a.safetensors").task.config
    assert not followed.quality.frechet and followed.train.init_from is None and followed.train.loggers == ()
    assert followed.loss.perceptual.backbone.pretrained is False
    assert followed.data.val is None and followed.data.max_pixels <= 400_000_000
    config["data"]["sides"] = ["../../home", "b"]
    save_weights(guard / "b.safetensors", task.build_model().state_dict(), Card("translation", config))
    with pytest.raises(WeightsError) as refusal:
        load_torch(guard / "b.safetensors")
    assert refusal.value.field == "data.sides"


def test_2_card__lpips_file_is_not_followed(guard: Path) -> None:
    task = load_task("superres")(load_config("superres").resolve(None, {"arch": "espcn"}))
    config = {"task": "superres", "arch": "espcn", "quality": {"lpips": "/etc/hostname"}}
    save_weights(guard / "a.safetensors", task.build_model().state_dict(), Card("superres", config))
    assert load_torch(guard / "a.safetensors").task.config.quality.lpips is None


@pytest.mark.parametrize("arch", [{"a": 1}, ["yolo_n"], 10**400, "os.system"])
def test_2_card__architecture_of_another_type(arch: Any, guard: Path) -> None:
    save_weights(guard / "a.safetensors", {"x": torch.zeros(1)}, Card("detection", {"task": "detection", "arch": arch}))
    with pytest.raises(WeightsError):
        load_torch(guard / "a.safetensors")


@pytest.mark.parametrize("task", ["os", "../depth", "depth.task"])
def test_2_card__task_is_a_module(task: str, guard: Path) -> None:
    save_weights(guard / "a.safetensors", {"x": torch.zeros(1)}, Card(task, {}))
    with pytest.raises(WeightsError):
        load_torch(guard / "a.safetensors")


# -- 3: sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dotted", "value"),
    [("model.width", 10**9), ("backbone.channels", 10**9), ("data.size", 10**6), ("data.workers", 10**6)],
)
def test_3_card__absurd_size(dotted: str, value: int, guard: Path, model: TorchPredictor) -> None:
    if dotted == "data.workers":
        file = save_with_card(model, guard / "a.safetensors", lambda config: None)
        with pytest.raises(UsageError):
            api.load(file, overrides={dotted: value})
        return
    with pytest.raises(WeightsError) as refusal:
        load_torch(save_with_card(model, guard / "a.safetensors", make_change(dotted, value)))
    assert refusal.value.field == dotted


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [
        ("detection", "model.reg_max", 10**9),
        ("detection", "classes", ["x"] * 70_000),
        ("instance", "keypoint_names", ["x"] * 2000),
        ("superres", "model.depth", 10**6),
    ],
)
def test_3_card__absurd_size_of_a_head(task: str, name: str, value: Any, guard: Path) -> None:
    nested: dict[str, Any] = {}
    make_change(name, value)(nested)
    save_weights(guard / "a.safetensors", {"x": torch.zeros(1)}, Card(task, {"task": task, **nested}))
    with pytest.raises(WeightsError) as refusal:
        load_torch(guard / "a.safetensors")
    assert refusal.value.field == name


@pytest.mark.parametrize(
    "options",
    [{"depths": [8192] * 8, "num_heads": [1] * 8}, {"n_resgroups": 2000, "n_resblocks": 2000}, {"num_block": 8192 * 2}],
)
def test_3_card__network_of_millions_of_blocks(options: dict[str, Any], guard: Path) -> None:
    pytest.importorskip("spandrel")
    model = {"architecture": "SwinIR", "options": options}
    card = Card("superres", {"task": "superres", "arch": "spandrel", "model": model})
    save_weights(guard / "a.safetensors", {"x": torch.zeros(1)}, card)
    start = time.process_time()
    with pytest.raises(WeightsError) as refusal:
        load_torch(guard / "a.safetensors")
    assert str(refusal.value.field).startswith("model.options") and time.process_time() - start < 10


def test_3_card__wider_than_the_file(guard: Path, model: TorchPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_with_card(model, guard / "a.safetensors", make_change("model.width", LIMITS["width"]))
    monkeypatch.setattr("safetensors.torch.load_file", None)
    with pytest.raises(WeightsError, match="do not fit"):
        load_torch(file)


def test_3_safetensors__head_of_impossible_size(guard: Path) -> None:
    file = guard / "a.safetensors"
    file.write_bytes(struct.pack("<Q", 1 << 62) + b"{" * 100)
    with pytest.raises(WeightsError):
        load_torch(file)


# -- 4: checkpoints -----------------------------------------------------------------------------------------------


def test_4_checkpoint__pickle(guard: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"x": torch.zeros(1)}, "run": Run(tmp_path / MARK)}, guard / "a.pth")
    (guard / "b.pth").write_bytes(pickle.dumps(Run(tmp_path / MARK)))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(WeightsError):
            read_state_dict(guard / name, "Give weights.")
        with pytest.raises(WeightsError):
            api.load(guard / name, "depth")


def test_4_checkpoint__tensor_larger_than_the_file(guard: Path) -> None:
    torch.save({"x": torch.zeros(1, dtype=torch.float16).expand(1 << 40)}, guard / "a.pth")
    with pytest.raises(WeightsError) as refusal:
        read_state_dict(guard / "a.pth", "Give weights.")
    assert refusal.value.field == "x"


def test_4_backbone__file_that_the_caller_names(guard: Path, tmp_path: Path) -> None:
    from densevision.nn.backbone import Backbone

    torch.save({"x": Run(tmp_path / MARK)}, guard / "a.pth")
    with pytest.raises(WeightsError):
        Backbone("resnet18", pretrained=str(guard / "a.pth"))


# -- 5, 6: ONNX and OpenVINO --------------------------------------------------------------------------------------


def _onnx(change: str, file: Path, source: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(source)
    tensor = onnx.TensorProto(name="extra", data_type=1, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="../../../../etc/hostname")
    if change == "initializer":
        model.graph.initializer.append(tensor)
    elif change == "subgraph":
        inner = onnx.GraphProto(name="inner", initializer=[tensor])
        node = onnx.NodeProto(op_type="If", input=["x"], output=["y"])
        node.attribute.add(name="then_branch", type=5, g=inner)
        model.graph.node.append(node)
    else:
        model.graph.node.append(onnx.NodeProto(op_type="EPContext", domain="com.microsoft", output=["y"]))
    file.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("change", ["initializer", "subgraph", "operator"])
def test_5_onnx__reaches_out_of_its_file(change: str, guard: Path, exported: Path) -> None:
    _onnx(change, guard / "a.onnx", exported / "model.onnx")
    with pytest.raises(WeightsError) as refusal:
        api.load(guard / "a.onnx")
    assert refusal.value.field == ("domain" if change == "operator" else "external_data")


@pytest.mark.parametrize("data", [b"", b"\x0a", b"\x3a\xff\xff\xff\xff\x0f", bytes(range(256)), b"ORTM" * 9])
def test_5_onnx__garbage(data: bytes, guard: Path) -> None:
    (guard / "a.onnx").write_bytes(data)
    with pytest.raises(WeightsError):
        api.load(guard / "a.onnx")


@pytest.mark.parametrize("change", ["entity", "path", "operator", "no-bin", "not-xml"])
def test_6_openvino__reaches_out_of_its_pair(change: str, guard: Path, exported: Path) -> None:
    text = (exported / "model.xml").read_text()
    if change != "no-bin":
        shutil.copy(exported / "model.bin", guard / "a.bin")
    text = {
        "entity": text.replace("<net", '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/hostname">]>\n<net', 1),
        "path": text.replace("<rt_info>", '<rt_info><weights_path value="/etc/hostname"/>', 1),
        "operator": text.replace('version="opset1"', 'version="evil"', 1),
        "not-xml": "ORTM" + text,
    }.get(change, text)
    (guard / "a.xml").write_text(text)
    with pytest.raises(WeightsError):
        api.load(guard / "a.xml")


# -- 7, 8: .pt2 and cards in exports ------------------------------------------------------------------------------


def _archive(source: Path, file: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def _in_graph(edit: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        program = json.loads(members["archive/models/model.json"])
        edit(program)
        members["archive/models/model.json"] = json.dumps(program).encode()

    return change


def _first(program: dict[str, Any]) -> dict[str, Any]:
    return program["graph_module"]["graph"]["nodes"][0]


def _expression(text: str) -> Callable[[dict[str, Any]], None]:
    def edit(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["sym_int_values"]["s99"] = {"as_expr": {"expr_str": text, "hint": None}}

    return edit


def _pickled(members: dict[str, bytes]) -> None:
    data = io.BytesIO()
    torch.save(Run(Path(MARK)), data)
    members["archive/data/sample_inputs/model.pt"] = data.getvalue()


def _use_pickle(members: dict[str, bytes]) -> None:
    name = "archive/data/weights/model_weights_config.json"
    members[name] = members[name].replace(b'"use_pickle": false', b'"use_pickle":true', 1)


ARCHIVES: dict[str, Callable[[dict[str, bytes]], None]] = {
    "function": _in_graph(lambda program: _first(program).update(target="torch.load")),
    "file": _in_graph(lambda program: _first(program).update(target="torch.ops.aten.from_file.default")),
    "call": _in_graph(lambda program: _first(program).update(target="_operator.methodcaller")),
    "loader": _in_graph(lambda program: _first(program).update(target="torch.ops.load_library")),
    "expression": _in_graph(_expression(f"__import__('os').mkdir('{MARK}')")),
    "attribute": _in_graph(_expression("Integer.__class__.__mro__")),
    "power": _in_graph(_expression("9**9**9")),
    "name": _in_graph(lambda program: _first(program).update(name=f"x=__import__('os').mkdir('{MARK}')")),
    "enumeration": _in_graph(
        lambda program: program["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec='[1, {"type": "builtins.dict", "context": "[{\\"__enum__\\": true, \\"fqn\\": \\"evil:X\\"}]",'
            ' "children_spec": []}]'
        )
    ),
    "pickled inputs": _pickled,
    "pickled weights": _use_pickle,
    "compiled": lambda members: members.update({"archive/data/aotinductor/model/x.so": b"x"}),
    "old format": lambda members: members.update({"archive/serialized_state_dict.pt": b"x"}),
    "climbing": lambda members: members.update({"archive/extra/../../x": b"x"}),
    "no graph": lambda members: members.update({"archive/models/model.json": b"[[[["}),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_7_program__hostile(name: str, guard: Path, exported: Path) -> None:
    file = _archive(exported / "model.pt2", guard / "a.pt2", ARCHIVES[name])
    with pytest.raises(WeightsError):
        api.load(file)


def test_7_program__guards_do_not_run(guard: Path, exported: Path) -> None:
    code = f"__import__('os').mkdir('{MARK}') is None"
    file = _archive(exported / "model.pt2", guard / "a.pt2", _in_graph(lambda p: p.update(guards_code=[code])))
    image = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    changed, sound = (api.predict(image, weights=path).image for path in (file, exported / "model.pt2"))
    assert np.array_equal(changed, sound)


@pytest.mark.parametrize(
    ("dotted", "value"), [("backbone.options", {"cache_dir": MARK}), ("model.width", 10**9), ("nothing", 1)]
)
def test_8_export__card__untrusted(dotted: str, value: Any, guard: Path, exported: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        card = json.loads(members["archive/extra/densevision"])
        make_change(dotted, value)(card["config"])
        members["archive/extra/densevision"] = json.dumps(card).encode()

    with pytest.raises(WeightsError) as refusal:
        api.load(_archive(exported / "model.pt2", guard / "a.pt2", change))
    assert str(refusal.value.field).startswith(dotted)


# -- 9: run folders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        "task: depth\nbackbone: {options: {pretrained_cfg_overlay: {url: 'http://localhost:9/x'}}}",
        "task: depth\nbackbone: {name: 'hf-hub:some/model'}\ndata: {path: 'scenes:4', size: 32}",
        "task: os",
        "task: !!python/object/apply:os.mkdir [written-by-the-attacker]",
        "task: depth\ndata: {size: 1000000}",
    ],
)
def test_9_resume__config__untrusted(config: str, guard: Path) -> None:
    (guard / "config.yaml").write_text(config)
    with pytest.raises(DenseVisionError):
        resume(guard, quiet=True)


def test_9_resume__checkpoint__untrusted(guard: Path, tmp_path: Path) -> None:
    (guard / "config.yaml").write_text(
        "task: superres\narch: espcn\ndata: {path: 'scenes:4'}\ntrain: {epochs: 1, batch: 1, device: cpu}"
    )
    torch.save({"state_dict": {}, "run": Run(tmp_path / MARK)}, guard / "last.ckpt")
    with pytest.raises(DataError):
        resume(guard, quiet=True)


# -- 10, 11: datasets and yaml ------------------------------------------------------------------------------------


@pytest.fixture
def secret(guard: Path) -> Path:
    """Images and labels beside the dataset, which it must not read."""
    for folder in ("images", "labels"):
        (guard / "secret" / folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(guard / "secret" / "images" / "a.png")
    (guard / "secret" / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (guard / "set").mkdir()
    return guard / "secret"


@pytest.mark.parametrize("lines", ["path: ../secret\ntrain: images", "train: ../secret/images", "train: {}/images"])
def test_10_yaml__detected_in_a_folder_stays_in_it(lines: str, secret: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = secret.parent / "set"
    (folder / "data.yaml").write_text(f"names: [a]\n{lines.format(secret)}\n")
    with pytest.raises(DataError, match="leads out of the folder"):
        detect_format(str(folder))
    table = detect_format(str(folder / "data.yaml")).splits["train"].read(LabelIssues("fail"), 10**6)
    assert len(table.files) and "leads out of its own folder" in caplog.text


def test_10_coco__file_name_leads_out(secret: Path) -> None:
    for name in ("../secret/images/a.png", str(secret / "images" / "a.png")):
        image = {"id": 1, "file_name": name, "height": 8, "width": 8}
        note = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}
        values = {"images": [image], "annotations": [note], "categories": [{"id": 1, "name": "a"}]}
        file = secret.parent / "set" / "a.json"
        file.write_text(json.dumps(values))
        with pytest.raises(DataError):
            detect_format(str(file)).splits["train"].read(LabelIssues("fail"), 10**6)


def test_10_labelme__image_path_leads_out(secret: Path) -> None:
    from densevision.datasets.object_sources import ObjectSource

    shape = {"label": "a", "points": [[0, 0], [4, 4]], "shape_type": "rectangle"}
    (secret.parent / "set" / "a.json").write_text(
        json.dumps({"shapes": [shape], "imagePath": "../secret/images/a.png"})
    )
    with pytest.raises(DataError):
        ObjectSource("labelme", secret.parent / "set", secret.parent / "set").read(LabelIssues("fail"), 10**6)


def test_10_lists__lead_out(secret: Path) -> None:
    file = secret.parent / "set" / "list.txt"
    file.write_text("../secret/images/a.png ../secret/labels/a.txt\n")
    with pytest.raises(DataError):
        read_file_list(file, secret.parent / "set")


def test_11_yaml__aliases_and_tags(guard: Path) -> None:
    layers = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    layers += [f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    hostile = ["\n".join(layers), "a: &x [*x]", "a: " + "[" * 5000, "a: !!python/name:os.system"]
    for text in hostile:
        (guard / "a.yaml").write_text(text)
        with pytest.raises(UsageError):
            read_yaml(guard / "a.yaml")


def test_guard__detects_a_pickle(tmp_path: Path) -> None:
    """The planted pickle creates a folder where nothing stops it."""
    pickle.loads(pickle.dumps(Run(tmp_path / MARK)))
    assert (tmp_path / MARK).is_dir()
