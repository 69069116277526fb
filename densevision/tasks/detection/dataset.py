"""Images with boxes for training and evaluation: which they are, what their classes are, what chance does to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densevision.datasets.augment import augmented
from densevision.datasets.box_sources import Classes, Source
from densevision.datasets.boxes import BoxSet, SceneBoxes, with_classes
from densevision.datasets.format_detection import DetectedFormat, detect_format
from densevision.datasets.scene_splits import SceneSource
from densevision.datasets.scenes import CLASSES, Scenes
from densevision.datasets.splits import source_of
from densevision.errors import DataError, UsageError
from densevision.io.label_issues import Findings
from densevision.ops.view import Size, fit
from densevision.sample import Sample
from densevision.tasks.base import SampleSet
from densevision.tasks.detection.config import DetectionConfig
from densevision.tasks.detection.models.yolo import STRIDES

GRAY = 114 / 255
"""What surrounds an image on its canvas: near the mean of photographs."""
SCENE = 320
"""Largest side of a rendered scene; larger canvases see it enlarged."""


def read_classes(config: DetectionConfig) -> Classes:
    """Class names and category ids of the training split, or of the only one.

    Raises:
        DataError: The dataset is not recognized, or lists no classes.
    """
    source = next(iter(_detected(config).splits.values()))
    if isinstance(source, SceneSource):
        return Classes(CLASSES, tuple(range(1, len(CLASSES) + 1)))
    return source.classes()


def open_split(config: DetectionConfig, split: str) -> SampleSet:
    """The samples of "train" or "val". Labels are indices into the config's classes where it names them.

    Raises:
        DataError: There is no such split, nothing in it, or a bad label under `on_error: fail`.
    """
    found = _detected(config)
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
        config: With `data.longest`, images keep their shapes; without, all have one.
        original: Size of the image; square when not given.
    """
    size = config.data.size
    if config.data.longest is not None:
        return fit(original or (size, size), "shortest", size, config.data.longest).content
    return fit((size, size) if isinstance(size, int) else size, "pad", multiple_of=max(STRIDES)).size


def augment(config: DetectionConfig, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
    """A training sample on its canvas. The last epochs see single images."""
    plain = epoch >= config.train.epochs - config.augment.close_mosaic_epochs
    canvas = canvas_size(config, dataset.size(index)) if config.data.longest is not None else canvas_size(config)
    return augmented(config.augment, dataset, index, rng, canvas, GRAY, plain)


def _detected(config: DetectionConfig) -> DetectedFormat:
    if config.data.path is None:
        raise UsageError("no data is named", field="data.path", hint="Give a dataset's folder, or scenes.")
    return detect_format(config.data.path, config.data.train, config.data.val)


def _open_files(config: DetectionConfig, source: Source, choices: Sequence[str]) -> BoxSet:
    findings = Findings(config.data.on_error)
    table = source.read(findings, config.data.max_pixels)
    notes = [*choices, *findings.notes]
    if not len(table):
        raise DataError("no image is left", file=config.data.path, value=notes, hint="Look at what was left out.")
    if config.classes is not None:
        table, others = with_classes(table, config.classes, config.category_ids)
        if others:
            notes.append(f"{others} boxes of other classes than {', '.join(config.classes)}, left out")
    return BoxSet(table, source.folder, config.backbone.channels, config.data.max_pixels, notes)
