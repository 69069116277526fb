"""Images with class maps as samples: from files, or from the procedural world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from densevision.datasets.formats.coco_masks import BACKGROUND, CocoMasks
from densevision.datasets.mask_layouts import MaskFolders
from densevision.datasets.scenes import SEMANTIC_CLASSES, Scenes
from densevision.errors import DataError
from densevision.io.box_table import Strings
from densevision.io.image import read_image, to_channels
from densevision.io.image_files import measure_images
from densevision.io.label_issues import Findings, Kind
from densevision.io.masks import UNKNOWN, UNKNOWN_SET, Coding
from densevision.results import SemanticMap
from densevision.sample import Sample


class Masks(Protocol):
    """Class maps by number."""

    def read(self, index: int, size: tuple[int, int], multilabel: bool = False) -> np.ndarray:
        """(H, W) labels as `SemanticMap` holds them, of the image of this size."""


@dataclass(frozen=True)
class MaskFiles:
    """Masks as images.

    Attributes:
        folder: Where their names start.
        files: Their names.
        coding: What their values mean.
        max_pixels: Largest mask that is decoded.
    """

    folder: Path
    files: Strings
    coding: Coding
    max_pixels: int

    def read(self, index: int, size: tuple[int, int], multilabel: bool = False) -> np.ndarray:
        """The labels of a mask; with `multilabel` its values are sets of classes.

        Raises:
            DataError: The mask cannot be read, is of another size than its image, or holds what is no class.
        """
        path = self.folder / self.files[index]
        read = self.coding.read_sets if multilabel else self.coding.read
        labels = read(path, self.max_pixels)
        if labels.shape != tuple(size):
            hint = f"The image is {size[0]} x {size[1]}. Make the mask anew from it."
            raise DataError("the mask is of another size than its image", file=path, value=labels.shape, hint=hint)
        return labels


class MaskSet:
    """A semantic dataset on disk. Reading is pure, so workers may share it.

    Args:
        folder: Where the images' names start.
        images: Their names.
        masks: Their class maps.
        names: The class names that are wanted.
        channels: Channels that the network wants.
        max_pixels: Limit of an image.
        table: (256,) uint8, own class to wanted one; None where they are the same.
        multilabel: Read sets of classes.
        notes: What was fixed or left out.
    """

    def __init__(
        self,
        folder: Path,
        images: Sequence[str],
        masks: Masks,
        names: tuple[str, ...],
        channels: int,
        max_pixels: int,
        table: np.ndarray | None = None,
        multilabel: bool = False,
        notes: Sequence[str] = (),
    ):
        self.folder, self.images, self.masks, self.names = folder, Strings.of(images), masks, names
        self.channels, self.max_pixels, self.multilabel, self.notes = channels, max_pixels, multilabel, tuple(notes)
        self.table = table

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """The image, (H, W, `channels`) as read, with its class map.

        Raises:
            DataError: Image or mask cannot be read, or they do not belong together.
        """
        name = self.images[index]
        path = self.folder / name
        image = to_channels(read_image(path, self.max_pixels), self.channels)
        labels = self.masks.read(index, image.shape[:2], self.multilabel)
        if self.table is not None:
            labels = self.table[labels]
        truth = SemanticMap(
            labels=labels, names=self.names, multilabel=self.multilabel, size=image.shape[:2], source=str(path)
        )
        return Sample({"image": image}, truth, name, str(path))


class SceneMasks:
    """Scenes with their class maps.

    Args:
        scenes: The scenes.
        names: The class names that are wanted.
        channels: Channels that the network wants.
        mode: "multiclass": room and things by name; "binary": 1 where there is a thing; "multilabel": sets of one.
    """

    notes: Sequence[str] = ()

    def __init__(self, scenes: Scenes, names: tuple[str, ...], channels: int = 3, mode: str = "multiclass"):
        self.scenes, self.names, self.channels, self.multilabel = scenes, names, channels, mode == "multilabel"
        if mode == "binary":
            self.table = np.array([name in scenes.classes for name in SEMANTIC_CLASSES], np.uint8)
        else:
            self.table = mapping(SEMANTIC_CLASSES, names)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        """A scene with its class map."""
        scene = self.scenes[index]
        image = to_channels(scene.image, self.channels)
        labels = self.table[scene.semantic]
        if self.multilabel:
            labels = np.where(labels == UNKNOWN, UNKNOWN_SET, 1 << labels.astype(np.uint32)).astype(np.uint16)
        truth = SemanticMap(
            labels=labels, names=self.names, multilabel=self.multilabel, size=image.shape[:2], source=image
        )
        return Sample({"image": image}, truth, index, scene.name)


def open_folders(
    source: MaskFolders, coding: Coding, findings: Findings, max_pixels: int, multilabel: bool = False
) -> tuple[list[str], MaskFiles]:
    """The images and masks of a split that are there and belong together.

    Every header is looked at. What the pixels of the masks say is only looked at where the policy is not to fail: for
    then it must be counted before a worker meets it.

    Raises:
        DataError: Something is missing or does not fit, and the policy is `fail`.
    """
    for stray in source.strays:
        findings.add(Kind.IMAGE_ABSENT, source.root / stray, None, stray, stray)
    pairs = []
    for image, mask in source.pairs:
        if mask is None:
            findings.add(Kind.LABELS_MISSING, source.root / image, None, image, image)
        else:
            pairs.append((image, mask))
    sizes = [_measured(source.root, [pair[side] for pair in pairs], findings, max_pixels) for side in (0, 1)]
    kept = []
    for (image, mask), of_image, of_mask in zip(pairs, *sizes):
        if not of_image.all() or not of_mask.all():
            continue
        if (of_image != of_mask).any():
            stated = f"{of_mask[0]} x {of_mask[1]}, the image {of_image[0]} x {of_image[1]}"
            findings.add(Kind.MASK_SIZE, source.root / mask, "height x width", stated, image)
        else:
            kept.append((image, mask))
    return _with_sound_values(source.root, kept, coding, findings, max_pixels, multilabel)


def open_coco(masks: CocoMasks, folder: Path, findings: Findings, max_pixels: int) -> tuple[list[str], CocoMasks]:
    """The images of a COCO json that are there, with their class maps."""
    sizes = _measured(folder, masks.images, findings, max_pixels, masks.file)
    chosen = masks.kept(np.flatnonzero(sizes.all(1)).tolist())
    return list(chosen.images), chosen


def mapping(own: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray:
    """(256,) uint8: the index of each own class among the wanted ones, 255 where it is none of them.

    Raises:
        DataError: None of the own classes is wanted.
    """
    index = {name: position for position, name in enumerate(wanted)}
    table = np.full(256, UNKNOWN, np.uint8)
    table[: len(own)] = [index.get(name, UNKNOWN) for name in own]
    if (table == UNKNOWN).all():
        hint = f"The dataset has: {', '.join(own[:20])}."
        raise DataError("the dataset has none of the wanted classes", field="classes", value=wanted, hint=hint)
    return table


def binary_mapping(own: tuple[str, ...], wanted: tuple[str, ...], stuff: Sequence[str] = ()) -> np.ndarray:
    """(256,) uint8: 0 for what is background among the own classes, 1 for the foreground, 255 for neither.

    Both by name, where the dataset has both of the wanted names; else all that is not the one that it has. Of a dataset
    that has neither, what it calls background or `stuff` is background, and so is the first of two classes.

    Args:
        own: The dataset's class names.
        wanted: Names of background and foreground.
        stuff: Those of its classes that are no things.

    Raises:
        DataError: Nothing says which class is the background.
    """
    back, front = wanted
    if back in own and front in own:
        return mapping(own, wanted)
    known = {*own}
    backs = known - {front} if front in known else {back} & known or {BACKGROUND, *stuff} & known
    if not backs and len(own) == 2:
        backs = {own[0]}
    if not backs:
        hint = f"Name it first: classes=[NAME, foreground]. The dataset has: {', '.join(own[:20])}."
        raise DataError("no class is the background", field="classes", value=wanted, hint=hint)
    table = np.full(256, UNKNOWN, np.uint8)
    table[: len(own)] = [name not in backs for name in own]
    return table


def _measured(
    root: Path, files: Sequence[str], findings: Findings, max_pixels: int, listing: Path | None = None
) -> np.ndarray:
    """(n, 2) sizes of images; 0 for those that are left out."""
    packed = Strings.of(files)

    def listed(row: int) -> tuple[str, str]:
        return str(listing or root / packed[row]), "file_name"

    return measure_images(packed, root, np.ones(len(packed), bool), findings, max_pixels, listed)


def _with_sound_values(
    root: Path,
    pairs: Sequence[tuple[str, str]],
    coding: Coding,
    findings: Findings,
    max_pixels: int,
    multilabel: bool,
) -> tuple[list[str], MaskFiles]:
    kept = list(pairs)
    if findings.on_error != "fail":
        kept = []
        fixed, unknown = coding.tolerant(), UNKNOWN_SET if multilabel else UNKNOWN
        read, read_fixed = (one.read_sets if multilabel else one.read for one in (coding, fixed))
        for image, mask in pairs:
            try:
                labels = read(root / mask, max_pixels)
            except DataError as failure:
                labels = _fixed(read_fixed, root / mask, max_pixels)
                kind = Kind.IMAGE_BROKEN if labels is None else Kind.MASK_VALUE
                if not findings.add(kind, root / mask, failure.field, failure.problem, image):
                    continue
            if (labels == unknown).all():
                findings.mention(Kind.MASK_UNKNOWN, root / mask, about=image)
            kept.append((image, mask))
        coding = fixed
    files = Strings.of(mask for _, mask in kept)
    return [image for image, _ in kept], MaskFiles(root, files, coding, max_pixels)


def _fixed(read: Callable[[Path, int], np.ndarray], mask: Path, max_pixels: int) -> np.ndarray | None:
    """A mask with its impossible values unknown; None where it is no mask at all, such as a photo."""
    try:
        return read(mask, max_pixels)
    except DataError:
        return None
