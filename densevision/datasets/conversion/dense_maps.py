"""Depth and optical flow between the layouts of public datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.depth_layouts import LAYOUTS as DEPTH_LAYOUTS
from densevision.datasets.depth_layouts import DepthFrame, detect_depth_layout
from densevision.datasets.flow_layouts import LAYOUTS as FLOW_LAYOUTS
from densevision.datasets.flow_layouts import FlowPair, detect_flow_layout
from densevision.datasets.flow_targets import read_flow_field
from densevision.errors import DataError
from densevision.io.atomic_write import write_text
from densevision.io.depth import SATURATED, read_depth, write_depth
from densevision.io.flow import KITTI_STEPS, KITTI_ZERO, write_flow
from densevision.io.image import read_image, read_image_size, write_image
from densevision.io.placeholders import copy_file

__all__ = [
    "read_frames",
    "read_pairs",
    "write_kitti_depth",
    "write_kitti_flow",
    "write_middlebury",
    "write_nyu",
    "write_sintel",
    "write_tum",
]

KITTI_SCALE, NYU_SCALE, TUM_SCALE = 256, 1000, 5000
"""Steps per meter."""
FRAME_RATE = 30
"""Frames per second of the timestamps in TUM's lists."""
PASSES = ("clean", "final")

T = TypeVar("T", DepthFrame, FlowPair)


def read_frames(path: str, scale: float | None, report: ConversionReport) -> dict[str, list[DepthFrame]]:
    """Lists the images with depth, split by split; a dataset without splits becomes one split, "train".

    Args:
        path: Any supported depth layout.
        scale: Steps per unit, if the dataset does not define them.
        report: Counts images without depth.

    Raises:
        DataError: There is no such folder, or no image with depth.
    """
    root = Path(path)
    layout = detect_depth_layout(root)
    has_folders = _has_split_folders(
        root, layout.name, layout is DEPTH_LAYOUTS[-1], lambda path: detect_depth_layout(path).name
    )
    splits = _read_splits(root, lambda folder: list(detect_depth_layout(folder).frames(folder)), has_folders, report)
    report.add("images without depth", sum(not frame.truth for frames in splits.values() for frame in frames))
    labeled = {split: [_set_scale(frame, scale) for frame in frames if frame.truth] for split, frames in splits.items()}
    if not any(labeled.values()):
        raise DataError("no image with depth", file=path, hint="Put images and depth into rgb/ and depth/.")
    return {split: frames for split, frames in labeled.items() if frames}


def read_pairs(path: str, report: ConversionReport) -> dict[str, list[FlowPair]]:
    """Lists the pairs with flow, split by split; a dataset without splits becomes one split, "train".

    Raises:
        DataError: There is no such folder, or no pair with flow.
    """
    root = Path(path)
    layout = detect_flow_layout(root)
    has_folders = _has_split_folders(
        root, layout.name, layout is FLOW_LAYOUTS[-1], lambda path: detect_flow_layout(path).name
    )
    splits = _read_splits(
        root, lambda folder: list(detect_flow_layout(folder).pairs(folder, PASSES)), has_folders, report
    )
    labeled = {split: [pair for pair in pairs if pair.flow] for split, pairs in splits.items()}
    if not any(labeled.values()):
        raise DataError("no pair with flow", file=path, hint="Put frames and flow into the same folder.")
    return {split: pairs for split, pairs in labeled.items() if pairs}


def write_kitti_depth(splits: dict[str, list[DepthFrame]], out: Path, report: ConversionReport) -> None:
    """Writes KITTI raw with annotated depth: <day>/<drive>_sync/image_02/data and <split>/<drive>_sync/proj_depth."""
    numbers: Counter[str] = Counter()
    for split, frames in splits.items():
        for frame in frames:
            day, drive = _write_calibration(frame, out), f"{_flatten(frame.group)}_sync"
            # A drive may occur in both splits, but has one image folder.
            name = f"{numbers[drive]:010d}"
            numbers[drive] += 1
            _copy(frame.image, day / drive / "image_02" / "data" / f"{name}{frame.image.suffix}")
            if frame.right is not None:
                _copy(frame.right, day / drive / "image_03" / "data" / f"{name}{frame.right.suffix}")
            truth = out / split / drive / "proj_depth" / "groundtruth" / "image_02" / f"{name}.png"
            _write_meters(frame, truth, KITTI_SCALE, report)
        _count_names(report, frames)


def write_nyu(splits: dict[str, list[DepthFrame]], out: Path, report: ConversionReport) -> None:
    """Writes NYU v2 as in training lists: <split>/<scene>/rgb_00000.jpg and sync_depth_00000.png."""
    for split, frames in splits.items():
        for number, frame in enumerate(frames):
            folder = out / {"val": "test"}.get(split, split) / _flatten(frame.group)
            _copy(frame.image, folder / f"rgb_{number:05d}{frame.image.suffix}")
            _write_meters(frame, folder / f"sync_depth_{number:05d}.png", NYU_SCALE, report)
            _write_intrinsics(frame, folder)
        _count_names(report, frames)
        _count_stereo(report, frames)


