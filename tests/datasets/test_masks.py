"""Semantic datasets: every layout is recognized, and what does not fit is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from densevision.datasets.mask_layouts import CocoJson, MaskFolders, find_masks
from densevision.datasets.masks import binary_mapping, mapping
from densevision.errors import DataError
from densevision.io.image import write_image
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.dataset import completed, open_split

SIZE = (12, 16)


def put(root: Path, image: str, mask: str | None, value: int = 1, size: tuple[int, int] = SIZE) -> None:
    """Writes an image and its mask, whose left half is 0."""
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
    found = find_masks(str(tmp_path))
    assert {split: len(source.pairs) for split, source in found.items()} == {"train": 3, "val": 2}
    settings = {} if layout == "cityscapes" else {"data.values": [0, 7]}
    full = completed(config(tmp_path, **({"classes": None} if layout == "cityscapes" else {}), **settings))
    sample = open_split(full, "val")[0]
    assert sample.size == SIZE and sample.truth.labels.shape == SIZE
    assert sample.truth.labels[0, -1] == (0 if layout == "cityscapes" else 1)
    assert sample.truth.labels[0, 0] == (255 if layout == "cityscapes" else 0)


def test_layouts__lists_choose_the_images(tmp_path: Path) -> None:
    for number in range(4):
        put(tmp_path, f"images/{number}.png", f"masks/{number}.png")
    (tmp_path / "train.txt").write_text("images/2.png\n0\n\n")
    (tmp_path / "val.txt").write_text("3\n")
    found = find_masks(str(tmp_path))
    assert [pair[0] for pair in found["train"].pairs] == ["images/2.png", "images/0.png"]
    (tmp_path / "val.txt").write_text("9\n")
    with pytest.raises(DataError, match=r"val.txt: line 1: no image has this name \(got '9'\)"):
        find_masks(str(tmp_path))


def test_layouts__without_splits_a_tenth_is_held_out(tmp_path: Path) -> None:
    for number in range(20):
        put(tmp_path, f"images/{number}.png", f"masks/{number}.png")
    found = find_masks(str(tmp_path))
    train, val = ({pair[0] for pair in found[split].pairs} for split in ("train", "val"))
    assert len(val) == 2 and len(train) == 18 and not train & val


def test_layouts__folders_of_one_name_each_keep_their_own_masks(tmp_path: Path) -> None:
    """Numbers that begin anew in each folder, as those of video frames do."""
    for folder in ("a", "b"):
        put(tmp_path, f"train/images/{folder}/0000.png", f"train/masks/{folder}/0000_mask.png")
        put(tmp_path, f"images/{folder}/0000.png", f"masks/{folder}/0000.png")
    put(tmp_path, "train/images/c/1.png", "train/masks/1.png")
    pairs = [pair for source in find_masks(str(tmp_path)).values() for pair in source.pairs]
    assert dict(pairs) == {
        "train/images/a/0000.png": "train/masks/a/0000_mask.png",
        "train/images/b/0000.png": "train/masks/b/0000_mask.png",
        "train/images/c/1.png": "train/masks/1.png",
    }
    shutil.rmtree(tmp_path / "train")
    for line, image in {"b/0000": "b", "/elsewhere/a/0000.png x": "a", "images/b/0000.png": "b"}.items():
        (tmp_path / "train.txt").write_text(f"{line}\n")
        assert find_masks(str(tmp_path))["train"].pairs == ((f"images/{image}/0000.png", f"masks/{image}/0000.png"),)
    for line, message in {"0000": "several images have this name", "c/0000": "no image has this name"}.items():
        (tmp_path / "train.txt").write_text(f"{line}\n")
        with pytest.raises(DataError, match=rf"train.txt: line 1: {message}"):
            find_masks(str(tmp_path))


def test_layouts__a_mask_that_may_be_of_several_images_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "images/a/0.png", "masks/c/0.png")
    put(tmp_path, "images/b/0.png", None)
    with pytest.raises(DataError, match="which mask is whose"):
        find_masks(str(tmp_path))


def test_layouts__a_list_may_name_dots_and_spaces(tmp_path: Path) -> None:
    for name in ("s.000", "s.001", "t 1"):
        put(tmp_path, f"images/{name}.png", f"masks/{name}.png")
    (tmp_path / "train.txt").write_text("s.001\nt 1\n")
    (tmp_path / "val.txt").write_text("s.000.png\n")
    found = {split: [pair[0] for pair in source.pairs] for split, source in find_masks(str(tmp_path)).items()}
    assert found == {"train": ["images/s.001.png", "images/t 1.png"], "val": ["images/s.000.png"]}


def test_layouts__a_tenth_of_a_training_split_alone_validates(tmp_path: Path) -> None:
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
        found = find_masks(str(root))
        assert {split: len(source.pairs) for split, source in found.items()} == {"train": 18, "val": 2}
    coco = config(tmp_path / "coco", classes=None)
    train, val = ({*open_split(completed(coco), split).images} for split in ("train", "val"))
    assert len(train) == 18 and len(val) == 2 and not train & val
    with pytest.raises(DataError, match="no such split"):
        find_masks(str(tmp_path), val="other")


def test_voc__has_its_classes(tmp_path: Path) -> None:
    put(tmp_path, "JPEGImages/a.jpg", "SegmentationClass/a.png")
    put(tmp_path, "JPEGImages/b.jpg", None)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    source = find_masks(str(tmp_path))["train"]
    assert isinstance(source, MaskFolders) and source.names[15] == "person" and len(source.pairs) == 1


def test_class_list__a_dash_means_unknown(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png", value=2)
    (tmp_path / "classes.txt").write_text("-\nroad\nsky\n")
    full = completed(config(tmp_path, classes=None))
    assert full.classes == ("road", "sky")
    assert set(np.unique(open_split(full, "train")[0].truth.labels)) == {1, 255}


def test_classes__are_matched_by_name(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    labels = open_split(config(tmp_path, classes=["sky", "tree"]), "train")[0].truth.labels
    assert labels[0, 0] == 255 and labels[0, -1] == 0
    with pytest.raises(DataError, match="none of the wanted classes"):
        mapping(("a",), ("b",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: put(root, "images/a.png", "masks/a.png", size=(5, 6)), "of another size than its image"),
        (lambda root: put(root, "images/a.png", "masks/a.png", value=9), r"value is no class \(got 9\)"),
        (lambda root: put(root, "images/b.png", None), "an image without a label file"),
        (lambda root: put(root, "images/a.png", "masks/z.png"), "a label file without an image"),
        (lambda root: (root / "images/a.png").write_bytes(b"no"), "a.png"),
    ],
    ids=["size", "value", "no mask", "no image", "broken"],
)
def test_bad_input__is_named_or_counted(change, message: str, tmp_path: Path) -> None:
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


def test_names__must_be_told(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(DataError, match=r"classes\.txt"):
        completed(config(tmp_path, classes=None))
    with pytest.raises(DataError, match="no semantic dataset is recognized"):
        find_masks(str(tmp_path / "images"))


def coco(root: Path, kind: str, annotations: list[dict]) -> None:
    """A json of one image and two categories with a gap between their ids."""
    put(root, "images/a.png", None)
    categories = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
    value = {"images": [{"id": 5, "file_name": "a.png"}], "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations" / f"{kind}_train.json").write_text(json.dumps(value))


def test_panoptic__segments_to_classes(tmp_path: Path) -> None:
    segments = [{"id": 1, "category_id": 9}, {"id": 70_000, "category_id": 3}]
    coco(tmp_path, "panoptic", [{"image_id": 5, "file_name": "a.png", "segments_info": segments}])
    ids = np.zeros(SIZE, np.int64)
    ids[:4], ids[8:] = 1, 70_000
    pixels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    write_image(tmp_path / "annotations" / "panoptic_train" / "a.png", pixels)
    source = find_masks(str(tmp_path))["train"]
    assert isinstance(source, CocoJson)
    full = completed(config(tmp_path, classes=None))
    labels = open_split(full, "train")[0].truth.labels
    assert full.classes == ("cat", "dog")
    assert (labels[:4] == 1).all() and (labels[4:8] == 255).all() and (labels[8:] == 0).all()


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_instances__small_ones_lie_above_large_ones(mode: str, tmp_path: Path) -> None:
    large, small = [0, 0, 16, 0, 16, 12, 0, 12], [4, 4, 8, 4, 8, 8, 4, 8]
    rows = [
        {"image_id": 5, "category_id": 9, "segmentation": [small], "area": 16.0, "iscrowd": 0},
        {"image_id": 5, "category_id": 3, "segmentation": [large], "area": 192.0, "iscrowd": 0},
    ]
    coco(tmp_path, "instances", rows)
    full = completed(config(tmp_path, classes=None, mode=mode))
    truth = open_split(full, "train")[0].truth
    if mode == "multiclass":
        assert full.classes == ("background", "cat", "dog") and truth.labels[5, 5] == 2 and truth.labels[0, 0] == 1
    else:
        assert full.classes == ("cat", "dog") and truth.labels[5, 5] == 0b11 and truth.labels[0, 0] == 0b01


@pytest.mark.parametrize("policy", ["fix", "skip"])
def test_multilabel__sets_are_no_class_numbers(policy: str, tmp_path: Path) -> None:
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
def test_values__a_photo_in_place_of_a_mask_is_left_out(policy: str, tmp_path: Path) -> None:
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
def test_binary_mapping__sides(case: str) -> None:
    own, wanted, stuff, sides = BINARY_SETS[case]
    assert binary_mapping(own, wanted, stuff)[: len(own)].tolist() == sides


def test_binary_mapping__no_background_is_refused() -> None:
    with pytest.raises(DataError, match=r"no class is the background.*classes="):
        binary_mapping(("cat", "dog", "cow"), ("background", "foreground"))


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
    labels = open_split(completed(config(tmp_path, classes=None, mode="binary")), "train")[0].truth.labels
    wanted = np.zeros(SIZE)
    wanted[:4, :4] = 1
    np.testing.assert_array_equal(labels, wanted)


def test_binary__white_is_no_silent_unknown(tmp_path: Path) -> None:
    put(tmp_path, "images/a.png", "masks/a.png", value=255)
    plain = completed(config(tmp_path, classes=None, mode="binary"))
    for split in ("train", "val"):
        with pytest.raises(DataError, match=r"255 means unknown.*data\.values=\[0,255\]"):
            open_split(plain, split)
    labels = open_split(plain.changed(data__values=(0, 255)), "train")[0].truth.labels
    assert (labels[:, :8] == 0).all() and (labels[:, 8:] == 1).all()


@pytest.mark.realdata
@pytest.mark.parametrize(("folder", "split", "count"), [("camvid", "val", 60), ("coco128", "val", 64)])
def test_real_data__is_read(folder: str, split: str, count: int, real_data: Path) -> None:
    settings = {"data.path": str(real_data / "data" / folder)}
    if folder == "camvid":
        settings |= {"classes": [str(index) for index in range(11)], "data.unknown": [11]}
    full = completed(SemanticConfig.resolve(None, settings))
    samples = open_split(full, split)
    assert len(samples) == count
    labels = samples[3].truth.labels
    assert labels.max() == 255 and len(np.unique(labels)) > 3
