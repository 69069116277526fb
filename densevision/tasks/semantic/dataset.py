"""Images with class maps for training and evaluation: which they are, and what their classes are."""

from __future__ import annotations

import numpy as np

from densevision.datasets.formats.coco_masks import read_coco_masks
from densevision.datasets.mask_layouts import CocoJson, MaskFolders, Source, find_masks
from densevision.datasets.masks import MaskFiles, MaskSet, SceneMasks, binary_mapping, mapping, open_coco, open_folders
from densevision.datasets.scene_splits import SceneSource
from densevision.datasets.scenes import SEMANTIC_CLASSES, Scenes
from densevision.datasets.splits import source_of
from densevision.errors import DataError, UsageError
from densevision.io.label_issues import Findings
from densevision.io.masks import BINARY, WHITE, Coding
from densevision.ops.view import Size
from densevision.sample import SampleSet
from densevision.tasks.semantic.config import SemanticConfig

SCENE = 320
"""Side of a rendered scene, when the crop is not larger."""
COUNTED = 500
"""Most masks from which class weights are computed, evenly spaced over the training split."""


def completed(config: SemanticConfig) -> SemanticConfig:
    """The config with its classes, and with class weights as numbers.

    Raises:
        DataError: The dataset is not recognized, or neither it nor the config names the classes.
    """
    if config.classes is None:
        config = config.changed(classes=class_names(config))
    if isinstance(config.loss.class_weights, str):
        config = config.changed(loss__class_weights=_weights(config))
    return config


def open_split(config: SemanticConfig, split: str) -> SampleSet:
    """The samples of "train" or "val".

    Raises:
        DataError: There is no such split, nothing in it, or a bad mask under `on_error: fail`.
    """
    source = source_of(_sources(config), split, config.data.path)
    names = config.classes or class_names(config)
    channels, limit, multilabel = config.backbone.channels, config.data.max_pixels, config.mode == "multilabel"
    if isinstance(source, SceneSource):
        size = tuple(max(SCENE, side) for side in canvas_size(config))
        scenes = Scenes.of(source, (size[0], size[1]))
        return SceneMasks(scenes, names, channels, config.mode)
    findings, stuff = Findings(config.data.on_error), ()
    if isinstance(source, CocoJson):
        folder = source.images
        images, masks = open_coco(source.read(), folder, findings, limit)
        own, stuff = masks.names[1:] if multilabel and source.labels is None else masks.names, masks.stuff
    else:
        folder, own = source.root, own_names(config, source, names)
        images, masks = open_folders(source, coding_of(config, source, names), findings, limit, multilabel)
    if not images:
        raise DataError("no image is left", file=config.data.path, field=f"data.{split}", value=findings.notes)
    table = _table(config.mode, own, names, stuff)
    samples = MaskSet(folder, images, masks, names, channels, limit, table, multilabel, findings.notes)
    _refuse_blank(config, samples, split)
    return samples


def _table(mode: str, own: tuple[str, ...], names: tuple[str, ...], stuff: tuple[str, ...]) -> np.ndarray | None:
    """Which of the wanted classes each of the dataset's own is; None where they are the same."""
    if own == names:
        return None
    if mode == "multilabel":
        hint = f"Leave classes out; the dataset has: {', '.join(own[:20])}."
        raise DataError("sets of classes are read as they are", field="classes", value=names, hint=hint)
    return binary_mapping(own, names, stuff) if mode == "binary" else mapping(own, names)


def _refuse_blank(config: SemanticConfig, samples: MaskSet, split: str) -> None:
    """Refuses to learn from unknown pixels alone, and 255 as the only foreground; mostly one mask tells.

    Raises:
        DataError: The masks say nothing, or say 255 where foreground must be meant.
    """
    masks, binary = samples.masks, config.mode == "binary"
    pair = isinstance(masks, MaskFiles) and not _codes(config) and not samples.multilabel
    pair = pair and (binary or (masks.coding.classes == 2 and samples.table is None))
    if not pair and split != "train":
        return
    blank, white = True, False
    for index in range(len(samples)):
        truth = samples[index].truth
        known = truth.known
        if (truth.mask(1) if pair else known).any():
            return
        blank, white = blank and not known.any(), white or not known.all()
    if pair and white and (binary or not blank):
        raise DataError(WHITE[0], file=config.data.path, field="data.values", hint=WHITE[1])
    if blank and split == "train":
        hint = "Look whether data.unknown says too much, and which values the masks hold."
        raise DataError("no pixel of the training masks is known", file=config.data.path, hint=hint)


def canvas_size(config: SemanticConfig) -> Size:
    """(height, width) of a training crop."""
    size = config.data.size
    return (size, size) if isinstance(size, int) else size


def _sources(config: SemanticConfig) -> dict[str, Source]:
    if config.data.path is None:
        raise UsageError("no data is named", field="data.path", hint="Give a dataset's folder, or scenes.")
    return find_masks(config.data.path, config.data.train, config.data.val)


def class_names(config: SemanticConfig) -> tuple[str, ...]:
    """The classes that the dataset states."""
    source = next(iter(_sources(config).values()))
    if config.mode == "binary":
        return BINARY
    if isinstance(source, SceneSource):
        return SEMANTIC_CLASSES
    if isinstance(source, CocoJson):
        names = read_coco_masks(source.file, source.labels).names
        return names[1:] if config.mode == "multilabel" and source.labels is None else names
    if source.names is None:
        hint = (
            "Set classes, or write their names into classes.txt in this folder, one a line in the order of the values."
        )
        raise DataError("the class names are not known", file=source.root, field="classes", hint=hint)
    return source.names


def _codes(config: SemanticConfig) -> bool:
    """Whether the config says what the masks' pixels mean."""
    data = config.data
    return data.values is not None or data.colors is not None or bool(data.unknown)


def own_names(config: SemanticConfig, source: MaskFolders, names: tuple[str, ...]) -> tuple[str, ...]:
    """What the numbers of the masks are called, as `coding_of` gives them: the dataset's classes, else the wanted."""
    return names if _codes(config) else source.names or names


def coding_of(config: SemanticConfig, source: MaskFolders, names: tuple[str, ...]) -> Coding:
    """What the masks' pixels mean: the config's word, else the dataset's, else 0, 1, 2, ..."""
    data = config.data
    if not _codes(config) and source.coding is not None:
        return source.coding
    return Coding(len(names), data.values, data.colors, data.unknown, data.unknown_colors)


def _weights(config: SemanticConfig) -> tuple[float, ...]:
    """Weights of the classes from the training masks."""
    from densevision.tasks.semantic.losses import enet_weights, median_weights  # torch, which reading needs not

    samples = open_split(config, "train")
    count = len(config.classes or ())
    pixels, present = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for index in np.unique(np.linspace(0, len(samples) - 1, COUNTED).round().astype(int)).tolist():
        truth = samples[index].truth
        areas = np.array([np.count_nonzero(truth.mask(one)) for one in range(count)])
        pixels += areas
        present += np.where(areas > 0, np.count_nonzero(truth.known), 0)
    weights = median_weights(pixels, present) if config.loss.class_weights == "median" else enet_weights(pixels)
    return tuple(round(float(weight), 6) for weight in weights)
