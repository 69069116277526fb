"""Round trips of boxes, objects and class maps: what both formats hold comes back, and what is lost is listed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from densevision.datasets.conversion.polygons import drawn, is_exact, joined
from densevision.datasets.conversion.report import ConversionReport
from densevision.errors import DataError, UsageError
from densevision.io.image import read_index, write_image
from densevision.ops.masks import decode, encode, from_polygons

ROOT = Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location("convert_dataset", ROOT / "tools" / "convert_dataset.py")
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)
convert = tool.convert


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Boxes of two decimals, outlines, a crowd with a hole, an object of two parts, categories with gaps."""
    rng, root = np.random.default_rng(0), tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    hole = np.zeros((48, 64), bool)
    hole[5:40, 5:50] = True
    hole[10:20, 10:20] = False
    for split, ids in (("train", range(1, 5)), ("val", range(1, 3))):
        images, annotations = [], []
        for id in ids:
            name = f"{split}{id}.png"
            write_image(root / "images" / split / name, image(id))
            images.append({"id": id, "file_name": name, "width": 64, "height": 48})
            for category in (3, 7, 3):
                x, y = (round(float(value), 2) for value in rng.uniform(1, 20, 2))
                width, height = (round(float(value), 2) for value in rng.uniform(8, 24, 2))
                corners = [x, y, x + width, y, x + width, y + height, x, y + height]
                outline = [round(value, 2) for value in corners]
                annotations.append(
                    {"image_id": id, "category_id": category, "bbox": [x, y, width, height], "iscrowd": 0,
                     "area": round(width * height, 2), "segmentation": [outline]}
                )  # fmt: skip
        annotations[0].update(segmentation=encode(hole), area=float(hole.sum()), iscrowd=1, bbox=[5.0, 5.0, 45.0, 35.0])
        parts = [[2, 2, 10, 2, 10, 9, 2, 9], [20, 20, 30, 20, 30, 31, 20, 31]]
        area = float(decode(from_polygons([np.reshape(part, (-1, 2)) for part in parts], (48, 64))).sum())
        annotations[1].update(segmentation=parts, area=area, bbox=[2.0, 2.0, 28.0, 29.0])
        for number, entry in enumerate(annotations, 1):
            entry["id"] = number
        categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog, wet"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def content(root: Path, split: str) -> dict[str, Any]:
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def told(root: Path, split: str, *keys: str) -> list[Any]:
    found = content(root, split)
    names = {entry["id"]: entry["name"] for entry in found["categories"]}
    files = {entry["id"]: entry["file_name"] for entry in found["images"]}
    return [
        (files[entry["image_id"]], names[entry["category_id"]], *(entry[key] for key in keys))
        for entry in found["annotations"]
    ]


def test_coco__comes_back_from_itself(coco, tmp_path) -> None:
    losses = convert(str(coco), tmp_path / "again", "coco")
    assert not losses.counts
    for split in ("train", "val"):
        assert content(tmp_path / "again", split)["images"] == content(coco, split)["images"]
        keys = ("bbox", "area", "iscrowd", "segmentation")
        assert told(tmp_path / "again", split, *keys) == told(coco, split, *keys)


@pytest.mark.parametrize("other", ["yolo", "voc"])
def test_boxes__come_back(other: str, coco, tmp_path) -> None:
    """Every box to the hundredth that was written, with its class and its image; Pascal VOC keeps crowds."""
    losses = convert(str(coco), tmp_path / other, other, masks=False)
    convert(str(tmp_path / other), tmp_path / "again", "coco")
    for split in ("train", "val"):
        keys = ("bbox", "iscrowd") if other == "voc" else ("bbox",)
        for mine, theirs in zip(told(coco, split, *keys), told(tmp_path / "again", split, *keys)):
            assert mine[:2] == theirs[:2] and mine[3:] == theirs[3:]
            assert [round(value, 2) for value in theirs[2]] == mine[2]
        for image in content(coco, split)["images"]:
            again = tmp_path / "again" / "images" / split / image["file_name"]
            assert again.read_bytes() == (coco / "images" / split / image["file_name"]).read_bytes()
    assert losses.counts["category ids"] == 2
    if other == "yolo":
        assert losses.counts["marks of crowds"] == 2
    assert losses.counts["areas that differ from what the target tells"] == 4


