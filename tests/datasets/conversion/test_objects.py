"""Round trips of boxes, objects and class maps: common content is restored, and losses are counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml
from convert_program import run_program

from densevision.datasets.conversion import ConversionReport, convert_dataset
from densevision.datasets.conversion.polygons import is_exact, join_polygons, trace_polygons
from densevision.errors import DataError, UsageError
from densevision.io.image import read_index_mask, write_image
from densevision.ops.masks import decode, encode, encode_polygons


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Boxes with two decimals, polygons, a crowd with a hole, an object of two parts, category ids with gaps."""
    rng, root = np.random.default_rng(0), tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    hole = np.zeros((48, 64), bool)
    hole[5:40, 5:50] = True
    hole[10:20, 10:20] = False
    for split, ids in (("train", range(1, 5)), ("val", range(1, 3))):
        images, annotations = [], []
        for image_id in ids:
            name = f"{split}{image_id}.png"
            write_image(root / "images" / split / name, image(image_id))
            images.append({"id": image_id, "file_name": name, "width": 64, "height": 48})
            for category in (3, 7, 3):
                x, y = (round(float(value), 2) for value in rng.uniform(1, 20, 2))
                width, height = (round(float(value), 2) for value in rng.uniform(8, 24, 2))
                corners = [x, y, x + width, y, x + width, y + height, x, y + height]
                outline = [round(value, 2) for value in corners]
                annotations.append(
                    {"image_id": image_id, "category_id": category, "bbox": [x, y, width, height], "iscrowd": 0,
                     "area": round(width * height, 2), "segmentation": [outline]}
                )  # fmt: skip
        annotations[0].update(segmentation=encode(hole), area=float(hole.sum()), iscrowd=1, bbox=[5.0, 5.0, 45.0, 35.0])
        parts = [[2, 2, 10, 2, 10, 9, 2, 9], [20, 20, 30, 20, 30, 31, 20, 31]]
        area = float(decode(encode_polygons([np.reshape(part, (-1, 2)) for part in parts], (48, 64))).sum())
        annotations[1].update(segmentation=parts, area=area, bbox=[2.0, 2.0, 28.0, 29.0])
        for number, entry in enumerate(annotations, 1):
            entry["id"] = number
        categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog, wet"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def content(root: Path, split: str) -> dict[str, Any]:
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def list_objects(root: Path, split: str, *keys: str) -> list[Any]:
    values = content(root, split)
    names = {entry["id"]: entry["name"] for entry in values["categories"]}
    files = {entry["id"]: entry["file_name"] for entry in values["images"]}
    return [
        (files[entry["image_id"]], names[entry["category_id"]], *(entry[key] for key in keys))
        for entry in values["annotations"]
    ]


def test_coco__round_trip(coco, tmp_path) -> None:
    report = convert_dataset(coco, tmp_path / "again", "coco")
    assert not report.counts
    for split in ("train", "val"):
        assert content(tmp_path / "again", split)["images"] == content(coco, split)["images"]
        keys = ("bbox", "area", "iscrowd", "segmentation")
        assert list_objects(tmp_path / "again", split, *keys) == list_objects(coco, split, *keys)


@pytest.mark.parametrize("other", ["yolo", "voc"])
def test_boxes__round_trip(other: str, coco, tmp_path) -> None:
    """Boxes keep two decimals, class and image; Pascal VOC keeps crowds."""
    report = convert_dataset(coco, tmp_path / other, other, masks=False)
    convert_dataset(str(tmp_path / other), tmp_path / "again", "coco")
    for split in ("train", "val"):
        keys = ("bbox", "iscrowd")
        objects = [item for item in list_objects(coco, split, *keys) if other == "voc" or not item[-1]]
        for before, after in zip(objects, list_objects(tmp_path / "again", split, *keys), strict=True):
            assert before[:2] == after[:2] and before[3:] == after[3:]
            assert [round(value, 2) for value in after[2]] == before[2]
        for image in content(coco, split)["images"]:
            again = tmp_path / "again" / "images" / split / image["file_name"]
            assert again.read_bytes() == (coco / "images" / split / image["file_name"]).read_bytes()
    assert report.counts["category ids"] == 2
    if other == "yolo":
        assert report.counts["crowd regions"] == 2
    assert report.counts["stated areas"] == 4


