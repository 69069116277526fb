"""Pairs with truth for training and evaluation: from files, or from the procedural world."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from densevision.datasets.flow_layouts import Pair, detect_format
from densevision.datasets.flow_targets import read_truth
from densevision.datasets.scene_splits import scene_splits
from densevision.datasets.scenes import Scenes
from densevision.errors import DataError, UsageError
from densevision.io.flow import flow_size, read_array
from densevision.io.image import image_size, read_image, to_channels
from densevision.io.image_files import held_out, is_whole
from densevision.io.label_issues import Findings, Kind
from densevision.results import FlowField
from densevision.sample import Sample, SampleSet
from densevision.tasks.flow.config import FlowConfig

_WAYS = r"/(into_(future|past)/\w+|flow_[FB]W_\w+)$"
"""What FlyingThings3D and Spring add to a scene's name for each direction and camera."""
MARGIN = 1.5
"""Sides of a rendered scene, in sides of the training crop: room for the crop to be chosen in."""


def open_split(config: FlowConfig, split: str) -> SampleSet:
    """The samples of "train" or "val".

    A folder may hold both as `train/` and `val/` (or as `data.train` and `data.val` name them; `.` is all of it). A
    dataset that says itself what validates is believed. Otherwise a tenth of its sequences, chosen by a hash of their
    names, validates.

    Raises:
        UsageError: No data is named, or passes are chosen of data that has none.
        DataError: There is no such folder, split or pair; or a bad pair under `on_error: fail`.
    """
    if config.data.path is None:
        raise UsageError("no data is named", field="data.path", hint="Give a dataset's folder, or scenes.")
    scenes = scene_splits(config.data.path)
    channels = config.backbone.channels
    if scenes is not None:
        _refuse_passes(config, "scenes")
        height, width = (round(side * MARGIN) for side in config.data.size)
        return SceneFlow(Scenes.of(scenes[split], (height, width)), channels)
    pairs, notes = pairs_of(config, split)
    findings = Findings(config.data.on_error)
    sound = [pair for pair in pairs if _is_sound(pair, findings)]
    if not sound:
        hint = "Look at what was left out."
        raise DataError("no pair is left", file=config.data.path, value=findings.notes, hint=hint)
    return FlowSet(sound, channels, config.data.max_pixels, [*notes, *findings.notes])


class FlowSet:
    """Pairs on disk. Reading is pure, so workers may share it.

    Args:
        pairs: Their files.
        channels: Channels that the network wants.
        max_pixels: Limit of an image.
        notes: What was chosen or left out.
    """

    def __init__(self, pairs: Sequence[Pair], channels: int, max_pixels: int, notes: Sequence[str] = ()):
        self.pairs, self.channels, self.max_pixels, self.notes = list(pairs), channels, max_pixels, tuple(notes)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Both frames, with their truth.

        Raises:
            DataError: A file is broken, or the truth is not of the size of its frames.
        """
        pair = self.pairs[index]
        first, second = (
            to_channels(read_image(path, self.max_pixels), self.channels) for path in (pair.first, pair.second)
        )
        truth = None if pair.flow is None else read_truth(pair, first.shape[:2])
        return Sample({"first": first, "second": second}, truth, pair.name, str(pair.first))


class SceneFlow:
    """Two frames of procedural scenes, with flow and occlusion.

    Args:
        scenes: The scenes.
        channels: Channels that the network wants.
    """

    notes: Sequence[str] = ()

    def __init__(self, scenes: Scenes, channels: int = 3):
        self.scenes, self.channels = scenes, channels

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        """A scene's two frames."""
        return self.fresh(index, 0)

    def fresh(self, index: int, epoch: int) -> Sample:
        """A scene's two frames; every epoch has scenes of its own, so that training never sees one twice."""
        scene = self.scenes.fresh(index, epoch)
        first, second = (to_channels(image, self.channels) for image in (scene.image, scene.next))
        truth = FlowField.of(scene.flow, occlusion=scene.occlusion, source=first)
        return Sample({"first": first, "second": second}, truth, index, scene.name)


