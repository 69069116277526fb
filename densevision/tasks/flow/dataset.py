"""Frame pairs with flow for training and evaluation: from files, or procedural scenes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from densevision.datasets.flow_layouts import LAYOUTS, FlowPair, detect_flow_layout
from densevision.datasets.flow_targets import read_flow_field
from densevision.datasets.scene_samples import SceneSamples
from densevision.datasets.scenes import Scene, Scenes
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import hold_out_groups, parse_scene_splits
from densevision.errors import DataError, UsageError
from densevision.io.flow import read_array, read_flow_size
from densevision.io.image import convert_channels, read_image, read_image_size
from densevision.io.image_cache import ImageCache, open_image_cache, read_cached_image
from densevision.io.image_files import is_complete_file
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.results import FlowField
from densevision.sample import Sample, SampleSet
from densevision.tasks.flow.config import FlowConfig

__all__ = ["FlowSet", "SceneFlow", "list_pairs", "open_split"]

_DIRECTION_SUFFIX = r"/(into_(future|past)/\w+|flow_[FB]W_\w+)$"
"""Suffix of a scene's name in FlyingThings3D and Spring for each direction and camera."""
SCENE_MARGIN = 1.5
"""Size of a rendered scene relative to the training crop, so that crops can move in it."""


def open_split(config: FlowConfig, split: str) -> SampleSet:
    """Opens the samples of "train" or "val".

    A folder may contain both as `train/` and `val/` (or as `data.train` and `data.val` name them; `.` is all of it). A
    dataset's own validation split is used; otherwise a tenth of its sequences, chosen by a hash of their names, is held
    out.

    Raises:
        UsageError: No dataset is given, or passes are selected of data that has none.
        DataError: There is no such folder, split or pair; or with `on_error: fail`, a pair is wrong.
    """
    if config.data.path is None:
        raise UsageError("no dataset is given", field="data.path", hint="Give a dataset's folder, or scenes.")
    scenes = parse_scene_splits(config.data.path)
    channels = config.backbone.channels
    if scenes is not None:
        _refuse_passes(config, "scenes")
        height, width = (round(side * SCENE_MARGIN) for side in config.data.size)
        return SceneFlow(Scenes.of(scenes[split], (height, width)), channels)
    pairs, notes = list_pairs(config, split)
    issues = LabelIssues(config.data.on_error)
    sound = [pair for pair in pairs if _is_sound(pair, issues)]
    if not sound:
        raise DataError(f"no pair of {split} is left", file=config.data.path, value=list(issues.notes))
    cache = open_image_cache(config.data.cache, config.data.cache_gigabytes)
    return FlowSet(sound, channels, config.data.max_pixels, [*notes, *issues.notes], cache)


class FlowSet:
    """Pairs on disk. Reading has no side effects, so workers may share it.

    Args:
        pairs: Their files.
        channels: Channels of the network's inputs.
        max_pixels: Largest image that is decoded.
        notes: What was chosen or left out.
        cache: Keeps decoded images.
    """

    def __init__(
        self,
        pairs: Sequence[FlowPair],
        channels: int,
        max_pixels: int,
        notes: Sequence[str] = (),
        cache: ImageCache | None = None,
    ):
        self.pairs, self.channels, self.max_pixels = list(pairs), channels, max_pixels
        self.notes: Sequence[str] = tuple(notes)
        self.cache = cache

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Both frames with their flow.

        Raises:
            DataError: A file is broken, or the flow differs in size from its frames.
        """
        pair = self.pairs[index]
        first, second = (
            convert_channels(read_cached_image(path, self.max_pixels, self.cache), self.channels)
            for path in (pair.first, pair.second)
        )
        truth = None if pair.flow is None else read_flow_field(pair, first.shape[:2])
        return Sample({"first": first, "second": second}, truth, pair.name, str(pair.first))


class SceneFlow(SceneSamples):
    """Two frames of procedural scenes with exact flow and occlusion.

    Args:
        scenes: The scenes.
        channels: Channels of the network's inputs.
    """

    def __init__(self, scenes: Scenes, channels: int = 3):
        super().__init__(scenes)
        self.channels = channels

    def make_sample(self, index: int, scene: Scene) -> Sample:
        """A scene's two frames."""
        first, second = (convert_channels(image, self.channels) for image in (scene.image, scene.next))
        truth = FlowField.from_arrays(scene.flow, occlusion=scene.occlusion, source=first)
        return Sample({"first": first, "second": second}, truth, index, scene.name)


