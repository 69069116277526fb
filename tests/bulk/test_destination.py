"""The folder of a bulk prediction: complete shards, each row once, and only one kind of run in it."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from densevision.errors import DenseVisionError, UsageError
from densevision.results import Detections
from densevision.results.columns import describe_constants, encode_cells

pyarrow = pytest.importorskip("pyarrow")

from densevision.bulk.destination import RUN, Destination  # noqa: E402
from densevision.bulk.shard_writer import ShardWriter  # noqa: E402
from densevision.results.shards import list_shards, make_schema, read_predictions  # noqa: E402

MANIFEST = {"task": "detection", "weights": "abc", "options": {"score_threshold": 0.5, "batch": 1}, "save": ["parquet"]}
RECORD = Detections.from_arrays([[1, 2, 3.5, 4]], [0], ["a", "b"], (7, 9), scores=[0.5])


def make_table(names: str, failed: str = "") -> Any:
    rows = []
    for name in names:
        row = {"source": f"{name}.jpg", "name": name, "sha256": name * 64, "width": 9, "height": 7, "error": None}
        cells = encode_cells(RECORD)
        if name in failed:
            row |= {"error": "broken", "width": None, "height": None}
            cells = dict.fromkeys(cells)
        rows.append(row | cells)
    return pyarrow.Table.from_pylist(rows, schema=make_schema("detection", describe_constants(RECORD)))


@pytest.fixture(params=["path", "address"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    opened = Destination(tmp_path / "out" if request.param == "path" else "memory://destination/out")
    opened.start(MANIFEST)
    yield opened
    if request.param == "address":
        fsspec.filesystem("memory").rm("/destination", recursive=True)


def list_names(destination: Destination) -> list[str]:
    return sorted(row.name for row in read_predictions(destination.folder))


def test_write_shard__rows_are_found_and_counted(destination: Destination) -> None:
    first = destination.write_shard(make_table("ab", failed="b"), ["parquet"])
    assert destination.write_shard(make_table("ba", failed="b"), ["parquet"]) == first  # the order does not matter
    destination.write_shard(make_table("c"), ["parquet"])
    assert sorted(destination.find_done().to_pylist()) == ["a.jpg", "b.jpg", "c.jpg"]
    assert destination.count_failures() == 1
    assert list_names(destination) == ["a", "b", "c"]


def test_find_done__rows_of_two_shards_remain_once(destination: Destination) -> None:
    for names in ("abc", "cd", "d", "e"):
        destination.write_shard(make_table(names), ["parquet", "jsonl"])
    assert sorted(destination.find_done(["parquet", "jsonl"]).to_pylist()) == [f"{name}.jpg" for name in "abcde"]
    assert list_names(destination) == list("abcde")
    lines = [json.loads(line) for shard in list_shards(destination.folder) for line in read_lines(destination, shard)]
    assert sorted(line["source"] for line in lines) == [f"{name}.jpg" for name in "abcde"]


def read_lines(destination: Destination, shard: str) -> list[str]:
    data = destination.read(shard.rpartition("/")[2].replace(".parquet", ".jsonl"))
    return [] if data is None else data.decode().splitlines()


@pytest.mark.parametrize(
    ("entry", "value"),
    [("weights", "abd"), ("options", {"score_threshold": 0.6, "batch": 1}), ("task", "instance"), ("save", ["png"])],
)
def test_start__another_run_is_refused(destination: Destination, entry: str, value: Any) -> None:
    destination.write_shard(make_table("a"), ["parquet"])
    with pytest.raises(UsageError) as caught:
        Destination(destination.folder).start(MANIFEST | {entry: value})
    assert entry in str(caught.value.field)
    Destination(destination.folder).start(MANIFEST)


def test_start__shards_without_manifest_are_refused(tmp_path: Path) -> None:
    opened = Destination(tmp_path)
    opened.start(MANIFEST)
    opened.write_shard(make_table("a"), ["parquet"])
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UsageError):
        Destination(tmp_path).start(MANIFEST)


def test_write_shard__workers_of_an_ended_run_write_nothing(destination: Destination) -> None:
    late = Destination(destination.folder)
    late.run = destination.run
    destination.start(MANIFEST)
    with pytest.raises(DenseVisionError):
        late.write_shard(make_table("a"), ["parquet"])
    assert list_shards(destination.folder) == []


def test_write_shard__folder_that_a_node_does_not_see(tmp_path: Path) -> None:
    opened = Destination(tmp_path / "out")
    opened.start(MANIFEST)
    (tmp_path / "out" / RUN).unlink()
    with pytest.raises(DenseVisionError):
        opened.write_shard(make_table("a"), ["parquet"])


def test_write_coco__boxes_of_every_image(destination: Destination) -> None:
    destination.write_shard(make_table("b"), ["parquet"])
    destination.write_shard(make_table("ac", failed="c"), ["parquet"])
    destination.write_coco()
    content = json.loads(destination.read("predictions.json") or b"")
    assert [image["file_name"] for image in content["images"]] == ["a", "b", "c"]
    assert [(each["image_id"], each["bbox"]) for each in content["annotations"]] == [(1, [1, 2, 2.5, 2])] + [
        (2, [1, 2, 2.5, 2])
    ]
    assert [each["id"] for each in content["annotations"]] == [1, 2]
    assert content["categories"] == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


def test_writer__full_destination_is_reported_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Destination(tmp_path / "out")
    opened.start(MANIFEST)
    table = make_table("abc", failed="b")
    writer = ShardWriter(opened, table.schema, ["parquet"], "skip")

    def fill_disk(self: Path, data: bytes) -> int:
        with open(self, "wb") as stream:
            stream.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill_disk)
        (summary,) = writer(table).to_pylist()
    assert "No space" in summary["fatal"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "run.txt"]
    (summary,) = writer(table).to_pylist()
    assert summary == {"rows": 3, "failed": 1, "fatal": None, "error": "broken", "source": "b.jpg"}
    assert list_names(opened) == ["a", "b", "c"]


def test_writer__on_error_fail_writes_no_failed_row(tmp_path: Path) -> None:
    opened = Destination(tmp_path)
    opened.start(MANIFEST)
    table = make_table("abc", failed="b")
    ShardWriter(opened, table.schema, ["parquet"], "fail")(table)
    assert list_names(opened) == ["a", "c"]
    assert opened.count_failures() == 0
    np.testing.assert_array_equal(next(read_predictions(tmp_path)).result.boxes, RECORD.boxes)  # type: ignore[union-attr]
