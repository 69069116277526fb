"""Decoded images that are kept: the same to the bit, bounded, and never stale or damaged."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from densevision import api
from densevision.errors import DataError, UsageError
from densevision.inference.loader import make_training_loader
from densevision.io import image_cache
from densevision.io.image import read_image, write_image
from densevision.io.image_cache import ImageCache, open_image_cache
from densevision.tasks import load_task


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """8-bit color, gray, 16 bits and alpha."""
    rng, paths = np.random.default_rng(0), []
    kinds = (("a.jpg", 3, np.uint8), ("b.png", 1, np.uint8), ("c.png", 1, np.uint16), ("d.png", 4, np.uint8))
    for name, channels, dtype in kinds:
        paths.append(tmp_path / "images" / name)
        write_image(paths[-1], rng.integers(0, np.iinfo(dtype).max, (40, 60, channels)).astype(dtype))
    return paths


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    return ImageCache(tmp_path / "cache", 10_000_000)


def count_entries(cache: ImageCache) -> int:
    return len(list(cache.folder.glob("*.npy")))


def test_read__same_pixels_and_type_without_decoding_again(images, cache, monkeypatch):
    expected = [read_image(path) for path in images]
    for path in images:
        cache.read(path)
    assert count_entries(cache) == len(images)
    monkeypatch.setattr(image_cache, "read_image", None)  # a second decoding would fail
    for other in (cache, pickle.loads(pickle.dumps(cache))):
        for path, image in zip(images, expected, strict=True):
            cached = other.read(path)
            assert type(cached) is np.ndarray and cached.dtype == image.dtype
            np.testing.assert_array_equal(cached, image)


def test_read__changes_of_an_array_stay_its_own(images, cache):
    cache.read(images[0])
    first = cache.read(images[0])
    first[:] = 0
    np.testing.assert_array_equal(cache.read(images[0]), read_image(images[0]))


def test_read__changed_file(images, cache):
    cache.read(images[1])
    write_image(images[1], np.full((40, 60, 1), 7, np.uint8))
    os.utime(images[1], ns=(1, 1))  # a time that no earlier entry has, whatever the resolution of the clock
    assert (cache.read(images[1]) == 7).all()


def test_read__damaged_entry_is_written_again(images, cache):
    cache.read(images[0])
    (entry,) = cache.folder.glob("*.npy")
    whole = entry.read_bytes()
    for damage in (b"", whole[:50], whole[:-100]):
        entry.write_bytes(damage)
        np.testing.assert_array_equal(cache.read(images[0]), read_image(images[0]))
        assert entry.read_bytes() == whole


def test_read__bounded_size(images, tmp_path):
    cache = ImageCache(tmp_path / "small", 3 * (1 << 16))  # an entry takes one unit of 64 KiB
    for path in images:
        np.testing.assert_array_equal(cache.read(path), read_image(path))
    assert count_entries(cache) == 3 and cache.used_bytes == 3 * (1 << 16)


def test_read__limit_of_pixels_and_missing_files_as_without(images, cache):
    cache.read(images[0])
    with pytest.raises(DataError):
        cache.read(images[0], max_pixels=100)
    with pytest.raises(DataError):
        cache.read(images[0].with_name("missing.png"))


def test_open__ram_ends_with_its_process(tmp_path):
    program = (
        "import os, sys\n"
        "from densevision.io.image_cache import open_image_cache\n"
        "cache = open_image_cache('ram', 1.0)\n"
        "assert cache.folder.is_dir() and open_image_cache('ram', 1.0) is cache\n"
        "if os.fork() == 0: sys.exit()\n"  # a worker that ends leaves the folder
        "os.wait(); assert cache.folder.is_dir()\n"
        "print(cache.folder, flush=True)\n"
        "if sys.argv[1] == 'kill': os.kill(os.getpid(), 9)"
    )
    killed, ended = (
        Path(subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True).stdout.strip())
        for how in ("kill", "end")
    )
    assert killed.name and ended.name
    assert not ended.exists()
    assert not killed.exists()  # the second process removed it


def test_open__disk_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DENSEVISION_CACHE", str(tmp_path))
    open_image_cache.cache_clear()
    cache = open_image_cache("disk", 0.5)
    assert cache is not None and cache.folder == tmp_path / "images" and cache.max_bytes == 500_000_000
    assert open_image_cache(None, 8.0) is None
    open_image_cache.cache_clear()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_training_samples__equal_with_and_without_cache(kind, workers, tmp_path, monkeypatch):
    """Two epochs with mosaic and colors: the second one reads what the first one kept."""
    monkeypatch.setenv("DENSEVISION_CACHE", str(tmp_path / "cache"))
    data = write_boxes(tmp_path / "data")
    expected = load_batches(data, {"data.workers": 0})
    open_image_cache.cache_clear()
    batches = load_batches(data, {"data.workers": workers, "data.cache": kind})
    cache = open_image_cache(kind, 8.0)
    assert cache is not None and count_entries(cache) == 6
    open_image_cache.cache_clear()
    for batch, other in zip(batches, expected, strict=True):
        assert batch.ids == other.ids
        for name, tensor in {**batch.inputs, **batch.targets}.items():
            torch.testing.assert_close(tensor, {**other.inputs, **other.targets}[name], rtol=0, atol=0)


def write_boxes(folder: Path) -> Path:
    """Six images with a box each, in YOLO's layout."""
    rng = np.random.default_rng(1)
    for number in range(6):
        write_image(folder / "images" / "train" / f"{number}.jpg", rng.integers(0, 255, (48, 64, 3)).astype(np.uint8))
        label = folder / "labels" / "train" / f"{number}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [thing]\n")
    return folder


def load_batches(data: Path, settings: dict) -> list:
    settings = {"arch": "yolo_n", "data.size": 64, "train.batch": 3, "augment.mosaic": 0.7, **settings}
    task_class = load_task("detection")
    task = task_class(task_class.infer_from_data(api.resolve_config("detection", data, None, settings)))
    loader = make_training_loader(task, task.open_dataset("train"), task.config.data.workers)
    batches = []
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def test_config__bound_without_cache_has_no_effect(tmp_path):
    with pytest.raises(UsageError):
        api.resolve_config("detection", write_boxes(tmp_path), None, {"data.cache_gigabytes": 2.0})
