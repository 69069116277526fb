"""Pascal VOC: one xml per image in Annotations, images in JPEGImages, splits in ImageSets/Main."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from densevision.errors import DataError
from densevision.io.box_table import BoxTable, Records, Strings, build_table
from densevision.io.image_files import LARGEST, Choose, is_inside, list_images, measure_images
from densevision.io.label_issues import LEFT_OUT, Findings, Kind
from densevision.io.lines import read_lines
from densevision.io.progress import monitored
from densevision.ops.view import Size

IMAGES = ("JPEGImages", "images")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
_WHOLE = re.compile("[0-9]{1,9}")


def read_voc(
    root: str | os.PathLike[str],
    split: str | None,
    findings: Findings,
    max_pixels: int = LARGEST,
    choose: Choose | None = None,
) -> BoxTable:
    """Reads a VOC folder into arrays.

    Corners are whole pixels counted from 1, both inside the box, so 1, 1, 2, 2 is two pixels wide. Objects marked
    `difficult` become crowd: they count neither as hit nor as miss. Category ids are 1, 2, ... in the order of names.

    Args:
        root: The folder with Annotations and JPEGImages (or images).
        split: Name of a list in ImageSets/Main; None takes every xml.
        findings: Decides about what is wrong.
        max_pixels: Limit of an image.
        choose: Takes some of the images; all when not given.

    Raises:
        DataError: No such split, or something is wrong and the policy is `fail`.
    """
    root = Path(root)
    folder = next((root / name for name in IMAGES if (root / name).is_dir()), root / IMAGES[0])
    images = _by_stem(root, folder, findings)
    names = class_names(root)
    stems = _stems(root, split, images, findings)
    files = Strings.of(os.path.join(folder.name, images[stem]) for stem in stems)
    chosen = choose(files) if choose is not None else np.ones(len(files), bool)

    def listed(row: int) -> tuple[str, str]:
        return _label(root, stems[row]), "filename"

    sizes = measure_images(files, root, chosen, findings, max_pixels, listed)
    records = Records()
    for row in monitored(np.flatnonzero(sizes[:, 0]).tolist(), "reading labels"):
        if not _read_labels(_label(root, stems[row]), row, sizes, names, records, findings):
            sizes[row] = 0
    array = records.array()

    def where(row: int) -> tuple[str, str, list[float]]:
        x1, y1, x2, y2 = array["box"][row].tolist()
        return _label(root, stems[array["image"][row]]), f"object {array['origin'][row]}", [x1 + 1, y1 + 1, x2, y2]

    ids = np.arange(1, len(files) + 1)
    return build_table(files, sizes, ids, array, names, tuple(range(1, len(names) + 1)), findings, where)


def class_names(root: Path) -> tuple[str, ...]:
    """The names in labels.txt or classes.txt where there is one, else all that occur in any xml, sorted.

    All splits are looked at, so that they agree on the numbers.

    Raises:
        DataError: There is no name.
    """
    for name in ("labels.txt", "classes.txt"):
        if (root / name).is_file():
            return tuple(line.strip() for line in read_lines(root / name) if line.strip())
    found: set[str] = set()
    for file in sorted((root / "Annotations").glob("*.xml")):
        annotation = _parsed(file)
        if annotation is not None:
            found |= {name.strip() for item in annotation.iter("object") if (name := item.findtext("name"))}
    if not found:
        raise DataError("no xml names an object", file=root / "Annotations", hint="Is this a Pascal VOC dataset?")
    return tuple(sorted(found))


def splits(root: Path) -> tuple[str, ...]:
    """Names of the lists in ImageSets/Main."""
    return tuple(sorted(file.stem for file in (root / "ImageSets" / "Main").glob("*.txt")))


def listed_stem(line: str, known: Container[str]) -> str:
    """The image that a line of a list names: the whole line, or its first word, where class lists go on with a sign.

    >>> listed_stem("IMG 7", {"IMG 7"}), listed_stem("2008_000007  1", {"2008_000007"}), listed_stem(" ", {})
    ('IMG 7', '2008_000007', '')
    """
    whole = line.strip()
    return whole if whole in known else (whole.split() or [""])[0]


def stated_size(annotation: ElementTree.Element) -> Size | None:
    """(height, width) of the image as an annotation states it; None where it does not, or states zeros.

    >>> stated_size(ElementTree.fromstring("<a><size><width>20</width><height>10</height></size></a>"))
    (10, 20)
    """
    texts = [annotation.findtext(f"size/{side}", "").strip() for side in ("height", "width")]
    height, width = (int(text) if _WHOLE.fullmatch(text) else 0 for text in texts)
    return (height, width) if height and width else None


def _label(root: Path, stem: str) -> str:
    return str(root / "Annotations" / f"{stem}.xml")


def _by_stem(root: Path, folder: Path, findings: Findings) -> dict[str, str]:
    """The first image of each name without suffix, by it; the others cannot have labels of their own."""
    found: dict[str, str] = {}
    for name in list_images(folder):
        if found.setdefault(os.path.splitext(name)[0], name) != name:
            findings.mention(Kind.LABELS_MISSING, folder / name, action=LEFT_OUT)
    return found


def _stems(root: Path, split: str | None, images: dict[str, str], findings: Findings) -> list[str]:
    """The images of a split by their name without suffix; each has an xml and an image."""
    labeled = sorted(file.stem for file in (root / "Annotations").glob("*.xml"))
    if split is None:
        for stem in sorted(images.keys() - set(labeled)):
            findings.mention(Kind.LABELS_MISSING, root / images[stem], action=LEFT_OUT)
        absent = [stem for stem in labeled if stem not in images]
        for stem in absent:
            findings.add(Kind.IMAGE_ABSENT, _label(root, stem), None, stem)
        return [stem for stem in labeled if stem in images]
    known, stems = set(labeled), []
    file = root / "ImageSets" / "Main" / f"{split}.txt"
    for number, line in enumerate(read_lines(file), 1):
        stem, field = listed_stem(line, images), f"line {number}"
        if not stem:
            continue
        if not is_inside(stem):
            findings.add(Kind.NAME_ESCAPES, file, field, stem, stem)
        elif stem not in images:
            findings.add(Kind.IMAGE_MISSING, file, field, stem, stem)
        elif stem not in known:
            findings.add(Kind.LABELS_MISSING, file, field, stem, stem)
        else:
            stems.append(stem)
    return list(dict.fromkeys(stems))


def _parsed(file: str | Path) -> ElementTree.Element | None:
    try:
        return ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, ValueError, OSError):
        return None


def _read_labels(
    file: str, image: int, sizes: np.ndarray, names: Sequence[str], records: Records, findings: Findings
) -> bool:
    """Adds the boxes of one xml; whether its image stays."""
    annotation = _parsed(file)
    about = os.path.basename(file)
    if annotation is None or annotation.tag != "annotation":
        return findings.add(Kind.FILE_MALFORMED, file, None, None if annotation is None else f"<{annotation.tag}>")
    stated, (height, width) = stated_size(annotation), sizes[image].tolist()
    if stated not in (None, (height, width)):
        value = f"{stated[1]} x {stated[0]} stated, {width} x {height} found"
        if not findings.add(Kind.IMAGE_SIZE, file, "size", value, about):
            return False
    for number, item in enumerate(annotation.iter("object"), 1):
        name = (item.findtext("name") or "").strip()
        texts = [item.findtext(f"bndbox/{corner}") for corner in CORNERS]
        wrong = [corner for corner, text in zip(CORNERS, texts) if not _is_number(text)]
        if wrong:
            value = item.findtext(f"bndbox/{wrong[0]}")
            findings.add(Kind.ENTRY_MALFORMED, file, f"object {number}.bndbox.{wrong[0]}", value, about)
        elif name not in names:
            findings.add(Kind.CLASS_ABSENT, file, f"object {number}.name", name, about)
        else:
            x1, y1, x2, y2 = (float(text or 0) for text in texts)
            difficult = (item.findtext("difficult") or "0").strip() == "1"
            records.add(image, names.index(name), (x1 - 1, y1 - 1, x2, y2), number, crowd=difficult)
    return True


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and float(text) is not None
    except ValueError:
        return False
