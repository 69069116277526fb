"""Order of the images of a source, and sequences that are too short for models of image pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.inference.sources import open_source
from densevision.io.image import write_image
from densevision.io.video import VideoWriter
from densevision.sample import InputSpec

PAIR = {"first": InputSpec(), "second": InputSpec()}
LIMIT = 10_000


def frames(folder: Path, count: int) -> Path:
    """Images frame0.png, frame1.png, ..., each in the gray of its number."""
    for number in range(count):
        write_image(folder / f"frame{number}.png", np.full((4, 5, 3), number, np.uint8))
    return folder


@pytest.mark.parametrize("pattern", ["", "/*.png"])
def test_folder__files_are_sorted_by_number(tmp_path, pattern):
    source = open_source(f"{frames(tmp_path, 12)}{pattern}", PAIR, LIMIT)
    steps = [tuple(int(sample.images[name][0, 0, 0]) for name in PAIR) for sample in source.samples]
    assert steps == [(number, number + 1) for number in range(11)] and source.count == 11


def video(folder: Path) -> Path:
    with VideoWriter(folder / "one.mp4", 10) as writer:
        writer.write(np.zeros((32, 48, 3), np.uint8))
    return folder / "one.mp4"


SHORT = {
    "file": lambda folder: frames(folder, 1) / "frame0.png",
    "folder": lambda folder: frames(folder, 1),
    "glob": lambda folder: f"{frames(folder, 1)}/*.png",
    "list": lambda folder: [frames(folder, 1) / "frame0.png"],
    "iterator": lambda folder: iter([frames(folder, 1) / "frame0.png"]),
    "video": video,
}


@pytest.mark.parametrize("name", SHORT)
def test_open_source__single_image_for_a_pair(tmp_path, name):
    with pytest.raises(DataError, match="1 image, but 2 are needed: first, second"):
        list(open_source(SHORT[name](tmp_path), PAIR, LIMIT).samples)


def test_open_source__empty_list():
    assert list(open_source([], PAIR, LIMIT).samples) == []


def gray(number: int) -> np.ndarray:
    return np.full((4, 5, 3), number, np.uint8)


@pytest.mark.parametrize("form", [list, iter])
def test_open_source__pairs(form):
    pairs = [(gray(0), gray(1)), (gray(5), gray(6))]
    values = [{name: int(image[0, 0, 0]) for name, image in sample.images.items()} for sample in samples(form(pairs))]
    assert values == [{"first": 0, "second": 1}, {"first": 5, "second": 6}]


def samples(source):
    return open_source(source, PAIR, LIMIT).samples


@pytest.mark.parametrize("count", [1, 3])
def test_open_source__tuple_of_wrong_length(count):
    with pytest.raises(DataError, match=f"sample 1: a sample of {count} images, but 2 are needed: first, second"):
        list(samples([(gray(0), gray(1)), (gray(0),) * count]))


def test_open_source__image_among_pairs():
    with pytest.raises(DataError, match="one image among tuples"):
        list(samples([(gray(0), gray(1)), gray(2)]))


def test_open_source__pattern_that_matches_a_video(tmp_path):
    video(tmp_path)
    with pytest.raises(DataError, match=r"one\.mp4: a video among other sources"):
        open_source(f"{tmp_path}/*.mp4", PAIR, LIMIT)


def test_open_source__folder_of_folders_names_a_pattern(tmp_path):
    frames(tmp_path / "deep", 2)
    with pytest.raises(DataError, match="no image in this folder") as refused:
        open_source(tmp_path, PAIR, LIMIT)
    pattern = str(refused.value).split("pattern: ")[1].rstrip(".")
    assert open_source(pattern, PAIR, LIMIT).count == 1


@pytest.mark.parametrize("source", ["https://example.org/a.jpg", "scan.pdf", "images.zip"])
def test_open_source__addresses_and_documents_are_refused(source):
    with pytest.raises(DataError):
        open_source(source, {"image": InputSpec()}, LIMIT)
