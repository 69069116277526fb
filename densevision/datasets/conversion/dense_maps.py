"""Depth and motion between the layouts of the field's datasets."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from densevision.datasets.conversion.report import ConversionReport
from densevision.datasets.depth_layouts import Frame
from densevision.datasets.depth_layouts import detect_format as detect_depth
from densevision.datasets.flow_layouts import Pair
from densevision.datasets.flow_layouts import detect_format as detect_flow
from densevision.datasets.flow_targets import read_truth
from densevision.errors import DataError
from densevision.io.atomic_write import write_text
from densevision.io.depth import SATURATED, read_depth, write_depth
from densevision.io.flow import KITTI_STEPS, KITTI_ZERO, write_flow
from densevision.io.image import image_size, read_image, write_image

KITTI, NYU, TUM = 256, 1000, 5000
"""Steps of a meter in the files of each."""
PER_SECOND = 30
"""Images of a second, where TUM's lists want times and the source has none."""
PASSES = ("clean", "final")


def read_frames(path: str, scale: float | None, losses: ConversionReport) -> dict[str, list[Frame]]:
    """The images of a depth dataset that have a truth, split by split; one without splits is one, "train".

    Args:
        path: Any layout that `densevision depth` knows.
        scale: Steps per unit, where the dataset does not state them.
        losses: Where it is said what was left aside.
    """
    root = Path(path)
    splits = _splits(root, lambda folder: list(detect_depth(folder).frames(folder)), detect_depth, losses)
    losses.add("images without depth", sum(not frame.truth for frames in splits.values() for frame in frames))
    known = {split: [_scaled(frame, scale) for frame in frames if frame.truth] for split, frames in splits.items()}
    if not any(known.values()):
        raise DataError("no image with depth", file=path, hint="Images and depth lie in rgb/ and depth/.")
    return {split: frames for split, frames in known.items() if frames}


def read_pairs(path: str, losses: ConversionReport) -> dict[str, list[Pair]]:
    """The pairs of a dataset of motion, split by split; one without splits is one, "train"."""
    root = Path(path)
    splits = _splits(root, lambda folder: list(detect_flow(folder).pairs(folder, PASSES)), detect_flow, losses)
    known = {split: [pair for pair in pairs if pair.flow] for split, pairs in splits.items()}
    if not any(known.values()):
        raise DataError("no pair with motion", file=path, hint="Frames and truth lie side by side.")
    return {split: pairs for split, pairs in known.items() if pairs}


def write_kitti_depth(splits: dict[str, list[Frame]], out: Path, losses: ConversionReport) -> None:
    """KITTI raw with annotated depth: <day>/<drive>_sync/image_02/data and <split>/<drive>_sync/proj_depth."""
    numbers: Counter[str] = Counter()
    for split, frames in splits.items():
        for frame in frames:
            day, drive = _day(frame, out), f"{_flat(frame.group)}_sync"
            # A drive may be in both splits, and its images lie in one folder.
            name = f"{numbers[drive]:010d}"
            numbers[drive] += 1
            _copied(frame.image, day / drive / "image_02" / "data" / f"{name}{frame.image.suffix}")
            if frame.right is not None:
                _copied(frame.right, day / drive / "image_03" / "data" / f"{name}{frame.right.suffix}")
            truth = out / split / drive / "proj_depth" / "groundtruth" / "image_02" / f"{name}.png"
            _write_meters(frame, truth, KITTI, losses)
        _lose_names(losses, frames)


def write_nyu(splits: dict[str, list[Frame]], out: Path, losses: ConversionReport) -> None:
    """NYU v2 as training lists have it: <split>/<scene>/rgb_00000.jpg and sync_depth_00000.png."""
    for split, frames in splits.items():
        for number, frame in enumerate(frames):
            folder = out / {"val": "test"}.get(split, split) / _flat(frame.group)
            _copied(frame.image, folder / f"rgb_{number:05d}{frame.image.suffix}")
            _write_meters(frame, folder / f"sync_depth_{number:05d}.png", NYU, losses)
            _write_intrinsics(frame, folder)
        _lose_names(losses, frames)
        _lose_right(losses, frames)


