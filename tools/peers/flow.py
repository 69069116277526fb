"""RAFT with the same random weights in torchvision and here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmark_flow import ITERATIONS, SIZE
from torchvision.models import optical_flow

import densevision
from densevision.datasets.scenes import Scenes
from densevision.published_weights import convert_weights
from peers import Call, Row, predict_in_precisions, run_in_bfloat16

__all__ = ["ROWS"]


def prepare(name: str, folder: Path) -> dict[str, Call]:
    """Two frames of Sintel's size, twelve refinements."""
    reference = getattr(optical_flow, name)(weights=None).eval()
    torch.save(reference.state_dict(), folder / "published.pth")
    convert_weights(f"torchvision/{name}", folder / "published.pth", folder / "ours.safetensors")
    model = densevision.load(folder / "ours.safetensors")
    scene = Scenes(1, 0, SIZE)[0]
    pair = (scene.image, scene.next)
    first, second = (torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in pair)

    def predict() -> Any:
        return reference(first, second, num_flow_updates=ITERATIONS)[-1]

    return {
        **predict_in_precisions(model, pair, iterations=ITERATIONS),
        "torchvision float32": predict,
        "torchvision bfloat16": run_in_bfloat16(predict),
    }


ROWS = {
    name: Row(f"RAFT {name[5:]}, 440 x 1024, 12 iterations", partial(prepare, name), ("torchvision",), target)
    for name, target in (("raft_large", 2.0), ("raft_small", 2.3))
}
