"""Measures Mask R-CNN beside torchvision's on the same weights and images: at 800 pixels, and a training step.

    python tools/benchmark_instance.py [inference] [training] [--images FOLDER] [--repeats N] [--out FILE]

Both take turns, image by image, so that a busy machine is busy for both; the shortest time of each counts. Weights
are random, and a hundred objects are found with them: the work is at least that of trained ones. Times are those of the
processor, summed over its threads, so that waiting for it does not count.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

import densevision
from densevision.datasets.scenes import Scenes
from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchPredictor
from densevision.io.image import read_image
from densevision.published_weights import convert
from densevision.results import Instances
from densevision.sample import Sample

NAME = "torchvision/maskrcnn_resnet50_fpn"
LEAST = 0.05
"""Lowest score of an object; torchvision's default."""


def networks(folder: Path) -> tuple[nn.Module, TorchPredictor]:
    """torchvision's network with random weights, and ours with the same."""
    torch.manual_seed(0)
    body = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )  # as its published weights are run
    reference = MaskRCNN(body, 91, box_score_thresh=LEAST).eval()
    torch.save(reference.state_dict(), folder / "theirs.pth")
    convert(NAME, folder / "theirs.pth", folder / "ours.safetensors")
    return reference, densevision.load(folder / "ours.safetensors")


def load_images(folder: str | None, count: int) -> list[np.ndarray]:
    """Photographs of a folder, or scenes where none is given; (H, W, 3) uint8 each."""
    if folder is None:
        return [Scenes(1, seed, (480, 640))[0].image for seed in range(count)]
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    return [read_image(path)[..., :3] for path in files[:count]]


def inference(reference: nn.Module, model: TorchPredictor, images: list[np.ndarray], repeats: int) -> dict[str, Any]:
    """Seconds per image of both, in float32 and as `precision auto` chooses, and how far the answers are apart."""

    def theirs(image: np.ndarray) -> dict[str, Tensor]:
        with torch.inference_mode():
            return reference([torch.from_numpy(image).permute(2, 0, 1).float() / 255])[0]

    def ours(image: np.ndarray, precision: str) -> Instances:
        return model.predict(image, score_threshold=LEAST, precision=precision)

    contestants: dict[str, Callable[[np.ndarray], Any]] = {
        "torchvision": theirs,
        "float32": lambda image: ours(image, "float32"),
        "auto": lambda image: ours(image, "auto"),
    }
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in images] for name in contestants}
    answers: list[dict[str, Any]] = [{} for _ in images]
    for _ in range(repeats + 1):  # the first round warms up
        for row, image in enumerate(images):
            for name, contestant in contestants.items():
                taken, answers[row][name] = _timed(lambda one=contestant, given=image: one(given))
                seconds[name][row].append(taken)
    least = {name: sum(min(times[1:]) for times in rows) / len(images) for name, rows in seconds.items()}
    return {
        "seconds_per_image": least,
        "times_faster_float32": least["torchvision"] / least["float32"],
        "times_faster_auto": least["torchvision"] / least["auto"],
        "auto_is": model.precision(model.options.changed(precision="auto")),
        "float32_beside_torchvision": _apart([(one["torchvision"], one["float32"]) for one in answers]),
        "runs": seconds,
    }


