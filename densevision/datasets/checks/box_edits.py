"""Edits of label files: fixed labels in their own format, with all other content unchanged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from math import inf
from operator import is_not
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from densevision.cached_property import cached_property
from densevision.datasets.box_sources import CocoSource, FileBoxSource, ObjectSource, VocSource, YoloSource
from densevision.datasets.checks.fixes import FixPlan
from densevision.datasets.formats import labelme
from densevision.datasets.formats.coco_lists import to_whole_number
from densevision.datasets.formats.orientation import restore_labels
from densevision.datasets.formats.voc import CORNERS, parse_list_line, parse_stated_size, parse_xml
from densevision.datasets.formats.yolo import NON_LABEL_FILES, get_label_path
from densevision.errors import UsageError
from densevision.io.atomic_write import write_bytes, write_text
from densevision.io.box_table import BoxTable
from densevision.io.image import read_image_size
from densevision.io.image_files import is_inside, list_files, list_images
from densevision.io.lines import read_lines
from densevision.ops.view import Size

__all__ = ["CocoEdit", "CocoImagesEdit", "LabelmeEdit", "VocEdit", "YoloEdit", "get_box_edit", "rewrite_list"]

DIGITS = 3
"""Decimal digits of a pixel with which fixed boxes are written."""
WITHOUT_IMAGE = "without a usable image"
UNUSABLE = "not usable"

BoxesByOrigin = dict[int, tuple[np.ndarray, float]]
"""Place of an object in its label file -> its box and area."""


class _BoxEdit:
    """Collects the images and boxes of a dataset that are kept."""

    def __init__(self) -> None:
        self.tables: list[BoxTable] = []

    def add_table(self, table: BoxTable) -> None:
        """Keeps all images and boxes of a table, in the coordinates of the label file."""
        boxes, sizes = restore_labels(table)
        self.tables.append(replace(table, boxes=boxes, sizes=sizes))

    @cached_property
    def sizes(self) -> dict[str, Size]:
        """Image -> its (height, width)."""
        return {
            table.files[row]: (height, width)
            for table in self.tables
            for row, (height, width) in enumerate(table.sizes.tolist())
        }

    @cached_property
    def boxes(self) -> dict[str, BoxesByOrigin]:
        """Image -> its boxes."""
        boxes_by_image: dict[str, BoxesByOrigin] = {}
        for table in self.tables:
            for image in range(len(table)):
                rows = range(int(table.offsets[image]), int(table.offsets[image + 1]))
                boxes = {int(table.origin[row]): (table.boxes[row], float(table.areas[row])) for row in rows}
                boxes_by_image.setdefault(table.files[image], {}).update(boxes)
        return boxes_by_image

    def has_image(self, plan: FixPlan, folder: Path, name: str) -> bool:
        """Whether an image, named as in the tables, is kept."""
        return name in self.boxes and not plan.is_excluded(folder / name)


class CocoEdit(_BoxEdit):
    """Edits a COCO JSON: removes images and objects, and fixes sizes, boxes, areas and annotation ids."""

    def __init__(self, source: CocoSource):
        super().__init__()
        self.source = source

    def apply(self, plan: FixPlan) -> None:
        """Rewrites the JSON if anything changes."""
        path = self.source.file
        content = json.loads(path.read_bytes())
        images = self._select_images(content["images"], plan)
        rows = {index: row for boxes in self.boxes.values() for index, row in boxes.items()}
        indices = [
            index for index, entry in enumerate(content["annotations"]) if index in rows and entry["image_id"] in images
        ]
        objects = [content["annotations"][index] for index in indices]
        new_ids = _renumber_duplicates([entry.get("id") for entry in objects])
        fixed_objects = [
            _update(entry, _list_fixes(entry, *rows[index]) | new_id)
            for index, entry, new_id in zip(indices, objects, new_ids)
        ]
        fixed_images = [_update(entry, self._list_size_fixes(entry)) for entry in images.values()]
        removed = len(content["images"]) - len(images), len(content["annotations"]) - len(objects)
        changed = sum(map(is_not, fixed_images, images.values())), sum(map(is_not, fixed_objects, objects))
        if any(removed + changed):
            description = f"rewritten: {removed[0]} images and {removed[1]} objects left out"
            description += f", {changed[0]} sizes and {changed[1]} objects fixed"
            _rewrite_json(path, content | {"images": fixed_images, "annotations": fixed_objects}, plan, description)

    def _select_images(self, entries: list[Any], plan: FixPlan) -> dict[int, dict[str, Any]]:
        """Returns id -> the first kept image with this id; images without entry in the tables are excluded."""
        images: dict[int, dict[str, Any]] = {}
        for entry in (entry for entry in entries if isinstance(entry, dict)):
            name, image_id = entry.get("file_name"), to_whole_number(entry.get("id"))
            if isinstance(name, str) and self.has_image(plan, self.source.folder, name):
                if type(image_id) is int:
                    images.setdefault(image_id, entry)
            elif isinstance(name, str) and is_inside(name):
                plan.exclude(self.source.folder / name, UNUSABLE)
        return images

    def _list_size_fixes(self, entry: dict[str, Any]) -> dict[str, int]:
        """Returns height and width if the entry has other values."""
        sides = zip(("height", "width"), self.sizes[entry["file_name"]])
        return {key: side for key, side in sides if entry.get(key) not in (None, 0, side)}


class CocoImagesEdit:
    """Edits a COCO-like JSON: removes excluded images and their annotations."""

    def __init__(self, file: Path, folder: Path):
        self.file, self.folder = file, folder

    def apply(self, plan: FixPlan) -> None:
        """Rewrites the JSON if anything changes."""
        content = json.loads(self.file.read_bytes())
        images = [entry for entry in content["images"] if not plan.is_excluded(self.folder / entry["file_name"])]
        if len(images) == len(content["images"]):
            return
        image_ids = {entry["id"] for entry in images}
        annotations = [entry for entry in content["annotations"] if entry["image_id"] in image_ids]
        description = f"rewritten: {len(content['images']) - len(images)} images left out"
        _rewrite_json(self.file, content | {"images": images, "annotations": annotations}, plan, description)


class YoloEdit(_BoxEdit):
    """Edits the label files of a YOLO dataset: removes lines and fixes boxes."""

    def __init__(self, source: YoloSource):
        super().__init__()
        self.source = source
        self.entries: set[str] = set()

    def apply(self, plan: FixPlan) -> None:
        """Rewrites labels and lists, and excludes unused files."""
        root = self.source.dataset.root
        for entry in sorted(self.entries):
            path = next(path for path in (root / entry, root / entry.removeprefix("../")) if path.exists())
            if path.is_dir():
                self._exclude_unused(path, plan)
            else:
                self._rewrite_list(path, plan)
        for name, boxes in self.boxes.items():
            label = root / get_label_path(name)
            if not self.has_image(plan, root, name):
                plan.exclude(label, WITHOUT_IMAGE)
            elif label.is_file():
                _rewrite_lines(label, boxes, root / name, plan, has_polygons=not self.source.dataset.keypoints)

    def _exclude_unused(self, folder: Path, plan: FixPlan) -> None:
        root = self.source.dataset.root
        names = {os.path.normpath(os.path.relpath(folder / name, root)) for name in list_images(folder)}
        for name in names - self.boxes.keys():
            plan.exclude(root / name, UNUSABLE)
        labels = {get_label_path(name) for name in names if self.has_image(plan, root, name)}
        probe = get_label_path(os.path.normpath(os.path.relpath(folder / "x.jpg", root)))
        for base, _, files in os.walk((root / probe).parent):
            for file in files:
                path = os.path.normpath(os.path.relpath(os.path.join(base, file), root))
                if file.endswith(".txt") and file.lower() not in NON_LABEL_FILES and path not in labels:
                    plan.exclude(root / path, WITHOUT_IMAGE)

    def _rewrite_list(self, path: Path, plan: FixPlan) -> None:
        root = self.source.dataset.root

        def is_kept(line: str) -> bool:
            name = line.strip()
            base = path.parent if name.startswith("./") else root
            return not name or self.has_image(plan, root, os.path.relpath(os.path.join(base, name), root))

        rewrite_list(path, is_kept, plan)


class VocEdit(_BoxEdit):
    """Edits the annotations of a Pascal VOC dataset: removes objects, and fixes sizes and boxes."""

    def __init__(self, source: VocSource):
        super().__init__()
        self.source = source
        self.splits: set[str | None] = set()

    def apply(self, plan: FixPlan) -> None:
        """Rewrites annotations and lists, and excludes unused files."""
        root, label_folder = self.source.folder, self.source.folder / self.source.labels
        names = {Path(name).stem: name for name in self.boxes if self.has_image(plan, root, name)}
        labeled = {file.stem for file in label_folder.glob("*.xml")}
        lists = [root / "ImageSets" / "Main" / f"{split}.txt" for split in sorted(filter(None, self.splits))]
        listed = {parse_list_line(line, labeled) for path in lists for line in read_lines(path)} - {""}
        if None in self.splits:
            listed |= labeled
        for stem in sorted(listed - names.keys()):
            plan.exclude(label_folder / f"{stem}.xml", WITHOUT_IMAGE)
        for path in lists:
            rewrite_list(path, lambda line: not line.strip() or parse_list_line(line, labeled) in names, plan)
        for stem, name in names.items():
            _rewrite_annotation(label_folder / f"{stem}.xml", self.sizes[name], self.boxes[name], plan)


class LabelmeEdit:
    """Edits labelme files: removes shapes that give no object."""

    def __init__(self, labels: Path, root: Path):
        self.labels, self.root = labels, root
        self.sizes: dict[str, Size] = {}

    def add_table(self, table: BoxTable) -> None:
        """Keeps the images of a table."""
        for row, (height, width) in enumerate(table.label_sizes.tolist()):
            self.sizes[table.files[row]] = height, width

    def apply(self, plan: FixPlan) -> None:
        """Rewrites files, and excludes those without an image."""
        for file in list_files(self.labels, "*.json"):
            content = labelme.read_file(file)
            image = "" if content is None else labelme.find_image(file, content, self.root)
            if content is None or image not in self.sizes or plan.is_excluded(self.root / image):
                plan.exclude(file, WITHOUT_IMAGE)
                continue
            shapes = [shape for shape in content["shapes"] if labelme.is_usable(shape, self.sizes[image])]
            if len(shapes) < len(content["shapes"]):
                _rewrite_json(file, content | {"shapes": shapes}, plan, "rewritten without shapes that give no object")


class UnsupportedEdit:
    """Refuses to write a copy of a dataset whose labels are read only."""

    def __init__(self, source: ObjectSource):
        self.source = source

    def add_table(self, table: BoxTable) -> None:
        """Does nothing: there is no copy to prepare."""

    def apply(self, plan: FixPlan) -> None:
        """Raises.

        Raises:
            UsageError: Always.
        """
        hint = "Convert the dataset: `densevision convert SOURCE OUT --to coco --on-error fix` fixes labels as well."
        problem = f"does not rewrite labels of the format {self.source.format_name}"
        raise UsageError(problem, field="--fix", value=str(self.source.labels), hint=hint)


def get_box_edit(plan: FixPlan, source: FileBoxSource) -> CocoEdit | YoloEdit | VocEdit | LabelmeEdit | UnsupportedEdit:
    """Returns the edit of a source's files; splits in the same files share it."""
    if isinstance(source, ObjectSource):
        if source.format_name == "labelme":
            return plan.get_edit(source.labels, lambda: LabelmeEdit(source.labels, source.folder))
        return plan.get_edit(source.labels, lambda: UnsupportedEdit(source))
    if isinstance(source, CocoSource):
        return plan.get_edit(source.file, lambda: CocoEdit(source))
    if isinstance(source, YoloSource):
        yolo_edit = plan.get_edit(source.dataset.file, lambda: YoloEdit(source))
        yolo_edit.entries.update(source.entries)
        return yolo_edit
    voc_edit = plan.get_edit(source.folder / source.labels, lambda: VocEdit(source))
    voc_edit.splits.add(source.split)
    return voc_edit