def pairs_of(config: FlowConfig, split: str) -> tuple[list[Pair], list[str]]:
    """The files of a split, and what was chosen on the way."""
    root = Path(config.data.path)
    if not root.is_dir():
        raise DataError("no such folder", file=root, hint="Give a dataset's folder, or scenes.")
    named = getattr(config.data, split)
    folder = root / (named or split)
    if named is not None and not folder.is_dir():
        raise DataError("no such folder", file=folder, field=f"data.{split}")
    divided = folder.is_dir() and (detect_format(root).pairs.__name__ == "plain" or _is_divided(root))
    if named is not None or divided:
        found, notes = _listed(folder, config), []
    else:
        found, notes = _divided(_listed(root, config), split)
    if not found:
        hint = "Frames and truth lie side by side (frame10.png, frame11.png, flow10.flo), or as a known dataset does."
        raise DataError(f"no pair of frames for {split}", file=folder if divided else root, hint=hint)
    return found, notes


def _is_divided(root: Path) -> bool:
    """Whether both train/ and val/ hold what all of it is taken for."""
    whole = detect_format(root).name
    return all((root / part).is_dir() and detect_format(root / part).name == whole for part in ("train", "val"))


def _image_size(path: Path) -> tuple[int, int]:
    """By its header; DataError where the file's end is missing, too."""
    size = image_size(path)
    if not is_whole(path):
        read_image(path)
    return size


def _is_sound(pair: Pair, findings: Findings) -> bool:
    """Whether both frames and their truth are there, whole and of one size, by their headers and ends."""
    sizes = []
    for frame in (pair.first, pair.second):
        try:
            sizes.append(_image_size(frame))
        except DataError as failure:
            kind = Kind.IMAGE_BROKEN if frame.exists() else Kind.IMAGE_MISSING
            findings.add(kind, frame, None, failure.problem)
            return False
    if sizes[0] != sizes[1]:
        findings.add(Kind.FRAME_SIZE, pair.second, None, sizes[1])
    return sizes[0] == sizes[1] and _is_truth_sound(pair, sizes[0], findings)


def _is_truth_sound(pair: Pair, size: tuple[int, int], findings: Findings) -> bool:
    looks = {
        **dict.fromkeys((pair.flow, pair.visible), flow_size),
        **dict.fromkeys((pair.occlusion, pair.invalid), _image_size),
        pair.mask: lambda file: read_array(file, mapped=True).shape,
    }
    for file, look in looks.items():
        if file is None:
            continue
        try:
            found = look(file)
        except DataError as failure:
            findings.add(Kind.FLOW_BROKEN, file, failure.field, failure.problem)
            return False
        if pair.doubled:
            found = tuple((side + 1) // 2 for side in found)
        if found != size:
            findings.add(Kind.FLOW_SIZE, file, None, found)
            return False
    return True


def _listed(folder: Path, config: FlowConfig) -> list[Pair]:
    layout = detect_format(folder)
    if not layout.rendered:
        _refuse_passes(config, layout.name)
    return list(layout.pairs(folder, config.data.passes))


def _refuse_passes(config: FlowConfig, data: str) -> None:
    """UsageError where passes are chosen of what has none."""
    default = type(config.data).model_fields["passes"].default
    if config.data.passes != default:
        hint = f"Leave it out, or set it back to [{', '.join(default)}]."
        raise UsageError(f"has no effect on {data}", field="data.passes", value=list(config.data.passes), hint=hint)


def _divided(pairs: list[Pair], split: str) -> tuple[list[Pair], list[str]]:
    """The pairs of a split, as the dataset says, or else, and where it only says what trains, by whole groups."""
    if any(pair.split == "val" for pair in pairs):
        return [pair for pair in pairs if pair.split == split], []
    groups = sorted({_scene(pair) for pair in pairs})
    if len(groups) < 2:
        return pairs, ["one sequence only: it trains and validates"]
    validating = {group for group, held in zip(groups, held_out(groups)) if held}
    chosen = [pair for pair in pairs if (_scene(pair) in validating) == (split == "val")]
    return chosen, [f"no validation split: {len(validating)} of {len(groups)} sequences are held out"]


def _scene(pair: Pair) -> str:
    """The group without rendering, direction and camera: a scene stays together; one word, as hashes want it."""
    head, _, tail = pair.group.partition("/")
    group = tail if head in ("clean", "final") else pair.group
    return re.sub(_WAYS, "", group).replace("/", "-")
