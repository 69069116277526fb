"""Writes objects in the formats of annotation programs: CVAT for images, labelme and Label Studio."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from densevision.datasets.conversion.box_writers import copy_image
from densevision.datasets.conversion.losses import count_annotation_losses
from densevision.datasets.conversion.objects import (
    ObjectSplit,
    dump_json,
    is_polygon,
    iterate_images,
    list_labeled_rows,
    round_number,
)
from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.formats.label_studio import encode_brush
from densevision.io.atomic_write import write_bytes, write_text
from densevision.ops.masks import crop_to_box, decode

__all__ = ["write_cvat", "write_label_studio", "write_labelme"]

LABELME_VERSION = "5.5.0"
"""Version of labelme whose files these are."""


def write_cvat(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes annotations.xml and images/<split>, as CVAT's export "CVAT for images 1.1" with images.

    The split is the subset of an image. Masks of one polygon are polygons, others run lengths of their window; both are
    exact. CVAT has no crowd regions: they are left out.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "project"), "labels")
    for name in count_annotation_losses(splits, report):
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = name
    number = 0
    for split, objects in splits.items():
        for image, name in iterate_images(objects):
            height, width = objects.size(image)
            attributes = {"id": str(number), "name": f"{split}/{name}", "subset": split}
            element = ElementTree.SubElement(root, "image", attributes, width=str(width), height=str(height))
            number += 1
            for row in list_labeled_rows(objects, image):
                kind, values = _describe_cvat_shape(objects, image, row)
                shape = {"label": objects.name(row), "source": "manual", "occluded": "0", **values, "z_order": "0"}
                ElementTree.SubElement(element, kind, shape)
            copy_image(objects, image, out / "images" / split / name)
    ElementTree.indent(root)
    write_bytes(out / "annotations.xml", ElementTree.tostring(root, "utf-8", xml_declaration=True) + b"\n")


def _describe_cvat_shape(objects: ObjectSplit, image: int, row: int) -> tuple[str, dict[str, str]]:
    if objects.masks is None:
        corners = objects.boxes.boxes[row].astype(float).tolist()
        return "box", {key: str(round_number(value)) for key, value in zip(("xtl", "ytl", "xbr", "ybr"), corners)}
    parts = _list_polygons(objects, row)
    if len(parts) == 1:
        points = ";".join(f"{round_number(x)},{round_number(y)}" for x, y in parts[0])
        return "polygon", {"points": points}
    pixels, (left, top) = crop_to_box(objects.masks.mask(row, objects.size(image)))
    height, width = pixels.shape
    edges = np.flatnonzero(np.diff(pixels.ravel().view(np.int8), prepend=0))
    runs = ", ".join(map(str, np.diff(edges, prepend=0, append=pixels.size).tolist()))  # they begin with a run of zeros
    place = {"left": left, "top": top, "width": width, "height": height}
    return "mask", {"rle": runs, **{key: str(int(value)) for key, value in place.items()}}


def write_labelme(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes <split>/<image>, without further folders, with one JSON beside each image.

    Polygons of one object share a group; other masks are the PNGs of labelme's AI tools; all are exact. labelme has no
    crowd regions: they are left out.
    """
    count_annotation_losses(splits, report)
    for split, objects in splits.items():
        bases = [os.path.splitext(os.path.basename(name))[0] for name in objects.names]
        are_unique = len(set(bases)) == len(bases)
        for image, path in iterate_images(objects):
            name = os.path.basename(path) if are_unique else path.replace("/", "_")
            report.add("folders in image names", int(name != path))
            height, width = objects.size(image)
            shapes = [
                shape
                for group, row in enumerate(list_labeled_rows(objects, image), 1)
                for shape in _describe_labelme_shapes(objects, image, row, group)
            ]
            content: dict[str, Any] = {
                "version": LABELME_VERSION,
                "flags": {},
                "shapes": shapes,
                "imagePath": name,
                "imageData": None,
                "imageHeight": height,
                "imageWidth": width,
            }
            write_text(out / split / f"{os.path.splitext(name)[0]}.json", dump_json(content))
            copy_image(objects, image, out / split / name)


