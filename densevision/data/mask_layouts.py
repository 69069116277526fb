"""Which semantic dataset a path holds, by what lies there: folders of masks, Cityscapes, VOC, COCO, or `scenes`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from densevision.data.recognise import picture_folder
from densevision.data.scene_splits import SceneSource, scene_splits
from densevision.errors import DataError
from densevision.io.lines import read_lines
from densevision.io.masks import CITYSCAPES_NAMES, Coding
from densevision.io.pictures import held_out, list_pictures

EXPECTED = (
    "Expected: train/images with train/masks; images/train with masks/train; images with masks (train.txt, val.txt); "
    "leftImg8bit with gtFine (Cityscapes); JPEGImages with SegmentationClass (Pascal VOC); annotations/panoptic_*.json "
    "or instances_*.json with images (COCO); or scenes[:COUNT[:SEED]]."
)
IMAGES = ("images", "image", "imgs", "img", "JPEGImages")
MASKS = ("masks", "mask", "labels", "annotations", "SegmentationClass")
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
SUFFIXES = ("_mask", "_label", "_labels", "_gtFine_labelIds", "_L")
"""What the name of a mask may add to its picture's."""
VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
NOT_A_CLASS = "-"
"""A line of classes.txt whose number means unknown."""


@dataclass(frozen=True)
class MaskFolders:
    """Pictures and masks of one split.

    Attributes:
        root: The dataset.
        pairs: Picture and mask, relative to the root; the mask is None where it is missing.
        strays: Masks without a picture.
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
        out = held_out(picture for picture, _ in self.pairs)
        alone = len(self.pairs) == 1
        kept = (pair for pair, held in zip(self.pairs, out) if alone or held == (split == "val"))
        return replace(self, pairs=tuple(kept), strays=() if split == "val" else self.strays)


@dataclass(frozen=True)
class CocoJson:
    """A panoptic json with the folder of its label pictures, or an instance json without, and its pictures."""

    file: Path
    labels: Path | None
    pictures: Path


Source = MaskFolders | CocoJson | SceneSource


def find_masks(path: str, train: str | None = None, val: str | None = None) -> dict[str, Source]:
    """The splits of a semantic dataset: "train" and "val", or one of them.

    A dataset without a validation split has a tenth of its pictures held out, chosen by a hash of their names.

    Args:
        path: A folder, or `scenes[:COUNT[:SEED]]`.
        train: Name of the training split, when it is not the usual one: a folder, a list or a json.
        val: Name of the validation split.

    Raises:
        DataError: Nothing is recognised, or a split that was named is not there.
    """
    scenes = scene_splits(path)
    if scenes is not None:
        return dict(scenes)
    root = Path(path)
    if not root.is_dir():
        raise DataError("there is no such folder", file=path, mend=EXPECTED)
    wanted = {"train": train, "val": val}
    for find in (_cityscapes, _coco, _split_folders, _lists):
        found = find(root, wanted)
        if found:
            return found
    there = ", ".join(sorted(entry.name for entry in root.iterdir())[:12]) or "an empty folder"
    raise DataError("no semantic dataset is recognised", file=path, value=there, mend=EXPECTED)


def _cityscapes(root: Path, wanted: dict[str, str | None]) -> dict[str, Source]:
    if not (root / "leftImg8bit").is_dir() or not (root / "gtFine").is_dir():
        return {}
    found: dict[str, Source] = {}
    for split, name in wanted.items():
        pictures, masks = (root / part / (name or split) for part in ("leftImg8bit", "gtFine"))
        if not pictures.is_dir():
            _refuse_missing(name, split, root)
            continue
        pairs = []
        for file in list_pictures(pictures):
            stem = os.path.splitext(file)[0].removesuffix("_leftImg8bit")
            mask = masks / f"{stem}_gtFine_labelIds.png"
            label = str(mask.relative_to(root)) if mask.is_file() else None
            pairs.append((str((pictures / file).relative_to(root)), label))
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
        found[split] = CocoJson(file, labels, picture_folder(file))
    return found


def _split_folders(root: Path, wanted: dict[str, str | None]) -> dict[str, Source]:
    """train/images with train/masks, or images/train with masks/train."""
    found: dict[str, Source] = {}
    for split, name in wanted.items():
        for part in (name,) if name else SPLITS[split]:
            both = _both(root / part) or _both(root, part)
            if both is not None:
                found[split] = _paired(root, *both)
                break
    if found and "val" not in found and wanted["val"] is None and isinstance(found["train"], MaskFolders):
        return {split: found["train"].part(split) for split in ("train", "val")}
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
    return found or {split: everything.part(split) for split in ("train", "val")}


def _listed(everything: MaskFolders, file: Path) -> MaskFolders:
    """The pairs that a list names, by stem or by path."""
    by_stem = {_stem(picture): pair for pair in everything.pairs for picture in pair[:1]}
    pairs = []
    for row, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        stem = _stem(line.split()[0])
        if stem not in by_stem:
            raise DataError("no picture has this name", file=file, field=f"line {row}", value=line.strip())
        pairs.append(by_stem[stem])
    return replace(everything, pairs=tuple(pairs), strays=())


def _list_file(root: Path, name: str) -> Path | None:
    places = (root, root / "ImageSets" / "Segmentation", root / "splits", root / "lists")
    return next((file for place in places for file in (place / f"{name}.txt", place / name) if file.is_file()), None)


def _both(root: Path, part: str = "") -> tuple[Path, Path] | None:
    """The folders of pictures and of masks."""
    pictures = [root / name / part for name in IMAGES if (root / name / part).is_dir()]
    masks = [root / name / part for name in MASKS if (root / name / part).is_dir()]
    return (pictures[0], masks[0]) if pictures and masks else None


def _paired(root: Path, pictures: Path, masks: Path) -> MaskFolders:
    """Pictures with the masks of the same name, whatever the suffix."""
    labels = {_stem(file): str((masks / file).relative_to(root)) for file in list_pictures(masks)}
    pairs = []
    for file in list_pictures(pictures):
        stem = _stem(file)
        mask = next((labels.pop(stem + end) for end in ("", *SUFFIXES) if stem + end in labels), None)
        pairs.append((str((pictures / file).relative_to(root)), mask))
    names, unknown = class_list(root)
    values = tuple(row for row in range(len(names) + len(unknown)) if row not in unknown)
    coding = Coding(len(names), values, unknown=unknown) if names else None
    return MaskFolders(root, tuple(pairs), tuple(labels.values()), names or None, coding)


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
