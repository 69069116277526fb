"""Images with depth for training and evaluation: from files, or from the procedural world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from densevision.datasets.depth_layouts import LAYOUTS, Frame, detect_format, listed
from densevision.datasets.scene_splits import SceneSource, scene_splits
from densevision.datasets.scenes import Scenes
from densevision.errors import DataError, UsageError
from densevision.io.depth import depth_size, read_depth
from densevision.io.image import image_size, read_image, to_channels
from densevision.io.image_files import held_out, is_whole
from densevision.io.label_issues import Findings, Kind
from densevision.ops.view import Size
from densevision.results.depth_map import Camera, DepthMap
from densevision.sample import Sample, SampleSet
from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.sgbm import match


def open_split(config: DepthConfig, split: str) -> SampleSet:
    """The samples of "train" or "val".

    A folder may hold both as `train/` and `val/` (or as `data.train` and `data.val` name them; `.` is all of it), or
    these name lists of files. A dataset that says itself what validates is believed. Otherwise a tenth of its
    sequences, or of its images where there is one sequence, validates, chosen by a hash of their names.

    Raises:
        UsageError: No data is named.
        DataError: There is no such folder, split or image; or under `on_error: fail`, something is wrong with one.
    """
    if config.data.path is None:
        raise UsageError("no data is named", field="data.path", hint="Give a dataset's folder, or scenes.")
    scenes = scene_splits(config.data.path)
    if scenes is not None:
        return SceneDepth(config, scenes[split])
    frames, notes = frames_of(config, split)
    findings = Findings(config.data.on_error)
    frames = [frame for frame in frames if _is_sound(frame, findings)]
    if not frames:
        raise DataError(f"no image of {split} is left", file=config.data.path, value=list(findings.notes))
    judging = split == "val" and config.data.pseudo_target == "sgbm"
    return DepthSet(config, frames, judging, (*notes, *findings.notes))


class DepthSet:
    """Images on disk. Reading is pure, so workers may share it.

    Args:
        config: How to read them.
        frames: Their files.
        judging: Give pairs without truth what semi-global matching says of them.
        notes: What was chosen or left out.
    """

    def __init__(self, config: DepthConfig, frames: Sequence[Frame], judging: bool, notes: Sequence[str] = ()):
        self.config, self.frames, self.judging, self.notes = config, list(frames), judging, tuple(notes)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        """An image with its truth, and the right image where the losses want it.

        Raises:
            DataError: A file is missing or broken, or sizes differ.
        """
        frame, data = self.frames[index], self.config.data
        image = to_channels(read_image(frame.image, data.max_pixels), self.config.backbone.channels)
        images = {"image": image}
        if frame.right is not None and (self.config.stereo or self.judging):
            images["right"] = to_channels(read_image(frame.right, data.max_pixels), image.shape[2])
        truth = None if frame.truth is None else self._truth(frame, image.shape[:2])
        if truth is None and self.judging and "right" in images:
            truth = match(image, images["right"], self.config.max, self.camera(frame, image.shape[:2]))
        if not self.config.stereo:
            images.pop("right", None)
        return Sample(images, truth, f"{frame.group}/{frame.image.stem}", str(frame.image))

    def camera(self, frame: Frame, size: Size) -> Camera | None:
        """What is known of a frame's camera: from its dataset, completed by what the config states of these data.

        Args:
            frame: Its files.
            size: Of its image, (height, width): the config speaks of the network's canvas.
        """
        stated = {part: getattr(self.config.camera, part) for part in self.config.data.camera}
        zoom = _zoom(size, self.config)
        focal, baseline, offset = stated.get("focal"), stated.get("baseline"), (stated.get("offset") or 0.0) / zoom
        if frame.camera is None:
            return None if focal is None else Camera(focal / zoom, baseline=baseline, offset=offset)
        if frame.camera.baseline is not None:
            return frame.camera
        return replace(frame.camera, baseline=baseline, offset=frame.camera.offset or offset)

    def _truth(self, frame: Frame, size: tuple[int, int]) -> DepthMap:
        data = self.config.data
        found = read_depth(frame.truth, data.scale or frame.scale, data.on_error != "fail")
        if found.depth.shape != tuple(size):
            problem = f"not of the size of its image, {tuple(size)}"
            raise DataError(
                problem, file=frame.truth, value=found.depth.shape, hint="Is it the depth of another image?"
            )
        kind = data.truth or found.kind or frame.kind
        unit = "px" if kind == "disparity" else "m"
        return DepthMap.of(found.depth, found.valid, kind=kind, unit=unit, camera=self.camera(frame, size))


class SceneDepth:
    """Procedural scenes with exact depth, or with exact disparity where the answers are disparities.

    Args:
        config: Their size is that of the training crop.
        source: Which scenes.
    """

    notes: Sequence[str] = ()

    def __init__(self, config: DepthConfig, source: SceneSource):
        side = config.data.size
        self.config, self.scenes = config, Scenes.of(source, (side, side) if isinstance(side, int) else side)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        """A scene's image."""
        return self.fresh(index, 0)

    def fresh(self, index: int, epoch: int) -> Sample:
        """A scene's image; every epoch has scenes of its own, so that training never sees one twice."""
        scene = self.scenes.fresh(index, epoch)
        camera = Camera(scene.focal, baseline=scene.baseline)
        names = {"image": "image", "right": "right"} if self.config.stereo else {"image": "image"}
        channels = self.config.backbone.channels
        images = {name: to_channels(getattr(scene, part), channels) for name, part in names.items()}
        disparity = self.config.output == "disparity"
        kind = {"kind": "disparity", "unit": "px"} if disparity else {"kind": "metric", "unit": "m"}
        truth = DepthMap.of(
            scene.disparity if disparity else scene.depth, camera=camera, source=images["image"], **kind
        )
        return Sample(images, truth, index, scene.name)


