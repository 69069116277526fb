"""Measures densevision beside other libraries that do the same work, and draws the comparison.

    python tools/benchmark_peers.py [ROW ...] [--repeats N] [--out FILE] [--plot FILE]

Rows whose library is not installed are named and left out: `pip install -e ".[parity]"` brings most; Ultralytics is
under the AGPL and therefore in no extra. All run on the CPU with the threads that OMP_NUM_THREADS says. Each row is a
process of its own, since libraries change settings of the whole process; its calls take turns, and the median time of
each counts: CPU time with one thread, else and for whole processes wall time.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import torch
from peers import OURS, load_rows, measure_row

ROWS = load_rows()


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(ROWS)))
@click.option("--repeats", default=10, show_default=True, help="Timed turns.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON; rows that it holds are updated.")
@click.option("--only", type=click.Choice(list(ROWS)), hidden=True, help="Measure one row in this process.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="PNG or SVG of all rows of --out.")
def main(names: tuple[str, ...], repeats: int, out: Path | None, only: str | None, plot: Path | None) -> None:
    """Runs the command."""
    if only is not None and out is not None:
        out.write_text(json.dumps(measure_here(only, repeats)))
        return
    rows: dict[str, Any] = json.loads(out.read_text())["rows"] if out is not None and out.exists() else {}
    for name in names or ROWS:
        rows |= measure_rows([name], repeats)
        if out is not None:  # after each row: all of them take long
            out.write_text(json.dumps({"seed": 0, "rows": rows}, indent=1) + "\n")
    if plot is not None:
        draw_rows(rows, plot)


def measure_rows(names: Iterable[str] = ROWS, repeats: int = 10) -> dict[str, Any]:
    """The figures of rows by name; each is printed when it is there."""
    rows = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "row.json"
            subprocess.run(
                [sys.executable, __file__, "--only", name, "--repeats", str(repeats), "--out", out], check=True
            )
            rows[name] = json.loads(out.read_text())
        click.echo(json.dumps({name: rows[name]}, indent=1))
    return rows


def measure_here(name: str, repeats: int) -> dict[str, Any]:
    """The figures of a row, measured in this process."""
    threads = os.environ.get("OMP_NUM_THREADS")
    setting = f"OMP_NUM_THREADS={threads} " if threads else ""
    command = f"{setting}python tools/benchmark_peers.py {name} --repeats {repeats}"
    return {"command": command, **describe_machine(), **measure_row(ROWS[name], repeats)}


def describe_machine() -> dict[str, Any]:
    """What the times depend on."""
    return {
        "processor": _find_processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "torch": torch.__version__,
    }


def draw_rows(rows: dict[str, Any], file: Path) -> None:
    """Bars of our times as a share of the fastest other library's, in the same precision; the line at 1 is theirs."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    measured = [row for row in rows.values() if row.get("comparison")]
    figure = Figure(figsize=(8, 0.55 * len(measured) + 1.2), layout="constrained")
    axes = figure.subplots()
    colors = {f"{OURS} float32": "#7f9db9", f"{OURS} auto": "#1f5f8b"}
    for place, row in enumerate(reversed(measured)):
        for offset, (name, color) in zip((0.2, -0.2), colors.items()):
            if name not in row["comparison"]:
                continue
            share = 1 / row["comparison"][name]["times_faster"]
            axes.barh(place + offset, share, 0.38, color=color, zorder=2)
            label = f"{1 / share:.2f}x as fast"
            axes.text(share + 0.01, place + offset, label, va="center", fontsize=8).set_bbox(
                {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            )
    axes.axvline(1, color="#444444", linewidth=1)
    axes.set_yticks(range(len(measured)), [row["label"] for row in reversed(measured)], fontsize=8)
    axes.set_xlabel("time / time of the fastest other library (float32 against float32; auto against any)", fontsize=8)
    axes.margins(x=0.12, y=0.01)
    patches = [Patch(color=color, label=name) for name, color in colors.items()]
    figure.legend(handles=patches, fontsize=8, loc="outside upper right", frameon=False, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def _find_processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
