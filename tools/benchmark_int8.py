"""Times exported files side by side on a validation image: the CPU time of the runtime, without pre- and postprocessing
outside the file.

    python tools/benchmark_int8.py --data FOLDER float.onnx int8.onnx [float.xml int8.xml ...] [--repeats 30]

CPU time on one thread, the shortest of all repeats, the files in turn: other work on the machine changes it little. The
ratio is that of the first file to each.
"""

from __future__ import annotations

import json
import time
from typing import Any

import click
import torch

from densevision import api
from densevision.exporting.exported_predictor import load_exported
from densevision.sample import prepare_inputs


@click.command(help=__doc__)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--data", required=True, metavar="FOLDER")
@click.option("--repeats", default=30, show_default=True)
def main(files: tuple[str, ...], data: str, repeats: int) -> None:
    torch.set_num_threads(1)  # the runtimes follow it
    predictors = {file: load_exported(file) for file in files}
    first = next(iter(predictors.values()))
    _, samples, _ = api.open_for_evaluation(first.task.name, data, first)
    inputs, _ = prepare_inputs([samples[0]], first.task.input_spec)
    shortest = dict.fromkeys(files, float("inf"))
    for _ in range(repeats):
        for file, predictor in predictors.items():
            start = time.process_time()
            predictor.run(inputs, "cpu", predictor.metadata.precision)
            shortest[file] = min(shortest[file], time.process_time() - start)
    baseline = shortest[files[0]]
    rows: dict[str, Any] = {
        file: {"ms": round(1e3 * seconds, 2), "ratio": round(baseline / seconds, 2)}
        for file, seconds in shortest.items()
    }
    sizes = {name: list(tensor.shape) for name, tensor in inputs.items()}
    click.echo(json.dumps({"inputs": sizes, "files": rows}, indent=1))


if __name__ == "__main__":
    main()
