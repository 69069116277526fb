"""Images with their depth, as lists of files: the layouts of the field's datasets, each by a rule of its own."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from densevision.datasets.calibration import intrinsics_near, kitti_camera, middlebury_camera
from densevision.errors import DataError
from densevision.io.depth import SUFFIXES, kind_by_name
from densevision.io.image_files import SUFFIXES as IMAGES
from densevision.io.lines import read_lines
from densevision.results.depth_map import Camera

IMAGE_FOLDERS = ("rgb", "image", "images", "color", "color", "left", "image_left", "image_2", "image_0")
RIGHT_FOLDERS = {"left": "right", "image_left": "image_right", "image_2": "image_3", "image_0": "image_1"}
TRUTH_FOLDERS = ("depth", "depths", "disparity", "disp", "disp_left", "disparities", "disp_occ_0")
APART = 0.02
"""Seconds by which an image and its depth may be apart (TUM's own tool)."""


@dataclass(frozen=True)
class Frame:
    """Files of one image.

    Attributes:
        image: The image; of a pair, the left one.
        truth: Its depth or disparity; None where nobody knows it.
        right: The right image of a rectified pair.
        group: What belongs together and is held out together: a sequence, a scene.
        kind: What the truth holds.
        scale: Steps per unit in files of integers, where the dataset says.
        camera: What is known of the camera.
        split: "train" or "val" where the dataset itself says.
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
class Layout:
    """How a dataset lies on the disk.

    Attributes:
        name: What the dataset is called.
        mark: A path below the root, with wildcards, by which it is recognized.
        frames: Lists its images, given the root.
    """

    name: str
    mark: str
    frames: Callable[[Path], Iterator[Frame]]


def kitti_raw(root: Path) -> Iterator[Frame]:
    """KITTI raw, with its annotated depth beside it where that is there.

    2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png, and below any folder
    <train|val>/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png.
    """
    pattern = "**/proj_depth/groundtruth/image_0[23]/*.png"
    ground_truths = {(path.parts[-5], path.parts[-2], path.stem): path for path in sorted(root.glob(pattern))}
    for image in sorted(root.glob("*/*_sync/image_0[23]/data/*")):
        drive, camera = image.parts[-4], image.parts[-3]
        truth = ground_truths.get((drive, camera, image.stem))
        right = image.parents[2] / "image_03" / "data" / image.name if camera == "image_02" else None
        split = truth.parts[-6] if truth is not None and truth.parts[-6] in ("train", "val") else None
        right = right if right is not None and right.exists() else None
        calibration = kitti_camera(image.parents[3] / "calib_cam_to_cam.txt", camera[-2:])
        yield Frame(image, truth, right, drive, scale=256, camera=calibration, split=split)


def kitti_stereo(root: Path) -> Iterator[Frame]:
    """KITTI 2015 (image_2, disp_occ_0) and 2012 (colored_0, disp_occ): training/image_2/000000_10.png."""
    base = root / "training" if (root / "training").is_dir() else root
    left, right = ("image_2", "image_3") if (base / "image_2").is_dir() else ("colored_0", "colored_1")
    ground_truths = "disp_occ_0" if (base / "disp_occ_0").is_dir() else "disp_occ"
    for image in sorted((base / left).glob("*_10.png")):
        truth, other = base / ground_truths / image.name, base / right / image.name
        number = image.stem.split("_")[0]
        found = [base / name / f"{number}.txt" for name in ("calib_cam_to_cam", "calib")]
        calibration = next((kitti_camera(path, "02") for path in found if path.exists()), None)
        yield Frame(
            image,
            truth if truth.exists() else None,
            other if other.exists() else None,
            number,
            "disparity",
            256,
            calibration,
        )


def kitti_odometry(root: Path) -> Iterator[Frame]:
    """KITTI odometry: sequences/00/image_2/000000.png, image_3 (or the gray image_0, image_1), calib.txt; no truth."""
    for folder in sorted(root.glob("sequences/*")):
        left, right = ("image_2", "image_3") if (folder / "image_2").is_dir() else ("image_0", "image_1")
        calibration = kitti_camera(folder / "calib.txt", left[-1])
        for image in sorted((folder / left).glob("*.png")):
            other = folder / right / image.name
            yield Frame(image, None, other if other.exists() else None, folder.name, camera=calibration)


def nyu(root: Path) -> Iterator[Frame]:
    """NYU v2 as the field's training lists have it: <scene>/rgb_00045.jpg, sync_depth_00045.png in millimeters."""
    for image in sorted(root.glob("**/rgb_*.*")):
        truth = image.with_name(f"sync_depth_{image.stem.removeprefix('rgb_')}.png")
        if image.suffix.lower() in IMAGES and truth.exists():
            parts = image.relative_to(root).parts
            split = "val" if "test" in parts else "train" if "train" in parts or "sync" in parts else None
            group = "/".join(parts[:-1])
            yield Frame(image, truth, group=group, scale=1000, camera=intrinsics_near(image, root), split=split)


def seven_scenes(root: Path) -> Iterator[Frame]:
    """7-Scenes: <scene>/seq-01/frame-000000.color.png, .depth.png in millimeters; TrainSplit.txt and TestSplit.txt."""
    for folder in sorted(path for path in root.glob("**/seq-*") if path.is_dir()):
        number = str(int(folder.name.split("-")[1]))
        split = None
        for name, word in (("TrainSplit.txt", "train"), ("TestSplit.txt", "val")):
            lists = folder.parent / name
            if lists.exists() and number in re.findall(r"\d+", " ".join(read_lines(lists))):
                split = word
        for image in sorted(folder.glob("*.color.png")):
            truth = image.with_name(image.name.replace(".color.", ".depth."))
            group = folder.relative_to(root).as_posix()
            yield Frame(image, truth, group=group, scale=1000, camera=Camera(585.0), split=split)


def tum(root: Path) -> Iterator[Frame]:
    """TUM RGB-D: rgb.txt and depth.txt list times and files; each image takes the depth nearest in time, x 5000."""
    for listed in sorted(root.glob("**/rgb.txt")):
        folder = listed.parent
        images, depths = (_timed(folder / name) for name in ("rgb.txt", "depth.txt"))
        times = [time for time, _ in depths]
        for time, image in images:
            place = bisect_left(times, time)
            near = min(depths[max(0, place - 1) : place + 1], key=lambda pair: abs(pair[0] - time), default=None)
            if near is not None and abs(near[0] - time) < APART:
                group = folder.relative_to(root).as_posix()
                yield Frame(folder / image, folder / near[1], group=group, scale=5000)


def middlebury(root: Path) -> Iterator[Frame]:
    """Middlebury 2014: <scene>/im0.png, im1.png, disp0.pfm, calib.txt."""
    for image in sorted(root.glob("**/im0.png")):
        folder = image.parent
        truth, calibration = folder / "disp0.pfm", middlebury_camera(folder / "calib.txt")
        truth = truth if truth.exists() else None
        group = folder.relative_to(root).as_posix()
        yield Frame(image, truth, folder / "im1.png", group, "disparity", camera=calibration)


def plain(root: Path) -> Iterator[Frame]:
    """Any folders: `rgb/` or `left/` beside `depth/`, `disparity/` and `right/`, or files of these names.

    Images and their depth share a name; or the depth of an image has the same name with `_depth` at its end.
    """
    for folder in sorted({root, *(path for path in root.rglob("*") if path.is_dir())}):
        group = folder.relative_to(root).as_posix()
        group = root.name if group == "." else group
        children = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
        name = next((name for name in IMAGE_FOLDERS if name in children), None)
        if name is not None:
            yield from _beside(folder, children, name, group, root)
        yield from _single(folder, group, root)
        yield from _suffixed(folder, group, root)


LAYOUTS = (
    Layout("KITTI raw", "*/*_sync/image_02/data", kitti_raw),
    Layout("KITTI stereo", "training/disp_occ*", kitti_stereo),
    Layout("KITTI stereo", "disp_occ*", kitti_stereo),
    Layout("KITTI odometry", "sequences/*/calib.txt", kitti_odometry),
    Layout("NYU v2", "**/sync_depth_*.png", nyu),
    Layout("7-Scenes", "**/seq-*/*.color.png", seven_scenes),
    Layout("TUM RGB-D", "**/rgb.txt", tum),
    Layout("Middlebury", "**/im0.png", middlebury),
    Layout("images and depth", "**/*", plain),
)
"""The most particular first; the last fits any folder."""


def detect_format(root: Path) -> Layout:
    """The layout of a folder."""
    return next(layout for layout in LAYOUTS if layout is LAYOUTS[-1] or any(root.glob(layout.mark)))


def listed(file: Path, root: Path) -> list[Frame]:
    """The images of a list of Eigen's form: `image depth [focal]` in each line, relative to the root.

    Images whose depth is `None`, or is not there, have no truth. Numbers are KITTI's (x 256) below proj_depth, NYU's
    (x 1000) in sync_depth files.

    Raises:
        DataError: A line is of another form.
    """
    frames = []
    for number, line in enumerate(read_lines(file), 1):
        words = line.split()
        if not words:
            continue
        if len(words) > 3 or (len(words) == 3 and not (re.fullmatch(_FOCAL, words[2]) and float(words[2]))):
            raise DataError("not a line of a list", file=file, field=f"line {number}", value=line, hint=_LINE)
        image = root / words[0].lstrip("/")
        truth = _found(root, words[1].lstrip("/")) if len(words) > 1 and words[1] != "None" else None
        scale = 256.0 if truth and "proj_depth" in truth.parts else 1000.0 if truth and "sync" in truth.name else None
        camera = Camera(float(words[2])) if len(words) == 3 else None
        frames.append(Frame(image, truth, group=str(image.parent), scale=scale, camera=camera))
    return frames


_LINE = "Write: image depth [focal length]."
_FOCAL = r"\d+\.?\d*"


def _found(root: Path, name: str) -> Path | None:
    """A depth file where a list says, or where KITTI's archives put it."""
    archives = ("", "train", "val", "data_depth_annotated/train", "data_depth_annotated/val")
    places = [root / archive / name for archive in archives]
    return next((path for path in places if path.exists()), None)


def _beside(folder: Path, children: dict[str, Path], name: str, group: str, root: Path) -> Iterator[Frame]:
    ground_truths: dict[str, Path] = {}
    for child in (children[word] for word in reversed(TRUTH_FOLDERS) if word in children):
        ground_truths |= {path.stem: path for path in child.iterdir() if path.suffix.lower() in SUFFIXES}
    right = children.get(RIGHT_FOLDERS.get(name, "right"))
    for image in _images(children[name]):
        other = None if right is None else right / image.name
        truth = ground_truths.get(image.stem)
        frame = Frame(image, truth, other if other is not None and other.exists() else None, group)
        yield _described(frame, root)


def _single(folder: Path, group: str, root: Path) -> Iterator[Frame]:
    """One scene in a folder: left.png, right.png, and disp_left, disparity or depth of any form."""
    files = {path.stem.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    image = files.get("left", files.get("image", files.get("rgb")))
    if image is None or image.suffix.lower() not in IMAGES:
        return
    truth = next((files[name] for name in TRUTH_FOLDERS if name in files and _is_truth(files[name])), None)
    yield _described(Frame(image, truth, files.get("right"), group), root)


def _suffixed(folder: Path, group: str, root: Path) -> Iterator[Frame]:
    images = {path.stem: path for path in _images(folder)}
    for truth in sorted(folder.glob("*_depth.*")):
        image = images.get(truth.stem.removesuffix("_depth"))
        if image is not None and _is_truth(truth):
            yield _described(Frame(image, truth, group=group), root)


def _described(frame: Frame, root: Path) -> Frame:
    """With the kind that the truth's name tells, and intrinsics that lie near."""
    kind = "metric" if frame.truth is None else kind_by_name(f"{frame.truth.parent.name}/{frame.truth.stem}")
    return replace(frame, kind=kind, camera=intrinsics_near(frame.image, root))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def _is_truth(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _timed(file: Path) -> Sequence[tuple[float, str]]:
    """Lines of `time file`, sorted by time; comments begin with #."""
    rows = (line.split() for line in read_lines(file) if line.strip() and not line.startswith("#"))
    try:
        return sorted((float(row[0]), row[1]) for row in rows)
    except (ValueError, IndexError):
        raise DataError("not a list of times and files", file=file) from None
