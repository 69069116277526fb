from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from densevision.io.flow import write_flow
from densevision.io.image import write_image

numbers = itertools.count()


def draw(seed: int, channels: int = 3, size: tuple[int, int] = (40, 48), dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, np.iinfo(dtype).max, (*size, channels)).astype(dtype)


def make_yolo(root: Path) -> None:
    for split, count in (("train", 8), ("val", 2)):
        for number in range(count):
            write_image(root / "images" / split / f"{number}.png", draw(number + 100 * (split == "val")))
            label = root / "labels" / split / f"{number}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"{number % 2} 0.5 0.5 0.{number % 4 + 2} 0.4\n")
    (root / "classes.txt").write_text("cat\ndog\n")


def make_coco(root: Path) -> None:
    for split, count in (("train", 4), ("val", 2)):
        images, annotations = [], []
        for number in range(count):
            write_image(root / split / f"{number}.jpg", draw(number))
            images.append({"id": number, "file_name": f"{number}.jpg", "width": 48, "height": 40})
            polygon = [4, 4, 30 + number, 4, 30, 30, 4, 30]
            entry = {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [4, 4, 26 + number, 26]}
            annotations.append({**entry, "segmentation": [polygon], "area": 700, "iscrowd": 0})
        content = {"categories": [{"id": 1, "name": "cat"}], "images": images, "annotations": annotations}
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))


def make_masks(root: Path) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            write_image(root / "images" / split / f"{number}.jpg", draw(number))
            write_image(root / "masks" / split / f"{number}.png", draw(number, 1) % 3)


def make_depth(root: Path) -> None:
    for split in ("train", "val"):
        for number in range(3):
            write_image(root / split / "rgb" / f"{number}.png", draw(number))
            depth = root / split / "depth" / f"{number}.npy"
            depth.parent.mkdir(parents=True, exist_ok=True)
            np.save(depth, draw(number, 1)[..., 0].astype(np.float32))


def make_flow(root: Path) -> None:
    for number in range(4):
        for frame in (1, 2):
            file = root / "data" / f"{number:05d}_img{frame}.ppm"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"P6\n48 40\n255\n" + draw(number + frame).tobytes())
        write_flow(root / "data" / f"{number:05d}_flow.flo", draw(number, 2).transpose(2, 0, 1).astype(np.float32))


def make_superres(root: Path) -> None:
    for split in ("train", "val"):
        for number in range(3):
            write_image(root / split / "HR" / f"{number}.tif", draw(number, size=(128, 128), dtype=np.uint16))
            write_image(root / split / "LR" / f"{number}.png", draw(number, size=(64, 64), dtype=np.uint16))


def make_translation(root: Path) -> None:
    for split in ("train", "val"):
        for number in range(3):
            write_image(root / split / f"{number}.webp", draw(number, size=(32, 64)))


MAKERS = {
    "detection": (make_yolo, {}),
    "instance": (make_coco, {}),
    "semantic": (make_masks, {"classes": ["a", "b", "c"]}),
    "depth": (make_depth, {}),
    "flow": (make_flow, {}),
    "superres": (make_superres, {"scale": 2}),
    "translation": (make_translation, {}),
}
"""Task -> what writes a small dataset of it, and options."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEVISION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def upload() -> Iterator[Callable[[Path], str]]:
    """Copies a folder into the memory of this process, and returns its address."""
    fsspec = pytest.importorskip("fsspec")
    system, made = fsspec.filesystem("memory"), []

    def copy(folder: Path) -> str:
        address = f"/shards-{next(numbers)}/{folder.name}"
        system.put(str(folder), address, recursive=True)
        made.append(address)
        return f"memory:/{address}"

    yield copy
    for address in made:
        system.rm(address, recursive=True)
