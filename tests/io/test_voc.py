"""Pascal VOC XML: hand-written fixtures, and every kind of invalid entry."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets.formats.voc import list_splits, read_class_names, read_voc
from densevision.errors import DataError
from densevision.io.image import write_image
from densevision.io.label_issues import IssueKind, LabelIssues

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


@pytest.fixture
def root(tmp_path):
    """Two images of 20 x 10 pixels; the first one has a ring that fills it and a difficult dot."""
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("b\na  1\n")
    add(tmp_path, "a", OBJECT.format("ring", 0, 1, 1, 20, 10) + OBJECT.format("dot", 1, "3.5", 2, 3.5, 4))
    add(tmp_path, "b", "")
    return tmp_path


def add(root, stem, objects, size="<size><width>20</width><height>10</height><depth>3</depth></size>", image=True):
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    if image:
        (root / "JPEGImages").mkdir(exist_ok=True)
        write_image(root / "JPEGImages" / f"{stem}.jpg", np.zeros((10, 20, 3), np.uint8))


def read(root, split="train", on_error="fail"):
    issues = LabelIssues(on_error)
    return read_voc(root, split, issues), issues


def test_read__corners_count_from_one_and_are_inclusive(root):
    table, issues = read(root)
    assert issues.notes == ()
    assert [table.files[row] for row in range(2)] == ["JPEGImages/b.jpg", "JPEGImages/a.jpg"]
    assert table.names == ("dot", "ring") and table.ids == (1, 2) and table.offsets.tolist() == [0, 0, 2]
    assert table.boxes.tolist() == [[0, 0, 20, 10], [2.5, 1, 3.5, 4]]
    assert table.labels.tolist() == [1, 0] and table.crowd.tolist() == [False, True]
    assert table.origin.tolist() == [1, 2] and list_splits(root) == ("train",)


def test_read__without_split_reads_every_xml(root):
    assert len(read(root, None)[0]) == 2
    write_image(root / "JPEGImages" / "c.png", np.zeros((10, 20, 3), np.uint8))
    table, issues = read(root, None)
    assert len(table) == 2 and issues.notes == ("1 image without a label file, skipped: c.png",)


def test_read__two_images_of_one_name(root):
    write_image(root / "JPEGImages" / "a.png", np.zeros((10, 20, 3), np.uint8))
    for split in (None, "train"):
        table, issues = read(root, split)
        assert {table.files[row] for row in range(2)} == {"JPEGImages/a.jpg", "JPEGImages/b.jpg"}
        assert issues.notes == ("1 image without a label file, skipped: a.png",)


def test_read__spaces_in_names(root):
    add(root, "IMG 7", OBJECT.format("ring", 0, 1, 1, 20, 10))
    (root / "ImageSets" / "Main" / "train.txt").write_text("IMG 7\na  1\n")
    table, issues = read(root)
    assert not issues.examples and table.files[0] == "JPEGImages/IMG 7.jpg" and len(table.boxes) == 3


def test_class_names__list_file_takes_precedence(root):
    (root / "labels.txt").write_text("ring\n\ndot\nnever seen\n")
    assert read_class_names(root) == ("ring", "dot", "never seen")
    assert read(root)[0].labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("objects", "kind", "field"),
    [
        (OBJECT.format("ring", 0, 1, 1, 30, 5), IssueKind.BOX_OUTSIDE, "object 1"),
        (OBJECT.format("ring", 0, 31, 1, 39, 5), IssueKind.BOX_AWAY, "object 1"),
        (OBJECT.format("ring", 0, 9, 1, 3, 5), IssueKind.BOX_REVERSED, "object 1"),
        (OBJECT.format("ring", 0, "nan", 1, 3, 5), IssueKind.BOX_NOT_FINITE, "object 1"),
        (OBJECT.format("ring", 0, "left", 1, 3, 5), IssueKind.ENTRY_MALFORMED, "object 1.bndbox.xmin"),
        ("<object><name>ring</name></object>", IssueKind.ENTRY_MALFORMED, "object 1.bndbox.xmin"),
        (OBJECT.format("comet", 0, 1, 1, 3, 5), IssueKind.CLASS_ABSENT, "object 1.name"),
    ],
)
def test_read__invalid_object(root, objects, kind, field):
    (root / "labels.txt").write_text("dot\nring\n")
    add(root, "b", objects)
    with pytest.raises(DataError) as failure:
        read(root)
    assert str(failure.value.file).endswith("b.xml") and failure.value.field == field and failure.value.hint
    for on_error in ("fix", "skip"):
        table, issues = read(root, on_error=on_error)
        assert [finding.kind for finding in issues.examples] == [kind]
        assert len(table) == 2 and len(table.boxes) == (3 if on_error == "fix" and kind.fix_action else 2)


@pytest.mark.parametrize("text", ["", "<annotation><object>", "<html></html>"])
def test_read__broken_xml_skips_its_image(root, text):
    (root / "Annotations" / "b.xml").write_text(text)
    with pytest.raises(DataError, match=r"b\.xml"):
        read(root)
    table, issues = read(root, on_error="fix")
    assert len(table) == 1 and issues.notes == ("1 label file that cannot be read, skipped: b.xml",)


def test_read__size_differs(root):
    add(root, "b", "", "<size><width>10</width><height>20</height></size>")
    with pytest.raises(DataError, match="whose size differs"):
        read(root)
    assert len(read(root, on_error="fix")[0]) == 2 and len(read(root, on_error="skip")[0]) == 1
    add(root, "b", "", "<size><width>0</width><height>0</height></size>")
    assert len(read(root)[0]) == 2


@pytest.mark.parametrize("width", ["\u00b2", "\u0665\u0660", "9" * 5000, "wide", "-20", ""])
def test_read__size_is_not_a_number(root, width):
    add(root, "b", "", f"<size><width>{width}</width><height>10</height></size>")
    table, issues = read(root)
    assert len(table) == 2 and not issues.examples


@pytest.mark.parametrize(
    ("line", "kind"),
    [("../../etc/passwd", IssueKind.NAME_ESCAPES), ("none", IssueKind.IMAGE_MISSING), ("c", IssueKind.LABELS_MISSING)],
)
def test_read__invalid_list_entry(root, line, kind):
    write_image(root / "JPEGImages" / "c.jpg", np.zeros((10, 20, 3), np.uint8))
    (root / "ImageSets" / "Main" / "train.txt").write_text(f"a\n{line}\n")
    with pytest.raises(DataError, match=kind.problem) as failure:
        read(root)
    assert failure.value.field == "line 2" and failure.value.file.name == "train.txt"
    table, issues = read(root, on_error="skip")
    assert len(table) == 1 and [finding.kind for finding in issues.examples] == [kind]


def test_read__xml_without_image(root):
    add(root, "lonely", "", image=False)
    with pytest.raises(DataError, match="without an image"):
        read(root, None)
    assert len(read(root, None, "skip")[0]) == 2


def test_read__no_such_split_or_no_names(root, tmp_path_factory):
    with pytest.raises(DataError, match=r"val\.txt"):
        read(root, "val")
    empty = tmp_path_factory.mktemp("voc")
    add(empty, "a", "")
    with pytest.raises(DataError, match="no XML names an object"):
        read(empty, None)
