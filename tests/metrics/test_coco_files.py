"""Scoring of COCO files: the report, and the field and value of each fault."""

from __future__ import annotations

import codecs
import json
import math
import os

import pytest

from densevision.errors import DataError, UsageError
from densevision.metrics import coco_files
from densevision.metrics.coco_files import score_files
from densevision.metrics.coco_reader import silence_hotcoco

TRUTH = {
    "images": [{"id": 7, "width": 100, "height": 80}, {"id": 3, "width": 100, "height": 80}, {"id": 5}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 20, "bbox": [1, 2, 30, 40], "area": 1200, "iscrowd": 0},
        {"id": 4, "image_id": 3, "category_id": 4, "bbox": [5, 5, 10, 10], "area": 100, "iscrowd": 0},
        {"id": 9, "image_id": 3, "category_id": 4, "bbox": [0, 0, 90, 90], "area": 8100, "iscrowd": 1},
    ],
    "categories": [{"id": 20, "name": "dog"}, {"id": 4, "name": "cat"}],
}
PREDICTIONS = [
    {"image_id": 7, "category_id": 20, "bbox": [1, 2, 30, 40], "score": 0.9},
    {"image_id": 3, "category_id": 4, "bbox": [50.5, 50, 10, 10], "score": 0.8},
]
MASK_ONLY = {"image_id": 3, "category_id": 4, "segmentation": {"size": [80, 100], "counts": "bn3:Tk3"}, "score": 0.8}
ABSENT = object()


@pytest.fixture
def files(tmp_path):
    """Writes the two files from data or text and returns their paths."""

    def write(truth=TRUTH, predictions=PREDICTIONS):
        paths = tmp_path / "gt.json", tmp_path / "dt.json"
        for path, data in zip(paths, (truth, predictions)):
            path.write_text(data if isinstance(data, str) else json.dumps(data))
        return paths

    return write


def change(data, *place_and_value):
    """A copy with one value replaced or removed."""
    copy = json.loads(json.dumps(data))
    *place, last, value = place_and_value
    parent = copy
    for step in place:
        parent = parent[step]
    if value is ABSENT:
        del parent[last]
    else:
        parent[last] = value
    return copy


def test_score_files__report(files):
    report = score_files(*files())
    assert report["counts"] == {
        "images": 3,
        "truths": 3,
        "crowd": 1,
        "predictions": 2,
        "images without objects": 1,
        "images without predictions": 1,
    }
    assert report["metrics"]["AP"] == pytest.approx(0.5)
    rows = report["tables"]["per class"]
    assert list(rows) == ["cat", "dog"] and rows["dog"]["AP"] == pytest.approx(1) and rows["cat"]["AP"] == 0
    assert report["protocol"]["max_detections"] == [1, 10, 100] and "deviation" not in report["protocol"]


def test_score_files__empty_predictions_score_zero(files):
    report = score_files(*files(predictions=[]))
    assert report["metrics"]["AP"] == 0 and report["counts"]["images without predictions"] == 3


def test_score_files__truth_without_objects_is_nan(files):
    metrics = score_files(*files(truth=dict(TRUTH, annotations=[])))["metrics"]
    assert all(math.isnan(number) for number in metrics.values())


def test_score_files__empty_dataset_is_nan(files):
    report = score_files(*files({"images": [], "annotations": [], "categories": []}, []))
    assert math.isnan(report["metrics"]["AP"]) and report["counts"]["images"] == 0


def test_score_files__classes_of_one_name(files):
    truth = change(TRUTH, "categories", 1, "name", "dog")
    assert list(score_files(*files(truth))["tables"]["per class"]) == ["dog (4)", "dog (20)"]


