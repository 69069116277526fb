"""Measures the peak memory of `densevision TASK predict` on a long video, many images and large ones.

    python tools/benchmark_memory.py [--out FILE]

Each command runs in a process of its own, with the bundled weights. Its peak is the largest resident memory that the
system saw, with the parts of shared libraries that were used. It stands beside that of a process that only imports
torch and torchvision, and beside that of the same command on a small source.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

# `ru_maxrss` also counts the process that started this one, in which the sources were written.
PROGRAM = """
import sys
{statement}
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
"""
"""For Linux."""
PREDICT = PROGRAM.format(statement="from densevision.cli.main import run; run(sys.argv[1:])")


def write_video(path: Path, frames: int) -> None:
    """Writes frames of noise, 320 x 240."""
    from densevision.io.video import VideoWriter

    images = np.random.default_rng(0).integers(0, 255, (8, 240, 320, 3), np.uint8)
    with VideoWriter(path, 25) as writer:
        for number in range(frames):
            writer.write(images[number % 8])


def write_folder(path: Path, images: int) -> None:
    """Writes smooth JPEGs, 640 x 480."""
    path.mkdir()
    rng = np.random.default_rng(0)
    for number in range(images):
        coarse = rng.integers(0, 255, (15, 20, 3), np.uint8)
        cv2.imwrite(str(path / f"{number}.jpg"), cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC))


def write_square(path: Path, side: int) -> None:
    """Writes a JPEG of this side."""
    row = np.random.default_rng(0).integers(0, 255, (1, side, 3), np.uint8)
    cv2.imwrite(str(path), np.broadcast_to(row, (side, side, 3)))


CASES: dict[str, tuple[str, Callable[[Path, int], None], int, int, int, str]] = {
    "video, 10 and 2,000 frames": ("detection", write_video, 10, 2000, 0, "clip.mp4"),
    "folder, 10 and 1,000 images": ("detection", write_folder, 10, 1000, 0, "images"),
    "detection, 1 and 144 megapixels, drawn": ("detection", write_square, 1000, 12000, 3, "image.jpg"),
    "semantic, 1 and 14 megapixels, drawn": ("semantic", write_square, 1000, 3750, 4, "image.jpg"),
}
"""Name -> task, writer of the source, its small and large size, bytes of a pixel and its result, name of the file."""


def measure_peak(program: str, *arguments: str) -> float:
    """Peak resident memory of a Python program in MiB."""
    result = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    return float(result.stdout.split()[-1])


def measure_case(task: str, write: Callable[[Path, int], None], size: int, name: str) -> float:
    """Peak of a prediction whose results are written: drawings of images, JSON of frames."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, name)
        write(source, size)
        save = "json" if source.suffix == ".mp4" else "png"
        return measure_peak(PREDICT, task, "predict", str(source), "--out", f"{folder}/out", "--save", save, "--quiet")


def measure_memory() -> dict[str, Any]:
    """Peaks of all cases in MiB, and how far they exceed those of the imports and of small sources."""
    imports = measure_peak(PROGRAM.format(statement="import torch, torchvision"))
    figures: dict[str, Any] = {"import torch, torchvision": round(imports)}
    for case, (task, write, small, large, pixel_bytes, name) in CASES.items():
        peaks = [measure_case(task, write, size, name) for size in (small, large)]
        own = pixel_bytes * large**2 / 2**20
        figures[case] = {
            "small": round(peaks[0]),
            "large": round(peaks[1]),
            "large beyond the imports": round(peaks[1] - imports),
            "growth": round(peaks[1] - peaks[0]),
            "bytes of the image and its result": round(own),
            "growth beyond them": round(peaks[1] - peaks[0] - own),
        }
        click.echo(json.dumps({case: figures[case]}), err=True)
    return figures


@click.command(help=__doc__)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the figures as JSON.")
def main(out: str | None) -> None:
    report = {
        "command": "python tools/benchmark_memory.py",
        "unit": "MiB",
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "torchvision", "numpy", "opencv-python-headless")},
        "peaks": measure_memory(),
    }
    click.echo(json.dumps(report, indent=1))
    if out:
        Path(out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
