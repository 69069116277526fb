"""Folders of answers as COCO results: the same numbers as of one file, and every fault named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.metrics.coco_predictions import as_results
from densevision.ops.masks import encode
from densevision.results import Detections, Instances
from densevision.tasks.detection.scoring import open_files, score
from densevision.tasks.instance.scoring import score as score_instances

SIZE = (60, 80)
NAMES = ("cat", "dog")
IDS = {"cat": 9, "dog": 4}
"""Of the truth; the answers count otherwise."""


def objects(rng: np.random.Generator, count: int = 6) -> dict[str, np.ndarray]:
    corners, sides = rng.uniform(0, 40, (count, 2)), rng.uniform(4, 20, (count, 2))
    boxes = np.concatenate([corners, corners + sides], 1).astype(np.float32)
    return {"boxes": boxes, "labels": rng.integers(0, 2, count), "scores": rng.uniform(0, 1, count).astype(np.float32)}


def write_truth(path: Path, records: dict[str, Detections]) -> Path:
    """COCO json in which images are called as the records are, with a suffix."""
    images, annotations = [], []
    for number, (name, record) in enumerate(records.items(), 5):
        images.append({"id": number, "file_name": f"{name}.jpg", "height": SIZE[0], "width": SIZE[1]})
        for entry in record.to_coco(number):
            box = entry["bbox"]
            named = {"id": len(annotations) + 1, "category_id": IDS[NAMES[entry["category_id"] - 1]], "iscrowd": 0}
            annotations.append({**entry, **named, "area": box[2] * box[3]})
    categories = [{"id": id, "name": name} for name, id in IDS.items()]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    records = {name: Detections(**objects(rng), names=NAMES, size=SIZE) for name in ("x/a", "y/a", "b")}
    return write_truth(tmp_path / "truth.json", records)


@pytest.fixture
def found() -> dict[str, Detections]:
    """Answers whose boxes are near the truth's, and whose classes are in another order."""
    rng = np.random.default_rng(0)
    answers = {}
    for name in ("x/a", "y/a", "b"):
        values = objects(rng)
        values["boxes"] = values["boxes"] + np.linspace(0, 3, 6, dtype=np.float32)[:, None]
        values["labels"] = 1 - values["labels"]
        answers[name] = Detections(**values, names=NAMES[::-1], size=SIZE)
    return answers


def saved(folder: Path, answers: dict[str, Detections]) -> Path:
    for name, answer in answers.items():
        answer.save(folder / f"{name}.json")
    return folder


def test_folder__gives_the_numbers_of_one_file(truth, found, tmp_path) -> None:
    rows = []
    for image, answer in enumerate(found.values(), 5):
        rows += [row | {"category_id": IDS[NAMES[2 - row["category_id"]]]} for row in answer.to_coco(image)]
    file = tmp_path / "results.json"
    file.write_text(json.dumps(rows))
    wanted = score(truth, file)
    folder = saved(tmp_path / "found", found)
    assert 0.2 < wanted["metrics"]["AP"] < 0.95
    for report in (score(truth, folder), open_files(truth, folder).report()):
        assert report["metrics"] == pytest.approx(wanted["metrics"], nan_ok=True, abs=1e-12)
        assert report["counts"] == wanted["counts"] and report["named"] == wanted["named"]


def test_folder__classes_without_names_go_by_their_ids(truth, found, tmp_path) -> None:
    wanted = score(truth, saved(tmp_path / "found", found))
    told = json.loads(truth.read_text())
    for category in told["categories"]:
        del category["name"]
    truth.write_text(json.dumps(told))
    renamed = {
        name: replace(answer, names=[f"cat_{IDS[NAMES[1 - row]]}" for row in (0, 1)]) for name, answer in found.items()
    }
    folder = saved(tmp_path / "renamed", renamed)
    for report in (score(truth, folder), open_files(truth, folder).report()):
        assert report["metrics"] == pytest.approx(wanted["metrics"], nan_ok=True, abs=1e-12)


def test_folder__names_alone_are_enough_where_they_tell_images_apart(truth, found, tmp_path) -> None:
    folder = saved(tmp_path / "found", {"elsewhere/b": found["b"], "x/a": found["x/a"]})
    report = score(truth, folder)
    assert report["counts"]["predictions"] == 12 and report["named"]["images without predictions"] == ["y/a.jpg"]


def test_folder__folders_before_and_behind_are_left_aside(truth, found, tmp_path) -> None:
    told = json.loads(truth.read_text())
    for image in told["images"]:
        image["file_name"] = f"val/{image['file_name']}"
    wanted = score(truth, saved(tmp_path / "found", found))["metrics"]
    below = tmp_path / "below.json"
    below.write_text(json.dumps(told))
    assert score(below, tmp_path / "found")["metrics"] == pytest.approx(wanted, nan_ok=True, abs=1e-12)
    above = saved(tmp_path / "above", {f"images/{name}": answer for name, answer in found.items()})
    assert score(truth, above)["metrics"] == pytest.approx(wanted, nan_ok=True, abs=1e-12)