def write_tum(splits: dict[str, list[DepthFrame]], out: Path, report: ConversionReport) -> None:
    """Writes TUM RGB-D: <split>/<sequence>/rgb, depth, rgb.txt and depth.txt."""
    for split, frames in splits.items():
        lists: dict[Path, list[tuple[str, str, str]]] = {}
        for number, frame in enumerate(frames):
            folder, time = out / split / _flatten(frame.group), f"{number / FRAME_RATE:.6f}"
            image, truth = f"rgb/{time}{frame.image.suffix}", f"depth/{time}.png"
            _copy(frame.image, folder / image)
            _write_meters(frame, folder / truth, TUM_SCALE, report)
            lists.setdefault(folder, []).append((time, image, truth))
        for folder, rows in lists.items():
            for name, column in (("rgb.txt", 1), ("depth.txt", 2)):
                text = "".join(f"{row[0]} {row[column]}\n" for row in rows)
                write_text(folder / name, f"# timestamp filename\n{text}")
        _count_names(report, frames)
        _count_stereo(report, frames)
        report.add("focal lengths", sum(frame.camera is not None for frame in frames))


def write_sintel(splits: dict[str, list[FlowPair]], out: Path, report: ConversionReport) -> None:
    """Writes Sintel: training/clean/<scene>/frame_0001.png, flow, occlusions and invalid; a scene per pair."""

    def write_pair(pair: FlowPair, scene: str, base: Path) -> None:
        truth = read_flow_field(pair, read_image(pair.first).shape[:2])
        for number, frame in ((1, pair.first), (2, pair.second)):
            _write_png(frame, base / "clean" / scene / f"frame_{number:04d}.png")
        write_flow(base / "flow" / scene / "frame_0001.flo", truth.flow, truth.valid)
        write_image(base / "invalid" / scene / "frame_0001.png", _to_image(~truth.valid))
        if truth.occlusion is not None:
            write_image(base / "occlusions" / scene / "frame_0001.png", _to_image(truth.occlusion))

    _write_pairs(splits, out, report, write_pair)


def write_kitti_flow(splits: dict[str, list[FlowPair]], out: Path, report: ConversionReport) -> None:
    """Writes KITTI 2015: training/image_2/000000_10.png, 000000_11.png, flow_occ, and flow_noc with occlusion."""
    limit = KITTI_ZERO / KITTI_STEPS

    def write_pair(pair: FlowPair, scene: str, base: Path) -> None:
        truth = read_flow_field(pair, read_image(pair.first).shape[:2])
        number = sum(1 for _ in (base / "image_2").glob("*_10.png"))
        name = f"{number:06d}_10.png"
        _write_png(pair.first, base / "image_2" / name)
        _write_png(pair.second, base / "image_2" / f"{number:06d}_11.png")
        steps = truth.flow * KITTI_STEPS
        report.add("pixels with flow above 512, clipped", int((np.abs(truth.flow) >= limit).any(0)[truth.valid].sum()))
        report.add("pixels rounded to 1/64", int((steps != np.rint(steps)).any(0)[truth.valid].sum()))
        write_flow(base / "flow_occ" / name, truth.flow, truth.valid)
        if truth.occlusion is not None:
            write_flow(base / "flow_noc" / name, truth.flow, truth.valid & ~truth.occlusion)

    _write_pairs(splits, out, report, write_pair)
    report.add("scene names", sum(map(len, splits.values())))


def write_middlebury(splits: dict[str, list[FlowPair]], out: Path, report: ConversionReport) -> None:
    """Writes Middlebury: other-data/<scene>/frame10.png, frame11.png and other-gt-flow/<scene>/flow10.flo."""

    def write_pair(pair: FlowPair, scene: str, base: Path) -> None:
        base = base.parent
        truth = read_flow_field(pair, read_image(pair.first).shape[:2])
        _write_png(pair.first, base / "other-data" / scene / "frame10.png")
        _write_png(pair.second, base / "other-data" / scene / "frame11.png")
        write_flow(base / "other-gt-flow" / scene / "flow10.flo", truth.flow, truth.valid)
        if truth.occlusion is not None:
            report.add("occluded pixels", int(truth.occlusion.sum()))

    _write_pairs(splits, out, report, write_pair)


def _write_pairs(
    splits: dict[str, list[FlowPair]],
    out: Path,
    report: ConversionReport,
    write_pair: Callable[[FlowPair, str, Path], None],
) -> None:
    for split, pairs in splits.items():
        base = (out / split if len(splits) > 1 else out) / "training"
        scenes: set[str] = set()
        for pair in pairs:
            scene = _flatten(pair.group)
            scene = scene if scene not in scenes else f"{scene}_{_flatten(Path(pair.name).name)}"
            scenes.add(scene)
            write_pair(pair, scene, base)
            report.add("flow at double resolution", int(pair.is_double_resolution))
    if len(splits) > 1:
        report.notes.append(f"each split is a folder: set data.train and data.val ({', '.join(splits)})")


