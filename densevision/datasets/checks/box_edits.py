"""Label files written anew with what a reader fixed, in their own format and with all else that they hold."""

from __future__ import annotations

import json
import os
from functools import cached_property
from itertools import count
from math import inf
from operator import is_not
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from densevision.datasets.box_sources import CocoSource, FileSource, VocSource, YoloSource
from densevision.datasets.checks.fixes import Repair
from densevision.datasets.formats import labelme
from densevision.datasets.formats.coco import whole
from densevision.datasets.formats.coco_objects import LEAST_POINTS
from densevision.datasets.formats.voc import CORNERS, listed_stem, stated_size
from densevision.datasets.formats.yolo import NOT_LABELS, label_path
from densevision.io.atomic_write import write_bytes, write_text
from densevision.io.box_table import BoxTable
from densevision.io.image import image_size
from densevision.io.image_files import is_inside, list_images
from densevision.io.lines import read_lines
from densevision.io.segmentations import holds_pixels
from densevision.ops.view import Size

DIGITS = 3
"""Of pixels that a fixed box is written with."""
UNLISTED = "without an image that can be used"
UNUSED = "which cannot be used"


class _BoxEdit:
    """What of a dataset stays."""

    def __init__(self, source: FileSource):
        self.source = source
        self.tables: list[BoxTable] = []

    def keep(self, table: BoxTable) -> None:
        """Everything in a table stays, as it is there."""
        self.tables.append(table)

    @cached_property
    def sizes(self) -> dict[str, Size]:
        """Image -> its (height, width)."""
        return {
            table.files[row]: (height, width)
            for table in self.tables
            for row, (height, width) in enumerate(table.sizes.tolist())
        }

    @cached_property
    def kept(self) -> dict[str, dict[int, tuple[np.ndarray, float]]]:
        """Image -> its boxes and their areas by their place in the label file."""
        found: dict[str, dict[int, tuple[np.ndarray, float]]] = {}
        for table in self.tables:
            for image in range(len(table)):
                rows = range(int(table.offsets[image]), int(table.offsets[image + 1]))
                boxes = {int(table.origin[row]): (table.boxes[row], float(table.areas[row])) for row in rows}
                found.setdefault(table.files[image], {}).update(boxes)
        return found

    def stays(self, repair: Repair, name: str) -> bool:
        """Whether an image, named as in the table, stays."""
        return name in self.kept and not repair.is_left_out(Path(self.source.folder) / name)


class CocoEdit(_BoxEdit):
    """A COCO json without what was left out, and with fixed sizes, boxes, areas and annotation ids."""

    def apply(self, repair: Repair) -> None:
        """Rewrites the json where something changes."""
        path = self.source.file
        content = json.loads(path.read_bytes())
        images = self._images(content["images"], repair)
        rows = {place: found for boxes in self.kept.values() for place, found in boxes.items()}
        places = [
            place for place, entry in enumerate(content["annotations"]) if place in rows and entry["image_id"] in images
        ]
        objects = [content["annotations"][place] for place in places]
        ids = _new_ids([entry.get("id") for entry in objects])
        fixed = [_changed(entry, _mends(entry, *rows[place]) | id) for place, entry, id in zip(places, objects, ids)]
        sized = [_changed(entry, self._size(entry)) for entry in images.values()]
        lost = len(content["images"]) - len(images), len(content["annotations"]) - len(objects)
        changes = sum(map(is_not, sized, images.values())), sum(map(is_not, fixed, objects))
        if any(lost + changes):
            what = f"written anew: {lost[0]} images and {lost[1]} objects left out"
            what += f", {changes[0]} sizes and {changes[1]} objects fixed"
            text = json.dumps(content | {"images": sized, "annotations": fixed}, ensure_ascii=False)
            repair.rewrite(path, lambda target: write_text(target, text), what)

    def _images(self, entries: list[Any], repair: Repair) -> dict[int, dict[str, Any]]:
        """Id -> the first image of this id, of those that stay."""
        images: dict[int, dict[str, Any]] = {}
        for entry in (entry for entry in entries if isinstance(entry, dict)):
            name, id = entry.get("file_name"), entry.get("id")
            if isinstance(name, str) and self.stays(repair, name):
                if type(whole(id)) is int:
                    images.setdefault(whole(id), entry)
            elif isinstance(name, str) and is_inside(name):
                repair.leave_out(self.source.folder / name, UNUSED)
        return images

    def _size(self, entry: dict[str, Any]) -> dict[str, int]:
        """Height and width, where an entry states another number."""
        own = zip(("height", "width"), self.sizes[entry["file_name"]])
        return {key: side for key, side in own if entry.get(key) not in (None, 0, side)}