def with_camera(config: DepthConfig) -> DepthConfig:
    """The config with the camera of the first training image, as far as it names none.

    Raises:
        DataError: Metric depth is to be learned from pairs whose calibration is missing.
    """
    wanted = config.camera
    if wanted.focal is None or wanted.baseline is None:
        found, size = _first_camera(open_split(config, "train"))
        if found is not None:
            zoom = _zoom(size, config)
            focal, baseline = wanted.focal or found.focal * zoom, wanted.baseline or found.baseline
            offset = wanted.offset or found.offset * zoom or None
            config = config.changed(camera__focal=focal, camera__baseline=baseline, camera__offset=offset)
    if config.stereo and config.output == "metric" and None in (config.camera.focal, config.camera.baseline):
        problem = "metric depth from pairs needs their calibration: focal length and baseline"
        hint = "Set camera.focal (pixels) and camera.baseline (meters), or ask for disparity: output=disparity."
        raise DataError(problem, file=config.data.path, field="camera", value=config.camera.plain(), hint=hint)
    return config


def _first_camera(samples: SampleSet) -> tuple[Camera | None, Size]:
    """What is known of the camera of the first image, and that image's size."""
    if isinstance(samples, DepthSet):
        size = image_size(samples.frames[0].image)
        return samples.camera(samples.frames[0], size), size
    return samples[0].truth.camera, samples[0].size


def _zoom(size: Size, config: DepthConfig) -> float:
    """How many times larger the network's canvas shows an image of this size."""
    return 1.0 if config.data.shorter is None else config.data.shorter / min(size)


