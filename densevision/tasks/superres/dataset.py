"""Images with their targets for training and evaluation: from files, or from procedural scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from densevision.datasets.degradations import resize_bicubic
from densevision.datasets.image_pairs import ImagePairs, has_no_split_folders
from densevision.datasets.scenes import Scenes
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import parse_scene_splits
from densevision.errors import DataError, UsageError
from densevision.io.image import convert_channels, read_image
from densevision.io.image_files import compute_relative_names, read_usable_size
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.ops.view import Size
from densevision.results.image import Image
from densevision.sample import Sample
from densevision.tasks.superres.config import HELD_OUT, DegradeConfig, SuperresConfig
from densevision.tasks.superres.degrade import degrade
from densevision.tasks.superres.splits import find_pairs

__all__ = ["FileReader", "RestorationSet", "SceneReader", "infer_splits", "open_split"]

SCENE_SIDE = 192
"""Side of a rendered scene before it is degraded; larger where a training sample needs it."""
MARGIN = 16
"""Pixels of the target around a crop that are degraded with it, to avoid border effects."""
UNSCALED = (1.0, 1.0)
"""The range of `data.rescale` that leaves images as they are."""
EVALUATION_SEED = 3
"""Seed of the degradation of whole images, which is the same in every run and epoch."""

Pair = tuple[np.ndarray | None, np.ndarray, str]
"""Input (None where it is generated), target, and the input's file or an empty string."""


class Reader(Protocol):
    """A source of images."""

    def __len__(self) -> int: ...

    def get_name(self, index: int) -> str:
        """Identity of an image."""

    def read(self, index: int) -> Pair:
        """Reads an image; input and target have the network's channels, or are gray where the network takes RGB."""


def open_split(config: SuperresConfig, split: str) -> RestorationSet:
    """Opens the samples of "train" or "val".

    Raises:
        UsageError: No data is given, or the config defines no degradation at scale 1.
        DataError: There is no such split, or an image is unsuitable.
    """
    if config.data.path is None:
        raise UsageError("no data is given", field="data.path", hint="Set a folder of images, or scenes.")
    issues = LabelIssues(config.data.on_error)
    scenes = parse_scene_splits(config.data.path)
    notes: tuple[str, ...] = ()
    if scenes is not None:
        side = max(SCENE_SIDE, config.data.crop * config.scale) // config.scale * config.scale
        reader: Reader = SceneReader(Scenes.of(scenes[split], (side, side)), config)
        is_generated = True
    else:
        pairs = _select_usable(find_pairs(config, split, issues), config, split, issues)
        reader, is_generated, notes = FileReader(pairs, config), pairs.inputs is None, pairs.notes
    if is_generated:
        _check_degradation(config)
        notes = (*notes, *_describe_degradation(config, split))
    return RestorationSet(reader, config, split, (*notes, *issues.notes))


def infer_splits(config: SuperresConfig) -> SuperresConfig:
    """Adds a held-out validation split where the folder has none.

    Raises:
        UsageError: Options define how inputs are generated, but the data contains them.
        DataError: There is no training split.
    """
    path = config.data.path
    if path is None or parse_scene_splits(path) is not None:
        return config
    root = Path(locate_dataset(config.data))
    has_splits = config.data.train is None and root.is_dir() and not has_no_split_folders(root)
    if config.data.val is None and not has_splits:
        config = config.replace(data__val=HELD_OUT)
    if find_pairs(config, "train", LabelIssues("skip")).inputs is not None:
        _check_no_degradation(config)
    return config


