"""Files of tracks: read back by the reader of scores and by pycocotools, complete or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from densevision.errors import UsageError
from densevision.metrics.mot_files import read_mot
from densevision.results import Detections
from densevision.results.track_files import CocoVidWriter, MotWriter


def make_frames() -> list[Detections]:
    """Two objects; the second has no identity at first; then none is there, then the first returns."""
    boxes = np.array([[10, 20, 30, 60.5], [50, 5, 70, 25]], np.float32)
    options = {"scores": [0.5, 0.75], "category_ids": (7, 3)}
    first = Detections.from_arrays(boxes, [1, 0], ("cup", "tea"), (80, 100), track_ids=np.array([4, -1]), **options)
    second = Detections.from_arrays(boxes + 1, [1, 0], ("cup", "tea"), (80, 100), track_ids=np.array([4, 2]), **options)
    return [first, second, second[:0], first[:1]]


def test_mot__read_back(tmp_path: Path) -> None:
    with MotWriter(tmp_path / "deep" / "a.txt") as file:
        for frame in make_frames():
            file.write(frame)
    rows = read_mot(tmp_path / "deep" / "a.txt", is_truth=False)
    assert rows.frames.tolist() == [1, 2, 2, 4] and rows.ids.tolist() == [4, 4, 2, 4]
    np.testing.assert_allclose(rows.boxes[1], [11, 21, 20, 40.5])
    assert rows.flags.tolist() == [0.5, 0.5, 0.75, 0.5]
    assert {line.count(",") for line in (tmp_path / "deep" / "a.txt").read_text().splitlines()} == {9}


def test_cocovid__read_by_pycocotools(tmp_path: Path) -> None:
    with CocoVidWriter(tmp_path / "a.json", "clip", 25.0) as file:
        for frame in make_frames():
            file.write(frame)
    coco = COCO(tmp_path / "a.json")
    content = coco.dataset
    assert len(coco.getImgIds()) == 4 and content["videos"] == [
        {"id": 1, "name": "clip", "fps": 25.0, "width": 100, "height": 80}
    ]
    assert [image["frame_id"] for image in content["images"]] == [0, 1, 2, 3]
    assert {track["id"]: coco.cats[track["category_id"]]["name"] for track in content["tracks"]} == {4: "tea", 2: "cup"}
    rows = [(each["image_id"], each["track_id"], each["bbox"][0]) for each in content["annotations"]]
    assert rows == [(1, 4, 10), (2, 4, 11), (2, 2, 51), (4, 4, 10)]


def test_cocovid__without_frames(tmp_path: Path) -> None:
    with CocoVidWriter(tmp_path / "a.json", "clip"):
        pass
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["images"] == content["annotations"] == content["tracks"] == []


@pytest.mark.parametrize("create", [MotWriter, lambda path: CocoVidWriter(path, "clip")])
def test_writers__leave_nothing_behind_after_a_failure(create, tmp_path: Path) -> None:
    plain = make_frames()[0]
    untracked = Detections.from_arrays(plain.boxes, plain.labels, plain.names, plain.size)
    with pytest.raises(UsageError, match="identities"), create(tmp_path / "a.txt") as file:
        file.write(plain)
        file.write(untracked)
    assert list(tmp_path.iterdir()) == []
