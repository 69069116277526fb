"""Datasets of images with objects, and their augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densevision.datasets.augment import augment_sample
from densevision.datasets.box_dataset import read_image_size, remap_classes
from densevision.datasets.box_sources import CocoSource, FileBoxSource
from densevision.datasets.copy_paste import copy_paste
from densevision.datasets.format_detection import DetectedFormat, detect_format
from densevision.datasets.formats.coco_objects import read_skeleton
from densevision.datasets.instance_dataset import InstanceDataset, SceneInstanceDataset, take_first_images
from densevision.datasets.instance_sources import read_instance_table
from densevision.datasets.scenes import CLASSES, Scenes
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import SceneSource, get_split
from densevision.errors import DataError, UsageError
from densevision.io.image_cache import open_image_cache
from densevision.io.label_issues import LabelIssues
from densevision.ops.skeleton import Skeleton, get_default_sigmas
from densevision.ops.view import Size
from densevision.results import Instances
from densevision.sample import InputSpec, Sample, SampleSet
from densevision.tasks.instance.config import InstanceConfig

__all__ = ["augment", "canvas_size", "infer_from_data", "make_empty", "open_split"]

FILL = 114 / 255
"""Gray around an augmented image: near the mean of photographs."""
MAX_SCENE_SIDE = 320
"""Largest side of a rendered scene; on larger canvases it is enlarged."""


def infer_from_data(config: InstanceConfig) -> InstanceConfig:
    """Reads classes, category ids and keypoints from the training split, or the only one.

    Raises:
        DataError: The dataset is not recognized, or lists no classes or keypoints.
    """
    if config.classes is None:
        source = next(iter(_detect(config).splits.values()))
        is_scenes = isinstance(source, SceneSource)
        names, ids = (CLASSES, tuple(range(1, len(CLASSES) + 1))) if is_scenes else source.classes()
        config = config.replace(classes=names, category_ids=ids)
    if config.has_keypoints and config.keypoint_names is None:
        skeleton = _read_skeleton(config)
        config = config.replace(keypoint_names=skeleton.names, skeleton_edges=skeleton.edges)
    if config.has_keypoints and config.sigmas is None:
        config = config.replace(sigmas=get_default_sigmas(len(config.keypoint_names or ())))
    return config


def open_split(config: InstanceConfig, split: str) -> SampleSet:
    """The samples of "train" or "val". Labels are indices into the config's classes, if it has any.

    Raises:
        DataError: There is no such split, nothing in it, or a bad label under `on_error: fail`.
    """
    dataset = _detect(config)
    source = get_split(dataset.splits, split, config.data.path)
    if isinstance(source, SceneSource):
        _check_keypoints(config)
        side = min(MAX_SCENE_SIDE, config.data.size)
        scenes = Scenes.of(source, (side, side))
        return SceneInstanceDataset(scenes, config.backbone.channels, config.classes or CLASSES, config.category_ids)
    return _open_files(config, source, dataset.notes)


def augment(
    config: InstanceConfig, spec: InputSpec, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int
) -> Sample:
    """A training sample on its canvas; the last epochs are without mosaic and mixup."""
    is_plain = epoch >= config.train.epochs - config.augment.close_mosaic_epochs
    canvas = canvas_size(config, spec, read_image_size(dataset, index))
    sample = augment_sample(config.augment, dataset, index, rng, canvas, FILL, is_plain)
    if rng.random() >= config.augment.copy_paste:
        return sample
    other = augment_sample(config.augment, dataset, int(rng.integers(len(dataset))), rng, canvas, FILL, is_plain)
    return copy_paste(sample, other, rng)


def canvas_size(config: InstanceConfig, spec: InputSpec, original: Size) -> Size:
    """(height, width) of the canvas of a training sample, which the model sees without scaling it again.

    Args:
        config: May state a canvas.
        spec: The model's input. Under the rule "shortest", images keep their aspect ratio; else all have one size.
        original: Size of the image.

    Raises:
        UsageError: The model would scale the canvas.
    """
    canvas = config.data.canvas
    if canvas is None:
        return spec.view(original).content if spec.mode == "shortest" else spec.view(original).size
    size = (canvas, canvas) if isinstance(canvas, int) else canvas
    if spec.view(size).content != size:
        hint = f"Its shorter side must be data.size, and none above {spec.max_size}." if spec.max_size else None
        raise UsageError("the model would scale this canvas", field="data.canvas", value=canvas, hint=hint)
    return size


def make_empty(config: InstanceConfig, size: Size) -> Instances:
    """A record without objects."""
    num_keypoints = len(config.keypoint_names or ())
    return Instances.from_arrays(
        [],
        [],
        config.classes or (),
        size,
        category_ids=config.category_ids,
        masks=() if config.has_masks else None,
        keypoints=np.zeros((0, num_keypoints, 3), np.float32) if config.has_keypoints else None,
    )


def _detect(config: InstanceConfig) -> DetectedFormat:
    if config.data.path is None:
        raise UsageError("no dataset given", field="data.path", hint="Give the folder of a dataset, or scenes.")
    return detect_format(locate_dataset(config.data), config.data.train, config.data.val, needs_masks=config.has_masks)


def _read_skeleton(config: InstanceConfig) -> Skeleton:
    source = next(iter(_detect(config).splits.values()))
    if not isinstance(source, CocoSource):
        raise _no_keypoints(config)
    return read_skeleton(source.file)


def _check_keypoints(config: InstanceConfig) -> None:
    if config.has_keypoints:
        raise _no_keypoints(config)


def _no_keypoints(config: InstanceConfig) -> DataError:
    hint = "Give a COCO json with keypoints, or choose an architecture without keypoints."
    return DataError("this dataset has no keypoints", file=config.data.path, field="keypoints", hint=hint)


def _open_files(config: InstanceConfig, source: FileBoxSource, detection_notes: Sequence[str]) -> InstanceDataset:
    issues = LabelIssues(config.data.on_error)
    from densevision.tasks.instance.postprocess import make_skeleton  # imports torch, which checks do without

    skeleton = make_skeleton(config)
    limit, notes = config.data.max_pixels, list(detection_notes)
    boxes = source.read(issues, limit)
    boxes = boxes if config.data.max_images is None else take_first_images(boxes, config.data.max_images)
    if config.classes is not None:
        boxes, removed = remap_classes(boxes, config.classes, config.category_ids)
        if removed:
            notes.append(f"{removed} objects of other classes than {', '.join(config.classes)}, left out")
    table = read_instance_table(source, boxes, config.has_masks, skeleton, issues)
    notes += issues.notes
    if not len(table.boxes):
        hint = "See which images were skipped, and why."
        raise DataError("no images remain", file=config.data.path, value=notes, hint=hint)
    cache = open_image_cache(config.data.cache, config.data.cache_gigabytes)
    return InstanceDataset(table, Path(source.folder), config.backbone.channels, limit, notes, cache)
