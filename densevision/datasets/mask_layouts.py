"""Which semantic dataset a path holds, by what lies there: folders of masks, Cityscapes, VOC, COCO, or `scenes`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from densevision.datasets.format_detection import image_folder
from densevision.datasets.formats.coco_masks import CocoMasks, read_coco_masks
from densevision.datasets.scene_splits import SceneSource, scene_splits
from densevision.errors import DataError
from densevision.io.image_files import held_out, list_images
from densevision.io.lines import read_lines
from densevision.io.masks import CITYSCAPES_NAMES, Coding

EXPECTED = (
    "Expected: train/images with train/masks; images/train with masks/train; train with train_masks or trainannot; "
    "images with masks (train.txt, val.txt); "
    "leftImg8bit with gtFine (Cityscapes); JPEGImages with SegmentationClass (Pascal VOC); annotations/panoptic_*.json "
    "or instances_*.json with images (COCO); or scenes[:COUNT[:SEED]]."
)
IMAGES = ("images", "image", "imgs", "img", "img_dir", "JPEGImages")
MASKS = ("masks", "mask", "labels", "annotations", "ann_dir", "SegmentationClass")
BESIDE = ("_masks", "_mask", "_labels", "_annotations", "annot")
"""What the name of a folder of masks adds to that of its images, where the two lie side by side."""
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
SUFFIXES = ("_mask", "_label", "_labels", "_gtFine_labelIds", "_L")
"""What the name of a mask may add to its image's."""
VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
NOT_A_CLASS = "-"
"""A line of classes.txt whose number means unknown."""


@dataclass(frozen=True)
class MaskFolders:
    """Images and masks of one split.

    Attributes:
        root: The dataset.
        pairs: Image and mask, relative to the root; the mask is None where it is missing.
        strays: Masks without an image.
        names: Class names, where the dataset states them.
        coding: What the masks' values mean, where the dataset states it.
    """

    root: Path
    pairs: tuple[tuple[str, str | None], ...]
    strays: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    coding: Coding | None = None

    def part(self, split: str) -> MaskFolders:
        """The tenth that is held out for validation, or the rest."""
        out = held_out(image for image, _ in self.pairs)
        alone = len(self.pairs) == 1
        kept = (pair for pair, held in zip(self.pairs, out) if alone or held == (split == "val"))
        return replace(self, pairs=tuple(kept), strays=() if split == "val" else self.strays)


@dataclass(frozen=True)
class CocoJson:
    """A panoptic json with the folder of its label images, or an instance json without, and its images.

    `taken` is "train" or "val" where the json must be divided.
    """

    file: Path
    labels: Path | None
    images: Path
    taken: str | None = None

    def part(self, split: str) -> CocoJson:
        """The tenth that is held out for validation, or the rest."""
        return replace(self, taken=split)

    def read(self) -> CocoMasks:
        """The class maps of this split.

        Raises:
            DataError: The file is no such json.
        """
        masks = read_coco_masks(self.file, self.labels)
        if self.taken is None or len(masks.images) == 1:
            return masks
        return masks.kept(np.flatnonzero(held_out(masks.images) == (self.taken == "val")).tolist())


Source = MaskFolders | CocoJson | SceneSource


def find_masks(path: str, train: str | None = None, val: str | None = None) -> dict[str, Source]:
    """The splits of a semantic dataset: "train" and "val", or one of them.

    A dataset without a validation split has a tenth of its images held out, chosen by a hash of their names.

    Args:
        path: A folder, or `scenes[:COUNT[:SEED]]`.
        train: Name of the training split, when it is not the usual one: a folder, a list or a json.
        val: Name of the validation split.

    Raises:
        DataError: Nothing is recognized, or a split that was named is not there.
    """
    scenes = scene_splits(path)
    if scenes is not None:
        return dict(scenes)
    root = Path(path)
    if not root.is_dir():
        raise DataError("there is no such folder", file=path, hint=EXPECTED)
    wanted = {"train": train, "val": val}
    for find in (_cityscapes, _coco, _split_folders, _lists):
        found = find(root, wanted)
        if found:
            return _with_val(found, val)
    there = ", ".join(sorted(entry.name for entry in root.iterdir())[:12]) or "an empty folder"
    raise DataError("no semantic dataset is recognized", file=path, value=there, hint=EXPECTED)


