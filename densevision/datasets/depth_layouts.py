"""Images with depth as files: the folder layouts of public datasets."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from densevision.datasets.calibration import find_intrinsics, read_kitti_camera, read_middlebury_camera
from densevision.errors import DataError
from densevision.io.depth import SUFFIXES as DEPTH_SUFFIXES
from densevision.io.depth import infer_kind
from densevision.io.foreign_names import localize_name
from densevision.io.image_files import IMAGE_SUFFIXES, is_inside, is_system_file, list_files
from densevision.io.lines import parse_decimal, read_lines
from densevision.results.depth_map import Camera

__all__ = ["LAYOUTS", "DepthFrame", "DepthLayout", "detect_depth_layout", "read_file_list"]

COLOR_SPELLINGS = tuple(f"colo{letter}r" for letter in ("", "u"))
IMAGE_FOLDERS = ("rgb", "image", "images", *COLOR_SPELLINGS, "left", "image_left", "image_2", "image_0")
RIGHT_FOLDERS = {"left": "right", "image_left": "image_right", "image_2": "image_3", "image_0": "image_1"}
DEPTH_FOLDERS = ("depth", "depths", "disparity", "disp", "disp_left", "disparities", "disp_occ_0")
FOCAL_PATTERN = r"[0-9]+\.?[0-9]*"
MAX_TIME_DIFFERENCE = 0.02
"""Seconds between an image and its depth (default of TUM's associate.py)."""


@dataclass(frozen=True)
class DepthFrame:
    """Files of one image.

    Attributes:
        image: The image; the left one of a stereo pair.
        truth: Its depth or disparity; None if it is unknown.
        right: The right image of a rectified pair.
        group: The sequence or scene, which is held out as a unit.
        kind: Whether `truth` is metric depth or disparity.
        scale: Steps per unit in integer files, if the dataset defines it.
        camera: The calibration, if the dataset provides it.
        split: "train" or "val" if the dataset defines it.
    """

    image: Path
    truth: Path | None = None
    right: Path | None = None
    group: str = ""
    kind: Literal["metric", "disparity"] = "metric"
    scale: float | None = None
    camera: Camera | None = None
    split: str | None = None


@dataclass(frozen=True)
class DepthLayout:
    """The folder layout of a dataset.

    Attributes:
        name: Name of the dataset.
        pattern: A glob pattern below the root that identifies it.
        frames: Lists the images, given the root.
    """

    name: str
    pattern: str
    frames: Callable[[Path], Iterator[DepthFrame]]


def list_kitti_raw(root: Path) -> Iterator[DepthFrame]:
    """KITTI raw, with the annotated depth if it is present.

    2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png, and below any folder
    <train|val>/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png.
    """
    pattern = "**/proj_depth/groundtruth/image_0[23]/*.png"
    target_records = {(path.parts[-5], path.parts[-2], path.stem): path for path in sorted(root.glob(pattern))}
    for image in sorted(root.glob("*/*_sync/image_0[23]/data/*")):
        drive, camera = image.parts[-4], image.parts[-3]
        truth = target_records.get((drive, camera, image.stem))
        right = image.parents[2] / "image_03" / "data" / image.name if camera == "image_02" else None
        split = truth.parts[-6] if truth is not None and truth.parts[-6] in ("train", "val") else None
        right = right if right is not None and right.exists() else None
        calibration = read_kitti_camera(image.parents[3] / "calib_cam_to_cam.txt", camera[-2:])
        yield DepthFrame(image, truth, right, drive, scale=256, camera=calibration, split=split)


def list_kitti_stereo(root: Path) -> Iterator[DepthFrame]:
    """KITTI 2015 (image_2, disp_occ_0) and 2012 (colored_0, disp_occ): training/image_2/000000_10.png."""
    base = root / "training" if (root / "training").is_dir() else root
    left, right = ("image_2", "image_3") if (base / "image_2").is_dir() else ("colored_0", "colored_1")
    target_records = "disp_occ_0" if (base / "disp_occ_0").is_dir() else "disp_occ"
    for image in sorted((base / left).glob("*_10.png")):
        truth, other = base / target_records / image.name, base / right / image.name
        number = image.stem.split("_")[0]
        files = [base / name / f"{number}.txt" for name in ("calib_cam_to_cam", "calib")]
        calibration = next((read_kitti_camera(path, "02") for path in files if path.exists()), None)
        yield DepthFrame(
            image,
            truth if truth.exists() else None,
            other if other.exists() else None,
            number,
            "disparity",
            256,
            calibration,
        )


def list_kitti_odometry(root: Path) -> Iterator[DepthFrame]:
    """KITTI odometry: sequences/00/image_2/000000.png, image_3 (or gray image_0, image_1), calib.txt; no depth."""
    for folder in sorted(root.glob("sequences/*")):
        left, right = ("image_2", "image_3") if (folder / "image_2").is_dir() else ("image_0", "image_1")
        calibration = read_kitti_camera(folder / "calib.txt", left[-1])
        for image in sorted((folder / left).glob("*.png")):
            other = folder / right / image.name
            yield DepthFrame(image, None, other if other.exists() else None, folder.name, camera=calibration)


def list_nyu(root: Path) -> Iterator[DepthFrame]:
    """NYU v2 as in the common training lists: <scene>/rgb_00045.jpg, sync_depth_00045.png in millimeters."""
    for image in sorted(root.glob("**/rgb_*.*")):
        truth = image.with_name(f"sync_depth_{image.stem.removeprefix('rgb_')}.png")
        if image.suffix.lower() in IMAGE_SUFFIXES and truth.exists():
            parts = image.relative_to(root).parts
            split = "val" if "test" in parts else "train" if "train" in parts or "sync" in parts else None
            group = "/".join(parts[:-1])
            yield DepthFrame(image, truth, group=group, scale=1000, camera=find_intrinsics(image, root), split=split)


def list_seven_scenes(root: Path) -> Iterator[DepthFrame]:
    """7-Scenes: <scene>/seq-01/frame-000000.color.png, .depth.png in millimeters; TrainSplit.txt and TestSplit.txt."""
    for folder in sorted(path for path in root.glob("**/seq-*") if path.is_dir()):
        number = str(int(folder.name.split("-")[1]))
        split = None
        for name, list_split in (("TrainSplit.txt", "train"), ("TestSplit.txt", "val")):
            file = folder.parent / name
            if file.exists() and number in re.findall(r"\d+", " ".join(read_lines(file))):
                split = list_split
        for image in sorted(folder.glob("*.color.png")):
            truth = image.with_name(image.name.replace(".color.", ".depth."))
            group = folder.relative_to(root).as_posix()
            yield DepthFrame(image, truth, group=group, scale=1000, camera=Camera(585.0), split=split)


def list_tum(root: Path) -> Iterator[DepthFrame]:
    """TUM RGB-D: rgb.txt and depth.txt list times and files; each image gets the depth nearest in time, x 5000."""
    for list_file in sorted(root.glob("**/rgb.txt")):
        folder = list_file.parent
        images, depths = (_read_timestamps(folder / name) for name in ("rgb.txt", "depth.txt"))
        times = [time for time, _ in depths]
        for time, image in images:
            index = bisect_left(times, time)
            nearest = min(depths[max(0, index - 1) : index + 1], key=lambda pair: abs(pair[0] - time), default=None)
            if nearest is not None and abs(nearest[0] - time) < MAX_TIME_DIFFERENCE:
                group = folder.relative_to(root).as_posix()
                yield DepthFrame(folder / image, folder / nearest[1], group=group, scale=5000)


def list_middlebury(root: Path) -> Iterator[DepthFrame]:
    """Middlebury 2014: <scene>/im0.png, im1.png, disp0.pfm, calib.txt."""
    for image in sorted(root.glob("**/im0.png")):
        folder = image.parent
        truth, calibration = folder / "disp0.pfm", read_middlebury_camera(folder / "calib.txt")
        group = folder.relative_to(root).as_posix()
        right = folder / "im1.png"
        yield DepthFrame(image, truth if truth.exists() else None, right, group, "disparity", camera=calibration)


def list_plain(root: Path) -> Iterator[DepthFrame]:
    """Any folders: `rgb/` or `left/` with `depth/`, `disparity/` and `right/`, or files of these names.

    Images and their depth have the same name, or that of the depth has the suffix `_depth`.
    """
    for folder in sorted({root, *(path for path in root.rglob("*") if path.is_dir())}):
        if any(map(is_system_file, folder.relative_to(root).parts)):
            continue
        group = folder.relative_to(root).as_posix()
        group = root.name if group == "." else group
        children = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
        name = next((name for name in IMAGE_FOLDERS if name in children), None)
        if name is not None:
            yield from _list_sibling_folders(folder, children, name, group, root)
        yield from _list_single_scene(folder, group, root)
        yield from _list_suffixed(folder, group, root)


LAYOUTS = (
    DepthLayout("KITTI raw", "*/*_sync/image_02/data", list_kitti_raw),
    DepthLayout("KITTI stereo", "training/disp_occ*", list_kitti_stereo),
    DepthLayout("KITTI stereo", "disp_occ*", list_kitti_stereo),
    DepthLayout("KITTI odometry", "sequences/*/calib.txt", list_kitti_odometry),
    DepthLayout("NYU v2", "**/sync_depth_*.png", list_nyu),
    DepthLayout("7-Scenes", "**/seq-*/*.color.png", list_seven_scenes),
    DepthLayout("TUM RGB-D", "**/rgb.txt", list_tum),
    DepthLayout("Middlebury", "**/im0.png", list_middlebury),
    DepthLayout("images and depth", "**/*", list_plain),
)
"""The most specific first; the last one matches any folder."""


def detect_depth_layout(root: Path) -> DepthLayout:
    """Returns the layout of a folder."""
    return next(layout for layout in LAYOUTS if layout is LAYOUTS[-1] or any(root.glob(layout.pattern)))


def read_file_list(file: Path, root: Path) -> list[DepthFrame]:
    """Reads a file list in Eigen's format: lines of `image depth [focal]`, relative to the root.

    Images whose depth is `None` or missing have no truth. The scale is 256 (KITTI) below proj_depth, and 1000 (NYU) for
    sync_depth files.

    Raises:
        DataError: A line has another format.
    """
    frames = []
    for number, line in enumerate(read_lines(file), 1):
        words = line.split()
        if not words:
            continue
        if len(words) > 3 or (len(words) == 3 and not (re.fullmatch(FOCAL_PATTERN, words[2]) and float(words[2]))):
            hint = "Write: image depth [focal length]."
            raise DataError("is not a line of a file list", file=file, field=f"line {number}", value=line, hint=hint)
        if not all(is_inside(word.lstrip("/\\").replace("\\", "/")) for word in words[:2]):
            hint = "Give paths inside the folder of the dataset."
            raise DataError(
                "a file name leads out of the folder", file=file, field=f"line {number}", value=line, hint=hint
            )
        image = root / localize_name(words[0].lstrip("/"), root)
        truth = (
            _find_depth(root, localize_name(words[1].lstrip("/"), root))
            if len(words) > 1 and words[1] != "None"
            else None
        )
        scale = 256.0 if truth and "proj_depth" in truth.parts else 1000.0 if truth and "sync" in truth.name else None
        camera = Camera(float(words[2])) if len(words) == 3 else None
        frames.append(DepthFrame(image, truth, group=str(image.parent), scale=scale, camera=camera))
    return frames


def _find_depth(root: Path, name: str) -> Path | None:
    """Finds a depth file at the listed path, or in the folders of KITTI's archives."""
    archives = ("", "train", "val", "data_depth_annotated/train", "data_depth_annotated/val")
    paths = [root / archive / name for archive in archives]
    return next((path for path in paths if os.path.exists(path)), None)


def _list_sibling_folders(
    folder: Path, children: dict[str, Path], name: str, group: str, root: Path
) -> Iterator[DepthFrame]:
    depths: dict[str, Path] = {}
    for child in (children[word] for word in reversed(DEPTH_FOLDERS) if word in children):
        depths |= {path.stem: path for path in list_files(child, "*") if _is_depth_file(path)}
    right = children.get(RIGHT_FOLDERS.get(name, "right"))
    for image in _list_images(children[name]):
        other = None if right is None else right / image.name
        truth = depths.get(image.stem)
        frame = DepthFrame(image, truth, other if other is not None and other.exists() else None, group)
        yield _add_kind_and_camera(frame, root)


def _list_single_scene(folder: Path, group: str, root: Path) -> Iterator[DepthFrame]:
    """A single scene: left.png, right.png, and disp_left, disparity or depth of any format."""
    files = {path.stem.lower(): path for path in list_files(folder, "*")}
    image = files.get("left", files.get("image", files.get("rgb")))
    if image is None or image.suffix.lower() not in IMAGE_SUFFIXES:
        return
    truth = next((files[name] for name in DEPTH_FOLDERS if name in files and _is_depth_file(files[name])), None)
    yield _add_kind_and_camera(DepthFrame(image, truth, files.get("right"), group), root)


def _list_suffixed(folder: Path, group: str, root: Path) -> Iterator[DepthFrame]:
    images = {path.stem: path for path in _list_images(folder)}
    for truth in sorted(folder.glob("*_depth.*")):
        image = images.get(truth.stem.removesuffix("_depth"))
        if image is not None and _is_depth_file(truth):
            yield _add_kind_and_camera(DepthFrame(image, truth, group=group), root)


def _add_kind_and_camera(frame: DepthFrame, root: Path) -> DepthFrame:
    """Adds the kind of depth according to its file name, and the nearest intrinsics."""
    kind = "metric" if frame.truth is None else infer_kind(f"{frame.truth.parent.name}/{frame.truth.stem}")
    return replace(frame, kind=kind, camera=find_intrinsics(frame.image, root))


def _list_images(folder: Path) -> list[Path]:
    return [path for path in list_files(folder, "*") if path.suffix.lower() in IMAGE_SUFFIXES]


def _is_depth_file(path: Path) -> bool:
    return path.suffix.lower() in DEPTH_SUFFIXES


def _read_timestamps(file: Path) -> Sequence[tuple[float, str]]:
    """Reads lines of `time file`, sorted by time; lines that begin with # are comments."""
    rows = (line.split() for line in read_lines(file) if line.strip() and not line.startswith("#"))
    try:
        entries = sorted((parse_decimal(row[0]), row[1]) for row in rows)
    except (ValueError, IndexError):
        raise DataError("is not a list of timestamps and files", file=file) from None
    for _, name in entries:
        if not is_inside(name):
            hint = "Give paths inside the folder of the list."
            raise DataError("a file name leads out of the folder", file=file, value=name, hint=hint)
    return entries