def rewrite_list(path: Path, is_kept: Callable[[str], bool], plan: FixPlan) -> None:
    """Rewrites a list of files without the lines for which `is_kept` is false."""
    lines = read_lines(path)
    kept_lines = [line for line in lines if is_kept(line)]
    if len(kept_lines) < len(lines):
        text = "".join(f"{line}\n" for line in kept_lines)
        plan.rewrite(path, lambda target: write_text(target, text), "rewritten without excluded files")


def _rewrite_json(path: Path, content: dict[str, Any], plan: FixPlan, description: str) -> None:
    text = json.dumps(content, ensure_ascii=False)
    plan.rewrite(path, lambda target: write_text(target, text), description)


def _list_fixes(entry: dict[str, Any], box: np.ndarray, area: float) -> dict[str, Any]:
    """Returns box and area of a COCO annotation if it has other values; a valid area of a mask is kept."""
    x1, y1, x2, y2 = box.astype(float).tolist()
    xywh, annotated_area = [x1, y1, x2 - x1, y2 - y1], entry.get("area")
    fixes: dict[str, Any] = {}
    if not np.allclose(entry["bbox"], xywh, atol=10**-DIGITS, rtol=1e-6):
        fixes["bbox"] = [round(value, DIGITS) for value in xywh]
    is_mask_area = entry.get("segmentation") and annotated_area is not None and 0 <= annotated_area < inf
    if annotated_area is not None and not is_mask_area and annotated_area != area:
        fixes["area"] = round(area, DIGITS)
    return fixes