def test_polygons__round_trip_through_yolo(coco, tmp_path) -> None:
    """Polygons keep two decimals; crowds, with the only masks that have holes, are left out."""
    report = convert_dataset(coco, tmp_path / "yolo", "yolo")
    convert_dataset(tmp_path / "yolo", tmp_path / "again", "coco")
    for split in ("train", "val"):
        objects = [item[:-1] for item in list_objects(coco, split, "segmentation", "iscrowd") if not item[-1]]
        pairs = zip(objects, list_objects(tmp_path / "again", split, "segmentation"), strict=True)
        for (*names, before), (*names_after, after) in pairs:
            assert names == names_after
            if len(before) == 1:
                assert [[round(value, 2) for value in part] for part in after] == before
    assert report.counts["multi-part polygons, joined into one"] == 2
    assert report.counts["crowd regions"] == 2


def test_yolo__keypoints_are_counted_and_not_read_as_polygons(tmp_path) -> None:
    root = tmp_path / "pose"
    write_image(root / "images/train/a.png", image(0))
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.25 0.5 0.9 0.9 0.8 0.8 0.7 0.9\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [cat]\nkpt_shape: [3, 2]\n")
    report = convert_dataset(root, tmp_path / "coco", "coco")
    (entry,) = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())["annotations"]
    assert entry["bbox"] == [24, 12, 16, 24] and "segmentation" not in entry
    assert report.counts["keypoints of lines"] == 1


def test_join_polygons__connections_cover_no_area() -> None:
    parts = [
        np.array([[2, 2], [10, 2], [10, 9], [2, 9]], float),
        np.array([[20, 20], [30, 20], [30, 31], [20, 31]], float),
    ]
    polygon = join_polygons(parts, ConversionReport())
    together, apart = (decode(encode_polygons(polygons, (48, 64))) for polygons in ([polygon], parts))
    assert (together != apart).sum() <= 20  # pixels on the connection, where rasterizers differ
    assert {tuple(point) for point in polygon} == {tuple(point) for part in parts for point in part}


@pytest.mark.parametrize("speckled", [False, True])
def test_trace_polygons__exact_without_holes(speckled: bool) -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        canvas = (rng.random((40, 50)) < 0.5).astype(np.uint8) if speckled else np.zeros((40, 50), np.uint8)
        for _ in range(0 if speckled else 3):
            center, axes = rng.integers(10, 30, 2).tolist(), rng.integers(2, 9, 2).tolist()
            cv2.ellipse(canvas, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        part = cv2.connectedComponents(canvas, connectivity=4)[1] == 1
        around = np.pad(~part, 1, constant_values=True).astype(np.uint8)
        solid = cv2.connectedComponents(around, connectivity=8)[0] == 2
        assert is_exact(trace_polygons(encode(part)), encode(part)) is solid
        seen.add(solid)
    assert True in seen
    with pytest.raises(DataError, match="without any pixel"):
        trace_polygons(encode(np.zeros((5, 5), bool)))


def blobs(seed: int, classes: int, unknown: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (12, 16), np.uint8)
    labels = cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_NEAREST)
    labels[20:30, 20:40] = np.where(rng.random((10, 20)) < 0.5, labels[20:30, 20:40], 0)
    if unknown:
        labels[:3] = 255
    return labels


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    root = tmp_path / "masks"
    for split, seeds in (("train", range(4)), ("val", range(4, 6))):
        for seed in seeds:
            write_image(root / split / "images" / f"{seed}.png", image(seed))
            write_image(root / split / "masks" / f"{seed}.png", blobs(seed, 4, True))
    (root / "classes.txt").write_text("sky\nroad\ncar\ntree\n")
    return root


def assert_equal_masks(first: Path, second: Path) -> None:
    files = sorted(path.relative_to(first) for path in first.rglob("masks/*.png"))
    assert files and files == sorted(path.relative_to(second) for path in second.rglob("masks/*.png"))
    for file in files:
        np.testing.assert_array_equal(read_index_mask(first / file), read_index_mask(second / file))


def test_masks__round_trip_through_coco(masks, tmp_path) -> None:
    """Every class becomes objects, so that uncovered pixels are the unknown ones."""
    report = convert_dataset(masks, tmp_path / "coco", "coco")
    assert report.counts["unknown pixels"] == 6 * 3 * 64
    convert_dataset(tmp_path / "coco", tmp_path / "again", "masks", uncovered="unknown")
    assert_equal_masks(masks, tmp_path / "again")
    assert (tmp_path / "again" / "classes.txt").read_text() == (masks / "classes.txt").read_text()


