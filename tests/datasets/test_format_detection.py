"""Detection of dataset formats, and errors for unknown ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from densevision.datasets.box_sources import CocoSource, VocSource, YoloSource
from densevision.datasets.format_detection import detect_format
from densevision.datasets.splits import SceneSource, parse_scene_splits
from densevision.errors import DataError, UsageError
from densevision.io.image import write_image
from densevision.io.label_issues import LabelIssues

XML = (
    "<annotation><object><name>dot</name>"
    "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object></annotation>"
)


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.zeros((8, 8, 3), np.uint8))


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def coco_json(path, names):
    images = [{"id": i, "file_name": name, "width": 8, "height": 8} for i, name in enumerate(names)]
    boxes = [{"id": i, "image_id": i, "category_id": 5, "bbox": [1, 1, 2, 2]} for i in range(len(names))]
    text(path, json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 5, "name": "dot"}]}))


def files_of(source):
    table = source.read(LabelIssues(), 10**6)
    return [table.files[row] for row in range(len(table))]


def test_coco__annotations_and_images_by_split(tmp_path):
    """The layout of COCO itself."""
    for split in ("train2017", "val2017"):
        image(tmp_path / split / f"{split}.png")
        coco_json(tmp_path / "annotations" / f"instances_{split}.json", [f"{split}.png"])
        text(tmp_path / "annotations" / f"captions_{split}.json", "{}")
    detected = detect_format(str(tmp_path))
    assert detected.notes == ()
    for split, source in detected.splits.items():
        assert isinstance(source, CocoSource) and source.folder == tmp_path / f"{split}2017"
        assert files_of(source) == [f"{split}2017.png"] and source.classes() == (("dot",), (5,))


def test_coco__same_names_in_both_folders(tmp_path):
    """If both folders hold all images, the one whose name resembles the JSON is taken."""
    for split in ("train2017", "val2017"):
        image(tmp_path / split / "0.png")
        coco_json(tmp_path / "annotations" / f"instances_{split}.json", ["0.png"])
    for split, source in detect_format(str(tmp_path)).splits.items():
        assert source.folder == tmp_path / f"{split}2017"


def test_coco__folder_per_split(tmp_path):
    for split in ("train", "valid", "test"):
        image(tmp_path / split / "a.png")
        coco_json(tmp_path / split / "_annotations.coco.json", ["a.png"])
    detected = detect_format(str(tmp_path))
    assert [source.folder.name for source in detected.splits.values()] == ["train", "valid"]
    assert all(files_of(source) == ["a.png"] for source in detected.splits.values())


def test_coco__several_candidates(tmp_path):
    image(tmp_path / "images" / "a.png")
    for name in ("instances_train", "detection_train", "instances_val"):
        coco_json(tmp_path / "annotations" / f"{name}.json", ["a.png"])
    detected = detect_format(str(tmp_path))
    assert detected.splits["train"].file.name == "instances_train.json"
    (note,) = detected.notes
    assert "detection_train.json" in note and "data.train" in note
    for name in ("detection_train", "detection_train.json", "annotations/detection_train.json"):
        named = detect_format(str(tmp_path), train=name)
        assert named.splits["train"].file.name == "detection_train.json" and named.notes == ()
    with pytest.raises(DataError, match=r"Did you mean 'detection_train'") as failure:
        detect_format(str(tmp_path), train="detection_trian")
    assert failure.value.field == "data.train"
    coco_json(tmp_path / "annotations" / "instances_train_b.json", ["a.png"])
    with pytest.raises(DataError, match="several files could be the train split"):
        detect_format(str(tmp_path))


@pytest.mark.parametrize("as_file", [True, False])
def test_coco__single_json_is_split(tmp_path, as_file):
    names = [f"{i}.png" for i in range(25)]
    for name in names:
        image(tmp_path / "images" / name)
    coco_json(tmp_path / "labels.json", names)
    detected = detect_format(str(tmp_path / "labels.json" if as_file else tmp_path))
    assert len(detected.notes) == 1 and "held out" in detected.notes[0]
    train, val = (files_of(detected.splits[split]) for split in ("train", "val"))
    assert len(val) == 3 and sorted(train + val) == sorted(names)
    coco_json(tmp_path / "labels.json", names[::-1])
    assert sorted(files_of(detected.splits["val"])) == sorted(val)


def test_coco__single_image_is_in_both_splits(tmp_path):
    image(tmp_path / "a.png")
    coco_json(tmp_path / "labels.json", ["a.png"])
    detected = detect_format(str(tmp_path))
    assert files_of(detected.splits["train"]) == files_of(detected.splits["val"]) == ["a.png"]


def test_coco__option_without_effect(tmp_path):
    coco_json(tmp_path / "labels.json", [])
    with pytest.raises(UsageError, match=r"data\.train"):
        detect_format(str(tmp_path / "labels.json"), train="x")


def test_coco__file_name_outside_the_folder(tmp_path):
    image(tmp_path / "images" / "a.png")
    coco_json(tmp_path / "labels.json", ["../../etc/passwd"])
    source = detect_format(str(tmp_path)).splits["train"]
    with pytest.raises(DataError, match="pointing outside the folder"):
        files_of(source)


@pytest.mark.parametrize(
    "content", ['{"categories": [{"id": 0, "name": "a"}], "info": {}}', '{"epochs": 3}', "[1, 2]", "not JSON", ""]
)
def test_other_json__is_ignored_and_noted(content, tmp_path):
    """A JSON that is not part of the dataset does not decide its format, whatever its name."""
    image(tmp_path / "coco" / "images" / "a.png")
    coco_json(tmp_path / "coco" / "labels.json", ["a.png"])
    image(tmp_path / "yolo" / "images" / "a.png")
    text(tmp_path / "yolo" / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    text(tmp_path / "yolo" / "classes.txt", "a\n")
    for name, kind in (("coco", CocoSource), ("yolo", YoloSource)):
        text(tmp_path / name / "train_log.json", content)
        detected = detect_format(str(tmp_path / name))
        assert isinstance(detected.splits["train"], kind)
        assert sum("train_log.json" in note for note in detected.notes) == 1


def test_other_json__only_is_named(tmp_path):
    text(tmp_path / "notes.json", '{"a": 1}')
    with pytest.raises(DataError, match=r"Not COCO JSON: notes\.json"):
        detect_format(str(tmp_path))


def test_yolo__data_yaml(tmp_path):
    for split in ("train", "val", "test"):
        image(tmp_path / "images" / split / "a.png")
        text(tmp_path / "labels" / split / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    yaml = "train: images/train\nval: images/val\ntest: images/test\nnames: [dot]\n"
    for name in ("data.yaml", "blood.yaml"):
        text(tmp_path / name, yaml)
        for path in (tmp_path, tmp_path / name):
            detected = detect_format(str(path))
            assert isinstance(detected.splits["val"], YoloSource) and detected.splits["val"].classes() == (
                ("dot",),
                (0,),
            )
            assert files_of(detected.splits["val"]) == ["images/val/a.png"] and detected.notes == ()
        (tmp_path / name).unlink()
    text(tmp_path / "a.yaml", yaml)
    assert files_of(detect_format(str(tmp_path), val="test").splits["val"]) == ["images/test/a.png"]
    assert files_of(detect_format(str(tmp_path), val="images/test").splits["val"]) == ["images/test/a.png"]
    text(tmp_path / "b.yaml", yaml)
    with pytest.raises(DataError, match=r"a\.yaml, b\.yaml"):
        detect_format(str(tmp_path))
    text(tmp_path / "b.yaml", "lr: 3\n")
    assert detect_format(str(tmp_path)).splits["train"].dataset.file.name == "a.yaml"


def test_yolo__without_yaml(tmp_path):
    for i in range(12):
        image(tmp_path / "images" / f"{i}.png")
        text(tmp_path / "labels" / f"{i}.txt", "1 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match="no class names"):
        detect_format(str(tmp_path))
    text(tmp_path / "classes.txt", "ring\ndot\n")
    detected = detect_format(str(tmp_path))
    assert [len(files_of(detected.splits[split])) for split in ("train", "val")] == [10, 2] and len(detected.notes) == 1


def test_yolo__without_yaml_but_with_splits(tmp_path):
    text(tmp_path / "classes.txt", "dot\n")
    for split in ("train", "valid"):
        image(tmp_path / "images" / split / "a.png")
        text(tmp_path / "labels" / split / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    assert files_of(detect_format(str(tmp_path)).splits["val"]) == ["images/valid/a.png"]


def test_voc__image_sets(tmp_path):
    for stem in "abcd":
        image(tmp_path / "JPEGImages" / f"{stem}.png")
        text(tmp_path / "Annotations" / f"{stem}.xml", XML)
    detected = detect_format(str(tmp_path))
    assert isinstance(detected.splits["train"], VocSource) and len(detected.notes) == 1
    assert len(files_of(detected.splits["train"])) == 3
    for name, stems in {"trainval": "ab", "test": "c"}.items():
        text(tmp_path / "ImageSets" / "Main" / f"{name}.txt", "\n".join(stems))
    detected = detect_format(str(tmp_path))
    assert [len(files_of(detected.splits[split])) for split in ("train", "val")] == [2, 1] and detected.notes == ()
    for name, stems in {"train": "a", "val": "bd"}.items():
        text(tmp_path / "ImageSets" / "Main" / f"{name}.txt", "\n".join(stems))
    assert [source.split for source in detect_format(str(tmp_path)).splits.values()] == ["train", "val"]
    assert detect_format(str(tmp_path), val="test").splits["val"].split == "test"
    with pytest.raises(DataError, match="no such list"):
        detect_format(str(tmp_path), val="tset")


def test_unknown_format__lists_the_content(tmp_path):
    image(tmp_path / "cats" / "a.png")
    image(tmp_path / "b.png")
    text(tmp_path / "notes.md", "")
    with pytest.raises(DataError, match=r"cats/, 1 images \.png, 1 files \.md.*Expected: ") as failure:
        detect_format(str(tmp_path))
    assert failure.value.exit_code == 3
    with pytest.raises(DataError, match="no such file or folder"):
        detect_format(str(tmp_path / "none"))
    with pytest.raises(DataError, match="is not a dataset"):
        detect_format(str(tmp_path / "b.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="an empty folder"):
        detect_format(str(tmp_path / "empty"))


def test_scenes__counts_and_seeds():
    assert detect_format("scenes").splits["train"] == SceneSource(1000, 0)
    splits = parse_scene_splits("scenes:24:7")
    assert splits["train"] == SceneSource(24, 7) and splits["val"].count == 16 and splits["val"].seed == 7
    assert splits["val"].first > 10**9 and parse_scene_splits("scenes:5000")["val"].count == 200
    assert parse_scene_splits("scenery") is None and parse_scene_splits("./scenes") is None
    for wrong in ("scenes:", "scenes:0", "scenes:x", "scenes:3:4:5"):
        with pytest.raises(UsageError, match="COUNT"):
            parse_scene_splits(wrong)


@pytest.mark.realdata
def test_real__bccd_and_coco128(real_data):
    detected = detect_format(str(real_data / "data" / "bccd"))
    assert [len(files_of(source)) for source in detected.splits.values()] == [205, 87] and detected.notes == ()
    detected = detect_format(str(real_data / "data" / "coco128"), train="detection_train", val="detection_val")
    assert [len(files_of(source)) for source in detected.splits.values()] == [128, 64]
    assert detected.splits["val"].classes().ids[-1] == 90
