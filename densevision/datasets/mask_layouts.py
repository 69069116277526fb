"""Detects the format of a semantic dataset: mask folders, Cityscapes, VOC, COCO, or procedural scenes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from densevision.datasets.format_detection import CONVERT_HINT, OBJECT_FORMATS, find_image_folder, list_content
from densevision.datasets.formats.coco_masks import CocoMasks, read_coco_masks, read_mask_classes
from densevision.datasets.mask_classes import find_voc_classes, read_class_list
from densevision.datasets.splits import HOLD_OUT_NOTE, SPLIT_NAMES, SceneSource, parse_scene_splits, select_split
from densevision.errors import DataError
from densevision.io.image_files import list_images
from densevision.io.label_issues import LabelIssues
from densevision.io.lines import read_lines
from densevision.io.masks import CITYSCAPES_NAMES, LabelEncoding

__all__ = [
    "MASK_SUFFIXES",
    "CocoMaskSource",
    "ImageNameIndex",
    "MaskFolderSource",
    "MaskSource",
    "detect_mask_format",
]

EXPECTED = (
    "Expected: train/images with train/masks; images/train with masks/train; train with train_masks or trainannot; "
    "images with masks (train.txt, val.txt); "
    "leftImg8bit with gtFine (Cityscapes); JPEGImages with SegmentationClass (Pascal VOC); annotations/panoptic_*.json "
    "or instances_*.json with images (COCO); objects with masks in "
    f"{OBJECT_FORMATS}; or scenes[:COUNT[:SEED]]. {CONVERT_HINT}"
)
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "JPEGImages")
MASK_FOLDERS = ("masks", "mask", "labels", "annotations", "ann_dir", "SegmentationClass")
MASK_FOLDER_SUFFIXES = ("_masks", "_mask", "_labels", "_annotations", "annot")
"""What a mask folder's name adds to that of the image folder next to it."""
MASK_SUFFIXES = ("_mask", "_label", "_labels", "_gtFine_labelIds", "_L")
"""What a mask's name may add to that of its image."""


@dataclass(frozen=True)
class MaskFolderSource:
    """Images and masks of one split.

    Attributes:
        root: The dataset.
        pairs: Image and mask, relative to the root; the mask is None if it is missing.
        unmatched_masks: Masks without an image.
        names: Class names, if the dataset provides them.
        encoding: Classes of the pixel values, if the dataset provides them.
        notes: Choices made during detection.
    """

    root: Path
    pairs: tuple[tuple[str, str | None], ...]
    unmatched_masks: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    encoding: LabelEncoding | None = None
    notes: tuple[str, ...] = ()

    def select_part(self, split: str) -> MaskFolderSource:
        """Returns the tenth that is held out for validation, or the rest for training."""
        mask = select_split((image for image, _ in self.pairs), split)
        pairs = tuple(pair for pair, is_selected in zip(self.pairs, mask) if is_selected)
        unmatched = () if split == "val" else self.unmatched_masks
        return replace(self, pairs=pairs, unmatched_masks=unmatched, notes=(*self.notes, HOLD_OUT_NOTE))


@dataclass(frozen=True)
class CocoMaskSource:
    """A COCO JSON and its image folder.

    Attributes:
        file: A panoptic JSON or an instance JSON.
        labels: The folder of panoptic label images; None for an instance JSON.
        images: The image folder.
        part: "train" or "val" if the JSON must be divided.
    """

    file: Path
    labels: Path | None
    images: Path
    part: str | None = None

    def select_part(self, split: str) -> CocoMaskSource:
        """Returns the tenth that is held out for validation, or the rest for training."""
        return replace(self, part=split)

    def classes(self) -> tuple[str, ...]:
        """Returns the class names; those of an instance JSON begin with the background."""
        return read_mask_classes(self.file, self.labels is not None)

    def read(self, issues: LabelIssues) -> CocoMasks:
        """Reads the class maps of this split.

        Raises:
            DataError: The file is not a panoptic or instance JSON, or an entry is invalid and the policy is `fail`.
        """
        masks = read_coco_masks(self.file, self.labels, issues)
        if self.part is None:
            return masks
        issues.add_note(HOLD_OUT_NOTE)
        return masks.select(np.flatnonzero(select_split(masks.images, self.part)).tolist())


MaskSource = MaskFolderSource | CocoMaskSource | SceneSource