def _renumber_duplicates(ids: list[int | None]) -> list[dict[str, int]]:
    """Returns a new id for each object whose id an earlier one has, and nothing for the others."""
    unused = count(max((value for value in ids if value is not None), default=0) + 1)
    used: set[int | None] = set()
    fixes = []
    for value in ids:
        fixes.append({"id": next(unused)} if value is not None and value in used else {})
        used.add(value)
    return fixes


def _update(entry: dict[str, Any], fixes: dict[str, Any]) -> dict[str, Any]:
    """Returns the entry with fixes; the same object if there are none."""
    return {**entry, **fixes} if fixes else entry


def _rewrite_lines(label: Path, boxes: BoxesByOrigin, image: Path, plan: FixPlan, has_polygons: bool) -> None:
    """Rewrites a YOLO label file if anything changes."""
    height, width = read_image_size(image)
    lines, fixed_lines = read_lines(label), []
    for number, line in enumerate(lines, 1):
        if number in boxes:
            fixed_lines.append(_fix_line(line, boxes[number][0], (width, height, width, height), has_polygons))
        elif not line.strip():
            fixed_lines.append(line)
    if fixed_lines != lines:
        text = "".join(f"{line}\n" for line in fixed_lines)
        description = "rewritten without invalid lines, and with fixed boxes"
        plan.rewrite(label, lambda target: write_text(target, text), description)


