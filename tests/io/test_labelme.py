"""labelme files: shapes, paths of other systems, and JSON files that are not labelme's."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densevision.datasets.conversion import convert_dataset
from densevision.datasets.format_detection import detect_format
from densevision.datasets.object_sources import ObjectSource
from densevision.errors import DataError
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.ops.masks import decode

SIZE = (48, 64)
CORNERS = [[8, 8], [40, 8], [40, 30], [8, 30]]


def shape(kind: str, points: list[list[float]], label: str = "cell", **values: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **values}


def encode_png(mask: np.ndarray) -> str:
    stream = BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def write(
    folder: Path, shapes: list[dict[str, Any]], path: str = "a.png", name: str = "a", images: Path | None = None
) -> Path:
    for parent in (folder, images or folder):
        parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save((images or folder) / f"{name}.png")
    (folder / f"{name}.json").write_text(json.dumps({"version": "5.4.1", "shapes": shapes, "imagePath": path}))
    return folder


def read_masks(folder: Path, on_error: str = "fail") -> tuple[list[np.ndarray], np.ndarray, LabelIssues]:
    issues = LabelIssues(on_error)
    source = ObjectSource("labelme", folder, folder)
    table = source.read(issues, 10**6)
    masks, keep = source.read_masks(table, issues)
    assert keep.all()
    return [decode(masks.mask(row, SIZE)).astype(bool) for row in range(len(masks))], table.boxes, issues


@pytest.mark.parametrize("kind", ["polygon", "rectangle", "rotation"])
def test_shapes__four_corners(kind: str, tmp_path: Path) -> None:
    (mask,), boxes, issues = read_masks(write(tmp_path, [shape(kind, CORNERS)]))
    assert mask[8:30, 8:40].all() and mask.sum() == 22 * 32 and not issues.counts
    assert boxes.tolist() == [[8, 8, 40, 30]]


def test_shapes__mask_is_placed_at_its_first_point(tmp_path: Path) -> None:
    """The mask covers the bounding box of the points, both corners included."""
    pixels = np.random.default_rng(0).random((23, 33)) < 0.5
    pixels[[0, -1]], pixels[:, [0, -1]] = True, True
    (mask,), boxes, _ = read_masks(write(tmp_path, [shape("mask", [[8, 8], [40, 30]], mask=encode_png(pixels))]))
    expected = np.zeros(SIZE, bool)
    expected[8:31, 8:41] = pixels
    np.testing.assert_array_equal(mask, expected)
    assert boxes.tolist() == [[8, 8, 41, 31]]


def test_shapes__mask_beyond_the_image_is_clipped(tmp_path: Path) -> None:
    shapes = [shape("mask", [[-3, 40], [9, 60]], mask=encode_png(np.ones((21, 13), bool)))]
    (mask,), boxes, _ = read_masks(write(tmp_path, shapes))
    assert mask.sum() == 8 * 10 and boxes.tolist() == [[0, 40, 10, 48]]


def test_shapes__mask_and_polygon_of_one_group_are_one_object(tmp_path: Path) -> None:
    parts = [
        shape("mask", [[50, 40], [53, 43]], mask=encode_png(np.ones((4, 4), bool)), group_id=1),
        shape("polygon", CORNERS, group_id=1),
    ]
    (mask,), boxes, _ = read_masks(write(tmp_path, parts))
    assert mask.sum() == 22 * 32 + 16 and boxes.tolist() == [[8, 8, 54, 44]]


def test_shapes__lines_and_points_are_skipped_and_counted(tmp_path: Path) -> None:
    lines = [
        shape("line", [[1, 1], [60, 40]], "axis"),
        shape("linestrip", [[1, 1], [9, 9], [20, 4]], "axis"),
        shape("point", [[30, 20]], "tip"),
    ]
    folder = write(tmp_path, [shape("polygon", CORNERS), *lines])
    assert ObjectSource("labelme", folder, folder).classes().names == ("cell",)
    masks, _, issues = read_masks(folder)
    assert len(masks) == 1 and issues.counts == {(IssueKind.SHAPE_WITHOUT_AREA, "skipped"): 3}


@pytest.mark.parametrize("value", ["no base64!", encode_png(np.ones((3, 3), bool))[:20], None])
def test_shapes__broken_mask(value: str | None, tmp_path: Path) -> None:
    folder = write(tmp_path, [shape("polygon", CORNERS), shape("mask", [[8, 8], [10, 10]], mask=value)])
    with pytest.raises(DataError) as failure:
        read_masks(folder)
    assert failure.value.field == "shapes[1]"
    assert len(read_masks(folder, "skip")[0]) == 1


@pytest.mark.parametrize("path", [".\\a.png", "D:\\work\\shots\\a.png", "/home/someone/a.png"])
def test_paths__of_other_computers_next_to_the_file(path: str, tmp_path: Path) -> None:
    assert len(read_masks(write(tmp_path, [shape("polygon", CORNERS)], path))[0]) == 1


@pytest.mark.parametrize("path", ["..\\images\\a.png", "../images/a.png"])
def test_paths__images_in_a_sibling_folder(path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    labels = write(root / "json", [shape("polygon", CORNERS)], path, images=root / "images")
    source = detect_format(str(root)).splits["train"]
    assert isinstance(source, ObjectSource) and source.labels == labels and source.folder == root
    table = source.read(LabelIssues("fail"), 10**6)
    assert table.files[0] == "images/a.png" and len(table.boxes) == 1
    convert_dataset(root, tmp_path / "coco", "coco")
    assert (tmp_path / "coco/images/train/a.png").is_file()


@pytest.mark.parametrize("path", ["..\\..\\a.png", "../../a.png", "/etc/passwd", "C:\\Windows\\system.png"])
def test_paths__outside_the_dataset_are_refused(path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    labels = write(root / "json", [shape("polygon", CORNERS)], path, name="b")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    issues = LabelIssues("skip")
    table = ObjectSource("labelme", labels, root).read(issues, 10**6)
    assert not len(table) and sum(issues.counts.values()) == 1


def test_folder__other_json_files_are_ignored(tmp_path: Path) -> None:
    folder = write(tmp_path, [shape("polygon", CORNERS)])
    write(tmp_path, [shape("polygon", CORNERS)], "b.png", "b")
    (folder / "0_project.json").write_text('{"name": "demo"}')
    (folder / "._a.json").write_bytes(b"\0\5\26\7")
    assert detect_format(str(folder)).splits["train"].format_name == "labelme"
    masks, _, issues = read_masks(folder)
    assert len(masks) == 2 and issues.counts == {(IssueKind.FILE_IGNORED, "skipped"): 1}


def test_folder__malformed_json(tmp_path: Path) -> None:
    folder = write(tmp_path, [shape("polygon", CORNERS)])
    (folder / "b.json").write_text('{"shapes": [')
    with pytest.raises(DataError, match=r"b\.json"):
        read_masks(folder)
    masks, _, issues = read_masks(folder, "skip")
    assert len(masks) == 1 and issues.counts == {(IssueKind.FILE_MALFORMED, "skipped"): 1}
