"""densevision TASK export"""

from __future__ import annotations

import click

from densevision.cli.options import weights_option


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("export", help=f"Write {task} weights for another runtime; exit code 5 when its answers differ.")
    @weights_option
    @click.option(
        "--format", "form", type=click.Choice(["onnx", "openvino", "torch"]), default="onnx", show_default=True
    )
    @click.option("--out", metavar="FILE", help="Beside the weights when not given.")
    @click.option(
        "--decode/--raw", default=True, show_default=True, help="Include decoding, or stop at the network's outputs."
    )
    @click.option("--half", is_flag=True, help="Store and compute in half precision.")
    @click.option("--tolerance", type=float, help="Largest difference that is accepted.")
    def export(weights, form, out, decode, half, tolerance):
        from densevision import api

        options = {} if tolerance is None else {"tolerance": tolerance}
        path = api.export(weights, out, task, form, decode=decode, half=half, **options)
        click.echo(str(path))

    return export
