"""Pairs of images for training and evaluation: from files, or from procedural scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import cv2
import numpy as np

from densevision.datasets.scenes import SEMANTIC_CLASSES, Scenes
from densevision.datasets.splits import parse_scene_splits
from densevision.draw.colors import build_palette
from densevision.errors import DataError, UsageError
from densevision.io.image import convert_channels, read_image, to_display
from densevision.io.image_files import compute_relative_names
from densevision.io.label_issues import LabelIssues
from densevision.ops.view import Size, resize_image
from densevision.results.image import Image
from densevision.sample import Sample
from densevision.tasks.translation.config import HELD_OUT, TranslationConfig
from densevision.tasks.translation.layouts import Pairs, find_pairs, has_no_val_split

__all__ = ["FileReader", "PairSet", "SceneReader", "derive_input", "infer_splits", "open_split"]

ImagePair = tuple[np.ndarray, np.ndarray]
CANNY_THRESHOLDS = (60, 150)
"""Gradients, of gray levels from 0 to 255, from which an edge is continued and started."""
EDGE_BLUR = 1.0
"""Standard deviation in pixels of the blur before edge detection."""


class Reader(Protocol):
    """A source of pairs."""

    def __len__(self) -> int: ...

    def get_name(self, index: int) -> str:
        """Identity of a pair."""

    def get_input_file(self, index: int) -> str:
        """The file that holds the input and nothing else, or an empty string."""

    def get_sources(self, index: int) -> tuple[str, str]:
        """Where A and B come from, for messages."""

    def read(self, index: int) -> ImagePair:
        """A and B, (H, W, C) each."""


def open_split(config: TranslationConfig, split: str) -> PairSet:
    """Opens the samples of "train" or "val".

    Raises:
        UsageError: No data is given.
        DataError: There is no such split, or an image is unsuitable.
    """
    data = config.data
    if data.path is None:
        raise UsageError("no data is given", field="data.path", hint="Set a folder of pairs, or scenes.")
    scenes = parse_scene_splits(data.path)
    if scenes is not None:
        side = data.resized_side if split == "train" else data.size
        return PairSet(SceneReader(Scenes.of(scenes[split], (side, side))), config)
    issues = LabelIssues(data.on_error)
    pairs = find_pairs(config, split, issues)
    if pairs.layout == "images" and data.direction != "AtoB":
        problem = "has no effect on single images, whose inputs are derived"
        hint = "Set it to AtoB; or set data.layout=side-by-side if A and B are the halves of each image."
        raise UsageError(problem, field="data.direction", value=data.direction, hint=hint)
    return PairSet(FileReader(pairs, config), config, (*pairs.notes, *issues.notes))


def infer_splits(config: TranslationConfig) -> TranslationConfig:
    """Adds a held-out validation split where the folder has none."""
    data = config.data
    if data.path is None or parse_scene_splits(data.path) is not None or data.val is not None:
        return config
    return config.replace(data__val=HELD_OUT) if data.train is not None or has_no_val_split(config) else config


class FileReader:
    """Pairs from files.

    Args:
        pairs: The files.
        config: Limits, and which of the two is the input.
    """

    def __init__(self, pairs: Pairs, config: TranslationConfig):
        self.pairs, self.config = pairs, config
        self.names = compute_relative_names([a for a, _ in pairs.files])

    def __len__(self) -> int:
        return len(self.pairs.files)

    def get_name(self, index: int) -> str:
        """The name of A's file, with its folder where there are several."""
        return self.names[index]

    def get_input_file(self, index: int) -> str:
        """The input's file, where it is a file of its own."""
        if self.pairs.layout != "folders" or self.config.data.derive != "none":
            return ""
        return str(self.pairs.files[index][self.config.data.direction == "BtoA"])

    def get_sources(self, index: int) -> tuple[str, str]:
        """The files of A and B, which may be the same."""
        a, b = self.pairs.files[index]
        return str(a), str(b)

    def read(self, index: int) -> ImagePair:
        """A and B; both the same image where there is only one."""
        a, b = self.pairs.files[index]
        first = read_image(a, self.config.data.max_pixels)
        if self.pairs.layout == "images":
            return first, first
        if self.pairs.layout == "side-by-side":
            half = first.shape[1] // 2
            return first[:, :half], first[:, half:]
        return first, read_image(b, self.config.data.max_pixels)