def test_masks__background_is_not_an_object(tmp_path) -> None:
    root = tmp_path / "masks"
    for split, seed in (("train", 0), ("val", 1)):
        write_image(root / split / "images" / f"{seed}.png", image(seed))
        write_image(root / split / "masks" / f"{seed}.png", blobs(seed, 3, False))
    (root / "classes.txt").write_text("background\nroad\ncar\n")
    convert_dataset(root, tmp_path / "coco", "coco")
    assert [entry["name"] for entry in content(tmp_path / "coco", "train")["categories"]] == ["road", "car"]
    convert_dataset(tmp_path / "coco", tmp_path / "again", "masks")
    assert_equal_masks(root, tmp_path / "again")
    assert (tmp_path / "again" / "classes.txt").read_text() == "background\nroad\ncar\n"


def test_masks__from_yolo_polygons(masks, tmp_path) -> None:
    """Objects of one part without holes survive YOLO polygons."""
    for path in masks.rglob("masks/*.png"):
        labels = np.full((48, 64), 255, np.uint8)
        labels[4:20, 4:30], labels[22:40, 10:60] = 1, 3
        write_image(path, labels)
    report = convert_dataset(masks, tmp_path / "yolo", "yolo")
    assert not report.counts["masks that polygons cannot represent exactly, such as holes"]
    convert_dataset(tmp_path / "yolo", tmp_path / "again", "masks", uncovered="unknown")
    assert_equal_masks(masks, tmp_path / "again")