def detect_mask_format(path: str, train: str | None = None, val: str | None = None) -> dict[str, MaskSource]:
    """Detects the splits of a semantic dataset: "train" and "val", or one of them.

    Without a validation split, a tenth of the images is held out, selected by a hash of their names.

    Args:
        path: A folder, or `scenes[:COUNT[:SEED]]`.
        train: Name of the training split, if it is not a standard one: a folder, a list or a JSON.
        val: Name of the validation split.

    Raises:
        DataError: The format is unknown, or a named split is missing.
    """
    scenes = parse_scene_splits(path)
    if scenes is not None:
        return dict(scenes)
    root = Path(path)
    if not root.is_dir():
        raise DataError("there is no such folder", file=path, hint=EXPECTED)
    split_names = {"train": train, "val": val}
    for detect in (_detect_cityscapes, _detect_coco, _detect_split_folders, _detect_image_lists):
        splits = detect(root, split_names)
        if splits:
            return _add_validation_split(splits, val)
    raise DataError("unknown format of a semantic dataset", file=path, value=list_content(root), hint=EXPECTED)


def _add_validation_split(splits: dict[str, MaskSource], val: str | None) -> dict[str, MaskSource]:
    """Holds out a tenth of the training split if there is no validation split and none was named."""
    train = splits.get("train")
    if "val" in splits or val is not None or not isinstance(train, MaskFolderSource | CocoMaskSource):
        return splits
    return {split: train.select_part(split) for split in ("train", "val")}


def _detect_cityscapes(root: Path, split_names: dict[str, str | None]) -> dict[str, MaskSource]:
    if not (root / "leftImg8bit").is_dir() or not (root / "gtFine").is_dir():
        return {}
    splits: dict[str, MaskSource] = {}
    for split, name in split_names.items():
        images, masks = (root / folder / (name or split) for folder in ("leftImg8bit", "gtFine"))
        if not images.is_dir():
            _refuse_missing_split(name, split, root)
            continue
        pairs = []
        for file in list_images(images):
            stem = os.path.splitext(file)[0].removesuffix("_leftImg8bit")
            mask = masks / f"{stem}_gtFine_labelIds.png"
            mask_name = str(mask.relative_to(root)) if mask.is_file() else None
            pairs.append((str((images / file).relative_to(root)), mask_name))
        splits[split] = MaskFolderSource(root, tuple(pairs), (), CITYSCAPES_NAMES, LabelEncoding.cityscapes())
    return splits


def _detect_coco(root: Path, split_names: dict[str, str | None]) -> dict[str, MaskSource]:
    folder = root / "annotations" if (root / "annotations").is_dir() else root
    splits: dict[str, MaskSource] = {}
    for split, name in split_names.items():
        files = [file for kind in ("panoptic", "instances") for file in sorted(folder.glob(f"{kind}_{split}*.json"))]
        if name is not None:
            files = [file for file in (folder / name, folder / f"{name}.json", root / name) if file.is_file()]
        if not files:
            continue
        file = files[0]
        labels = file.with_suffix("") if file.name.startswith("panoptic") else None
        splits[split] = CocoMaskSource(file, labels, find_image_folder(file))
    return splits


def _detect_split_folders(root: Path, split_names: dict[str, str | None]) -> dict[str, MaskSource]:
    """Detects train/images with train/masks, images/train with masks/train, and train with train_masks."""
    splits: dict[str, MaskSource] = {}
    for split, name in split_names.items():
        for word in (name,) if name else SPLIT_NAMES[split]:
            folders = _find_folders(root / word) or _find_folders(root, word) or _find_mask_sibling(root / word)
            if folders is not None:
                splits[split] = _match_masks(root, *folders)
                break
    return splits


def _detect_image_lists(root: Path, split_names: dict[str, str | None]) -> dict[str, MaskSource]:
    """Detects images with masks, divided by lists of names."""
    folders = _find_folders(root)
    if folders is None:
        return {}
    source = _match_masks(root, *folders)
    if (root / "SegmentationClass").is_dir() and source.names is None:
        masks = [mask for _, mask in source.pairs if mask is not None]
        classes = find_voc_classes(root, [image for image, _ in source.pairs], masks)
        source = replace(source, unmatched_masks=(), **({} if classes is None else classes._asdict()))
    splits: dict[str, MaskSource] = {}
    for split, name in split_names.items():
        file = _find_list_file(root, name or split)
        if file is None:
            _refuse_missing_split(name, split, root)
            continue
        splits[split] = _select_listed(source, file)
    return splits or {"train": source}


