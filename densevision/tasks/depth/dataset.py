"""Images with depth for training and evaluation: from files, or procedural scenes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from densevision.datasets.depth_layouts import LAYOUTS, DepthFrame, detect_depth_layout, read_file_list
from densevision.datasets.scene_samples import SceneSamples
from densevision.datasets.scenes import Scene, Scenes
from densevision.datasets.shards.location import locate_dataset
from densevision.datasets.splits import SceneSource, hold_out, hold_out_groups, parse_scene_splits
from densevision.errors import DataError, UsageError
from densevision.io.decode import open_pillow
from densevision.io.depth import SUFFIXES as DEPTH_SUFFIXES
from densevision.io.depth import DepthFile, has_signed_numbers, permits_8bit, read_depth, read_depth_size
from densevision.io.image import convert_channels, read_image, read_image_size
from densevision.io.image_cache import open_image_cache, read_cached_image
from densevision.io.image_files import is_complete_file
from densevision.io.label_issues import IssueKind, LabelIssues
from densevision.ops.view import Size
from densevision.results.depth_map import Camera, DepthMap
from densevision.sample import Sample, SampleSet
from densevision.tasks.depth.config import DepthConfig, DepthData
from densevision.tasks.depth.sgbm import match_stereo

__all__ = ["DepthSet", "SceneDepth", "infer_camera", "list_frames", "make_layout_hint", "open_split", "remove_labels"]

_UNREAD_SUFFIXES = (".exr", ".h5", ".hdf5", ".mat", ".dpt", ".raw", ".hdr")
"""Depth in formats that need conversion."""
_LAYOUT_HINT = (
    "Put images and depth into rgb/ and depth/, pairs into left/ and right/, or use a known dataset's layout."
)


def open_split(config: DepthConfig, split: str) -> SampleSet:
    """Opens the samples of "train" or "val".

    A folder may contain both as `train/` and `val/` (or as `data.train` and `data.val` name them; `.` is all of it),
    or these name file lists. A dataset's own validation split is used; otherwise a tenth of its sequences, or of the
    images of its only sequence, is held out, chosen by a hash of their names.

    Raises:
        UsageError: No dataset is given.
        DataError: There is no such folder, split or image; no depth map has a known pixel; or with `on_error: fail`, a
            file is wrong.
    """
    if config.data.path is None:
        raise UsageError("no dataset is given", field="data.path", hint="Give a dataset's folder, or scenes.")
    scenes = parse_scene_splits(config.data.path)
    if scenes is not None:
        return SceneDepth(config, scenes[split])
    frames, notes = list_frames(config, split)
    issues = LabelIssues(config.data.on_error)
    frames = [frame for frame in frames if _is_sound(frame, config.data, issues)]
    if not frames:
        raise DataError(f"no image of {split} is left", file=config.data.path, value=list(issues.notes))
    _check_numbers(frames, split, config.data, issues)
    needs_pseudo_target = split == "val" and config.data.pseudo_target == "sgbm"
    return DepthSet(config, frames, needs_pseudo_target, (*notes, *issues.notes))


class DepthSet:
    """Images on disk. Reading has no side effects, so workers may share it.

    Args:
        config: How to read them.
        frames: Their files.
        needs_pseudo_target: Give pairs without ground truth that of semi-global matching.
        notes: What was chosen or left out.
    """

    def __init__(
        self, config: DepthConfig, frames: Sequence[DepthFrame], needs_pseudo_target: bool, notes: Sequence[str] = ()
    ):
        self.config, self.frames = config, list(frames)
        self.notes: Sequence[str] = tuple(notes)
        self.needs_pseudo_target = needs_pseudo_target
        self.cache = open_image_cache(config.data.cache, config.data.cache_gigabytes)

    def __len__(self) -> int:
        return len(self.frames)

    def file(self, index: int) -> str:
        """The file of an image."""
        return str(self.frames[index].image)

    def __getitem__(self, index: int) -> Sample:
        """An image with its ground truth, and the right image if the losses need it.

        Raises:
            DataError: A file is missing or broken, or sizes differ.
        """
        frame, data = self.frames[index], self.config.data
        image = read_cached_image(frame.image, data.max_pixels, self.cache)
        image = convert_channels(image, self.config.backbone.channels)
        images = {"image": image}
        if frame.right is not None and (self.config.is_stereo or self.needs_pseudo_target):
            right = read_cached_image(frame.right, data.max_pixels, self.cache)
            images["right"] = convert_channels(right, image.shape[2])
        truth = None if frame.truth is None else self._read_truth(frame, image.shape[:2])
        if truth is None and self.needs_pseudo_target and "right" in images:
            camera = self.camera(frame, image.shape[:2])
            truth = match_stereo(image, images["right"], self.config.max_depth, camera)
        if not self.config.is_stereo:
            images.pop("right", None)
        return Sample(images, truth, f"{frame.group}/{frame.image.stem}", str(frame.image))

    def camera(self, frame: DepthFrame, size: Size) -> Camera | None:
        """The calibration of a frame: its dataset's, completed by the config's for this dataset.

        Args:
            frame: Its files.
            size: (height, width) of its image; the config states pixels of the network's canvas.
        """
        stated = {name: getattr(self.config.camera, name) for name in self.config.data.camera}
        zoom = self.config.data.resize_factor(size)
        focal, baseline, offset = stated.get("focal"), stated.get("baseline"), (stated.get("offset") or 0.0) / zoom
        if frame.camera is None:
            return None if focal is None else Camera(focal / zoom, baseline=baseline, offset=offset)
        if frame.camera.baseline is not None:
            return frame.camera
        return replace(frame.camera, baseline=baseline, offset=frame.camera.offset or offset)

    def _read_truth(self, frame: DepthFrame, size: Size) -> DepthMap:
        file, data = _read_depth(frame, self.config.data), self.config.data
        if file.depth.shape != tuple(size):
            problem, hint = f"its size differs from its image, {tuple(size)}", "Is it the depth of another image?"
            raise DataError(problem, file=frame.truth, value=file.depth.shape, hint=hint)
        kind = data.target_kind or file.kind or frame.kind
        unit = "px" if kind == "disparity" else "m"
        return DepthMap.from_arrays(file.depth, file.valid, kind=kind, unit=unit, camera=self.camera(frame, size))


class SceneDepth(SceneSamples):
    """Procedural scenes with exact depth, or with exact disparity if disparity is predicted.

    Args:
        config: The scenes have the size of the training crop.
        source: Which scenes.
    """

    def __init__(self, config: DepthConfig, source: SceneSource):
        side = config.data.size
        super().__init__(Scenes.of(source, (side, side) if isinstance(side, int) else side))
        self.config = config

    def make_sample(self, index: int, scene: Scene) -> Sample:
        """A scene's image."""
        camera = Camera(scene.focal, baseline=scene.baseline)
        names = {"image": "image", "right": "right"} if self.config.is_stereo else {"image": "image"}
        channels = self.config.backbone.channels
        images = {name: convert_channels(getattr(scene, attribute), channels) for name, attribute in names.items()}
        is_disparity = self.config.output == "disparity"
        kind: dict[str, Any] = {"kind": "disparity", "unit": "px"} if is_disparity else {"kind": "metric", "unit": "m"}
        numbers = scene.disparity if is_disparity else scene.depth
        truth = DepthMap.from_arrays(numbers, camera=camera, source=images["image"], **kind)
        return Sample(images, truth, index, scene.name)