def frames_of(config: DepthConfig, split: str, every: bool = False) -> tuple[list[Frame], list[str]]:
    """The files of a split, and what was chosen on the way; `every` pair, even where the config has no use for it."""
    root = Path(config.data.path)
    if not root.is_dir():
        raise DataError("no such folder", file=root, hint="Give a dataset's folder, or scenes.")
    named = getattr(config.data, split)
    lists = [path for path in (Path(named), root / named) if path.is_file()] if named else []
    folder = root / (named or split)
    if named and not lists and not folder.is_dir():
        raise DataError("no such folder or list", file=folder, field=f"data.{split}")
    if lists:
        found, notes = listed(lists[0], root), []
    elif folder.is_dir() and (named or detect_format(root) is LAYOUTS[-1] or _is_divided(root)):
        found, notes = list(detect_format(folder).frames(folder)), []
    else:
        found, notes = _divided(list(detect_format(root).frames(root)), split)
    useful = [
        frame for frame in found if frame.truth is not None or (frame.right and every) or _teaches(frame, config, split)
    ]
    if useful and len(useful) < len(found):
        notes.append(f"{len(found) - len(useful)} of {len(found)} images of {split} have no depth and no pair")
    if not useful:
        hint = "Images and depth lie in rgb/ and depth/, pairs in left/ and right/, or as a known dataset has them."
        raise DataError(f"nothing to learn from for {split}", file=folder if folder.is_dir() else root, hint=hint)
    return useful, notes


def _is_divided(root: Path) -> bool:
    """Whether both train/ and val/ hold what all of it is taken for."""
    whole = detect_format(root).name
    return all((root / part).is_dir() and detect_format(root / part).name == whole for part in ("train", "val"))


def _teaches(frame: Frame, config: DepthConfig, split: str) -> bool:
    """Whether an image without truth is of use."""
    return frame.right is not None and (config.stereo or (split == "val" and config.data.pseudo_target == "sgbm"))


def _divided(frames: list[Frame], split: str) -> tuple[list[Frame], list[str]]:
    """The images of a split: as the dataset says, else by whole groups, or by images where there is one group.

    A dataset that only says what validates trains on the rest; one that only says what trains is divided.
    """
    said = {frame.split for frame in frames}
    if "val" in said:
        own = {split, None} if split == "train" and "train" not in said else {split}
        return [frame for frame in frames if frame.split in own], []
    groups = sorted({frame.group.replace("/", "-") for frame in frames})
    if len(groups) > 1:
        validating = {group for group, held in zip(groups, held_out(groups)) if held}
        chosen = [frame for frame in frames if (frame.group.replace("/", "-") in validating) == (split == "val")]
        return chosen, [f"no validation split: {len(validating)} of {len(groups)} sequences are held out"]
    held = held_out([frame.image.name for frame in frames])
    chosen = [frame for frame, out in zip(frames, held) if out == (split == "val")]
    return chosen, [f"no validation split: {int(held.sum())} of {len(frames)} images of one sequence are held out"]


def _is_sound(frame: Frame, findings: Findings) -> bool:
    """Looks at the files' headers and ends: whether all are there and whole, sizes agree, and numbers have 16 bits."""
    parts = (
        (frame.image, _image_size, Kind.IMAGE_BROKEN),
        (frame.right, _image_size, Kind.IMAGE_BROKEN),
        (frame.truth, depth_size, Kind.DEPTH_BROKEN),
    )
    sizes = []
    for file, size_of, kind in parts:
        try:
            sizes.append(None if file is None else size_of(file))
        except DataError as failure:
            return findings.add(kind, file, failure.field, failure.problem)
    size, right, truth = sizes
    if right not in (None, size):
        return findings.add(Kind.STEREO_SIZE, frame.right, None, f"{right} beside {size}")
    if truth not in (None, size):
        return findings.add(Kind.DEPTH_SIZE, frame.truth, None, f"{truth} for {size}")
    if truth is not None and frame.truth.suffix.lower() == ".png":
        with Image.open(frame.truth) as header:
            if not header.mode.startswith("I"):
                return findings.add(Kind.DEPTH_BITS, frame.truth, None, f"mode {header.mode}")
    return True


def _image_size(path: Path) -> tuple[int, int]:
    """By its header; DataError where the file's end is missing, too."""
    size = image_size(path)
    if not is_whole(path):
        read_image(path)
    return size


def unlabeled(sample: Sample) -> Sample:
    """The sample with every pixel unknown."""
    nothing = np.zeros(sample.size, np.float32)
    return replace(sample, truth=DepthMap.of(nothing, nothing > 0))
