"""One dataset in the layouts of labeling programs gives the same ground truth for every task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from layout_writers import NAMES, Object, Photo, Splits, cvat_xml, save, voc_xml, write_text
from layout_writers import WITH_BOXES as BOX_WRITERS
from layout_writers import WITH_MASKS as MASK_WRITERS
from PIL import Image
from project_writers import PROJECTS_WITH_BOXES, PROJECTS_WITH_MASKS
from pycocotools import mask as coco

import densevision
from densevision.datasets.conversion import convert_dataset
from densevision.datasets.format_detection import detect_format
from densevision.datasets.instance_sources import read_instance_table
from densevision.datasets.object_sources import ObjectSource
from densevision.errors import DataError
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.dataset import complete_config, open_split

WITH_MASKS = MASK_WRITERS | PROJECTS_WITH_MASKS
WITH_BOXES = BOX_WRITERS | PROJECTS_WITH_BOXES
HEIGHT, WIDTH = 48, 64
LIMIT = 10**6


def draw(polygon: tuple[tuple[float, float], ...]) -> np.ndarray:
    flat = [[value for point in polygon for value in point]]
    return coco.decode(coco.merge(coco.frPyObjects(flat, HEIGHT, WIDTH))).astype(bool)


def make_photos(count: int, seed: int) -> list[Photo]:
    """Photos with none, one or two objects whose corners are whole pixels."""
    rng = np.random.default_rng(seed)
    photos = []
    for number in range(count):
        pixels = rng.integers(60, 90, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        objects = []
        for row in range(min(number, 2)):
            left, top = int(rng.integers(1, 8)) + 32 * row, int(rng.integers(1, 8))
            width, height = (int(side) for side in rng.integers(10, 22, 2))
            corners = ((0, 0), (width, 0), (width, height // 2), (width // 2, height), (0, height))
            polygon = tuple((float(left + x), float(top + y)) for x, y in corners)
            objects.append(Object(NAMES[(number + row) % 2], polygon, draw(polygon)))
            pixels[objects[-1].mask] = (220, 40, 40) if objects[-1].name == "apple" else (40, 220, 40)
        photos.append(Photo(f"photo_{seed}_{number}", pixels, tuple(objects)))
    return photos


@pytest.fixture(scope="module")
def splits() -> Splits:
    return {"train": make_photos(7, 1), "val": make_photos(3, 2)}


def read(root: Path, masks: bool) -> dict[str, list[tuple[str, list[float], np.ndarray | None]]]:
    """Stem of an image -> its objects: class, box and mask, of all splits together."""
    objects: dict[str, list[tuple[str, list[float], np.ndarray | None]]] = {}
    for source in detect_format(str(root)).splits.values():
        issues = LabelIssues("fail")
        table = source.read(issues, LIMIT)
        segmentations = read_instance_table(source, table, True, None, issues).masks if masks else None
        for image in range(len(table)):
            rows = range(int(table.offsets[image]), int(table.offsets[image + 1]))
            size = (HEIGHT, WIDTH)
            objects[Path(table.files[image]).stem] = [
                (
                    table.names[table.labels[row]],
                    table.boxes[row].tolist(),
                    None if segmentations is None else coco.decode(segmentations.mask(row, size)).astype(bool),
                )
                for row in rows
            ]
    return objects


@pytest.mark.parametrize("layout", [*WITH_MASKS, *WITH_BOXES])
def test_layout__same_boxes_and_classes(layout: str, splits: Splits, tmp_path: Path) -> None:
    (WITH_MASKS | WITH_BOXES)[layout](tmp_path, splits)
    objects = read(tmp_path, False)
    photos = [photo for part in splits.values() for photo in part]
    assert objects.keys() == {photo.stem for photo in photos}
    for photo in photos:
        assert [name for name, _, _ in objects[photo.stem]] == [item.name for item in photo.objects]
        for (_, box, _), item in zip(objects[photo.stem], photo.objects):
            # YOLO has six decimals; masks of pixels end half a pixel before or behind the polygon's corners.
            is_mask = layout.endswith(("masks", "bitmaps", "brush", "masks as images"))
            np.testing.assert_allclose(box, item.box, atol=1 if is_mask else 1e-4)
    for source in detect_format(str(tmp_path)).splits.values():
        assert set(source.classes().names) == set(NAMES)


@pytest.mark.parametrize("layout", WITH_MASKS)
def test_layout__same_masks(layout: str, splits: Splits, tmp_path: Path) -> None:
    WITH_MASKS[layout](tmp_path, splits)
    for stem, objects in read(tmp_path, True).items():
        photo = next(photo for part in splits.values() for photo in part if photo.stem == stem)
        for (_, _, mask), item in zip(objects, photo.objects, strict=True):
            np.testing.assert_array_equal(mask, item.mask)


@pytest.mark.parametrize("layout", WITH_MASKS)
def test_layout__semantic_reads_what_instance_reads(layout: str, splits: Splits, tmp_path: Path) -> None:
    WITH_MASKS[layout](tmp_path, splits)
    config = complete_config(SemanticConfig.resolve(None, {"data.path": str(tmp_path)}))
    assert config.classes[0] == "background" and set(config.classes[1:]) == set(NAMES)
    samples = open_split(config, "train")
    photos = {photo.stem: photo for part in splits.values() for photo in part}
    for index in range(len(samples)):
        sample = samples[index]
        photo = photos[Path(str(sample.truth.source)).stem]
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        for item in photo.objects:
            expected[item.mask] = config.classes.index(item.name)
        np.testing.assert_array_equal(sample.truth.labels, expected)


@pytest.mark.parametrize("layout", WITH_BOXES)
def test_layout__masks_of_boxes_are_refused_by_name(layout: str, splits: Splits, tmp_path: Path) -> None:
    WITH_BOXES[layout](tmp_path, splits)
    with pytest.raises(DataError, match="mask"):
        read(tmp_path, True)


def test_pascal__boxes_come_from_xml_and_masks_from_images(splits: Splits, tmp_path: Path) -> None:
    """Pascal VOC has more images with boxes than with masks: each task reads those that hold its truth."""
    WITH_BOXES["Pascal VOC"](tmp_path, splits)
    WITH_MASKS["Datumaro, masks"](tmp_path, {split: photos[:3] for split, photos in splits.items()})
    boxes = detect_format(str(tmp_path)).splits
    masks = detect_format(str(tmp_path), needs_masks=True).splits
    assert {split: len(source.read(LabelIssues("fail"), LIMIT)) for split, source in boxes.items()} == {
        "train": 7,
        "val": 3,
    }
    assert {split: len(source.read(LabelIssues("fail"), LIMIT)) for split, source in masks.items()} == {
        "train": 3,
        "val": 3,
    }


@pytest.mark.parametrize("fault", ["no class", "size", "broken", "no image"])
def test_object_masks__faults_are_named_or_counted(fault: str, splits: Splits, tmp_path: Path) -> None:
    WITH_MASKS["Datumaro, masks"](tmp_path, {"train": splits["train"]})
    stem = splits["train"][2].stem
    classes, objects = (tmp_path / f"Segmentation{kind}" / f"{stem}.png" for kind in ("Class", "Object"))
    if fault == "no class":
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(classes)
    elif fault == "size":
        Image.fromarray(np.zeros((HEIGHT, 8), np.uint8)).save(classes)
    elif fault == "broken":
        objects.write_bytes(objects.read_bytes()[:60])
    else:
        (tmp_path / "JPEGImages" / f"{stem}.png").unlink()
    source = detect_format(str(tmp_path)).splits["train"]
    with pytest.raises(DataError, match=stem):
        source.read(LabelIssues("fail"), LIMIT)
    issues = LabelIssues("skip")
    table = source.read(issues, LIMIT)
    assert stem not in {Path(table.files[row]).stem for row in np.flatnonzero(np.diff(table.offsets))}
    assert sum(issues.counts.values()) >= 1


@pytest.mark.parametrize("layout", ["CVAT for images", "VIA 2, project", "Supervisely", "Label Studio JSON", "labelme"])
def test_convert__to_coco_and_back(layout: str, splits: Splits, tmp_path: Path) -> None:
    WITH_MASKS[layout](tmp_path / "in", splits)
    before = read(tmp_path / "in", True)
    convert_dataset(tmp_path / "in", tmp_path / "coco", "coco")
    after = read(tmp_path / "coco", True)
    assert {stem: len(objects) for stem, objects in after.items()} == {key: len(row) for key, row in before.items()}
    for stem, objects in before.items():
        for (name, box, mask), (other_name, other_box, other_mask) in zip(objects, after[stem]):
            assert name == other_name
            np.testing.assert_allclose(box, other_box, atol=1e-3)
            np.testing.assert_array_equal(mask, other_mask)


@pytest.mark.parametrize("layout", ["CVAT for images", "VIA 2, project", "Supervisely", "FiftyOne, detections"])
def test_check__finds_nothing_wrong(layout: str, splits: Splits, tmp_path: Path) -> None:
    (WITH_MASKS | WITH_BOXES)[layout](tmp_path, splits)
    report = densevision.check("detection", tmp_path)
    assert not [finding.check.name for finding in report.findings if finding.check.severity == "error"]


def test_roboflow__category_of_all_others_is_left_out_and_said(splits: Splits, tmp_path: Path) -> None:
    WITH_MASKS["COCO of Roboflow"](tmp_path, splits)
    issues = LabelIssues("fail")
    table = detect_format(str(tmp_path)).splits["train"].read(issues, LIMIT)
    assert table.names == NAMES and table.ids == (1, 2) and any("fruit" in note for note in issues.notes)


def test_roboflow__category_0_with_objects_stays(splits: Splits, tmp_path: Path) -> None:
    WITH_MASKS["COCO of Roboflow"](tmp_path, splits)
    file = tmp_path / "train" / "_annotations.coco.json"
    file.write_text(file.read_text().replace('"category_id": 1,', '"category_id": 0,', 1))
    source = detect_format(str(tmp_path)).splits["train"]
    assert source.classes().names == ("fruit", *NAMES) == source.read(LabelIssues("fail"), LIMIT).names


def read_one(root: Path, policy: str = "fail") -> tuple[np.ndarray, list[np.ndarray], LabelIssues]:
    """Boxes and masks of all images of the first split and of all others."""
    boxes, masks, issues = [], [], LabelIssues(policy)
    source = detect_format(str(root)).splits["train"]
    assert isinstance(source, ObjectSource)
    table = source.read(issues, LIMIT)
    segmentations, keep = source.read_masks(table, LabelIssues("skip"))
    boxes = table.boxes[keep]
    masks = [coco.decode(segmentations.mask(row, (HEIGHT, WIDTH))).astype(bool) for row in range(len(segmentations))]
    return boxes, masks, issues


def write_cvat(root: Path, shapes: str) -> None:
    save(Photo("a", np.zeros((HEIGHT, WIDTH, 3), np.uint8), ()), root / "images")
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    write_text(root / "annotations.xml", f"<annotations>{image}</annotations>")


def test_cvat__turned_boxes_and_ellipses(tmp_path: Path) -> None:
    """A box of 20 x 10 around 30, 20 that is turned by 90 degrees covers 10 x 20; an ellipse has its two radii."""
    box = '<box label="a" xtl="20" ytl="15" xbr="40" ybr="25" rotation="90.0"></box>'
    write_cvat(tmp_path, f'{box}<ellipse label="a" cx="30" cy="20" rx="12" ry="6"></ellipse>')
    boxes, masks, _ = read_one(tmp_path)
    np.testing.assert_allclose(boxes, [[25, 10, 35, 30], [18, 14, 42, 26]], atol=1e-4)
    assert masks[0].sum() == 200 and abs(masks[1].sum() - np.pi * 12 * 6) < 8


def test_cvat__lines_and_points_are_counted_and_malformed_shapes_named(tmp_path: Path) -> None:
    line = '<polyline label="a" points="1,1;5,5"></polyline><points label="a" points="3,3"></points>'
    polygon = '<polygon label="a" points="8,8;40,8;40,30;8,30"></polygon>'
    write_cvat(tmp_path, f'{polygon}{line}<box label="a" xtl="x" ytl="1" xbr="5" ybr="5"></box>')
    with pytest.raises(DataError, match=r"annotations\.xml") as failure:
        read_one(tmp_path)
    assert "box" in str(failure.value.field)
    boxes, _, issues = read_one(tmp_path, "skip")
    assert len(boxes) == 1
    assert issues.counts[IssueKind.SHAPE_WITHOUT_AREA, "skipped"] == 2
    assert issues.counts[IssueKind.ENTRY_MALFORMED, "skipped"] == 1


def test_cvat__image_names_cannot_lead_out(splits: Splits, tmp_path: Path) -> None:
    cvat_xml(tmp_path / "set", splits)
    save(splits["train"][0], tmp_path / "secret", "b.png")
    file = tmp_path / "set" / "annotations.xml"
    file.write_text(file.read_text().replace(splits["train"][2].name, "../secret/b.png"))
    issues = LabelIssues("skip")
    tables = [source.read(issues, LIMIT) for source in detect_format(str(tmp_path / "set")).splits.values()]
    assert sum(map(len, tables)) == 9 and issues.counts[IssueKind.NAME_ESCAPES, "skipped"] == 1


def test_supervisely__holes_are_cut_out(tmp_path: Path) -> None:
    save(Photo("a", np.zeros((HEIGHT, WIDTH, 3), np.uint8), ()), tmp_path / "ds" / "img")
    points = {
        "exterior": [[8, 8], [40, 8], [40, 30], [8, 30]],
        "interior": [[[16, 12], [24, 12], [24, 20], [16, 20]]],
    }
    entry = {"classTitle": "a", "geometryType": "polygon", "points": points}
    document = {"size": {"height": HEIGHT, "width": WIDTH}, "objects": [entry]}
    write_text(tmp_path / "ds" / "ann" / "a.png.json", json.dumps(document))
    boxes, masks, _ = read_one(tmp_path)
    assert boxes.tolist() == [[8, 8, 40, 30]] and masks[0].sum() == 32 * 22 - 64 and not masks[0][15, 20]


@pytest.mark.parametrize("encoding", ["gb2312", "gb18030", "utf-16", "iso-8859-1", "utf-8"])
def test_voc__stated_encoding(encoding: str, tmp_path: Path) -> None:
    name = "pommé" if encoding == "iso-8859-1" else "苹果"
    polygon = ((8.0, 8.0), (40.0, 8.0), (40.0, 30.0), (8.0, 30.0))
    photo = Photo("a", np.zeros((HEIGHT, WIDTH, 3), np.uint8), (Object(name, polygon, draw(polygon)),))
    save(photo, tmp_path / "JPEGImages")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_bytes(voc_xml(photo, "x", encoding))
    table = detect_format(str(tmp_path)).splits["train"].read(LabelIssues("fail"), LIMIT)
    assert table.names == (name,) and table.boxes.tolist() == [[8, 8, 40, 30]]


def test_unknown_layout__message_names_content_and_conversion(tmp_path: Path) -> None:
    write_text(tmp_path / "labels.parquet", "x")
    save(make_photos(1, 3)[0], tmp_path / "pictures")
    for task in ("detection", "instance", "semantic"):
        with pytest.raises(DataError) as failure:
            densevision.check(task, tmp_path)
        text = str(failure.value)
        assert "pictures/" in text and ".parquet" in text and "densevision convert" in text and "CVAT" in text


@pytest.mark.slow
@pytest.mark.parametrize("layout", [*WITH_MASKS, *WITH_BOXES])
def test_layout__trains_through_the_public_api(layout: str, splits: Splits, tmp_path: Path) -> None:
    (WITH_MASKS | WITH_BOXES)[layout](tmp_path / "data", splits)
    overrides = {"train.epochs": 1, "train.batch": 2, "data.size": 64, "data.workers": 0}
    tasks = ("detection", "semantic", "instance") if layout in WITH_MASKS else ("detection",)
    for task in tasks:
        densevision.train(task, tmp_path / "data", overrides=overrides, out=tmp_path / task, quiet=True)
        assert (tmp_path / task / "best.safetensors").is_file()