def test_score_files__dense_image(files):
    """300 objects that are all found: COCO evaluates 100 of them."""
    boxes = [[10 * (n % 20), 10 * (n // 20), 8, 8] for n in range(300)]
    entries = [{"image_id": 7, "category_id": 20, "bbox": box} for box in boxes]
    truth = TRUTH | {"annotations": [{"id": n, "area": 64, **entry} for n, entry in enumerate(entries, 1)]}
    paths = files(truth, [{"score": 1 - n / 1000, **entry} for n, entry in enumerate(entries)])
    usual, dense = score_files(*paths), score_files(*paths, max_detections=300)
    key = "predictions beyond 100 of a class in an image, not evaluated"
    assert usual["counts"][key] == 200 and not any("beyond" in name for name in dense["counts"])
    assert usual["metrics"]["AR100"] == pytest.approx(1 / 3) and usual["metrics"]["AP"] == pytest.approx(34 / 101)
    assert dense["metrics"]["AP"] == dense["metrics"]["AR300"] == pytest.approx(1)
    assert dense["metrics"]["AR10"] == pytest.approx(1 / 30) and "AR100" not in dense["metrics"]
    assert dense["protocol"]["max_detections"] == [1, 10, 300]


@pytest.mark.parametrize(
    "place",
    [("images", 0, "width"), ("images", 0, "file_name"), ("annotations", 0, "category_id"), ("annotations", 0, "area")],
)
def test_score_files__null_is_no_value(files, place):
    with pytest.raises(DataError) as error:
        score_files(*files(change(TRUTH, *place, None)))
    assert error.value.field == f"{place[0]}[{place[1]}].{place[2]}" and error.value.value is None


def test_score_files__annotation_zero_is_matched_and_reported(files):
    report = score_files(*files(change(TRUTH, "annotations", 0, "id", 0)))
    assert report["metrics"]["AP"] == pytest.approx(0.5) and "pycocotools" in report["protocol"]["deviation"]


@pytest.mark.parametrize(
    ("truth", "predictions"),
    [
        (change(TRUTH, "annotations", 0, "iscrowd", ABSENT), PREDICTIONS),
        (change(TRUTH, "annotations", 0, "bbox", [1, 2, 0, 40]), PREDICTIONS),
        (change(TRUTH, "annotations", 0, "bbox", [-1, -2, 30, 40]), PREDICTIONS),
        (TRUTH, change(PREDICTIONS, 0, "bbox", [-1, -2, 30, 40])),
        (TRUTH, change(PREDICTIONS, 0, "bbox", [1, 2, 0, 0.0])),
        (TRUTH, change(PREDICTIONS, 0, "bbox", [1, 2, 1e-5, 3])),
        (TRUTH, change(PREDICTIONS, 0, "bbox", [1, 2, 3, -0.0])),
        (TRUTH, change(PREDICTIONS, 0, "note", [-3, -4])),
        (TRUTH, change(PREDICTIONS, 0, "note", None)),
        (TRUTH, change(PREDICTIONS, 0, "score", -2)),
        (TRUTH, "\n" * 99 + json.dumps(PREDICTIONS, indent=2)),
    ],
)
def test_score_files__unusual_but_valid(files, truth, predictions):
    assert score_files(*files(truth, predictions))["counts"]["predictions"] == 2


@pytest.mark.parametrize(
    ("place", "value", "field", "problem"),
    [
        (("images",), ABSENT, "images", "no list of images"),
        (("annotations",), ABSENT, "annotations", "no list of annotations"),
        (("categories",), ABSENT, "categories", "no list of categories"),
        (("annotations",), None, "annotations", "no list of annotations"),
        (("images", 1, "id"), ABSENT, "images[1].id", "absent"),
        (("images", 1, "id"), 7, "images[1].id", "same id twice (got 7)"),
        (("images", 1, "id"), "x", "images[1].id", "not an id (got 'x')"),
        (("categories", 1, "id"), 20, "categories[1].id", "same id twice (got 20)"),
        (("annotations", 1), 5, "annotations[1]", "not an object (got 5)"),
        (("annotations", 1, "id"), ABSENT, "annotations[1].id", "absent"),
        (("annotations", 1, "id"), 1, "annotations[1].id", "same id twice (got 1)"),
        (("annotations", 1, "id"), -4, "annotations[1].id", "not an id (got -4)"),
        (("annotations", 1, "image_id"), ABSENT, "annotations[1].image_id", "absent"),
        (
            ("annotations", 1, "image_id"),
            99,
            "annotations[1].image_id",
            "ground truth's images (got 99). Known: 3, 5, 7",
        ),
        (
            ("annotations", 1, "category_id"),
            1,
            "annotations[1].category_id",
            "ground truth's categories (got 1). Known: 4, 20",
        ),
        (("annotations", 1, "bbox"), ABSENT, "annotations[1].bbox", "absent"),
        (("annotations", 1, "bbox"), None, "annotations[1].bbox", "not four finite numbers (got None)"),
        (("annotations", 1, "bbox"), [1, 2, 3], "annotations[1].bbox", "not four finite numbers (got [1, 2, 3])"),
        (("annotations", 1, "bbox"), [1, 2, -3, 4], "annotations[1].bbox", "negative width or height"),
        (("annotations", 1, "bbox"), [1, 2, -3, -4], "annotations[1].bbox", "negative width or height"),
        (("annotations", 1, "bbox"), [1, 2, math.nan, 4], "annotations[1].bbox", "finite numbers (got [1, 2, nan, 4])"),
        (("annotations", 1, "area"), ABSENT, "annotations[1].area", "absent"),
        (("annotations", 1, "area"), None, "annotations[1].area", "not a finite number (got None)"),
        (("annotations", 1, "area"), math.inf, "annotations[1].area", "not a finite number (got inf)"),
        (("annotations", 1, "area"), -1, "annotations[1].area", "negative (got -1)"),
        (("annotations", 1, "iscrowd"), None, "annotations[1].iscrowd", "(got None). Write 0 or 1."),
        (("annotations", 2, "iscrowd"), "1", "annotations[2].iscrowd", "(got '1'). Write 0 or 1."),
        (("annotations", 1, "segmentation"), {"counts": [5]}, "annotations[1].segmentation", "size [height, width]"),
        (("annotations", 1, "segmentation"), {"size": [2, 2], "counts": [-5, 9]}, "annotations[1].segmentation", "-5"),
        (("categories", 1, "name"), 5, "categories[1].name", "(got 5). Write a text."),
        (("categories", 1, "supercategory"), 5, "categories[1].supercategory", "hotcoco says: invalid type: integer"),
        (("images", 1, "width"), None, "images[1].width", "(got None). Write an integer number of pixels"),
        (("images", 2, "height"), 80.5, "images[2].height", "(got 80.5). Write an integer number of pixels"),
        (("licenses",), None, "licenses", "(got None)"),
    ],
)
def test_score_files__fault_in_the_truth(files, place, value, field, problem):
    with pytest.raises(DataError) as refusal:
        score_files(*files(change(TRUTH, *place, value)))
    message = str(refusal.value)
    assert "gt.json: " + field + ": " in message and problem in message and refusal.value.hint


@pytest.mark.parametrize(
    ("place", "value", "field", "problem"),
    [
        ((1,), None, "[1]", "not an object (got None)"),
        ((1, "image_id"), ABSENT, "[1].image_id", "absent"),
        ((1, "image_id"), 8, "[1].image_id", "no such id among the ground truth's images (got 8)"),
        ((1, "image_id"), "3", "[1].image_id", "not an id (got '3')"),
        ((1, "category_id"), ABSENT, "[1].category_id", "absent"),
        ((1, "category_id"), 0, "[1].category_id", "no such id among the ground truth's categories (got 0)"),
        ((1, "bbox"), ABSENT, "[1].bbox", "absent"),
        ((1, "bbox"), None, "[1].bbox", "not four finite numbers"),
        ((1, "bbox"), [1, 2, 3, 4, 5], "[1].bbox", "not four finite numbers"),
        ((1, "bbox"), [1, 2, math.nan, 4], "[1].bbox", "not four finite numbers"),
        ((1, "bbox"), [1, 2, -3, 4], "[1].bbox", "negative width or height (got [1, 2, -3, 4])"),
        ((1, "bbox"), [1, 2, 3, -4], "[1].bbox", "negative width or height"),
        ((1, "bbox"), [1, 2, -3e-05, -0.4], "[1].bbox", "negative width or height"),
        ((1, "score"), ABSENT, "[1].score", "absent"),
        ((1, "score"), None, "[1].score", "not a finite number"),
        ((1, "score"), math.nan, "[1].score", "not a finite number (got nan)"),
        ((1, "score"), -math.inf, "[1].score", "not a finite number (got -inf)"),
        ((1, "score"), "high", "[1].score", "not a finite number (got 'high')"),
        ((1, "segmentation"), {"size": [2, 2], "counts": [-5, 9]}, "[1].segmentation", "type that COCO does not have"),
        ((1,), MASK_ONLY, "[1].bbox", "absent"),
    ],
)
@pytest.mark.parametrize("chunk", [1 << 16, 5])
def test_score_files__fault_in_the_predictions(files, monkeypatch, chunk, place, value, field, problem):
    monkeypatch.setattr(coco_files, "CHUNK", chunk)
    with pytest.raises(DataError) as refusal:
        score_files(*files(predictions=change(PREDICTIONS, *place, value)))
    message = str(refusal.value)
    assert "dt.json: " + field + ": " in message and problem in message and refusal.value.hint


@pytest.mark.parametrize("text", ["", "{", '{"images": [{"id": 1', "\x00\x01", "[1, 2"])
@pytest.mark.parametrize("which", ["truth", "predictions"])
def test_score_files__broken_json(files, which, text):
    with pytest.raises(DataError, match=r"\.json: line 1, column \d+: not JSON"):
        score_files(*files(**{which: text}))


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_score_files__truth_that_is_not_coco(files, text):
    with pytest.raises(DataError, match=r"gt\.json: is not a COCO dataset"):
        score_files(*files(truth=text))


@pytest.mark.parametrize("text", ["3", "{}", json.dumps({"annotations": PREDICTIONS}), json.dumps(TRUTH)])
def test_score_files__predictions_that_are_no_list(files, text):
    with pytest.raises(DataError, match=r"dt\.json: is not a list of predictions"):
        score_files(*files(predictions=text))


def test_score_files__message_of_hotcoco_is_passed_on(files):
    text = json.dumps(PREDICTIONS).replace('"score": 0.8', '"score": 0.8, "score": 0.7')
    with pytest.raises(DataError, match=r"dt\.json: duplicate field `score`"):
        score_files(*files(predictions=text))


def test_score_files__first_of_several_wrong_types(files):
    first = TRUTH["annotations"][0]
    truth = change(TRUTH, "annotations", [dict(first, id=annotation_id) for annotation_id in range(1, 8)])
    for index in (4, 5):
        truth["annotations"][index] |= {"iscrowd": "no", "num_keypoints": "x"}
    with pytest.raises(DataError, match=r"annotations\[4\].iscrowd: .*\(got 'no'\)"):
        score_files(*files(truth))


def test_score_files__byte_order_mark_is_ignored(files):
    paths = files()
    plain = score_files(*paths)
    for path in paths:
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert score_files(*paths)["metrics"] == pytest.approx(plain["metrics"], nan_ok=True)
    paths[0].write_text(json.dumps(TRUTH), encoding="utf-16")
    with pytest.raises(DataError, match=r"gt\.json: not JSON: not text in UTF-8"):
        score_files(*paths)


def test_score_files__only_hotcoco_is_silenced(files, capfd):
    with pytest.raises(DataError):
        score_files(*files(predictions=change(PREDICTIONS, 1, "image_id", 99)))
    score_files(*files(change(TRUTH, "categories", 0, "name", "")))
    assert capfd.readouterr().err == ""
    with silence_hotcoco():
        os.write(2, b"hotcoco: a warning\nanother's\n")
    assert capfd.readouterr().err == "another's\n"


def test_score_files__missing_file_and_folder(files, tmp_path):
    truth, predictions = files()
    with pytest.raises(DataError, match=r"none\.json: cannot be read: No such file"):
        score_files(tmp_path / "none.json", predictions)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        score_files(truth, tmp_path)


def test_score_files__unknown_iou_type(files):
    with pytest.raises(UsageError, match="Did you mean 'segm'"):
        score_files(*files(), iou_type="seg")


def test_score_files__null_box_beside_a_mask(files):
    mask = {"size": [80, 100], "counts": [8, 4, 7988]}
    truth = change(change(TRUTH, "annotations", 0, "segmentation", mask), "annotations", 0, "bbox", None)
    with pytest.raises(DataError, match=r"annotations\[0\]\.bbox"):
        score_files(*files(truth))


def test_score_files__keypoint_truth_needs_a_box(files):
    keypoints = [10, 10, 2] * 17
    truth = json.loads(json.dumps(TRUTH))
    for entry in truth["annotations"]:
        entry |= {"keypoints": keypoints, "num_keypoints": 17}
    predictions = [{"image_id": 7, "category_id": 20, "keypoints": keypoints, "score": 0.9}]
    assert score_files(*files(truth, predictions), iou_type="keypoints")["counts"]["predictions"] == 1
    del truth["annotations"][1]["bbox"]
    with pytest.raises(DataError, match=r"annotations\[1\]\.bbox"):
        score_files(*files(truth, predictions), iou_type="keypoints")


def test_score_files__text_image_ids_in_both_files(files):
    """As pycocotools, which takes any id: the same numbers as with integers."""
    truth, predictions = json.loads(json.dumps([TRUTH, PREDICTIONS]))
    for entry in truth["images"]:
        entry["id"] = f"image {entry['id']}"
    for entry in (*truth["annotations"], *predictions):
        entry["image_id"] = f"image {entry['image_id']}"
    expected = score_files(*files())
    assert score_files(*files(truth, predictions))["metrics"] == pytest.approx(expected["metrics"], nan_ok=True)
    predictions[1]["image_id"] = "image 8"
    with pytest.raises(DataError, match=r"dt\.json: \[1\]\.image_id"):
        score_files(*files(truth, predictions))
    truth["annotations"][0]["bbox"] = None
    with pytest.raises(DataError, match=r"gt\.json: annotations\[0\]"):
        score_files(*files(truth, predictions))


@pytest.mark.parametrize("key", ["info", "licenses"])
@pytest.mark.parametrize("value", ["text", 3, {"year": "2020", "version": 1.0}])
def test_score_files__keys_that_no_metric_uses(files, key, value):
    expected = score_files(*files())["metrics"]
    assert score_files(*files(TRUTH | {key: value}))["metrics"] == pytest.approx(expected, nan_ok=True)


def test_score_files__predictions_beyond_the_limit_are_counted(files):
    """COCO evaluates the best 100 of each class in an image: 130 cats leave 30 out, 90 dogs none."""
    many = [{"image_id": 3, "category_id": 4, "bbox": [row, 0, 10, 10], "score": 0.5} for row in range(130)]
    many += [{"image_id": 3, "category_id": 20, "bbox": [row, 0, 10, 10], "score": 0.5} for row in range(90)]
    counts = score_files(*files(predictions=many))["counts"]
    assert [count for name, count in counts.items() if "beyond" in name] == [30]
    assert not any("beyond" in name for name in score_files(*files())["counts"])
