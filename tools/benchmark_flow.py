"""Measures flow: Middlebury beside OpenCV's methods, RAFT beside torchvision's, and the memory of large images.

    python tools/benchmark_flow.py [accuracy] [speed] [memory] [--data FOLDER] [--weights FILE] [--out FILE]

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
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from torchvision.models import optical_flow

import densevision
from densevision.datasets.scenes import Scenes
from densevision.inference.device import native_bfloat16
from densevision.inference.predictor import Model
from densevision.published_weights import convert
from densevision.results import FlowField
from densevision.sample import Sample
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.metrics import FlowMetric, end_point_error
from densevision.tasks.flow.task import Flow

SIZE = (440, 1024)
"""(height, width) of the pair that is timed: Sintel's, on whole cells."""
ITERATIONS = 12
REPEATS = 2
"""Runs of each, of which the faster counts."""
SIZES = ((360, 640), (720, 1280), (1440, 2560))
"""(height, width) of the images whose memory is compared, each four times as large as the one before."""
NUMBERS = ("EPE_images", "EPE", "1px", "3px", "AAE")

Answer = Callable[[Sample], FlowField]


def accuracy(data: Path, weights: Path | None) -> dict[str, Any]:
    """Every pair with truth below a folder: OpenCV's methods on the gray images, and our weights."""
    samples = list(_samples(data))
    figures: dict[str, Any] = {"data": data.name, "pairs": len(samples), "opencv": cv2.__version__}
    for name, method in _classical().items():
        figures[name] = _judged(samples, lambda sample, method=method: _on_gray(method, sample))
    model = densevision.load(weights, task="flow")
    figures["weights"] = str(weights or "starter")
    for precision in ("float32", "auto"):
        figures[f"densevision, {precision}"] = _judged(
            samples, lambda sample, p=precision: model.predict(tuple(sample.images.values()), precision=p)
        )
    return figures


def speed(*_: Any) -> dict[str, Any]:
    """CPU seconds of torchvision's RAFT and of ours with the same weights, each the least of some, turn by turn."""
    scene = Scenes(1, 0, SIZE)[0]
    pair = (scene.image, scene.next)
    figures: dict[str, Any] = {"size": SIZE, "iterations": ITERATIONS, "threads": torch.get_num_threads()}
    for name in ("raft_small", "raft_large"):
        figures[name] = _beside_torchvision(name, pair)
        click.echo(f"{name}: {json.dumps(figures[name])}", err=True)
    return figures


def memory(*_: Any) -> dict[str, Any]:
    """Peak memory of fresh processes that run RAFT-large with the correlation on demand."""
    peaks = {f"{width}x{height}": _peak(height, width) for height, width in SIZES}
    rest = _peak(0, 0)
    above = [peak - rest for peak in peaks.values()]
    figures: dict[str, Any] = {f"{size}_gb": round(peak, 3) for size, peak in peaks.items()}
    growth = [round(larger / smaller, 3) for smaller, larger in pairwise(above)]
    return {"without_a_image_gb": round(rest, 3), **figures, "growth_where_pixels_grow_by_4": growth}


def _samples(data: Path) -> Iterator[Sample]:
    """The pairs below train/ and val/, or all of a folder that has neither."""
    divided = (data / "train").is_dir() and (data / "val").is_dir()
    for split in ("train", "val") if divided else ("val",):
        settings = {"data.path": str(data), **({} if divided else {"data.val": "."})}
        dataset = Flow(FlowConfig.resolve(None, settings)).dataset(split)
        yield from (dataset[index] for index in range(len(dataset)))


def _classical() -> dict[str, Callable[..., np.ndarray]]:
    """OpenCV's methods, (gray, gray, None) to (H, W, 2) each."""
    presets = {"ultra-fast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST}
    presets["medium"] = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
    # The parameters of OpenCV's own tutorial.
    farneback = {"pyr_scale": 0.5, "levels": 5, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2}
    found: dict[str, Callable[..., np.ndarray]] = {
        "Farneback": partial(cv2.calcOpticalFlowFarneback, **farneback, flags=0)
    }
    return found | {f"DIS {name}": cv2.DISOpticalFlow_create(preset).calc for name, preset in presets.items()}


def _on_gray(method: Callable[..., np.ndarray], sample: Sample) -> FlowField:
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in sample.images.values())
    return FlowField.of(method(first, second, None).transpose(2, 0, 1))


