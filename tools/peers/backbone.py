"""A timm encoder alone: the feature pyramid of a ResNet-50."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from densevision.inference.device import pick_device, pick_precision
from densevision.nn.backbone import Backbone
from densevision.nn.inference_form import make_inference_form
from peers import OURS, Call, Row, run_in_bfloat16

__all__ = ["ROWS"]

SIDE = 640


class Encoder(nn.Module):
    """The pyramid as a network with named inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone("resnet50", pretrained=False)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return self.backbone(image)[1:]


def prepare(folder: Path) -> dict[str, Call]:
    """The inference form beside OpenVINO and `torch.compile` on the same weights."""
    import openvino

    network = Encoder().eval()
    image = torch.rand(1, 3, SIDE, SIDE)
    calls: dict[str, Call] = {}
    for name, dtype in (("float32", torch.float32), ("auto", _pick_dtype())):
        form = make_inference_form(network, {"image": image[..., :64, :64]}, dtype=dtype)
        calls[f"{OURS} {name}"] = _run_form(form, image, dtype)
    compiled = torch.compile(network)
    calls["torch.compile float32"] = lambda: compiled(image)
    calls["torch.compile bfloat16"] = run_in_bfloat16(lambda: compiled(image))
    converted = openvino.convert_model(network, example_input={"image": image})
    array = image.numpy()
    for name, precision in (("float32", "f32"), ("bfloat16", "bf16")):
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        runtime = openvino.Core().compile_model(converted, "CPU", options)
        calls[f"OpenVINO {name}"] = lambda runtime=runtime: runtime(array)
    return calls


def _pick_dtype() -> torch.dtype:
    return getattr(torch, pick_precision("auto", pick_device("cpu")))


def _run_form(form: nn.Module, image: torch.Tensor, dtype: torch.dtype) -> Call:
    laid_out = image.contiguous(memory_format=torch.channels_last)

    def run() -> Any:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return form(image=laid_out)

    return run


ROWS = {"resnet50": Row("ResNet-50 pyramid, 640 x 640", prepare, ("openvino",), 0.87)}
