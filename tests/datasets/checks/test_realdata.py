"""Real datasets, checked and converted: what is known to be wrong is found, and no error where there is none."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.realdata

CAMVID = [
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
]
CLEAN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bccd": ("detection", "bccd", {}),
    "coco128": ("instance", "coco128", {}),
    "camvid": ("semantic", "camvid", {"classes": CAMVID, "data.unknown": [11]}),
    "depth": ("depth", "stereo_middlebury", {"data.scale": 256.0}),
    "stereo": ("depth", "stereo_kitti_odometry", {}),
    "flow": ("flow", "flow_middlebury", {}),
    "facades": ("translation", "facades", {}),
}


LONG = ("camvid", "stereo", "facades")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in CLEAN])
def test_check__real_data_has_no_errors(name: str, real_data: Path, check) -> None:
    task, folder, settings = CLEAN[name]
    report = check(task, real_data / "data" / folder, settings=settings)
    assert not report.failed, [str(found) for found in report.findings if found.severity == "error"]
    assert sum(count for counts in report.counts.values() for count in counts.values())


def test_check__the_image_that_is_twice_in_t91(real_data: Path, check) -> None:
    settings = {"data.train": "T91", "data.val": "Set5", "data.crop": 24}
    report = check("superres", real_data / "data" / "sr", settings=settings)
    twice = [found for found in report.findings if found.check.name in ("image-twice", "image-nearly-twice")]
    places = " ".join(str(place) for found in twice for place in found.places)
    assert "t65" in places and "t36" in places
    assert not report.failed


def test_check__one_pair_that_serves_both_splits_is_told_and_no_leak(real_data: Path, check) -> None:
    report = check("flow", real_data / "data" / "flow_kitti_sample")
    assert not report.findings and any("the same pairs" in note for note in report.notes)


@pytest.fixture(scope="module")
def convert():
    path = Path(__file__).parents[2] / "tools" / "convert_dataset.py"
    spec = importlib.util.spec_from_file_location("convert_dataset", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool.convert


@pytest.mark.parametrize("other", ["yolo", "voc"])
def test_convert__boxes_of_coco_come_back(other: str, real_data: Path, convert, tmp_path) -> None:
    """COCO's own boxes have decimals; all 1369 come back to the hundredth of a pixel."""
    source = tmp_path / "source"
    source.mkdir()
    coco = real_data / "data" / "coco128"
    (source / "images").symlink_to(coco / "images")
    for split in ("train", "val"):
        (source / f"{split}.json").write_bytes((coco / "annotations" / f"detection_{split}.json").read_bytes())
    convert(str(source), tmp_path / other, other, masks=False, on_error="fix")
    convert(str(tmp_path / other), tmp_path / "again", "coco")
    for split in ("train", "val"):
        before = json.loads((source / f"{split}.json").read_text())
        after = json.loads((tmp_path / "again" / "annotations" / f"instances_{split}.json").read_text())
        rows = [_boxes(content) for content in (before, after)]
        assert rows[0].keys() == rows[1].keys()
        for file, boxes in rows[0].items():
            assert [label for label, _ in boxes] == [label for label, _ in rows[1][file]]
            for (_, mine), (_, theirs) in zip(boxes, rows[1][file]):
                assert theirs == pytest.approx(mine, abs=0.01)


def _boxes(content: dict[str, Any]) -> dict[str, list[tuple[str, list[float]]]]:
    files = {image["id"]: image["file_name"].replace("/", "_") for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    found: dict[str, list[tuple[str, list[float]]]] = {file: [] for file in files.values()}
    for entry in content["annotations"]:
        found[files[entry["image_id"]]].append((names[entry["category_id"]], entry["bbox"]))
    return found
