"""YOLO txt: hand-written fixtures, and every kind of invalid line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densevision.datasets.formats.yolo import get_label_path, read_data_yaml, read_yolo
from densevision.errors import DataError
from densevision.io.image import write_image
from densevision.io.label_issues import IssueKind, LabelIssues

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
    issues = LabelIssues(on_error)
    return read_yolo(dataset, dataset.splits[split], issues), issues


def get_names(table):
    return [table.files[row] for row in range(len(table))]


def test_read__clean_dataset_has_no_issues(root):
    table, issues = read(root)
    assert issues.notes == ()
    assert get_names(table) == ["images/train/a.png", "images/train/b.png"]
    assert table.names == ("cell", "dot") and table.ids == (0, 1)
    assert table.sizes.tolist() == [[10, 20], [10, 20]] and table.offsets.tolist() == [0, 2, 2]
    np.testing.assert_allclose(table.boxes, [[5, 0, 15, 10], [1, 1, 3, 3]], rtol=1e-6)
    assert table.labels.tolist() == [0, 1] and table.origin.tolist() == [1, 3]
    np.testing.assert_allclose(table.areas, [100, 4], rtol=1e-6)


def test_read__box_of_a_polygon(root):
    write(root, "labels/train/a.txt", "1 0.1 0.2 0.5 0.3 0.25 0.9\n")
    np.testing.assert_allclose(read(root)[0].boxes, [[2, 2, 10, 9]], rtol=1e-6)


def test_read__names_as_mapping(root):
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
    assert get_names(table) == ["images/train/b.png", "images/val/c.png", "lists/d.png"]
    assert table.offsets.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(("keypoint_names", "numbers"), [(17, 3), (17, 2), (4, 3)])
def test_read__pose_lines(root, keypoint_names, numbers):
    write(root, "data.yaml", f"{YAML}kpt_shape: [{keypoint_names}, {numbers}]\n")
    write(
        root,
        "labels/train/b.txt",
        f"1 0.5 0.5 0.2 0.4{' 0.9 0.9 2'[: 4 * numbers] * keypoint_names}\n0 0.5 0.5 0.5 0.5\n",
    )
    table, issues = read(root)
    assert not issues.examples and table.labels.tolist() == [0, 1, 1, 0]
    assert table.boxes[2:].tolist() == [[8, 3, 12, 7], [5, 2.5, 15, 7.5]]
    write(root, "labels/train/b.txt", "1 0.1 0.1 0.9 0.1 0.5 0.9\n")
    with pytest.raises(DataError, match="a line that cannot be read"):
        read(root)


@pytest.mark.parametrize("key", ["valid", "validation"])
def test_data_yaml__keys_of_the_validation_split(root, key):
    write(root, "data.yaml", f"train: images/train\n{key}: images/val\nnames: [cell, dot]\n")
    assert read_data_yaml(root / "data.yaml").splits["val"] == ("images/val",)


def test_read__superfluous_leading_dots(root):
    write(root, "data.yaml", "train: ../images/train\nnames: [cell, dot]\n")
    assert len(read(root)[0]) == 2


def test_read__image_without_label_file(root):
    write(root, "images/train/new.png")
    table, issues = read(root)
    assert len(table) == 3 and len(table.boxes) == 2
    assert issues.notes == ("1 image without a label file, kept: new.png",)


def test_read__no_label_file(root):
    with pytest.raises(DataError, match="no label file for any of 1 images") as failure:
        read(root, "val", "skip")
    assert "labels/val/c.txt" in failure.value.hint


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 0.5 0.5 0.5", IssueKind.LINE_MALFORMED),
        ("0 0.5 0.5 0.5 0.5 0.9", IssueKind.LINE_MALFORMED),
        ("cell 0.5 0.5 0.5 0.5", IssueKind.LINE_MALFORMED),
        ("0.5 0.5 0.5 0.5 0.5", IssueKind.LINE_MALFORMED),
        ("nan 0.5 0.5 0.5 0.5", IssueKind.LINE_MALFORMED),
        ("0_1 0.5 0.5 0.5 0.5", IssueKind.LINE_MALFORMED),
        ("\u0661 0.5 0.5 0.5 0.5", IssueKind.LINE_MALFORMED),
        ("inf 0.5 0.5 0.5 0.5", IssueKind.LINE_MALFORMED),
        ("\x00\x80", IssueKind.LINE_MALFORMED),
        ("2 0.5 0.5 0.5 0.5", IssueKind.CLASS_ABSENT),
        ("-1 0.5 0.5 0.5 0.5", IssueKind.CLASS_ABSENT),
        ("0 0.5 nan 0.5 0.5", IssueKind.BOX_NOT_FINITE),
        ("0 0.5 0.5 0 0.5", IssueKind.BOX_FLAT),
        ("0 0.9 0.5 0.5 0.5", IssueKind.BOX_OUTSIDE),
        ("0 10 5 5 5", IssueKind.BOX_AWAY),
        ("0 0.5 0.5 -0.2 0.5", IssueKind.BOX_REVERSED),
    ],
)
def test_read__invalid_line(root, line, kind):
    write(root, "labels/train/b.txt", f"1 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError) as failure:
        read(root)
    assert str(failure.value.file).endswith("b.txt")
    assert failure.value.field == "line 2" and kind.problem in str(failure.value) and failure.value.hint
    for on_error in ("fix", "skip"):
        table, issues = read(root, on_error=on_error)
        assert [finding.kind for finding in issues.examples] == [kind]
        assert len(table) == 2 and len(table.boxes) == (4 if on_error == "fix" and kind.fix_action else 3)


def test_read__label_file_without_image(root):
    write(root, "labels/train/lonely.txt", "0 0.5 0.5 0.5 1\n")
    write(root, "labels/train/classes.txt", "cell\ndot\n")
    with pytest.raises(DataError, match="a label file without an image") as failure:
        read(root)
    assert str(failure.value.file).endswith("lonely.txt")
    table, issues = read(root, on_error="skip")
    assert len(table) == 2 and issues.notes == ("1 label file without an image, skipped: lonely.txt",)


def test_read__invalid_image_list(root):
    write(root, "train.txt", "images/train/a.png\n../../etc/passwd\n")
    write(root, "data.yaml", "train: train.txt\nnames: [cell, dot]\n")
    with pytest.raises(DataError, match="pointing outside the folder") as failure:
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
        ("train: {a: b}\nnames: [cell]\n", "train"),
        ("train: !!python/object:os.system x\n", "line 1"),
        ("train: images/none\nnames: [cell]\n", None),
        ("train: images/train\nnames: [cell, dot, cell]\n", "names[2]"),
        ("train: images/train\nnames: {zero: cell}\n", "names"),
        ("train: images/train\nnames: {0: cell, 1: }\n", "names[1]"),
        ("train: images/train\nnames: [cell]\nkpt_shape: 17\n", "kpt_shape"),
    ],
)
def test_data_yaml__invalid(root, text, field):
    write(root, "data.yaml", text)
    with pytest.raises(DataError) as failure:
        read(root)
    assert failure.value.field == field and "data.yaml" in str(failure.value)


def test_data_yaml__names_and_paths_are_text(root):
    names = ["02146", "0x1F", "12:30", "1_000", "010", "8", "+5", "no", "1.10", "2024-01-01", "null"]
    (root / "images/train").rename(root / "images/2024")
    write(root, "data.yaml", f"path: .\ntrain: [images/2024]\nval: \nnames: [{', '.join(names)}]\nnc: 11\n")
    dataset = read_data_yaml(root / "data.yaml")
    assert dataset.names == tuple(names) and dataset.splits == {"train": ("images/2024",)}
    write(root, "data.yaml", "train: 2024\nnames:\n  0: 007\n  10: 1e3\n")
    dataset = read_data_yaml(root / "data.yaml")
    assert dataset.names == ("007", "1e3") and dataset.ids == (0, 10) and dataset.splits == {"train": ("2024",)}
    write(root, "data.yaml", 'train: 2024\nval: null\nnames: {"0": on, "1": off}\n')
    dataset = read_data_yaml(root / "data.yaml")
    assert dataset.names == ("on", "off") and dataset.ids == (0, 1) and dataset.splits == {"train": ("2024",)}


def test_read__held_out_part_without_objects(root):
    """A part of a dataset may happen to have no labels at all."""
    dataset = read_data_yaml(root / "data.yaml")
    write(root, "images/train/new.png")

    def select(files):
        return np.array([name.endswith("new.png") for name in files])

    table = read_yolo(dataset, dataset.splits["train"], LabelIssues("fail"), select=select)
    assert get_names(table) == ["images/train/new.png"] and not len(table.boxes)


def test_read__paths_of_windows(root):
    write(root, "train.txt", ".\\images\\train\\a.png\r\nD:\\old\\images\\train\\b.png\r\n")
    for entry in ("train.txt", "images\\train", "..\\images\\train"):
        write(root, "data.yaml", f"train: {entry}\nnames: [cell, dot]\n")
        table, _ = read(root)
        assert get_names(table) == ["images/train/a.png", "images/train/b.png"] and len(table.boxes) == 2
    write(root, "train.txt", "..\\..\\etc\\a.png\n")
    write(root, "data.yaml", "train: train.txt\nnames: [cell, dot]\n")
    with pytest.raises(DataError) as failure:
        read(root)
    assert failure.value.field == "line 1"


def test_read__hidden_files_are_skipped_and_counted(root):
    for name in ("._a.png", ".ipynb_checkpoints/a-checkpoint.png"):
        write(root, f"images/train/{name}")
    write(root, "labels/train/._a.txt", "\0")
    table, issues = read(root)
    assert len(table) == 2 and issues.counts == {(IssueKind.FILE_HIDDEN, "skipped"): 2}


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
    truth = Detections.from_arrays(boxes, np.arange(len(boxes)) % 2, ("cell", "dot"), (10, 20))
    lines = [line.rsplit(" ", 1)[0] for line in truth.to_yolo().splitlines()]
    write(root, "images/a.png")
    write(root, "labels/a.txt", "\n".join(lines))
    write(root, "data.yaml", "train: images\nnames: [cell, dot]\n")
    table, _ = read(root)
    np.testing.assert_allclose(table.boxes, boxes, atol=1e-4)
    assert table.labels.tolist() == truth.labels.tolist()


def test_get_label_path__replaces_the_last_images_folder():
    assert get_label_path("images/x/images/train/a.b.jpg") == "images/x/labels/train/a.b.txt"
    assert get_label_path("my_images/a.jpg") == "my_images/a.txt"
