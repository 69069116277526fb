"""Checks and conversions of real datasets: known problems are reported, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from densevision.datasets.conversion.convert import convert_dataset

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
    assert not report.has_errors, [str(finding) for finding in report.findings if finding.severity == "error"]
    assert sum(count for counts in report.counts.values() for count in counts.values())


def test_check__duplicate_image_of_t91(real_data: Path, check) -> None:
    settings = {"data.train": "T91", "data.val": "Set5", "data.crop": 24}
    report = check("superres", real_data / "data" / "sr", settings=settings)
    duplicates = [
        finding for finding in report.findings if finding.check.name in ("image-duplicate", "image-near-duplicate")
    ]
    locations = " ".join(str(location) for finding in duplicates for location in finding.locations)
    assert "t65" in locations and "t36" in locations
    assert not report.has_errors


def test_check__one_pair_in_both_splits_is_no_leak(real_data: Path, check) -> None:
    report = check("flow", real_data / "data" / "flow_kitti_sample")
    assert not report.findings and any("the same pairs" in note for note in report.notes)


@pytest.mark.parametrize("other", ["yolo", "voc"])
def test_convert__boxes_of_coco_are_restored(other: str, real_data: Path, tmp_path) -> None:
    """All 1369 boxes of COCO, which have decimals, are restored to 0.01 pixels."""
    source = tmp_path / "source"
    source.mkdir()
    coco = real_data / "data" / "coco128"
    (source / "images").symlink_to(coco / "images")
    for split in ("train", "val"):
        (source / f"{split}.json").write_bytes((coco / "annotations" / f"detection_{split}.json").read_bytes())
    convert_dataset(str(source), tmp_path / other, other, masks=False, on_error="fix")
    convert_dataset(str(tmp_path / other), tmp_path / "again", "coco")
    for split in ("train", "val"):
        before = json.loads((source / f"{split}.json").read_text())
        after = json.loads((tmp_path / "again" / "annotations" / f"instances_{split}.json").read_text())
        rows = [_boxes(content) for content in (before, after)]
        assert rows[0].keys() == rows[1].keys()
        for file, boxes in rows[0].items():
            assert [label for label, _ in boxes] == [label for label, _ in rows[1][file]]
            for (_, box), (_, restored) in zip(boxes, rows[1][file]):
                assert restored == pytest.approx(box, abs=0.01)


def _boxes(content: dict[str, Any]) -> dict[str, list[tuple[str, list[float]]]]:
    files = {image["id"]: image["file_name"].replace("/", "_") for image in content["images"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    boxes: dict[str, list[tuple[str, list[float]]]] = {file: [] for file in files.values()}
    for entry in content["annotations"]:
        boxes[files[entry["image_id"]]].append((names[entry["category_id"]], entry["bbox"]))
    return boxes