def _write_meters(frame: DepthFrame, path: Path, scale: int, report: ConversionReport) -> None:
    assert frame.truth is not None
    values = read_depth(frame.truth, frame.scale)
    depth = values.depth
    if (values.kind or frame.kind) == "disparity":
        if frame.camera is None or frame.camera.baseline is None:
            hint = "Focal length and baseline are read from the calibration files of the dataset."
            raise DataError("disparity cannot be converted to depth without calibration", file=frame.truth, hint=hint)
        depth = np.where(values.valid, frame.camera.distance(depth), np.float32(0))
        report.add("disparity maps, converted to meters")
    steps = depth[values.valid].astype(np.float64) * scale
    report.add(f"pixels farther than {SATURATED / scale:.1f} m, clipped", int((np.rint(steps) >= SATURATED).sum()))
    report.add(f"pixels rounded to 1/{scale} m", int((np.abs(steps - np.rint(steps)) > 1e-2).sum()))
    write_depth(path, depth, values.valid, scale)


def _has_split_folders(root: Path, layout: str, is_plain: bool, detect_name: Callable[[Path], str]) -> bool:
    """Whether train/ and val/ are datasets of their own."""
    folders = [folder for folder in (root / "train", root / "val") if folder.is_dir()]
    if is_plain:
        return bool(folders)
    return len(folders) == 2 and all(detect_name(folder) == layout for folder in folders)


def _read_splits(
    root: Path, list_items: Callable[[Path], list[T]], has_folders: bool, report: ConversionReport
) -> dict[str, list[T]]:
    """Lists the items of train/ and val/ if they are datasets, otherwise by the splits of the items."""
    if not root.is_dir():
        raise DataError("there is no such folder", file=root)
    if has_folders:
        report.add("test splits", int((root / "test").is_dir()))
        return {split: list_items(root / split) for split in ("train", "val") if (root / split).is_dir()}
    items = list_items(root)
    item_splits = {item.split for item in items}
    if "val" not in item_splits:
        return {"train": items}
    train = "train" if "train" in item_splits else None
    return {split: [item for item in items if item.split == name] for split, name in (("train", train), ("val", "val"))}


def _set_scale(frame: DepthFrame, scale: float | None) -> DepthFrame:
    return frame if scale is None else replace(frame, scale=scale)


def _write_calibration(frame: DepthFrame, out: Path) -> Path:
    """Writes the calibration of a frame and returns its day folder: one per camera, as KITTI has one per day."""
    if frame.camera is None:
        return out / "2000_01_01"
    camera = frame.camera
    center = _get_principal_point(frame)
    left = [camera.focal, 0, center[0], 0, 0, camera.focal, center[1], 0, 0, 0, 1, 0]
    rows = {"P_rect_02": left}
    if camera.baseline is not None:
        rows["P_rect_03"] = [*left[:3], -camera.focal * camera.baseline, *left[4:]]
    text = "".join(f"{name}: {' '.join(f'{value:.9g}' for value in values)}\n" for name, values in rows.items())
    for number in range(1, 10000):
        day = out / f"2000_01_{number:02d}"
        file = day / "calib_cam_to_cam.txt"
        if not file.exists():
            write_text(file, text)
        if file.read_text() == text:
            return day
    raise DataError("too many cameras for the KITTI layout", value=10000)


def _get_principal_point(frame: DepthFrame) -> tuple[float, float]:
    """Returns the principal point, by default the center, relative to the center of the first pixel."""
    assert frame.camera is not None
    x, y = frame.camera.center(read_image_size(frame.image))
    return x - 0.5, y - 0.5


def _write_intrinsics(frame: DepthFrame, folder: Path) -> None:
    if frame.camera is None:
        return
    focal, (x, y) = frame.camera.focal, _get_principal_point(frame)
    write_text(folder / "intrinsics.txt", f"{focal:.9g} 0 {x:.9g}\n0 {focal:.9g} {y:.9g}\n0 0 1\n")


def _count_names(report: ConversionReport, frames: Sequence[DepthFrame]) -> None:
    report.add("image names", len(frames))


def _count_stereo(report: ConversionReport, frames: Sequence[DepthFrame]) -> None:
    report.add("right images", sum(frame.right is not None for frame in frames))
    report.add("baselines", sum(frame.camera is not None and frame.camera.baseline is not None for frame in frames))


def _flatten(name: str) -> str:
    """Converts the name of a group to a single folder name."""
    return name.replace("/", "-").strip("-. ") or "scene"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_file(source, target)


def _write_png(source: Path, target: Path) -> None:
    """Copies a PNG; other formats are re-encoded losslessly."""
    if source.suffix.lower() == ".png":
        _copy(source, target)
    else:
        write_image(target, read_image(source))


def _to_image(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, np.uint8(255), np.uint8(0))
