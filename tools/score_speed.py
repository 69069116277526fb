"""Times `score` on dense maps against the same metrics by torchmetrics and plain NumPy, in one run.

    python tools/score_speed.py [semantic] [depth] [flow] [--count 500] [--out FILE]

Both sides read the same files in processes of their own, and start-up counts. The baselines are single passes over the
files; `score` computes more than they do: boundary IoU, and tables by class, distance and speed.
"""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

UNIQUE = 25
"""Number of distinct files; the others are links to them."""
CLASSES = 19
SIZES = {"semantic": (1024, 2048), "depth": (375, 1242), "flow": (375, 1242)}


def write_files(task: str, folder: Path, count: int) -> None:
    """Writes smooth ground truths and predictions, with unknown pixels."""
    from densevision.io.depth import write_depth
    from densevision.io.flow import write_flow
    from densevision.io.image import write_image

    rng = np.random.default_rng(0)
    size = SIZES[task]

    def smooth(scale: float, cells: int = 12) -> np.ndarray:
        coarse = rng.normal(0, scale, (cells, 2 * cells)).astype(np.float32)
        return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)

    for number in range(count):
        for side in ("truth", "predictions"):
            path = folder / side / f"{number:04}{'.png' if task == 'semantic' else '.kitti.png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if number >= UNIQUE:
                os.link(path.with_name(path.name.replace(f"{number:04}", f"{number % UNIQUE:04}")), path)
                continue
            known = rng.random(size) < (1.0 if side == "predictions" else 0.9)
            if task == "semantic":
                labels = np.digitize(smooth(1.0, 40), np.linspace(-1.5, 1.5, CLASSES - 1)).astype(np.uint8)
                write_image(path, np.where(known | (smooth(1.0) < 1), labels, 255).astype(np.uint8)[..., None])
            elif task == "depth":
                write_depth(path, np.clip(20 * np.exp(smooth(0.7)), 1, 80), known, 256)
            else:
                write_flow(path, np.stack([smooth(20), smooth(5)]), known)


def compute_semantic_baseline(folder: Path) -> dict[str, float]:
    """torchmetrics."""
    import torch
    from PIL import Image
    from torchmetrics import MetricCollection
    from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassJaccardIndex

    rules = {"num_classes": CLASSES, "ignore_index": 255}
    collection = MetricCollection(
        {
            "mIoU": MulticlassJaccardIndex(**rules),
            "fwIoU": MulticlassJaccardIndex(average="weighted", **rules),
            "mAcc": MulticlassAccuracy(average="macro", **rules),
            "aAcc": MulticlassAccuracy(average="micro", **rules),
            "mDice": MulticlassF1Score(average="macro", **rules),
        }
    )
    for path in sorted((folder / "truth").iterdir()):
        sides = (np.asarray(Image.open(file)) for file in (folder / "predictions" / path.name, path))
        collection.update(*(torch.from_numpy(side.astype(np.int64))[None] for side in sides))
    return {name: float(value) for name, value in collection.compute().items()}