def write_tum(splits: dict[str, list[Frame]], out: Path, losses: ConversionReport) -> None:
    """TUM RGB-D: <split>/<sequence>/rgb, depth, rgb.txt and depth.txt."""
    for split, frames in splits.items():
        lists: dict[Path, list[tuple[str, str, str]]] = {}
        for number, frame in enumerate(frames):
            folder, time = out / split / _flat(frame.group), f"{number / PER_SECOND:.6f}"
            image, truth = f"rgb/{time}{frame.image.suffix}", f"depth/{time}.png"
            _copied(frame.image, folder / image)
            _write_meters(frame, folder / truth, TUM, losses)
            lists.setdefault(folder, []).append((time, image, truth))
        for folder, rows in lists.items():
            for name, column in (("rgb.txt", 1), ("depth.txt", 2)):
                text = "".join(f"{row[0]} {row[column]}\n" for row in rows)
                write_text(folder / name, f"# timestamp filename\n{text}")
        _lose_names(losses, frames)
        _lose_right(losses, frames)
        losses.add("focal lengths", sum(frame.camera is not None for frame in frames))


def write_sintel(splits: dict[str, list[Pair]], out: Path, losses: ConversionReport) -> None:
    """Sintel: training/clean/<scene>/frame_0001.png, flow, occlusions and invalid; a scene for each pair."""

    def write(pair: Pair, scene: str, base: Path) -> None:
        truth = read_truth(pair, read_image(pair.first).shape[:2])
        for number, frame in ((1, pair.first), (2, pair.second)):
            _as_png(frame, base / "clean" / scene / f"frame_{number:04d}.png")
        write_flow(base / "flow" / scene / "frame_0001.flo", truth.flow, truth.valid)
        write_image(base / "invalid" / scene / "frame_0001.png", _mask(~truth.valid))
        if truth.occlusion is not None:
            write_image(base / "occlusions" / scene / "frame_0001.png", _mask(truth.occlusion))

    _write_pairs(splits, out, losses, write)


def write_kitti_flow(splits: dict[str, list[Pair]], out: Path, losses: ConversionReport) -> None:
    """KITTI 2015: training/image_2/000000_10.png, 000000_11.png, flow_occ, and flow_noc where occlusion is known."""
    limit = KITTI_ZERO / KITTI_STEPS

    def write(pair: Pair, scene: str, base: Path) -> None:
        truth = read_truth(pair, read_image(pair.first).shape[:2])
        number = sum(1 for _ in (base / "image_2").glob("*_10.png"))
        name = f"{number:06d}_10.png"
        _as_png(pair.first, base / "image_2" / name)
        _as_png(pair.second, base / "image_2" / f"{number:06d}_11.png")
        steps = truth.flow * KITTI_STEPS
        known = truth.valid
        losses.add("pixels that move farther than 512, clipped", int((np.abs(truth.flow) >= limit).any(0)[known].sum()))
        losses.add("pixels rounded to 1/64", int((steps != np.rint(steps)).any(0)[known].sum()))
        write_flow(base / "flow_occ" / name, truth.flow, known)
        if truth.occlusion is not None:
            write_flow(base / "flow_noc" / name, truth.flow, known & ~truth.occlusion)

    _write_pairs(splits, out, losses, write)
    losses.add("names of scenes", sum(map(len, splits.values())))


def write_middlebury(splits: dict[str, list[Pair]], out: Path, losses: ConversionReport) -> None:
    """Middlebury: other-data/<scene>/frame10.png, frame11.png and other-gt-flow/<scene>/flow10.flo."""

    def write(pair: Pair, scene: str, base: Path) -> None:
        base = base.parent
        truth = read_truth(pair, read_image(pair.first).shape[:2])
        _as_png(pair.first, base / "other-data" / scene / "frame10.png")
        _as_png(pair.second, base / "other-data" / scene / "frame11.png")
        write_flow(base / "other-gt-flow" / scene / "flow10.flo", truth.flow, truth.valid)
        if truth.occlusion is not None:
            losses.add("pixels that are occluded", int(truth.occlusion.sum()))

    _write_pairs(splits, out, losses, write)


