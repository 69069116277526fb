"""Checks of semantic masks, tested by planting one fault at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from densevision.datasets.checks.catalog import FILE_CHECKS
from densevision.io.image import read_image, read_index_mask, write_image
from densevision.tasks import load_check

CLASSES = ["sky", "road", "car"]
PALETTE = [(0, 0, 0), (128, 64, 128), (0, 0, 142)]


@pytest.fixture
def dataset(tmp_path: Path, texture) -> Path:
    root = tmp_path / "data"
    labels = np.repeat(np.arange(3, dtype=np.uint8), 16)[:, None].repeat(64, 1)
    labels[:4] = 255
    for split, seeds in (("train", range(12)), ("val", range(20, 24))):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for seed in seeds:
            write_image(root / split / "images" / f"{seed}.png", texture(seed))
            write_image(root / split / "masks" / f"{seed}.png", labels)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return root


def change_mask(root: Path, change: Callable[[np.ndarray], np.ndarray], seed: int = 3) -> None:
    path = root / "train" / "masks" / f"{seed}.png"
    write_image(path, change(read_index_mask(path)))


def make_painter(value: int, rows: slice) -> Callable[[np.ndarray], np.ndarray]:
    def change(labels: np.ndarray) -> np.ndarray:
        labels[rows] = value
        return labels

    return change


def change_all_masks(root: Path, change: Callable[[np.ndarray], np.ndarray], split: str) -> None:
    for path in (root / split / "masks").iterdir():
        write_image(path, change(read_index_mask(path)))


def compress_mask(root: Path) -> None:
    path = root / "train" / "masks" / "3.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()


def set_mostly_unknown(labels: np.ndarray) -> np.ndarray:
    return np.where(np.arange(64) < 40, np.uint8(255), labels)


def leave_few_cars(labels: np.ndarray) -> np.ndarray:
    return np.where((labels == 2) & (np.arange(64) > 0), np.uint8(1), labels)


FAULTS: dict[str, Callable[[Path], object]] = {
    "mask-broken": compress_mask,
    "mask-value": lambda root: change_mask(root, make_painter(7, slice(20, 30))),
    "mask-size": lambda root: change_mask(root, lambda labels: labels[:-1]),
    "mask-unknown": lambda root: change_mask(root, make_painter(255, slice(None))),
    "labels-missing": lambda root: (root / "train/masks/3.png").unlink(),
    "image-absent": lambda root: (root / "train/images/3.png").unlink(),
    "unlabeled": lambda root: change_all_masks(root, set_mostly_unknown, "val"),
    "class-unused": lambda root: (root / "classes.txt").write_text("sky\nroad\ncar\ntree\n"),
    "class-in-one-split": lambda root: change_all_masks(root, make_painter(1, slice(32, None)), "val"),
    "class-imbalance": lambda root: change_all_masks(root, leave_few_cars, "train"),
}


def names(report) -> set[str]:
    return {finding.check.name for finding in report.findings}


@pytest.mark.parametrize("name", FAULTS)
def test_masks__planted_fault(name: str, dataset, check) -> None:
    FAULTS[name](dataset)
    assert names(check("semantic", dataset)) == {name}


def test_masks__no_findings_in_clean_data(dataset, check) -> None:
    report = check("semantic", dataset)
    assert report.findings == [] and report.counts["train"]["images"] == 12


def test_masks__tests_every_check() -> None:
    names_of_task = {check.name for check in load_check("semantic").CHECKS} - {check.name for check in FILE_CHECKS}
    assert names_of_task == FAULTS.keys() | {"mask-color"}


@pytest.fixture
def colored(dataset) -> tuple[Path, dict]:
    for path in dataset.rglob("masks/*.png"):
        labels = read_index_mask(path)
        write_image(path, np.array([*PALETTE, *[(255, 255, 255)] * 253], np.uint8)[labels])
    (dataset / "classes.txt").unlink()
    settings = {"classes": CLASSES, "data.colors": [list(color) for color in PALETTE]}
    return dataset, settings | {"data.unknown_colors": [[255, 255, 255]]}


def test_colors__color_outside_the_palette(colored, check, tmp_path) -> None:
    root, settings = colored
    assert check("semantic", root, settings=settings).findings == []
    path = root / "train" / "masks" / "3.png"
    pixels = read_image(path)
    pixels[20, 5:9] = (1, 2, 3)
    write_image(path, pixels)
    report = check("semantic", root, tmp_path / "clean", settings)
    assert names(report) == {"mask-color"}
    assert "4 pixels: [1, 2, 3]" in str(report.findings[0].locations[0])
    assert check("semantic", tmp_path / "clean", settings=settings).findings == []


def test_colors__without_palette(colored, check) -> None:
    root, _ = colored
    report = check("semantic", root, settings={"classes": CLASSES})
    assert next(finding.count for finding in report.findings if finding.check.name == "mask-broken") == 16


def test_fix__invalid_values_become_unknown_and_pairs_are_excluded(dataset, check, tmp_path) -> None:
    FAULTS["mask-value"](dataset)
    change_mask(dataset, lambda labels: labels[:-1], seed=5)
    (dataset / "train/images/7.png").write_bytes(b"broken")
    before = read_index_mask(dataset / "train/masks/3.png")
    check("semantic", dataset, fix=tmp_path / "clean")
    after = read_index_mask(tmp_path / "clean/train/masks/3.png")
    np.testing.assert_array_equal(after, np.where(before == 7, 255, before))
    kept = {path.stem for path in (tmp_path / "clean/train/images").iterdir()}
    assert kept == {str(seed) for seed in range(12) if seed not in (5, 7)}
    assert kept == {path.stem for path in (tmp_path / "clean/train/masks").iterdir()}
    assert check("semantic", tmp_path / "clean").findings == []


def test_fix__removes_excluded_images_from_lists(dataset, check, tmp_path) -> None:
    root = tmp_path / "flat"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        for path in dataset.glob(f"*/{kind}/*.png"):
            shutil.copy(path, root / kind / path.name)
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    (root / "train.txt").write_text("".join(f"{seed}\n" for seed in range(12)))
    (root / "val.txt").write_text("".join(f"{seed}\n" for seed in range(20, 24)))
    (root / "images/3.png").write_bytes(b"broken")
    check("semantic", root, fix=tmp_path / "clean")
    assert (tmp_path / "clean/train.txt").read_text().split() == [str(seed) for seed in range(12) if seed != 3]
    assert check("semantic", tmp_path / "clean").findings == []


def test_coco__unlisted_segment(tmp_path, texture, check) -> None:
    """A panoptic dataset with a segment that segments_info does not list."""
    root = tmp_path / "coco"
    for split, ids in (("train", range(12)), ("val", range(20, 24))):
        images, annotations = [], []
        (root / "images" / split).mkdir(parents=True)
        (root / "annotations" / f"panoptic_{split}").mkdir(parents=True)
        for image_id in ids:
            write_image(root / "images" / split / f"{image_id}.png", texture(image_id))
            segments = np.zeros((48, 64, 3), np.uint8)
            segments[:24, :, 0], segments[24:, :, 0] = 1, 2
            write_image(root / "annotations" / f"panoptic_{split}" / f"{image_id}.png", segments)
            images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 64, "height": 48})
            info = [{"id": 1, "category_id": 5}] + ([{"id": 2, "category_id": 6}] if image_id != 3 else [])
            annotations.append({"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": info})
        categories = [{"id": 5, "name": "sky"}, {"id": 6, "name": "road"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))
    report = check("semantic", root, fix=tmp_path / "clean")
    assert names(report) == {"mask-broken"} and "3.png" in str(report.findings[0].locations[0])
    assert check("semantic", tmp_path / "clean").findings == []
    assert len(json.loads((tmp_path / "clean/annotations/panoptic_train.json").read_text())["images"]) == 11


def test_multilabel__bit_of_no_class(dataset, check) -> None:
    for path in dataset.rglob("masks/*.png"):
        labels = read_index_mask(path)
        write_image(path, np.where(labels == 255, 65535, 1 << labels.astype(np.uint32)).astype(np.uint16))
    settings = {"mode": "multilabel"}
    assert check("semantic", dataset, settings=settings).findings == []
    path = dataset / "train/masks/3.png"
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    labels[20, 20] = 9
    write_image(path, labels)
    assert names(check("semantic", dataset, settings=settings)) == {"mask-value"}


def test_fix__excludes_masks_of_duplicate_images(dataset, check, tmp_path) -> None:
    for split in ("train", "val"):
        shutil.copy(dataset / "train/images/3.png", dataset / split / "images/copy.png")
        shutil.copy(dataset / "train/masks/3.png", dataset / split / "masks/copy.png")
    assert names(check("semantic", dataset, fix=tmp_path / "clean")) == {"image-duplicate", "leak"}
    assert check("semantic", tmp_path / "clean").findings == []
    kept = {path.name for path in (tmp_path / "clean/train/masks").iterdir()}
    assert kept == {path.name for path in (tmp_path / "clean/train/images").iterdir()}
    assert "copy.png" not in kept and (tmp_path / "clean/val/masks/copy.png").exists()


@pytest.mark.parametrize("settings", [{"mode": "binary"}, {"classes": ["car", "sky"]}], ids=["binary", "subset"])
def test_classes__subset_of_those_in_the_masks(settings, dataset, check) -> None:
    assert check("semantic", dataset, settings=settings).findings == []


def test_fix__lists_with_equal_names_in_different_folders(dataset, check, tmp_path) -> None:
    root = tmp_path / "nested"
    for kind in ("images", "masks"):
        for folder, seeds in {"a": (1, 2), "b": (3, 4)}.items():
            (root / kind / folder).mkdir(parents=True)
            for number, seed in enumerate(seeds):
                shutil.copy(dataset / "train" / kind / f"{seed}.png", root / kind / folder / f"{number}.png")
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    (root / "train.txt").write_text("a/0\na/1\nb/0\n")
    (root / "val.txt").write_text("b/1\n")
    (root / "images/a/0.png").write_bytes(b"broken")
    check("semantic", root, fix=tmp_path / "clean")
    assert (tmp_path / "clean/train.txt").read_text().split() == ["a/1", "b/0"]
