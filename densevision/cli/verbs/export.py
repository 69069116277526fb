"""densevision TASK export"""

from __future__ import annotations

import click

from densevision.cli.options import quiet_flag, set_option, weights_option


def command(task: str) -> click.Command:
    """The verb for one task."""

    @click.command("export", help=f"Write {task} weights for another runtime; exit code 5 when its answers differ.")
    @weights_option
    @set_option
    @click.option(
        "--format", "form", type=click.Choice(["onnx", "openvino", "torch"]), default="onnx", show_default=True
    )
    @click.option("--out", metavar="FILE", help="Beside the weights when not given.")
    @click.option(
        "--decode/--raw", default=True, show_default=True, help="Include decoding, or stop at the network's outputs."
    )
    @click.option("--half", is_flag=True, help="Store and compute in half precision.")
    @click.option("--tolerance", type=float, help="Largest difference from PyTorch that is accepted.")
    @click.option("--images", metavar="SOURCE", help="Images to verify it on, beside scenes of odd sizes.")
    @quiet_flag
    def export(weights, settings, form, out, decode, half, tolerance, images, quiet):
        from densevision import api
        from densevision.cli.printing import remarks

        remarks(quiet)
        options = {"decode": decode, "half": half, "tolerance": tolerance, "images": images}
        path = api.export(weights, out, task, form, settings, **options)
        click.echo(str(path))

    return export
