"""YOLO txt into arrays: fixtures written by hand, and every fault found and named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densevision.datasets.formats.yolo import label_path, read_data_yaml, read_yolo
from densevision.errors import DataError
from densevision.io.image import write_image
from densevision.io.label_issues import Findings, Kind

YAML = "path: .\ntrain: images/train\nval: [images/val]\nnames: [cell, dot]\n"


@pytest.fixture
def root(tmp_path):
    """Two training images of 20 x 10 pixels, two boxes in the first, and one validation image without labels."""
    for name in ("train/a", "train/b", "val/c"):
        write(tmp_path, f"images/{name}.png")
    write(tmp_path, "labels/train/a.txt", "0 0.5 0.5 0.5 1\n\n1 0.1 0.2 0.1 0.2\n")
    write(tmp_path, "labels/train/b.txt", "")
    write(tmp_path, "data.yaml", YAML)
    return tmp_path


def write(root, name, text=None):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        write_image(path, np.zeros((10, 20, 3), np.uint8))
    else:
        path.write_text(text)


def read(root, split="train", on_error="fail"):
    dataset = read_data_yaml(root / "data.yaml")
    findings = Findings(on_error)
    return read_yolo(dataset, dataset.splits[split], findings), findings


def names_of(table):
    return [table.files[row] for row in range(len(table))]


def test_read__clean_set_has_no_findings(root):
    table, findings = read(root)
    assert findings.notes == ()
    assert names_of(table) == ["images/train/a.png", "images/train/b.png"]
    assert table.names == ("cell", "dot") and table.ids == (0, 1)
    assert table.sizes.tolist() == [[10, 20], [10, 20]] and table.offsets.tolist() == [0, 2, 2]
    np.testing.assert_allclose(table.boxes, [[5, 0, 15, 10], [1, 1, 3, 3]], rtol=1e-6)
    assert table.labels.tolist() == [0, 1] and table.origin.tolist() == [1, 3]
    np.testing.assert_allclose(table.areas, [100, 4], rtol=1e-6)


def test_read__polygon_gives_its_box(root):
    write(root, "labels/train/a.txt", "1 0.1 0.2 0.5 0.3 0.25 0.9\n")
    np.testing.assert_allclose(read(root)[0].boxes, [[2, 2, 10, 9]], rtol=1e-6)


def test_read__names_as_mapping_keep_their_numbers(root):
    write(root, "data.yaml", "train: images/train\nnames: {1: dot, 0: cell, 5: ring}\nnc: 3\n")
    write(root, "labels/train/a.txt", "5 0.5 0.5 0.5 1\n")
    table, _ = read(root)
    assert table.names == ("cell", "dot", "ring") and table.ids == (0, 1, 5) and table.labels.tolist() == [2]


def test_read__txt_lists(root):
    write(root, "lists/train.txt", f"images/train/b.png\n\n{root}/images/val/c.png\n./d.png\n")
    write(root, "lists/d.png")
    write(root, "lists/d.txt", "0 0.5 0.5 0.5 1\n")
    write(root, "data.yaml", "train: lists/train.txt\nnames: [cell]\n")
    table, _ = read(root)
    assert names_of(table) == ["images/train/b.png", "images/val/c.png", "lists/d.png"]
    assert table.offsets.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(("keypoint_names", "numbers"), [(17, 3), (17, 2), (4, 3)])
def test_read__pose_lines_are_boxes_with_keypoints(root, keypoint_names, numbers):
    write(root, "data.yaml", f"{YAML}kpt_shape: [{keypoint_names}, {numbers}]\n")
    write(
        root,
        "labels/train/b.txt",
        f"1 0.5 0.5 0.2 0.4{' 0.9 0.9 2'[: 4 * numbers] * keypoint_names}\n0 0.5 0.5 0.5 0.5\n",
    )
    table, findings = read(root)
    assert not findings.examples and table.labels.tolist() == [0, 1, 1, 0]
    assert table.boxes[2:].tolist() == [[8, 3, 12, 7], [5, 2.5, 15, 7.5]]
    write(root, "labels/train/b.txt", "1 0.1 0.1 0.9 0.1 0.5 0.9\n")
    with pytest.raises(DataError, match="a line that cannot be read"):
        read(root)


@pytest.mark.parametrize("key", ["valid", "validation"])
def test_data_yaml__other_words_for_val(root, key):
    write(root, "data.yaml", f"train: images/train\n{key}: images/val\nnames: [cell, dot]\n")
    assert read_data_yaml(root / "data.yaml").splits["val"] == ("images/val",)


def test_read__leading_dots_of_common_exports(root):
    write(root, "data.yaml", "train: ../images/train\nnames: [cell, dot]\n")
    assert len(read(root)[0]) == 2


def test_read__image_without_labels_is_one_without_objects(root):
    write(root, "images/train/new.png")
    table, findings = read(root)
    assert len(table) == 3 and len(table.boxes) == 2
    assert findings.notes == ("1 image without a label file, kept: new.png",)


def test_read__no_label_at_all(root):
    with pytest.raises(DataError, match="no label file for any of 1 images") as failure:
        read(root, "val", "skip")
    assert "labels/val/c.txt" in failure.value.hint


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 0.5 0.5 0.5", Kind.LINE_MALFORMED),
        ("0 0.5 0.5 0.5 0.5 0.9", Kind.LINE_MALFORMED),
        ("cell 0.5 0.5 0.5 0.5", Kind.LINE_MALFORMED),
        ("0.5 0.5 0.5 0.5 0.5", Kind.LINE_MALFORMED),
        ("nan 0.5 0.5 0.5 0.5", Kind.LINE_MALFORMED),
        ("inf 0.5 0.5 0.5 0.5", Kind.LINE_MALFORMED),
        ("\x00\x80", Kind.LINE_MALFORMED),
        ("2 0.5 0.5 0.5 0.5", Kind.CLASS_ABSENT),
        ("-1 0.5 0.5 0.5 0.5", Kind.CLASS_ABSENT),
        ("0 0.5 nan 0.5 0.5", Kind.BOX_NOT_FINITE),
        ("0 0.5 0.5 0 0.5", Kind.BOX_FLAT),
        ("0 0.9 0.5 0.5 0.5", Kind.BOX_OUTSIDE),
        ("0 10 5 5 5", Kind.BOX_AWAY),
        ("0 0.5 0.5 -0.2 0.5", Kind.BOX_REVERSED),
    ],
)
def test_read__bad_line_stops_or_is_counted_and_named(root, line, kind):
    write(root, "labels/train/b.txt", f"1 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError) as failure:
        read(root)
    assert str(failure.value.file).endswith("b.txt")
    assert failure.value.field == "line 2" and kind.wrong in str(failure.value) and failure.value.hint
    for on_error in ("fix", "skip"):
        table, findings = read(root, on_error=on_error)
        assert [finding.kind for finding in findings.examples] == [kind]
        assert len(table) == 2 and len(table.boxes) == (4 if on_error == "fix" and kind.fixed else 3)


def test_read__label_file_without_image(root):
    write(root, "labels/train/lonely.txt", "0 0.5 0.5 0.5 1\n")
    write(root, "labels/train/classes.txt", "cell\ndot\n")
    with pytest.raises(DataError, match="a label file without an image") as failure:
        read(root)
    assert str(failure.value.file).endswith("lonely.txt")
    table, findings = read(root, on_error="skip")
    assert len(table) == 2 and findings.notes == ("1 label file without an image, left out: lonely.txt",)


def test_read__list_that_leaves_the_folder_or_names_what_is_missing(root):
    write(root, "train.txt", "images/train/a.png\n../../etc/passwd\n")
    write(root, "data.yaml", "train: train.txt\nnames: [cell, dot]\n")
    with pytest.raises(DataError, match="leading out of the folder") as failure:
        read(root)
    assert failure.value.field == "line 2"
    assert len(read(root, on_error="skip")[0]) == 1
    write(root, "train.txt", "images/train/a.png\nimages/train/none.png\n")
    with pytest.raises(DataError, match="listed but missing"):
        read(root)
    assert len(read(root, on_error="fix")[0]) == 1


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("train: images/train\n", "names"),
        ("train: images/train\nnames: cell\n", "names"),
        ("train: images/train\nnames: [cell]\nnc: 2\n", "nc"),
        ("path: elsewhere\ntrain: images/train\nnames: [cell]\n", "path"),
        ("train: 3\nnames: [cell]\n", "train"),
        ("train: !!python/object:os.system x\n", "line 1"),
        ("train: images/none\nnames: [cell]\n", None),
        ("train: images/train\nnames: [yes, no]\n", "names[0]"),
        ("train: images/train\nnames: {0: cell, 1: null}\n", "names[1]"),
        ("train: images/train\nnames: [cell]\nkpt_shape: 17\n", "kpt_shape"),
    ],
)
def test_data_yaml__what_is_wrong_is_named(root, text, field):
    write(root, "data.yaml", text)
    with pytest.raises(DataError) as failure:
        read(root)
    assert failure.value.field == field and "data.yaml" in str(failure.value)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 18), st.integers(0, 8), st.integers(1, 20), st.integers(1, 10)),
        unique=True,
        max_size=9,
    )
)
def test_read__inverts_writing(tmp_path_factory, corners):
    from densevision.results import Detections

    root = tmp_path_factory.mktemp("yolo")
    boxes = np.array([(x, y, min(20, x + w), min(10, y + h)) for x, y, w, h in corners], np.float32).reshape(-1, 4)
    truth = Detections.of(boxes, np.arange(len(boxes)) % 2, ("cell", "dot"), (10, 20))
    lines = [line.rsplit(" ", 1)[0] for line in truth.to_yolo().splitlines()]
    write(root, "images/a.png")
    write(root, "labels/a.txt", "\n".join(lines))
    write(root, "data.yaml", "train: images\nnames: [cell, dot]\n")
    table, _ = read(root)
    np.testing.assert_allclose(table.boxes, boxes, atol=1e-4)
    assert table.labels.tolist() == truth.labels.tolist()


def test_label_path__only_the_last_images_folder_is_replaced():
    assert label_path("images/x/images/train/a.b.jpg") == "images/x/labels/train/a.b.txt"
    assert label_path("my_images/a.jpg") == "my_images/a.txt"
