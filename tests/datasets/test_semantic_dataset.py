"""Semantic datasets: layouts, class maps, and invalid files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from densevision.datasets.format_detection import detect_format
from densevision.datasets.instance_sources import read_instance_table
from densevision.datasets.mask_layouts import CocoMaskSource, MaskFolderSource, detect_mask_format
from densevision.datasets.semantic_dataset import build_binary_lookup, build_label_lookup
from densevision.errors import DataError
from densevision.io.image import write_image
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.masks import write_palette_png
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.dataset import complete_config, open_split

SIZE = (12, 16)


def put(root: Path, image: str, mask: str | None, value: int = 1, size: tuple[int, int] = SIZE) -> None:
    """Writes an image and its mask; the left half of the mask is 0."""
    write_image(root / image, np.zeros((*SIZE, 3), np.uint8))
    if mask is not None:
        labels = np.full(size, value, np.uint8)
        labels[:, : size[1] // 2] = 0
        write_image(root / mask, labels)


def config(root: Path, **settings) -> SemanticConfig:
    return SemanticConfig.resolve(None, {"data.path": str(root), "classes": ("a", "b"), **settings})


LAYOUTS = {
    "split/images": lambda split, n: (f"{split}/images/{n}.png", f"{split}/masks/{n}.png"),
    "img_dir/split": lambda split, n: (f"img_dir/{split}/{n}.png", f"ann_dir/{split}/{n}.png"),
    "splitannot": lambda split, n: (f"{split}/{n}.png", f"{split}annot/{n}.png"),
    "split_labels": lambda split, n: (f"{split}/{n}.png", f"{split}_labels/{n}_L.png"),
    "images/split": lambda split, n: (f"images/{split}/{n}.jpg", f"labels/{split}/{n}_mask.png"),
    "cityscapes": lambda split, n: (
        f"leftImg8bit/{split}/ulm/ulm_{n}_leftImg8bit.png",
        f"gtFine/{split}/ulm/ulm_{n}_gtFine_labelIds.png",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts__splits_and_pairs(layout: str, tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            put(tmp_path, *LAYOUTS[layout](split, number), value=7)
    detected = detect_mask_format(str(tmp_path))
    assert {split: len(source.pairs) for split, source in detected.items()} == {"train": 3, "val": 2}
    settings = {} if layout == "cityscapes" else {"data.values": [0, 7]}
    full = complete_config(config(tmp_path, **({"classes": None} if layout == "cityscapes" else {}), **settings))
    sample = open_split(full, "val")[0]
    assert sample.size == SIZE and sample.truth.labels.shape == SIZE
    assert sample.truth.labels[0, -1] == (0 if layout == "cityscapes" else 1)
    assert sample.truth.labels[0, 0] == (255 if layout == "cityscapes" else 0)


def test_layouts__image_lists(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"images/{number}.png", f"masks/{number}.png")
    (tmp_path / "train.txt").write_text("images/2.png\n0\n\n")
    (tmp_path / "val.txt").write_text("3\n")
    detected = detect_mask_format(str(tmp_path))
    assert [pair[0] for pair in detected["train"].pairs] == ["images/2.png", "images/0.png"]
    (tmp_path / "val.txt").write_text("9\n")
    with pytest.raises(DataError, match=r"val.txt: line 1: no image has this name \(got '9'\)"):
        detect_mask_format(str(tmp_path))


def test_layouts__without_splits(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path, f"images/{number}.png", f"masks/{number}.png")
    detected = detect_mask_format(str(tmp_path))
    train, val = ({pair[0] for pair in detected[split].pairs} for split in ("train", "val"))
    assert len(val) == 2 and len(train) == 18 and not train & val


def test_layouts__equal_names_in_several_folders(tmp_path: Path) -> None:
    """Frame numbers restart in each folder."""
    for folder in ("a", "b"):
        put(tmp_path, f"train/images/{folder}/0000.png", f"train/masks/{folder}/0000_mask.png")
        put(tmp_path, f"images/{folder}/0000.png", f"masks/{folder}/0000.png")
    put(tmp_path, "train/images/c/1.png", "train/masks/1.png")
    pairs = [pair for source in detect_mask_format(str(tmp_path)).values() for pair in source.pairs]
    assert dict(pairs) == {
        "train/images/a/0000.png": "train/masks/a/0000_mask.png",
        "train/images/b/0000.png": "train/masks/b/0000_mask.png",
        "train/images/c/1.png": "train/masks/1.png",
    }
    shutil.rmtree(tmp_path / "train")
    for line, image in {"b/0000": "b", "/elsewhere/a/0000.png x": "a", "images/b/0000.png": "b"}.items():
        (tmp_path / "train.txt").write_text(f"{line}\n")
        assert detect_mask_format(str(tmp_path))["train"].pairs == (
            (f"images/{image}/0000.png", f"masks/{image}/0000.png"),
        )
    for line, message in {"0000": "several images have this name", "c/0000": "no image has this name"}.items():
        (tmp_path / "train.txt").write_text(f"{line}\n")
        with pytest.raises(DataError, match=rf"train.txt: line 1: {message}"):
            detect_mask_format(str(tmp_path))


def test_layouts__ambiguous_masks(tmp_path: Path) -> None:
    put(tmp_path, "images/a/0.png", "masks/c/0.png")
    put(tmp_path, "images/b/0.png", None)
    with pytest.raises(DataError, match="is ambiguous"):
        detect_mask_format(str(tmp_path))


def test_layouts__names_with_dots_and_spaces(tmp_path: Path) -> None:
    for name in ("s.000", "s.001", "t 1"):
        put(tmp_path, f"images/{name}.png", f"masks/{name}.png")
    (tmp_path / "train.txt").write_text("s.001\nt 1\n")
    (tmp_path / "val.txt").write_text("s.000.png\n")
    detected = {
        split: [pair[0] for pair in source.pairs] for split, source in detect_mask_format(str(tmp_path)).items()
    }
    assert detected == {"train": ["images/s.001.png", "images/t 1.png"], "val": ["images/s.000.png"]}


def test_layouts__training_split_only(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path, f"images/{number}.png", f"masks/{number}.png")
        put(tmp_path, f"city/leftImg8bit/train/u/u_{number}_leftImg8bit.png", f"city/gtFine/train/u/u_{number}_x.png")
    (tmp_path / "train.txt").write_text("".join(f"{number}\n" for number in range(20)))
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(20)]
    value = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/annotations/instances_train2017.json").write_text(json.dumps(value))
    (tmp_path / "coco/train2017").symlink_to(tmp_path / "images")
    for root in (tmp_path, tmp_path / "city"):
        detected = detect_mask_format(str(root))
        assert {split: len(source.pairs) for split, source in detected.items()} == {"train": 18, "val": 2}
    coco = config(tmp_path / "coco", classes=None)
    train, val = ({*open_split(complete_config(coco), split).images} for split in ("train", "val"))
    assert len(train) == 18 and len(val) == 2 and not train & val
    with pytest.raises(DataError, match="no such split"):
        detect_mask_format(str(tmp_path), val="other")


def test_voc__pascal_names_for_pascal_images(tmp_path: Path) -> None:
    put(tmp_path, "JPEGImages/2007_000032.jpg", "SegmentationClass/2007_000032.png")
    put(tmp_path, "JPEGImages/2007_000033.jpg", None)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n")
    source = detect_mask_format(str(tmp_path))["train"]
    assert isinstance(source, MaskFolderSource) and source.names[15] == "person" and len(source.pairs) == 1


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("class_names.txt", "_background_\napple\npear\n", ("_background_", "apple", "pear")),
        ("labels.txt", "__ignore__\n_background_\napple\npear\n", ("_background_", "apple", "pear")),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\npear:0,128,0::\n",
            ("background", "pear"),
        ),
        (None, "", ("class_0", "class_1", "class_2")),
    ],
)
def test_voc__class_names_of_the_dataset(name: str | None, text: str, names: tuple[str, ...], tmp_path: Path) -> None:
    """The palette is Pascal's, whose third color is that of `pear`; 255 is the border."""
    for number in range(2):
        put(tmp_path, f"JPEGImages/p{number}.jpg", None)
        labels = np.zeros(SIZE, np.uint8)
        labels[2:4], labels[0] = 2, 255
        colors = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0), *[(224, 224, 192)] * 253], np.uint8)
        (tmp_path / "SegmentationClass").mkdir(exist_ok=True)
        write_palette_png(tmp_path / f"SegmentationClass/p{number}.png", labels, colors)
    if name is not None:
        (tmp_path / name).write_text(text)
    samples = open_split(complete_config(config(tmp_path, classes=None)), "train")
    truth = samples[0].truth
    assert truth.names == names and (truth.labels[2:4] == len(names) - 1).all() and (truth.labels[0] == 255).all()
    assert any("numbered" in note for note in samples.notes) == (name is None)