class ImageNameIndex:
    """Finds images by the lines of a list: a path or its last parts, with or without the suffix.

    Args:
        files: Paths in the dataset; their first folder is that of all images.
    """

    def __init__(self, files: Iterable[str]):
        self._by_name: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for file in files:
            folders = PurePath(file).parts[1:-1][::-1]
            for name in (os.path.basename(file), _get_stem(file)):
                self._by_name.setdefault(name, []).append(((name, *folders), file))

    def find(self, line: str) -> list[str]:
        """Returns the images that a line may mean: none, one, or several if it is ambiguous."""
        line = line.strip()
        for text in dict.fromkeys((line, *line.split()[:1], line.replace("\\", "/"))):
            for name in (text, os.path.splitext(text)[0]):
                if files := self._find_parts(PurePath(name).parts[::-1]):
                    return files
        return []

    def _find_parts(self, parts: tuple[str, ...]) -> list[str]:
        """Returns the longest names that the line ends with, otherwise the names that end with the line."""
        matches = [
            (key, file)
            for key, file in self._by_name.get(parts[0] if parts else "", ())
            if all(key_part == line_part for key_part, line_part in zip(key, parts))
        ]
        max_length = max((len(key) for key, _ in matches if len(key) <= len(parts)), default=0)
        return [file for key, file in matches if not max_length or len(key) == max_length]


def _select_listed(source: MaskFolderSource, file: Path) -> MaskFolderSource:
    """Selects the pairs that a list names, by stem or by path."""
    masks, index = dict(source.pairs), ImageNameIndex(image for image, _ in source.pairs)
    pairs = []
    for row, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        images = index.find(line)
        if not images:
            raise DataError("no image has this name", file=file, field=f"line {row}", value=line.strip())
        if len(images) > 1:
            hint = f"Write the path: {' or '.join(images[:3])}."
            raise DataError("several images have this name", file=file, field=f"line {row}", value=line, hint=hint)
        pairs.append((images[0], masks[images[0]]))
    return replace(source, pairs=tuple(pairs), unmatched_masks=())


def _find_list_file(root: Path, name: str) -> Path | None:
    folders = (root, root / "ImageSets" / "Segmentation", root / "splits", root / "lists")
    return next((file for base in folders for file in (base / f"{name}.txt", base / name) if file.is_file()), None)


def _find_folders(root: Path, subfolder: str = "") -> tuple[Path, Path] | None:
    """Finds the image folder and the mask folder."""
    images = [root / name / subfolder for name in IMAGE_FOLDERS if (root / name / subfolder).is_dir()]
    masks = [root / name / subfolder for name in MASK_FOLDERS if (root / name / subfolder).is_dir()]
    return (images[0], masks[0]) if images and masks else None


def _find_mask_sibling(images: Path) -> tuple[Path, Path] | None:
    """Finds the mask folder next to an image folder."""
    folders = (images.with_name(images.name + suffix) for suffix in MASK_FOLDER_SUFFIXES)
    masks = next((folder for folder in folders if folder.is_dir()), None)
    return (images, masks) if masks is not None and images.is_dir() else None


def _match_masks(root: Path, images: Path, masks: Path) -> MaskFolderSource:
    """Matches images with masks of the same path, or of the same name if it is unique; suffixes may differ."""
    files = list_images(images)
    mask_files = {os.path.splitext(file)[0]: str((masks / file).relative_to(root)) for file in list_images(masks)}
    matches = {file: _pop_mask(mask_files, os.path.splitext(file)[0]) for file in files}
    stem_counts, keys_by_name = Counter(map(_get_stem, files)), _group_by_name(mask_files)
    for file in [file for file in files if matches[file] is None]:
        stem = _get_stem(file)
        keys = [key for end in ("", *MASK_SUFFIXES) for key in keys_by_name.get(stem + end, ()) if key in mask_files]
        if len(keys) > 1 or (keys and stem_counts[stem] > 1):
            problem, hint = "the mask of this image is ambiguous", "Give images and masks the same folder structure."
            raise DataError(problem, file=images / file, value=[mask_files[key] for key in keys[:3]], hint=hint)
        matches[file] = mask_files.pop(keys[0]) if keys else None
    names, unknown = read_class_list(root)
    values = tuple(value for value in range(len(names) + len(unknown)) if value not in unknown)
    encoding = LabelEncoding(len(names), values, unknown=unknown) if names else None
    pairs = tuple((str((images / file).relative_to(root)), mask) for file, mask in matches.items())
    return MaskFolderSource(root, pairs, tuple(mask_files.values()), names or None, encoding)


def _pop_mask(mask_files: dict[str, str], name: str) -> str | None:
    """Removes and returns the mask of an image."""
    return next((mask_files.pop(name + end) for end in ("", *MASK_SUFFIXES) if name + end in mask_files), None)


def _group_by_name(paths: Iterable[str]) -> dict[str, list[str]]:
    """Groups paths by their names without folders."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(os.path.basename(path), []).append(path)
    return groups


def _get_stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]


def _refuse_missing_split(name: str | None, split: str, root: Path) -> None:
    if name is not None:
        raise DataError("there is no such split", file=root, field=f"data.{split}", value=name)
