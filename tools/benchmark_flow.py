"""Benchmarks flow: accuracy against OpenCV's methods, speed against torchvision's RAFT, memory of large images.

    python tools/benchmark_flow.py [accuracy] [speed] [memory] [--data FOLDER] [--weights FILE] [--out FILE]

`speed` measures CPU time instead of wall time, so that other processes have little influence.
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
from densevision.inference.device import is_bfloat16_native
from densevision.inference.predictor import Predictor
from densevision.published_weights import convert_weights
from densevision.results import FlowField
from densevision.sample import Sample
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.metrics import FlowMetric, end_point_error
from densevision.tasks.flow.task import Flow

SIZE = (440, 1024)
"""(height, width) of the timed pair: Sintel's, on multiples of 8."""
ITERATIONS = 12
REPEATS = 2
"""Runs of each, of which the fastest is reported."""
SIZES = ((360, 640), (720, 1280), (1440, 2560))
"""(height, width) of the images whose memory is compared, each with four times the pixels of the one before."""
METRICS = ("EPE_images", "EPE", "1px", "3px", "AAE")

Predict = Callable[[Sample], FlowField]


def accuracy(data: Path, weights: Path | None) -> dict[str, Any]:
    """Metrics of OpenCV's methods on gray images and of weights, over all pairs with ground truth below a folder."""
    samples = list(_read_samples(data))
    results: dict[str, Any] = {"data": data.name, "pairs": len(samples), "opencv": cv2.__version__}
    for name, method in _make_opencv_methods().items():
        results[name] = _evaluate(samples, lambda sample, method=method: _predict_gray(method, sample))
    model = densevision.load(weights, task="flow")
    results["weights"] = str(weights or "bundled")
    for precision in ("float32", "auto"):
        results[f"densevision, {precision}"] = _evaluate(
            samples, lambda sample, p=precision: model.predict(tuple(sample.images.values()), precision=p)
        )
    return results


def speed(*_: Any) -> dict[str, Any]:
    """Minimum CPU seconds of torchvision's RAFT and of ours with the same weights, in alternating runs."""
    scene = Scenes(1, 0, SIZE)[0]
    pair = (scene.image, scene.next)
    results: dict[str, Any] = {"size": SIZE, "iterations": ITERATIONS, "threads": torch.get_num_threads()}
    for name in ("raft_small", "raft_large"):
        results[name] = _compare_with_torchvision(name, pair)
        click.echo(f"{name}: {json.dumps(results[name])}", err=True)
    return results


def memory(*_: Any) -> dict[str, Any]:
    """Peak memory of fresh processes that run RAFT-large with on-demand correlation."""
    peaks = {f"{width}x{height}": _measure_peak(height, width) for height, width in SIZES}
    baseline = _measure_peak(0, 0)
    above = [peak - baseline for peak in peaks.values()]
    results: dict[str, Any] = {f"{size}_gb": round(peak, 3) for size, peak in peaks.items()}
    growth = [round(larger / smaller, 3) for smaller, larger in pairwise(above)]
    return {"without_an_image_gb": round(baseline, 3), **results, "growth_for_4_times_the_pixels": growth}


def _read_samples(data: Path) -> Iterator[Sample]:
    """The pairs below train/ and val/, or all of a folder without these."""
    has_splits = (data / "train").is_dir() and (data / "val").is_dir()
    for split in ("train", "val") if has_splits else ("val",):
        settings = {"data.path": str(data), **({} if has_splits else {"data.val": "."})}
        dataset = Flow(FlowConfig.resolve(None, settings)).open_dataset(split)
        yield from (dataset[index] for index in range(len(dataset)))


def _make_opencv_methods() -> dict[str, Callable[..., np.ndarray]]:
    """OpenCV's methods: (gray, gray, None) to (H, W, 2)."""
    presets = {"ultra-fast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST}
    presets["medium"] = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
    # The parameters of OpenCV's own tutorial.
    farneback = {"pyr_scale": 0.5, "levels": 5, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2}
    methods: dict[str, Callable[..., np.ndarray]] = {
        "Farneback": partial(cv2.calcOpticalFlowFarneback, **farneback, flags=0)
    }
    return methods | {f"DIS {name}": cv2.DISOpticalFlow_create(preset).calc for name, preset in presets.items()}


def _predict_gray(method: Callable[..., np.ndarray], sample: Sample) -> FlowField:
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in sample.images.values())
    return FlowField.from_arrays(method(first, second, None).transpose(2, 0, 1))


