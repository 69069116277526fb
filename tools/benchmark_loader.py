"""Measures the training loader: images per second that one worker process reads, augments and stacks, in its CPU time.

    python tools/benchmark_loader.py TASK --data FOLDER [--set SETTING=VALUE] [--epochs 3] [--profile]

CPU time, not the clock: other work on the machine changes it little. The first epoch stands apart, because it decodes
what a cache keeps. `--profile` runs in this process and prints where the time goes.
"""

from __future__ import annotations

import cProfile
import json
import os
import platform
import pstats
from pathlib import Path
from typing import Any

import click

from densevision import api
from densevision.cli.options import set_option
from densevision.inference.loader import make_training_loader
from densevision.run_folder import collect_versions
from densevision.tasks import load_task


def read_cpu_seconds(process: int) -> float:
    """User and system time of a process, from Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_epoch(loader: Any, epoch: int) -> int:
    """Reads one epoch; returns the number of its images."""
    loader.batch_sampler.set_epoch(epoch)
    return sum(len(batch.ids) for batch in loader)


@click.command()
@click.argument("task")
@click.option("--data", required=True, metavar="FOLDER")
@set_option
@click.option("--epochs", default=3, show_default=True)
@click.option("--profile", is_flag=True, help="Print where the time goes.")
def main(task: str, data: str, overrides: dict[str, Any], epochs: int, profile: bool) -> None:
    task_class = load_task(task)
    settings = {"train.epochs": 100, **overrides}
    opened = task_class(task_class.infer_from_data(api.resolve_config(task, data, None, settings)))
    loader = make_training_loader(opened, opened.open_dataset("train"), 0 if profile else 1)
    if profile:
        with cProfile.Profile() as profiler:
            run_epoch(loader, 0)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
        return
    rates = []
    for epoch in range(epochs):
        iterator = getattr(loader, "_iterator", None)
        before = read_cpu_seconds(iterator._workers[0].pid) if iterator else 0.0
        images = run_epoch(loader, epoch)
        worker = loader._iterator._workers[0].pid  # type: ignore[union-attr]
        rates.append(round(images / (read_cpu_seconds(worker) - before), 1))
    result = {"images_per_cpu_second": {"first epoch": rates[0], "later epochs": rates[1:]}, "settings": overrides}
    print(json.dumps({"task": task, **result, "machine": platform.machine(), "versions": collect_versions()}))


if __name__ == "__main__":
    main()
