"""COCO JSON: equality with pycocotools, every kind of invalid entry, and memory."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from densevision.datasets.formats.coco import list_first_files, read_categories, read_coco
from densevision.errors import DataError
from densevision.io.image import write_image
from densevision.io.json_stream import stream_json
from densevision.io.label_issues import IssueKind, LabelIssues

CLEAN = {
    "images": [
        {"id": 12, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 7, "file_name": "sub/b.png", "width": 20, "height": 50},
        {"id": 9, "file_name": "empty.png", "width": 8, "height": 8},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1, 2, 10.5, 20.25], "area": 99.5, "iscrowd": 0},
        {"id": 2, "image_id": 12, "category_id": 3, "bbox": [0, 0, 40, 30], "iscrowd": 1, "area": 7},
        {"id": 3, "image_id": 12, "category_id": 90, "bbox": [39, 29, 1, 1]},
    ],
    "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
}


@pytest.fixture
def dataset(tmp_path):
    """Returns a function that writes a JSON (a changed copy of CLEAN) and its images, and returns the path."""

    def write(change=lambda data: None, text=None):
        data = json.loads(json.dumps(CLEAN))
        change(data)
        for entry in CLEAN["images"]:
            image = tmp_path / "images" / entry["file_name"]
            image.parent.mkdir(exist_ok=True, parents=True)
            write_image(image, np.zeros((entry["height"], entry["width"], 3), np.uint8))
        file = tmp_path / "labels.json"
        file.write_text(json.dumps(data) if text is None else text)
        return file

    return write


def read(file, on_error="fail", **options):
    issues = LabelIssues(on_error)
    return read_coco(file, file.parent / "images", issues, **options), issues


def test_read__clean_dataset_has_no_issues(dataset):
    table, issues = read(dataset())
    assert issues.notes == () and not issues.examples
    assert table.names == ("car", "toothbrush") and table.ids == (3, 90)
    assert [table.files[i] for i in range(3)] == ["a.png", "sub/b.png", "empty.png"]
    assert table.image_ids.tolist() == [12, 7, 9] and table.sizes.tolist() == [[30, 40], [50, 20], [8, 8]]
    assert table.offsets.tolist() == [0, 2, 3, 3]
    assert table.boxes.tolist() == [[0, 0, 40, 30], [39, 29, 40, 30], [1, 2, 11.5, 22.25]]
    assert table.labels.tolist() == [0, 1, 1] and table.crowd.tolist() == [True, False, False]
    assert table.areas.tolist() == [7, 1, 99.5] and table.origin.tolist() == [1, 2, 0]


def test_read__without_images_uses_stated_sizes(dataset):
    table = read_coco(dataset(), None, LabelIssues())
    assert table.sizes.tolist() == [[30, 40], [50, 20], [8, 8]]


def build_faults():
    """Name -> change of CLEAN, kind, field, boxes after (fix, skip), and images."""

    def annotation(index, key, value):
        return lambda data: data["annotations"][index].__setitem__(key, value)

    def image(index, key, value):
        return lambda data: data["images"][index].__setitem__(key, value)

    def without(key):
        return lambda data: data["annotations"][0].pop(key)

    box, entry = "annotations[0].bbox", IssueKind.ENTRY_MALFORMED
    return {
        "outside": (annotation(0, "bbox", [5, 5, 30, 10]), IssueKind.BOX_OUTSIDE, box, (3, 2), 3),
        "away": (annotation(0, "bbox", [25, 5, 3, 3]), IssueKind.BOX_AWAY, box, (2, 2), 3),
        "negative": (annotation(0, "bbox", [12, 5, -3, 3]), IssueKind.BOX_REVERSED, box, (3, 2), 3),
        "vanishing": (annotation(0, "bbox", [19, 5, 1e-9, 3]), IssueKind.BOX_FLAT, box, (2, 2), 3),
        "flat": (annotation(0, "bbox", [2, 5, 0, 3]), IssueKind.BOX_FLAT, box, (2, 2), 3),
        "nan": (annotation(0, "bbox", [2, float("nan"), 1, 3]), IssueKind.BOX_NOT_FINITE, box, (2, 2), 3),
        "infinite": (annotation(0, "bbox", [2, 2, float("inf"), 3]), IssueKind.BOX_NOT_FINITE, box, (2, 2), 3),
        "text": (annotation(0, "bbox", [2, "2", 3, 3]), entry, box, (2, 2), 3),
        "three numbers": (annotation(0, "bbox", [2, 2, 3]), entry, box, (2, 2), 3),
        "no box": (without("bbox"), entry, box, (2, 2), 3),
        "no image id": (without("image_id"), entry, "annotations[0].image_id", (2, 2), 3),
        "text as area": (annotation(0, "area", "big"), entry, "annotations[0].area", (2, 2), 3),
        "crowd of 2": (annotation(0, "iscrowd", 2), entry, "annotations[0].iscrowd", (2, 2), 3),
        "class absent": (
            annotation(0, "category_id", 4),
            IssueKind.CLASS_ABSENT,
            "annotations[0].category_id",
            (2, 2),
            3,
        ),
        "image absent": (annotation(0, "image_id", 4), IssueKind.IMAGE_ID_ABSENT, "annotations[0].image_id", (2, 2), 3),
        "annotation id twice": (
            annotation(2, "id", 1),
            IssueKind.ANNOTATION_ID_DUPLICATE,
            "annotations[2].id",
            (3, 2),
            3,
        ),
        "image id twice": (image(2, "id", 7), IssueKind.IMAGE_ID_DUPLICATE, "images[2].id", (3, 3), 2),
        "missing": (image(1, "file_name", "none.png"), IssueKind.IMAGE_MISSING, "images[1].file_name", (2, 2), 2),
        "escaping": (image(1, "file_name", "../../x.png"), IssueKind.NAME_ESCAPES, "images[1].file_name", (2, 2), 2),
        "absolute": (image(1, "file_name", "/etc/passwd"), IssueKind.NAME_ESCAPES, "images[1].file_name", (2, 2), 2),
        "number as name": (image(2, "file_name", 5), entry, "images[2].file_name", (3, 3), 2),
        "negative area": (annotation(0, "area", -5), IssueKind.AREA_IMPOSSIBLE, "annotations[0].area", (3, 2), 3),
        "infinite area": (annotation(0, "area", 1e999), IssueKind.AREA_IMPOSSIBLE, "annotations[0].area", (3, 2), 3),
        "half a pixel": (image(2, "width", 7.5), IssueKind.IMAGE_SIZE, "images[2].width", (3, 3), (3, 2)),
        "text as width": (image(2, "width", "8"), IssueKind.IMAGE_SIZE, "images[2].width", (3, 3), (3, 2)),
        "another size": (image(1, "width", 21), IssueKind.IMAGE_SIZE, "images[1]", (3, 2), (3, 2)),
    }


@pytest.mark.parametrize("name", build_faults())
def test_read__fault_raises_or_is_counted(dataset, name):
    change, kind, field, boxes, images = build_faults()[name]
    file = dataset(change)
    with pytest.raises(DataError) as failure:
        read(file)
    assert failure.value.exit_code == 3 and failure.value.hint and failure.value.field == field
    assert str(file) in str(failure.value) and "got" in str(failure.value) and kind.problem in str(failure.value)
    images = images if isinstance(images, tuple) else (images, images)
    for on_error, count, left in zip(("fix", "skip"), boxes, images):
        table, issues = read(file, on_error)
        assert len(table.boxes) == count and len(table) == left
        assert [finding.kind for finding in issues.examples] == [kind]
        assert issues.examples[0].field == field
        (note,) = issues.notes
        assert note.startswith("1 ") and kind.problem in note
        assert (table.boxes >= 0).all() and np.isfinite(table.boxes).all() and (table.areas > 0).all()


def test_read__fix_clips_and_sorts(dataset):
    table, _ = read(dataset(lambda data: data["annotations"][0].update(bbox=[5, 5, 30, 10], area=200)), "fix")
    assert table.boxes[2].tolist() == [5, 5, 20, 15] and table.areas[2] == 150, "at most its box's"
    table, _ = read(dataset(lambda data: data["annotations"][0].update(bbox=[12, 5, -3, 3])), "fix")
    assert table.boxes[2].tolist() == [9, 5, 12, 8]


def test_read__ids_as_integral_floats(dataset):
    def as_floats(data):
        for entry in (entry for entries in data.values() for entry in entries):
            entry.update({key: float(entry[key]) for key in ("id", "image_id", "category_id") if key in entry})

    (table, issues), (clean, _) = read(dataset(as_floats)), read(dataset())
    assert not issues.examples and table.ids == clean.ids and table.names == clean.names
    for name in ("image_ids", "offsets", "boxes", "labels", "areas", "origin"):
        assert np.array_equal(getattr(table, name), getattr(clean, name)), name


def test_read__overflowing_box_is_reported_without_warnings(dataset):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table, issues = read(dataset(lambda data: data["annotations"][0].update(bbox=[1e308, 5, 1e308, 1])), "fix")
    assert [finding.kind for finding in issues.examples] == [IssueKind.BOX_NOT_FINITE] and len(table.boxes) == 2


@pytest.mark.parametrize("width", [None, 20.0, 0])
def test_read__missing_size_or_integral_float(dataset, width):
    table, issues = read(dataset(lambda data: data["images"][1].update(width=width)))
    assert not issues.examples and table.sizes[1].tolist() == [50, 20] and len(table.boxes) == 3


def test_read__invalid_area_is_that_of_the_box(dataset):
    table, _ = read(dataset(lambda data: data["annotations"][0].update(area=-5)), "fix")
    assert table.areas[2] == 10.5 * 20.25


def test_read__overshoot_by_rounding_is_kept(dataset):
    table, issues = read(dataset(lambda data: data["annotations"][0].update(bbox=[-0.5, 0, 21, 50.9])))
    assert table.boxes[2].tolist() == [-0.5, 0, 20.5, np.float32(50.9)] and not issues.notes


def test_read__duplicate_box(dataset):
    file = dataset(lambda data: data["annotations"].append({**data["annotations"][0], "id": 44}))
    table, issues = read(file)
    assert len(table.boxes) == 4 and issues.notes == ("1 box given twice, kept: sub/b.png",)
    table, issues = read(file, "skip")
    assert len(table.boxes) == 3 and issues.notes == ("1 box given twice, skipped: sub/b.png",)


def test_read__many_faults_are_counted(dataset):
    def corrupt(data):
        bad = [{"id": 100 + i, "image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 99 + i]} for i in range(500)]
        data["annotations"] += bad

    table, issues = read(dataset(corrupt), "skip")
    assert len(table.boxes) == 3 and issues.notes == ("500 boxes extending beyond the image, skipped: sub/b.png",)
    assert len(issues.examples) == 100


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 no JPEG"])
def test_read__broken_image(dataset, content):
    file = dataset()
    image = file.parent / "images" / "a.png"
    image.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png"):
        read(file)
    table, issues = read(file, "skip")
    assert len(table) == 2 and "1 image that cannot be read, skipped: a.png" in issues.notes


def test_read__truncated_image(dataset):
    file = dataset()
    image = file.parent / "images" / "a.png"
    write_image(image, np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
    image.write_bytes(image.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"a\.png"):
        read(file)
    assert len(read(file, "skip")[0]) == 2


def test_read__image_over_the_pixel_limit(dataset):
    with pytest.raises(DataError, match="limit of 1,000") as failure:
        read(dataset(), max_pixels=1000)
    assert "data.max_pixels" in str(failure.value)
    assert len(read(dataset(), "skip", max_pixels=1000)[0]) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("[1, 2]", "is a JSON list"),
        ("hello", "is not a JSON object"),
        ('{"images": [{"id": 1', "is not valid JSON"),
        ('{"images": [] "x": 1}', "is not valid JSON"),
        ('{"other": [1,]}', "is not valid JSON"),
        ('{"images": []}', "a list is missing"),
        ('{"images": {}, "annotations": [], "categories": []}', "is not a list"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no category"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "is not a category"),
        ('{"images": [], "annotations": [], "categories": [3]}', "is not a category"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "a category id given twice",
        ),
    ],
)
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_read__invalid_file_raises_under_every_policy(dataset, text, problem, on_error):
    file = dataset(text=text)
    with pytest.raises(DataError, match=problem) as failure:
        read(file, on_error)
    assert str(file) in str(failure.value)


def test_read__other_encoding_or_missing_file(dataset, tmp_path):
    file = dataset()
    file.write_bytes(b'{"images": [{"file_name": "\xff"}]}')
    with pytest.raises(DataError, match="UTF-8"):
        read(file)
    with pytest.raises(DataError, match="No such file"):
        read_coco(tmp_path / "none.json", None, LabelIssues())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@example(data={"": 0.5}, chunk=1, indent=None)
@given(data=st.dictionaries(st.text(), json_values, max_size=5), chunk=st.integers(1, 9), indent=st.none() | st.just(1))
def test_stream_json__any_window_size(tmp_path_factory, data, chunk, indent):
    file = tmp_path_factory.mktemp("json") / "x.json"
    file.write_text(json.dumps(data, indent=indent, ensure_ascii=False), encoding="utf-8")
    actual = {}
    for key, index, value in stream_json(file, chunk):
        if index is None:
            actual[key] = value
        else:
            assert index == len(actual[key])
            actual[key].append(value)
    assert actual == data


@settings(max_examples=150, deadline=None)
@given(
    entry=st.sampled_from([("images", 0), ("images", 2), ("annotations", 0), ("annotations", 2), ("categories", 0)]),
    key=st.sampled_from(["id", "file_name", "width", "height", "image_id", "category_id", "bbox", "area", ""]),
    value=json_values | st.floats() | st.lists(st.floats() | st.integers(-(10**400), 10**400), min_size=4, max_size=4),
    on_error=st.sampled_from(["fail", "fix", "skip"]),
)
def test_read__any_value_is_read_or_raises_data_error(tmp_path_factory, entry, key, value, on_error):
    data = json.loads(json.dumps(CLEAN))
    if key:
        data[entry[0]][entry[1]][key] = value
    else:
        data[entry[0]][entry[1]] = value
    file = tmp_path_factory.mktemp("fuzz") / "x.json"
    file.write_text(json.dumps(data))
    with contextlib.suppress(DataError):
        table = read_coco(file, None, LabelIssues(on_error))
        assert np.isfinite(table.boxes).all() and table.offsets[-1] == len(table.boxes)
        assert (table.boxes[:, 2:] > table.boxes[:, :2]).all()


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name",
    ["bccd/annotations/instances_train", "coco128/annotations/instances_val", "coco128/annotations/detection_train"],
)
def test_read__equals_pycocotools_on_real_data(real_data, name):
    from pycocotools.coco import COCO

    file = real_data / "data" / f"{name}.json"
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(str(file))
    issues = LabelIssues()
    table = read_coco(file, file.parent.parent / "images", issues)
    assert issues.notes == ()
    assert sorted(table.image_ids.tolist()) == sorted(reference.getImgIds())
    assert table.ids == tuple(sorted(reference.getCatIds())) and read_categories(file) == (table.names, table.ids)
    for row, image_id in enumerate(table.image_ids.tolist()):
        entry = reference.loadImgs(image_id)[0]
        assert table.files[row] == entry["file_name"]
        assert table.sizes[row].tolist() == [entry["height"], entry["width"]]
        target_records = reference.loadAnns(reference.getAnnIds(imgIds=image_id))
        span = slice(table.offsets[row], table.offsets[row + 1])
        xywh = np.array([truth["bbox"] for truth in target_records]).reshape(-1, 4)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
        np.testing.assert_array_equal(table.boxes[span], xyxy.astype(np.float32))
        assert [table.ids[label] for label in table.labels[span]] == [truth["category_id"] for truth in target_records]
        assert table.areas[span].tolist() == [truth["area"] for truth in target_records]
        assert table.crowd[span].tolist() == [bool(truth["iscrowd"]) for truth in target_records]


def test_list_first_files__stops_early(dataset):
    assert list_first_files(dataset(), 2) == ["a.png", "sub/b.png"]


MEMORY = """
import json, os, sys
from densevision.datasets.formats.coco import read_coco
from densevision.io.label_issues import LabelIssues
def megabytes(key, file="smaps_rollup"):
    with open(f"/proc/self/{file}") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024