class CocoImagesEdit:
    """A json of COCO's kind without the images that were left out, and what is said of them."""

    def __init__(self, file: Path, folder: Path):
        self.file, self.folder = file, folder

    def apply(self, repair: Repair) -> None:
        """Rewrites the json where something changes."""
        content = json.loads(self.file.read_bytes())
        images = [entry for entry in content["images"] if not repair.is_left_out(self.folder / entry["file_name"])]
        if len(images) == len(content["images"]):
            return
        ids = {entry["id"] for entry in images}
        kept = [entry for entry in content["annotations"] if entry["image_id"] in ids]
        text = json.dumps(content | {"images": images, "annotations": kept}, ensure_ascii=False)
        what = f"written anew: {len(content['images']) - len(images)} images left out"
        repair.rewrite(self.file, lambda target: write_text(target, text), what)


class YoloEdit(_BoxEdit):
    """Label files of a YOLO dataset without the lines that were left out, and with fixed boxes."""

    def __init__(self, source: YoloSource):
        super().__init__(source)
        self.entries: set[str] = set()

    def apply(self, repair: Repair) -> None:
        """Rewrites labels and lists, and leaves out what nothing uses."""
        root = self.source.dataset.root
        for entry in sorted(self.entries):
            path = next(place for place in (root / entry, root / entry.removeprefix("../")) if place.exists())
            if path.is_dir():
                self._leave_out_unused(path, repair)
            else:
                self._rewrite_list(path, repair)
        for name, boxes in self.kept.items():
            label = root / label_path(name)
            if not self.stays(repair, name):
                repair.leave_out(label, UNLISTED)
            elif label.is_file():
                _rewrite_lines(label, boxes, root / name, repair, outlined=not self.source.dataset.keypoints)

    def _leave_out_unused(self, folder: Path, repair: Repair) -> None:
        root = self.source.dataset.root
        names = {os.path.normpath(os.path.relpath(folder / name, root)) for name in list_images(folder)}
        for name in names - self.kept.keys():
            repair.leave_out(root / name, UNUSED)
        expected = {label_path(name) for name in names if self.stays(repair, name)}
        probe = label_path(os.path.normpath(os.path.relpath(folder / "x.jpg", root)))
        for base, _, files in os.walk((root / probe).parent):
            for file in files:
                path = os.path.normpath(os.path.relpath(os.path.join(base, file), root))
                if file.endswith(".txt") and file.lower() not in NOT_LABELS and path not in expected:
                    repair.leave_out(root / path, UNLISTED)

    def _rewrite_list(self, path: Path, repair: Repair) -> None:
        root = self.source.dataset.root

        def stays(line: str) -> bool:
            name = line.strip()
            base = path.parent if name.startswith("./") else root
            return not name or self.stays(repair, os.path.relpath(os.path.join(base, name), root))

        rewrite_list(path, stays, repair)


class VocEdit(_BoxEdit):
    """Annotations of a Pascal VOC dataset without the objects that were left out, and with fixed sizes and boxes."""

    def __init__(self, source: VocSource):
        super().__init__(source)
        self.splits: set[str | None] = set()

    def apply(self, repair: Repair) -> None:
        """Rewrites annotations and lists, and leaves out what nothing uses."""
        root = self.source.folder
        stems = {Path(name).stem: name for name in self.kept if self.stays(repair, name)}
        there = {file.stem for file in (root / "Annotations").glob("*.xml")}
        named = {listed_stem(line, there) for split in self.splits - {None} for line in self._lines(split)} - {""}
        if None in self.splits:
            named |= there
        for stem in sorted(named - stems.keys()):
            repair.leave_out(root / "Annotations" / f"{stem}.xml", UNLISTED)
        for split in sorted(self.splits - {None}):
            path = root / "ImageSets" / "Main" / f"{split}.txt"
            rewrite_list(path, lambda line: not line.strip() or listed_stem(line, there) in stems, repair)
        for stem, name in stems.items():
            self._rewrite_annotation(root / "Annotations" / f"{stem}.xml", self.sizes[name], self.kept[name], repair)

    def _lines(self, split: str | None) -> list[str]:
        return read_lines(self.source.folder / "ImageSets" / "Main" / f"{split}.txt")

    def _rewrite_annotation(
        self, path: Path, size: Size, boxes: dict[int, tuple[np.ndarray, float]], repair: Repair
    ) -> None:
        tree = ElementTree.parse(path)
        root, lost, fixed = tree.getroot(), 0, 0
        if stated_size(root) not in (None, size):
            for name, side in zip(("height", "width"), size):
                next(root.iterfind(f"size/{name}")).text, fixed = str(side), fixed + 1
        for number, item in enumerate(list(root.iter("object")), 1):
            if number not in boxes:
                root.remove(item)
                lost += 1
                continue
            corners = (boxes[number][0] + [1, 1, 0, 0]).tolist()
            for name, value in zip(CORNERS, corners):
                element = item.find(f"bndbox/{name}")
                if element is not None and abs(float(element.text or 0) - value) > 0.5 * 10**-DIGITS:
                    element.text, fixed = f"{round(value, DIGITS):g}", fixed + 1
        if lost or fixed:
            data = ElementTree.tostring(root, "utf-8")
            what = "written anew without objects that were left out, and with fixed sizes and boxes"
            repair.rewrite(path, lambda target: write_bytes(target, data), what)