def _write_pairs(
    splits: dict[str, list[Pair]], out: Path, losses: ConversionReport, write: Callable[[Pair, str, Path], None]
) -> None:
    for split, pairs in splits.items():
        base = (out / split if len(splits) > 1 else out) / "training"
        scenes: set[str] = set()
        for pair in pairs:
            scene = _flat(pair.group)
            scene = scene if scene not in scenes else f"{scene}_{_flat(Path(pair.name).name)}"
            scenes.add(scene)
            write(pair, scene, base)
            losses.add("motion for quarters of pixels", int(pair.doubled))
    if len(splits) > 1:
        losses.notes.append(f"each split is a folder: give data.train and data.val ({', '.join(splits)})")


def _write_meters(frame: Frame, path: Path, scale: int, losses: ConversionReport) -> None:
    found = read_depth(frame.truth, frame.scale)
    depth = found.depth
    if (found.kind or frame.kind) == "disparity":
        if frame.camera is None or frame.camera.baseline is None:
            hint = "Focal length and baseline are read from the dataset's own calibration."
            raise DataError("disparity is no depth without its calibration", file=frame.truth, hint=hint)
        depth = np.where(found.valid, frame.camera.distance(depth), np.float32(0))
        losses.add("maps of disparity, meters now")
    steps = depth[found.valid].astype(np.float64) * scale
    losses.add(f"pixels farther than {SATURATED / scale:.1f} m, clipped", int((np.rint(steps) >= SATURATED).sum()))
    losses.add(f"pixels rounded to 1/{scale} m", int((np.abs(steps - np.rint(steps)) > 1e-2).sum()))
    write_depth(path, depth, found.valid, scale)


def _splits(
    root: Path, listed: Callable[[Path], list], detect_format: Callable, losses: ConversionReport
) -> dict[str, list]:
    """What lies in train/ and val/ where the layout is a plain one, else what the items themselves say."""
    if not root.is_dir():
        raise DataError("there is no such folder", file=root)
    folders = {split: root / split for split in ("train", "val") if (root / split).is_dir()}
    layout = detect_format(root)
    plain = "plain" in (getattr(layout, name).__name__ for name in ("frames", "pairs") if hasattr(layout, name))
    alike = len(folders) == 2 and all(detect_format(folder).name == layout.name for folder in folders.values())
    if folders and (plain or alike):
        losses.add("test splits", int((root / "test").is_dir()))
        return {split: listed(folder) for split, folder in folders.items()}
    items = listed(root)
    said = {item.split for item in items}
    if "val" not in said:
        return {"train": items}
    own = {"train": "train" if "train" in said else None, "val": "val"}
    return {split: [item for item in items if item.split == word] for split, word in own.items()}


def _scaled(frame: Frame, scale: float | None) -> Frame:
    return frame if scale is None else replace(frame, scale=scale)


def _day(frame: Frame, out: Path) -> Path:
    """A folder for each camera: KITTI keeps one calibration for a day."""
    if frame.camera is None:
        return out / "2000_01_01"
    camera = frame.camera
    center = _center(frame)
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
    raise DataError("too many cameras for KITTI's layout", value=10000)


def _center(frame: Frame) -> tuple[float, float]:
    """The principal point, the middle where none is stated, as these files count: from the first pixel's center."""
    x, y = frame.camera.center(image_size(frame.image))
    return x - 0.5, y - 0.5


def _write_intrinsics(frame: Frame, folder: Path) -> None:
    if frame.camera is None:
        return
    focal, (x, y) = frame.camera.focal, _center(frame)
    write_text(folder / "intrinsics.txt", f"{focal:.9g} 0 {x:.9g}\n0 {focal:.9g} {y:.9g}\n0 0 1\n")


def _lose_names(losses: ConversionReport, frames: Sequence[Frame]) -> None:
    losses.add("names of images", len(frames))


def _lose_right(losses: ConversionReport, frames: Sequence[Frame]) -> None:
    losses.add("right images", sum(frame.right is not None for frame in frames))
    losses.add("baselines", sum(frame.camera is not None and frame.camera.baseline is not None for frame in frames))


def _flat(name: str) -> str:
    """A group's name as one folder."""
    return name.replace("/", "-").strip("-. ") or "scene"


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _as_png(source: Path, target: Path) -> None:
    """A copy; written anew, without loss, where the source is no PNG."""
    if source.suffix.lower() == ".png":
        _copied(source, target)
    else:
        write_image(target, read_image(source))


def _mask(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, np.uint8(255), np.uint8(0))
