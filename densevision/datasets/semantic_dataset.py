"""Images with class maps as samples: from files, or from procedural scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from densevision.datasets.formats.coco_masks import BACKGROUND, CocoMasks
from densevision.datasets.mask_layouts import MaskFolderSource
from densevision.datasets.scenes import SEMANTIC_CLASSES, Scenes
from densevision.errors import DataError
from densevision.io.box_table import StringArray
from densevision.io.image import convert_channels
from densevision.io.image_cache import ImageCache, read_cached_image
from densevision.io.image_files import measure_images
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.io.masks import UNKNOWN, UNKNOWN_MULTILABEL, LabelEncoding
from densevision.results import SemanticMap
from densevision.sample import Sample

__all__ = [
    "MaskFiles",
    "MaskReader",
    "SceneSemanticDataset",
    "SemanticDataset",
    "build_binary_lookup",
    "build_label_lookup",
    "open_coco_masks",
    "open_mask_folders",
]


class MaskReader(Protocol):
    """Reads class maps by index."""

    def read(self, index: int, size: tuple[int, int], multilabel: bool = False) -> np.ndarray:
        """Returns the (H, W) labels, as in `SemanticMap`, of the image of this size."""


@dataclass(frozen=True)
class MaskFiles:
    """Masks stored as images.

    Attributes:
        folder: The folder that file names are relative to.
        files: Names of the masks.
        encoding: Classes of the pixel values.
        max_pixels: Larger masks are refused.
    """

    folder: Path
    files: StringArray
    encoding: LabelEncoding
    max_pixels: int

    def read(self, index: int, size: tuple[int, int], multilabel: bool = False) -> np.ndarray:
        """Reads a mask; with `multilabel` its values are sets of classes.

        Raises:
            DataError: The mask cannot be read, its size differs from the image, or a value has no class.
        """
        path = self.folder / self.files[index]
        read = self.encoding.read_multilabel if multilabel else self.encoding.read
        labels = read(path, self.max_pixels)
        if labels.shape != tuple(size):
            problem, hint = "the mask's size differs from its image", f"The image is {size[0]} x {size[1]}."
            raise DataError(problem, file=path, value=labels.shape, hint=f"{hint} Export the mask again.")
        return labels


class SemanticDataset:
    """A semantic dataset on disk. Reading a sample has no side effects, so workers may share it.

    Args:
        folder: The folder that image names are relative to.
        images: Names of the images.
        masks: Their class maps.
        names: The requested class names.
        channels: Channels of the network's input.
        max_pixels: Larger images are refused.
        lookup: (256,) uint8, class of the dataset -> requested class; None if they are the same.
        multilabel: Read sets of classes.
        notes: What was fixed or skipped.
        cache: Keeps decoded images.
    """

    def __init__(
        self,
        folder: Path,
        images: Sequence[str],
        masks: MaskReader,
        names: tuple[str, ...],
        channels: int,
        max_pixels: int,
        lookup: np.ndarray | None = None,
        multilabel: bool = False,
        notes: Sequence[str] = (),
        cache: ImageCache | None = None,
    ):
        self.folder, self.images, self.masks, self.names = folder, StringArray.of(images), masks, names
        self.channels, self.max_pixels, self.multilabel, self.notes = channels, max_pixels, multilabel, tuple(notes)
        self.lookup, self.cache = lookup, cache

    def __len__(self) -> int:
        return len(self.images)

    def file(self, index: int) -> str:
        """Returns the file of an image."""
        return str(self.folder / self.images[index])

    def __getitem__(self, index: int) -> Sample:
        """Reads an image, (H, W, channels), with its class map.

        Raises:
            DataError: The image or the mask cannot be read, or their sizes differ.
        """
        name = self.images[index]
        path = self.folder / name
        image = convert_channels(read_cached_image(path, self.max_pixels, self.cache), self.channels)
        size = (image.shape[0], image.shape[1])
        labels = self.masks.read(index, size, self.multilabel)
        if self.lookup is not None:
            labels = self.lookup[labels]
        truth = SemanticMap(labels=labels, names=self.names, multilabel=self.multilabel, size=size, source=str(path))
        return Sample({"image": image}, truth, name, str(path))


class SceneSemanticDataset:
    """Procedural scenes with class maps.

    Args:
        scenes: The scenes.
        names: The requested class names.
        channels: Channels of the network's input.
        mode: "multiclass": classes of room and objects; "binary": 1 for objects; "multilabel": sets of one class.
    """

    notes: Sequence[str] = ()

    def __init__(self, scenes: Scenes, names: tuple[str, ...], channels: int = 3, mode: str = "multiclass"):
        self.scenes, self.names, self.channels, self.multilabel = scenes, names, channels, mode == "multilabel"
        if mode == "binary":
            self.lookup = np.array([name in scenes.classes for name in SEMANTIC_CLASSES], np.uint8)
        else:
            self.lookup = build_label_lookup(SEMANTIC_CLASSES, names)

    def __len__(self) -> int:
        return len(self.scenes)

    def file(self, index: int) -> str:
        """Returns the name of a scene without rendering it."""
        return self.scenes.name(index)

    def __getitem__(self, index: int) -> Sample:
        """Renders a scene with its class map."""
        scene = self.scenes[index]
        image = convert_channels(scene.image, self.channels)
        labels = self.lookup[scene.semantic]
        if self.multilabel:
            labels = np.where(labels == UNKNOWN, UNKNOWN_MULTILABEL, 1 << labels.astype(np.uint32)).astype(np.uint16)
        truth = SemanticMap(
            labels=labels, names=self.names, multilabel=self.multilabel, size=image.shape[:2], source=image
        )
        return Sample({"image": image}, truth, index, scene.name)


def open_mask_folders(
    source: MaskFolderSource, encoding: LabelEncoding, issues: LabelIssues, max_pixels: int, multilabel: bool = False
) -> tuple[list[str], MaskFiles]:
    """Checks the images and masks of a split and returns the valid pairs.

    Every header is read. The pixels of the masks are read only under `fix` and `skip`, whose issues must be counted
    before a worker meets them.

    Raises:
        DataError: A file is missing or invalid, and the policy is `fail`.
    """
    for note in source.notes:
        issues.add_note(note)
    for unmatched in source.unmatched_masks:
        issues.add(IssueKind.IMAGE_ABSENT, source.root / unmatched, None, unmatched, unmatched)
    pairs = []
    for image, mask in source.pairs:
        if mask is None:
            issues.add(IssueKind.LABELS_MISSING, source.root / image, None, image, image)
        else:
            pairs.append((image, mask))
    image_sizes, mask_sizes = (
        _measure_images(source.root, [pair[side] for pair in pairs], issues, max_pixels) for side in (0, 1)
    )
    valid_pairs = []
    for (image, mask), image_size, mask_size in zip(pairs, image_sizes, mask_sizes):
        if not image_size.all() or not mask_size.all():
            continue
        if (image_size != mask_size).any():
            value = f"{mask_size[0]} x {mask_size[1]}, the image {image_size[0]} x {image_size[1]}"
            issues.add(IssueKind.MASK_SIZE, source.root / mask, "height x width", value, image)
        else:
            valid_pairs.append((image, mask))
    return _check_mask_values(source.root, valid_pairs, encoding, issues, max_pixels, multilabel)


def open_coco_masks(
    masks: CocoMasks, folder: Path, issues: LabelIssues, max_pixels: int
) -> tuple[list[str], CocoMasks]:
    """Checks the images and segmentations of a COCO JSON and returns the valid ones."""
    masks = masks.localize(folder, issues)
    sizes = _measure_images(folder, masks.images, issues, max_pixels, masks.file)
    valid = masks.validate(sizes, issues)
    return list(valid.images), valid


def build_label_lookup(dataset_names: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """Maps the classes of a dataset to requested ones.

    Returns:
        (256,) uint8: class of the dataset -> index into `names`, 255 for classes that are not requested.

    Raises:
        DataError: None of the requested classes is in the dataset.
    """
    index = {name: position for position, name in enumerate(names)}
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[: len(dataset_names)] = [index.get(name, UNKNOWN) for name in dataset_names]
    if (lookup == UNKNOWN).all():
        hint = f"The dataset has: {', '.join(dataset_names[:20])}."
        raise DataError("the dataset has none of the requested classes", field="classes", value=names, hint=hint)
    return lookup


def build_binary_lookup(
    dataset_names: tuple[str, ...], names: tuple[str, ...], stuff: Sequence[str] = ()
) -> np.ndarray:
    """Maps the classes of a dataset to background and foreground.

    If the dataset has both requested names, they are matched by name and all others are unknown. If it has one of
    them, all other classes are the opposite. If it has neither, the background is its class `background`, its `stuff`
    classes, or the first of two classes.

    Args:
        dataset_names: Class names of the dataset.
        names: Requested names of background and foreground.
        stuff: Classes of the dataset that are not objects.

    Returns:
        (256,) uint8: 0 background, 1 foreground, 255 neither.

    Raises:
        DataError: The background class cannot be determined.
    """
    background, foreground = names
    if background in dataset_names and foreground in dataset_names:
        return build_label_lookup(dataset_names, names)
    classes = {*dataset_names}
    if foreground in classes:
        backgrounds = classes - {foreground}
    else:
        backgrounds = {background} & classes or {BACKGROUND, *stuff} & classes
    if not backgrounds and len(dataset_names) == 2:
        backgrounds = {dataset_names[0]}
    if not backgrounds:
        hint = f"Name it first: classes=[NAME, foreground]. The dataset has: {', '.join(dataset_names[:20])}."
        raise DataError("no class is the background", field="classes", value=names, hint=hint)
    lookup = np.full(256, UNKNOWN, np.uint8)
    lookup[: len(dataset_names)] = [name not in backgrounds for name in dataset_names]
    return lookup


def _measure_images(
    root: Path, files: Sequence[str], issues: LabelIssues, max_pixels: int, listing: Path | None = None
) -> np.ndarray:
    """Returns the (n, 2) sizes of images; 0 for those that are skipped."""
    names = StringArray.of(files)

    def locate(row: int) -> tuple[str, str]:
        return str(listing or root / names[row]), "file_name"

    return measure_images(names, root, np.ones(len(names), bool), issues, max_pixels, locate)


def _check_mask_values(
    root: Path,
    pairs: Sequence[tuple[str, str]],
    encoding: LabelEncoding,
    issues: LabelIssues,
    max_pixels: int,
    multilabel: bool,
) -> tuple[list[str], MaskFiles]:
    valid_pairs = list(pairs)
    if issues.on_error != "fail":
        valid_pairs = []
        tolerant, unknown = encoding.tolerant(), UNKNOWN_MULTILABEL if multilabel else UNKNOWN
        read, read_tolerant = (reader.read_multilabel if multilabel else reader.read for reader in (encoding, tolerant))
        for image, mask in pairs:
            labels: np.ndarray | None
            try:
                labels = read(root / mask, max_pixels)
            except DataError as failure:
                labels = _read_or_none(read_tolerant, root / mask, max_pixels)
                kind = IssueKind.IMAGE_BROKEN if labels is None else IssueKind.MASK_VALUE
                if not issues.add(kind, root / mask, failure.field, failure.problem, image):
                    continue
            if np.all(labels == unknown):
                issues.warn(IssueKind.MASK_UNKNOWN, root / mask, subject=image)
            valid_pairs.append((image, mask))
        encoding = tolerant
    files = StringArray.of(mask for _, mask in valid_pairs)
    return [image for image, _ in valid_pairs], MaskFiles(root, files, encoding, max_pixels)


def _read_or_none(read: Callable[[Path, int], np.ndarray], mask: Path, max_pixels: int) -> np.ndarray | None:
    """Reads a mask with invalid values as unknown; None if it is not a mask at all, such as a photo."""
    try:
        return read(mask, max_pixels)
    except DataError:
        return None