def infer_camera(config: DepthConfig) -> DepthConfig:
    """Completes the config's camera by that of the first training image.

    Raises:
        DataError: Metric depth shall be learned from pairs whose calibration is missing.
    """
    stated = config.camera
    if stated.focal is None or stated.baseline is None:
        camera, size = _get_first_camera(open_split(config, "train"))
        if camera is not None:
            zoom = config.data.resize_factor(size)
            focal, baseline = stated.focal or camera.focal * zoom, stated.baseline or camera.baseline
            offset = stated.offset or camera.offset * zoom or None
            config = config.replace(camera__focal=focal, camera__baseline=baseline, camera__offset=offset)
    if config.is_stereo and config.output == "metric" and None in (config.camera.focal, config.camera.baseline):
        problem = "metric depth from stereo pairs needs their focal length and baseline"
        hint = "Set camera.focal (pixels) and camera.baseline (meters), or output=disparity."
        raise DataError(problem, file=config.data.path, field="camera", value=config.camera.to_dict(), hint=hint)
    return config


def list_frames(config: DepthConfig, split: str, keep_pairs: bool = False) -> tuple[list[DepthFrame], list[str]]:
    """Lists the files of a split, with notes on how they were chosen.

    Args:
        config: Names the dataset.
        split: "train" or "val".
        keep_pairs: Keep pairs without ground truth even if the config does not use them.
    """
    root = Path(locate_dataset(config.data))
    if not root.is_dir():
        raise DataError("no such folder", file=root, hint="Give a dataset's folder, or scenes.")
    name = getattr(config.data, split)
    lists = [path for path in (Path(name), root / name) if path.is_file()] if name else []
    folder = root / (name or split)
    if name and not lists and not folder.is_dir():
        raise DataError("no such folder or list", file=folder, field=f"data.{split}")
    notes: list[str] = []
    if lists:
        frames = read_file_list(lists[0], root)
    elif folder.is_dir() and (name or detect_depth_layout(root) is LAYOUTS[-1] or _has_split_folders(root)):
        frames = list(detect_depth_layout(folder).frames(folder))
    else:
        frames, notes = _select_split(list(detect_depth_layout(root).frames(root)), split)
    used = [
        frame
        for frame in frames
        if frame.truth is not None or (frame.right and keep_pairs) or _is_used_pair(frame, config, split)
    ]
    if used and len(used) < len(frames):
        notes.append(f"{len(frames) - len(used)} of {len(frames)} images of {split} have no depth and no pair")
    if not used:
        file = folder if folder.is_dir() else root
        raise DataError(f"no image with depth or a pair for {split}", file=file, hint=make_layout_hint(root))
    return used, notes


