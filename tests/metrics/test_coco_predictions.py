"""Folders of predictions as COCO results: the same metrics as from one file, and every fault reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.metrics.coco_predictions import open_coco_results
from densevision.ops.masks import encode
from densevision.results import Detections, Instances
from densevision.tasks.detection.scoring import open_files, score
from densevision.tasks.instance.scoring import score as score_instances

SIZE = (60, 80)
NAMES = ("cat", "dog")
IDS = {"cat": 9, "dog": 4}
"""Category ids of the ground truth; those of the predictions differ."""


def draw_objects(rng: np.random.Generator, count: int = 6) -> dict[str, np.ndarray]:
    corners, sides = rng.uniform(0, 40, (count, 2)), rng.uniform(4, 20, (count, 2))
    boxes = np.concatenate([corners, corners + sides], 1).astype(np.float32)
    return {"boxes": boxes, "labels": rng.integers(0, 2, count), "scores": rng.uniform(0, 1, count).astype(np.float32)}


def write_truth(path: Path, records: dict[str, Detections]) -> Path:
    """COCO json whose images have the names of the records, with a suffix."""
    images, annotations = [], []
    for number, (name, record) in enumerate(records.items(), 5):
        images.append({"id": number, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
        for entry in record.to_coco(number):
            box = entry["bbox"]
            named = {"id": len(annotations) + 1, "category_id": IDS[NAMES[entry["category_id"] - 1]], "iscrowd": 0}
            annotations.append({**entry, **named, "area": box[2] * box[3]})
    categories = [{"id": category_id, "name": name} for name, category_id in IDS.items()]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    records = {name: Detections(**draw_objects(rng), names=NAMES, size=SIZE) for name in ("x/a", "y/a", "b")}
    return write_truth(tmp_path / "truth.json", records)


@pytest.fixture
def predictions() -> dict[str, Detections]:
    """Predictions whose boxes are near the ground truth, and whose classes are in another order."""
    rng = np.random.default_rng(0)
    records = {}
    for name in ("x/a", "y/a", "b"):
        values = draw_objects(rng)
        values["boxes"] = values["boxes"] + np.linspace(0, 3, 6, dtype=np.float32)[:, None]
        values["labels"] = 1 - values["labels"]
        records[name] = Detections(**values, names=NAMES[::-1], size=SIZE)
    return records


def save(folder: Path, records: dict[str, Detections]) -> Path:
    for name, record in records.items():
        record.save(folder / f"{name}.json")
    return folder


def test_folder__equals_one_file(truth, predictions, tmp_path) -> None:
    rows = []
    for image, record in enumerate(predictions.values(), 5):
        rows += [row | {"category_id": IDS[NAMES[2 - row["category_id"]]]} for row in record.to_coco(image)]
    file = tmp_path / "results.json"
    file.write_text(json.dumps(rows))
    expected = score(truth, file)
    folder = save(tmp_path / "predictions", predictions)
    assert 0.2 < expected["metrics"]["AP"] < 0.95
    for report in (score(truth, folder), open_files(truth, folder).report()):
        assert report["metrics"] == pytest.approx(expected["metrics"], nan_ok=True, abs=1e-12)
        assert report["counts"] == expected["counts"] and report["named"] == expected["named"]


def test_folder__classes_without_names_go_by_their_ids(truth, predictions, tmp_path) -> None:
    expected = score(truth, save(tmp_path / "predictions", predictions))
    dataset = json.loads(truth.read_text())
    for category in dataset["categories"]:
        del category["name"]
    truth.write_text(json.dumps(dataset))
    renamed = {
        name: replace(record, names=[f"cat_{IDS[NAMES[1 - row]]}" for row in (0, 1)])
        for name, record in predictions.items()
    }
    folder = save(tmp_path / "renamed", renamed)
    for report in (score(truth, folder), open_files(truth, folder).report()):
        assert report["metrics"] == pytest.approx(expected["metrics"], nan_ok=True, abs=1e-12)


def test_folder__unambiguous_names(truth, predictions, tmp_path) -> None:
    folder = save(tmp_path / "predictions", {"elsewhere/b": predictions["b"], "x/a": predictions["x/a"]})
    report = score(truth, folder)
    assert report["counts"]["predictions"] == 12 and report["named"]["images without predictions"] == ["y/a.jpg"]


def test_folder__parent_folders_are_ignored(truth, predictions, tmp_path) -> None:
    dataset = json.loads(truth.read_text())
    for image in dataset["images"]:
        image["file_name"] = f"val/{image['file_name']}"
    expected = score(truth, save(tmp_path / "predictions", predictions))["metrics"]
    below = tmp_path / "below.json"
    below.write_text(json.dumps(dataset))
    assert score(below, tmp_path / "predictions")["metrics"] == pytest.approx(expected, nan_ok=True, abs=1e-12)
    above = save(tmp_path / "above", {f"images/{name}": record for name, record in predictions.items()})
    assert score(truth, above)["metrics"] == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_folder__images_that_differ_in_suffix(truth, predictions, tmp_path) -> None:
    dataset = json.loads(truth.read_text())
    dataset["images"][1]["file_name"] = "x/a.png"
    truth.write_text(json.dumps(dataset))
    with pytest.raises(DataError, match="several images") as failure:
        score(truth, save(tmp_path / "predictions", predictions))
    assert failure.value.file.name == "a.json" and failure.value.hint


def test_folder__classes_of_one_name_go_by_their_ids(truth, predictions, tmp_path) -> None:
    expected = score(truth, save(tmp_path / "predictions", predictions))["metrics"]
    dataset = json.loads(truth.read_text())
    for category in dataset["categories"]:
        category["name"] = "pet"
    truth.write_text(json.dumps(dataset))
    ids = tuple(IDS[name] for name in NAMES[::-1])
    same_name = {name: replace(record, names=("pet", "pet"), category_ids=ids) for name, record in predictions.items()}
    assert score(truth, save(tmp_path / "same_name", same_name))["metrics"] == pytest.approx(
        expected, nan_ok=True, abs=1e-12
    )
    with pytest.raises(DataError, match="several classes"):
        score(truth, save(tmp_path / "none", {"b": replace(same_name["b"], category_ids=None)}))


def test_folder__predictions_without_truth_are_listed(truth, predictions, tmp_path) -> None:
    folder = save(tmp_path / "predictions", predictions | {"c": predictions["b"], "z/a": predictions["b"]})
    report = score(truth, folder)
    assert report["named"]["predictions without truth"] == ["c", "z/a"]
    assert report["counts"]["predictions without truth"] == 2 and report["counts"]["predictions"] == 18


def test_folder__masks_and_keypoints(tmp_path) -> None:
    rng = np.random.default_rng(3)
    values = draw_objects(rng)
    masks = tuple(encode(rng.random(SIZE) < 0.5) for _ in values["boxes"])
    points = np.concatenate([rng.uniform(0, 60, (6, 3, 2)), np.full((6, 3, 1), 2)], 2).astype(np.float32)
    record = Instances(**values, names=NAMES, size=SIZE, masks=masks, keypoints=points)
    records = {"a": record[:0], "b": record}
    with open_coco_results(save(tmp_path / "predictions", records), write_truth(tmp_path / "truth.json", records)) as (
        file,
        unlabeled,
    ):
        rows = json.loads(file.read_text())
    assert unlabeled == [] and [row["segmentation"] for row in rows] == list(masks)
    assert np.array([row["keypoints"] for row in rows]) == pytest.approx(points.reshape(6, -1).astype(float))


def test_folder__true_masks(tmp_path) -> None:
    values = draw_objects(np.random.default_rng(4))
    pixels = np.indices(SIZE)
    inside = [
        (pixels[1] >= x1) & (pixels[1] < x2) & (pixels[0] >= y1) & (pixels[0] < y2)
        for x1, y1, x2, y2 in values["boxes"]
    ]
    record = Instances(**values, names=NAMES, size=SIZE, masks=tuple(map(encode, inside)))
    predictions = save(tmp_path / "predictions", {"b": record})
    report = score_instances(write_truth(tmp_path / "truth.json", {"b": record}), predictions)
    assert report["metrics"]["segm/AP"] == pytest.approx(1) and report["metrics"]["bbox/AP"] == pytest.approx(1)


def test_file__is_used_directly(truth, tmp_path) -> None:
    with open_coco_results(tmp_path / "results.json", truth) as (file, unlabeled):
        assert file == tmp_path / "results.json" and unlabeled == []


def change_file(folder: Path, **changes) -> None:
    file = folder / "b.json"
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


@pytest.mark.parametrize(
    ("fault", "words"),
    {
        "class": (lambda folder: change_file(folder, names=["cat", "horse"]), ["b.json", "names", "horse", "cat, dog"]),
        "foreign": (lambda folder: change_file(folder, scores=None), ["b.json", "scores", "--save json"]),
        "list": (lambda folder: (folder / "b.json").write_text("[]"), ["b.json", "not an output of predict"]),
        "cut": (lambda folder: (folder / "b.json").write_text("{"), ["b.json", "cannot be read"]),
        "twice": (lambda folder: (folder / "b.json").rename(folder / "x/b.json") and copy_back(folder), ["second"]),
    }.values(),
)
def test_folder__fault(fault, words, truth, predictions, tmp_path) -> None:
    folder = save(tmp_path / "predictions", predictions)
    fault(folder)
    with pytest.raises(DataError) as failure:
        score(truth, folder)
    assert all(word in str(failure.value) for word in words)


def copy_back(folder: Path) -> None:
    (folder / "b.json").write_bytes((folder / "x/b.json").read_bytes())


def test_folder__without_matching_files(truth, predictions, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.json"):
        score(truth, tmp_path / "empty")
    with pytest.raises(DataError, match="no prediction has the name"):
        score(truth, save(tmp_path / "predictions", {"c": predictions["b"]}))
