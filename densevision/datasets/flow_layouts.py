"""Frame pairs with ground-truth flow as files: the folder layouts of public datasets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densevision.io.flow import SUFFIXES as FLOW_SUFFIXES
from densevision.io.image_files import IMAGE_SUFFIXES, is_system_file, list_files
from densevision.io.lines import read_lines
from densevision.io.natural_sort import natural_sort_key

__all__ = ["LAYOUTS", "FlowLayout", "FlowPair", "detect_flow_layout", "find_companion_files"]

NON_FRAME_WORDS = frozenset({"flow", "flows", "occ", "occlusion", "occlusions", "mask", "masks", "valid", "invalid"})
"""Words in the names of images that are not frames but flow or masks."""


@dataclass(frozen=True)
class FlowPair:
    """Files of one frame pair.

    Attributes:
        first: The first frame.
        second: The second frame.
        flow: The flow from the first to the second frame; None if it is unknown.
        group: The sequence or scene, which is held out as a unit.
        occlusion: An image that is not 0 where the first frame is occluded.
        invalid: An image that is not 0 where the flow is unknown.
        visible: KITTI: the flow of pixels that stay visible; pixels that are only in `flow` are occluded.
        mask: TartanAir: an array that is not 0 where the first frame is occluded.
        is_double_resolution: The flow has twice the resolution of the frames, as in Spring.
        split: "train" or "val" if the dataset defines it.
    """

    first: Path
    second: Path
    flow: Path | None
    group: str
    occlusion: Path | None = None
    invalid: Path | None = None
    visible: Path | None = None
    mask: Path | None = None
    is_double_resolution: bool = False
    split: str | None = None

    @property
    def name(self) -> str:
        """Identifies the pair in its dataset."""
        return f"{self.group}/{(self.flow or self.first).stem}"


@dataclass(frozen=True)
class FlowLayout:
    """The folder layout of a dataset.

    Attributes:
        name: Name of the dataset.
        pattern: A glob pattern below the root that identifies it.
        pairs: Lists the pairs, given the root and the requested rendering passes.
        has_passes: Whether there are several rendering passes.
    """

    name: str
    pattern: str
    pairs: Callable[[Path, Sequence[str]], Iterator[FlowPair]]
    has_passes: bool = False


def list_flying_chairs(root: Path, passes: Sequence[str]) -> Iterator[FlowPair]:
    """FlyingChairs: data/00001_img1.ppm, data/00001_img2.ppm, data/00001_flow.flo; the official split if present."""
    lists = [path for name in ("FlyingChairs_train_val.txt", "chairs_split.txt") for path in sorted(root.glob(name))]
    codes = " ".join(read_lines(lists[0])).split() if lists else []
    for number, flow in enumerate(sorted(root.glob("data/*_flow.flo"))):
        stem = flow.name.removesuffix("_flow.flo")
        split = {"1": "train", "2": "val"}.get(codes[number]) if number < len(codes) else None
        first, second = (flow.with_name(f"{stem}_img{frame}.ppm") for frame in (1, 2))
        yield FlowPair(first, second, flow, stem, split=split)


def list_flying_things(root: Path, passes: Sequence[str]) -> Iterator[FlowPair]:
    """FlyingThings3D: frames_<pass>pass and optical_flow/<TRAIN|TEST>/<letter>/<number>/into_<future|past>/<camera>."""
    for flow in sorted(root.glob("optical_flow/*/*/*/into_*/*/*.pfm")):
        subset, letter, number, direction, camera = flow.parts[-6:-1]
        frame = int(re.findall(r"\d+", flow.stem)[-1])
        other = frame + (1 if direction == "into_future" else -1)
        split = {"TRAIN": "train", "TEST": "val"}.get(subset)
        for rendering in passes:
            folder = root / f"frames_{rendering}pass" / subset / letter / number / camera
            first, second = (folder / f"{index:04d}.png" for index in (frame, other))
            if first.exists() and second.exists():
                group = f"{rendering}/{subset}/{letter}/{number}/{direction}/{camera}"
                yield FlowPair(first, second, flow, group, split=split)


def list_sintel(root: Path, passes: Sequence[str]) -> Iterator[FlowPair]:
    """Sintel: training/<pass>/<scene>/frame_0001.png, flow/, occlusions/ and invalid/ beside the passes."""
    base = root / "training" if (root / "training").is_dir() else root
    for flow in sorted(base.glob("flow/*/*.flo")):
        scene, next_stem = flow.parent.name, _increment_number(flow.stem)
        for rendering in passes:
            first, second = (base / rendering / scene / f"{stem}.png" for stem in (flow.stem, next_stem))
            if first.exists():
                yield FlowPair(first, second, flow, f"{rendering}/{scene}", **find_companion_files(flow))


def list_kitti(root: Path, passes: Sequence[str]) -> Iterator[FlowPair]:
    """KITTI 2015 (image_2) and 2012 (colored_0, or image_0): 000000_10.png, 000000_11.png, flow_occ/ and flow_noc/."""
    base = root / "training" if (root / "training").is_dir() else root
    folder = next((base / name for name in ("image_2", "colored_0", "image_0") if (base / name).is_dir()), base)
    for flow in sorted(base.glob("flow_occ/*.png")):
        second = folder / f"{_increment_number(flow.stem)}.png"
        yield FlowPair(folder / flow.name, second, flow, flow.stem.split("_")[0], **find_companion_files(flow))


def list_hd1k(root: Path, passes: Sequence[str]) -> Iterator[FlowPair]:
    """HD1K: hd1k_input/image_2/000000_0000.png, hd1k_flow_gt/flow_occ of the same name; the last frame has no next."""
    for flow in sorted(root.glob("hd1k_flow_gt/flow_occ/*.png")):
        first, second = (
            root / "hd1k_input/image_2" / f"{stem}.png" for stem in (flow.stem, _increment_number(flow.stem))
        )
        if second.exists():
            yield FlowPair(first, second, flow, flow.stem.split("_")[0])


def list_middlebury(root: Path, passes: Sequence[str]) -> Iterator[FlowPair]:
    """Middlebury: other-data/<scene>/frame10.png, frame11.png and other-gt-flow/<scene>/flow10.flo."""
    for flow in sorted(root.glob("other-gt-flow/*/flow10.flo")):
        folder = root / "other-data" / flow.parent.name
        yield FlowPair(folder / "frame10.png", folder / "frame11.png", flow, flow.parent.name)


def list_spring(root: Path, passes: Sequence[str]) -> Iterator[FlowPair]:
    """Spring: train/0001/frame_left/frame_left_0001.png, flow_FW_left/flow_FW_left_0001.flo5; also BW and right."""
    base = root / "train" if (root / "train").is_dir() else root
    for flow in sorted(base.glob("*/flow_[FB]W_*/*.flo5")):
        scene, kind = flow.parent.parent, flow.parent.name
        camera, step = kind.split("_")[2], 1 if "_FW_" in kind else -1
        frame = int(re.findall(r"\d+", flow.stem)[-1])
        first, second = (
            scene / f"frame_{camera}" / f"frame_{camera}_{index:04d}.png" for index in (frame, frame + step)
        )
        if first.exists() and second.exists():
            yield FlowPair(first, second, flow, f"{scene.name}/{kind}", is_double_resolution=True)


def list_tartanair(root: Path, passes: Sequence[str]) -> Iterator[FlowPair]:
    """TartanAir: .../<P000>/image_left/000000_left.png, flow/000000_000001_flow.npy and _mask.npy."""
    for flow in sorted(root.glob("**/flow/*_flow.npy")):
        sequence = flow.parent.parent
        first, second = (sequence / "image_left" / f"{number}_left.png" for number in flow.stem.split("_")[:2])
        yield FlowPair(first, second, flow, sequence.relative_to(root).as_posix(), **find_companion_files(flow))


def list_plain(root: Path, passes: Sequence[str]) -> Iterator[FlowPair]:
    """Any folders of frames with flow files.

    A flow file is a .flo, .pfm, .npy or .flo5, or a .png with the word "flow" in its name. It belongs to the frame with
    the same number and its successor, or without a number to the only two frames of its folder.
    """
    for folder in sorted({root, *(path for path in root.rglob("*") if path.is_dir())}):
        if any(map(is_system_file, folder.relative_to(root).parts)):
            continue
        files = sorted(list_files(folder, "*"), key=natural_sort_key)
        flows = [path for path in files if _is_flow_file(path)]
        images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        frames = [path for path in images if not NON_FRAME_WORDS & _split_words(path)]
        group = folder.relative_to(root).as_posix()
        for flow in flows:
            first, second = _find_frames(flow, frames, len(flows) == 1)
            if first is not None and second is not None:
                yield FlowPair(first, second, flow, root.name if group == "." else group)


def find_companion_files(flow: Path) -> dict[str, Any]:
    """Finds the files with the occlusion and validity of a flow file, as fields of `FlowPair`.

    Sintel has occlusions/ and invalid/ next to flow/, KITTI flow_noc/ next to flow_occ/, TartanAir a mask per file.
    """
    folder, scene = flow.parent.parent, flow.parent.name
    candidates = {"visible": folder / "flow_noc" / flow.name} if scene == "flow_occ" else {}
    if folder.name == "flow":
        name = f"{scene}/{flow.stem}.png"
        candidates |= {"occlusion": folder.parent / "occlusions" / name, "invalid": folder.parent / "invalid" / name}
    if flow.name.endswith("_flow.npy"):
        candidates |= {"mask": flow.with_name(flow.name.replace("_flow.npy", "_mask.npy"))}
    return {name: path for name, path in candidates.items() if path.exists()}


LAYOUTS = (
    FlowLayout("FlyingChairs", "data/*_flow.flo", list_flying_chairs),
    FlowLayout("FlyingThings3D", "optical_flow/*/*/*/into_*", list_flying_things, has_passes=True),
    FlowLayout("Sintel", "training/flow/*/*.flo", list_sintel, has_passes=True),
    FlowLayout("Sintel", "flow/*/frame_*.flo", list_sintel, has_passes=True),
    FlowLayout("KITTI", "training/flow_occ/*.png", list_kitti),
    FlowLayout("KITTI", "flow_occ/*_10.png", list_kitti),
    FlowLayout("HD1K", "hd1k_flow_gt/flow_occ/*.png", list_hd1k),
    FlowLayout("Middlebury", "other-gt-flow/*/flow10.flo", list_middlebury),
    FlowLayout("Spring", "train/*/flow_FW_*", list_spring),
    FlowLayout("Spring", "*/flow_FW_*", list_spring),
    FlowLayout("TartanAir", "**/flow/*_flow.npy", list_tartanair),
    FlowLayout("pairs of frames", "**/*", list_plain),
)
"""The most specific first; the last one matches any folder."""


def detect_flow_layout(root: Path) -> FlowLayout:
    """Returns the layout of a folder."""
    return next(layout for layout in LAYOUTS if layout is LAYOUTS[-1] or any(root.glob(layout.pattern)))


def _increment_number(stem: str) -> str:
    """Increments the last number of a name: `frame_0001` to `frame_0002`."""
    head, digits, tail = re.fullmatch(r"(.*?)(\d+)(\D*)", stem).groups()  # type: ignore[union-attr]
    return f"{head}{int(digits) + 1:0{len(digits)}d}{tail}"


def _find_frames(flow: Path, frames: Sequence[Path], is_only_flow: bool) -> tuple[Path | None, Path | None]:
    """Finds the frames of a flow file, None if one is missing; `is_only_flow`: the folder has no other flow file."""
    number = _parse_number(flow)
    same_number = [frame for frame in frames if number is not None and _parse_number(frame) == number]
    if same_number:
        # Several sequences in one folder differ in the beginning of their names.
        first = next((frame for frame in same_number if _get_prefix(frame) == _get_prefix(flow)), same_number[0])
        next_stem = _increment_number(first.stem)
        return first, next((frame for frame in frames if frame.stem == next_stem), None)
    return (frames[0], frames[1]) if is_only_flow and len(frames) == 2 else (None, None)


def _parse_number(path: Path) -> int | None:
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else None


def _get_prefix(path: Path) -> str:
    """Returns the part of a name before its last number."""
    return re.split(r"\d+\D*$", path.stem)[0]


def _split_words(path: Path) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path.stem)}


def _is_flow_file(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in FLOW_SUFFIXES and (suffix != ".png" or "flow" in _split_words(path))
