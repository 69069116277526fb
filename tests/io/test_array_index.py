"""Indexes: what was written, or nothing; and openings of large datasets from them."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densevision.datasets.formats.coco import read_categories, read_coco
from densevision.errors import DataError
from densevision.io import array_index
from densevision.io.array_index import get_index_folder, read_index, write_index
from densevision.io.box_table import BoxTable
from densevision.io.label_issues import IssueKind, LabelIssues

KEY = {"version": 1, "bytes": 7}
ARRAYS = {"a": np.arange(300), "b": np.zeros((3, 0), np.float32), "c": np.zeros(2, [("x", "<f8"), ("y", "?")])}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DENSEVISION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def find_index() -> Path:
    (file,) = get_index_folder().glob("*.npz")
    return file


def test_index__round_trip_and_key() -> None:
    assert read_index("one", KEY) is None
    write_index("one", KEY, ARRAYS)
    actual = read_index("one", KEY)
    assert actual is not None and actual.keys() == ARRAYS.keys()
    for name, expected in ARRAYS.items():
        assert actual[name].dtype == expected.dtype and np.array_equal(actual[name], expected)
    assert read_index("one", {**KEY, "bytes": 8}) is None and read_index("two", KEY) is None
    assert [path.suffix for path in get_index_folder().iterdir()] == [".npz"], "no temporary file is left"


def test_index__any_damage_is_noticed() -> None:
    write_index("one", KEY, ARRAYS)
    file, rng = find_index(), np.random.default_rng(0)
    sound = file.read_bytes()
    for length in range(0, len(sound), 97):
        file.write_bytes(sound[:length])
        assert read_index("one", KEY) is None, length
    for place in rng.integers(0, len(sound), 400).tolist():
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << int(rng.integers(8))]) + sound[place + 1 :])
        content = read_index("one", KEY)  # a byte between the arrays may mean nothing
        if content is not None:
            assert all(np.array_equal(content[name], expected) for name, expected in ARRAYS.items() if name in content)


def test_index__a_pickle_is_not_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "trapped",)

    write_index("one", KEY, ARRAYS)
    key = np.load(find_index())["key"]
    np.savez(find_index(), key=key, a=np.array([Trap()], object))
    assert read_index("one", KEY) is None and not (tmp_path / "trapped").exists()


def test_index__a_folder_that_cannot_be_written_is_logged(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file where the folder belongs")
    with caplog.at_level(logging.WARNING):
        write_index("one", KEY, ARRAYS)
    assert str(cache) in caplog.text and read_index("one", KEY) is None


def test_index__the_longest_unused_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    write_index("0", KEY, ARRAYS)
    monkeypatch.setattr(array_index, "MAX_FOLDER_BYTES", 2.5 * find_index().stat().st_size)
    for number in range(1, 4):
        for age, path in enumerate(sorted(get_index_folder().glob("*.npz"), key=lambda path: -path.stat().st_mtime), 1):
            os.utime(path, (1e9 - age, 1e9 - age))
        assert read_index("0", KEY) is not None, "which makes it the last used one"
        write_index(str(number), KEY, ARRAYS)
    assert [read_index(str(number), KEY) is not None for number in range(4)] == [True, False, False, True]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A JSON of more than 4 MB and 2,500 images, all of them links to two files."""
    (tmp_path / "images").mkdir()
    for number, size in enumerate([(40, 30), (20, 50)]):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    sizes = [(30, 40), (50, 20)]
    for number in range(2500):
        os.link(tmp_path / f"{number % 2}.png", tmp_path / "images" / f"{number}.png")
    images = [
        {"id": 3 * n, "file_name": f"{n}.png", "height": sizes[n % 2][0], "width": sizes[n % 2][1]} for n in range(2500)
    ]
    rng = np.random.default_rng(0)
    annotations = [
        {"id": n, "image_id": 3 * (n % 2500), "category_id": n % 3, "bbox": box, "iscrowd": n % 2, "padding": "x" * 60}
        for n, box in enumerate((rng.integers(1, 90, (25_000, 4)) / 10).tolist())
    ]
    categories = [{"id": n, "name": f"class {n}"} for n in range(3)]
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def open_table(file: Path, on_error: Any = "fail") -> tuple[BoxTable, LabelIssues]:
    issues = LabelIssues(on_error)
    return read_coco(file, file.parent / "images", issues), issues


def assert_equal_tables(one: BoxTable, other: BoxTable) -> None:
    assert list(one.files) == list(other.files) and one.names == other.names and one.ids == other.ids
    for name in ("sizes", "image_ids", "offsets", "boxes", "labels", "crowd", "areas", "origin"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_coco__opened_from_its_index(dataset: Path, cache: Path) -> None:
    first, _ = open_table(dataset)
    assert len(list(get_index_folder().iterdir())) == 2
    second, _ = open_table(dataset)
    assert_equal_tables(first, second)
    expected = json.loads(dataset.read_text())
    assert read_categories(dataset) == (("class 0", "class 1", "class 2"), (0, 1, 2))
    boxes = np.array([entry["bbox"] for entry in expected["annotations"]])
    boxes[:, 2:] += boxes[:, :2]
    assert np.array_equal(second.boxes, boxes[second.origin].astype(np.float32))
    for path in get_index_folder().iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    assert_equal_tables(open_table(dataset)[0], first)


def test_coco__changed_files_are_read_again(dataset: Path) -> None:
    open_table(dataset)
    changed = dataset.parent / "images" / "7.png"
    changed.unlink()
    Image.new("RGB", (21, 50)).save(changed)
    with pytest.raises(DataError) as refusal:
        open_table(dataset)
    assert refusal.value.field == "images[7]"
    for _ in range(2):
        table, issues = open_table(dataset, "fix")
        assert issues.counts.total() == 1 and table.sizes[7].tolist() == [50, 21]
    changed.write_bytes(b"no image")
    for _ in range(2):
        table, issues = open_table(dataset, "skip")
        assert [issue.kind for issue in issues.examples] == [IssueKind.IMAGE_BROKEN] and len(table) == 2499
    changed.unlink()
    assert open_table(dataset, "skip")[1].examples[0].kind == IssueKind.IMAGE_MISSING
    dataset.write_text(dataset.read_text().replace('"class 1"', '"class one"'))
    assert read_categories(dataset)[0] == ("class 0", "class one", "class 2")


def test_coco__unusual_entries_are_read_and_reported_each_time(dataset: Path) -> None:
    data = json.loads(dataset.read_text())
    data["annotations"][9000]["id"] = 9000.0
    data["annotations"][9001].pop("bbox")
    data["annotations"][20_000]["area"] = "big"
    data["images"][1000]["width"] = 40.0
    dataset.write_text(json.dumps(data))
    with pytest.raises(DataError) as refusal:
        open_table(dataset)
    assert refusal.value.field == "annotations[9001].bbox"
    for _ in range(2):
        table, issues = open_table(dataset, "skip")
        assert [issue.field for issue in issues.examples] == ["annotations[9001].bbox", "annotations[20000].area"]
        assert sorted(set(range(25_000)) - set(table.origin.tolist())) == [9001, 20_000]
