"""Writes objects as projects of the VGG Image Annotator, version 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.conversion.box_writers import copy_image
from densevision.datasets.conversion.losses import count_annotation_losses
from densevision.datasets.conversion.objects import (
    ObjectSplit,
    dump_json,
    iterate_images,
    list_labeled_rows,
    round_number,
)
from densevision.datasets.conversion.polygons import get_polygons, join_polygons
from densevision.datasets.conversion.report import ConversionReport
from densevision.io.atomic_write import write_text

__all__ = ["write_via"]

PROJECT_FILE = "via_project.json"
ATTRIBUTE = "class"
"""Name of the regions' attribute that holds the class."""
DATA_FORMAT = "2.0.10"


def write_via(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes <split>/via_project.json with the images beside it; the class is the region attribute `class`.

    A region is one polygon: run lengths are traced, and the parts of an object joined by connections of zero width. VIA
    has no crowd regions: they are left out.
    """
    categories = count_annotation_losses(splits, report)
    for split, objects in splits.items():
        images: dict[str, Any] = {}
        for image, name in iterate_images(objects):
            copy_image(objects, image, out / split / name)
            size = (out / split / name).stat().st_size
            regions = [_describe_region(objects, image, row, report) for row in list_labeled_rows(objects, image)]
            images[f"{name}{size}"] = {"filename": name, "size": size, "regions": regions, "file_attributes": {}}
        write_text(out / split / PROJECT_FILE, dump_json(_build_project(split, images, list(categories))))


def _build_project(name: str, images: dict[str, Any], classes: list[str]) -> dict[str, Any]:
    attribute = {"type": "dropdown", "description": "", "options": dict.fromkeys(classes, ""), "default_options": {}}
    core = {"buffer_size": 18, "filepath": {}, "default_filepath": ""}
    return {
        "_via_settings": {"core": core, "project": {"name": name}},
        "_via_img_metadata": images,
        "_via_attributes": {"region": {ATTRIBUTE: attribute}, "file": {}},
        "_via_data_format_version": DATA_FORMAT,
        "_via_image_id_list": list(images),
    }


def _describe_region(objects: ObjectSplit, image: int, row: int, report: ConversionReport) -> dict[str, Any]:
    shape: dict[str, Any]
    if objects.masks is None:
        x1, y1, x2, y2 = objects.boxes.boxes[row].astype(float).tolist()
        sides = [round_number(value) for value in (x1, y1, x2 - x1, y2 - y1)]
        shape = {"name": "rect"} | dict(zip(("x", "y", "width", "height"), sides))
    else:
        polygon = join_polygons(get_polygons(objects, image, row, report), report)
        x_values, y_values = ([round_number(value) for value in axis] for axis in np.transpose(polygon).tolist())
        shape = {"name": "polygon", "all_points_x": x_values, "all_points_y": y_values}
    return {"shape_attributes": shape, "region_attributes": {ATTRIBUTE: objects.name(row)}}
