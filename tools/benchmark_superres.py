"""Benchmarks superres: bfloat16 against float32, and the peak memory of a huge image against that of a small one.

    python tools/benchmark_superres.py [speed] [memory] [--image FILE] [--weights FILE] [--out FILE]

`speed` measures processor time, which other processes on the machine hardly change.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import click
import cv2
import numpy as np
import torch

import densevision
from densevision import api
from densevision.datasets.degradations import resize_bicubic
from densevision.datasets.scenes import Scenes
from densevision.inference.predictor import Predictor, TorchPredictor, build_without_weights
from densevision.io.image import convert_channels, read_image
from densevision.io.weights import Card
from densevision.metrics.image_quality import psnr
from densevision.tasks.superres.models.superres_model import SuperresModel

NETWORKS: dict[str, dict[str, Any]] = {
    "edsr_baseline_x4": {"arch": "edsr_baseline", "scale": 4, "model.residual": True},
    "rrdb_x4": {"arch": "rrdb", "scale": 4, "model.residual": True},
}
"""The published sizes, with random weights whose output has the magnitude of trained detail."""
SIDE = 128
"""Side of the enlarged image in pixels."""
DETAIL_STD = 0.02
"""Standard deviation of the detail that a network with random weights adds to the interpolated image."""
REPEATS = 3
SIDES = (500, 8000)
"""Sides of the images whose memory is compared."""


def measure_speed(image: Path | None, weights: Path | None) -> dict[str, Any]:
    """CPU seconds of `precision=auto` and `float32`, each the minimum of several runs, and the loss of PSNR in dB."""
    original = Scenes(1, 0, (4 * SIDE, 4 * SIDE))[0].clean if image is None else convert_channels(read_image(image), 3)
    numbers: dict[str, Any] = {"image": str(image or "scenes:1:0"), "threads": torch.get_num_threads()}
    models = {str(weights): api.load(weights, "superres")} if weights else {n: _build(s) for n, s in NETWORKS.items()}
    for name, model in models.items():
        scale = model.task.config.scale
        height, width = (min(side, 4 * SIDE) // scale * scale for side in original.shape[:2])
        truth = original[:height, :width]
        numbers[name] = _compare_precisions(model, resize_bicubic(truth, (height // scale, width // scale)), truth)
    return numbers


def measure_memory(*_: Any) -> dict[str, Any]:
    """Peak memory of new processes that enlarge an image by 2 and write it as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        save_small_network(Path(folder) / "small.safetensors")
        peaks = {side: _measure_peak(Path(folder), side) for side in SIDES}
    growth = peaks[SIDES[1]] - peaks[SIDES[0]]
    return {**{f"image_{side}_px_mb": round(peak) for side, peak in peaks.items()}, "growth_mb": round(growth)}


def save_small_network(path: Path) -> None:
    """Writes weights of a network so small that writing the result takes longer than computing it."""
    _build({"arch": "srvgg", "scale": 2, "model.width": 8, "model.depth": 2}).save(path)


def _build(settings: dict[str, Any]) -> TorchPredictor:
    torch.manual_seed(0)
    model = build_without_weights("superres", settings)
    network = cast(SuperresModel, model.model)
    if network.residual:
        last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
        with torch.no_grad():
            last.weight.mul_(DETAIL_STD / network.upscale(torch.rand(1, 3, 32, 32)).std())
            torch.nn.init.zeros_(cast(torch.Tensor, last.bias))
    model.card = Card(task="superres", config=model.task.config.to_dict(), license="none needed")
    return model


def _compare_precisions(model: Predictor, image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    times: dict[str, list[float]] = {"float32": [], "auto": []}
    results: dict[str, np.ndarray] = {}
    for _ in range(REPEATS + 1):  # the first run of each warms up
        for precision, seconds in times.items():
            start = time.process_time()
            results[precision] = densevision.predict(image, weights=model, precision=precision).image
            seconds.append(time.process_time() - start)
    fastest = {precision: min(seconds[1:]) for precision, seconds in times.items()}
    decibels = {precision: psnr(result, truth) for precision, result in results.items()}
    return {
        **{f"{precision}_s": round(seconds, 4) for precision, seconds in fastest.items()},
        "times_faster": round(fastest["float32"] / fastest["auto"], 3),
        **{f"{precision}_psnr_db": round(value, 4) for precision, value in decibels.items()},
        "lost_db": round(decibels["float32"] - decibels["auto"], 4),
    }


def _measure_peak(folder: Path, side: int) -> float:
    """Peak resident memory in MB of a new process."""
    row = np.random.default_rng(0).integers(0, 255, (1, side, 3), np.uint8)
    cv2.imwrite(str(folder / f"{side}.png"), np.broadcast_to(row, (side, side, 3)))
    source, weights, out = (str(folder / name) for name in (f"{side}.png", "small.safetensors", "result.png"))
    program = (
        "import resource, densevision\n"
        f"result = densevision.predict({source!r}, weights={weights!r})\n"
        f"assert result.size == ({2 * side}, {2 * side})\n"
        f"result.save({out!r})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    process = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(process.stdout.split()[-1])


PARTS = {"speed": measure_speed, "memory": measure_memory}


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--image", type=click.Path(exists=True, path_type=Path), help="The image; a scene by default.")
@click.option("--weights", type=click.Path(exists=True, path_type=Path), help="Benchmark this network instead.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the numbers as JSON.")
def main(parts: tuple[str, ...], image: Path | None, weights: Path | None, out: str | None) -> None:
    numbers: dict[str, Any] = {
        "machine": platform.platform(),
        "processor": _get_processor_name(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    for part in parts or PARTS:
        numbers[part] = PARTS[part](image, weights)
        click.echo(json.dumps({part: numbers[part]}, indent=1))
    if out:
        Path(out).write_text(json.dumps(numbers, indent=1) + "\n")


def _get_processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
