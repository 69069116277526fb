"""Pictures with boxes for training and evaluation: which they are, what their classes are, what chance does to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densevision.data.augment import augmented
from densevision.data.box_sources import Classes, Source
from densevision.data.boxes import BoxSet, SceneBoxes, with_classes
from densevision.data.recognise import Recognised, recognise
from densevision.data.scene_splits import SceneSource
from densevision.data.scenes import CLASSES, Scenes
from densevision.data.splits import source_of
from densevision.errors import DataError, UsageError
from densevision.io.findings import Findings
from densevision.ops.view import Size, fit
from densevision.sample import Sample
from densevision.tasks.contract import SampleSet
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.head import STRIDES

GREY = 114 / 255
"""What surrounds a picture on its canvas: near the mean of photographs."""
SCENE = 320
"""Largest side of a rendered scene; larger canvases see it enlarged."""


def read_classes(config: DetectionConfig) -> Classes:
    """Class names and category ids of the training split, or of the only one.

    Raises:
        DataError: The dataset is not recognised, or lists no classes.
    """
    source = next(iter(_recognised(config).splits.values()))
    if isinstance(source, SceneSource):
        return Classes(CLASSES, tuple(range(1, len(CLASSES) + 1)))
    return source.classes()


def open_split(config: DetectionConfig, split: str) -> SampleSet:
    """The samples of "train" or "val". Labels are indices into the config's classes where it names them.

    Raises:
        DataError: There is no such split, nothing in it, or a bad label under `on_error: fail`.
    """
    found = _recognised(config)
    source = source_of(found.splits, split, config.data.path)
    channels = config.backbone.channels
    if isinstance(source, SceneSource):
        size = tuple(min(SCENE, side) for side in canvas_size(config))
        scenes = Scenes.of(source, (size[0], size[1]))
        return SceneBoxes(scenes, channels, config.classes or CLASSES, config.category_ids)
    return _open_files(config, source, found.notes)


def canvas_size(config: DetectionConfig, original: Size | None = None) -> Size:
    """(height, width) of the canvas of a training sample.

    Args:
        config: With `data.longest`, pictures keep their shapes; without, all have one.
        original: Size of the picture; square when not given.
    """
    size = config.data.size
    if config.data.longest is not None:
        return fit(original or (size, size), "shortest", size, config.data.longest).content
    return fit((size, size) if isinstance(size, int) else size, "pad", multiple_of=max(STRIDES)).size


def augment(config: DetectionConfig, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
    """A training sample on its canvas. The last epochs see single pictures."""
    plain = epoch >= config.train.epochs - config.augment.plain_epochs
    canvas = canvas_size(config, dataset.size(index)) if config.data.longest is not None else canvas_size(config)
    return augmented(config.augment, dataset, index, rng, canvas, GREY, plain)


def _recognised(config: DetectionConfig) -> Recognised:
    if config.data.path is None:
        raise UsageError("no data is named", field="data.path", mend="Give a dataset's folder, or scenes.")
    return recognise(config.data.path, config.data.train, config.data.val)


def _open_files(config: DetectionConfig, source: Source, choices: Sequence[str]) -> BoxSet:
    findings = Findings(config.data.on_error)
    table = source.read(findings, config.data.max_pixels)
    notes = [*choices, *findings.notes]
    if not len(table):
        raise DataError("no picture is left", file=config.data.path, value=notes, mend="Look at what was left out.")
    if config.classes is not None:
        table, others = with_classes(table, config.classes, config.category_ids)
        if others:
            notes.append(f"{others} boxes of other classes than {', '.join(config.classes)}, left out")
    return BoxSet(table, source.folder, config.backbone.channels, config.data.max_pixels, notes)
