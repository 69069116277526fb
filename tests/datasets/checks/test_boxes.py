"""Checks of boxes, masks and keypoints, tested by planting one fault at a time in COCO, YOLO and Pascal VOC."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from densevision.datasets.checks.catalog import FILE_CHECKS
from densevision.datasets.checks.objects import is_self_intersecting
from densevision.ops.masks import compute_areas, encode
from densevision.tasks import load_check

Content = dict[str, Any]
SQUARE = [10, 10, 30, 10, 30, 34, 10, 34]


@pytest.fixture
def dataset(tmp_path: Path, texture) -> tuple[Path, Content]:
    """Sixteen images of two objects each, with one JSON per split."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    content: Content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    }
    points = [20, 20, 2, 25, 22, 1, 0, 0, 0]
    for category in content["categories"]:
        category.update(keypoints=["nose", "tail", "ear"], skeleton=[])
    for number in range(16):
        cv2.imwrite(str(root / "images" / f"{number}.png"), texture(number))
        content["images"].append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
        for category, shift in ((3, 0), (7, 4)):
            outline = [value + shift for value in SQUARE]
            content["annotations"].append(
                {"id": len(content["annotations"]), "image_id": number, "category_id": category, "iscrowd": 0,
                 "bbox": [10 + shift, 10 + shift, 20, 24], "area": 480, "segmentation": [outline],
                 "keypoints": list(points), "num_keypoints": 2}
            )  # fmt: skip
    return root, content


def write(root: Path, content: Content) -> None:
    """Writes the first twelve images as training split, the others as validation split."""
    for split, ids in (("train", range(12)), ("val", range(12, 16))):
        part = {
            **content,
            "images": [image for image in content["images"] if image["id"] in ids],
            "annotations": [entry for entry in content["annotations"] if entry["image_id"] in ids or (split == "train"
                            and entry["image_id"] == 99)],
        }  # fmt: skip
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(part))


def change(**fields: Any) -> Callable[[Path, Content], None]:
    return lambda root, content: content["annotations"][4].update(fields)


def add_annotation(root: Path, content: Content, **fields: Any) -> None:
    content["annotations"].append({**content["annotations"][4], "id": 500, **fields})


def add_rare_class(root: Path, content: Content) -> None:
    content["categories"].append({"id": 9, "name": "owl", "keypoints": ["nose", "tail", "ear"], "skeleton": []})
    for row in (2, 20):
        content["annotations"][row]["category_id"] = 9


def add_frequent_class(root: Path, content: Content) -> None:
    add_rare_class(root, content)
    step = 1 / 250
    for number in range(250):
        low, high = 10 + 20 * number * step, 12 + 20 * number * step
        box = [low, low, 2.5 + number / 100, 2.5]
        outline = [low, low, high, low, high, high, low, high]
        add_annotation(root, content, id=1000 + number, bbox=box, segmentation=[outline], area=box[2] * box[3])


RLE = {"size": [48, 64], "counts": [64 * 48]}
BOX_FAULTS: dict[str, Callable[[Path, Content], object]] = {
    "box-tiny": change(bbox=[10, 10, 1.2, 24]),
    "box-huge": change(bbox=[0, 0, 64, 48]),
    "box-near-duplicate": lambda root, content: add_annotation(root, content, bbox=[10, 10.4, 20, 24]),
    "box-outside": change(bbox=[50, 10, 30, 24]),
    "box-away": change(bbox=[100, 10, 20, 24]),
    "box-reversed": change(bbox=[30, 10, -20, 24]),
    "box-flat": change(bbox=[10, 10, 0, 24]),
    "box-not-finite": change(bbox=[10, float("nan"), 20, 24]),
    "box-duplicate": add_annotation,
    "area-impossible": change(area=-5),
    "class-absent": change(category_id=44),
    "entry-malformed": change(bbox="wide"),
    "image-size": lambda root, content: content["images"][2].update(width=63),
    "annotation-id-duplicate": change(id=1),
    "image-id-duplicate": lambda root, content: content["images"].append(
        {**content["images"][2], "file_name": "3.png"}
    ),
    "image-id-absent": change(image_id=99),
    "name-escapes": lambda root, content: content["images"][2].update(file_name="../../2.png"),
    "class-unused": lambda root, content: content["categories"].append({"id": 9, "name": "owl"}),
    "class-in-one-split": lambda root, content: [
        entry.update(category_id=3) for entry in content["annotations"] if entry["image_id"] >= 12
    ],
    "class-rare": add_rare_class,
    "class-imbalance": add_frequent_class,
}
MASK_FAULTS: dict[str, Callable[[Path, Content], object]] = {
    "mask-absent": change(segmentation=None),
    "mask-empty": change(segmentation=RLE),
    "mask-size": change(segmentation={"size": [48, 63], "counts": [63 * 48]}),
    "outline-short": change(segmentation=[SQUARE, [1, 1, 2, 2]]),
    "mask-area": change(area=300),
    "mask-box-mismatch": change(bbox=[10, 10, 20, 34]),
    "polygon-self-intersection": change(segmentation=[[10, 10, 30, 34, 30, 10, 10, 34]], area=240),
    "keypoint-outside": change(keypoints=[70, 20, 2, 25, 22, 1, 0, 0, 0]),
    "keypoint-visibility": change(keypoints=[20, 20, 2, 25, 22, 1, 3, 3, 5], num_keypoints=3),
    "keypoint-number": change(num_keypoints=3),
}
OTHER_TESTS = {"line-malformed", "file-malformed", "labels-missing", "image-absent", "file-hidden", "image-frames"}
ORIENTATION_TESTS = {"labels-turned", "orientation-unclear"}
OTHER_INSTANCE_TESTS = {"keypoint-count", "file-ignored", "shape-without-area"}
"""Tested below in another format or with another setting."""