def test_polygons__come_back_from_yolo(coco, tmp_path) -> None:
    losses = convert(str(coco), tmp_path / "yolo", "yolo")
    convert(str(tmp_path / "yolo"), tmp_path / "again", "coco")
    for split in ("train", "val"):
        pairs = zip(told(coco, split, "segmentation"), told(tmp_path / "again", split, "segmentation"))
        for row, ((*mine, before), (*theirs, after)) in enumerate(pairs):
            assert mine == theirs
            if row > 1:
                assert [[round(value, 2) for value in part] for part in after] == before
    assert losses.counts["outlines of several parts, joined by seams without width"] == 2
    assert losses.counts["masks whose pixels an outline cannot hold, such as holes"] == 2


def test_yolo__keypoints_are_listed_and_no_outlines(tmp_path) -> None:
    root = tmp_path / "pose"
    write_image(root / "images/train/a.png", image(0))
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.25 0.5 0.9 0.9 0.8 0.8 0.7 0.9\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [cat]\nkpt_shape: [3, 2]\n")
    losses = convert(str(root), tmp_path / "coco", "coco")
    (entry,) = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())["annotations"]
    assert entry["bbox"] == [24, 12, 16, 24] and "segmentation" not in entry
    assert losses.counts["keypoints of lines"] == 1


def test_joined__seams_cover_nothing() -> None:
    parts = [
        np.array([[2, 2], [10, 2], [10, 9], [2, 9]], float),
        np.array([[20, 20], [30, 20], [30, 31], [20, 31]], float),
    ]
    one = joined(parts, ConversionReport())
    together, apart = (decode(from_polygons(outlines, (48, 64))) for outlines in ([one], parts))
    assert (together != apart).sum() <= 20  # the seam's own pixels, on which rasterisers differ
    assert {tuple(point) for point in one} == {tuple(point) for part in parts for point in part}


@pytest.mark.parametrize("speckled", [False, True])
def test_drawn__outlines_are_exact_where_there_is_no_hole(speckled: bool) -> None:
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
        assert is_exact(drawn(encode(part)), encode(part)) is solid
        seen.add(solid)
    assert True in seen
    with pytest.raises(DataError, match="without a single pixel"):
        drawn(encode(np.zeros((5, 5), bool)))


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


def equal_masks(first: Path, second: Path) -> None:
    files = sorted(path.relative_to(first) for path in first.rglob("masks/*.png"))
    assert files and files == sorted(path.relative_to(second) for path in second.rglob("masks/*.png"))
    for file in files:
        np.testing.assert_array_equal(read_index(first / file), read_index(second / file))


def test_masks__come_back_from_coco_pixel_by_pixel(masks, tmp_path) -> None:
    """Every class is an object, so what no object covers is what was unknown."""
    losses = convert(str(masks), tmp_path / "coco", "coco")
    assert losses.counts["pixels that are unknown"] == 6 * 3 * 64
    convert(str(tmp_path / "coco"), tmp_path / "again", "masks", uncovered="unknown")
    equal_masks(masks, tmp_path / "again")
    assert (tmp_path / "again" / "classes.txt").read_text() == (masks / "classes.txt").read_text()


def test_masks__background_is_no_object(tmp_path) -> None:
    root = tmp_path / "masks"
    for split, seed in (("train", 0), ("val", 1)):
        write_image(root / split / "images" / f"{seed}.png", image(seed))
        write_image(root / split / "masks" / f"{seed}.png", blobs(seed, 3, False))
    (root / "classes.txt").write_text("background\nroad\ncar\n")
    convert(str(root), tmp_path / "coco", "coco")
    assert [entry["name"] for entry in content(tmp_path / "coco", "train")["categories"]] == ["road", "car"]
    convert(str(tmp_path / "coco"), tmp_path / "again", "masks")
    equal_masks(root, tmp_path / "again")
    assert (tmp_path / "again" / "classes.txt").read_text() == "background\nroad\ncar\n"


