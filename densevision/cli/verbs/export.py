"""densevision TASK export"""

from __future__ import annotations

from typing import Any

import click

from densevision.cli.options import quiet_flag, set_option, weights_option
from densevision.escaping import escape_control

__all__ = ["command"]


def command(task: str) -> click.Command:
    """Builds the verb for one task."""

    @click.command("export", help=f"Export {task} weights for another runtime; exit code 5 when the outputs differ.")
    @weights_option
    @set_option
    @click.option(
        "--format",
        "export_format",
        type=click.Choice(["onnx", "openvino", "torch", "triton"]),
        default="onnx",
        show_default=True,
    )
    @click.option(
        "--out", metavar="PATH", help="The file to write, for triton a new folder; beside the weights by default."
    )
    @click.option(
        "--decode/--raw", default=True, show_default=True, help="Include postprocessing, or stop at the raw outputs."
    )
    @click.option("--half", is_flag=True, help="Store and compute in half precision.")
    @click.option(
        "--quantize", type=click.Choice(["int8"]), help="Compute most layers in 8-bit integers: onnx and openvino."
    )
    @click.option(
        "--calibration",
        metavar="DATA",
        help="With --quantize: a dataset. Its train images give the ranges of activations, its val images the loss.",
    )
    @click.option(
        "--keep-float", metavar="PART", multiple=True, help="With --quantize: layers that stay in float, such as head."
    )
    @click.option(
        "--tolerance",
        type=float,
        help="Largest accepted difference from PyTorch; with --quantize the largest accepted loss of the task's main "
        "metric, 0.01 by default.",
    )
    @click.option("--images", metavar="SOURCE", help="Images for verification, besides scenes of odd sizes.")
    @quiet_flag
    def export(weights: str | None, quiet: bool, **options: Any) -> None:
        from densevision import api
        from densevision.cli.printing import configure_logging

        configure_logging(quiet)
        click.echo(escape_control(api.export(task, weights, quiet=quiet, **options)))

    return export