def _describe_labelme_shapes(objects: ObjectSplit, image: int, row: int, group: int) -> Iterator[dict[str, Any]]:
    shape: dict[str, Any] = {"label": objects.name(row), "group_id": None, "description": "", "flags": {}}
    if objects.masks is None:
        x1, y1, x2, y2 = (round_number(value) for value in objects.boxes.boxes[row].astype(float).tolist())
        yield {**shape, "shape_type": "rectangle", "points": [[x1, y1], [x2, y2]]}
        return
    parts = _list_polygons(objects, row)
    for part in parts:
        points = [[round_number(x), round_number(y)] for x, y in part]
        yield {**shape, "group_id": group if len(parts) > 1 else None, "shape_type": "polygon", "points": points}
    if not parts:
        pixels, (left, top) = crop_to_box(objects.masks.mask(row, objects.size(image)))
        height, width = pixels.shape
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        corners = [[int(left), int(top)], [int(left) + width - 1, int(top) + height - 1]]
        mask = base64.b64encode(stream.getvalue()).decode("ascii")
        yield {**shape, "shape_type": "mask", "points": corners, "mask": mask}


def write_label_studio(splits: dict[str, ObjectSplit], out: Path, report: ConversionReport) -> None:
    """Writes tasks.json, labeling_config.xml and images/<split>, to be served as local storage or uploaded.

    Masks of one polygon are polygons, others brushes; both are exact. Label Studio has no splits and no crowd regions:
    the split is only part of the image's path, and crowd regions are left out.
    """
    categories = count_annotation_losses(splits, report)
    report.add("splits", len(splits) - 1)
    has_masks = any(objects.masks is not None for objects in splits.values())
    kinds = {"polygonlabels": "PolygonLabels", "brushlabels": "BrushLabels"} if has_masks else _BOX_KINDS
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": "image", "value": "$image"})
    for kind, tag in kinds.items():
        control = ElementTree.SubElement(view, tag, {"name": kind, "toName": "image"})
        for name in categories:
            ElementTree.SubElement(control, "Label", {"value": name})
    ElementTree.indent(view)
    write_bytes(out / "labeling_config.xml", ElementTree.tostring(view, "utf-8") + b"\n")
    tasks: list[dict[str, Any]] = []
    for split, objects in splits.items():
        for image, name in iterate_images(objects):
            height, width = objects.size(image)
            common = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
            result = []
            for row in list_labeled_rows(objects, image):
                kind, value = _describe_label_studio_shape(objects, image, row)
                value[kind] = [objects.name(row)]
                region = {"id": f"{len(tasks) + 1}-{row}", "type": kind, "from_name": kind, "value": value}
                result.append(region | common)
            address = f"/data/local-files/?d=images/{split}/{name}"
            annotations = [{"result": result, "was_cancelled": False}]
            tasks.append({"id": len(tasks) + 1, "data": {"image": address}, "annotations": annotations})
            copy_image(objects, image, out / "images" / split / name)
    write_text(out / "tasks.json", dump_json(tasks))


_BOX_KINDS = {"rectanglelabels": "RectangleLabels"}


def _describe_label_studio_shape(objects: ObjectSplit, image: int, row: int) -> tuple[str, dict[str, Any]]:
    height, width = objects.size(image)
    percent = np.array([100 / width, 100 / height])
    if objects.masks is None:
        first, last = objects.boxes.boxes[row].astype(float).reshape(2, 2) * percent
        numbers = [*first.tolist(), *(last - first).tolist()]
        return "rectanglelabels", dict(zip(("x", "y", "width", "height"), numbers), rotation=0)
    parts = _list_polygons(objects, row)
    if len(parts) == 1:
        return "polygonlabels", {"points": (parts[0].astype(float) * percent).tolist(), "closed": True}
    mask = decode(objects.masks.mask(row, objects.size(image)))
    return "brushlabels", {"format": "rle", "rle": encode_brush(mask)}


def _list_polygons(objects: ObjectSplit, row: int) -> list[np.ndarray]:
    """The polygons of an object whose mask is stored so; none for run lengths."""
    assert objects.masks is not None
    return objects.masks.polygons(row) if is_polygon(objects, row) else []
