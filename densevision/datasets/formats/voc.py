"""Pascal VOC: one XML per image in Annotations, images in JPEGImages, splits in ImageSets/Main.

LabelImg writes XML files beside the images or into a folder of their own, Roboflow beside the images of each split,
FiftyOne into `labels` beside `data`, CVAT and Datumaro into Annotations with `labelmap.txt` and the list `default`.
Label Studio writes into Annotations with the images in `images`. Corners count from 1 as in Pascal VOC, although some
programs write them from 0; `difficult` objects are ignored by evaluation. The encoding that the XML states is used:
labelers on Chinese Windows write GB 2312.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from densevision.datasets.formats.orientation import find_label_orientations, orient_boxes
from densevision.errors import DataError
from densevision.io.box_table import BoxTable, RecordBuffer, StringArray, build_table
from densevision.io.image_files import MAX_INT32, ImageSelector, is_inside, list_files, list_images, measure_images
from densevision.io.label_issues import SKIPPED, IssueKind, LabelIssues
from densevision.io.lines import parse_decimal, read_lines
from densevision.io.progress import track_progress
from densevision.ops.view import Size

__all__ = [
    "CORNERS",
    "IMAGE_FOLDERS",
    "LABEL_FOLDER",
    "is_annotation",
    "list_splits",
    "parse_list_line",
    "parse_stated_size",
    "parse_xml",
    "read_class_names",
    "read_voc",
]

LABEL_FOLDER = "Annotations"
IMAGE_FOLDERS = ("JPEGImages", "images")
_DECLARATION = re.compile(rb"""\A\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*?\?>""")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
_INTEGER = re.compile("[0-9]{1,9}")


def read_voc(
    root: str | os.PathLike[str],
    split: str | None,
    issues: LabelIssues,
    max_pixels: int = MAX_INT32,
    select: ImageSelector | None = None,
    labels: str = LABEL_FOLDER,
    images: str | None = None,
) -> BoxTable:
    """Reads a VOC folder into arrays.

    Corners are pixels that count from 1, both inside the box, so that 1, 1, 2, 2 is two pixels wide. Objects marked
    `difficult` become crowd, which evaluation ignores. Category ids are 1, 2, ... in the order of names.

    Args:
        root: The dataset.
        split: Name of a list in ImageSets/Main; None reads every XML.
        issues: Reports problems.
        max_pixels: Larger images count as broken.
        select: Selects a part of the images; all by default.
        labels: The folder of the XML files, relative to `root`.
        images: The folder of the images, relative to `root`; JPEGImages or images by default.

    Raises:
        DataError: There is no such split, or something is wrong and the policy is `fail`.
    """
    root = Path(root)
    if images is None:
        images = next((name for name in IMAGE_FOLDERS if (root / name).is_dir()), IMAGE_FOLDERS[0])
    files_by_stem = _index_by_stem(root / images, issues)
    names = read_class_names(root, labels)
    label_folder = root / labels
    stems = _list_stems(root, label_folder, split, files_by_stem, issues)
    files = StringArray.of(os.path.normpath(os.path.join(images, files_by_stem[stem])) for stem in stems)
    selected = select(files) if select is not None else np.ones(len(files), bool)

    def locate_image(row: int) -> tuple[str, str]:
        return _get_label_path(label_folder, stems[row]), "filename"

    sizes = measure_images(files, root, selected, issues, max_pixels, locate_image)
    stated, records = np.zeros_like(sizes), RecordBuffer()
    for row in track_progress(np.flatnonzero(sizes[:, 0]).tolist(), "reading labels"):
        size = _read_labels(_get_label_path(label_folder, stems[row]), row, names, records, issues)
        if size is None:
            sizes[row] = 0
        else:
            stated[row] = size
    array = records.array()
    orientations = find_label_orientations(files, root, stated, sizes, lambda: (array["box"], array["image"]), issues)
    _check_sizes(label_folder, stems, np.where(orientations[:, None] >= 5, stated[:, ::-1], stated), sizes, issues)
    array["box"] = orient_boxes(array["box"], orientations[array["image"]], sizes[array["image"]])

    def locate(row: int) -> tuple[str, str, list[float]]:
        x1, y1, x2, y2 = array["box"][row].tolist()
        return (
            _get_label_path(label_folder, stems[array["image"][row]]),
            f"object {array['origin'][row]}",
            [x1 + 1, y1 + 1, x2, y2],
        )

    ids = np.arange(1, len(files) + 1)
    category_ids = tuple(range(1, len(names) + 1))
    return build_table(files, sizes, ids, array, names, category_ids, issues, locate, orientations)


def read_class_names(root: Path, labels: str = LABEL_FOLDER) -> tuple[str, ...]:
    """Reads the class names from labels.txt or classes.txt, otherwise collects them from the XML files of all splits.

    Raises:
        DataError: No XML names an object.
    """
    for list_file in (root / "labels.txt", root / "classes.txt"):
        if list_file.is_file():
            return tuple(line.strip() for line in read_lines(list_file) if line.strip())
    names: set[str] = set()
    for file in list_files(root / labels, "*.xml"):
        annotation = parse_xml(file)
        if annotation is not None:
            names |= {name.strip() for item in annotation.iter("object") if (name := item.findtext("name"))}
    if not names:
        hint = "Check that this is a Pascal VOC dataset."
        raise DataError("no XML names an object", file=root / labels, hint=hint)
    return tuple(sorted(names))


def list_splits(root: Path) -> tuple[str, ...]:
    """Lists the image sets in ImageSets/Main."""
    return tuple(file.stem for file in list_files(root / "ImageSets" / "Main", "*.txt"))


def parse_list_line(line: str, stems: Container[str]) -> str:
    """Parses a line of an image set: the complete line, or its first word, as class lists append a sign.

    >>> parse_list_line("IMG 7", {"IMG 7"}), parse_list_line("2008_000007  1", {"2008_000007"})
    ('IMG 7', '2008_000007')
    """
    text = line.strip()
    return text if text in stems else (text.split() or [""])[0]


def parse_stated_size(annotation: ElementTree.Element) -> Size | None:
    """Parses the (height, width) of the image from an annotation; None if it is missing or zero.

    >>> parse_stated_size(ElementTree.fromstring("<a><size><width>20</width><height>10</height></size></a>"))
    (10, 20)
    """
    texts = [annotation.findtext(f"size/{side}", "").strip() for side in ("height", "width")]
    height, width = (int(text) if _INTEGER.fullmatch(text) else 0 for text in texts)
    return (height, width) if height and width else None


def _get_label_path(label_folder: Path, stem: str) -> str:
    return str(label_folder / f"{stem}.xml")


def _index_by_stem(folder: Path, issues: LabelIssues) -> dict[str, str]:
    """Maps names without suffix to the first image of that name; further images cannot have labels of their own."""
    images: dict[str, str] = {}
    for name in list_images(folder, issues):
        if images.setdefault(os.path.splitext(name)[0], name) != name:
            issues.warn(IssueKind.LABELS_MISSING, folder / name, action=SKIPPED)
    return images


def _list_stems(
    root: Path, label_folder: Path, split: str | None, images: dict[str, str], issues: LabelIssues
) -> list[str]:
    """Lists the names without suffix of a split that have both an XML and an image."""
    labeled = [file.stem for file in list_files(label_folder, "*.xml")]
    if split is None:
        for stem in sorted(images.keys() - set(labeled)):
            issues.warn(IssueKind.LABELS_MISSING, root / images[stem], action=SKIPPED)
        for stem in (stem for stem in labeled if stem not in images):
            issues.add(IssueKind.IMAGE_ABSENT, _get_label_path(label_folder, stem), None, stem)
        return [stem for stem in labeled if stem in images]
    labeled_stems, stems = set(labeled), []
    file = root / "ImageSets" / "Main" / f"{split}.txt"
    for number, line in enumerate(read_lines(file), 1):
        stem, field = parse_list_line(line, images), f"line {number}"
        if not stem:
            continue
        if not is_inside(stem):
            issues.add(IssueKind.NAME_ESCAPES, file, field, stem, stem)
        elif stem not in images:
            issues.add(IssueKind.IMAGE_MISSING, file, field, stem, stem)
        elif stem not in labeled_stems:
            issues.add(IssueKind.LABELS_MISSING, file, field, stem, stem)
        else:
            stems.append(stem)
    return list(dict.fromkeys(stems))


def parse_xml(file: str | Path) -> ElementTree.Element | None:
    """Parses an XML file in the encoding that it states; None if it is malformed."""
    try:
        data = Path(file).read_bytes()
        declaration = _DECLARATION.match(data)
        if declaration is None:
            return ElementTree.fromstring(data)
        # The parser itself knows no encodings of several bytes per character besides UTF-8 and UTF-16.
        text = data.decode(declaration[1].decode("ascii"))
        return ElementTree.fromstring(text[text.index("?>") + 2 :])
    except (ElementTree.ParseError, ValueError, LookupError, OSError):
        return None


def is_annotation(file: str | Path) -> bool:
    """Whether an XML file is an annotation of one image."""
    document = parse_xml(file)
    return document is not None and document.tag == "annotation"


def _check_sizes(
    label_folder: Path, stems: list[str], stated: np.ndarray, sizes: np.ndarray, issues: LabelIssues
) -> None:
    """Reports images whose size differs from the stated one; size 0 if an image is skipped."""
    for row in np.flatnonzero(sizes.all(1) & stated.all(1) & (stated != sizes).any(1)).tolist():
        (height, width), (file_height, file_width) = stated[row].tolist(), sizes[row].tolist()
        file, value = (
            _get_label_path(label_folder, stems[row]),
            f"{width} x {height}, the file has {file_width} x {file_height}",
        )
        if not issues.add(IssueKind.IMAGE_SIZE, file, "size", value, f"{stems[row]}.xml"):
            sizes[row] = 0


def _read_labels(
    file: str, image: int, names: Sequence[str], records: RecordBuffer, issues: LabelIssues
) -> Size | None:
    """Adds the boxes of one XML; returns the stated size, (0, 0) if it is missing, or None if the image is skipped."""
    annotation = parse_xml(file)
    subject = os.path.basename(file)
    if annotation is None or annotation.tag != "annotation":
        issues.add(IssueKind.FILE_MALFORMED, file, None, None if annotation is None else f"<{annotation.tag}>")
        return None
    for number, item in enumerate(annotation.iter("object"), 1):
        name = (item.findtext("name") or "").strip()
        texts = [item.findtext(f"bndbox/{corner}") for corner in CORNERS]
        invalid = [corner for corner, text in zip(CORNERS, texts) if not _is_number(text)]
        if invalid:
            corner = invalid[0]
            text = item.findtext(f"bndbox/{corner}")
            issues.add(IssueKind.ENTRY_MALFORMED, file, f"object {number}.bndbox.{corner}", text, subject)
        elif name not in names:
            issues.add(IssueKind.CLASS_ABSENT, file, f"object {number}.name", name, subject)
        else:
            x1, y1, x2, y2 = (parse_decimal(text or "0") for text in texts)
            difficult = (item.findtext("difficult") or "0").strip() == "1"
            records.add(image, names.index(name), (x1 - 1, y1 - 1, x2, y2), number, crowd=difficult)
    return parse_stated_size(annotation) or (0, 0)


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and parse_decimal(text) is not None
    except ValueError:
        return False