class LabelmeEdit:
    """Files of labelme without the shapes that no object can be made of."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.kept: set[str] = set()

    def keep(self, table: BoxTable) -> None:
        """The images of a table stay."""
        self.kept |= {table.files[row] for row in range(len(table))}

    def apply(self, repair: Repair) -> None:
        """Rewrites files, and leaves out those without an image."""
        for file in sorted(self.folder.glob("*.json")):
            content = json.loads(file.read_bytes())
            image = str(content.get("imagePath") or f"{file.stem}.jpg")
            if image not in self.kept or repair.is_left_out(self.folder / image):
                repair.leave_out(file, UNLISTED)
                continue
            size = image_size(self.folder / image)
            shapes = [shape for shape in content["shapes"] if _is_usable(labelme.outline(shape), size)]
            if len(shapes) < len(content["shapes"]):
                text = json.dumps(content | {"shapes": shapes}, ensure_ascii=False)
                what = "written anew without shapes that were left out"
                repair.rewrite(file, lambda target, text=text: write_text(target, text), what)


def edit_of(repair: Repair, source: FileSource) -> _BoxEdit:
    """The edit of a source's files; splits that lie in the same files share it."""
    if isinstance(source, CocoSource):
        return repair.edit(source.file, lambda: CocoEdit(source))
    if isinstance(source, YoloSource):
        edit = repair.edit(source.dataset.file, lambda: YoloEdit(source))
        edit.entries.update(source.entries)
        return edit
    edit = repair.edit(source.folder, lambda: VocEdit(source))
    edit.splits.add(source.split)
    return edit


def rewrite_list(path: Path, stays: Any, repair: Repair) -> None:
    """Writes a list of files anew without the lines that do not stay."""
    lines = read_lines(path)
    kept = [line for line in lines if stays(line)]
    if len(kept) < len(lines):
        text = "".join(f"{line}\n" for line in kept)
        what = "written anew without what was left out"
        repair.rewrite(path, lambda target: write_text(target, text), what)


def _mends(entry: dict[str, Any], box: np.ndarray, area: float) -> dict[str, Any]:
    """Box and area of an annotation, where it has others; the area of a mask is right whatever its box was."""
    x1, y1, x2, y2 = box.astype(float).tolist()
    wanted, stated, changes = [x1, y1, x2 - x1, y2 - y1], entry.get("area"), {}
    if not np.allclose(entry["bbox"], wanted, atol=10**-DIGITS, rtol=1e-6):
        changes["bbox"] = [round(value, DIGITS) for value in wanted]
    if stated is not None and not (entry.get("segmentation") and 0 <= stated < inf) and stated != area:
        changes["area"] = round(area, DIGITS)
    return changes


def _new_ids(ids: list[int | None]) -> list[dict[str, int]]:
    """An id of its own where an earlier object has the same; nothing for the others."""
    unused = count(max((id for id in ids if id is not None), default=0) + 1)
    known: set[int | None] = set()
    found = []
    for id in ids:
        found.append({"id": next(unused)} if id is not None and id in known else {})
        known.add(id)
    return found


def _changed(entry: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The entry with changes; itself where there are none."""
    return {**entry, **changes} if changes else entry


def _is_usable(outline: list[float] | None, size: Size) -> bool:
    return outline is not None and len(outline) >= 2 * LEAST_POINTS and holds_pixels([outline], size)


def _rewrite_lines(
    label: Path, boxes: dict[int, tuple[np.ndarray, float]], image: Path, repair: Repair, outlined: bool
) -> None:
    height, width = image_size(image)
    lines, result = read_lines(label), []
    for number, line in enumerate(lines, 1):
        if number in boxes:
            result.append(_yolo_line(line, boxes[number][0], (width, height, width, height), outlined))
        elif not line.strip():
            result.append(line)
    if result != lines:
        text = "".join(f"{line}\n" for line in result)
        what = "written anew without lines that were left out, and with fixed boxes"
        repair.rewrite(label, lambda target: write_text(target, text), what)


def _yolo_line(line: str, box: np.ndarray, scale: tuple[int, int, int, int], outlined: bool) -> str:
    """The line with this box; itself where it has it already. An outline is clipped instead; keypoints stay."""
    label, *values = line.split()
    x1, y1, x2, y2 = (float(value) / side for value, side in zip(box.tolist(), scale))
    numbers = [float(value) for value in values]
    if outlined and len(numbers) > 4:
        limits = [(x1, x2), (y1, y2)]
        clipped = [min(max(value, limits[place % 2][0]), limits[place % 2][1]) for place, value in enumerate(numbers)]
        same = np.allclose(clipped, numbers, atol=1e-6)
        return line if same else " ".join([label, *(f"{value:.9g}" for value in clipped)])
    wanted = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
    if np.allclose(numbers[:4], wanted, atol=1e-6):
        return line
    return " ".join([label, *(f"{value:.9g}" for value in wanted), *values[4:]])