def test_masks__of_cityscapes(tmp_path) -> None:
    root = tmp_path / "cityscapes"
    ids = np.repeat(np.array([0, 7, 8, 26, 33, 4], np.uint8), 8)[:, None].repeat(64, 1)
    for split in ("train", "val"):
        stem = f"{split}/bonn/bonn_000000_000019"
        write_image(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", image(split == "val"))
        write_image(root / "gtFine" / f"{stem}_gtFine_labelIds.png", ids)
    report = convert_dataset(root, tmp_path / "masks", "masks")
    (mask,) = (tmp_path / "masks" / "train" / "masks").rglob("*.png")
    expected = np.repeat(np.array([255, 0, 1, 13, 18, 255], np.uint8), 8)[:, None].repeat(64, 1)
    np.testing.assert_array_equal(read_index_mask(mask), expected)
    assert report.counts["pixels without a class, set to unknown"] == 2 * 16 * 64
    assert (tmp_path / "masks" / "classes.txt").read_text().split("\n")[0] == "road"


def test_masks__in_color(masks, tmp_path) -> None:
    palette = np.array([(128, 0, 0), (0, 128, 0), (0, 0, 128), (9, 9, 9), *[(0, 0, 0)] * 252], np.uint8)
    for path in masks.rglob("masks/*.png"):
        write_image(path, palette[read_index_mask(path)])
    (masks / "classes.txt").rename(tmp_path / "classes.txt")
    lines = "128 0 0 sky\n0 128 0\troad\n0 0 128 car\n9 9 9 tree\n0 0 0 -\n"
    (tmp_path / "palette.txt").write_text(lines)
    convert_dataset(masks, tmp_path / "again", "masks", palette=tmp_path / "palette.txt")
    assert (tmp_path / "again" / "classes.txt").read_text() == "sky\nroad\ncar\ntree\n"
    for seed in range(4):
        np.testing.assert_array_equal(read_index_mask(tmp_path / f"again/train/masks/{seed}.png"), blobs(seed, 4, True))
    (tmp_path / "palette.txt").write_text("128 0 sky\n")
    with pytest.raises(DataError, match="is not a line of a palette"):
        convert_dataset(masks, tmp_path / "third", "masks", palette=tmp_path / "palette.txt")


def test_convert__refuses_options_without_effect(coco, masks, tmp_path) -> None:
    for source, to, options in (
        (coco, "yolo", {"uncovered": "unknown"}),
        (coco, "yolo", {"scale": 5.0}),
        (masks, "masks", {"uncovered": "unknown"}),
        (masks, "coco", {"masks": False}),
    ):
        with pytest.raises(UsageError):
            convert_dataset(source, tmp_path / "out", to, **options)
    with pytest.raises(UsageError):
        convert_dataset(coco, tmp_path / "coco", "yolo")
    assert not (tmp_path / "out").exists()


def test_convert__writes_nothing_on_failure(coco, tmp_path) -> None:
    entries = content(coco, "val")
    entries["annotations"][0]["bbox"] = [50, 10, 30, 10]
    (coco / "annotations" / "instances_val.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match="extending beyond"):
        convert_dataset(coco, tmp_path / "out", "voc")
    assert {path.name for path in tmp_path.iterdir()} == {"coco"}
    report = convert_dataset(coco, tmp_path / "out", "voc", on_error="fix")
    assert any("clipped" in note for note in report.notes)


def test_convert__counts_other_keys_of_a_json(coco, tmp_path) -> None:
    entries = content(coco, "train")
    entries["licenses"] = [{"id": 1}]
    entries["annotations"][0]["keypoints"] = [1, 2, 2]
    entries["images"][0]["date_captured"] = "today"
    (coco / "annotations" / "instances_train.json").write_text(json.dumps(entries))
    counts = convert_dataset(coco, tmp_path / "out", "coco").counts
    assert counts == {
        "JSON key licenses": 1,
        "JSON key annotations[].keypoints": 1,
        "JSON key images[].date_captured": 1,
    }


def test_program__prints_the_report(coco, tmp_path) -> None:
    result = run_program(coco, tmp_path / "yolo", "--to", "yolo", "--json")
    assert result.exit_code == 0 and json.loads(result.output)["lost"]["crowd regions"] == 2
    assert run_program(coco, tmp_path / "yolo", "--to", "yolo").exit_code == 2, "the folder exists"


def test_options__without_effect_on_masks(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as failure:
        convert_dataset(coco, tmp_path / "out", "masks", masks=False)
    assert failure.value.field == "masks"
    convert_dataset(coco, tmp_path / "masks", "masks")
    for option, value in (("on_error", "skip"), ("masks", False), ("masks", True)):
        with pytest.raises(UsageError) as failure:
            convert_dataset(tmp_path / "masks", tmp_path / "out", "coco", **{option: value})
        assert failure.value.field == option


def test_yolo__class_numbers_have_no_gaps(coco: Path, tmp_path: Path) -> None:
    """Ultralytics requires the numbers 0 to n - 1 for n classes."""
    convert_dataset(coco, tmp_path / "yolo", "yolo")
    names = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())["names"]
    assert names == {0: "cat", 1: "dog, wet"}
    lines = (tmp_path / "yolo/labels/train/train1.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "0"], "without the crowd region"


def test_masks__missing_for_some_objects_of_coco(coco: Path, tmp_path: Path) -> None:
    """An object without a mask is an error or is skipped; the others keep their masks."""
    file = coco / "annotations/instances_train.json"
    values = json.loads(file.read_text())
    values["annotations"][5]["segmentation"] = []
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match="without a mask"):
        convert_dataset(coco, tmp_path / "failed", "coco")
    convert_dataset(coco, tmp_path / "skipped", "coco", on_error="skip")
    kept = content(tmp_path / "skipped", "train")["annotations"]
    assert len(kept) == len(values["annotations"]) - 1 and all(entry["segmentation"] for entry in kept)
    convert_dataset(coco, tmp_path / "boxes", "coco", masks=False)
    assert len(content(tmp_path / "boxes", "train")["annotations"]) == len(values["annotations"])


def test_masks__missing_for_some_lines_of_yolo(tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    write_image(root / "images/train/a.png", image(0))
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.5 0.1 0.5 0.6\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    with pytest.raises(DataError, match="without a mask"):
        convert_dataset(root, tmp_path / "coco", "coco")


def test_splits__test_splits_are_counted(coco: Path, masks: Path, tmp_path: Path) -> None:
    assert not convert_dataset(coco, tmp_path / "none", "coco").counts["test splits"]
    shutil.copy(coco / "annotations/instances_val.json", coco / "annotations/instances_test.json")
    assert convert_dataset(coco, tmp_path / "yolo", "yolo").counts["test splits"] == 1
    yaml_file = tmp_path / "yolo/data.yaml"
    yaml_file.write_text(yaml_file.read_text() + "test: images/test\n")
    shutil.copytree(tmp_path / "yolo/images/val", tmp_path / "yolo/images/test")
    assert convert_dataset(tmp_path / "yolo", tmp_path / "voc", "voc").counts["test splits"] == 1
    (tmp_path / "voc/ImageSets/Main/test.txt").write_text("train1\n")
    assert convert_dataset(tmp_path / "voc", tmp_path / "again", "coco").counts["test splits"] == 1
    assert not convert_dataset(masks, tmp_path / "same", "masks").counts["test splits"]
    shutil.copytree(masks / "val", masks / "test")
    assert convert_dataset(masks, tmp_path / "more", "masks").counts["test splits"] == 1


def test_masks__without_splits_are_not_divided(masks: Path, tmp_path: Path) -> None:
    """Training holds out a tenth of the images; a conversion does not."""
    flat = tmp_path / "flat"
    shutil.copytree(masks / "train", flat)
    shutil.copy(masks / "classes.txt", flat)
    image = next((flat / "images").iterdir())
    for number in range(30):
        shutil.copy(image, flat / "images" / f"more{number}.png")
        shutil.copy(flat / "masks" / f"{image.stem}.png", flat / "masks" / f"more{number}.png")
    for to in ("masks", "coco"):
        convert_dataset(flat, tmp_path / "out" / to, to)
    assert not (tmp_path / "out/masks/val").exists() and not (tmp_path / "out/coco/images/val").exists()
    assert len(list((tmp_path / "out/masks/train/images").iterdir())) == len(list((flat / "images").iterdir()))


def test_masks__ids_are_counted(coco: Path, tmp_path: Path) -> None:
    file = coco / "annotations/instances_val.json"
    values = json.loads(file.read_text())
    for entry in (*values["images"], *values["annotations"]):
        entry["id" if "file_name" in entry else "image_id"] += 6
    file.write_text(json.dumps(values))
    report = convert_dataset(coco, tmp_path / "out", "masks")
    assert report.counts["image ids"] == 2 and report.counts["category ids"] == 2


@pytest.mark.parametrize("to", ["yolo", "voc", "masks"])
def test_classes__differ_between_splits(to: str, coco: Path, tmp_path: Path) -> None:
    """The validation split has no class cat, and a class owl that training does not have."""
    file = coco / "annotations/instances_val.json"
    values = json.loads(file.read_text())
    values["annotations"] = [entry for entry in values["annotations"] if entry["category_id"] == 7]
    values["annotations"][0]["category_id"] = 9
    values["categories"] = [{"id": 9, "name": "owl"}, {"id": 7, "name": "dog, wet"}]
    file.write_text(json.dumps(values))
    report = convert_dataset(coco, tmp_path / to, to)
    assert report.counts["category ids"] == 3
    convert_dataset(str(tmp_path / to), tmp_path / "again", "coco")
    names = {split: {name for _, name in list_objects(tmp_path / "again", split)} for split in ("train", "val")}
    assert names == {"train": {"cat", "dog, wet"}, "val": {"owl", "dog, wet"}}


def test_out__inside_the_source_is_refused(coco: Path) -> None:
    before = sorted(coco.rglob("*"))
    with pytest.raises(UsageError):
        convert_dataset(coco, coco / "yolo", "yolo")
    assert sorted(coco.rglob("*")) == before


def test_program__errors_name_files_and_options(coco: Path, tmp_path: Path) -> None:
    file = coco / "annotations/instances_train.json"
    shutil.copy(file, coco / "annotations/objects_train.json")
    result = run_program(coco, tmp_path / "a", "--to", "yolo")
    assert "objects_train.json" in result.output and "data.train" not in result.output
    values = json.loads(file.read_text())
    values["annotations"][3]["bbox"] = [60, 5, 30, 5]
    file.write_text(json.dumps(values))
    result = run_program(coco, tmp_path / "b", "--to", "yolo")
    assert result.exit_code == 3 and "on_error" in result.output and "data.on_error" not in result.output


def test_yolo__crowds_are_left_out_and_boxes_clipped(tmp_path) -> None:
    """Training programs refuse labels that extend beyond the image, and a crowd region is not one object."""
    write_image(tmp_path / "in" / "images" / "a.png", image(0))
    height, width = image(0).shape[:2]
    rows = [([-0.5, 4, 20.5, 10], 0), ([width - 10, height - 8, 10.9, 8.9], 0), ([1, 1, 30, 30], 1)]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": width, "height": height}],
        "annotations": [
            {"id": row, "image_id": 1, "category_id": 1, "bbox": box, "area": 9, "iscrowd": crowd}
            for row, (box, crowd) in enumerate(rows, 1)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "in" / "annotations").mkdir()
    (tmp_path / "in" / "annotations" / "train.json").write_text(json.dumps(document))
    report = convert_dataset(tmp_path / "in", tmp_path / "out", "yolo")
    lines = [list(map(float, line.split())) for line in (tmp_path / "out/labels/train/a.txt").read_text().splitlines()]
    corners = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for _, x, y, w, h in lines]
    expected = [[0, 4 / height, 20 / width, 14 / height], [1 - 10 / width, 1 - 8 / height, 1, 1]]
    np.testing.assert_allclose(corners, expected, atol=1e-6)
    assert np.min(corners) >= 0 and np.max(corners) <= 1 + 1e-9
    assert report.counts["crowd regions"] == 1 and report.counts["parts of boxes outside the image"] == 2


def to_rows(root: Path, split: str) -> list[tuple[Any, ...]]:
    """File, class, box and mask of every object but crowds, in the order of the file."""
    sizes = {entry["file_name"]: (entry["height"], entry["width"]) for entry in content(root, split)["images"]}
    rows = []
    for file, name, box, segmentation, crowd in list_objects(root, split, "bbox", "segmentation", "iscrowd"):
        if not crowd:
            parts = [np.reshape(part, (-1, 2)) for part in segmentation] if isinstance(segmentation, list) else None
            mask = segmentation if parts is None else encode_polygons(parts, sizes[file])
            rows.append((file, name, np.round(box, 1).tolist(), mask))
    return rows


@pytest.mark.parametrize("target", ["cvat", "labelme", "label-studio"])
def test_annotation_programs__masks_return_exactly(target: str, coco: Path, tmp_path: Path) -> None:
    holes = json.loads((coco / "annotations" / "instances_val.json").read_text())
    holes["annotations"][0]["iscrowd"] = 0
    (coco / "annotations" / "instances_val.json").write_text(json.dumps(holes))
    report = convert_dataset(coco, tmp_path / "labels", target)
    assert report.counts["crowd regions"] == 1
    again = tmp_path / "again"
    convert_dataset(tmp_path / "labels", again, "coco")
    has_splits = target != "label-studio"
    assert report.counts["splits"] == (0 if has_splits else 1)
    found = [row for split in ("train", "val")[: 2 if has_splits else 1] for row in to_rows(again, split)]
    expected = [row for split in ("train", "val") for row in to_rows(coco, split)]
    assert [(row[0].rpartition("/")[2], row[1]) for row in found] == [row[:2] for row in expected]
    assert [decode(row[3]).tolist() for row in found] == [decode(row[3]).tolist() for row in expected]


@pytest.mark.parametrize("target", ["cvat", "labelme", "label-studio"])
def test_annotation_programs__boxes(target: str, coco: Path, tmp_path: Path) -> None:
    convert_dataset(coco, tmp_path / "labels", target, masks=False)
    convert_dataset(tmp_path / "labels", tmp_path / "again", "coco", masks=False)
    splits = ("train", "val") if target != "label-studio" else ("train",)
    found = [row for split in splits for row in list_objects(tmp_path / "again", split, "bbox")]
    expected = [
        (file, name, box)
        for split in ("train", "val")
        for file, name, box, crowd in list_objects(coco, split, "bbox", "iscrowd")
        if not crowd
    ]
    assert [(row[0].rpartition("/")[2], row[1]) for row in found] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2] for row in found], [row[2] for row in expected], atol=2e-3)


def test_cvat__what_its_format_states(coco: Path, tmp_path: Path) -> None:
    convert_dataset(coco, tmp_path / "cvat", "cvat")
    root = ElementTree.parse(tmp_path / "cvat" / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert [label.findtext("name") for label in root.iterfind("meta/project/labels/label")] == ["cat", "dog, wet"]
    image = root.find("image")
    assert image is not None and (image.get("subset"), image.get("width")) == ("train", "64")
    assert (tmp_path / "cvat" / "images" / str(image.get("name"))).is_file()
    mask = image.find("mask")  # the object of two parts
    assert mask is not None
    runs = [int(run) for run in str(mask.get("rle")).split(",")]
    assert sum(runs) == int(str(mask.get("width"))) * int(str(mask.get("height")))
    parts = content(coco, "train")["annotations"][1]
    assert sum(runs[1::2]) == parts["area"]
