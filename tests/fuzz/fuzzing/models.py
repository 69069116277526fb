"""Files of models: weights with a card, checkpoints of other projects, and the guards of exports."""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from densevision.inference.card_config import read_card_config
from densevision.io.checkpoint import read_state_dict
from densevision.io.onnx_file import check_onnx
from densevision.io.openvino_file import check_openvino
from densevision.io.torch_program import sanitize_archive
from densevision.io.weights import Card, load_shapes, load_weights, save_weights
from densevision.tasks import load_config
from fuzzing.mutations import mutate_bytes, mutate_safetensors, mutate_text, mutate_zip
from fuzzing.reader import Reader

STATE = {"a.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "a.bias": torch.zeros(2), "b.count": torch.tensor(3)}
XML = """<?xml version="1.0"?>
<net name="Model0" version="11">
<layers><layer id="0" name="image" type="Parameter" version="opset1"><data shape="1,3,?,?" element_type="f32"/>
<output><port id="0" precision="FP32" names="image"><dim>1</dim><dim>3</dim></port></output></layer></layers>
<edges/><rt_info><densevision value="{}"/></rt_info>
</net>
"""


def make_weights() -> bytes:
    config = load_config("detection")().to_dict()
    card = Card("detection", config, ("cat", "dog"), data={"path": "scenes:8"}, metrics={"metrics": {"AP": 0.5}})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        save_weights(path, STATE, card)
        return path.read_bytes()


def make_checkpoints() -> dict[str, bytes]:
    """A training checkpoint as PyTorch writes it since 1.6, and before."""
    content = {"state_dict": STATE, "epoch": 3, "optimizer": {"lr": 0.1, "groups": [1, "a", None]}}
    files = {}
    for name, is_zip in (("zip.pth", True), ("old.pth", False)):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=is_zip)
        files[name] = stream.getvalue()
    return files


def make_program() -> bytes:
    """The members of a .pt2 archive that are checked; the graph is that of an addition."""
    stream = io.BytesIO()
    with torch.no_grad():
        program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, stream, extra_files={"densevision": "{}"})
    return stream.getvalue()


def make_onnx() -> bytes:
    """Messages of an ONNX file down to a tensor, written by hand: field number and length before each."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    tensor = b"\x08\x01\x10\x01" + field(8, b"w") + field(9, np.zeros(1, "<f4").tobytes())
    node = field(1, b"x") + field(2, b"y") + field(4, b"Add") + field(5, field(1, b"value") + field(5, tensor))
    graph = field(1, node) + field(2, b"main") + field(5, tensor)
    return b"\x08\x08" + field(2, b"pytorch") + field(7, graph) + field(8, b"\x10\x12")


def read_weights_file(path: Path, rng: random.Random) -> Sequence[str]:
    """Header, card, config within its limits, and tensors."""
    load_shapes(path)
    tensors, card = load_weights(path)
    read_card_config(card, path)
    assert all(tensor.device.type == "cpu" for tensor in tensors.values())
    return ()


def safetensors_refuses(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_tensor(name)
    except Exception:
        return True
    return False


def read_checkpoint(path: Path, rng: random.Random) -> Sequence[str]:
    tensors = read_state_dict(path, "Give weights.")
    assert all(tensor.numel() * tensor.element_size() <= 1 << 20 for tensor in tensors.values())
    return ()


def torch_refuses(path: Path) -> bool:
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        return True
    return False


def read_onnx(path: Path, rng: random.Random) -> Sequence[str]:
    check_onnx(path)
    return ()


def read_openvino(path: Path, rng: random.Random) -> Sequence[str]:
    check_openvino(path)
    return ()


def read_program(path: Path, rng: random.Random) -> Sequence[str]:
    sanitize_archive(path)
    return ()


READERS = [
    Reader(
        "weights",
        {"a.safetensors": make_weights()},
        read_weights_file,
        refuses=safetensors_refuses,
        mutate=mutate_safetensors,
    ),
    Reader("checkpoint", make_checkpoints(), read_checkpoint, refuses=torch_refuses, mutate=mutate_bytes),
    Reader(
        "checkpoint-members",
        {"zip.pth": make_checkpoints()["zip.pth"]},
        read_checkpoint,
        refuses=torch_refuses,
        mutate=mutate_zip,
    ),
    Reader("onnx", {"a.onnx": make_onnx()}, read_onnx),
    Reader(
        "openvino",
        {"a.xml": XML.encode()},
        read_openvino,
        lambda folder: (folder / "a.bin").write_bytes(b"\0" * 8),
        mutate=mutate_text,
    ),
    Reader("pt2", {"a.pt2": make_program()}, read_program, mutate=mutate_zip),
]