def _with_val(found: dict[str, Source], val: str | None) -> dict[str, Source]:
    """The splits, with a tenth of the training split held out where none validates and none was named."""
    train = found.get("train")
    if "val" in found or val is not None or not isinstance(train, MaskFolders | CocoJson):
        return found
    return {split: train.part(split) for split in ("train", "val")}


def _cityscapes(root: Path, wanted: dict[str, str | None]) -> dict[str, Source]:
    if not (root / "leftImg8bit").is_dir() or not (root / "gtFine").is_dir():
        return {}
    found: dict[str, Source] = {}
    for split, name in wanted.items():
        images, masks = (root / part / (name or split) for part in ("leftImg8bit", "gtFine"))
        if not images.is_dir():
            _refuse_missing(name, split, root)
            continue
        pairs = []
        for file in list_images(images):
            stem = os.path.splitext(file)[0].removesuffix("_leftImg8bit")
            mask = masks / f"{stem}_gtFine_labelIds.png"
            label = str(mask.relative_to(root)) if mask.is_file() else None
            pairs.append((str((images / file).relative_to(root)), label))
        found[split] = MaskFolders(root, tuple(pairs), (), CITYSCAPES_NAMES, Coding.cityscapes())
    return found


def _coco(root: Path, wanted: dict[str, str | None]) -> dict[str, Source]:
    folder = root / "annotations" if (root / "annotations").is_dir() else root
    found: dict[str, Source] = {}
    for split, name in wanted.items():
        files = [file for kind in ("panoptic", "instances") for file in sorted(folder.glob(f"{kind}_{split}*.json"))]
        if name is not None:
            files = [file for file in (folder / name, folder / f"{name}.json", root / name) if file.is_file()]
        if not files:
            continue
        file = files[0]
        labels = file.with_suffix("") if file.name.startswith("panoptic") else None
        found[split] = CocoJson(file, labels, image_folder(file))
    return found


def _split_folders(root: Path, wanted: dict[str, str | None]) -> dict[str, Source]:
    """train/images with train/masks, images/train with masks/train, or train with train_masks."""
    found: dict[str, Source] = {}
    for split, name in wanted.items():
        for part in (name,) if name else SPLITS[split]:
            both = _both(root / part) or _both(root, part) or _beside(root / part)
            if both is not None:
                found[split] = _paired(root, *both)
                break
    return found


def _lists(root: Path, wanted: dict[str, str | None]) -> dict[str, Source]:
    """images with masks, divided by lists of names, or by a hash of the names."""
    both = _both(root)
    if both is None:
        return {}
    everything = _paired(root, *both)
    if (root / "SegmentationClass").is_dir() and everything.names is None:
        everything = replace(everything, names=VOC_NAMES, coding=Coding(len(VOC_NAMES)), strays=())
    found: dict[str, Source] = {}
    for split, name in wanted.items():
        file = _list_file(root, name or split)
        if file is None:
            _refuse_missing(name, split, root)
            continue
        found[split] = _listed(everything, file)
    return found or {"train": everything}


class ImageNames:
    """Images by what the lines of a list call them: a path, or the end of one, with or without the suffix.

    Args:
        files: Paths below the dataset; their first folder is that of all images.
    """

    def __init__(self, files: Iterable[str]):
        self._by_name: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for file in files:
            folders = PurePath(file).parts[1:-1][::-1]
            for name in (os.path.basename(file), _stem(file)):
                self._by_name.setdefault(name, []).append(((name, *folders), file))

    def find(self, line: str) -> list[str]:
        """The images that a line may mean: none, one, or several between which it does not decide."""
        for text in (line.strip(), *line.split()[:1]):
            for name in (text, os.path.splitext(text)[0]):
                if found := self._named(PurePath(name).parts[::-1]):
                    return found
        return []

    def _named(self, parts: tuple[str, ...]) -> list[str]:
        """Of names that end alike the longest that lie within the line, else those within which the line lies."""
        alike = [
            (key, file)
            for key, file in self._by_name.get(parts[0] if parts else "", ())
            if all(mine == theirs for mine, theirs in zip(key, parts))
        ]
        longest = max((len(key) for key, _ in alike if len(key) <= len(parts)), default=0)
        return [file for key, file in alike if not longest or len(key) == longest]