before = megabytes("Pss:")
table = read_coco(sys.argv[1], None, LabelIssues())
grown = megabytes("Pss:") - before
peak = megabytes("VmHWM:", "status") - before  # ru_maxrss also counts the process that started this one
pipe = os.pipe()
if os.fork() == 0:
    private = megabytes("Private_Dirty:")
    for row in range(len(table)):
        span = slice(table.offsets[row], table.offsets[row + 1])
        table.files[row], table.boxes[span].sum(), table.labels[span].sum()
    os.write(pipe[1], str(megabytes("Private_Dirty:") - private).encode())
    os._exit(0)
os.wait()
print(json.dumps({"boxes": len(table.boxes), "grown": grown, "peak": peak, "worker": float(os.read(pipe[0], 100))}))
"""


@pytest.mark.slow
def test_memory__million_boxes(tmp_path):
    file = tmp_path / "big.json"
    images, boxes = 100_000, 1_000_000
    with open(file, "w") as stream:
        stream.write('{"images": [')
        stream.write(
            ",".join(
                f'{{"id": {3 * i}, "file_name": "{i:012d}.jpg", "width": 640, "height": 480}}' for i in range(images)
            )
        )
        stream.write('], "annotations": [')
        for i in range(boxes):
            comma = "," if i else ""
            stream.write(
                f'{comma}{{"id": {i}, "image_id": {3 * (i % images)}, "category_id": {i % 80}, "iscrowd": 0, '
                f'"area": {i % 977}.5, "bbox": [{i % 601}.25, {i % 401}, {i % 37 + 1}, {i % 71 + 0.5}]}}'
            )
        stream.write('], "categories": [')
        stream.write(",".join(f'{{"id": {i}, "name": "class {i}"}}' for i in range(80)) + "]}")
    done = subprocess.run([sys.executable, "-c", MEMORY, str(file)], capture_output=True, text=True, check=True)
    actual = json.loads(done.stdout)
    assert actual["boxes"] == boxes
    assert actual["grown"] < 250 and actual["peak"] < 250, actual
    assert actual["worker"] < 10, actual
