"""Measures Mask R-CNN against torchvision's on the same weights and images: inference at 800 pixels, a training step.

    python tools/benchmark_instance.py [inference] [training] [--images FOLDER] [--repeats N] [--out FILE]

Both take turns, image by image, so that other load on the machine affects both; the shortest time of each counts.
Weights are random and give a hundred objects, at least as much work as trained ones. Times are CPU times, summed over
threads.
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
from densevision.published_weights import convert_weights
from densevision.results import Instances
from densevision.sample import Sample

NAME = "torchvision/maskrcnn_resnet50_fpn"
SCORE_THRESHOLD = 0.05
"""torchvision's default."""


def build_networks(folder: Path) -> tuple[nn.Module, TorchPredictor]:
    """torchvision's network with random weights, and ours with the same."""
    torch.manual_seed(0)
    body = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )  # as for its published weights
    reference = MaskRCNN(body, 91, box_score_thresh=SCORE_THRESHOLD).eval()
    torch.save(reference.state_dict(), folder / "torchvision.pth")
    convert_weights(NAME, folder / "torchvision.pth", folder / "ours.safetensors")
    return reference, densevision.load(folder / "ours.safetensors")


def load_images(folder: str | None, count: int) -> list[np.ndarray]:
    """Photographs of a folder, or scenes without one; (H, W, 3) uint8 each."""
    if folder is None:
        return [Scenes(1, seed, (480, 640))[0].image for seed in range(count)]
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    return [read_image(path)[..., :3] for path in files[:count]]


def measure_inference(
    reference: nn.Module, model: TorchPredictor, images: list[np.ndarray], repeats: int
) -> dict[str, Any]:
    """Seconds per image of both, in float32 and with `precision=auto`, and the difference of their results."""

    def run_torchvision(image: np.ndarray) -> dict[str, Tensor]:
        with torch.inference_mode():
            return reference([torch.from_numpy(image).permute(2, 0, 1).float() / 255])[0]

    def run_ours(image: np.ndarray, precision: str) -> Instances:
        return model.predict(image, score_threshold=SCORE_THRESHOLD, precision=precision)

    runners: dict[str, Callable[[np.ndarray], Any]] = {
        "torchvision": run_torchvision,
        "float32": lambda image: run_ours(image, "float32"),
        "auto": lambda image: run_ours(image, "auto"),
    }
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in images] for name in runners}
    results: list[dict[str, Any]] = [{} for _ in images]
    for _ in range(repeats + 1):  # the first round is a warm-up
        for row, image in enumerate(images):
            for name, runner in runners.items():
                elapsed, results[row][name] = _measure(lambda run=runner, x=image: run(x))
                seconds[name][row].append(elapsed)
    shortest = {name: sum(min(times[1:]) for times in rows) / len(images) for name, rows in seconds.items()}
    return {
        "seconds_per_image": shortest,
        "times_faster_float32": shortest["torchvision"] / shortest["float32"],
        "times_faster_auto": shortest["torchvision"] / shortest["auto"],
        "auto_is": model.precision(model.options.replace(precision="auto")),
        "float32_against_torchvision": _compare([(one["torchvision"], one["float32"]) for one in results]),
        "runs": seconds,
    }


def measure_training(
    reference: nn.Module, model: TorchPredictor, images: list[np.ndarray], repeats: int
) -> dict[str, Any]:
    """Seconds of a training step of two images: losses, gradients, and a step of SGD."""
    samples = [Sample({"image": image}, _make_truth(model, image, seed)) for seed, image in enumerate(images[:2])]
    batch = Collate(model.task)(samples)
    sizes = batch.inputs["size"].long().tolist()
    images_on_canvas = [image[:, :height, :width] for image, (height, width) in zip(batch.inputs["image"], sizes)]
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
    network = model.model.train()
    losses = {
        "torchvision": (reference, lambda: reference(images_on_canvas, targets)),
        "ours": (network, lambda: model.task.compute_losses(network, batch, None, "net")),
    }
    optimizers = {name: torch.optim.SGD(module.parameters(), 1e-6) for name, (module, _) in losses.items()}
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    values: dict[str, dict[str, float]] = {}

    def step(name: str) -> dict[str, float]:
        torch.manual_seed(1)
        parts = losses[name][1]()
        sum(parts.values()).backward()
        optimizers[name].step()
        optimizers[name].zero_grad()
        return {part: float(value.detach()) for part, value in parts.items()}

    for _ in range(repeats + 1):
        for name in losses:
            elapsed, values[name] = _measure(lambda each=name: step(each))
            seconds[name].append(elapsed)
    shortest = {name: min(times[1:]) for name, times in seconds.items()}
    ratio = shortest["torchvision"] / shortest["ours"]
    return {"seconds_per_step": shortest, "times_faster": ratio, "losses": values, "runs": seconds}


def _measure(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def _make_truth(model: TorchPredictor, image: np.ndarray, seed: int) -> Instances:
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
    return Instances.from_arrays(
        compute_boxes(masks), labels, names, size, masks=tuple(masks), areas=compute_areas(masks)
    )


def _compare(pairs: list[tuple[dict[str, Tensor], Instances]]) -> dict[str, float]:
    """How many objects have a match of the same class within 0.01 pixels, and the largest differences of matches.

    Objects whose scores are equal up to rounding may be swapped, and of those that overlap either may be kept.
    """
    score, count, matches, pixels, differing = 0.0, 0, 0, 0, 0
    for expected, result in pairs:
        masks = expected["masks"][:, 0].numpy() > 0.5
        count += len(masks)
        columns = (expected[key].numpy() for key in ("boxes", "scores", "labels"))
        for box, confidence, label, mask in zip(*columns, masks):
            distance = np.abs(result.boxes - box).max(1, initial=0) + (result.labels + 1 != label) * 1e9
            near = np.flatnonzero(distance < 0.01)
            if len(near):
                row = near[np.abs(result.scores[near] - confidence).argmin()]
                matches, score = matches + 1, max(score, float(abs(result.scores[row] - confidence)))
                pixels += int(mask.sum())
                differing += int((result[[row]].dense()[0] != mask).sum())
    return {"objects": count, "matches": matches, "scores": score, "mask_pixels": differing / max(pixels, 1)}


PARTS = {"inference": measure_inference, "training": measure_training}


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
        reference, model = build_networks(Path(scratch))
        for part in parts or PARTS:
            figures[part] = PARTS[part](reference, model, images, repeats)
            runs = figures[part].get("runs")
            summary = {name: value for name, value in figures[part].items() if value is not runs}
            click.echo(json.dumps({part: summary}, indent=1))
    if out:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
