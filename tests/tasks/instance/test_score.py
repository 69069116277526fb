"""Files of masks and keypoints: a fault is named, and never scores as a miss."""

from __future__ import annotations

import json

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.ops.masks import encode
from densevision.tasks.instance.score import score

SIZE = (40, 50)
POINTS = [12.0, 12, 2, 15, 15, 2, 20, 18, 1]


def mask(size=SIZE) -> dict:
    found = np.zeros(size, bool)
    found[5:20, 10:30] = True
    return encode(found)


def scored(folder, truth: dict | None = None, **entry) -> dict[str, float]:
    annotation = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 15], "area": 300, "iscrowd": 0}
    annotation |= {"segmentation": mask(), "keypoints": POINTS, "num_keypoints": 3, **(truth or {})}
    content = {
        "images": [{"id": 1, "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 3, "name": "a", "keypoints": ["x", "y", "z"]}],
        "annotations": [annotation],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps([{"image_id": 1, "category_id": 3, "score": 0.9, **entry}]))
    return score(folder / "truth.json", folder / "found.json")["metrics"]


@pytest.mark.parametrize("form", [mask(), [[10.0, 5, 30, 5, 30, 20, 10, 20]]], ids=["runs", "polygon"])
def test_score__masks_of_every_form(tmp_path, form):
    assert scored(tmp_path, segmentation=form)["segm/AP"] == pytest.approx(1)


def test_score__keypoints(tmp_path):
    assert scored(tmp_path, keypoints=POINTS)["keypoints/AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    "entry, words",
    [
        ({"segmentation": mask(), "category_id": 9}, "category_id: no such id among the truth's categories"),
        ({"segmentation": mask((30, 30))}, "another size than their picture"),
        ({"segmentation": {"size": list(SIZE), "counts": "zz"}}, "another size than their picture"),
        ({"segmentation": {"size": list(SIZE), "counts": [3, 4]}}, "another size than their picture"),
        ({"segmentation": [[1.0, 1, 5, 5]]}, "fewer than 3 points"),
        ({"segmentation": [[1.0, 1, 5, 5, 9]]}, "neither polygons nor run lengths"),
        ({"segmentation": []}, "no mask"),
        ({"keypoints": POINTS[:6]}, "2 keypoints, where the category has 3"),
        ({"keypoints": POINTS[:5]}, "not three finite numbers for each keypoint"),
    ],
)
def test_score__a_fault_is_named(tmp_path, entry, words):
    with pytest.raises(DataError, match=words) as refusal:
        scored(tmp_path, **entry)
    assert "found.json: [0]." in str(refusal.value) and refusal.value.mend


def test_score__a_fault_of_the_truth_is_named(tmp_path):
    with pytest.raises(DataError, match=r"truth.json: annotations\[0\].segmentation: run lengths of another size"):
        scored(tmp_path, truth={"segmentation": mask((9, 50)) | {"size": [9, 50]}}, segmentation=mask())
