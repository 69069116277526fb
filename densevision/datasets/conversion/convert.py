"""Converts a dataset from any supported format to another one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from densevision.datasets.conversion import annotation_writers, box_writers, dense_maps, index_masks
from densevision.datasets.conversion.fiftyone_writer import write_fiftyone
from densevision.datasets.conversion.image_folder_writer import write_image_folder
from densevision.datasets.conversion.objects import read_splits
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.conversion.shards import SHARD_WRITERS
from densevision.datasets.conversion.via_writer import write_via
from densevision.datasets.mask_layouts import MaskFolderSource, detect_mask_format
from densevision.datasets.shards.location import locate_dataset
from densevision.errors import DataError, UsageError
from densevision.io.atomic_write import atomic_folder
from densevision.io.label_issues import OnError
from densevision.run_config import DataConfig

__all__ = ["OBJECT_WRITERS", "TARGET_FORMATS", "convert_dataset"]

Writer = Callable[[dict[str, Any], Path, ConversionReport], None]

OBJECT_WRITERS: dict[str, Writer] = {
    "coco": box_writers.write_coco,
    "yolo": box_writers.write_yolo,
    "voc": box_writers.write_voc,
    "cvat": annotation_writers.write_cvat,
    "labelme": annotation_writers.write_labelme,
    "label-studio": annotation_writers.write_label_studio,
    "via": write_via,
    "fiftyone": write_fiftyone,
    "imagefolder": write_image_folder,
    "roboflow-coco": box_writers.write_roboflow_coco,
    "roboflow-yolo": box_writers.write_roboflow_yolo,
}
WITH_CLASS_MASKS = ("label-studio",)
"""Formats in which people label classes of pixels by one mask per class instead of objects."""
DEPTH_WRITERS: dict[str, Writer] = {
    "kitti-depth": dense_maps.write_kitti_depth,
    "nyu": dense_maps.write_nyu,
    "tum": dense_maps.write_tum,
}
FLOW_WRITERS: dict[str, Writer] = {
    "sintel": dense_maps.write_sintel,
    "kitti-flow": dense_maps.write_kitti_flow,
    "middlebury": dense_maps.write_middlebury,
}
TARGET_FORMATS = (*OBJECT_WRITERS, "masks", *DEPTH_WRITERS, *FLOW_WRITERS, *SHARD_WRITERS)
"""Possible values of `to`."""
OPTION_NAMES = {"data.on_error": "on_error", "data.scale": "scale"}
"""Config option in messages of readers -> argument of `convert_dataset`."""


def convert_dataset(
    source: str | Path,
    out: str | Path,
    to: str,
    *,
    masks: bool | None = None,
    on_error: OnError | None = None,
    uncovered: Literal["background", "unknown"] | None = None,
    palette: str | Path | None = None,
    scale: float | None = None,
) -> ConversionReport:
    """Converts a dataset; the format of the source is detected as for training.

    Shards ("webdataset", "parquet") hold the files of the source as they are, of any format and task.

    Args:
        source: The dataset.
        out: A new folder outside of it, written atomically.
        to: One of `TARGET_FORMATS`.
        masks: True converts masks, False boxes only; by default masks if the source has them.
        on_error: What to do with invalid boxes and objects; "fail" by default.
        uncovered: Objects to masks: the class of pixels without an object; "background" by default.
        palette: Color masks: a file of lines `R G B name`; the name `-` means unknown.
        scale: Depth: steps per unit of integer files, if the source does not define it.

    Returns:
        What the target format cannot represent, counted.

    Raises:
        UsageError: The format is unknown, an option has no effect on this conversion or an invalid value, or `out`
            exists or lies inside the source.
        DataError: The format of the source is unknown, or its content is invalid.
    """
    source = str(source)
    _check_arguments(source, out, to, uncovered, scale)
    report = ConversionReport()
    write: Writer
    if to in SHARD_WRITERS:
        _refuse_options(masks=masks, on_error=on_error, uncovered=uncovered, palette=palette)
        with atomic_folder(out) as folder:
            SHARD_WRITERS[to](source, folder)
        return report
    source = locate_dataset(DataConfig(path=source))
    try:
        if to in DEPTH_WRITERS or to in FLOW_WRITERS:
            _refuse_options(palette=palette, masks=masks, on_error=on_error)
            splits: dict[str, Any]
            if to in DEPTH_WRITERS:
                splits, write = dense_maps.read_frames(source, scale, report), DEPTH_WRITERS[to]
            else:
                splits, write = dense_maps.read_pairs(source, report), FLOW_WRITERS[to]
        else:
            splits, write = _read_objects_or_masks(source, to, masks, on_error, uncovered, palette, report)
        with atomic_folder(out) as folder:
            write(splits, folder, report)
    except DataError as failure:
        raise _rename_options(failure) from None
    return report


def _check_arguments(source: str, out: str | Path, to: str, uncovered: str | None, scale: float | None) -> None:
    if to not in TARGET_FORMATS:
        raise UsageError("is not a target format", field="to", value=to, hint=f"Choose: {', '.join(TARGET_FORMATS)}.")
    if Path(source).resolve() in Path(out).resolve().parents:
        hint = "Name a new folder outside of it."
        raise UsageError("lies inside the source", field="out", value=str(out), hint=hint)
    if scale is not None and to not in DEPTH_WRITERS:
        raise UsageError("has no effect on this conversion", field="scale", value=scale, hint="It applies to depth.")
    if scale is not None and not 0 < scale < math.inf:
        raise UsageError("is not a positive number", field="scale", value=scale, hint="Give the steps per unit.")
    if uncovered is not None and to != "masks":
        hint = "It applies to the format masks."
        raise UsageError("has no effect on this conversion", field="uncovered", value=uncovered, hint=hint)


def _read_objects_or_masks(
    source: str,
    to: str,
    masks: bool | None,
    on_error: OnError | None,
    uncovered: str | None,
    palette: str | Path | None,
    report: ConversionReport,
) -> tuple[dict[str, Any], Writer]:
    mask_splits = _read_mask_folders(source, palette, report)
    if mask_splits is not None:
        _refuse_options(masks=masks, uncovered=uncovered, on_error=on_error)
        if to == "masks":
            return mask_splits, index_masks.write_masks
        return index_masks.build_objects(mask_splits, report, to in WITH_CLASS_MASKS), OBJECT_WRITERS[to]
    if to == "masks":
        _refuse_options(masks=masks)
        masks = True
    objects = read_splits(source, masks, on_error or "fail", report)
    if to != "masks":
        return objects, OBJECT_WRITERS[to]
    is_unknown = uncovered == "unknown"
    return objects, lambda splits, out, report: index_masks.write_objects(splits, out, report, is_unknown)


def _read_mask_folders(
    source: str, palette: str | Path | None, report: ConversionReport
) -> dict[str, MaskFolderSource] | None:
    """Reads the source as mask folders; None if it is a dataset of objects."""
    if palette is not None:
        return index_masks.read_masks(source, Path(palette), report)
    try:
        splits = detect_mask_format(source)
    except DataError:
        return None
    for split in splits.values():
        if not isinstance(split, MaskFolderSource) or not any(mask for _, mask in split.pairs):
            return None
    return index_masks.read_masks(source, None, report)


def _refuse_options(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError("has no effect on this conversion", field=name, value=value, hint="Remove it.")


def _rename_options(failure: DataError) -> DataError:
    """Replaces config options in the message of a reader by arguments of `convert_dataset`."""
    field, hint = failure.field, failure.hint or ""
    for option, argument in OPTION_NAMES.items():
        hint = hint.replace(option, argument)
        field = argument if field == option else field
    return type(failure)(failure.problem, file=failure.file, field=field, value=failure.value, hint=hint or None)
