"""Scoring of result files with masks and keypoints: invalid entries are errors and never count as misses."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import densevision
from densevision.errors import DataError, UsageError
from densevision.evaluation.report import Report
from densevision.ops.masks import encode
from densevision.results import Instances
from densevision.tasks.instance.metrics import InstanceMetric
from densevision.tasks.instance.scoring import open_files, score

SIZE = (40, 50)
POINTS = [12.0, 12, 2, 15, 15, 2, 20, 18, 1]
OUTLINE = [[10.0, 5, 30, 5, 30, 20, 10, 20]]


def mask(size=SIZE) -> dict:
    dense = np.zeros(size, bool)
    dense[5:20, 10:30] = True
    return encode(dense)


def report(
    folder, *entries: dict, truth: dict | None = None, size: dict | None = None, overrides: dict | None = None
) -> Report:
    """The score of predictions for one image, whose ground truth is one object."""
    annotation = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 5, 20, 15], "area": 300, "iscrowd": 0}
    annotation |= {"segmentation": mask(), "keypoints": POINTS, "num_keypoints": 3, **(truth or {})}
    content = {
        "images": [{"id": 1, **({"height": SIZE[0], "width": SIZE[1]} if size is None else size)}],
        "categories": [{"id": 3, "name": "a", "keypoints": ["x", "y", "z"]}],
        "annotations": [annotation],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    predictions = [{"image_id": 1, "category_id": 3, "score": 0.9, **entry} for entry in entries]
    (folder / "predictions.json").write_text(json.dumps(predictions))
    return densevision.score("instance", folder / "truth.json", folder / "predictions.json", overrides=overrides)


def test_score__sigmas(tmp_path):
    """One keypoint is 3 pixels off, in an object of 300 square pixels: OKS by COCO's formula."""
    moved = {"keypoints": [POINTS[0] + 3, *POINTS[1:]]}
    for sigma in (0.05, 0.02):
        oks = (np.exp(-9 / (2 * 300 * (2 * sigma) ** 2)) + 2) / 3
        result = report(tmp_path, moved, overrides={"sigmas": [sigma, 0.1, 0.1]})
        assert result.metrics["keypoints/AP"] == pytest.approx(np.mean(np.arange(0.5, 1, 0.05) <= oks))
        assert result.protocol["keypoints"]["sigmas"] == [sigma, 0.1, 0.1]


@pytest.mark.parametrize(
    "entry, overrides, field",
    [
        ({"keypoints": POINTS}, {"sigmas": [0.1, 0.1]}, "sigmas"),
        ({"keypoints": POINTS}, {"sigmas": [0.1, 0.1, 0]}, "sigmas.2"),
        ({"segmentation": mask()}, {"sigmas": [0.1, 0.1, 0.1]}, "sigmas"),
        ({"keypoints": POINTS}, {"evaluation.max_detections": 300}, "evaluation.max_detections"),
        ({"segmentation": mask()}, {"evaluation.max_detections": 10}, "evaluation.max_detections"),
    ],
)
def test_score__options_without_effect_or_sense(tmp_path, entry, overrides, field):
    with pytest.raises(UsageError) as error:
        report(tmp_path, entry, overrides=overrides)
    assert error.value.field == field


def test_score__max_detections_of_masks(tmp_path):
    """A hundred strong false predictions before the right one."""
    wrong = np.zeros(SIZE, bool)
    wrong[30:, 40:] = True
    entries = [{"segmentation": encode(wrong)}] * 100 + [{"segmentation": mask(), "score": 0.1}]
    usual = report(tmp_path, *entries)
    more = report(tmp_path, *entries, overrides={"evaluation.max_detections": 101})
    assert usual.metrics["segm/AP"] == 0 and more.metrics["segm/AP"] == pytest.approx(1 / 101)
    assert usual.counts["predictions beyond 100 of a class in an image, not evaluated"] == 1
    assert more.protocol["segm"]["max_detections"] == [1, 10, 101] and more.metrics["segm/AR101"] == 1


def compute_score(folder, truth: dict | None = None, **entry) -> dict[str, float]:
    return report(folder, entry, truth=truth).metrics


@pytest.mark.parametrize("form", [mask(), OUTLINE], ids=["runs", "polygon"])
def test_score__masks_of_every_form(tmp_path, form):
    assert compute_score(tmp_path, segmentation=form)["segm/AP"] == pytest.approx(1)


def test_score__keypoints(tmp_path):
    assert compute_score(tmp_path, keypoints=POINTS)["keypoints/AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    "entry, field",
    [
        ({"segmentation": mask(), "category_id": 9}, "category_id"),
        ({"segmentation": mask((30, 30))}, "segmentation"),
        ({"segmentation": {"size": list(SIZE), "counts": "zz"}}, "segmentation"),
        ({"segmentation": {"size": list(SIZE), "counts": [3, 4]}}, "segmentation"),
        ({"segmentation": {"counts": [3, 4]}}, "segmentation"),
        ({"segmentation": {"size": 40, "counts": [3, 4]}}, "segmentation"),
        ({"segmentation": {"size": list(SIZE), "counts": [-5, 2005]}}, "segmentation"),
        ({"note": "without any geometry"}, "bbox"),
        ({"segmentation": [[1.0, 1, 5, 5]]}, "segmentation"),
        ({"segmentation": [[1.0, 1, 5, 5, 9]]}, "segmentation"),
        ({"segmentation": []}, "segmentation"),
        ({"keypoints": POINTS[:6]}, "keypoints"),
        ({"keypoints": POINTS[:5]}, "keypoints"),
    ],
)
def test_score__invalid_prediction_names_file_and_field(tmp_path, entry, field):
    with pytest.raises(DataError) as error:
        compute_score(tmp_path, **entry)
    assert error.value.field.startswith(f"[0].{field}") and "predictions.json" in str(error.value.file)
    assert error.value.hint


