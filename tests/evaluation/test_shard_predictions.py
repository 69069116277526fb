"""Scores of the parquet files of bulk predictions equal those of the files that `predict` writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import densevision
from densevision.errors import DataError
from densevision.io.image import write_image
from densevision.results import Detections, Image, Result, SemanticMap

pyarrow = pytest.importorskip("pyarrow")

from densevision.results.columns import describe_constants, encode_cells  # noqa: E402
from densevision.results.shards import encode_shard, make_schema  # noqa: E402

SIZE = (12, 16)
rng = np.random.default_rng(1)


def write_shards(folder: Path, task: str, records: dict[str, Result]) -> None:
    """One shard for each record, and one row without prediction."""
    folder.mkdir()
    for number, (name, record) in enumerate(records.items()):
        row = {"source": f"{name}.jpg", "name": name, "sha256": "0", "width": SIZE[1], "height": SIZE[0], "error": None}
        rows = [row | encode_cells(record)]
        if not number:
            rows.append(dict.fromkeys(row) | {"source": "x.jpg", "name": "x", "error": "broken"})
        table = pyarrow.Table.from_pylist(rows, schema=make_schema(task, describe_constants(record)))
        (folder / f"part-{number}.parquet").write_bytes(encode_shard(table))


def write_files(folder: Path, records: dict[str, Result], suffix: str) -> None:
    for name, record in records.items():
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        record.save(path)


def write_truth(task: str, folder: Path, records: dict[str, Result]) -> Path:
    """A ground truth that differs a little from the records."""
    folder.mkdir()
    if task == "detection":
        images = [{"id": n, "file_name": f"{name}.jpg", "height": 12, "width": 16} for n, name in enumerate(records, 1)]
        boxes = [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 6, 6], "area": 36, "iscrowd": 0} for n in (1, 2)
        ]
        content = {
            "images": images,
            "annotations": boxes,
            "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        }
        (folder / "truth.json").write_text(json.dumps(content))
        return folder / "truth.json"
    for name in records:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = SIZE if task == "semantic" else (*SIZE, 3)
        write_image(path, rng.integers(0, 2, shape).astype(np.uint8).reshape(*SIZE, -1))
    return folder


def make_records(task: str) -> dict[str, Result]:
    names = ("one", "deep/two")
    if task == "detection":
        boxes = [[1, 1, 7, 7.5], [2, 2, 9, 9]]
        return {n: Detections.from_arrays(boxes, [0, 1], ["a", "b"], SIZE, scores=[0.9, 0.3]) for n in names}
    if task == "semantic":
        labels = {name: rng.integers(0, 2, SIZE).astype(np.uint8) for name in names}
        return {name: SemanticMap(labels=each, names=("a", "b"), size=SIZE) for name, each in labels.items()}
    return {name: Image.from_source(rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)) for name in names}


@pytest.mark.parametrize(
    ("task", "suffix"), [("detection", ".json"), ("semantic", ".labels.png"), ("translation", ".png")]
)
def test_score__equals_that_of_files(task: str, suffix: str, tmp_path: Path) -> None:
    records = make_records(task)
    write_shards(tmp_path / "shards", task, records)
    write_files(tmp_path / "files", records, suffix)
    truth = write_truth(task, tmp_path / "truth", records)
    expected = densevision.score(task, truth, tmp_path / "files")
    actual = densevision.score(task, truth, tmp_path / "shards")
    np.testing.assert_equal(actual.metrics, expected.metrics)
    assert actual.counts == expected.counts
    report = densevision.score(task, truth, tmp_path / "shards", report=tmp_path / "page")
    np.testing.assert_equal(report.metrics, expected.metrics)
    assert (tmp_path / "page" / "index.html").is_file()


def test_score__name_that_leads_out_of_the_folder(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", "semantic", {"../../outside": make_records("semantic")["one"]})
    truth = write_truth("semantic", tmp_path / "truth", {"outside": make_records("semantic")["one"]})
    with pytest.raises(DataError):
        densevision.score("semantic", truth, tmp_path / "shards")
    assert not list(tmp_path.glob("outside*"))
