"""Identities on synthetic videos with exact ground truth, from exact boxes and from a detector's.

python tools/benchmark_tracking.py --out docs/results/tracking.json
"""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import torch

import densevision
from densevision.datasets.scenes import SceneVideo
from densevision.inference.tracking import TRACKERS, Tracker
from densevision.io.json_writer import write_json
from densevision.metrics.mot_files import MotRows, pair_frames
from densevision.metrics.tracking import TrackingCounts, compute_tracking_metrics, count_sequence
from densevision.results import Detections
from densevision.sample import Sample

SIZE = (320, 320)
FRAME_RATE = 25.0
LOWER = {"high_conf_det_threshold": 0.4, "track_activation_threshold": 0.4}
"""Thresholds of bytetrack for a detector whose scores are lower than those that its defaults are made for."""
METRICS = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDP", "IDR", "IDSW", "Frag", "FP", "FN")


@click.command(help=__doc__)
@click.option("--videos", default=4, show_default=True)
@click.option("--frames", default=80, show_default=True)
@click.option("--seed", default=2024, show_default=True, help="Held out: the bundled weights saw other seeds.")
@click.option("--weights", help="The detector; the bundled weights by default.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file of the numbers.")
def main(videos: int, frames: int, seed: int, weights: str | None, out: Path | None) -> None:
    detector = densevision.load(weights, "detection")
    runs = {(kind, name): TrackingCounts() for kind in ("exact boxes", "detector") for name in TRACKERS}
    runs["detector", "bytetrack, lower thresholds"] = TrackingCounts()
    boxes = 0
    for number in range(videos):
        samples = list(SceneVideo(frames, seed, number, SIZE))
        detections = [detector.predict(sample.images["image"]) for sample in samples]
        boxes += sum(len(sample.truth) for sample in samples)
        for kind, name in runs:
            objects = detections if kind == "detector" else [_remove_ids(sample.truth) for sample in samples]
            runs[kind, name] += _track(samples, objects, *_split(name))
        click.echo(f"video {number + 1} of {videos}", err=True)
    results: dict[str, dict[str, Any]] = {"exact boxes": {}, "detector": {}}
    for (kind, name), counts in runs.items():
        metrics = compute_tracking_metrics(counts)
        results[kind][name] = {key: round(metrics[key], 4) for key in METRICS}
    packages = {name: metadata.version(name) for name in ("trackers", "supervision", "torch")}
    report = {
        "command": f"python tools/benchmark_tracking.py --videos {videos} --frames {frames} --seed {seed}",
        "data": f"{videos} synthetic videos of {frames} frames, {SIZE[1]}x{SIZE[0]}, {FRAME_RATE:g} fps, {boxes} boxes",
        "weights": weights or "bundled",
        "protocol": "TrackEval's definitions, IoU 0.50 for MOTA and IDF1; objects less than 25 % visible have no box",
        "packages": packages,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        **results,
    }
    click.echo(json.dumps(report, indent=1))
    if out is not None:
        write_json(out, report)


def _split(name: str) -> tuple[str, dict[str, Any] | None]:
    """The tracker and its options."""
    tracker, _, lower = name.partition(", ")
    return tracker, LOWER if lower else None


def _remove_ids(truth: Detections) -> Detections:
    return Detections.from_arrays(truth.boxes, truth.labels, truth.names, truth.size)


def _track(
    samples: list[Sample], objects: list[Detections], name: str, options: dict[str, Any] | None
) -> TrackingCounts:
    tracker = Tracker(name, options, FRAME_RATE)
    tracked = [tracker.update(each, sample.images["image"]) for each, sample in zip(objects, samples)]
    return count_sequence(pair_frames(_to_rows([sample.truth for sample in samples]), _to_rows(tracked)))


def _to_rows(results: list[Detections]) -> MotRows:
    rows = [
        (frame, track_id, x1, y1, x2 - x1, y2 - y1)
        for frame, result in enumerate(results, 1)
        for (x1, y1, x2, y2), track_id in zip(result.boxes.tolist(), result.track_ids.tolist())
        if track_id >= 0
    ]
    return MotRows.of(rows)


if __name__ == "__main__":
    main()
