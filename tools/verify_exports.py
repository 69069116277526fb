"""Exports detectors that were trained for one epoch: right files must pass the verification, wrong ones must not.

    python tools/verify_exports.py [--runs 20] [--format onnx] [--out docs/results/export_verification.json]

Scores of a barely trained detector nearly tie, which is hard to compare. A wrong file comes from the same network with
one of the faults of `FAULTS`.
"""

from __future__ import annotations

import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

import densevision
from densevision.errors import ExportError
from densevision.exporting import export as exporting
from densevision.inference.predictor import TorchPredictor

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "yolo_n": {"data.size": 96},
    "yolox_nano": {"data.size": 96},
    "dfine_n": {"data.size": 128, "model.num_queries": 60},
    "faster_rcnn": {
        "data.size": 96,
        "backbone.name": "mobilenetv2_050",
        "model.max_size": 192,
        "model.fpn_channels": 32,
        "model.rpn_pre_nms_top_n_test": 100,
        "model.rpn_post_nms_top_n_test": 60,
        "model.box_hidden": [64],
    },
}
"""Architecture -> options that make it small."""


def shift_boxes(predictions: dict[str, Tensor]) -> dict[str, Tensor]:
    """Half a pixel to the right."""
    return {**predictions, "boxes": predictions["boxes"] + 0.5}


def change_labels(predictions: dict[str, Tensor]) -> dict[str, Tensor]:
    """The next class."""
    return {**predictions, "labels": predictions["labels"] + 1}


def scale_scores(predictions: dict[str, Tensor]) -> dict[str, Tensor]:
    """Five percent lower."""
    return {**predictions, "scores": predictions["scores"] * 0.95}


FAULTS: tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], ...] = (shift_boxes, change_labels, scale_scores)


class WithFault(nn.Module):
    """A program whose predictions are wrong."""

    def __init__(self, program: nn.Module, fault: Callable[[dict[str, Tensor]], dict[str, Tensor]]):
        super().__init__()
        self.program, self.fault = program, fault

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.fault(self.program(inputs))


def export_with_fault(predictor: TorchPredictor, out: Path, export_format: str, fault: Callable[..., Any]) -> bool:
    """Whether a file with this fault is refused."""
    trace = exporting.trace_program
    exporting.trace_program = lambda program, specs: trace(WithFault(program, fault), specs)  # type: ignore[arg-type]
    try:
        exporting.export(predictor, out, export_format)
    except ExportError:
        return not out.exists()
    finally:
        exporting.trace_program = trace
    return False


@click.command()
@click.option("--runs", default=20, help="Number of detectors; the architectures take turns.")
@click.option("--format", "export_format", default="onnx", type=click.Choice(list(exporting.SUFFIXES)))
@click.option("--out", default="docs/results/export_verification.json", type=click.Path(path_type=Path))
def main(runs: int, export_format: str, out: Path) -> None:
    logging.getLogger("densevision").setLevel(logging.ERROR)
    rows = []
    for index in range(runs):
        arch = list(ARCHITECTURES)[index % len(ARCHITECTURES)]
        with tempfile.TemporaryDirectory() as folder:
            options = {"arch": arch, "backbone.pretrained": False, "train.epochs": 1, "train.batch": 4}
            overrides = {**options, **ARCHITECTURES[arch], "train.seed": index, "augment.mosaic": 0.0}
            run = densevision.train(
                "detection", f"scenes:16:{index}", out=Path(folder) / "run", overrides=overrides, quiet=True
            )
            predictor = densevision.load(run / "last.safetensors")
            path = Path(folder) / f"model{exporting.SUFFIXES[export_format]}"
            row: dict[str, Any] = {"arch": arch, "seed": index}
            started = time.perf_counter()
            try:
                exporting.export(predictor, path, export_format)
                row |= {"passed": True, "differences": densevision.load(path).metadata.differences}
            except ExportError as error:
                row |= {"passed": False, "error": str(error)}
            row["seconds"] = round(time.perf_counter() - started, 1)
            if index < len(ARCHITECTURES) * len(FAULTS):
                fault = FAULTS[index // len(ARCHITECTURES)]
                row["fault"] = fault.__name__
                row["fault_refused"] = export_with_fault(predictor, path.with_stem("wrong"), export_format, fault)
        rows.append(row)
        click.echo(json.dumps(row))
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    planted = [row["fault_refused"] for row in rows if "fault" in row]
    report = {
        "command": f"python tools/verify_exports.py --runs {runs} --format {export_format}",
        "protocol": "one epoch on 16 scenes, then export and its verification on 7 images of odd sizes",
        "versions": versions,
        "passed": sum(row["passed"] for row in rows),
        "exports": len(rows),
        "faults_refused": sum(planted),
        "faults": len(planted),
        "runs": rows,
    }
    out.write_text(json.dumps(report, indent=1) + "\n")
    click.echo(f"{report['passed']} of {len(rows)} exports pass, {sum(planted)} of {len(planted)} faults are refused")


if __name__ == "__main__":
    main()
