"""Labels of images with an EXIF orientation; the reference is the pixels after Pillow's `exif_transpose`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageOps

from densevision.datasets.format_detection import detect_format
from densevision.datasets.instance_sources import read_instance_table
from densevision.errors import DataError
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.ops.masks import decode, encode
from densevision.ops.skeleton import Skeleton

WIDTH, HEIGHT = 100, 60
"""Of the stored images."""
BOXES = [(60, 5, 95, 25), (10, 5, 50, 25), (70, 30, 90, 58), (3, 40, 30, 55)]
ORIENTATIONS = (6, 8, 5, 7, 1, 2, 3, 4)


def write_photo(path: Path, box: tuple[int, int, int, int], orientation: int, seed: int) -> None:
    """Writes a gray JPEG with a red box at stored coordinates."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    pixels += np.random.default_rng(seed).integers(0, 20, (HEIGHT, WIDTH, 1), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = (220, 40, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif.tobytes(), quality=95, subsampling=0)


def find_red(path: Path) -> np.ndarray:
    """Returns (H, W) bool, the red pixels of the upright image."""
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(path))).astype(int)
    return pixels[..., 0] - pixels[..., 1] > 60


def find_upright_box(path: Path) -> list[int]:
    y, x = np.nonzero(find_red(path))
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


