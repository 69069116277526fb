"""What a bulk prediction reads: folders, patterns, archives, tables and lists, local and in a store."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest

from densevision.bulk.plan import Item, list_items, make_chunks
from densevision.bulk.reading import ImageReader, unpack_image
from densevision.errors import DataError, UsageError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def make_png(value: int, size: tuple[int, int] = (4, 6)) -> bytes:
    return cv2.imencode(".png", np.full((*size, 3), value, np.uint8))[1].tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, of which one lies deeper, a hidden one and a text."""
    for name, data in {"a.png": make_png(1), "b/c.png": make_png(2), ".d.png": make_png(3), "e.md": b"text"}.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "images"


def read(items: list[Item], **options: object) -> dict[str, dict]:
    """Rows by name, as the stage that reads gives them."""
    reader = ImageReader(3, 10**6, **options)  # type: ignore[arg-type]
    rows: dict[str, dict] = {}
    for chunk in make_chunks(items):
        for table in reader(chunk):
            for index, row in enumerate(table.drop_columns(["image"]).to_pylist()):
                image = unpack_image(table["image"][index])
                rows[row["name"]] = row | {"value": None if image is None else int(image[0, 0, 0])}
    return rows


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_list_items__folder_pattern_file_and_list(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{folder}/b/c.png\n\n{folder}/a.png\n")
    assert [item.name for item in list_items([str(folder)])] == ["a", "b/c"]
    assert [item.name for item in list_items([f"{folder}/**/*.png"])] == ["a", "b/c"]
    assert [item.name for item in list_items([f"{folder}/b/c.png"])] == ["c"]
    assert [item.source for item in list_items([str(tmp_path / "list.txt")])] == [
        f"{folder}/b/c.png",
        f"{folder}/a.png",
    ]
    assert {name: row["value"] for name, row in read(list_items([str(folder)])).items()} == {"a": 1, "b/c": 2}


def test_list_items__each_image_once(folder: Path) -> None:
    assert len(list_items([str(folder), f"{folder}/a.png", str(folder)])) == 2


@pytest.fixture
def store() -> Iterator[str]:
    system = fsspec.filesystem("memory")
    for name, value in (("x/1.png", 1), ("x/2.png", 2), ("x/y/3.png", 3), ("x/.hidden/4.png", 4)):
        system.pipe_file(f"/bulk/{name}", make_png(value))
    yield "memory://bulk"
    system.rm("/bulk", recursive=True)


def test_list_items__store(store: str) -> None:
    items = list_items([f"{store}/x"])
    assert [item.name for item in items] == ["1", "2", "y/3"]
    assert {name: row["value"] for name, row in read(items).items()} == {"1": 1, "2": 2, "y/3": 3}
    assert [item.name for item in list_items([f"{store}/x/*.png"])] == ["1", "2"]
    assert [item.name for item in list_items([f"{store}/x/1.png"])] == ["1"]


def test_list_items__archive(tmp_path: Path) -> None:
    members = {"a/1.png": make_png(1), "a/1.json": b"{}", "a/2.png": make_png(2), "._x.png": b""}
    file = write_tar(tmp_path / "shard.tar", members)
    items = list_items([str(file)])
    assert [item.name for item in items] == ["shard/a/1", "shard/a/2"]
    with fsspec.open(items[1].source) as stream:  # the address is one that fsspec opens
        assert stream.read() == members["a/2.png"]
    assert {name: row["value"] for name, row in read(items).items()} == {"shard/a/1": 1, "shard/a/2": 2}
    file.write_bytes(file.read_bytes()[: items[1].start + 5])
    rows = read(items)
    assert rows["shard/a/1"]["value"] is None or rows["shard/a/1"]["value"] == 1
    assert rows["shard/a/2"]["error"] is not None
    with pytest.raises(DataError):
        list_items([str(write_tar(tmp_path / "packed.tar", members, "w:gz"))])


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"bytes": data, "path": "x.png"}])
def test_list_items__table_of_images(wrap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    values = [make_png(1), make_png(2), make_png(3)]
    table = pyarrow.table({"label": [1, 2, 3], "image": [wrap(value) for value in values]})
    parquet.write_table(table, tmp_path / "data.parquet", row_group_size=2)
    items = list_items([str(tmp_path / "data.parquet")])
    assert [item.source.rpartition("#")[2] for item in items] == ["row=0", "row=1", "row=2"]
    assert [len(chunk) for chunk in make_chunks(items)] == [2, 1]
    assert [row["value"] for row in read(items).values()] == [1, 2, 3]


def test_list_items__table_of_paths(folder: Path) -> None:
    parquet.write_table(pyarrow.table({"path": ["a.png", f"{folder}/b/c.png"]}), folder / "data.parquet")
    rows = read(list_items([str(folder / "data.parquet")]))
    assert [row["value"] for row in rows.values()] == [1, 2]
    parquet.write_table(pyarrow.table({"number": [1]}), folder / "data.parquet")
    with pytest.raises(UsageError):
        list_items([str(folder / "data.parquet")])
    with pytest.raises(UsageError):
        list_items([str(folder / "data.parquet")], "picture")


@pytest.mark.parametrize("source", ["none", "", "none/*.jpg", "memory://nothing-here/*.jpg"])
def test_list_items__nothing_there(source: str) -> None:
    with pytest.raises(DataError):
        list_items([source])


def test_make_chunks__bounded_in_rows_and_bytes() -> None:
    items = [Item(f"{i}", f"{i}", f"{i}", length=1 << 20) for i in range(100)]
    assert [len(chunk) for chunk in make_chunks(items)] == [32, 32, 32, 4]
    large = [Item(f"{i}", f"{i}", f"{i}", length=20 << 20) for i in range(3)]
    assert [len(chunk) for chunk in make_chunks(large)] == [1, 1, 1]


def test_reader__failures_are_rows(folder: Path) -> None:
    items = list_items([str(folder)])
    (folder / "a.png").write_bytes(make_png(1)[:40])
    (folder / "b/c.png").unlink()
    rows = read(items)
    assert rows["a"]["error"] and rows["a"]["sha256"] and rows["a"]["value"] is None
    assert rows["b/c"]["error"] and rows["b/c"]["sha256"] is None


def test_reader__hash_is_that_of_the_file(folder: Path) -> None:
    import hashlib

    row = read(list_items([f"{folder}/a.png"]))["a"]
    assert row["sha256"] == hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()