@pytest.mark.parametrize("name", BOX_FAULTS)
def test_boxes__planted_fault(name: str, dataset, check) -> None:
    root, content = dataset
    BOX_FAULTS[name](root, content)
    write(root, content)
    assert name in {finding.check.name for finding in check("detection", root).findings}


@pytest.mark.parametrize("name", MASK_FAULTS)
def test_objects__planted_fault(name: str, dataset, check) -> None:
    root, content = dataset
    MASK_FAULTS[name](root, content)
    write(root, content)
    findings = {finding.check.name: finding for finding in check("instance", root).findings}
    assert name in findings and findings[name].count == 1, findings


@pytest.mark.parametrize("task", ["detection", "instance"])
def test_boxes__no_findings_in_clean_data(task: str, dataset, check) -> None:
    root, content = dataset
    write(root, content)
    assert check(task, root).findings == []


def test_boxes__tests_every_check() -> None:
    shared = {check.name for check in FILE_CHECKS}
    names = {task: {check.name for check in load_check(task).CHECKS} - shared for task in ("detection", "instance")}
    assert names["detection"] == BOX_FAULTS.keys() | OTHER_TESTS | ORIENTATION_TESTS
    assert (
        names["instance"]
        == BOX_FAULTS.keys() | MASK_FAULTS.keys() | OTHER_TESTS | ORIENTATION_TESTS | OTHER_INSTANCE_TESTS
    )


def test_keypoints__count_differs_from_the_skeleton(dataset, check) -> None:
    root, content = dataset
    change(keypoints=[20, 20, 2], num_keypoints=1)(root, content)
    write(root, content)
    report = check("instance", root, settings={"arch": "keypoint_rcnn"})
    assert {finding.check.name for finding in report.findings} == {"keypoint-count"}


def test_fix__coco_keeps_other_content(dataset, check, tmp_path) -> None:
    """A box outside is clipped, a flat one is removed, and all other content is unchanged."""
    root, content = dataset
    content["annotations"][4].update(bbox=[50, 10, 30, 24], attributes={"shy": True})
    content["annotations"][5].update(bbox=[10, 10, 0, 24])
    content["info"] = {"year": 2024}
    write(root, content)
    (root / "images" / "3.png").write_bytes(b"broken")
    report = check("detection", root, fix=tmp_path / "clean")
    assert {finding.check.name for finding in report.findings if finding.severity == "error"} == {
        "box-outside", "box-flat", "image-broken"
    }  # fmt: skip
    fixed = json.loads((tmp_path / "clean" / "annotations" / "instances_train.json").read_text())
    by_id = {entry["id"]: entry for entry in fixed["annotations"]}
    assert by_id[4]["bbox"] == [50, 10, 14, 24] and by_id[4]["attributes"] == {"shy": True}
    assert by_id[4]["area"] == 480, "a mask keeps its area"
    assert 5 not in by_id and fixed["info"] == {"year": 2024}
    assert {image["id"] for image in fixed["images"]} == set(range(12)) - {3}
    assert by_id.keys() == set(range(24)) - {5, 6, 7}
    assert not (tmp_path / "clean" / "images" / "3.png").exists()
    assert not check("detection", tmp_path / "clean").has_errors


