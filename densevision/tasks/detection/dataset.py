"""Datasets of images with boxes, and their augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densevision.datasets.augment import augment_sample
from densevision.datasets.box_dataset import BoxDataset, SceneBoxDataset, read_image_size, remap_classes
from densevision.datasets.box_sources import ClassList, FileBoxSource
from densevision.datasets.format_detection import DetectedFormat, detect_format
from densevision.datasets.scenes import CLASSES, Scenes
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import SceneSource, get_split
from densevision.errors import DataError, UsageError
from densevision.io.image_cache import open_image_cache
from densevision.io.label_issues import LabelIssues
from densevision.ops.view import Size
from densevision.sample import InputSpec, Sample, SampleSet
from densevision.tasks.detection.config import DetectionConfig

__all__ = ["augment", "canvas_size", "open_split", "read_classes"]

FILL = 114 / 255
"""Gray around an augmented image: near the mean of photographs."""
MAX_SCENE_SIDE = 320
"""Largest side of a rendered scene; on larger canvases it is enlarged."""


def read_classes(config: DetectionConfig) -> ClassList:
    """Class names and category ids of the training split, or of the only one.

    Raises:
        DataError: The dataset is not recognized, or lists no classes.
    """
    source = next(iter(_detect(config).splits.values()))
    if isinstance(source, SceneSource):
        return ClassList(CLASSES, tuple(range(1, len(CLASSES) + 1)))
    return source.classes()


def open_split(config: DetectionConfig, spec: InputSpec, split: str) -> SampleSet:
    """The samples of "train" or "val". Labels are indices into the config's classes, if it has any.

    Args:
        config: Names the data.
        spec: The model's input.
        split: Name of the split.

    Raises:
        DataError: There is no such split, nothing in it, or a bad label under `on_error: fail`.
    """
    dataset = _detect(config)
    source = get_split(dataset.splits, split, config.data.path)
    channels = config.backbone.channels
    if isinstance(source, SceneSource):
        height, width = (min(MAX_SCENE_SIDE, side) for side in canvas_size(spec))
        scenes = Scenes.of(source, (height, width))
        return SceneBoxDataset(scenes, channels, config.classes or CLASSES, config.category_ids)
    return _open_files(config, source, dataset.notes)


def canvas_size(spec: InputSpec, original: Size | None = None) -> Size:
    """(height, width) of the canvas of a training sample.

    Args:
        spec: The model's input. Under the rule "shortest", images keep their aspect ratio; else all have one size.
        original: Size of the image; square if None.
    """
    size = (spec.size, spec.size) if isinstance(spec.size, int) else (spec.size or original or (1, 1))
    if spec.mode == "shortest":
        return spec.view(original or size).content
    height, width = (-(-side // spec.multiple_of) * spec.multiple_of for side in size)
    return height, width


def augment(
    config: DetectionConfig, spec: InputSpec, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int
) -> Sample:
    """A training sample on its canvas; the last epochs are without mosaic and mixup."""
    is_plain = epoch >= config.train.epochs - config.augment.close_mosaic_epochs
    canvas = canvas_size(spec, read_image_size(dataset, index))
    return augment_sample(config.augment, dataset, index, rng, canvas, FILL, is_plain)


def _detect(config: DetectionConfig) -> DetectedFormat:
    if config.data.path is None:
        raise UsageError("no dataset given", field="data.path", hint="Give the folder of a dataset, or scenes.")
    return detect_format(locate_dataset(config.data), config.data.train, config.data.val)


def _open_files(config: DetectionConfig, source: FileBoxSource, detection_notes: Sequence[str]) -> BoxDataset:
    issues = LabelIssues(config.data.on_error)
    table = source.read(issues, config.data.max_pixels)
    notes = [*detection_notes, *issues.notes]
    if not len(table):
        hint = "See which images were skipped, and why."
        raise DataError("no images remain", file=config.data.path, value=notes, hint=hint)
    if config.classes is not None:
        table, removed = remap_classes(table, config.classes, config.category_ids)
        if removed:
            notes.append(f"{removed} boxes of other classes than {', '.join(config.classes)}, left out")
    cache = open_image_cache(config.data.cache, config.data.cache_gigabytes)
    return BoxDataset(table, source.folder, config.backbone.channels, config.data.max_pixels, notes, cache)