class FileReader:
    """Images from files.

    Args:
        pairs: The files.
        config: Channels, limits, and minimum size of an image.
    """

    def __init__(self, pairs: ImagePairs, config: SuperresConfig):
        self.pairs, self.config = pairs, config
        self.names = compute_relative_names(pairs.targets)

    def __len__(self) -> int:
        return len(self.pairs.targets)

    def get_name(self, index: int) -> str:
        """The target's file name, with its folder where there are several."""
        return self.names[index]

    def read(self, index: int) -> Pair:
        """Input, target and the input's file; the target is cropped to what the scale divides."""
        target = self._decode(self.pairs.targets[index])
        scale = self.config.scale
        if self.pairs.inputs is None:
            target = _pad_to_side(target, scale)
            height, width = (side // scale * scale for side in target.shape[:2])
            return None, target[:height, :width], ""
        path = self.pairs.inputs[index]
        image = self._decode(path)
        height, width = (side * scale for side in image.shape[:2])
        if image.shape[2] != target.shape[2]:
            image, target = (convert_channels(part, self.config.backbone.channels) for part in (image, target))
        return image, target[:height, :width], str(path)

    def _decode(self, path: Path) -> np.ndarray:
        """The image in the network's channels; gray stays gray, because `predict` returns gray for it."""
        channels = self.config.backbone.channels
        try:
            image = read_image(path, self.config.data.max_pixels)
            return convert_channels(image, 1 if channels == 3 and image.shape[2] in (1, 2) else channels)
        except DataError as error:
            raise error if error.file else DataError(error.problem, file=path, hint=error.hint) from None


class SceneReader:
    """Clean images of procedural scenes."""

    def __init__(self, scenes: Scenes, config: SuperresConfig):
        self.scenes, self.channels = scenes, config.backbone.channels

    def __len__(self) -> int:
        return len(self.scenes)

    def get_name(self, index: int) -> str:
        """The scene's number."""
        return str(index)

    def read(self, index: int) -> Pair:
        """No input, and the scene before the simulated lens and sensor."""
        return None, convert_channels(self.scenes[index].clean, self.channels), ""


class RestorationSet:
    """Samples: an input, and its target as ground truth.

    Args:
        reader: The source of images.
        config: How inputs are generated and samples are cut.
        split: "train" repeats each image `data.repeat` times.
        notes: What was chosen, fixed or left out.
    """

    def __init__(self, reader: Reader, config: SuperresConfig, split: str, notes: Sequence[str] = ()):
        self.reader, self.config = reader, config
        self.notes: Sequence[str] = tuple(notes)
        self.repeat = config.data.repeat if split == "train" else 1
        self.free_bytes = config.data.cache * 10**6
        self.cache: dict[int, Pair] = {}

    def __len__(self) -> int:
        return len(self.reader) * self.repeat

    def __getitem__(self, index: int) -> Sample:
        """The whole image; a random degradation is the same each time."""
        number = index % len(self.reader)
        image, target, file = self._load_pair(number)
        if image is None:
            image = degrade(target, self.config, np.random.default_rng((EVALUATION_SEED, number)))
        return self._build_sample(image, target, number, file)

    def crop(self, index: int, rng: np.random.Generator) -> Sample:
        """A random crop of `data.crop` pixels of the input a side, perhaps flipped and rotated."""
        number, side, scale = index % len(self.reader), self.config.data.crop, self.config.scale
        image, target, file = self._load_pair(number)
        channels = self.config.backbone.channels
        target = convert_channels(target, channels)
        image = None if image is None else convert_channels(image, channels)
        if self.config.data.rescale != UNSCALED:
            image, target = None, self._downscale_randomly(target, rng)
        target = _pad_to_side(target, side * scale)
        top, left = (int(rng.integers(length // scale - side + 1)) for length in target.shape[:2])
        if image is None:
            image = self._degrade_part(target, (top, left), rng)
        else:
            image = _pad_to_side(image, side)[top : top + side, left : left + side]
        target = target[top * scale : (top + side) * scale, left * scale : (left + side) * scale]
        symmetry = int(rng.integers(8)) if self.config.data.flip_and_rotate else 0
        return self._build_sample(_transform(image, symmetry), _transform(target, symmetry), number, file)

    def _downscale_randomly(self, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A part of the image, a little larger than a sample, downscaled by a random factor."""
        scale, min_side = self.config.scale, self.config.data.crop * self.config.scale
        factor = max(rng.uniform(*self.config.data.rescale), min_side / min(target.shape[:2]))
        if factor >= 1:
            return target
        spans = [min(length, math.ceil((min_side + 2 * MARGIN) / factor)) for length in target.shape[:2]]
        top, left = (int(rng.integers(length - span + 1)) for length, span in zip(target.shape[:2], spans))
        height, width = (max(min_side, round(span * factor) // scale * scale) for span in spans)
        return resize_bicubic(target[top : top + spans[0], left : left + spans[1]], (height, width))

    def _degrade_part(self, target: np.ndarray, corner: Size, rng: np.random.Generator) -> np.ndarray:
        """The degraded crop at a corner, in pixels of the input; its surroundings are degraded with it."""
        side, scale = self.config.data.crop, self.config.scale
        margin = -(-MARGIN // scale)
        spans = []
        for start, length in zip(corner, target.shape[:2]):
            spans.append((max(0, start - margin), min(length // scale, start + side + margin)))
        (top, bottom), (left, right) = spans
        region = target[top * scale : bottom * scale, left * scale : right * scale]
        image = degrade(region, self.config, rng)
        y, x = corner[0] - top, corner[1] - left
        return image[y : y + side, x : x + side]

    def _load_pair(self, number: int) -> Pair:
        """Decodes an image, and generates an input that is not random, once while the cache has room."""
        if number in self.cache:
            return self.cache[number]
        image, target, file = self.reader.read(number)
        if image is None and not self.config.degrade.is_random:
            image = degrade(target, self.config, np.random.default_rng(0))
        size = target.nbytes + (0 if image is None else image.nbytes)
        if size <= self.free_bytes:
            self.free_bytes -= size
            self.cache[number] = image, target, file
        return image, target, file

    def _build_sample(self, image: np.ndarray, target: np.ndarray, number: int, file: str) -> Sample:
        truth = Image.from_source(np.ascontiguousarray(target), self.config.scale)
        return Sample({"image": np.ascontiguousarray(image)}, truth, self.reader.get_name(number), file)


def _select_usable(pairs: ImagePairs, config: SuperresConfig, split: str, issues: LabelIssues) -> ImagePairs:
    """The pairs of complete files whose sizes fit the scale and, in training, the crop; only headers are read."""
    scale, rows = config.scale, []
    for row, target in enumerate(pairs.targets):
        paths = [target] if pairs.inputs is None else [target, pairs.inputs[row]]
        sizes = [read_usable_size(path, config.data.max_pixels, issues) for path in paths]
        if sizes[0] is None or sizes[-1] is None:
            continue
        height, width = sizes[0]
        if pairs.inputs is not None and sizes[1] != (height // scale, width // scale):
            value = f"{sizes[-1][1]} x {sizes[-1][0]} to {width} x {height} at scale {scale}"
            issues.add(IssueKind.PAIR_SIZE, pairs.inputs[row], None, value)
            continue
        min_side = config.data.crop * scale if split == "train" else scale
        if min(height, width) < min_side:
            value = f"{width} x {height}, at least {min_side} needed"
            if not issues.add(IssueKind.IMAGE_SMALL, target, "data.crop" if split == "train" else "scale", value):
                continue
        rows.append(row)
    if not rows:
        raise DataError(f"no image is left for {split}", file=config.data.path, value=list(issues.notes))
    inputs = None if pairs.inputs is None else tuple(pairs.inputs[row] for row in rows)
    return ImagePairs(tuple(pairs.targets[row] for row in rows), inputs, pairs.notes)


def _check_degradation(config: SuperresConfig) -> None:
    """Refuses inputs that would equal their targets."""
    if config.scale == 1 and not config.degrade.is_random:
        hint = "Set a degradation (degrade.blur, motion, noise, jpeg), or provide pairs."
        raise UsageError("there is nothing to restore at scale 1", field="degrade", hint=hint)


def _check_no_degradation(config: SuperresConfig) -> None:
    """Refuses, in training, options about generated inputs; weights keep them and may be evaluated on pairs."""
    unset = {"degrade": config.degrade == DegradeConfig(), "data.rescale": config.data.rescale == UNSCALED}
    for field, is_unset in unset.items():
        if not is_unset:
            hint = f"Leave {field} out, or give only the folders of targets as data.train and data.val."
            raise UsageError("has no effect: the data contains the inputs", field=field, hint=hint)


def _describe_degradation(config: SuperresConfig, split: str) -> tuple[str, ...]:
    """A note about how inputs are degraded, unless they are only downscaled."""
    options = config.degrade.to_dict()
    ranges = {name: limits for name, limits in options.items() if name != "chain" and limits is not None}
    description = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in ranges.items())
    note = f"{split}: inputs are generated from the images: {description or config.degrade.chain}"
    return (note,) if config.degrade.is_random else ()


def _pad_to_side(image: np.ndarray, min_side: int) -> np.ndarray:
    """The image, padded by reflection at the bottom and right where it is smaller."""
    missing = [max(0, min_side - side) for side in image.shape[:2]]
    if not any(missing):
        return image
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def _transform(image: np.ndarray, symmetry: int) -> np.ndarray:
    """One of the eight symmetries of the square: quarter turns, and quarter turns of the mirror image."""
    return np.rot90(image[:, ::-1] if symmetry >= 4 else image, symmetry % 4)