def training(reference: nn.Module, model: TorchPredictor, images: list[np.ndarray], repeats: int) -> dict[str, Any]:
    """Seconds of a training step of two images: losses, gradients, and a step of SGD."""
    samples = [Sample({"image": image}, _truth(model, image, seed)) for seed, image in enumerate(images[:2])]
    batch = Collate(model.task)(samples)
    sizes = batch.inputs["size"].long().tolist()
    given = [image[:, :height, :width] for image, (height, width) in zip(batch.inputs["image"], sizes)]
    targets = [
        {
            "boxes": batch.targets["boxes"][row],
            "labels": batch.targets["labels"][row] + 1,
            "masks": batch.targets["masks"][row, :, :height, :width].to(torch.uint8),
        }
        for row, (height, width) in enumerate(sizes)
    ]
    reference.train()
    reference.transform._skip_resize = True
    net = model.model.train()
    losses = {
        "torchvision": (reference, lambda: reference(given, targets)),
        "ours": (net, lambda: model.task.compute_losses(net, batch, None, "net")),
    }
    optimizers = {name: torch.optim.SGD(module.parameters(), 1e-6) for name, (module, _) in losses.items()}
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    found: dict[str, dict[str, float]] = {}

    def step(name: str) -> dict[str, float]:
        torch.manual_seed(1)
        parts = losses[name][1]()
        sum(parts.values()).backward()
        optimizers[name].step()
        optimizers[name].zero_grad()
        return {part: float(value.detach()) for part, value in parts.items()}

    for _ in range(repeats + 1):
        for name in losses:
            taken, found[name] = _timed(lambda chosen=name: step(chosen))
            seconds[name].append(taken)
    least = {name: min(times[1:]) for name, times in seconds.items()}
    ratio = least["torchvision"] / least["ours"]
    return {"seconds_per_step": least, "times_faster": ratio, "losses": found, "runs": seconds}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    answer = call()
    return time.process_time() - start, answer


def _truth(model: TorchPredictor, image: np.ndarray, seed: int) -> Instances:
    """Eight elliptic objects."""
    from densevision.ops.masks import compute_areas, compute_boxes, encode

    rng, size = np.random.default_rng(seed), image.shape[:2]
    y, x = np.ogrid[: size[0], : size[1]]
    masks = []
    for _ in range(8):
        (row, column), (tall, wide) = rng.random(2) * size, 20 + rng.random(2) * 80
        masks.append(encode(((y - row) / tall) ** 2 + ((x - column) / wide) ** 2 <= 1))
    names = model.task.config.classes
    labels = rng.integers(0, len(names), len(masks))
    return Instances.from_arrays(compute_boxes(masks), labels, names, size, masks=tuple(masks), areas=compute_areas(masks))


def _apart(pairs: list[tuple[dict[str, Tensor], Instances]]) -> dict[str, float]:
    """How many objects have a twin of the same class within 0.01 pixels, and how far the twins are apart.

    Objects whose scores are equal up to rounding change places, and of those that overlap either may stay.
    """
    score, count, twins, pixels, differing = 0.0, 0, 0, 0, 0
    for want, own in pairs:
        masks = want["masks"][:, 0].numpy() > 0.5
        count += len(masks)
        for box, strength, label, mask in zip(*(want[key].numpy() for key in ("boxes", "scores", "labels")), masks):
            apart = np.abs(own.boxes - box).max(1, initial=0) + (own.labels + 1 != label) * 1e9
            near = np.flatnonzero(apart < 0.01)
            if len(near):
                row = near[np.abs(own.scores[near] - strength).argmin()]
                twins, score = twins + 1, max(score, float(abs(own.scores[row] - strength)))
                pixels, differing = pixels + int(mask.sum()), differing + int((own[[row]].dense()[0] != mask).sum())
    return {"objects": count, "twins": twins, "scores": score, "mask_pixels": differing / max(pixels, 1)}


PARTS = {"inference": inference, "training": training}


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--images", "folder", type=click.Path(exists=True, file_okay=False), help="Photographs; else scenes.")
@click.option("--count", default=2, show_default=True, help="How many images.")
@click.option("--repeats", default=3, show_default=True, help="Rounds that count.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the figures as JSON.")
def main(parts: tuple[str, ...], folder: str | None, count: int, repeats: int, out: str | None) -> None:
    figures: dict[str, Any] = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "densevision": densevision.__version__,
        "weights": f"{NAME}, random",
    }
    images = load_images(folder, count)
    figures["images"] = [list(image.shape[:2]) for image in images]
    with tempfile.TemporaryDirectory() as scratch:
        reference, model = networks(Path(scratch))
        for part in parts or PARTS:
            figures[part] = PARTS[part](reference, model, images, repeats)
            runs = figures[part].get("runs")
            shown = {name: value for name, value in figures[part].items() if value is not runs}
            click.echo(json.dumps({part: shown}, indent=1))
    if out:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
