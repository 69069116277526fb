"""Tracks of CVAT, projects of VIA 3 and masks of FiftyOne: what their formats have beyond other layouts."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from layout_writers import Photo, save, write_text
from project_writers import cvat_track

from densevision.datasets.format_detection import detect_format
from densevision.datasets.formats.fiftyone_masks import decode_mask, encode_mask
from densevision.datasets.object_sources import ObjectSource, detect_objects
from densevision.errors import DataError
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.ops.masks import decode

SPLITS: dict[str, str | None] = {"train": None, "val": None}


def read_boxes(root: Path, issues: LabelIssues | None = None) -> dict[str, list[list[float]]]:
    """Name of an image -> its boxes, of the whole dataset."""
    (source,) = detect_objects(root, SPLITS).values()
    table = source.read(issues or LabelIssues("fail"), 10**6)
    return {
        Path(table.files[row]).name: table.boxes[table.offsets[row] : table.offsets[row + 1]].tolist()
        for row in range(len(table))
    }


def box(frame: int, x: float, y: float, outside: int = 0, side: float = 10, more: str = "") -> str:
    place = f'xtl="{x}" ytl="{y}" xbr="{x + side}" ybr="{y + side}"'
    return f'<box frame="{frame}" outside="{outside}" keyframe="1" {place} {more}></box>'


def test_tracks__keyframes_are_interpolated_and_held(tmp_path: Path) -> None:
    """From 0, 0 to 8, 4 in four frames; then hidden; then back for good."""
    cvat_track(tmp_path, 10, box(0, 0, 0), box(4, 8, 4), box(6, 30, 30, outside=1), box(8, 20, 20))
    boxes = read_boxes(tmp_path)
    expected = {0: 0, 1: 2, 2: 4, 3: 6, 4: 8, 5: 19, 8: 20, 9: 20}
    assert list(boxes) == [f"frame_{frame:06d}.png" for frame in range(10)]
    for frame in range(10):
        rows = boxes[f"frame_{frame:06d}.png"]
        assert [row[0] for row in rows] == ([expected[frame]] if frame in expected else [])
    assert boxes["frame_000003.png"] == [[6, 3, 16, 13]]


def test_tracks__frames_of_other_names_and_steps(tmp_path: Path) -> None:
    meta = "<task><start_frame>4</start_frame><frame_filter>step=2</frame_filter></task>"
    cvat_track(tmp_path, 3, box(4, 0, 0), box(8, 8, 8), meta=meta, names=("b.png", "c.png", "d.png"))
    assert {name: rows[0][0] for name, rows in read_boxes(tmp_path).items()} == {"b.png": 0, "c.png": 4, "d.png": 8}


def test_tracks__polygons_and_turned_boxes(tmp_path: Path) -> None:
    """Polygons of as many points move; others stay. Angles take the shorter way: from 350 to 10 degrees over 0."""

    def polygon(frame: int, *points: tuple[int, int]) -> str:
        text = ";".join(f"{x},{y}" for x, y in points)
        return f'<polygon frame="{frame}" outside="0" keyframe="1" points="{text}"></polygon>'

    cvat_track(
        tmp_path / "a",
        5,
        polygon(0, (0, 0), (10, 0), (0, 10)),
        polygon(2, (4, 0), (14, 0), (4, 10)),
        polygon(4, (20, 20), (30, 20), (30, 30), (20, 30)),
    )
    assert [rows[0][0] for rows in read_boxes(tmp_path / "a").values()] == [0, 2, 4, 4, 20]
    turned = box(0, 20, 10, more='rotation="350"'), box(2, 20, 10, more='rotation="10"')
    cvat_track(tmp_path / "b", 3, *turned)
    widths = [rows[0][2] - rows[0][0] for rows in read_boxes(tmp_path / "b").values()]
    np.testing.assert_allclose(widths, [11.58, 10, 11.58], atol=0.01)


@pytest.mark.parametrize("fault", ["no frames", "two tasks", "frame"])
def test_tracks__faults(fault: str, tmp_path: Path) -> None:
    cvat_track(tmp_path, 3, box(0, 0, 0), box(2, 4, 4))
    file = tmp_path / "annotations.xml"
    if fault == "no frames":
        for image in (tmp_path / "images").iterdir():
            image.unlink()
    elif fault == "two tasks":
        file.write_text(file.read_text().replace("</track>", '</track><track id="1" task_id="5" label="x"></track>'))
    else:
        file.write_text(file.read_text().replace('frame="2"', 'frame="two"'))
    with pytest.raises(DataError, match=r"annotations\.xml"):
        read_boxes(tmp_path)
    if fault == "frame":
        issues = LabelIssues("skip")
        assert len(read_boxes(tmp_path, issues)["frame_000002.png"]) == 1
        assert issues.counts[IssueKind.ENTRY_MALFORMED, "skipped"] == 1


def test_tracks__a_distant_frame_takes_no_memory(tmp_path: Path) -> None:
    """A hostile number of a frame does not make a shape for each frame before it."""
    names = ("frame_000000.png", "frame_999999999.png")
    cvat_track(tmp_path, 2, box(0, 0, 0), names=names)
    assert {name: len(rows) for name, rows in read_boxes(tmp_path).items()} == dict.fromkeys(names, 1)


def write_via3(root: Path, *shapes: list[float], kind: int = 2) -> None:
    save(Photo("a", np.zeros((48, 64, 3), np.uint8), ()), root)
    metadata = {str(row): {"vid": "1", "z": [], "xy": shape, "av": {}} for row, shape in enumerate(shapes)}
    files = {"1": {"fid": "1", "fname": "a.png", "type": kind, "src": "a.png"}}
    content = {"project": {"vid_list": ["1"]}, "attribute": {}, "file": files, "view": {"1": {"fid_list": ["1"]}}}
    write_text(root / "p.json", json.dumps(content | {"metadata": metadata}))


def test_via3__every_shape(tmp_path: Path) -> None:
    """Circle, ellipse, a box by its extreme points, and a circle through three of its points."""
    shapes = [[3, 20, 20, 10], [4, 30, 20, 12, 6], [8, 10, 20, 30, 5, 50, 25, 20, 40], [9, 10, 20, 20, 10, 30, 20]]
    write_via3(tmp_path, *shapes, [1, 5, 5], [5, 1, 1, 2, 2])
    source = detect_format(str(tmp_path)).splits["train"]
    assert isinstance(source, ObjectSource)
    (source,) = detect_objects(tmp_path, SPLITS).values()
    issues = LabelIssues("fail")
    table = source.read(issues, 10**6)
    np.testing.assert_allclose(
        table.boxes, [[10, 10, 30, 30], [18, 14, 42, 26], [10, 5, 50, 40], [10, 10, 30, 30]], atol=1e-3
    )
    masks, has_mask = source.read_masks(table, LabelIssues("skip"))
    assert has_mask.tolist() == [True, True, False, True]
    areas = [decode(masks.mask(row, (48, 64))).sum() for row in range(3)]
    np.testing.assert_allclose(areas, [np.pi * 100, np.pi * 72, np.pi * 100], rtol=0.03)
    assert issues.counts[IssueKind.SHAPE_WITHOUT_AREA, "skipped"] == 2


@pytest.mark.parametrize(
    "shape", [[2, 1, 2, 3], [7, 1, 2, 3], ["2", 1, 2, 3, 4], [9, 1, 1, 2, 2, 3, 3], [77], [2, 1, 2, 3, "4"]]
)
def test_via3__malformed_shapes(shape: list, tmp_path: Path) -> None:
    write_via3(tmp_path, [2, 1, 1, 5, 5], shape)
    with pytest.raises(DataError, match=r"p\.json"):
        read_boxes(tmp_path)
    assert read_boxes(tmp_path, LabelIssues("skip")) == {"a.png": [[1, 1, 6, 6]]}


def test_via3__regions_of_a_video_are_refused(tmp_path: Path) -> None:
    write_via3(tmp_path, [2, 1, 1, 5, 5], kind=4)
    with pytest.raises(DataError, match=r"p\.json"):
        read_boxes(tmp_path, LabelIssues("skip"))


def compress(array: np.ndarray) -> str:
    stream = io.BytesIO()
    np.save(stream, array)
    return base64.b64encode(zlib.compress(stream.getvalue())).decode()


def test_fiftyone_masks__forms_and_faults() -> None:
    mask = np.random.default_rng(0).random((7, 5)) < 0.5
    for value in (encode_mask(mask), compress(mask), compress(np.asfortranarray(mask * 255, np.uint8))):
        np.testing.assert_array_equal(decode_mask(value), mask)
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(huge, {"descr": "|b1", "fortran_order": False, "shape": (1 << 20, 1 << 20)})
    for text in ("", "####", compress(mask)[:-8], compress(mask[0]), compress(np.array(["a", "b"])[None])):
        assert decode_mask(text) is None
    assert decode_mask(base64.b64encode(zlib.compress(huge.getvalue())).decode()) is None
    assert decode_mask({"$binary": 5}) is None


def test_fiftyone_masks__are_stretched_to_their_box_and_stay_in_the_dataset(tmp_path: Path) -> None:
    save(Photo("a", np.zeros((48, 64, 3), np.uint8), ()), tmp_path / "set" / "data")
    save(Photo("b", np.full((4, 4, 3), 255, np.uint8), ()), tmp_path)
    base = {"_cls": "Detection", "label": "apple", "bounding_box": [0.25, 0.25, 0.25, 0.5]}
    half = np.array([[True, False]])
    detections = [base | {"mask": compress(half)}, base | {"mask_path": "../b.png"}]
    sample = {"filepath": "data/a.png", "ground_truth": {"_cls": "Detections", "detections": detections}}
    write_text(tmp_path / "set" / "samples.json", json.dumps({"samples": [sample]}))
    (source,) = detect_objects(tmp_path / "set", SPLITS).values()
    issues = LabelIssues("skip")
    table = source.read(issues, 10**6)
    masks, _ = source.read_masks(table, LabelIssues("skip"))
    expected = np.zeros((48, 64), bool)
    expected[12:36, 16:24] = True
    np.testing.assert_array_equal(decode(masks.mask(0, (48, 64))), expected)
    assert len(table.labels) == 1 and issues.counts[IssueKind.ENTRY_MALFORMED, "skipped"] == 1
