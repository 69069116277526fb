"""Datasets of objects read as class maps: COCO of labeling services, labelme and YOLO polygons agree."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import densevision
from densevision.errors import DataError
from densevision.io.image import write_image
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.dataset import complete_config, open_split

HEIGHT, WIDTH = 48, 64
SPLITS = {"train": 4, "val": 2}
POLYGONS = (("cat", [[4, 4], [40, 4], [40, 40], [4, 40]]), ("dog", [[10, 10], [24, 10], [24, 30], [10, 30]]))
"""A small dog inside a large cat."""


def expected_labels() -> np.ndarray:
    """0 background, 1 cat, 2 dog, from OpenCV's filled polygons."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, (_, points) in enumerate(POLYGONS, 1):
        cv2.fillPoly(labels, [np.array(points, np.int32)], value)
    return labels


def write_photo(path: Path, name: str) -> None:
    write_image(path, np.random.default_rng(list(name.encode())).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def write_roboflow_coco(root: Path) -> None:
    """One _annotations.coco.json beside the images of each split; category 0 is a super category without objects."""
    for split, count in SPLITS.items():
        folder = root / {"val": "valid"}.get(split, split)
        images, annotations = [], []
        for number in range(count):
            write_photo(folder / f"{split}{number}.png", f"{split}{number}")
            images.append({"id": number, "file_name": f"{split}{number}.png", "height": HEIGHT, "width": WIDTH})
            for category, (_, points) in enumerate(POLYGONS, 1):
                flat = [float(value) for point in points for value in point]
                (x1, y1), (x2, y2) = np.min(points, 0), np.max(points, 0)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                        "area": float((x2 - x1) * (y2 - y1)),
                        "segmentation": [flat],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": index, "name": name} for index, name in enumerate(("cat", "dog"), 1)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "_annotations.coco.json").write_text(json.dumps(document))


def write_labelme(root: Path) -> None:
    for split, count in SPLITS.items():
        for number in range(count):
            name = f"{split}{number}"
            write_photo(root / split / f"{name}.png", name)
            shapes = [{"label": label, "points": points, "shape_type": "polygon"} for label, points in POLYGONS]
            document = {
                "version": "5.0",
                "shapes": shapes,
                "imagePath": f"{name}.png",
                "imageHeight": HEIGHT,
                "imageWidth": WIDTH,
                "imageData": None,
            }
            (root / split / f"{name}.json").write_text(json.dumps(document))


def write_yolo(root: Path, images: str = "{split}/images", labels: str = "{split}/labels") -> None:
    for split, count in SPLITS.items():
        for number in range(count):
            write_photo(root / images.format(split=split) / f"{split}{number}.png", f"{split}{number}")
            lines = [
                " ".join([str(row), *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points)])
                for row, (_, points) in enumerate(POLYGONS)
            ]
            path = root / labels.format(split=split) / f"{split}{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines))
    train, val = (images.format(split=split) for split in SPLITS)
    (root / "data.yaml").write_text(f"train: {train}\nval: {val}\nnames: [cat, dog]\n")


FORMATS = {
    "coco": write_roboflow_coco,
    "labelme": write_labelme,
    "yolo": write_yolo,
    "yolo-images-first": lambda root: write_yolo(root, "images/{split}", "labels/{split}"),
}


@pytest.fixture(params=FORMATS)
def dataset(request, tmp_path: Path) -> Path:
    FORMATS[request.param](tmp_path)
    return tmp_path


def resolve(root: Path, **settings) -> SemanticConfig:
    return complete_config(SemanticConfig.resolve(None, {"data.path": str(root), **settings}))


def test_objects__are_drawn_with_small_ones_on_top(dataset: Path) -> None:
    config = resolve(dataset)
    assert config.classes == ("background", "cat", "dog")
    for split, count in SPLITS.items():
        samples = open_split(config, split)
        assert len(samples) == count
        labels = samples[0].truth.labels
        # Rasterizers differ in the pixels that an edge passes through.
        assert (labels != expected_labels()).mean() < 0.04
        assert labels[20, 15] == 2 and labels[35, 35] == 1 and labels[45, 60] == 0


def test_modes__sets_of_classes_and_foreground(dataset: Path) -> None:
    config = resolve(dataset, mode="multilabel")
    truth = open_split(config, "train")[0].truth
    assert config.classes == ("cat", "dog")
    assert truth.labels[20, 15] == 0b11 and truth.labels[35, 35] == 0b01 and truth.labels[45, 60] == 0
    binary = open_split(resolve(dataset, mode="binary"), "train")[0].truth
    np.testing.assert_array_equal(binary.labels, truth.labels != 0)


def test_classes__select_and_order_those_of_the_dataset(dataset: Path) -> None:
    labels = open_split(resolve(dataset, classes=["dog", "background"]), "train")[0].truth.labels
    assert labels[20, 15] == 0 and labels[35, 35] == 255 and labels[45, 60] == 1


def test_check__reports_no_error(dataset: Path) -> None:
    report = densevision.check("semantic", dataset)
    assert not [finding.check.name for finding in report.findings if finding.check.severity == "error"]


def test_fix__leaves_out_a_broken_image(dataset: Path, tmp_path_factory) -> None:
    broken = next(dataset.rglob("train3.png"))
    broken.write_bytes(b"no image")
    out = tmp_path_factory.mktemp("fixed") / "copy"
    densevision.check("semantic", dataset, fix=out)
    samples = open_split(resolve(out), "train")
    assert len(samples) == SPLITS["train"] - 1 and samples[0].truth.labels[20, 15] == 2


def test_unknown_format__names_the_expected_ones(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(DataError, match="format"):
        resolve(tmp_path)