def test_folder__images_that_differ_by_their_suffix_alone(truth, found, tmp_path) -> None:
    told = json.loads(truth.read_text())
    told["images"][1]["file_name"] = "x/a.png"
    truth.write_text(json.dumps(told))
    with pytest.raises(DataError, match="several images of the truth have this name") as failure:
        score(truth, saved(tmp_path / "found", found))
    assert failure.value.file.name == "a.json" and failure.value.hint


def test_folder__classes_of_one_name_go_by_their_ids(truth, found, tmp_path) -> None:
    wanted = score(truth, saved(tmp_path / "found", found))["metrics"]
    told = json.loads(truth.read_text())
    for category in told["categories"]:
        category["name"] = "pet"
    truth.write_text(json.dumps(told))
    ids = tuple(IDS[name] for name in NAMES[::-1])
    alike = {name: replace(answer, names=("pet", "pet"), ids=ids) for name, answer in found.items()}
    assert score(truth, saved(tmp_path / "alike", alike))["metrics"] == pytest.approx(wanted, nan_ok=True, abs=1e-12)
    with pytest.raises(DataError, match="several classes of the truth have this name"):
        score(truth, saved(tmp_path / "none", {"b": replace(alike["b"], ids=None)}))


def test_folder__answers_without_truth_are_counted_and_named(truth, found, tmp_path) -> None:
    folder = saved(tmp_path / "found", found | {"c": found["b"], "z/a": found["b"]})
    report = score(truth, folder)
    assert report["named"]["predictions without truth"] == ["c", "z/a"]
    assert report["counts"]["predictions without truth"] == 2 and report["counts"]["predictions"] == 18


def test_folder__masks_and_keypoints_are_carried(tmp_path) -> None:
    rng = np.random.default_rng(3)
    values = objects(rng)
    masks = tuple(encode(rng.random(SIZE) < 0.5) for _ in values["boxes"])
    points = np.concatenate([rng.uniform(0, 60, (6, 3, 2)), np.full((6, 3, 1), 2)], 2).astype(np.float32)
    record = Instances(**values, names=NAMES, size=SIZE, masks=masks, keypoints=points)
    answers = {"a": record[:0], "b": record}
    with as_results(saved(tmp_path / "found", answers), write_truth(tmp_path / "truth.json", answers)) as (
        file,
        strangers,
    ):
        rows = json.loads(file.read_text())
    assert strangers == [] and [row["segmentation"] for row in rows] == list(masks)
    assert np.array([row["keypoints"] for row in rows]) == pytest.approx(points.reshape(6, -1).astype(float))


def test_folder__true_masks_are_perfect(tmp_path) -> None:
    values = objects(np.random.default_rng(4))
    pixels = np.indices(SIZE)
    inside = [
        (pixels[1] >= x1) & (pixels[1] < x2) & (pixels[0] >= y1) & (pixels[0] < y2)
        for x1, y1, x2, y2 in values["boxes"]
    ]
    record = Instances(**values, names=NAMES, size=SIZE, masks=tuple(map(encode, inside)))
    found = saved(tmp_path / "found", {"b": record})
    report = score_instances(write_truth(tmp_path / "truth.json", {"b": record}), found)
    assert report["metrics"]["segm/AP"] == pytest.approx(1) and report["metrics"]["bbox/AP"] == pytest.approx(1)


def test_file__is_passed_on(truth, tmp_path) -> None:
    with as_results(tmp_path / "results.json", truth) as (file, strangers):
        assert file == tmp_path / "results.json" and strangers == []


def spoilt(folder: Path, **changes) -> None:
    file = folder / "b.json"
    values = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


@pytest.mark.parametrize(
    ("fault", "words"),
    {
        "class": (lambda folder: spoilt(folder, names=["cat", "horse"]), ["b.json", "names", "horse", "cat, dog"]),
        "foreign": (lambda folder: spoilt(folder, scores=None), ["b.json", "scores", "--save json"]),
        "list": (lambda folder: (folder / "b.json").write_text("[]"), ["b.json", "no answer of predict"]),
        "cut": (lambda folder: (folder / "b.json").write_text("{"), ["b.json", "cannot be read"]),
        "twice": (lambda folder: (folder / "b.json").rename(folder / "x/b.json") and saved_again(folder), ["second"]),
    }.values(),
)
def test_folder__fault_is_named(fault, words, truth, found, tmp_path) -> None:
    folder = saved(tmp_path / "found", found)
    fault(folder)
    with pytest.raises(DataError) as failure:
        score(truth, folder)
    assert all(word in str(failure.value) for word in words)


def saved_again(folder: Path) -> None:
    (folder / "b.json").write_bytes((folder / "x/b.json").read_bytes())


def test_folder__that_answers_nothing_is_refused(truth, found, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.json"):
        score(truth, tmp_path / "empty")
    with pytest.raises(DataError, match="no answer has the name"):
        score(truth, saved(tmp_path / "found", {"c": found["b"]}))
