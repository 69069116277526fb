"""Images with objects for training and evaluation: which they are, and what chance does to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densevision.datasets.augment import augmented
from densevision.datasets.boxes import with_classes
from densevision.datasets.copy_paste import copy_paste
from densevision.datasets.format_detection import DetectedFormat
from densevision.datasets.instance_sets import InstanceSet, SceneInstances, first_images
from densevision.datasets.instance_sources import LabelmeSource, detect_object_format, read_objects
from densevision.datasets.scene_splits import SceneSource
from densevision.datasets.scenes import CLASSES, Scenes
from densevision.datasets.splits import source_of
from densevision.errors import DataError, UsageError
from densevision.io.label_issues import Findings
from densevision.ops.skeleton import Skeleton, usual_sigmas
from densevision.ops.view import Size
from densevision.results import Instances
from densevision.sample import InputSpec, Sample, SampleSet
from densevision.tasks.instance.config import InstanceConfig

GRAY = 114 / 255
"""What surrounds an image that is moved on its training canvas: near the mean of photographs."""
SCENE = 320
"""Largest side of a rendered scene; larger canvases see it enlarged."""


def infer_from_data(config: InstanceConfig) -> InstanceConfig:
    """Fills in classes, category ids and keypoints from the training split, or the only one.

    Raises:
        DataError: The dataset is not recognized, or lists no classes or keypoints.
    """
    if config.classes is None:
        source = next(iter(_detected(config).splits.values()))
        scenes = isinstance(source, SceneSource)
        names, ids = (CLASSES, tuple(range(1, len(CLASSES) + 1))) if scenes else source.classes()
        config = config.changed(classes=names, category_ids=ids)
    if config.keypoints and config.keypoint_names is None:
        skeleton = _skeleton(config)
        config = config.changed(keypoint_names=skeleton.names, skeleton_edges=skeleton.skeleton_edges)
    if config.keypoints and config.sigmas is None:
        config = config.changed(sigmas=usual_sigmas(len(config.keypoint_names or ())))
    return config


def open_split(config: InstanceConfig, split: str) -> SampleSet:
    """The samples of "train" or "val". Labels are indices into the config's classes where it names them.

    Raises:
        DataError: There is no such split, nothing in it, or a bad label under `on_error: fail`.
    """
    found = _detected(config)
    source = source_of(found.splits, split, config.data.path)
    if isinstance(source, SceneSource):
        _refuse_keypoints(config)
        side = min(SCENE, config.data.size)
        scenes = Scenes.of(source, (side, side))
        return SceneInstances(scenes, config.backbone.channels, config.classes or CLASSES, config.category_ids)
    return _open_files(config, source, found.notes)


def augment(
    config: InstanceConfig, spec: InputSpec, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int
) -> Sample:
    """A training sample on its canvas. The last epochs see single images."""
    plain = epoch >= config.train.epochs - config.augment.close_mosaic_epochs
    canvas = _canvas(config, spec, dataset.size(index))
    sample = augmented(config.augment, dataset, index, rng, canvas, GRAY, plain)
    if rng.random() >= config.augment.copy_paste:
        return sample
    other = augmented(config.augment, dataset, int(rng.integers(len(dataset))), rng, canvas, GRAY, plain)
    return copy_paste(sample, other, rng)


def nothing(config: InstanceConfig, size: Size) -> Instances:
    """A record without objects."""
    keypoint_names = len(config.keypoint_names or ())
    return Instances.of(
        [],
        [],
        config.classes or (),
        size,
        ids=config.category_ids,
        masks=() if config.masks else None,
        keypoints=np.zeros((0, keypoint_names, 3), np.float32) if config.keypoints else None,
    )


def _canvas(config: InstanceConfig, spec: InputSpec, original: Size) -> Size:
    canvas = config.data.canvas
    if canvas is None:
        return spec.view(original).content
    return (canvas, canvas) if isinstance(canvas, int) else canvas


def _detected(config: InstanceConfig) -> DetectedFormat:
    if config.data.path is None:
        raise UsageError("no data is named", field="data.path", hint="Give a dataset's folder, or scenes.")
    return detect_object_format(config.data.path, config.data.train, config.data.val)


def _skeleton(config: InstanceConfig) -> Skeleton:
    from densevision.datasets.box_sources import CocoSource
    from densevision.datasets.formats.coco_objects import read_skeleton

    source = next(iter(_detected(config).splits.values()))
    _refuse_keypoints(config, source if isinstance(source, CocoSource) else None)
    return read_skeleton(source.file)


def _refuse_keypoints(config: InstanceConfig, source: object | None = None) -> None:
    """Only COCO json holds keypoints."""
    if config.keypoints and source is None:
        hint = "Give a COCO json with keypoints, or leave keypoints out."
        raise DataError("this data has no keypoints", file=config.data.path, field="keypoints", hint=hint)


def _open_files(config: InstanceConfig, source, choices: Sequence[str]) -> InstanceSet:
    findings = Findings(config.data.on_error)
    skeleton = Skeleton(config.keypoint_names or (), config.skeleton_edges or ()) if config.keypoints else None
    limit, notes = config.data.max_pixels, list(choices)
    if isinstance(source, LabelmeSource):
        table = source.read_objects(config.classes or source.classes().names, findings, limit)
    else:
        boxes = source.read(findings, limit)
        boxes = boxes if config.data.first is None else first_images(boxes, config.data.first)
        if config.classes is not None:
            boxes, others = with_classes(boxes, config.classes, config.category_ids)
            if others:
                notes.append(f"{others} objects of other classes than {', '.join(config.classes)}, left out")
        table = read_objects(source, boxes, config.masks, skeleton, findings)
    notes += findings.notes
    if not len(table.boxes):
        raise DataError("no image is left", file=config.data.path, value=notes, hint="Look at what was left out.")
    return InstanceSet(table, Path(source.folder), config.backbone.channels, limit, notes)
