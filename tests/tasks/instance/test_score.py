"""Files of masks and keypoints: a fault is named, and never scores as a miss."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.ops.masks import encode
from densevision.results import Instances
from densevision.tasks.instance.metrics import InstanceMetric
from densevision.tasks.instance.scoring import open_files, score

SIZE = (40, 50)
POINTS = [12.0, 12, 2, 15, 15, 2, 20, 18, 1]
OUTLINE = [[10.0, 5, 30, 5, 30, 20, 10, 20]]


def mask(size=SIZE) -> dict:
    found = np.zeros(size, bool)
    found[5:20, 10:30] = True
    return encode(found)


def report(folder, *entries: dict, truth: dict | None = None, size: dict | None = None) -> dict:
    """The score of predictions of one image, whose truth is one object."""
    annotation = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 15], "area": 300, "iscrowd": 0}
    annotation |= {"segmentation": mask(), "keypoints": POINTS, "num_keypoints": 3, **(truth or {})}
    content = {
        "images": [{"id": 1, **({"height": SIZE[0], "width": SIZE[1]} if size is None else size)}],
        "categories": [{"id": 3, "name": "a", "keypoints": ["x", "y", "z"]}],
        "annotations": [annotation],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    predictions = [{"image_id": 1, "category_id": 3, "score": 0.9, **entry} for entry in entries]
    (folder / "found.json").write_text(json.dumps(predictions))
    return score(folder / "truth.json", folder / "found.json")


def scored(folder, truth: dict | None = None, **entry) -> dict[str, float]:
    return report(folder, entry, truth=truth)["metrics"]


@pytest.mark.parametrize("form", [mask(), OUTLINE], ids=["runs", "polygon"])
def test_score__masks_of_every_form(tmp_path, form):
    assert scored(tmp_path, segmentation=form)["segm/AP"] == pytest.approx(1)


def test_score__keypoints(tmp_path):
    assert scored(tmp_path, keypoints=POINTS)["keypoints/AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    "entry, words",
    [
        ({"segmentation": mask(), "category_id": 9}, "category_id: no such id among the truth's categories"),
        ({"segmentation": mask((30, 30))}, "another size than their image"),
        ({"segmentation": {"size": list(SIZE), "counts": "zz"}}, "another size than their image"),
        ({"segmentation": {"size": list(SIZE), "counts": [3, 4]}}, "another size than their image"),
        ({"segmentation": {"counts": [3, 4]}}, "run lengths without their size"),
        ({"segmentation": {"size": 40, "counts": [3, 4]}}, "run lengths without their size"),
        ({"segmentation": {"size": list(SIZE), "counts": [-5, 2005]}}, "another size than their image"),
        ({"note": "without any shape"}, "bbox: absent"),
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
    assert "found.json: [0]." in str(refusal.value) and refusal.value.hint


def test_score__a_fault_of_the_truth_is_named(tmp_path):
    with pytest.raises(DataError, match=r"truth.json: annotations\[0\].segmentation: run lengths of another size"):
        scored(tmp_path, truth={"segmentation": mask((9, 50)) | {"size": [9, 50]}}, segmentation=mask())


@pytest.mark.parametrize(
    "entry",
    [{"segmentation": mask()}, {"segmentation": OUTLINE}, {"keypoints": POINTS}],
    ids=["runs", "polygon", "keypoints"],
)
def test_score__predictions_without_boxes_are_counted(tmp_path, entry):
    found = report(tmp_path, entry, entry)
    assert found["counts"]["predictions"] == 2 and found["counts"]["images without predictions"] == 0
    assert not found["named"]


@pytest.mark.parametrize("key, value", [("segmentation", mask()), ("keypoints", POINTS), ("bbox", [10, 5, 20, 15])])
def test_score__what_any_entry_holds_is_judged_in_all(tmp_path, key, value):
    both = {"bbox": [10, 5, 20, 15], "segmentation": mask(), key: value}
    with pytest.raises(DataError, match=rf"found\.json: \[0\]\.{key}: absent"):
        report(tmp_path, {other: both[other] for other in both if other != key}, both, both)


@pytest.mark.parametrize(
    "size, words",
    [({}, "height: absent"), ({"height": 40}, "width: absent"), ({"height": 0, "width": 50}, r"height: .*\(got 0\)")],
)
@pytest.mark.parametrize("drawn", ["truth", "prediction"])
def test_score__polygons_of_a_image_without_size_are_refused(tmp_path, size, words, drawn):
    true, found = (OUTLINE, mask()) if drawn == "truth" else (mask(), OUTLINE)
    with pytest.raises(DataError, match=rf"truth\.json: images\[0\]\.{words}"):
        report(tmp_path, {"segmentation": found}, truth={"segmentation": true}, size=size)


def test_score__run_lengths_carry_their_size(tmp_path):
    assert report(tmp_path, {"segmentation": mask()}, size={})["metrics"]["segm/AP"] == pytest.approx(1)
    with pytest.raises(
        DataError, match=r"\[0\]\.segmentation: run lengths of another size than their size, or of none"
    ):
        report(tmp_path, {"segmentation": {"size": list(SIZE), "counts": [3, 4]}}, size={})


def test_score__a_folder_of_answers_is_judged_as_the_metric_judges_its_records(tmp_path):
    """Also where boxes lie in another class of sizes than their masks, and where joints are not COCO's 17."""
    rng, names, size = np.random.default_rng(0), ("a",), (120, 160)
    images, annotations, metric = [], [], InstanceMetric(names, ("bbox", "segm", "keypoints"), (1 / 3,) * 3)
    for number in range(1, 13):
        corner, side = rng.integers(0, 80, 2), int(rng.integers(34, 40))
        pixels = np.zeros(size, bool)
        pixels[corner[1] : corner[1] + side, corner[0] : corner[0] + side] = rng.random((side, side)) < 0.8
        box = np.array([[*corner, *(corner + side)]], np.float32)
        points = np.concatenate([rng.uniform(corner, corner + side, (3, 2)), np.full((3, 1), 2)], 1)[None]
        truth = Instances.of(box, [0], names, size, masks=(encode(pixels),), keypoints=points.astype(np.float32),
                             areas=np.array([float(pixels.sum())]))  # fmt: skip
        moved = truth.keypoints + np.float32([*rng.normal(0, 4, 2), 0])
        found = replace(truth, boxes=box + 2, scores=rng.random(1).astype(np.float32), keypoints=moved)
        answer = found if number % 4 else found[:0]
        metric.update(answer, truth, number)
        answer.save(tmp_path / "found" / f"{number}.json")
        (entry,) = truth.to_coco(number)
        images.append({"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1]})
        more = {"id": number, "iscrowd": 0, "area": float(truth.areas[0]), "num_keypoints": 3}
        annotations.append({**entry, **more})
    categories = [{"id": 1, "name": "a", "keypoints": ["x", "y", "z"]}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    wanted = metric.compute()
    assert 0 < wanted["keypoints/AP"] < 1 and wanted["segm/APs"] != wanted["segm/APm"]
    told = score(tmp_path / "truth.json", tmp_path / "found")
    assert told["metrics"] == pytest.approx(wanted, abs=1e-12, nan_ok=True)
    assert told["protocol"]["keypoints"]["sigmas"] == pytest.approx([1 / 3] * 3)
    paired = open_files(tmp_path / "truth.json", tmp_path / "found").report()
    assert paired["metrics"] == pytest.approx(wanted, abs=1e-12, nan_ok=True)
