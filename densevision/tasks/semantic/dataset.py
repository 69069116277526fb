"""Images with class maps for training and evaluation: which there are, and what their classes are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densevision.datasets.mask_layouts import CocoMaskSource, MaskFolderSource, MaskSource, detect_mask_format
from densevision.datasets.scenes import SEMANTIC_CLASSES, Scenes
from densevision.datasets.semantic_dataset import (
    MaskFiles,
    MaskReader,
    SceneSemanticDataset,
    SemanticDataset,
    build_binary_lookup,
    build_label_lookup,
    open_coco_masks,
    open_mask_folders,
)
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import SceneSource, get_split
from densevision.errors import DataError, UsageError
from densevision.io.image_cache import open_image_cache
from densevision.io.label_issues import LabelIssues
from densevision.io.masks import BINARY_255_PROBLEM, BINARY_NAMES, LabelEncoding
from densevision.ops.view import Size
from densevision.results import SemanticMap
from densevision.sample import SampleSet
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.object_masks import ObjectMaskSource, detect_object_format

__all__ = ["canvas_size", "choose_encoding", "complete_config", "find_sources", "open_split", "read_class_names"]

SCENE_SIDE = 320
"""Side of a rendered scene, unless the crop is larger."""
MAX_COUNTED_MASKS = 500
"""Masks from which class weights are computed, evenly spaced over the training split."""
SHOWN_NAMES = 20
"""Class names that a hint lists."""

Source = MaskSource | ObjectMaskSource


def complete_config(config: SemanticConfig) -> SemanticConfig:
    """The config with its class names, and with class weights as numbers.

    Raises:
        DataError: The dataset is not recognized, or neither it nor the config names the classes.
    """
    if config.classes is None:
        config = config.replace(classes=read_class_names(config))
    if isinstance(config.loss.class_weights, str):
        config = config.replace(loss__class_weights=_compute_class_weights(config))
    return config


def open_split(config: SemanticConfig, split: str) -> SampleSet:
    """The samples of "train" or "val".

    Raises:
        DataError: There is no such split, it is empty, or a mask is invalid under `on_error: fail`.
    """
    source = get_split(find_sources(config), split, config.data.path)
    names = config.classes or read_class_names(config)
    channels, limit, is_multilabel = config.backbone.channels, config.data.max_pixels, config.mode == "multilabel"
    if isinstance(source, SceneSource):
        height, width = (max(SCENE_SIDE, side) for side in canvas_size(config))
        return SceneSemanticDataset(Scenes.of(source, (height, width)), names, channels, config.mode)
    issues = LabelIssues(config.data.on_error)
    masks: MaskReader
    images: Sequence[str]
    stuff: tuple[str, ...] = ()
    if isinstance(source, MaskFolderSource):
        folder, dataset_names = source.root, name_mask_classes(config, source, names)
        images, masks = open_mask_folders(source, choose_encoding(config, source, names), issues, limit, is_multilabel)
    elif isinstance(source, CocoMaskSource):
        folder = source.images
        images, masks = open_coco_masks(source.read(issues), folder, issues, limit)
        has_background = source.labels is None
        dataset_names, stuff = masks.names[int(is_multilabel and has_background) :], masks.stuff
    else:
        masks = source.read(issues, limit)
        folder, images = masks.folder, masks.images
        dataset_names, stuff = masks.names[int(is_multilabel) :], masks.stuff
    if not images:
        raise DataError("no image is left", file=config.data.path, field=f"data.{split}", value=issues.notes)
    lookup = _build_lookup(config.mode, dataset_names, names, stuff)
    cache, notes = open_image_cache(config.data.cache, config.data.cache_gigabytes), issues.notes
    samples = SemanticDataset(folder, images, masks, names, channels, limit, lookup, is_multilabel, notes, cache)
    _refuse_blank_masks(config, samples, split)
    return samples


def find_sources(config: SemanticConfig) -> dict[str, Source]:
    """The splits of the dataset: of masks, or else of objects whose masks are drawn.

    Raises:
        DataError: The format of the dataset is unknown.
    """
    if config.data.path is None:
        raise UsageError("no dataset given", field="data.path", hint="Give the folder of a dataset, or scenes.")
    path, train, val = locate_dataset(config.data), config.data.train, config.data.val
    problem = None
    masks: dict[str, MaskSource] = {}
    try:
        masks = detect_mask_format(path, train, val)
        if not all(map(_is_without_masks, masks.values())):
            return dict(masks)
    except DataError as error:
        problem = error
    try:
        return dict(detect_object_format(path, train, val))
    except (DataError, UsageError) as error:
        if masks:
            return dict(masks)
        raise (error if Path(path).is_file() else problem or error) from None


def _is_without_masks(source: MaskSource) -> bool:
    """Whether images were found, but not one mask: text files of polygons may lie where masks would."""
    return isinstance(source, MaskFolderSource) and all(mask is None for _, mask in source.pairs)


def read_class_names(config: SemanticConfig) -> tuple[str, ...]:
    """The classes that the dataset states.

    Raises:
        DataError: It states none.
    """
    source = next(iter(find_sources(config).values()))
    is_multilabel = config.mode == "multilabel"
    if config.mode == "binary":
        return BINARY_NAMES
    if isinstance(source, SceneSource):
        return SEMANTIC_CLASSES
    if isinstance(source, CocoMaskSource):
        names = source.classes()
        return names[1:] if is_multilabel and source.labels is None else names
    if isinstance(source, ObjectMaskSource):
        return source.names()[int(is_multilabel) :]
    if source.names is None:
        hint = "Set classes, or write classes.txt into this folder, one name per line in the order of the values."
        raise DataError("the class names are unknown", file=source.root, field="classes", hint=hint)
    return source.names


def canvas_size(config: SemanticConfig) -> Size:
    """(height, width) of a training crop."""
    size = config.data.size
    return (size, size) if isinstance(size, int) else size


def choose_encoding(config: SemanticConfig, source: MaskFolderSource, names: tuple[str, ...]) -> LabelEncoding:
    """Classes of the pixel values: as the config states, else as the dataset does, else 0, 1, 2, ..."""
    data = config.data
    if not _states_encoding(config) and source.encoding is not None:
        return source.encoding
    return LabelEncoding(len(names), data.values, data.colors, data.unknown, data.unknown_colors)


def name_mask_classes(config: SemanticConfig, source: MaskFolderSource, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the classes that `choose_encoding` returns: those of the dataset, else the requested ones."""
    return names if _states_encoding(config) else source.names or names


