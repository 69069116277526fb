"""tools/errors.py: planted errors from files to the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from densevision.io.image import write_image


@pytest.fixture
def boxes(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two images: one found, one of the wrong class."""
    images = [{"id": n, "width": 60, "height": 40, "file_name": f"{n}.png"} for n in (1, 2)]
    target_records = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0} for n in (1, 2)
    ]
    found = [{"image_id": n, "category_id": n, "bbox": [5, 5, 20, 20], "score": 0.9} for n in (1, 2)]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    (tmp_path / "t.json").write_text(
        json.dumps({"images": images, "annotations": target_records, "categories": categories})
    )
    (tmp_path / "p.json").write_text(json.dumps(found))
    for number in (1, 2):
        write_image(tmp_path / f"images/{number}.png", np.full((40, 60, 3), 90, np.uint8))
    return tmp_path / "t.json", tmp_path / "p.json", tmp_path / "images"


def test_boxes__kinds_costs_and_pages(boxes, tool, tmp_path: Path) -> None:
    truth, found, images = boxes
    code, out, _ = tool("errors", "detection", found, "--truth", truth, "--json")
    (table,) = json.loads(out)["errors"].values()
    assert code == 0 and table["classification: right place, wrong class"]["errors"] == 1
    assert json.loads(out)["worst"]["2.png"] == 0 and next(iter(json.loads(out)["worst"])) == "2.png"
    code, out, _ = tool("errors", "detection", found, "--truth", truth, "--images", images, "--out", tmp_path / "page")
    page = (tmp_path / "page/index.html").read_text()
    assert code == 0 and "classification" in out and "2.png: AP 0" in page
    assert json.loads((tmp_path / "page/errors.json").read_text())["task"] == "detection"


def test_masks__confusions(tool, tmp_path: Path) -> None:
    truth = np.zeros((20, 30, 1), np.uint8)
    truth[:, 15:] = 1
    said = truth.copy()
    said[:, 15:20] = 0
    for folder, labels in (("truth", truth), ("found", said)):
        write_image(tmp_path / folder / "a.png", labels)
    code, out, _ = tool("errors", "semantic", tmp_path / "found", "--truth", tmp_path / "truth", "--json")
    tables = json.loads(out)["errors"]
    (title,) = (title for title in tables if title.startswith("confusions"))
    assert code == 0 and tables[title]["1 taken for 0"]["pixels"] == 100


def test_neither_truth_nor_data__is_refused(tool) -> None:
    assert tool("errors", "flow", "somewhere")[0] == 2


def test_boxes__protocol_counts_and_whole_numbers(boxes, tool) -> None:
    truth, found, _ = boxes
    told = json.loads(tool("errors", "detection", found, "--truth", truth, "--json")[1])
    assert told["counts"]["images"] == 2 and told["protocol"] and told["versions"]["densevision"]
    printed = tool("errors", "detection", found, "--truth", truth)[1]
    (row,) = (line for line in printed.splitlines() if "duplicate" in line)
    assert (
        re.split(r"│|\s{2,}", row.strip(" │"))[1].strip() == "0"
        and "protocol: {" in printed
        and "counts: images 2" in printed
    )


def test_equal_images__have_a_page(tool, tmp_path: Path) -> None:
    write_image(tmp_path / "a/x.png", np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8))
    code, _, err = tool("errors", "superres", tmp_path / "a", "--truth", tmp_path / "a", "--out", tmp_path / "page")
    assert code == 0 and "Protocol" in (tmp_path / "page/index.html").read_text(), err


def test_broken_files__are_skipped_where_that_is_requested_for(tool, tmp_path: Path) -> None:
    for name in ("a", "b"):
        for folder in ("truth", "found"):
            write_image(tmp_path / folder / f"{name}.png", np.zeros((20, 30, 1), np.uint8))
    (tmp_path / "found/b.png").write_bytes(b"no image")
    common = ("errors", "semantic", tmp_path / "found", "--truth", tmp_path / "truth", "--json")
    assert tool(*common)[0] == 3
    code, out, err = tool(*common, "--on-error", "skip", "--set", "classes=[sky, sea]")
    assert code == 0 and "broken files (b)" in err and json.loads(out)["counts"]["images"] == 1
    assert tool(*common, "--split", "train")[0] == 2
