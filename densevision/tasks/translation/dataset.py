"""Pairs of images for training and evaluation: from files, or from the procedural world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from densevision.datasets.scene_splits import scene_splits
from densevision.datasets.scenes import SEMANTIC_CLASSES, Scenes
from densevision.draw.colors import palette
from densevision.errors import DataError, UsageError
from densevision.io.image import read_image, to_channels, to_display
from densevision.io.image_files import names_below
from densevision.io.label_issues import Findings
from densevision.ops.view import Size, resize_image
from densevision.results import Image
from densevision.sample import Sample
from densevision.tasks.translation.config import HELD_OUT, TranslationConfig
from densevision.tasks.translation.layouts import Pairs, find_pairs, is_undivided

Two = tuple[np.ndarray, np.ndarray]
CANNY = (60, 150)
"""Gradients, of gray levels from 0 to 255, from which an edge goes on and begins."""
BLUR = 1.0
"""Standard deviation in pixels of the blur before edges are looked for."""


class Reader(Protocol):
    """Where pairs come from."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Identity of a pair."""

    def file(self, index: int) -> str:
        """The file that is the question and nothing else, or an empty string."""

    def places(self, index: int) -> tuple[str, str]:
        """Where A and B come from, for messages."""

    def read(self, index: int) -> Two:
        """A and B, (H, W, C) each."""


def open_split(config: TranslationConfig, split: str) -> PairSet:
    """The samples of "train" or "val".

    Raises:
        UsageError: No data is named.
        DataError: There is no such split, or an image does not fit.
    """
    data = config.data
    if data.path is None:
        raise UsageError("no data is named", field="data.path", hint="Give a folder of pairs, or scenes.")
    scenes = scene_splits(data.path)
    if scenes is not None:
        source, side = scenes[split], data.padded if split == "train" else data.size
        reader: Reader = SceneReader(Scenes.of(source, (side, side)))
        return PairSet(reader, config)
    findings = Findings(data.on_error)
    pairs = find_pairs(config, split, findings)
    if pairs.layout == "images" and data.direction != "AtoB":
        problem = "has no effect on single images, of which the input is made"
        hint = "Set it to AtoB; or, if A and B are the halves of each image, say data.layout=side-by-side."
        raise UsageError(problem, field="data.direction", value=data.direction, hint=hint)
    return PairSet(FileReader(pairs, config), config, (*pairs.notes, *findings.notes))


def completed(config: TranslationConfig) -> TranslationConfig:
    """The config with the depth of its network, and with a held-out validation split where the folder has none."""
    if config.arch != "timm" and config.depth is None:
        config = config.changed(depth=config.levels if config.arch == "unet" else config.blocks)
    data = config.data
    if data.path is None or scene_splits(data.path) is not None or data.val is not None:
        return config
    return config.changed(data__val=HELD_OUT) if data.train is not None or is_undivided(config) else config


class FileReader:
    """Pairs of files.

    Args:
        pairs: Which files.
        config: Limits, and which of the two is the question.
    """

    def __init__(self, pairs: Pairs, config: TranslationConfig):
        self.pairs, self.config = pairs, config
        self.names = names_below([a for a, _ in pairs.files])

    def __len__(self) -> int:
        return len(self.pairs.files)

    def name(self, index: int) -> str:
        """The name of A's file, with its folder where there are several."""
        return self.names[index]

    def file(self, index: int) -> str:
        """The question's file, where it is a file of its own."""
        if self.pairs.layout != "folders" or self.config.data.derive != "none":
            return ""
        return str(self.pairs.files[index][self.config.data.direction == "BtoA"])

    def places(self, index: int) -> tuple[str, str]:
        """The files of A and B, which may be one."""
        a, b = self.pairs.files[index]
        return str(a), str(b)

    def read(self, index: int) -> Two:
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
    """The procedural world: A is a drawing of what each pixel shows, in the classes' colors, and B the image."""

    def __init__(self, scenes: Scenes):
        self.scenes = scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        """The scene's number."""
        return str(index)

    def file(self, index: int) -> str:
        """Scenes lie in no file."""
        return ""

    def places(self, index: int) -> tuple[str, str]:
        """The scene's number."""
        return str(index), str(index)

    def read(self, index: int) -> Two:
        """Labels and image."""
        scene = self.scenes[index]
        return palette(len(SEMANTIC_CLASSES))[scene.semantic], scene.image