def _evaluate(samples: Sequence[Sample], predict: Predict) -> dict[str, Any]:
    metric, seconds = FlowMetric(), 0.0
    for sample in samples:
        start = time.process_time()
        result = predict(sample)
        seconds += time.process_time() - start
        metric.update(result, sample.truth, sample.id)
    numbers, rows = metric.compute(), metric.tables()["worst images"]
    pairs = {image_id: round(rows[image_id]["EPE"], 4) for image_id in sorted(rows)}
    return {**{name: round(numbers[name], 4) for name in METRICS}, "cpu_s": round(seconds, 2), "pairs": pairs}


def _compare_with_torchvision(name: str, images: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    torch.manual_seed(0)
    reference = getattr(optical_flow, name)(weights=None).eval()
    first, second = (torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1 for image in images)
    predictor = _convert(name, reference)

    def run_reference() -> np.ndarray:
        with torch.inference_mode():
            return reference(first, second, num_flow_updates=ITERATIONS)[-1][0].numpy()

    runs: dict[str, Callable[[], np.ndarray]] = {"torchvision": run_reference}
    for precision in ("float32", "auto"):
        options = {"iterations": ITERATIONS, "precision": precision}
        runs[precision] = lambda options=options: predictor.predict(images, **options).flow
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    flows: dict[str, np.ndarray] = {}
    for _ in range(REPEATS):
        for name, run in runs.items():
            start = time.process_time()
            flows[name] = run()
            seconds[name].append(time.process_time() - start)
    fastest = {name: min(values) for name, values in seconds.items()}
    auto = end_point_error(flows["auto"], flows["float32"])
    return {
        **{f"{name}_cpu_s": round(value, 3) for name, value in fastest.items()},
        "float32_times_faster": round(fastest["torchvision"] / fastest["float32"], 3),
        "auto_times_faster": round(fastest["torchvision"] / fastest["auto"], 3),
        "float32_max_difference_px": float(np.abs(flows["float32"] - flows["torchvision"]).max()),
        "auto_mean_change_px": round(float(auto.mean()), 5),
        "mean_motion_px": round(float(np.hypot(*flows["float32"]).mean()), 3),
    }


def _convert(name: str, network: torch.nn.Module) -> Predictor:
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "raft.pth", Path(folder) / "raft.safetensors"
        torch.save(network.state_dict(), file)
        convert_weights(f"torchvision/{name}", file, out)
        return densevision.load(out, task="flow")


def _measure_peak(height: int, width: int) -> float:
    """Peak resident memory of a fresh process in GB of 10^9 bytes; without an image if a side is 0."""
    program = (
        "import resource, numpy as np\n"
        "from densevision.inference.predictor import build_without_weights\n"
        "options = {'occlusion': False, 'correlation': 'on_demand', 'iterations': 2}\n"
        "model = build_without_weights('flow', {'arch': 'raft_large', 'model': options})\n"
        f"pair = np.random.default_rng(0).integers(0, 256, (2, {height}, {width}, 3), np.uint8)\n"
        f"if pair.size: assert model.predict(tuple(pair), precision='float32').size == ({height}, {width})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)"
    )
    process = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return float(process.stdout.split()[-1])


PARTS = {"accuracy": accuracy, "speed": speed, "memory": memory}


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="For accuracy; Middlebury's layout.")
@click.option("--weights", type=click.Path(exists=True, path_type=Path), help="The bundled weights by default.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the results as JSON.")
def main(parts: tuple[str, ...], data: Path | None, weights: Path | None, out: str | None) -> None:
    results: dict[str, Any] = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "bfloat16_native": is_bfloat16_native(torch.device("cpu")),
    }
    for part in parts or PARTS:
        if part == "accuracy" and data is None:
            raise click.UsageError("accuracy needs --data")
        results[part] = PARTS[part](data, weights)
        click.echo(json.dumps({part: results[part]}, indent=1))
    if out:
        Path(out).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