def _fix_line(line: str, box: np.ndarray, scale: tuple[int, int, int, int], has_polygons: bool) -> str:
    """Returns a YOLO line with this box, unchanged if it has it already; polygons are clipped, keypoints are kept."""
    label, *values = line.split()
    x1, y1, x2, y2 = (float(value) / side for value, side in zip(box.tolist(), scale))
    numbers = [float(value) for value in values]
    if has_polygons and len(numbers) > 4:
        limits = [(x1, x2), (y1, y2)]
        clipped = [min(max(value, limits[index % 2][0]), limits[index % 2][1]) for index, value in enumerate(numbers)]
        is_same = np.allclose(clipped, numbers, atol=1e-6)
        return line if is_same else " ".join([label, *(f"{value:.9g}" for value in clipped)])
    xywh = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    if np.allclose(numbers[:4], xywh, atol=1e-6):
        return line
    return " ".join([label, *(f"{value:.9g}" for value in xywh), *values[4:]])


def _rewrite_annotation(path: Path, size: Size, boxes: BoxesByOrigin, plan: FixPlan) -> None:
    """Rewrites a Pascal VOC annotation if anything changes."""
    root, is_changed = parse_xml(path), False
    assert root is not None  # it was read before
    if parse_stated_size(root) not in (None, size):
        for name, side in zip(("height", "width"), size):
            next(root.iterfind(f"size/{name}")).text = str(side)
        is_changed = True
    for number, item in enumerate(list(root.iter("object")), 1):
        if number not in boxes:
            root.remove(item)
            is_changed = True
            continue
        corners = (boxes[number][0] + [1, 1, 0, 0]).tolist()
        for name, value in zip(CORNERS, corners):
            element = item.find(f"bndbox/{name}")
            if element is not None and abs(float(element.text or 0) - value) > 0.5 * 10**-DIGITS:
                element.text, is_changed = f"{round(value, DIGITS):g}", True
    if is_changed:
        data = ElementTree.tostring(root, "utf-8")
        description = "rewritten without invalid objects, and with fixed sizes and boxes"
        plan.rewrite(path, lambda target: write_bytes(target, data), description)