def make_layout_hint(root: Path) -> str:
    """How a dataset must look; names files whose format is not read, if that is what is wrong."""
    files = (Path(folder) / name for folder, _, names in os.walk(root) for name in sorted(names))
    unread = next((file for file in files if file.suffix.lower() in _UNREAD_SUFFIXES), None)
    if unread is None:
        return _LAYOUT_HINT
    supported = ", ".join(DEPTH_SUFFIXES)
    return f"{unread.relative_to(root)}: {unread.suffix} files are not read; convert them to one of {supported}."


def remove_labels(sample: Sample) -> Sample:
    """The sample with every pixel unknown."""
    zeros = np.zeros(sample.size, np.float32)
    return replace(sample, truth=DepthMap.from_arrays(zeros, zeros > 0))


def _read_depth(frame: DepthFrame, data: DepthData) -> DepthFile:
    """Reads the ground truth; a small scale that the user states also permits 8-bit files."""
    return read_depth(
        frame.truth,  # type: ignore[arg-type]
        data.scale or frame.scale,
        data.offset,
        ignore_negative=data.on_error != "fail",
        allow_8bit=permits_8bit(data.scale),
    )


def _get_first_camera(samples: SampleSet) -> tuple[Camera | None, Size]:
    """The camera and the size of the first image."""
    if isinstance(samples, DepthSet):
        size = read_image_size(samples.frames[0].image)
        return samples.camera(samples.frames[0], size), size
    truth = samples[0].truth
    return (truth.camera if isinstance(truth, DepthMap) else None), samples[0].size


def _has_split_folders(root: Path) -> bool:
    """Whether train/ and val/ both have the layout of the whole folder."""
    name = detect_depth_layout(root).name
    folders = [root / split for split in ("train", "val")]
    return all(folder.is_dir() and detect_depth_layout(folder).name == name for folder in folders)


