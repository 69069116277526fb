"""Images with what they should become, for training and evaluation: from files, or from the procedural world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from densevision.datasets.degradations import bicubic
from densevision.datasets.image_pairs import ImagePairs, find_pairs, is_undivided
from densevision.datasets.scene_splits import scene_splits
from densevision.datasets.scenes import Scenes
from densevision.errors import DataError, UsageError
from densevision.io.image import read_image, to_channels
from densevision.io.image_files import names_below, usable_size
from densevision.io.label_issues import Findings, Kind
from densevision.ops.view import Size
from densevision.results import Image
from densevision.sample import Sample
from densevision.tasks.superres.config import HELD_OUT, DegradeConfig, SuperresConfig
from densevision.tasks.superres.degrade import degraded

SCENE = 192
"""Side of a rendered scene, before it is degraded; larger where a training sample needs it."""
MARGIN = 16
"""Pixels of the target around a crop that are degraded with it, so that its rim looks like its middle."""
UNSCALED = (1.0, 1.0)
"""The range of factors that leaves images as they are."""
SEED = 3
"""Of the degradation of whole images, which is the same in every run and epoch."""


class Reader(Protocol):
    """Where images come from."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Identity of an image."""

    def read(self, index: int) -> tuple[np.ndarray | None, np.ndarray, str]:
        """Input (None where it has to be made), target, and the input's file if it has one.

        Both are of the network's channels, or gray where the network takes colors.
        """


def open_split(config: SuperresConfig, split: str) -> RestorationSet:
    """The samples of "train" or "val".

    Raises:
        UsageError: No data is named, or there is nothing to restore.
        DataError: There is no such split, or an image does not fit.
    """
    if config.data.path is None:
        raise UsageError("no data is named", field="data.path", hint="Give a folder of images, or scenes.")
    findings = Findings(config.data.on_error)
    scenes = scene_splits(config.data.path)
    if scenes is not None:
        source = scenes[split]
        side = max(SCENE, config.data.crop * config.scale) // config.scale * config.scale
        reader: Reader = SceneReader(Scenes.of(source, (side, side)), config)
        made, notes = True, ()
    else:
        pairs = _find(config, split, findings)
        pairs = _fitting(pairs, config, split, findings)
        reader, made, notes = FileReader(pairs, config), pairs.inputs is None, pairs.notes
    if made:
        _check_something_to_do(config)
        notes = (*notes, *_told(config, split))
    return RestorationSet(reader, config, split, (*notes, *findings.notes))


def completed(config: SuperresConfig) -> SuperresConfig:
    """The config with a held-out validation split, where the folder itself has none.

    Raises:
        UsageError: Training inputs are to be made in some way, but are given.
        DataError: There is no training split.
    """
    path = config.data.path
    if path is None or scene_splits(path) is not None:
        return config
    divided = config.data.train is None and Path(path).is_dir() and not is_undivided(Path(path))
    if config.data.val is None and not divided:
        config = config.changed(data__val=HELD_OUT)
    if _find(config, "train", Findings("skip")).inputs is not None:
        _check_nothing_is_made(config)
    return config


