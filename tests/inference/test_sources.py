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


def test_open_source__folder_without_images(tmp_path):
    (tmp_path / "deep").mkdir()
    with pytest.raises(DataError, match="no image in this folder"):
        open_source(tmp_path, PAIR, LIMIT)


@pytest.mark.parametrize("source", ["https://example.org/a.jpg", "scan.pdf", "images.zip"])
def test_open_source__addresses_and_documents_are_refused(source):
    with pytest.raises(DataError):
        open_source(source, {"image": InputSpec()}, LIMIT)


def test_folder__folders_below_are_read_and_hidden_files_are_not(tmp_path, caplog):
    for name in ("b", "a", ".ipynb_checkpoints", "__MACOSX"):
        frames(tmp_path / name, 2)
    (tmp_path / "a" / "._frame0.png").write_bytes(b"\0\5\26\7")
    with caplog.at_level("WARNING"):
        source = open_source(tmp_path, {"image": InputSpec()}, LIMIT)
    files = [str(Path(sample.file).relative_to(tmp_path).as_posix()) for sample in source.samples]
    assert files == ["a/frame0.png", "a/frame1.png", "b/frame0.png", "b/frame1.png"] and source.count == 4
    assert "5 hidden files" in caplog.text


def test_folder__sequences_end_with_their_folder(tmp_path):
    for name in ("a", "b"):
        frames(tmp_path / name, 3)
    source = open_source(tmp_path, PAIR, LIMIT)
    steps = [Path(sample.file).parent.name + sample.file[-5] for sample in source.samples]
    assert steps == ["a0", "a1", "b0", "b1"] and source.count == 4


@pytest.mark.parametrize("specs", [{"image": InputSpec()}, PAIR])
def test_unreadable__skipped_if_asked_for(tmp_path, specs, caplog):
    (frames(tmp_path, 5) / "frame2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="frame2"):
        list(open_source(tmp_path, specs, LIMIT).samples)
    with caplog.at_level("WARNING"):
        samples = list(open_source(tmp_path, specs, LIMIT, skip_unreadable=True).samples)
    assert [sample.file[-5] for sample in samples] == (["0", "1", "3", "4"] if len(specs) == 1 else ["0", "3"])
    assert "frame2.png" in caplog.text


def test_unreadable__none_left(tmp_path):
    for file in frames(tmp_path, 2).iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(DataError):
        list(open_source(tmp_path, {"image": InputSpec()}, LIMIT, skip_unreadable=True).samples)