def _is_used_pair(frame: DepthFrame, config: DepthConfig, split: str) -> bool:
    """Whether an image without ground truth is of use."""
    return frame.right is not None and (config.is_stereo or (split == "val" and config.data.pseudo_target == "sgbm"))


def _select_split(frames: list[DepthFrame], split: str) -> tuple[list[DepthFrame], list[str]]:
    """Selects the dataset's own split, else whole groups, or images if there is only one group.

    A dataset that only defines its validation split trains on the rest; one that only defines training images is
    divided.
    """
    defined = {frame.split for frame in frames}
    if "val" in defined:
        wanted = {split, None} if split == "train" and "train" not in defined else {split}
        return [frame for frame in frames if frame.split in wanted], []
    groups = sorted({frame.group.replace("/", "-") for frame in frames})
    if len(groups) > 1:
        held_out = hold_out_groups(groups)
        selected = [frame for frame in frames if (frame.group.replace("/", "-") in held_out) == (split == "val")]
        return selected, [f"no validation split: {len(held_out)} of {len(groups)} sequences are held out"]
    mask = hold_out([frame.image.name for frame in frames])
    selected = [frame for frame, is_held_out in zip(frames, mask) if is_held_out == (split == "val")]
    return selected, [f"no validation split: {int(mask.sum())} of {len(frames)} images of one sequence are held out"]


def _is_sound(frame: DepthFrame, data: DepthData, issues: LabelIssues) -> bool:
    """Checks by headers and file ends that all files are complete, sizes agree, and depth has 16 bits."""
    parts = (
        (frame.image, _read_size, IssueKind.IMAGE_BROKEN),
        (frame.right, _read_size, IssueKind.IMAGE_BROKEN),
        (frame.truth, read_depth_size, IssueKind.DEPTH_BROKEN),
    )
    sizes: list[Size | None] = []
    for file, read_size, kind in parts:
        try:
            sizes.append(None if file is None else read_size(file))
        except DataError as error:
            return issues.add(kind, file or "", error.field, error.problem)
    size, right, truth = sizes
    if frame.right is not None and right != size:
        return issues.add(IssueKind.STEREO_SIZE, frame.right, None, f"{right} beside {size}")
    if frame.truth is None:
        return True
    if truth != size:
        return issues.add(IssueKind.DEPTH_SIZE, frame.truth, None, f"{truth} for {size}")
    if frame.truth.suffix.lower() == ".png" and not permits_8bit(data.scale):
        with open_pillow(frame.truth) as header:
            if not header.mode.startswith("I"):
                return issues.add(IssueKind.DEPTH_BITS, frame.truth, None, f"mode {header.mode}")
    return True


def _check_numbers(frames: Sequence[DepthFrame], split: str, data: DepthData, issues: LabelIssues) -> None:
    """Names maps whose negative numbers are set to unknown, and refuses splits without any known pixel.

    Reads maps until one has a known pixel; with `on_error: fix` or `skip` all maps that can hold negative numbers.
    """
    truth_maps = [frame for frame in frames if frame.truth is not None]
    has_known_pixels = False
    for frame in truth_maps:
        assert frame.truth is not None
        if has_known_pixels and (data.on_error == "fail" or not has_signed_numbers(frame.truth)):
            continue
        file = _read_depth(frame, data)
        has_known_pixels |= bool(file.valid.any())
        if file.negative:
            field = f"{file.negative} of {file.valid.size} pixels"
            issues.warn(IssueKind.DEPTH_NEGATIVE, frame.truth, field, action="those pixels set to unknown")
    if truth_maps and not has_known_pixels:
        problem = f"no depth map of {split} has a known pixel"
        hint = "Check scale, sign and format: 0, NaN and infinities are unknown, negative numbers wrong."
        raise DataError(problem, file=data.path, value=list(issues.notes), hint=hint)


def _read_size(path: Path) -> Size:
    """Reads (height, width) from the header; DataError also if the end of the file is missing."""
    size = read_image_size(path)
    if not is_complete_file(path):
        read_image(path)
    return size
