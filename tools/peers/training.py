"""A training step of a nano detector."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densevision.datasets.scenes import Scenes
from densevision.inference.device import pick_device, pick_precision
from densevision.inference.loader import Collate
from densevision.inference.predictor import build_without_weights
from densevision.results import Detections
from densevision.sample import Sample
from densevision.training.loop import LossModule
from peers import OURS, Call, Row

__all__ = ["ROWS"]

SIDE = 640
BATCH = 8
OBJECTS = 7
"""Objects of each image: COCO's mean."""


def prepare(folder: Path) -> dict[str, Call]:
    """Losses, gradients and a step of SGD on the same boxes, in float32 and in bfloat16."""
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    images = torch.stack(
        [torch.from_numpy(Scenes(1, seed, (SIDE, SIDE))[0].image).permute(2, 0, 1) for seed in range(BATCH)]
    )
    centers = torch.rand(BATCH * OBJECTS, 4) * 0.5 + 0.25
    boxes = torch.cat([centers[:, :2], centers[:, 2:] * 0.4], 1)
    labels = torch.randint(0, 80, (BATCH * OBJECTS,))
    peer = DetectionModel("yolo11n.yaml", verbose=False).train()
    peer.args = get_cfg()
    batch = {
        "img": images.float() / 255,
        "batch_idx": torch.arange(BATCH).repeat_interleave(OBJECTS).float(),
        "cls": labels[:, None].float(),
        "bboxes": boxes,
    }
    auto = getattr(torch, pick_precision("auto", pick_device("cpu")))
    calls: dict[str, Call] = {}
    for name, dtype in (("float32", torch.float32), ("auto", auto)):
        calls[f"{OURS} {name}"] = _prepare_ours(images, boxes, labels, dtype)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        calls[f"ultralytics {name}"] = _make_step(peer, lambda: peer.loss(batch)[0].sum(), dtype)
    return calls


def _prepare_ours(images: Tensor, boxes: Tensor, labels: Tensor, dtype: torch.dtype) -> Call:
    settings = {"arch": "yolo_n", "classes": [str(number) for number in range(80)], "data.size": SIDE}
    model = build_without_weights("detection", settings)
    names = model.task.config.classes
    corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1) * SIDE
    samples = [
        Sample(
            {"image": image.permute(1, 2, 0).numpy()},
            Detections.from_arrays(corners[rows].numpy(), labels[rows].numpy(), names, (SIDE, SIDE)),
        )
        for image, rows in zip(images, torch.arange(BATCH * OBJECTS).reshape(BATCH, OBJECTS))
    ]
    batch = Collate(model.task)(samples)
    module = LossModule(model.model.train(), None)
    compute_losses = partial(model.task.compute_losses, batch=batch, training_modules=None, optimizer_name="net")
    return _make_step(module, lambda: sum(module(compute_losses).values()), dtype)


def _make_step(network: nn.Module, compute_loss: Any, dtype: torch.dtype) -> Call:
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 1e-6)

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = compute_loss()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


ROWS = {
    "training_step": Row(
        f"training step of a nano detector, {BATCH} images of {SIDE} x {SIDE}",
        prepare,
        ("ultralytics",),
        1.25,
        needs_gradients=True,
    )
}