class FileReader:
    """Images of files.

    Args:
        pairs: Which files.
        config: Channels, limits, and how large an image must be.
    """

    def __init__(self, pairs: ImagePairs, config: SuperresConfig):
        self.pairs, self.config = pairs, config
        self.names = names_below(pairs.targets)

    def __len__(self) -> int:
        return len(self.pairs.targets)

    def name(self, index: int) -> str:
        """The target's file name, with its folder where there are several."""
        return self.names[index]

    def read(self, index: int) -> tuple[np.ndarray | None, np.ndarray, str]:
        """Input, target and the input's file; the target cut to what the scale divides."""
        target = self._decoded(self.pairs.targets[index])
        if self.pairs.inputs is None:
            target = _grown(target, self.config.scale)
            height, width = (side // self.config.scale * self.config.scale for side in target.shape[:2])
            return None, target[:height, :width], ""
        path = self.pairs.inputs[index]
        image = self._decoded(path)
        height, width = (side * self.config.scale for side in image.shape[:2])
        if image.shape[2] != target.shape[2]:
            image, target = (to_channels(part, self.config.backbone.channels) for part in (image, target))
        return image, target[:height, :width], str(path)

    def _decoded(self, path: Path) -> np.ndarray:
        """The image in the network's channels; gray stays gray, as `predict` answers it in gray."""
        channels = self.config.backbone.channels
        try:
            image = read_image(path, self.config.data.max_pixels)
            return to_channels(image, 1 if channels == 3 and image.shape[2] in (1, 2) else channels)
        except DataError as failure:
            raise failure if failure.file else DataError(failure.problem, file=path, hint=failure.hint) from None


class SceneReader:
    """Clean images of the procedural world."""

    def __init__(self, scenes: Scenes, config: SuperresConfig):
        self.scenes, self.channels = scenes, config.backbone.channels

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        """The scene's number."""
        return str(index)

    def read(self, index: int) -> tuple[np.ndarray | None, np.ndarray, str]:
        """No input, and the scene before lens and sensor."""
        return None, to_channels(self.scenes[index].clean, self.channels), ""


class RestorationSet:
    """Samples: an input, and its target as truth.

    Args:
        reader: Where the images come from.
        config: How inputs are made, and how samples are cut.
        split: "train" gives each image `data.repeat` times.
        notes: What was chosen, fixed or left out.
    """

    def __init__(self, reader: Reader, config: SuperresConfig, split: str, notes: Sequence[str] = ()):
        self.reader, self.config, self.notes = reader, config, tuple(notes)
        self.repeat = config.data.repeat if split == "train" else 1
        self.room = config.data.cache * 10**6
        self.kept: dict[int, tuple[np.ndarray | None, np.ndarray, str]] = {}

    def __len__(self) -> int:
        return len(self.reader) * self.repeat

    def __getitem__(self, index: int) -> Sample:
        """The whole image; where chance degrades it, in the same way each time."""
        number = index % len(self.reader)
        image, target, file = self._pair(number)
        if image is None:
            image = degraded(target, self.config, np.random.default_rng((SEED, number)))
        return self._sample(image, target, number, file)

    def crop(self, index: int, rng: np.random.Generator) -> Sample:
        """A random part of the image, `data.crop` pixels of the input a side, perhaps mirrored and turned."""
        number, side, scale = index % len(self.reader), self.config.data.crop, self.config.scale
        image, target, file = self._pair(number)
        image, target = (
            None if part is None else to_channels(part, self.config.backbone.channels) for part in (image, target)
        )
        if self.config.data.rescale != UNSCALED:
            image, target = None, self._reduced(target, rng)
        image, target = (None if part is None else _grown(part, side * s) for part, s in ((image, 1), (target, scale)))
        top, left = (int(rng.integers(length // scale - side + 1)) for length in target.shape[:2])
        if image is None:
            image = self._degraded_part(target, (top, left), rng)
        else:
            image = image[top : top + side, left : left + side]
        target = target[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
        turn = int(rng.integers(8)) if self.config.data.turn else 0
        return self._sample(_turned(image, turn), _turned(target, turn), number, file)

    def _reduced(self, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A part of the image, a little larger than a sample, reduced by a factor that chance picks."""
        scale, least = self.config.scale, self.config.data.crop * self.config.scale
        factor = max(rng.uniform(*self.config.data.rescale), least / min(target.shape[:2]))
        if factor >= 1:
            return target
        spans = [min(length, math.ceil((least + 2 * MARGIN) / factor)) for length in target.shape[:2]]
        top, left = (int(rng.integers(length - span + 1)) for length, span in zip(target.shape[:2], spans))
        height, width = (max(least, round(span * factor) // scale * scale) for span in spans)
        return bicubic(target[top : top + spans[0], left : left + spans[1]], (height, width))

    def _degraded_part(self, target: np.ndarray, corner: Size, rng: np.random.Generator) -> np.ndarray:
        side, scale = self.config.data.crop, self.config.scale
        margin = -(-MARGIN // scale)
        spans = []
        for start, length in zip(corner, target.shape[:2]):
            first, last = max(0, start - margin), min(length // scale, start + side + margin)
            spans.append((first, last))
        (top, bottom), (left, right) = spans
        around = target[top * scale : bottom * scale, left * scale : right * scale]
        image = degraded(around, self.config, rng)
        y, x = corner[0] - top, corner[1] - left
        return image[y : y + side, x : x + side]

    def _pair(self, number: int) -> tuple[np.ndarray | None, np.ndarray, str]:
        """An image decoded once, with the input that chance has no part in, as long as the cache has room."""
        if number in self.kept:
            return self.kept[number]
        image, target, file = self.reader.read(number)
        if image is None and not self.config.degrade.random:
            image = degraded(target, self.config, np.random.default_rng(0))
        size = target.nbytes + (0 if image is None else image.nbytes)
        if size <= self.room:
            self.room -= size
            self.kept[number] = image, target, file
        return image, target, file

    def _sample(self, image: np.ndarray, target: np.ndarray, number: int, file: str) -> Sample:
        truth = Image.of(np.ascontiguousarray(target), self.config.scale)
        return Sample({"image": np.ascontiguousarray(image)}, truth, self.reader.name(number), file)


def _find(config: SuperresConfig, split: str, findings: Findings) -> ImagePairs:
    root, scale = Path(config.data.path or ""), config.scale
    held = config.data.val == HELD_OUT
    source = "train" if held else split
    given = getattr(config.data, source)
    named = (given,) if isinstance(given, str) else given or ()
    return find_pairs(root, source, named, scale, findings, split if held else None)


def _fitting(pairs: ImagePairs, config: SuperresConfig, split: str, findings: Findings) -> ImagePairs:
    """The pairs that seem whole and whose sizes fit the scale and, in training, the crop; by headers and ends alone."""
    scale, keep = config.scale, []
    for row, target in enumerate(pairs.targets):
        paths = [target] if pairs.inputs is None else [target, pairs.inputs[row]]
        sizes = [usable_size(path, config.data.max_pixels, findings) for path in paths]
        if None in sizes:
            continue
        height, width = sizes[0]
        if pairs.inputs is not None:
            size = sizes[1]
            if size != (height // scale, width // scale):
                value = f"{size[1]} x {size[0]} to {width} x {height} at scale {scale}"
                findings.add(Kind.PAIR_SIZE, pairs.inputs[row], None, value)
                continue
        least = config.data.crop * scale if split == "train" else scale
        if min(height, width) < least:
            value = f"{width} x {height}, needed are {least}"
            if not findings.add(Kind.IMAGE_SMALL, target, "data.crop" if split == "train" else "scale", value):
                continue
        keep.append(row)
    if not keep:
        raise DataError(f"no image is left for {split}", file=config.data.path, value=list(findings.notes))
    inputs = None if pairs.inputs is None else tuple(pairs.inputs[row] for row in keep)
    return ImagePairs(tuple(pairs.targets[row] for row in keep), inputs, pairs.notes)


def _check_something_to_do(config: SuperresConfig) -> None:
    if config.scale == 1 and not config.degrade.random:
        hint = "Say how images are spoilt (degrade.blur, motion, noise, jpeg), or give pairs."
        raise UsageError("nothing is to be restored at scale 1", field="degrade", hint=hint)


def _check_nothing_is_made(config: SuperresConfig) -> None:
    """Refuses, in training alone, how inputs are to be made: weights keep it, and may be judged on pairs."""
    unmade = {"degrade": config.degrade == DegradeConfig(), "data.rescale": config.data.rescale == UNSCALED}
    for field, supported in unmade.items():
        if not supported:
            hint = f"Leave {field} out, or name the folder of targets alone as data.train and data.val."
            raise UsageError("has no effect: the data brings its inputs", field=field, hint=hint)


def _told(config: SuperresConfig, split: str) -> tuple[str, ...]:
    """How chance spoils the inputs, for people."""
    degrade = config.degrade
    ranges = {name: limits for name, limits in degrade.plain().items() if name != "chain" and limits is not None}
    told = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in ranges.items()) or degrade.chain
    return (f"{split}: inputs are made of the images: {told}",) if degrade.random else ()


def _grown(image: np.ndarray, least: int) -> np.ndarray:
    """The image, continued by its mirror image where it is smaller than a crop."""
    short = [max(0, least - side) for side in image.shape[:2]]
    if not any(short):
        return image
    return np.pad(image, ((0, short[0]), (0, short[1]), (0, 0)), mode="symmetric")


def _turned(image: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight ways to lay a square: quarter turns, and those of its mirror image."""
    return np.rot90(image[:, ::-1] if turn >= 4 else image, turn % 4)
