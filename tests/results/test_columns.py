"""Records as cells of a table: what is read back is what was written, for every kind of record."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.io.image_metadata import ImageMetadata
from densevision.ops.masks import encode
from densevision.ops.skeleton import Skeleton
from densevision.results import (
    DepthMap,
    Detections,
    FlowField,
    Image,
    Instances,
    JointResult,
    Result,
    SemanticMap,
)
from densevision.results.columns import decode_cells, describe_constants, encode_cells
from densevision.results.depth_map import Camera

SIZE = (7, 9)
rng = np.random.default_rng(0)


def make_instances(count: int, has_masks: bool = True) -> Instances:
    masks = tuple(encode(rng.random(SIZE) > 0.5) for _ in range(count)) if has_masks else None
    return Instances(
        boxes=rng.random((count, 4), np.float32),
        scores=rng.random(count, np.float32),
        labels=rng.integers(0, 2, count),
        names=("a", "b"),
        category_ids=(7, 9),
        masks=masks,
        keypoints=rng.random((count, 3, 3), np.float32) if count else None,
        keypoint_scores=rng.random((count, 3), np.float32) if count else None,
        skeleton=Skeleton(("nose", "left_eye", "right_eye"), ((0, 1), (0, 2))),
        size=SIZE,
    )


DEPTH = DepthMap(
    depth=rng.random(SIZE, np.float32),
    kind="disparity",
    unit="px",
    valid=rng.random(SIZE) > 0.5,
    max=80.0,
    camera=Camera(500.0, (3.5, 4.5), 0.5, 1.25),
    size=SIZE,
)
SEMANTIC = SemanticMap(labels=rng.integers(0, 256, SIZE).astype(np.uint8), names=("x", "y"), size=SIZE)
RECORDS: dict[str, Result] = {
    "detections": Detections.from_arrays(rng.random((3, 4)), [0, 1, 1], ["a", "b"], SIZE, scores=rng.random(3)),
    "no detections": Detections.from_arrays([], [], ["a"], SIZE),
    "instances": make_instances(4),
    "no instances": make_instances(0),
    "keypoints alone": make_instances(2, has_masks=False),
    "semantic": SEMANTIC,
    "semantic with probabilities": dataclasses.replace(
        SEMANTIC, probabilities=rng.random((2, *SIZE)).astype(np.float16)
    ),
    "multilabel": SemanticMap(
        labels=rng.integers(0, 65536, SIZE).astype(np.uint16), names=("x",), multilabel=True, size=SIZE
    ),
    "depth": DEPTH,
    "flow": FlowField.from_arrays(rng.random((2, *SIZE)), rng.random(SIZE) > 0.5, rng.random(SIZE, np.float32)),
    "flow with bool occlusion": FlowField.from_arrays(rng.random((2, *SIZE)), None, rng.random(SIZE) > 0.5),
    "image": Image(image=rng.integers(0, 256, (5, 6, 3)).astype(np.uint8), scale=2, size=(5, 6)),
    "gray of 16 bits": Image(image=rng.integers(0, 65536, (5, 6, 1)).astype(np.uint16), size=(5, 6)),
    "float image": Image(
        image=rng.random((5, 6, 3), np.float32), metadata=ImageMetadata(b"profile", (72.0, 96.0)), size=(5, 6)
    ),
    "joint": JointResult(size=SIZE, results={"depth": DEPTH, "semantic": SEMANTIC, "instance": make_instances(2)}),
}


def assert_equal(actual: Any, expected: Any) -> None:
    assert type(actual) is type(expected)
    if isinstance(expected, JointResult):
        assert list(actual) == list(expected)
        for name in expected:
            assert_equal(actual[name], expected[name])
    elif dataclasses.is_dataclass(expected):
        for item in dataclasses.fields(expected):
            assert_equal(getattr(actual, item.name), getattr(expected, item.name))
    elif isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)
    else:
        assert actual == expected


def store(record: Result, folder: Path, kinds: Any = None) -> Result:
    """Writes a record to parquet, and reads it with the constants that the file states."""
    pyarrow = pytest.importorskip("pyarrow")
    from densevision.results.shards import encode_shard, make_schema, read_predictions

    height, width = SIZE
    row = {"source": "a.jpg", "name": "a", "sha256": "0", "width": width, "height": height, "error": None}
    failed = dict.fromkeys(row) | {"source": "b.jpg", "name": "b", "error": "broken"}
    schema = make_schema("any", describe_constants(record), kinds)
    table = pyarrow.Table.from_pylist([row | encode_cells(record), failed], schema=schema)
    (folder / "part-1.parquet").write_bytes(encode_shard(table))
    stored, without = read_predictions(folder, kinds)
    assert (without.source, without.error, without.result) == ("b.jpg", "broken", None)
    assert stored.result is not None and stored.result.source == "a.jpg"
    return dataclasses.replace(stored.result, source=None)


@pytest.mark.parametrize("name", RECORDS)
def test_store__is_inverted(name: str, tmp_path: Path) -> None:
    expected = RECORDS[name]
    actual = store(expected, tmp_path)
    if isinstance(actual, JointResult):
        actual = JointResult(
            size=SIZE, results={k: dataclasses.replace(v, source=None) for k, v in actual.results.items()}
        )
    assert_equal(actual, expected)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Matte(Result):
    """A record of another package."""

    alpha: np.ndarray
    color: tuple[int, ...] | None = None

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> Matte:
        return self

    def overlay(self, image: np.ndarray) -> np.ndarray:
        return image


def test_store__record_of_another_package(tmp_path: Path) -> None:
    expected = Matte(alpha=rng.random(SIZE, np.float32), size=SIZE)
    assert_equal(store(expected, tmp_path, {"Matte": Matte}), expected)
    with pytest.raises(DataError):
        store(expected, tmp_path)


def test_store__read_by_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    record = RECORDS["detections"]
    store(record, tmp_path)
    row = pandas.read_parquet(tmp_path / "part-1.parquet").iloc[0]
    np.testing.assert_array_equal(np.stack(row["boxes"]), record.boxes)  # type: ignore[attr-defined]
    assert row["width"] == SIZE[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depth", b"nothing"),
        (
            "depth",
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9000000, 90000)}".ljust(128),
        ),
        ("valid", b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + (1 << 20).to_bytes(4, "big") * 2),
        ("camera", "{"),
    ],
)
def test_decode_cells__damaged(field: str, value: Any) -> None:
    constants = json.loads(json.dumps(describe_constants(DEPTH)))
    with pytest.raises(DataError) as caught:
        decode_cells(constants, encode_cells(DEPTH) | {field: value}, SIZE)
    assert caught.value.field == field