class SceneReader:
    """Procedural scenes: A is the class of each pixel in the classes' colors, B the image."""

    def __init__(self, scenes: Scenes):
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def get_name(self, index: int) -> str:
        """The scene's number."""
        return str(index)

    def get_input_file(self, index: int) -> str:
        """An empty string: scenes are no files."""
        return ""

    def get_sources(self, index: int) -> tuple[str, str]:
        """The scene's number."""
        return str(index), str(index)

    def read(self, index: int) -> ImagePair:
        """Labels and image."""
        scene = self.scenes[index]
        return build_palette(len(SEMANTIC_CLASSES))[scene.semantic], scene.image


class PairSet:
    """Samples: the input, and the target as ground truth.

    Args:
        reader: The source of pairs.
        config: Which image is the input, how it is derived, and how samples are cropped.
        notes: What was fixed or left out.
    """

    def __init__(self, reader: Reader, config: TranslationConfig, notes: Sequence[str] = ()):
        self.reader, self.config = reader, config
        self.notes: Sequence[str] = tuple(notes)
        self.free_bytes = config.data.cache * 10**6
        self.cache: dict[int, ImagePair] = {}

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Sample:
        """The whole images."""
        return self._build_sample(*self._read(index), index)

    def crop(self, index: int, rng: np.random.Generator) -> Sample:
        """Both images resized to a square, cropped to a smaller one, and perhaps flipped.

        Source: Isola et al., section 6.2.
        """
        data = self.config.data
        pair = self._load_resized(index)
        top, left = (int(rng.integers(data.resized_side - data.size + 1)) for _ in range(2))
        is_flipped = data.flip and rng.random() < 0.5
        crops = [image[top : top + data.size, left : left + data.size] for image in pair]
        image, target = (crop[:, ::-1] if is_flipped else crop for crop in crops)
        return self._build_sample(image, target, index)

    def _load_resized(self, index: int) -> ImagePair:
        """Decodes and resizes a pair once while the cache has room."""
        if index in self.cache:
            return self.cache[index]
        side = self.config.data.resized_side
        image, target = (_resize(part, (side, side)) for part in self._read(index))
        size = image.nbytes + target.nbytes
        if size <= self.free_bytes:
            self.free_bytes -= size
            self.cache[index] = image, target
        return image, target

    def _read(self, index: int) -> ImagePair:
        """Input and target in their channels."""
        config = self.config
        pair, sources = self.reader.read(index), self.reader.get_sources(index)
        if config.data.direction == "BtoA":
            pair, sources = pair[::-1], sources[::-1]
        image, target = pair
        if config.data.derive != "none":
            try:
                image = derive_input(target, config.data.derive)
            except DataError as error:
                raise DataError(error.problem, file=sources[1], field="data.derive", hint=error.hint) from None
        image = _convert(image, config.backbone.channels, sources[0], "backbone.channels")
        return image, _convert(target, config.out_channels, sources[1], "out_channels")

    def _build_sample(self, image: np.ndarray, target: np.ndarray, index: int) -> Sample:
        truth = Image.from_source(np.ascontiguousarray(target))
        images = {"image": np.ascontiguousarray(image)}
        return Sample(images, truth, self.reader.get_name(index), self.reader.get_input_file(index))


def derive_input(image: np.ndarray, kind: Literal["gray", "edges"]) -> np.ndarray:
    """Derives an input from a target: `gray`, its luma in its own type; or `edges`, black lines on white in 8 bits.

    Args:
        image: (H, W, C).
        kind: `gray` or `edges`; edges are Canny's, of the blurred luma.

    Returns:
        (H, W, 1).
    """
    if kind == "gray":
        return convert_channels(image, 1)
    gray = cv2.GaussianBlur(to_display(convert_channels(image, 1))[..., 0], (0, 0), EDGE_BLUR)
    return 255 - cv2.Canny(gray, *CANNY_THRESHOLDS)[..., None]


def _convert(image: np.ndarray, channels: int, source: str, field: str) -> np.ndarray:
    try:
        return convert_channels(image, channels)
    except DataError as error:
        hint = f"Set {field} to the number of channels of the images, or convert them."
        raise DataError(error.problem, file=source, field=field, value=channels, hint=hint) from None


def _resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Resizes an image: by area averaging where it shrinks, by cubic interpolation where it grows."""
    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    resized = resize_image(image, size, cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return resized.clip(0, 1) if resized.dtype.kind == "f" else resized