def _listed(everything: MaskFolders, file: Path) -> MaskFolders:
    """The pairs that a list names, by stem or by path."""
    masks, names = dict(everything.pairs), ImageNames(image for image, _ in everything.pairs)
    pairs = []
    for row, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        found = names.find(line)
        if not found:
            raise DataError("no image has this name", file=file, field=f"line {row}", value=line.strip())
        if len(found) > 1:
            hint = f"Write the path: {' or '.join(found[:3])}."
            raise DataError("several images have this name", file=file, field=f"line {row}", value=line, hint=hint)
        pairs.append((found[0], masks[found[0]]))
    return replace(everything, pairs=tuple(pairs), strays=())


def _list_file(root: Path, name: str) -> Path | None:
    places = (root, root / "ImageSets" / "Segmentation", root / "splits", root / "lists")
    return next((file for place in places for file in (place / f"{name}.txt", place / name) if file.is_file()), None)


def _both(root: Path, part: str = "") -> tuple[Path, Path] | None:
    """The folders of images and of masks."""
    images = [root / name / part for name in IMAGES if (root / name / part).is_dir()]
    masks = [root / name / part for name in MASKS if (root / name / part).is_dir()]
    return (images[0], masks[0]) if images and masks else None


def _beside(images: Path) -> tuple[Path, Path] | None:
    """The folder of images, and that of masks next to it."""
    folders = (images.with_name(images.name + ending) for ending in BESIDE)
    masks = next((folder for folder in folders if folder.is_dir()), None)
    return (images, masks) if masks is not None and images.is_dir() else None


def _paired(root: Path, images: Path, masks: Path) -> MaskFolders:
    """Images with the masks of the same path whatever the suffix, or of the same name where only one has it."""
    files = list_images(images)
    labels = {os.path.splitext(file)[0]: str((masks / file).relative_to(root)) for file in list_images(masks)}
    own = {file: _taken(labels, os.path.splitext(file)[0]) for file in files}
    names, by_name = Counter(map(_stem, files)), _by_name(labels)
    for file in [file for file in files if own[file] is None]:
        keys = [key for end in ("", *SUFFIXES) for key in by_name.get(_stem(file) + end, ()) if key in labels]
        if len(keys) > 1 or (keys and names[_stem(file)] > 1):
            value, hint = [labels[key] for key in keys[:3]], "Put it where its image lies, in folders of equal names."
            raise DataError("the name does not say which mask is whose", file=images / file, value=value, hint=hint)
        own[file] = labels.pop(keys[0]) if keys else None
    stated, unknown = class_list(root)
    values = tuple(row for row in range(len(stated) + len(unknown)) if row not in unknown)
    coding = Coding(len(stated), values, unknown=unknown) if stated else None
    pairs = tuple((str((images / file).relative_to(root)), mask) for file, mask in own.items())
    return MaskFolders(root, pairs, tuple(labels.values()), stated or None, coding)


def _taken(labels: dict[str, str], name: str) -> str | None:
    """Takes an image's mask out of those that are left."""
    return next((labels.pop(name + end) for end in ("", *SUFFIXES) if name + end in labels), None)


def _by_name(labels: Iterable[str]) -> dict[str, list[str]]:
    """Name without folders -> the paths that end so."""
    found: dict[str, list[str]] = {}
    for key in labels:
        found.setdefault(os.path.basename(key), []).append(key)
    return found


def class_list(root: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names in classes.txt, one a line, numbered from 0; and the numbers of the lines that read `-`."""
    file = root / "classes.txt"
    lines = [line.strip() for line in read_lines(file)] if file.is_file() else []
    while lines and not lines[-1]:
        lines.pop()
    names = tuple(line for line in lines if line != NOT_A_CLASS)
    return names, tuple(row for row, line in enumerate(lines) if line == NOT_A_CLASS)


def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]


def _refuse_missing(name: str | None, split: str, root: Path) -> None:
    if name is not None:
        raise DataError("there is no such split", file=root, field=f"data.{split}", value=name)
