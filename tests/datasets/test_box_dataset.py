"""Datasets of boxes: samples, memory, and class mapping."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densevision.datasets.box_dataset import BoxDataset, SceneBoxDataset, remap_classes
from densevision.datasets.scenes import CLASSES, Scenes
from densevision.errors import DataError
from densevision.io.box_table import BoxTable, RecordBuffer, StringArray, build_table
from densevision.io.image import write_image
from densevision.io.label_issues import LabelIssues


def build_boxes_table(images, names=("cat", "dog"), ids=(3, 17)):
    """Builds a table of (file, size, [(label, x1, y1, x2, y2), ...])."""
    records = RecordBuffer()
    for row, (_, _, boxes) in enumerate(images):
        for place, (label, *box) in enumerate(boxes):
            records.add(row, label, box, place)
    return build_table(
        StringArray.of(file for file, _, _ in images),
        np.array([size for _, size, _ in images], np.int32).reshape(-1, 2),
        np.arange(len(images)) * 10,
        records.array(),
        names,
        ids,
        LabelIssues("fix"),
        lambda row: ("labels", f"row {row}", None),
    )


@pytest.fixture
def samples(tmp_path):
    """A gray image with two boxes, a 16-bit RGBA image without boxes, and an image of one pixel with one box."""
    rng = np.random.default_rng(0)
    write_image(tmp_path / "a.png", rng.integers(0, 255, (12, 30, 1), dtype=np.uint8))
    write_image(tmp_path / "b.png", rng.integers(0, 65535, (9, 7, 4), dtype=np.uint16))
    write_image(tmp_path / "c.png", np.full((1, 1, 3), 200, np.uint8))
    table = build_boxes_table(
        [
            ("a.png", (12, 30), [(1, 0, 0, 30, 12), (0, 2.5, 3, 4, 11)]),
            ("b.png", (9, 7), []),
            ("c.png", (1, 1), [(1, 0, 0, 1, 1)]),
        ]
    )
    return BoxDataset(table, tmp_path, 3, 10**6, ["a note"])


def test_getitem__image_and_ground_truth(samples):
    first, second, third = (samples[index] for index in range(len(samples)))
    assert samples.notes == ("a note",)
    assert first.images["image"].shape == (12, 30, 3) and first.images["image"].dtype == np.uint8
    assert second.images["image"].shape == (9, 7, 3) and second.images["image"].dtype == np.uint16
    assert [sample.id for sample in (first, second, third)] == [0, 10, 20]
    assert first.truth.boxes.tolist() == [[0, 0, 30, 12], [2.5, 3, 4, 11]]
    assert first.truth.get_category_ids().tolist() == [17, 3] and first.truth.size == (12, 30)
    assert first.truth.source == first.file and os.path.basename(first.file) == "a.png"
    assert len(second.truth) == 0 and third.truth.boxes.tolist() == [[0, 0, 1, 1]]


def test_getitem__ground_truth_is_a_copy(samples):
    samples[0].truth.boxes[:] = 0
    assert samples.truth(0).boxes[0, 2] == 30


def test_getitem__image_changed_after_opening(samples):
    write_image(samples.folder / "a.png", np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png"):
        samples[0]
    (samples.folder / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png"):
        samples[0]


def test_getitem__damaged_image(samples):
    path = samples.folder / "a.png"
    write_image(path, np.random.default_rng(0).integers(0, 255, (12, 30, 3), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    data[100:400] = bytes(300)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png: .*--fix OUT"):
        samples[0]


def test_getitem__unsupported_channels(samples):
    few = BoxDataset(samples.table, samples.folder, 7, 10**6)
    with pytest.raises(DataError, match=r"a\.png.*7 are needed"):
        few[0]


def test_string_array__any_file_name():
    names = ["", "a", "Öl/日本.jpg", os.fsdecode(b"\xff.png"), "\ud800.png"]
    build = StringArray.of(names)
    assert [build[row] for row in range(len(build))] == names
    assert [build.take(np.array([2, 0]))[row] for row in range(2)] == [names[2], names[0]]
    with pytest.raises(IndexError):
        build[len(names)]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 5), st.integers(0, 5)), max_size=30),
    st.permutations(range(4)),
)
def test_table__sorts_boxes_by_image(boxes, images):
    records = RecordBuffer()
    for place, (image, label, x, y) in enumerate(boxes):
        records.add(images[image], label, (x, y, x + 1 + place / 64, y + 1), place)
    names, sizes = StringArray.of("abcd"), np.full((4, 2), 50, np.int32)
    sizes[2] = 0
    issues = LabelIssues()
    table = build_table(
        names, sizes, np.arange(4), records.array(), ("p", "q"), (1, 2), issues, lambda row: ("", "", 0)
    )
    assert [table.files[row] for row in range(3)] == ["a", "b", "d"]
    for row, image in enumerate([0, 1, 3]):
        span = slice(table.offsets[row], table.offsets[row + 1])
        expected = [place for place, (original, *_) in enumerate(boxes) if images[original] == image]
        assert table.origin[span].tolist() == expected
        assert table.labels[span].tolist() == [boxes[place][1] for place in expected]


def test_scenes__image_and_ground_truth():
    samples = SceneBoxDataset(Scenes(3, 5, (64, 96)))
    sample, scene = samples[1], Scenes(3, 5, (64, 96))[1]
    np.testing.assert_array_equal(sample.images["image"], scene.image)
    np.testing.assert_array_equal(sample.truth.boxes, scene.boxes)
    assert sample.truth.names == CLASSES and sample.truth.size == (64, 96) and len(samples) == 3
    assert sample.truth.draw().shape == (64, 96, 3)


def test_remap_classes__labels_follow_names():
    pair, lone = [(0, 0, 0, 1, 1), (1, 0, 0, 2, 2)], [(1, 0, 0, 3, 3)]
    table = build_boxes_table([("a", (9, 9), pair), ("b", (9, 9), []), ("c", (9, 9), lone)])
    moved, dropped = remap_classes(table, ("dog", "bird", "cat"), None)
    assert moved.labels.tolist() == [2, 0, 0] and dropped == 0 and moved.ids == (17, 1, 3)
    moved, dropped = remap_classes(table, ("cat", "bird"), (40, 41))
    assert moved.offsets.tolist() == [0, 1, 1, 1] and moved.labels.tolist() == [0] and dropped == 2
    assert moved.ids == (40, 41) and moved.boxes.tolist() == [[0, 0, 1, 1]] and len(moved.areas) == 1
    assert remap_classes(table, table.names, None) == (table, 0)
    with pytest.raises(DataError, match="none of the requested classes"):
        remap_classes(table, ("bird",), None)


def test_table__consists_of_arrays():
    table = build_boxes_table([("a", (9, 9), [])])
    assert isinstance(table, BoxTable) and replace(table).boxes is table.boxes
    kinds = {name: type(value) for name, value in vars(table).items()}
    assert {kind for name, kind in kinds.items() if name not in ("names", "ids", "files", "orientations")} == {
        np.ndarray
    }
