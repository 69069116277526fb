"""Measures superres: bfloat16 beside float32 of the same network, and the memory of a huge image beside a small one.

    python tools/benchmark_superres.py [speed] [memory] [--image FILE] [--weights FILE] [--out FILE]

`speed` takes seconds of the processor, not of the clock, so that others at work on the machine change little.
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
from typing import Any

import click
import cv2
import numpy as np
import torch

import densevision
from densevision import api
from densevision.datasets.degradations import resize_bicubic
from densevision.datasets.scenes import Scenes
from densevision.inference.predictor import Predictor, build_without_weights
from densevision.io.image import read_image, convert_channels
from densevision.io.weights import Card
from densevision.metrics.image_quality import psnr

NETWORKS: dict[str, dict[str, Any]] = {
    "edsr_baseline_x4": {"arch": "edsr", "scale": 4, "residual": True},
    "rrdb_x4": {"arch": "rrdb", "scale": 4, "residual": True},
}
"""The published sizes. Without weights they add noise to the interpolated image, of the size of what they learn."""
SIDE = 128
"""Of the image that is enlarged, in pixels."""
DETAIL = 0.02
"""Standard deviation of what a network with random weights adds to the interpolated image."""
REPEATS = 3
SIDES = (500, 8000)
"""Of the images whose memory is compared."""


def speed(image: Path | None, weights: Path | None) -> dict[str, Any]:
    """CPU seconds of `precision=auto` and `float32`, each the least of some, and what the difference costs in dB."""
    whole = Scenes(1, 0, (4 * SIDE, 4 * SIDE))[0].clean if image is None else convert_channels(read_image(image), 3)
    figures: dict[str, Any] = {"image": str(image or "scenes:1:0"), "threads": torch.get_num_threads()}
    models = {str(weights): api.load(weights, "superres")} if weights else {n: _random(s) for n, s in NETWORKS.items()}
    for name, model in models.items():
        scale = model.task.config.scale
        height, width = (min(side, 4 * SIDE) // scale * scale for side in whole.shape[:2])
        truth = whole[:height, :width]
        figures[name] = _compared(model, resize_bicubic(truth, (height // scale, width // scale)), truth)
    return figures


def memory(*_: Any) -> dict[str, Any]:
    """Peak memory of fresh processes that enlarge an image twice and write it as PNG."""
    with tempfile.TemporaryDirectory() as folder:
        small_network(Path(folder) / "small.safetensors")
        peaks = {side: _peak(Path(folder), side) for side in SIDES}
    growth = peaks[SIDES[1]] - peaks[SIDES[0]]
    return {**{f"image_{side}_px_mb": round(peak) for side, peak in peaks.items()}, "growth_mb": round(growth)}


def small_network(path: Path) -> None:
    """Writes weights of a network so small that writing the answer takes longer than finding it."""
    _random({"arch": "srvgg", "scale": 2, "width": 8, "depth": 2}).save(path)


def _random(settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model = build_without_weights("superres", settings)
    if settings.get("residual"):
        with torch.no_grad():
            network, image = model.model.head.network, torch.rand(1, 3, 32, 32)
            last = network.last if settings["arch"] == "rrdb" else network.tail[-1]
            factor = DETAIL / network(image).std()
            last.weight.mul_(factor)
            last.bias.zero_()
    model.card = Card(task="superres", config=model.task.config.plain(), license="none needed")
    return model


def _compared(model: Predictor, image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    seconds: dict[str, list[float]] = {"float32": [], "auto": []}
    answers: dict[str, np.ndarray] = {}
    for _ in range(REPEATS + 1):  # the first of each warms up
        for precision, taken in seconds.items():
            start = time.process_time()
            answers[precision] = densevision.predict(image, weights=model, precision=precision).image
            taken.append(time.process_time() - start)
    least = {precision: min(taken[1:]) for precision, taken in seconds.items()}
    decibels = {precision: psnr(answer, truth) for precision, answer in answers.items()}
    return {
        **{f"{precision}_s": round(value, 4) for precision, value in least.items()},
        "times_faster": round(least["float32"] / least["auto"], 3),
        **{f"{precision}_psnr_db": round(value, 4) for precision, value in decibels.items()},
        "lost_db": round(decibels["float32"] - decibels["auto"], 4),
    }


def _peak(folder: Path, side: int) -> float:
    """Peak resident memory in MB of a fresh process."""
    row = np.random.default_rng(0).integers(0, 255, (1, side, 3), np.uint8)
    cv2.imwrite(str(folder / f"{side}.png"), np.broadcast_to(row, (side, side, 3)))
    source, weights, out = (str(folder / name) for name in (f"{side}.png", "small.safetensors", "answer.png"))
    program = (
        "import resource, densevision\n"
        f"answer = densevision.predict({source!r}, weights={weights!r})\n"
        f"assert answer.size == ({2 * side}, {2 * side})\n"
        f"answer.save({out!r})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(answer.stdout.split()[-1])


PARTS = {"speed": speed, "memory": memory}


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--image", type=click.Path(exists=True, path_type=Path), help="What is enlarged; a scene by default.")
@click.option("--weights", type=click.Path(exists=True, path_type=Path), help="Time this network instead.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the figures as JSON.")
def main(parts: tuple[str, ...], image: Path | None, weights: Path | None, out: str | None) -> None:
    figures: dict[str, Any] = {
        "machine": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
    for part in parts or PARTS:
        figures[part] = PARTS[part](image, weights)
        click.echo(json.dumps({part: figures[part]}, indent=1))
    if out:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n")


def _processor() -> str:
    """What the CPU calls itself, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