def list_pairs(config: FlowConfig, split: str) -> tuple[list[FlowPair], list[str]]:
    """Lists the files of a split, with notes on how they were chosen."""
    root = Path(locate_dataset(config.data))
    if not root.is_dir():
        raise DataError("no such folder", file=root, hint="Give a dataset's folder, or scenes.")
    name = getattr(config.data, split)
    folder = root / (name or split)
    if name is not None and not folder.is_dir():
        raise DataError("no such folder", file=folder, field=f"data.{split}")
    has_split_folder = folder.is_dir() and (detect_flow_layout(root) is LAYOUTS[-1] or _has_split_folders(root))
    notes: list[str] = []
    if name is not None or has_split_folder:
        pairs = _list_all_pairs(folder, config)
    else:
        pairs, notes = _select_split(_list_all_pairs(root, config), split)
    if not pairs:
        hint = (
            "Put frames and flow side by side (frame10.png, frame11.png, flow10.flo), or use a known dataset's layout."
        )
        raise DataError(f"no pair of frames for {split}", file=folder if has_split_folder else root, hint=hint)
    return pairs, notes


def _has_split_folders(root: Path) -> bool:
    """Whether train/ and val/ both have the layout of the whole folder."""
    name = detect_flow_layout(root).name
    folders = [root / split for split in ("train", "val")]
    return all(folder.is_dir() and detect_flow_layout(folder).name == name for folder in folders)


def _read_size(path: Path) -> tuple[int, int]:
    """Reads (height, width) from the header; DataError also if the end of the file is missing."""
    size = read_image_size(path)
    if not is_complete_file(path):
        read_image(path)
    return size


def _is_sound(pair: FlowPair, issues: LabelIssues) -> bool:
    """Checks by headers and file ends that frames and flow are complete and of one size."""
    sizes = []
    for frame in (pair.first, pair.second):
        try:
            sizes.append(_read_size(frame))
        except DataError as error:
            kind = IssueKind.IMAGE_BROKEN if frame.exists() else IssueKind.IMAGE_MISSING
            issues.add(kind, frame, None, error.problem)
            return False
    if sizes[0] != sizes[1]:
        issues.add(IssueKind.FRAME_SIZE, pair.second, None, sizes[1])
    return sizes[0] == sizes[1] and _is_truth_sound(pair, sizes[0], issues)


def _is_truth_sound(pair: FlowPair, size: tuple[int, int], issues: LabelIssues) -> bool:
    readers = {
        **dict.fromkeys((pair.flow, pair.visible), read_flow_size),
        **dict.fromkeys((pair.occlusion, pair.invalid), _read_size),
        pair.mask: lambda file: read_array(file, mapped=True).shape,
    }
    for file, read_size in readers.items():
        if file is None:
            continue
        try:
            file_size = read_size(file)
        except DataError as error:
            issues.add(IssueKind.FLOW_BROKEN, file, error.field, error.problem)
            return False
        if pair.is_double_resolution:
            file_size = tuple((side + 1) // 2 for side in file_size)
        if file_size != size:
            issues.add(IssueKind.FLOW_SIZE, file, None, file_size)
            return False
    return True


def _list_all_pairs(folder: Path, config: FlowConfig) -> list[FlowPair]:
    layout = detect_flow_layout(folder)
    if not layout.has_passes:
        _refuse_passes(config, layout.name)
    return list(layout.pairs(folder, config.data.passes))


def _refuse_passes(config: FlowConfig, data: str) -> None:
    """Raises UsageError if passes are selected of data that has none."""
    default = type(config.data).model_fields["passes"].default
    if config.data.passes != default:
        hint = f"Leave it out, or set it to [{', '.join(default)}]."
        raise UsageError(f"has no effect on {data}", field="data.passes", value=list(config.data.passes), hint=hint)


def _select_split(pairs: list[FlowPair], split: str) -> tuple[list[FlowPair], list[str]]:
    """Selects the dataset's own validation split, else whole groups."""
    if any(pair.split == "val" for pair in pairs):
        return [pair for pair in pairs if pair.split == split], []
    groups = sorted({_get_scene(pair) for pair in pairs})
    if len(groups) < 2:
        return pairs, ["only one sequence: it is used for training and validation"]
    held_out = hold_out_groups(groups)
    selected = [pair for pair in pairs if (_get_scene(pair) in held_out) == (split == "val")]
    return selected, [f"no validation split: {len(held_out)} of {len(groups)} sequences are held out"]


def _get_scene(pair: FlowPair) -> str:
    """The group without pass, direction and camera, so that a scene stays together."""
    head, _, tail = pair.group.partition("/")
    group = tail if head in ("clean", "final") else pair.group
    return re.sub(_DIRECTION_SUFFIX, "", group).replace("/", "-")