def _judged(samples: Sequence[Sample], answer: Answer) -> dict[str, Any]:
    metric, seconds = FlowMetric(), 0.0
    for sample in samples:
        start = time.process_time()
        result = answer(sample)
        seconds += time.process_time() - start
        metric.update(result, sample.truth, sample.id)
    numbers, rows = metric.compute(), metric.tables()["worst images"]
    pairs = {id: round(rows[id]["EPE"], 4) for id in sorted(rows)}
    return {**{name: round(numbers[name], 4) for name in NUMBERS}, "cpu_s": round(seconds, 2), "pairs": pairs}


def _beside_torchvision(name: str, images: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    torch.manual_seed(0)
    theirs = getattr(optical_flow, name)(weights=None).eval()
    first, second = (torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in images)
    ours = _converted(name, theirs)

    def reference() -> np.ndarray:
        with torch.inference_mode():
            return theirs(first, second, num_flow_updates=ITERATIONS)[-1][0].numpy()

    runs: dict[str, Callable[[], np.ndarray]] = {"torchvision": reference}
    for precision in ("float32", "auto"):
        options = {"iterations": ITERATIONS, "precision": precision}
        runs[precision] = lambda options=options: ours.predict(images, **options).flow
    taken: dict[str, list[float]] = {run: [] for run in runs}
    flows: dict[str, np.ndarray] = {}
    for _ in range(REPEATS):
        for run, answer in runs.items():
            start = time.process_time()
            flows[run] = answer()
            taken[run].append(time.process_time() - start)
    least = {run: min(seconds) for run, seconds in taken.items()}
    auto = end_point_error(flows["auto"], flows["float32"])
    return {
        **{f"{run}_cpu_s": round(seconds, 3) for run, seconds in least.items()},
        "float32_times_faster": round(least["torchvision"] / least["float32"], 3),
        "auto_times_faster": round(least["torchvision"] / least["auto"], 3),
        "float32_largest_difference_px": float(np.abs(flows["float32"] - flows["torchvision"]).max()),
        "auto_mean_change_px": round(float(auto.mean()), 5),
        "mean_motion_px": round(float(np.hypot(*flows["float32"]).mean()), 3),
    }


def _converted(name: str, network: torch.nn.Module) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "raft.pth", Path(folder) / "raft.safetensors"
        torch.save(network.state_dict(), file)
        convert(f"torchvision/{name}", file, out)
        return densevision.load(out, task="flow")


def _peak(height: int, width: int) -> float:
    """Peak resident memory, in GB of 10^9 bytes, of a fresh process; without an image where a side is 0."""
    program = (
        "import resource, numpy as np\n"
        "from densevision.inference.predictor import without_weights\n"
        "settings = {'preset': 'large', 'occlusion': False, 'correlation': 'blocks', 'iterations': 2}\n"
        "model = without_weights('flow', settings)\n"
        f"pair = np.random.default_rng(0).integers(0, 256, (2, {height}, {width}, 3), np.uint8)\n"
        f"if pair.size: assert model.predict(tuple(pair), precision='float32').size == ({height}, {width})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)"
    )
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(answer.stdout.split()[-1])


PARTS = {"accuracy": accuracy, "speed": speed, "memory": memory}


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--data", type=click.Path(exists=True, path_type=Path), default=Path("../shared/data/flow_middlebury"))
@click.option("--weights", type=click.Path(exists=True, path_type=Path), help="Ours; the starter weights by default.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the figures as JSON.")
def main(parts: tuple[str, ...], data: Path, weights: Path | None, out: str | None) -> None:
    figures: dict[str, Any] = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bfloat16_native": native_bfloat16(torch.device("cpu")),
    }
    for part in parts or PARTS:
        figures[part] = PARTS[part](data, weights)
        click.echo(json.dumps({part: figures[part]}, indent=1))
    if out:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