def test_score__invalid_ground_truth_names_file_and_field(tmp_path):
    with pytest.raises(DataError) as error:
        compute_score(tmp_path, truth={"segmentation": mask((9, 50)) | {"size": [9, 50]}}, segmentation=mask())
    assert error.value.field == "annotations[0].segmentation" and "truth.json" in str(error.value.file)


@pytest.mark.parametrize(
    "entry",
    [{"segmentation": mask()}, {"segmentation": OUTLINE}, {"keypoints": POINTS}],
    ids=["runs", "polygon", "keypoints"],
)
def test_score__predictions_without_boxes_are_counted(tmp_path, entry):
    result = report(tmp_path, entry, entry)
    assert result.counts["predictions"] == 2 and result.counts["images without predictions"] == 0
    assert not result.named


@pytest.mark.parametrize("key, value", [("segmentation", mask()), ("keypoints", POINTS), ("bbox", [10, 5, 20, 15])])
def test_score__geometry_of_one_entry_is_required_of_all(tmp_path, key, value):
    both = {"bbox": [10, 5, 20, 15], "segmentation": mask(), key: value}
    with pytest.raises(DataError) as error:
        report(tmp_path, {other: both[other] for other in both if other != key}, both, both)
    assert error.value.field == f"[0].{key}"


@pytest.mark.parametrize(
    "size, field", [({}, "height"), ({"height": 40}, "width"), ({"height": 0, "width": 50}, "height")]
)
@pytest.mark.parametrize("polygons", ["truth", "predictions"])
def test_score__polygons_need_the_size_of_their_image(tmp_path, size, field, polygons):
    truth, prediction = (OUTLINE, mask()) if polygons == "truth" else (mask(), OUTLINE)
    with pytest.raises(DataError) as error:
        report(tmp_path, {"segmentation": prediction}, truth={"segmentation": truth}, size=size)
    assert error.value.field == f"images[0].{field}" and "truth.json" in str(error.value.file)


def test_score__run_lengths_have_their_own_size(tmp_path):
    assert report(tmp_path, {"segmentation": mask()}, size={}).metrics["segm/AP"] == pytest.approx(1)
    with pytest.raises(DataError) as error:
        report(tmp_path, {"segmentation": {"size": list(SIZE), "counts": [3, 4]}}, size={})
    assert error.value.field == "[0].segmentation"


def test_score__folder_of_records_equals_the_metric(tmp_path):
    """Also if boxes and masks fall into different size ranges, and if keypoints are not COCO's 17."""
    rng, names, size = np.random.default_rng(0), ("a",), (120, 160)
    images, annotations, metric = [], [], InstanceMetric(names, ("bbox", "segm", "keypoints"), (1 / 3,) * 3)
    for number in range(1, 13):
        corner, side = rng.integers(0, 80, 2), int(rng.integers(34, 40))
        pixels = np.zeros(size, bool)
        pixels[corner[1] : corner[1] + side, corner[0] : corner[0] + side] = rng.random((side, side)) < 0.8
        box = np.array([[*corner, *(corner + side)]], np.float32)
        points = np.concatenate([rng.uniform(corner, corner + side, (3, 2)), np.full((3, 1), 2)], 1)[None]
        truth = Instances.from_arrays(
            box,
            [0],
            names,
            size,
            masks=(encode(pixels),),
            keypoints=points.astype(np.float32),
            areas=np.array([float(pixels.sum())]),
        )
        moved = truth.keypoints + np.float32([*rng.normal(0, 4, 2), 0])
        prediction = replace(truth, boxes=box + 2, scores=rng.random(1).astype(np.float32), keypoints=moved)
        prediction = prediction if number % 4 else prediction[:0]
        metric.update(prediction, truth, number)
        prediction.save(tmp_path / "predictions" / f"{number}.json")
        (entry,) = truth.to_coco(number)
        images.append({"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1]})
        fields = {"id": number, "iscrowd": 0, "area": float(truth.areas[0]), "num_keypoints": 3}
        annotations.append({**entry, **fields})
    categories = [{"id": 1, "name": "a", "keypoints": ["x", "y", "z"]}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    expected = metric.compute()
    assert 0 < expected["keypoints/AP"] < 1 and expected["segm/APs"] != expected["segm/APm"]
    scored = score(tmp_path / "truth.json", tmp_path / "predictions")
    assert scored["metrics"] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert scored["protocol"]["keypoints"]["sigmas"] == pytest.approx([1 / 3] * 3)
    paired = open_files(tmp_path / "truth.json", tmp_path / "predictions").report()
    assert paired["metrics"] == pytest.approx(expected, abs=1e-12, nan_ok=True)