def test_label_map__invalid_line(tmp_path: Path) -> None:
    put(tmp_path, "JPEGImages/a.jpg", "SegmentationClass/a.png")
    (tmp_path / "labelmap.txt").write_text("background:0,0::\n")
    with pytest.raises(DataError) as failure:
        detect_mask_format(str(tmp_path))
    assert failure.value.field == "line 1"


def test_class_list__dash_means_unknown(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png", value=2)
    (tmp_path / "classes.txt").write_text("-\nroad\nsky\n")
    full = complete_config(config(tmp_path, classes=None))
    assert full.classes == ("road", "sky")
    assert set(np.unique(open_split(full, "train")[0].truth.labels)) == {1, 255}


def test_classes__matched_by_name(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    labels = open_split(config(tmp_path, classes=["sky", "tree"]), "train")[0].truth.labels
    assert labels[0, 0] == 255 and labels[0, -1] == 0
    with pytest.raises(DataError, match="none of the requested classes"):
        build_label_lookup(("a",), ("b",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: put(root, "images/a.png", "masks/a.png", size=(5, 6)), "size differs from its image"),
        (lambda root: put(root, "images/a.png", "masks/a.png", value=9), r"value is no class \(got 9\)"),
        (lambda root: put(root, "images/b.png", None), "an image without a label file"),
        (lambda root: put(root, "images/a.png", "masks/z.png"), "a label file without an image"),
        (lambda root: (root / "images/a.png").write_bytes(b"no"), "a.png"),
    ],
    ids=["size", "value", "no mask", "no image", "broken"],
)
def test_bad_input__raises_or_is_counted(change, message: str, tmp_path: Path) -> None:
    for name in ("a", "c"):
        put(tmp_path, f"images/{name}.png", f"masks/{name}.png")
    (tmp_path / "train.txt").write_text("a\nc\n")
    (tmp_path / "train.txt").unlink()
    change(tmp_path)
    both = {"data.train": "all", "data.val": "all"}
    (tmp_path / "all.txt").write_text("".join(f"{file.stem}\n" for file in sorted((tmp_path / "images").iterdir())))
    settings = both if "without an image" not in message else {}
    with pytest.raises(DataError, match=message):
        samples = open_split(config(tmp_path, **settings), "train")
        [samples[index] for index in range(len(samples))]
    left = open_split(config(tmp_path, **settings, **{"data.on_error": "skip"}), "train")
    assert left.notes and all(left[index].truth is not None for index in range(len(left)))


def test_names__missing(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(DataError, match=r"classes\.txt"):
        complete_config(config(tmp_path, classes=None))
    with pytest.raises(DataError, match="unknown format of a semantic dataset"):
        detect_mask_format(str(tmp_path / "images"))


def coco(root: Path, kind: str, annotations: list[dict]) -> None:
    """Writes a JSON of one image and two categories with a gap between their ids."""
    put(root, "images/a.png", None)
    categories = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
    value = {"images": [{"id": 5, "file_name": "a.png"}], "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations" / f"{kind}_train.json").write_text(json.dumps(value))


def test_panoptic__segments(tmp_path: Path) -> None:
    segments = [{"id": 1, "category_id": 9}, {"id": 70_000, "category_id": 3}]
    coco(tmp_path, "panoptic", [{"image_id": 5, "file_name": "a.png", "segments_info": segments}])
    ids = np.zeros(SIZE, np.int64)
    ids[:4], ids[8:] = 1, 70_000
    pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    write_image(tmp_path / "annotations" / "panoptic_train" / "a.png", pixels)
    source = detect_mask_format(str(tmp_path))["train"]
    assert isinstance(source, CocoMaskSource)
    full = complete_config(config(tmp_path, classes=None))
    labels = open_split(full, "train")[0].truth.labels
    assert full.classes == ("cat", "dog")
    assert (labels[:4] == 1).all() and (labels[4:8] == 255).all() and (labels[8:] == 0).all()


SQUARE = [4, 4, 8, 4, 8, 8, 4, 8]
FAULTS = {
    "image id as text": ({"image_id": "5"}, IssueKind.ENTRY_MALFORMED),
    "category id as text": ({"category_id": "3"}, IssueKind.ENTRY_MALFORMED),
    "unlisted image": ({"image_id": 6}, IssueKind.IMAGE_ID_ABSENT),
    "unlisted category": ({"category_id": 4}, IssueKind.CLASS_ABSENT),
    "no segmentation": ({"segmentation": None}, IssueKind.MASK_ABSENT),
    "no polygon": ({"segmentation": []}, IssueKind.MASK_ABSENT),
    "empty polygon": ({"segmentation": [[]]}, IssueKind.MASK_ABSENT),
    "two points": ({"segmentation": [[1, 1, 5, 5]]}, IssueKind.OUTLINE_SHORT),
    "odd polygon": ({"segmentation": [[1, 1, 5, 5, 1, 5, 3]]}, IssueKind.MASK_ABSENT),
    "run lengths of another size": ({"segmentation": {"size": [3, 3], "counts": [9]}}, IssueKind.MASK_SIZE),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_instances__faults_are_treated_as_by_the_task_instance(fault: str, tmp_path: Path) -> None:
    values, kind = FAULTS[fault]
    sound = {"image_id": 5, "category_id": 9, "segmentation": [SQUARE], "bbox": [4, 4, 4, 4], "area": 16, "iscrowd": 0}
    coco(tmp_path, "instances", [sound | {"bbox": [3, 3, 4, 4]} | values, sound])
    with pytest.raises(DataError, match=kind.problem):
        open_split(config(tmp_path, classes=("background", "cat", "dog")), "train")
    for policy in ("fix", "skip"):
        settings = {"data.on_error": policy}
        samples = open_split(config(tmp_path, classes=("background", "cat", "dog"), **settings), "train")
        expected = np.zeros(SIZE, np.uint8)
        expected[4:8, 4:8] = 2
        np.testing.assert_array_equal(samples[0].truth.labels, expected)
        assert any(kind.problem in note for note in samples.notes)
        source = detect_format(str(tmp_path)).splits["train"]
        issues = LabelIssues(policy)
        table = read_instance_table(source, source.read(issues, 10**6), True, None, issues)
        assert len(table.boxes.boxes) == 1 and any(issue is kind for issue, _ in issues.counts)


def test_instances__image_id_given_twice(tmp_path: Path) -> None:
    row = {"image_id": 5, "category_id": 9, "segmentation": [SQUARE], "area": 16, "iscrowd": 0}
    coco(tmp_path, "instances", [row])
    file = tmp_path / "annotations" / "instances_train.json"
    values = json.loads(file.read_text())
    values["images"].append({"id": 5, "file_name": "b.png"})
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match="an image id given twice"):
        open_split(config(tmp_path), "train")
    samples = open_split(config(tmp_path, classes=("background", "dog"), **{"data.on_error": "skip"}), "train")
    assert len(samples) == 1 and (samples[0].truth.labels[4:8, 4:8] == 1).all()


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_instances__small_objects_cover_large_ones(mode: str, tmp_path: Path) -> None:
    large, small = [0, 0, 16, 0, 16, 12, 0, 12], [4, 4, 8, 4, 8, 8, 4, 8]
    rows = [
        {"image_id": 5, "category_id": 9, "segmentation": [small], "area": 16.0, "iscrowd": 0},
        {"image_id": 5, "category_id": 3, "segmentation": [large], "area": 192.0, "iscrowd": 0},
    ]
    coco(tmp_path, "instances", rows)
    full = complete_config(config(tmp_path, classes=None, mode=mode))
    truth = open_split(full, "train")[0].truth
    if mode == "multiclass":
        assert full.classes == ("background", "cat", "dog") and truth.labels[5, 5] == 2 and truth.labels[0, 0] == 1
    else:
        assert full.classes == ("cat", "dog") and truth.labels[5, 5] == 0b11 and truth.labels[0, 0] == 0b01


@pytest.mark.parametrize("policy", ["fix", "skip"])
def test_multilabel__values_are_sets(policy: str, tmp_path: Path) -> None:
    for name, value in {"a": 0b11, "b": 0b100, "c": 65535}.items():
        put(tmp_path, f"train/images/{name}.png", None)
        sets = np.full(SIZE, value, np.uint16)
        sets[0] = 0b10
        write_image(tmp_path / f"train/masks/{name}.png", sets)
    full = config(tmp_path, mode="multilabel", **{"data.on_error": policy, "data.val": "train"})
    samples = open_split(full, "train")
    assert len(samples) == (3 if policy == "fix" else 2) and len(samples.notes) == 1
    assert samples[0].truth.labels[1, 0] == 0b11 and (samples[len(samples) - 1].truth.labels[1:] == 65535).all()
    if policy == "fix":
        assert (samples[1].truth.labels[1:] == 65535).all() and (samples[1].truth.labels[0] == 0b10).all()


@pytest.mark.parametrize("policy", ["fix", "skip"])
def test_values__photo_instead_of_a_mask(policy: str, tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path, f"train/images/{name}.png", f"train/masks/{name}.png")
    write_image(tmp_path / "train/masks/b.png", np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8))
    samples = open_split(config(tmp_path, **{"data.on_error": policy, "data.val": "train"}), "train")
    assert [sample.id for sample in samples] == ["train/images/a.png"]
    assert len(samples.notes) == 1 and "b.png" in samples.notes[0]


BINARY_SETS = {
    "the rest is foreground": (("background", "cat", "dog"), ("background", "foreground"), (), [0, 1, 1]),
    "the background has a name": (("road", "sky", "car"), ("sky", "other"), (), [1, 0, 1]),
    "the foreground has a name": (("road", "sky", "car"), ("other", "car"), (), [0, 0, 1]),
    "both have": (("background", "cat", "dog"), ("background", "dog"), (), [0, 255, 1]),
    "stuff is background": (("cat", "sky", "dog"), ("background", "foreground"), ("sky",), [1, 0, 1]),
    "the first of two": (("sound", "crack"), ("background", "foreground"), (), [0, 1]),
}


@pytest.mark.parametrize("case", BINARY_SETS)
def test_binary_lookup__background_and_foreground(case: str) -> None:
    own, expected, stuff, sides = BINARY_SETS[case]
    assert build_binary_lookup(own, expected, stuff)[: len(own)].tolist() == sides


def test_binary_lookup__no_background() -> None:
    with pytest.raises(DataError, match=r"no class is the background.*classes="):
        build_binary_lookup(("cat", "dog", "cow"), ("background", "foreground"))


@pytest.mark.parametrize("kind", ["instances", "panoptic"])
def test_binary__of_coco(kind: str, tmp_path: Path) -> None:
    square = [0, 0, 4, 0, 4, 4, 0, 4]
    rows = {
        "instances": {"image_id": 5, "category_id": 9, "segmentation": [square], "area": 16.0, "iscrowd": 0},
        "panoptic": {
            "image_id": 5,
            "file_name": "a.png",
            "segments_info": [{"id": 1, "category_id": 9}, {"id": 2, "category_id": 3}],
        },
    }
    coco(tmp_path, kind, [rows[kind]])
    file = tmp_path / f"annotations/{kind}_train.json"
    value = json.loads(file.read_text())
    value["categories"][0]["isthing"] = 0
    file.write_text(json.dumps(value))
    ids = np.zeros((*SIZE, 3), np.uint8)
    ids[..., 0] = 2
    ids[:4, :4, 0] = 1
    write_image(tmp_path / "annotations/panoptic_train/a.png", ids)
    labels = open_split(complete_config(config(tmp_path, classes=None, mode="binary")), "train")[0].truth.labels
    expected = np.zeros(SIZE)
    expected[:4, :4] = 1
    np.testing.assert_array_equal(labels, expected)


def test_binary__values_0_and_255(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png", value=255)
    plain = complete_config(config(tmp_path, classes=None, mode="binary"))
    for split in ("train", "val"):
        with pytest.raises(DataError, match=r"255 means unknown.*data\.values=\[0,255\]"):
            open_split(plain, split)
    labels = open_split(plain.replace(data__values=(0, 255)), "train")[0].truth.labels
    assert (labels[:, :8] == 0).all() and (labels[:, 8:] == 1).all()


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "split", "count"), [("camvid", "val", 60), ("coco128", "val", 64)])
def test_real_data__opens(folder: str, split: str, count: int, real_data: Path) -> None:
    settings = {"data.path": str(real_data / "data" / folder)}
    if folder == "camvid":
        settings |= {"classes": [str(index) for index in range(11)], "data.unknown": [11]}
    full = complete_config(SemanticConfig.resolve(None, settings))
    samples = open_split(full, split)
    assert len(samples) == count
    labels = samples[3].truth.labels
    assert labels.max() == 255 and len(np.unique(labels)) > 3
