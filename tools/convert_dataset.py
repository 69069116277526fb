"""Converts a dataset into another format, and lists what that format cannot hold.

\b
    python tools/convert_dataset.py /data/coco /data/coco-yolo --to yolo
    python tools/convert_dataset.py /data/cityscapes /data/masks --to masks
    python tools/convert_dataset.py /data/camvid /data/masks --to masks --palette label_colors.txt
    python tools/convert_dataset.py /data/nyu /data/nyu-as-tum --to tum
    python tools/convert_dataset.py /data/sintel /data/sintel-as-kitti --to kitti-flow

What SOURCE is, is recognized as by `densevision TASK train`. OUT is written whole or not at all.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from densevision.datasets.conversion import box_writers, index_masks
from densevision.datasets.conversion import dense_maps as fields
from densevision.datasets.conversion.objects import read_splits
from densevision.datasets.conversion.report import ConversionReport
from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.io.atomic_write import whole_folder

Write = Callable[[dict[str, Any], Path, ConversionReport], None]

BOXES: dict[str, Write] = {
    "coco": box_writers.write_coco,
    "yolo": box_writers.write_yolo,
    "voc": box_writers.write_voc,
}
DEPTH: dict[str, Write] = {
    "kitti-depth": fields.write_kitti_depth,
    "nyu": fields.write_nyu,
    "tum": fields.write_tum,
}
FLOW: dict[str, Write] = {
    "sintel": fields.write_sintel,
    "kitti-flow": fields.write_kitti_flow,
    "middlebury": fields.write_middlebury,
}
TARGETS = (*BOXES, "masks", *DEPTH, *FLOW)
OPTIONS = {"data.on_error": "--on-error", "data.scale": "--scale"}
"""Options of training, of which messages speak -> the same ones here."""


def convert(
    source: str,
    out: str | Path,
    to: str,
    masks: bool | None = None,
    on_error: str | None = None,
    uncovered: str | None = None,
    palette: str | Path | None = None,
    scale: float | None = None,
) -> ConversionReport:
    """Converts a dataset; what the options mean, `--help` tells.

    Returns:
        What the target cannot hold.

    Raises:
        UsageError: An option has no effect on this conversion or a value that cannot be, or OUT is there already or
            lies in the dataset.
        DataError: The source is not recognized, or something in it is wrong.
    """
    losses = ConversionReport()
    if Path(source).resolve() in Path(out).resolve().parents:
        raise UsageError("lies in the dataset", field="OUT", value=str(out), hint="Name a new folder outside of it.")
    if scale is not None and to not in DEPTH:
        raise UsageError("has no effect here", field="--scale", value=scale, hint="It is for depth.")
    if scale is not None and not 0 < scale < math.inf:
        raise UsageError("is no number of steps per unit", field="--scale", value=scale, hint="Give one above 0.")
    if uncovered is not None and to != "masks":
        raise UsageError("has no effect here", field="--uncovered", value=uncovered, hint="It is for --to masks.")
    if to in DEPTH or to in FLOW:
        _refuse(palette=palette, masks=masks, on_error=on_error)
        splits = fields.read_frames(source, scale, losses) if to in DEPTH else fields.read_pairs(source, losses)
        write = (DEPTH | FLOW)[to]
    else:
        splits, write = _objects_or_masks(source, to, masks, on_error, uncovered, palette, losses)
    with whole_folder(out) as folder:
        write(splits, folder, losses)
    return losses


def _objects_or_masks(
    source: str,
    to: str,
    masks: bool | None,
    on_error: str | None,
    uncovered: str | None,
    palette: str | Path | None,
    losses: ConversionReport,
) -> tuple[dict[str, Any], Write]:
    folders = _mask_folders(source, palette, losses)
    if folders is None:
        if to == "masks":
            _refuse(masks=masks)
            masks = True
        objects = read_splits(source, masks, on_error or "fail", losses)  # type: ignore[arg-type]
        if to != "masks":
            return objects, BOXES[to]
        unknown = uncovered == "unknown"
        return objects, lambda splits, out, lost: index_masks.write_objects(splits, out, lost, unknown)
    _refuse(masks=masks, uncovered=uncovered, on_error=on_error)
    if to == "masks":
        return folders, index_masks.write_masks
    return index_masks.objects_of(folders, losses), BOXES[to]


def _mask_folders(source: str, palette: str | Path | None, losses: ConversionReport) -> dict[str, Any] | None:
    """The source as folders of masks; None where it is a dataset of objects."""
    if palette is not None:
        return index_masks.read_masks(source, Path(palette), losses)
    try:
        read_splits_like = index_masks.find_masks(source)
    except DataError:
        return None
    if all(isinstance(found, index_masks.MaskFolders) and any(mask for _, mask in found.pairs)
           for found in read_splits_like.values()):  # fmt: skip
        return index_masks.read_masks(source, None, losses)
    return None


def _in_own_words(message: str) -> str:
    for option, own in OPTIONS.items():
        message = message.replace(option, own)
    return message


def _refuse(**options: Any) -> None:
    for name, value in options.items():
        if isinstance(value, bool):
            raise UsageError("has no effect here", field="--masks" if value else "--boxes", hint="Leave it out.")
        if value is not None:
            field = f"--{name.replace('_', '-')}"
            raise UsageError("has no effect here", field=field, value=value, hint="Leave it out.")


@click.command(help=__doc__)
@click.argument("source")
@click.argument("out")
@click.option("--to", type=click.Choice(TARGETS), required=True, help="The format of OUT.")
@click.option("--masks/--boxes", "masks", default=None, help="Carry masks, or boxes alone; what there is by default.")
@click.option(
    "--on-error",
    type=click.Choice(("fail", "fix", "skip")),
    help="Boxes and objects that are wrong. [default: fail]",
)
@click.option(
    "--uncovered",
    type=click.Choice(("background", "unknown")),
    help="To masks, from objects: what pixels of no object are. [default: background]",
)
@click.option("--palette", help="From masks in color: a file of lines `R G B name`; the name - means unknown.")
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    help="To depth: steps per unit of the source, where it does not state them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(source: str, out: str, to: str, as_json: bool, **options: Any) -> None:
    try:
        losses = convert(source, out, to, **options)
    except DenseVisionError as failure:
        click.echo(f"error: {_in_own_words(str(failure))}", err=True)
        sys.exit(failure.exit_code)
    if as_json:
        click.echo(json.dumps({"out": out, "lost": dict(losses.counts), "notes": losses.notes}, ensure_ascii=False))
        return
    click.echo(out)
    for line in losses.lines():
        click.echo(f"  {'not carried over: ' if line not in losses.notes else ''}{line}")


if __name__ == "__main__":
    main()