def write_coco(
    root: Path,
    orientations: tuple[int, ...] = ORIENTATIONS,
    upright_boxes: bool = False,
    upright_sizes: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Writes images and a COCO JSON with stored sizes, except of the images in `upright_sizes`."""
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    content["categories"][0] |= {"keypoints": ["corner", "other"], "skeleton": []}
    for number, orientation in enumerate(orientations):
        path, box = root / "images" / f"{number}.jpg", BOXES[number % len(BOXES)]
        write_photo(path, box, orientation, number)
        x1, y1, x2, y2 = map(int, find_upright_box(path)) if upright_boxes else box
        polygon = [x1, y1, x2, y1, x2, y2, x1, y2]
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        rle = encode(mask)
        is_rle = number % 2 and not upright_boxes
        width, height = Image.open(path).size
        if number in upright_sizes:
            width, height = ImageOps.exif_transpose(Image.open(path)).size
        content["images"].append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
        content["annotations"].append(
            {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": [x1, y1, x2 - x1, y2 - y1],
             "area": (x2 - x1) * (y2 - y1), "segmentation": rle if is_rle else [polygon],
             "keypoints": [x1, y1, 2, 0, 0, 0], "num_keypoints": 1}
        )  # fmt: skip
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return content


def assert_boxes_are_red(root: Path, table: BoxTable) -> None:
    """Every box is exactly the red area of its upright image."""
    assert len(table.boxes) == len(table)
    for row, (name, box) in enumerate(zip(table.files, table.boxes)):
        np.testing.assert_allclose(box, find_upright_box(root / name), atol=1, err_msg=name)
        assert tuple(table.sizes[row]) == find_red(root / name).shape


def test_coco__stored_labels_are_turned_with_their_images(tmp_path: Path) -> None:
    """Boxes, polygons, run lengths and keypoints, for all eight orientations."""
    write_coco(tmp_path)
    issues = LabelIssues()
    source = detect_format(str(tmp_path)).splits["train"]
    boxes = source.read(issues, 10**6)
    assert_boxes_are_red(tmp_path / "images", boxes)
    assert {kind for kind, _ in issues.counts} == {IssueKind.LABELS_TURNED} and len(issues.examples) == 7
    table = read_instance_table(source, boxes, True, Skeleton(("corner", "other"), ()), issues)
    for row, name in enumerate(boxes.files):
        red = find_red(tmp_path / "images" / name)
        mask = decode(table.masks.mask(row, red.shape)).astype(bool)
        assert (mask & red).sum() > 0.95 * (mask | red).sum()
        x, y = table.keypoints[row, 0, :2]
        assert min(abs(x - boxes.boxes[row, 0]), abs(x - boxes.boxes[row, 2])) < 1
        assert min(abs(y - boxes.boxes[row, 1]), abs(y - boxes.boxes[row, 3])) < 1
        np.testing.assert_array_equal(table.keypoints[row, 1], 0)


@pytest.mark.parametrize("task", ["detection", "instance"])
def test_check__fix_does_not_move_stored_labels(task: str, tmp_path: Path, check) -> None:
    content = write_coco(tmp_path / "data")
    content["annotations"][4]["bbox"][2] = 500
    for split in ("train", "val"):
        (tmp_path / f"data/annotations/instances_{split}.json").write_text(json.dumps(content))
    names = {finding.check.name: finding for finding in check(task, tmp_path / "data", fix=tmp_path / "clean").findings}
    assert names["labels-turned"].severity == "warning" and names["labels-turned"].count == 7
    assert "image-size" not in names and "box-outside" in names
    fixed = json.loads((tmp_path / "clean/annotations/instances_train.json").read_text())
    assert fixed["images"] == content["images"]
    expected = [entry["bbox"] for entry in content["annotations"]]
    expected[4] = [60, 5, 40, 20]
    assert [entry["bbox"] for entry in fixed["annotations"]] == expected
    fixed["annotations"][4]["bbox"] = content["annotations"][4]["bbox"] = [60, 5, 35, 20]
    table = detect_format(str(tmp_path / "clean")).splits["train"].read(LabelIssues("fix"), 10**6)
    others = np.arange(8) != 4
    references = [find_upright_box(tmp_path / "clean/images" / name) for name in table.files]
    np.testing.assert_allclose(table.boxes[others], np.array(references)[others], atol=1)


def test_coco__upright_boxes_with_stored_sizes(tmp_path: Path, check) -> None:
    """Boxes that fit only the upright images stay; the stated sizes are corrected."""
    write_coco(tmp_path / "data", (6, 6, 6, 6), upright_boxes=True)
    source = detect_format(str(tmp_path / "data")).splits["train"]
    with pytest.raises(DataError):
        source.read(LabelIssues(), 10**6)
    assert_boxes_are_red(tmp_path / "data/images", source.read(LabelIssues("fix"), 10**6))
    check("detection", tmp_path / "data", fix=tmp_path / "clean")
    source = detect_format(str(tmp_path / "clean")).splits["train"]
    assert_boxes_are_red(tmp_path / "clean/images", source.read(LabelIssues(), 10**6))


def test_coco__upright_labels_stay(tmp_path: Path) -> None:
    write_coco(tmp_path, upright_boxes=True, upright_sizes=tuple(range(8)))
    issues = LabelIssues()
    table = detect_format(str(tmp_path)).splits["train"].read(issues, 10**6)
    assert_boxes_are_red(tmp_path / "images", table)
    assert not issues.counts and table.orientations is None


def test_coco__contradictory_sizes_are_refused(tmp_path: Path, check) -> None:
    """Some images state their stored and some their upright size."""
    write_coco(tmp_path / "data", (6, 6, 6, 6), upright_sizes=(0, 1))
    source = detect_format(str(tmp_path / "data")).splits["train"]
    with pytest.raises(DataError):
        source.read(LabelIssues(), 10**6)
    issues = LabelIssues("fix")
    assert list(source.read(issues, 10**6).files) == ["0.jpg", "1.jpg"]
    assert issues.counts[IssueKind.ORIENTATION_UNCLEAR, "skipped"] == 2
    findings = check("detection", tmp_path / "data", fix=tmp_path / "clean").findings
    assert "orientation-unclear" in {finding.check.name for finding in findings if finding.severity == "error"}
    assert {path.name for path in (tmp_path / "clean/images").iterdir()} == {"0.jpg", "1.jpg"}


def write_voc(root: Path) -> None:
    (root / "Annotations").mkdir(parents=True)
    for number, box in enumerate(BOXES):
        write_photo(root / "JPEGImages" / f"{number}.jpg", box, 6 + 2 * (number % 2), number)
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (box[0] + 1, box[1] + 1, box[2], box[3]))
        bndbox = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        text = f"<annotation>{size}<object><name>thing</name><bndbox>{bndbox}</bndbox></object></annotation>"
        (root / "Annotations" / f"{number}.xml").write_text(text)


def test_voc__stored_labels_are_turned_and_not_moved_by_fix(tmp_path: Path, check) -> None:
    write_voc(tmp_path / "data")
    path = tmp_path / "data/Annotations/3.xml"
    path.write_text(path.read_text().replace("</object>", "</object><object><name>thing</name></object>"))
    assert "labels-turned" in {
        finding.check.name for finding in check("detection", tmp_path / "data", fix=tmp_path / "clean").findings
    }
    for split in ("train", "val"):
        table = detect_format(str(tmp_path / "clean")).splits[split].read(LabelIssues(), 10**6)
        assert_boxes_are_red(tmp_path / "clean", table)
    tree = ElementTree.parse(tmp_path / "clean/Annotations/3.xml")
    values = [int(tree.findtext(f"object/bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
    assert values == [4, 41, 30, 55] and tree.findtext("size/width") == str(WIDTH)


@pytest.mark.parametrize("is_stored", [True, False])
def test_labelme__stored_and_upright_labels(is_stored: bool, tmp_path: Path, check) -> None:
    """Polygons and a mask; labelme itself writes upright sizes and points."""
    for number, box in enumerate(BOXES):
        path = tmp_path / "data" / f"{number}.jpg"
        write_photo(path, box, (6, 8, 5, 7)[number], number)
        height, width = (HEIGHT, WIDTH) if is_stored else (WIDTH, HEIGHT)
        x1, y1, x2, y2 = map(int, box if is_stored else find_upright_box(path))
        shape = {"label": "thing", "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle"}
        content = {"imagePath": path.name, "imageHeight": height, "imageWidth": width, "shapes": [shape]}
        path.with_suffix(".json").write_text(json.dumps(content))
    source = detect_format(str(tmp_path / "data")).splits["train"]
    table = read_instance_table(source, source.read(LabelIssues(), 10**6), True, None, LabelIssues())
    assert_boxes_are_red(tmp_path / "data", table.boxes)
    for row, name in enumerate(table.boxes.files):
        red = find_red(tmp_path / "data" / name)
        mask = decode(table.masks.mask(row, red.shape)).astype(bool)
        assert (mask & red).sum() > 0.95 * (mask | red).sum()
    report = check("instance", tmp_path / "data", fix=tmp_path / "clean")
    assert ("labels-turned" in {finding.check.name for finding in report.findings}) == is_stored
    for path in (tmp_path / "data").glob("*.json"):
        assert (tmp_path / "clean" / path.name).read_text() == path.read_text()


def test_semantic__stored_labels_of_instances_are_refused(tmp_path: Path, check) -> None:
    """Quarter turns are detected; the fixed copy has only images without one."""
    write_coco(tmp_path / "data", (6, 8, 1, 1))
    report = check("semantic", tmp_path / "data", fix=tmp_path / "clean")
    assert {finding.check.name: finding.count for finding in report.findings if finding.severity == "error"} == {
        "mask-broken": 4,
        "leak": 4,
    }
    assert not (tmp_path / "clean/images/0.jpg").exists() and not (tmp_path / "clean/images/1.jpg").exists()