def test_masks__from_yolo_polygons(masks, tmp_path) -> None:
    """Objects of one part without holes come back from YOLO's outlines, too."""
    for path in masks.rglob("masks/*.png"):
        labels = np.full((48, 64), 255, np.uint8)
        labels[4:20, 4:30], labels[22:40, 10:60] = 1, 3
        write_image(path, labels)
    losses = convert(str(masks), tmp_path / "yolo", "yolo")
    assert not losses.counts["masks whose pixels an outline cannot hold, such as holes"]
    convert(str(tmp_path / "yolo"), tmp_path / "again", "masks", uncovered="unknown")
    equal_masks(masks, tmp_path / "again")


def test_masks__of_cityscapes(tmp_path) -> None:
    root = tmp_path / "cityscapes"
    ids = np.repeat(np.array([0, 7, 8, 26, 33, 4], np.uint8), 8)[:, None].repeat(64, 1)
    for split in ("train", "val"):
        stem = f"{split}/bonn/bonn_000000_000019"
        write_image(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", image(split == "val"))
        write_image(root / "gtFine" / f"{stem}_gtFine_labelIds.png", ids)
    losses = convert(str(root), tmp_path / "masks", "masks")
    (mask,) = (tmp_path / "masks" / "train" / "masks").rglob("*.png")
    expected = np.repeat(np.array([255, 0, 1, 13, 18, 255], np.uint8), 8)[:, None].repeat(64, 1)
    np.testing.assert_array_equal(read_index(mask), expected)
    assert losses.counts["pixels of values that are no class, unknown now"] == 2 * 16 * 64
    assert (tmp_path / "masks" / "classes.txt").read_text().split("\n")[0] == "road"


def test_masks__in_color(masks, tmp_path) -> None:
    palette = np.array([(128, 0, 0), (0, 128, 0), (0, 0, 128), (9, 9, 9), *[(0, 0, 0)] * 252], np.uint8)
    for path in masks.rglob("masks/*.png"):
        write_image(path, palette[read_index(path)])
    (masks / "classes.txt").rename(tmp_path / "classes.txt")
    lines = "128 0 0 sky\n0 128 0\troad\n0 0 128 car\n9 9 9 tree\n0 0 0 -\n"
    (tmp_path / "palette.txt").write_text(lines)
    convert(str(masks), tmp_path / "again", "masks", palette=tmp_path / "palette.txt")
    assert (tmp_path / "again" / "classes.txt").read_text() == "sky\nroad\ncar\ntree\n"
    for seed in range(4):
        np.testing.assert_array_equal(read_index(tmp_path / f"again/train/masks/{seed}.png"), blobs(seed, 4, True))
    (tmp_path / "palette.txt").write_text("128 0 sky\n")
    with pytest.raises(DataError, match="no line of a palette"):
        convert(str(masks), tmp_path / "third", "masks", palette=tmp_path / "palette.txt")


def test_convert__refuses_what_has_no_effect(coco, masks, tmp_path) -> None:
    for source, to, options in (
        (coco, "yolo", {"uncovered": "unknown"}),
        (coco, "yolo", {"scale": 5.0}),
        (masks, "masks", {"uncovered": "unknown"}),
        (masks, "coco", {"masks": False}),
    ):
        with pytest.raises(UsageError, match="no effect"):
            convert(str(source), tmp_path / "out", to, **options)
    with pytest.raises(UsageError, match="is there already"):
        convert(str(coco), tmp_path / "coco", "yolo")
    assert not (tmp_path / "out").exists()


def test_convert__whole_or_not_at_all(coco, tmp_path) -> None:
    entries = content(coco, "val")
    entries["annotations"][0]["bbox"] = [50, 10, 30, 10]
    (coco / "annotations" / "instances_val.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match="reaching outside"):
        convert(str(coco), tmp_path / "out", "voc")
    assert {path.name for path in tmp_path.iterdir()} == {"coco"}
    losses = convert(str(coco), tmp_path / "out", "voc", on_error="fix")
    assert any("clipped" in note for note in losses.notes)


def test_convert__lists_what_else_a_json_says(coco, tmp_path) -> None:
    entries = content(coco, "train")
    entries["licenses"] = [{"id": 1}]
    entries["annotations"][0]["keypoints"] = [1, 2, 2]
    entries["images"][0]["date_captured"] = "today"
    (coco / "annotations" / "instances_train.json").write_text(json.dumps(entries))
    counts = convert(str(coco), tmp_path / "out", "coco").counts
    assert counts == {"licenses of the json": 1, "keypoints of annotations": 1, "date_captured of images": 1}


def test_program__prints_what_is_lost(coco, tmp_path) -> None:
    answer = CliRunner().invoke(tool.main, [str(coco), str(tmp_path / "yolo"), "--to", "yolo", "--json"])
    report = json.loads(answer.output)
    assert answer.exit_code == 0 and report["lost"]["marks of crowds"] == 2
    again = CliRunner().invoke(tool.main, [str(coco), str(tmp_path / "yolo"), "--to", "yolo"])
    assert again.exit_code == 2 and "is there already" in again.output


def test_options__without_effect_on_masks_are_refused(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--boxes: has no effect here\. "):
        convert(str(coco), tmp_path / "out", "masks", masks=False)
    convert(str(coco), tmp_path / "masks", "masks")
    for options, named in (
        ({"on_error": "skip"}, "--on-error"),
        ({"masks": False}, "--boxes"),
        ({"masks": True}, "--masks"),
    ):
        with pytest.raises(UsageError, match=f"^{named}: has no effect here"):
            convert(str(tmp_path / "masks"), tmp_path / "out", "coco", **options)


def test_yolo__classes_are_numbered_from_0_without_gaps(coco: Path, tmp_path: Path) -> None:
    """Ultralytics refuses a data.yaml of n classes whose numbers are not 0 to n - 1."""
    convert(str(coco), tmp_path / "yolo", "yolo")
    names = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())["names"]
    assert names == {0: "cat", 1: "dog, wet"}
    lines = (tmp_path / "yolo/labels/train/train1.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "0"]


def test_masks__that_some_objects_lack_are_not_dropped_with_theirs(coco: Path, tmp_path: Path) -> None:
    """One object without a mask is an error or is left out; it never turns all others into boxes."""
    file = coco / "annotations/instances_train.json"
    found = json.loads(file.read_text())
    found["annotations"][5]["segmentation"] = []
    file.write_text(json.dumps(found))
    with pytest.raises(DataError, match="without a mask"):
        convert(str(coco), tmp_path / "failed", "coco")
    convert(str(coco), tmp_path / "skipped", "coco", on_error="skip")
    kept = content(tmp_path / "skipped", "train")["annotations"]
    assert len(kept) == len(found["annotations"]) - 1 and all(entry["segmentation"] for entry in kept)
    convert(str(coco), tmp_path / "boxes", "coco", masks=False)
    assert len(content(tmp_path / "boxes", "train")["annotations"]) == len(found["annotations"])


def test_masks__that_some_lines_lack_are_not_dropped_with_theirs(tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    write_image(root / "images/train/a.png", image(0))
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.5 0.1 0.5 0.6\n")
    (root / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    with pytest.raises(DataError, match="without a mask"):
        convert(str(root), tmp_path / "coco", "coco")


def test_splits__for_tests_are_listed(coco: Path, masks: Path, tmp_path: Path) -> None:
    assert not convert(str(coco), tmp_path / "none", "coco").counts["test splits"]
    shutil.copy(coco / "annotations/instances_val.json", coco / "annotations/instances_test.json")
    assert convert(str(coco), tmp_path / "yolo", "yolo").counts["test splits"] == 1
    yaml_file = tmp_path / "yolo/data.yaml"
    yaml_file.write_text(yaml_file.read_text() + "test: images/test\n")
    shutil.copytree(tmp_path / "yolo/images/val", tmp_path / "yolo/images/test")
    assert convert(str(tmp_path / "yolo"), tmp_path / "voc", "voc").counts["test splits"] == 1
    (tmp_path / "voc/ImageSets/Main/test.txt").write_text("train1\n")
    assert convert(str(tmp_path / "voc"), tmp_path / "again", "coco").counts["test splits"] == 1
    assert not convert(str(masks), tmp_path / "same", "masks").counts["test splits"]
    shutil.copytree(masks / "val", masks / "test")
    assert convert(str(masks), tmp_path / "more", "masks").counts["test splits"] == 1


def test_masks__without_splits_stay_one(masks: Path, tmp_path: Path) -> None:
    """Training holds a tenth out by a hash of the names; a conversion divides nothing."""
    flat = tmp_path / "flat"
    shutil.copytree(masks / "train", flat)
    shutil.copy(masks / "classes.txt", flat)
    image = next((flat / "images").iterdir())
    for number in range(30):
        shutil.copy(image, flat / "images" / f"more{number}.png")
        shutil.copy(flat / "masks" / f"{image.stem}.png", flat / "masks" / f"more{number}.png")
    for to in ("masks", "coco"):
        convert(str(flat), tmp_path / "out" / to, to)
    assert not (tmp_path / "out/masks/val").exists() and not (tmp_path / "out/coco/images/val").exists()
    assert len(list((tmp_path / "out/masks/train/images").iterdir())) == len(list((flat / "images").iterdir()))


def test_masks__lists_ids_that_they_cannot_hold(coco: Path, tmp_path: Path) -> None:
    file = coco / "annotations/instances_val.json"
    found = json.loads(file.read_text())
    for entry in (*found["images"], *found["annotations"]):
        entry["id" if "file_name" in entry else "image_id"] += 6
    file.write_text(json.dumps(found))
    losses = convert(str(coco), tmp_path / "out", "masks")
    assert losses.counts["ids of images"] == 2 and losses.counts["category ids"] == 2


@pytest.mark.parametrize("to", ["yolo", "voc", "masks"])
def test_classes__that_splits_list_differently_keep_their_names(to: str, coco: Path, tmp_path: Path) -> None:
    """The validation split lists no cat, and an owl that nothing in training is."""
    file = coco / "annotations/instances_val.json"
    found = json.loads(file.read_text())
    found["annotations"] = [entry for entry in found["annotations"] if entry["category_id"] == 7]
    found["annotations"][0]["category_id"] = 9
    found["categories"] = [{"id": 9, "name": "owl"}, {"id": 7, "name": "dog, wet"}]
    file.write_text(json.dumps(found))
    losses = convert(str(coco), tmp_path / to, to)
    assert losses.counts["category ids"] == 3
    convert(str(tmp_path / to), tmp_path / "again", "coco")
    names = {split: {name for _, name in told(tmp_path / "again", split)} for split in ("train", "val")}
    assert names == {"train": {"cat", "dog, wet"}, "val": {"owl", "dog, wet"}}


def test_out__in_the_dataset_is_refused(coco: Path) -> None:
    """A folder of images there would be part of the dataset."""
    before = sorted(coco.rglob("*"))
    with pytest.raises(UsageError, match="lies in the dataset"):
        convert(str(coco), coco / "yolo", "yolo")
    assert sorted(coco.rglob("*")) == before


def test_program__speaks_of_its_own_options(coco: Path, tmp_path: Path) -> None:
    file = coco / "annotations/instances_train.json"
    shutil.copy(file, coco / "annotations/objects_train.json")
    result = CliRunner().invoke(tool.main, [str(coco), str(tmp_path / "a"), "--to", "yolo"])
    assert "objects_train.json" in result.output and "data.train" not in result.output
    found = json.loads(file.read_text())
    found["annotations"][3]["bbox"] = [60, 5, 30, 5]
    file.write_text(json.dumps(found))
    result = CliRunner().invoke(tool.main, [str(coco), str(tmp_path / "b"), "--to", "yolo"])
    assert result.exit_code == 3 and "--on-error" in result.output and "data.on_error" not in result.output