@pytest.mark.parametrize(
    "name",
    ["annotation-id-duplicate", "image-size", "box-outside", "area-impossible", "box-reversed", "entry-malformed"],
)
@pytest.mark.parametrize("task", ["detection", "instance"])
def test_fix__copy_of_coco_has_no_errors(task: str, name: str, dataset, check, tmp_path) -> None:
    root, content = dataset
    BOX_FAULTS[name](root, content)
    write(root, content)
    names = {finding.check.name for finding in check(task, root, fix=tmp_path / "clean").findings}
    assert name in names
    again = check(task, tmp_path / "clean")
    assert not again.has_errors and {finding.check.name for finding in again.findings} <= names, again.findings


def test_fix__area_of_a_clipped_box(dataset, check, tmp_path) -> None:
    root, content = dataset
    for entry in content["annotations"]:
        del entry["segmentation"]
    content["annotations"][4].update(bbox=[50, 10, 30, 24], area=720)
    content["annotations"][5].update(area=-5)
    write(root, content)
    check("detection", root, fix=tmp_path / "clean")
    fixed = json.loads((tmp_path / "clean" / "annotations" / "instances_train.json").read_text())
    assert [entry["area"] for entry in fixed["annotations"][3:6]] == [480, 14 * 24, 20 * 24]


def test_fix__duplicate_ids_are_renumbered(dataset, check, tmp_path) -> None:
    root, content = dataset
    for row in (4, 5):
        content["annotations"][row]["id"] = 1
    write(root, content)
    check("detection", root, fix=tmp_path / "clean")
    fixed = json.loads((tmp_path / "clean" / "annotations" / "instances_train.json").read_text())
    assert [entry["id"] for entry in fixed["annotations"]] == [0, 1, 2, 3, 24, 25, *range(6, 24)]


def test_fix__integral_float_ids(dataset, check, tmp_path) -> None:
    root, content = dataset
    for entry in (entry for entries in content.values() if isinstance(entries, list) for entry in entries):
        entry.update({key: float(entry[key]) for key in ("id", "image_id", "category_id") if key in entry})
    content["annotations"][0]["bbox"] = [-20, 10, 40, 10]
    write(root, content)
    findings = check("detection", root, fix=tmp_path / "clean").findings
    assert "box-outside" in {finding.check.name for finding in findings}
    fixed = json.loads((tmp_path / "clean" / "annotations" / "instances_train.json").read_text())
    assert fixed["images"] == content["images"][:12] and len(fixed["annotations"]) == 24


def test_fix__image_id_that_is_a_list(dataset, check, tmp_path) -> None:
    root, content = dataset
    write(root, content)
    file = root / "annotations" / "instances_train.json"
    part = json.loads(file.read_text())
    part["annotations"][4]["image_id"] = [2]
    file.write_text(json.dumps(part))
    findings = check("detection", root, fix=tmp_path / "clean").findings
    assert [finding.check.name for finding in findings] == ["entry-malformed"]
    assert not check("detection", tmp_path / "clean").has_errors


WITHOUT_SPLITS: dict[str, Callable[[Path, Content], object]] = {
    name: {**BOX_FAULTS, **MASK_FAULTS}[name]
    for name in ("entry-malformed", "annotation-id-duplicate", "image-id-absent", "class-absent", "keypoint-visibility")
}


@pytest.mark.parametrize("name", WITHOUT_SPLITS)
def test_boxes__issue_of_a_shared_json_is_counted_once(name: str, dataset, check) -> None:
    root, content = dataset
    WITHOUT_SPLITS[name](root, content)
    (root / "annotations" / "labels.json").write_text(json.dumps(content))
    counts = {finding.check.name: finding.count for finding in check("instance", root).findings}
    assert counts[name] == 1, counts