def compute_depth_baseline(folder: Path) -> dict[str, float]:
    """Plain NumPy."""
    rows = []
    for path in sorted((folder / "truth").iterdir()):
        files = (path, folder / "predictions" / path.name)
        truth, prediction = (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) / 256.0 for file in files)
        valid = truth > 0
        t, a = truth[valid], prediction[valid]
        log = np.log(a) - np.log(t)
        factor = np.maximum(a / t, t / a)
        rows.append(
            {
                "AbsRel": np.mean(np.abs(a - t) / t),
                "SqRel": np.mean((a - t) ** 2 / t),
                "RMSE": np.sqrt(np.mean((a - t) ** 2)),
                "RMSElog": np.sqrt(np.mean(log**2)),
                "log10": np.mean(np.abs(np.log10(a) - np.log10(t))),
                "SILog": 100 * np.sqrt(np.mean(log**2) - np.mean(log) ** 2),
                **{f"delta{power}": np.mean(factor < 1.25**power) for power in (1, 2, 3)},
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def compute_flow_baseline(folder: Path) -> dict[str, float]:
    """Plain NumPy."""
    sums: dict[str, float] = {}
    for path in sorted((folder / "truth").iterdir()):
        files = (path, folder / "predictions" / path.name)
        truth, prediction = (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files)
        valid = truth[..., 0] > 0
        t, a = ((side[..., 2:0:-1].astype(np.float64) - 2**15) / 64.0 for side in (truth, prediction))
        error, speed = np.linalg.norm(a - t, axis=2)[valid], np.linalg.norm(t, axis=2)[valid]
        cosine = ((a * t).sum(2) + 1) / np.sqrt(((a**2).sum(2) + 1) * ((t**2).sum(2) + 1))
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))[valid]
        row = {"pixels": valid.sum(), "EPE": error.sum(), "AAE": angle.sum()}
        row["Fl"] = ((error > 3) & (error > 0.05 * speed)).sum()
        row |= {f"{limit}px": (error > limit).sum() for limit in (1, 3, 5)}
        for name, low, high in (("s0-10", 0, 10), ("s10-40", 10, 40), ("s40+", 40, np.inf)):
            part = (speed >= low) & (speed < high)
            row |= {name: error[part].sum(), f"pixels {name}": part.sum()}
        sums = {name: sums.get(name, 0.0) + float(value) for name, value in row.items()}
    counts = {name: sums.get(f"pixels {name}", sums["pixels"]) for name in sums if not name.startswith("pixels")}
    return {name: sums[name] / pixels for name, pixels in counts.items()}


BASELINES = {
    "semantic": compute_semantic_baseline,
    "depth": compute_depth_baseline,
    "flow": compute_flow_baseline,
}


def measure(task: str, count: int, repeats: int) -> dict[str, Any]:
    """Times both sides and compares their metrics."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(task, Path(folder), count)
        sides = {
            "score": [
                "densevision",
                task,
                "score",
                "--truth",
                f"{folder}/truth",
                "--predictions",
                f"{folder}/predictions",
            ],
            "baseline": [sys.executable, __file__, "baseline", task, folder],
        }
        sides["score"].append("--json")
        seconds, work = (dict.fromkeys(sides, math.inf) for _ in range(2))
        numbers = {}
        # Alternating, so that a temporary slowdown affects both.
        for name in [*sides] * repeats:
            start, before = time.perf_counter(), _get_child_cpu_seconds()
            done = subprocess.run(sides[name], check=True, capture_output=True, text=True)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            work[name] = min(work[name], _get_child_cpu_seconds() - before)
            output = json.loads(done.stdout)
            numbers[name] = output.get("metrics", output)
    largest = max(abs(numbers["score"][name] - value) for name, value in numbers["baseline"].items())
    ratio = seconds["score"] / seconds["baseline"]
    return {
        "files": count,
        "size": list(SIZES[task][::-1]),
        "score_s": round(seconds["score"], 2),
        "peer": (BASELINES[task].__doc__ or "").rstrip("."),
        "peer_s": round(seconds["baseline"], 2),
        "ratio": round(ratio, 3),
        "score_cpu_s": round(work["score"], 2),
        "peer_cpu_s": round(work["baseline"], 2),
        "largest_difference": largest,
    }


def _get_child_cpu_seconds() -> float:
    """CPU seconds of finished child processes: on a busy machine, steadier than the clock."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@click.command(help=(__doc__ or "").splitlines()[0])
@click.argument("words", nargs=-1)
@click.option("--count", type=click.IntRange(1), default=500, show_default=True, help="Number of files.")
@click.option(
    "--repeats", type=click.IntRange(1), default=1, show_default=True, help="The fastest of these runs counts."
)
@click.option("--out", type=click.Path(dir_okay=False), help="Write the numbers there as JSON.")
def main(words: tuple[str, ...], count: int, repeats: int, out: str | None) -> None:
    """Measures, prints and writes."""
    if words[:1] == ("baseline",):
        print(json.dumps(BASELINES[words[1]](Path(words[2]))))
        return
    results = {task: measure(task, count, repeats) for task in words or BASELINES}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    report = {"command": " ".join(["python", *sys.argv]), "cores": cores, "machine": platform.processor(), **results}
    print(json.dumps(report, indent=1))
    if out is not None:
        Path(out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