def _states_encoding(config: SemanticConfig) -> bool:
    data = config.data
    return data.values is not None or data.colors is not None or bool(data.unknown)


def _build_lookup(
    mode: str, dataset_names: tuple[str, ...], names: tuple[str, ...], stuff: Sequence[str]
) -> np.ndarray | None:
    """Maps the dataset's classes to the requested ones; None where they are the same."""
    if dataset_names == names:
        return None
    if mode == "multilabel":
        hint = f"Leave classes out; the dataset has: {', '.join(dataset_names[:SHOWN_NAMES])}."
        raise DataError("mode=multilabel cannot select classes", field="classes", value=names, hint=hint)
    if mode == "binary":
        return build_binary_lookup(dataset_names, names, stuff)
    return build_label_lookup(dataset_names, names)


def _refuse_blank_masks(config: SemanticConfig, samples: SemanticDataset, split: str) -> None:
    """Refuses training masks without a known pixel, and 255 as the only foreground; usually one mask is enough.

    Raises:
        DataError: The masks hold no known pixel, or 255 where it must mean foreground.
    """
    masks, is_binary = samples.masks, config.mode == "binary"
    may_mean_foreground = isinstance(masks, MaskFiles) and not _states_encoding(config) and not samples.multilabel
    if may_mean_foreground and not is_binary:
        may_mean_foreground = masks.encoding.classes == 2 and samples.lookup is None  # type: ignore[attr-defined]
    if not may_mean_foreground and split != "train":
        return
    is_blank, has_unknown = True, False
    for index in range(len(samples)):
        truth = samples[index].truth
        assert isinstance(truth, SemanticMap)
        known = truth.known
        if (truth.mask(1) if may_mean_foreground else known).any():
            return
        is_blank, has_unknown = is_blank and not known.any(), has_unknown or not known.all()
    if may_mean_foreground and has_unknown and (is_binary or not is_blank):
        problem, hint = BINARY_255_PROBLEM
        raise DataError(problem, file=config.data.path, field="data.values", hint=hint)
    if is_blank and split == "train":
        hint = "Check data.unknown, and which values the masks hold."
        raise DataError("no pixel of the training masks is known", file=config.data.path, hint=hint)


def _compute_class_weights(config: SemanticConfig) -> tuple[float, ...]:
    """Class weights from the training masks."""
    from densevision.tasks.semantic.losses import compute_enet_weights, compute_median_weights  # imports torch

    samples = open_split(config, "train")
    count = len(config.classes or ())
    pixels, present = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for index in np.unique(np.linspace(0, len(samples) - 1, MAX_COUNTED_MASKS).round().astype(int)).tolist():
        truth = samples[index].truth
        assert isinstance(truth, SemanticMap)
        areas = np.array([np.count_nonzero(truth.mask(label)) for label in range(count)])
        pixels += areas
        present += np.where(areas > 0, np.count_nonzero(truth.known), 0)
    weights = (
        compute_median_weights(pixels, present)
        if config.loss.class_weights == "median"
        else compute_enet_weights(pixels)
    )
    return tuple(round(float(weight), 6) for weight in weights)