def test_boxes__issue_of_a_shared_folder_is_counted_once(yolo, check) -> None:
    (yolo / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    (yolo / "labels" / "train" / "unmatched.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    findings = check("detection", yolo).findings
    assert {finding.check.name: finding.count for finding in findings} == {"image-absent": 1}


@pytest.fixture
def yolo(tmp_path: Path, texture) -> Path:
    root = tmp_path / "yolo"
    for split, seeds in (("train", range(12)), ("val", range(20, 32))):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for seed in seeds:
            cv2.imwrite(str(root / "images" / split / f"{seed}.png"), texture(seed))
            (root / "labels" / split / f"{seed}.txt").write_text("0 0.3 0.3 0.2 0.2\n0 0.6 0.6 0.2 0.2\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
    return root


def test_yolo__planted_faults_and_their_fixes(yolo, check, tmp_path) -> None:
    labels = yolo / "labels" / "train"
    (labels / "1.txt").write_text("0 0.3 0.3 0.2\n0 0.6 0.6 0.2 0.2\n")
    (labels / "2.txt").write_text("0 0.9 0.5 0.4 0.2\n8 0.6 0.6 0.2 0.2\n")
    (labels / "3.txt").unlink()
    (labels / "unmatched.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    report = check("detection", yolo, fix=tmp_path / "clean")
    findings = {finding.check.name: finding for finding in report.findings}
    assert {"line-malformed", "box-outside", "class-absent", "labels-missing", "image-absent"} == findings.keys()
    assert findings["labels-missing"].severity == "warning"
    clean = tmp_path / "clean" / "labels" / "train"
    assert (clean / "1.txt").read_text() == "0 0.6 0.6 0.2 0.2\n"
    assert [float(word) for word in (clean / "2.txt").read_text().split()] == pytest.approx([0, 0.85, 0.5, 0.3, 0.2])
    assert (clean / "0.txt").read_text() == (labels / "0.txt").read_text()
    assert not (clean / "unmatched.txt").exists()
    assert {finding.check.name for finding in check("detection", tmp_path / "clean").findings} == {"labels-missing"}


def test_yolo__hidden_files_and_frames(yolo, check, texture) -> None:
    (yolo / "images/train/._0.png").write_bytes(b"resource fork")
    frames = [Image.fromarray(texture(seed)) for seed in (50, 51)]
    frames[0].save(yolo / "images/train/animation.gif", save_all=True, append_images=frames[1:])
    (yolo / "labels/train/animation.txt").write_text("0 0.3 0.3 0.2 0.2\n")
    findings = {finding.check.name: finding.severity for finding in check("detection", yolo).findings}
    assert findings["file-hidden"] == "warning" and findings["image-frames"] == "warning"


def test_yolo__polygons_are_checked_and_kept(yolo, check, tmp_path) -> None:
    for file in (yolo / "labels").rglob("*.txt"):
        file.write_text("0 0.1 0.1 0.4 0.1 0.4 0.5 0.1 0.5\n")
    (yolo / "labels" / "train" / "1.txt").write_text("0 0.1 0.1 0.4 0.5 0.4 0.1 0.1 0.5\n")
    (yolo / "labels" / "train" / "2.txt").write_text("0 0.1 0.1 0.4 0.1 0.4 0.5 0.1 0.5\n0 0.3 0.3 0.2 0.2\n")
    report = check("instance", yolo, fix=tmp_path / "clean")
    assert {finding.check.name for finding in report.findings} == {"polygon-self-intersection", "mask-absent"}
    assert (tmp_path / "clean/labels/train/2.txt").read_text() == "0 0.1 0.1 0.4 0.1 0.4 0.5 0.1 0.5\n"


def test_yolo__keypoints_of_a_fixed_box_are_kept(yolo, check, tmp_path) -> None:
    for file in (yolo / "labels").rglob("*.txt"):
        file.write_text("0 0.3 0.3 0.2 0.2 0.35 0.35 0.25 0.3\n")
    with open(yolo / "data.yaml", "a") as stream:
        stream.write("kpt_shape: [2, 2]\n")
    assert check("detection", yolo).findings == []
    (yolo / "labels/train/1.txt").write_text("0 0.9 0.5 0.4 0.2 0.85 0.45 0.75 0.55\n")
    report = check("detection", yolo, fix=tmp_path / "clean")
    assert {finding.check.name for finding in report.findings} == {"box-outside"}
    words = (tmp_path / "clean/labels/train/1.txt").read_text().split()
    assert words[5:] == ["0.85", "0.45", "0.75", "0.55"]
    assert [float(word) for word in words[:5]] == pytest.approx([0, 0.85, 0.5, 0.3, 0.2])


def test_voc__names_with_spaces(tmp_path, texture, check) -> None:
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    box = "<bndbox><xmin>{}</xmin><ymin>11</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
    for number in range(14):
        cv2.imwrite(str(root / "JPEGImages" / f"a {number}.png"), texture(number))
        text = f"<annotation><object><name>cat</name>{box.format(-20 if number == 3 else 11)}</object></annotation>"
        (root / "Annotations" / f"a {number}.xml").write_text(text)
    for split, numbers in {"train": range(12), "val": range(12, 14)}.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"a {number}\n" for number in numbers))
    report = check("detection", root, fix=tmp_path / "clean")
    assert {finding.check.name for finding in report.findings} == {"box-outside"}
    assert check("detection", tmp_path / "clean").findings == []
    assert len((tmp_path / "clean/ImageSets/Main/train.txt").read_text().splitlines()) == 12


def test_voc__planted_faults_and_their_fixes(tmp_path, texture, check) -> None:
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    box = "<bndbox><xmin>{}</xmin><ymin>11</ymin><xmax>{}</xmax><ymax>30</ymax></bndbox>"
    entry = "<object><name>cat</name>" + box + "</object>"
    for number in range(14):
        cv2.imwrite(str(root / "JPEGImages" / f"{number}.png"), texture(number))
        text = f"<annotation><source>mine</source>{entry.format(11, 40)}</annotation>"
        (root / "Annotations" / f"{number}.xml").write_text(text)
    lists = {"train": range(12), "val": range(12, 14)}
    for split, numbers in lists.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{number}\n" for number in numbers))
    assert check("detection", root).findings == []
    (root / "Annotations" / "1.xml").write_text("<annotation>")
    both = entry.format(40, 90) + entry.format(20, 19)
    size = "<size><width>50</width><height>48</height><depth>3</depth></size>"
    (root / "Annotations" / "4.xml").write_text(f"<annotation>{size}{entry.format(11, 40)}</annotation>")
    (root / "Annotations" / "2.xml").write_text(f"<annotation><source>mine</source>{both}</annotation>")
    (root / "Annotations" / "3.xml").unlink()
    report = check("detection", root, fix=tmp_path / "clean")
    names = {finding.check.name for finding in report.findings}
    assert names == {"file-malformed", "box-outside", "box-flat", "labels-missing", "image-size"}
    assert (tmp_path / "clean/ImageSets/Main/train.txt").read_text().split() == [
        str(number) for number in lists["train"] if number not in (1, 3)
    ]
    tree = ElementTree.parse(tmp_path / "clean" / "Annotations" / "2.xml")
    assert tree.findtext("source") == "mine"
    resized = ElementTree.parse(tmp_path / "clean" / "Annotations" / "4.xml")
    assert [resized.findtext(f"size/{key}") for key in ("width", "height", "depth")] == ["64", "48", "3"]
    assert [float(item.findtext("bndbox/xmax")) for item in tree.iter("object")] == [64]
    assert not check("detection", tmp_path / "clean").has_errors


def test_labelme__invalid_shapes_are_removed(tmp_path, texture, check) -> None:
    root = tmp_path / "labelme"
    root.mkdir()
    square = {"label": "cat", "points": np.reshape(SQUARE, (-1, 2)).tolist(), "shape_type": "polygon"}
    line = {"label": "cat", "points": [[1, 1], [5, 5]], "shape_type": "line"}
    for number in range(14):
        cv2.imwrite(str(root / f"{number}.png"), texture(number))
        shapes = [square, line, {"label": "cat"}] if number == 3 else [square]
        content = {"imagePath": f"{number}.png", "shapes": shapes, "flags": {"seen": True}}
        (root / f"{number}.json").write_text(json.dumps(content))
    (root / "notes.json").write_text("[]")
    report = check("instance", root, fix=tmp_path / "clean")
    assert {finding.check.name: finding.severity for finding in report.findings} == {
        "entry-malformed": "error",
        "shape-without-area": "warning",
        "file-ignored": "warning",
    }
    fixed = json.loads((tmp_path / "clean" / "3.json").read_text())
    assert fixed["shapes"] == [square, line] and fixed["flags"] == {"seen": True}
    assert not check("instance", tmp_path / "clean").has_errors


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        ([[0, 0], [4, 0], [4, 4], [0, 4]], False),
        ([[0, 0], [4, 4], [4, 0], [0, 4]], True),
        ([[0, 0], [4, 0], [4, 4], [2, 0], [0, 4]], False),
        ([[0, 0], [4, 0], [4, 4], [2, -1], [0, 4]], True),
        ([[0, 0], [1, 1], [2, 0]], False),
    ],
)
def test_is_self_intersecting__examples(polygon, expected: bool) -> None:
    assert is_self_intersecting(np.array(polygon, float)) is expected


def test_mask_area__mask_with_a_hole(dataset, check) -> None:
    """The area of a mask is its number of pixels."""
    root, content = dataset
    mask = np.zeros((48, 64), bool)
    mask[10:34, 10:30] = True
    mask[15:25, 15:25] = False
    runs = encode(mask)
    content["annotations"][4].update(segmentation=runs, area=float(compute_areas([runs])[0]))
    write(root, content)
    assert check("instance", root).findings == []