class PairSet:
    """Samples: the image that is asked about, and the answer as truth.

    Args:
        reader: Where pairs come from.
        config: Which is the question, what is derived, and how samples are cut.
        notes: What was fixed or left out.
    """

    def __init__(self, reader: Reader, config: TranslationConfig, notes: Sequence[str] = ()):
        self.reader, self.config, self.notes = reader, config, tuple(notes)
        self.room = config.data.cache * 10**6
        self.kept: dict[int, Two] = {}

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Sample:
        """The whole images."""
        return self._sample(*self._read(index), index)

    def crop(self, index: int, rng: np.random.Generator) -> Sample:
        """Both resized to a square, of which a smaller one is cut out, perhaps mirrored.

        Source: Isola et al., section 6.2.
        """
        data = self.config.data
        pair = self._resized(index)
        top, left = (int(rng.integers(data.padded - data.size + 1)) for _ in range(2))
        mirrored = data.flip and rng.random() < 0.5
        parts = [image[top : top + data.size, left : left + data.size] for image in pair]
        question, answer = (part[:, ::-1] if mirrored else part for part in parts)
        return self._sample(question, answer, index)

    def _resized(self, index: int) -> Two:
        """A pair decoded and resized once, as long as the cache has room."""
        if index in self.kept:
            return self.kept[index]
        side = self.config.data.padded
        question, answer = (_resized(image, (side, side)) for image in self._read(index))
        size = question.nbytes + answer.nbytes
        if size <= self.room:
            self.room -= size
            self.kept[index] = question, answer
        return question, answer

    def _read(self, index: int) -> Two:
        """Question and answer in their channels."""
        config = self.config
        pair, places = self.reader.read(index), self.reader.places(index)
        if config.data.direction == "BtoA":
            pair, places = pair[::-1], places[::-1]
        question, answer = pair
        if config.data.derive != "none":
            try:
                question = derived(answer, config.data.derive)
            except DataError as failure:
                raise DataError(failure.problem, file=places[1], field="data.derive", hint=failure.hint) from None
        fields = ("backbone.channels", "channels")
        images = zip((question, answer), (config.backbone.channels, config.channels), places, fields)
        question, answer = (_in_channels(*one) for one in images)
        return question, answer

    def _sample(self, question: np.ndarray, answer: np.ndarray, index: int) -> Sample:
        truth = Image.of(np.ascontiguousarray(answer))
        images = {"image": np.ascontiguousarray(question)}
        return Sample(images, truth, self.reader.name(index), self.reader.file(index))


def derived(image: np.ndarray, kind: str) -> np.ndarray:
    """What is left of an image: `gray`, its luma in its own type; or `edges`, black lines on white in 8 bits.

    Args:
        image: (H, W, C).
        kind: `gray` or `edges`; edges are Canny's, of the blurred luma.

    Returns:
        (H, W, 1).
    """
    if kind == "gray":
        return to_channels(image, 1)
    gray = cv2.GaussianBlur(to_display(to_channels(image, 1))[..., 0], (0, 0), BLUR)
    return 255 - cv2.Canny(gray, *CANNY)[..., None]


def _in_channels(image: np.ndarray, channels: int, place: str, field: str) -> np.ndarray:
    try:
        return to_channels(image, channels)
    except DataError as failure:
        hint = f"Set {field} to what the images have, or convert them."
        raise DataError(failure.problem, file=place, field=field, value=channels, hint=hint) from None


def _resized(image: np.ndarray, size: Size) -> np.ndarray:
    """The image in another size: averaged over areas where it shrinks, by cubic curves where it grows."""
    shrinks = size[0] < image.shape[0] or size[1] < image.shape[1]
    resized = resize_image(image, size, cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return resized.clip(0, 1) if resized.dtype.kind == "f" else resized
