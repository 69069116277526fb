"""Pairs of frames with their truth, as files: the layouts of the field's datasets, each by a rule of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from densevision.io.flow import SUFFIXES as FLOWS
from densevision.io.image_files import SUFFIXES as IMAGES
from densevision.io.lines import read_lines
from densevision.io.natural_sort import natural_key

BESIDE = frozenset({"flow", "flows", "occ", "occlusion", "occlusions", "mask", "masks", "valid", "invalid"})
"""Words that an image has in its name which is no frame: truth, or a mask that goes with it."""


@dataclass(frozen=True)
class Pair:
    """Files of one pair.

    Attributes:
        first: The first frame.
        second: The second frame.
        flow: The motion from the first to the second; None where nobody knows it.
        group: What belongs together and is held out together: a sequence, a scene.
        occlusion: An image that is not 0 where the first frame is occluded.
        invalid: An image that is not 0 where the flow is not known.
        visible: KITTI: the flow of what stays visible; what is only in `flow` is occluded.
        mask: TartanAir: an array that is not 0 where the first frame is occluded.
        doubled: The flow has a value for each quarter of a pixel, as Spring's.
        split: "train" or "val" where the dataset itself says.
    """

    first: Path
    second: Path
    flow: Path | None
    group: str
    occlusion: Path | None = None
    invalid: Path | None = None
    visible: Path | None = None
    mask: Path | None = None
    doubled: bool = False
    split: str | None = None

    @property
    def name(self) -> str:
        """What identifies the pair in its dataset."""
        return f"{self.group}/{(self.flow or self.first).stem}"


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on the disk.

    Attributes:
        name: What the dataset is called.
        mark: A path below the root, with wildcards, by which it is recognized.
        pairs: Lists its pairs, given the root and the passes that are wanted.
        rendered: It has passes to choose from.
    """

    name: str
    mark: str
    pairs: Callable[[Path, Sequence[str]], Iterator[Pair]]
    rendered: bool = False


def chairs(root: Path, passes: Sequence[str]) -> Iterator[Pair]:
    """FlyingChairs: data/00001_img1.ppm, data/00001_img2.ppm, data/00001_flow.flo; its own split, if listed."""
    lists = [path for name in ("FlyingChairs_train_val.txt", "chairs_split.txt") for path in sorted(root.glob(name))]
    marks = " ".join(read_lines(lists[0])).split() if lists else []
    for number, flow in enumerate(sorted(root.glob("data/*_flow.flo"))):
        stem = flow.name.removesuffix("_flow.flo")
        split = {"1": "train", "2": "val"}.get(marks[number]) if number < len(marks) else None
        first, second = (flow.with_name(f"{stem}_img{frame}.ppm") for frame in (1, 2))
        yield Pair(first, second, flow, stem, split=split)


def things(root: Path, passes: Sequence[str]) -> Iterator[Pair]:
    """FlyingThings3D: frames_<pass>pass and optical_flow/<TRAIN|TEST>/<letter>/<number>/into_<future|past>/<camera>."""
    for flow in sorted(root.glob("optical_flow/*/*/*/into_*/*/*.pfm")):
        part, letter, number, direction, camera = flow.parts[-6:-1]
        frame = int(re.findall(r"\d+", flow.stem)[-1])
        other = frame + (1 if direction == "into_future" else -1)
        split = {"TRAIN": "train", "TEST": "val"}.get(part)
        for rendering in passes:
            folder = root / f"frames_{rendering}pass" / part / letter / number / camera
            first, second = (folder / f"{index:04d}.png" for index in (frame, other))
            if first.exists() and second.exists():
                group = f"{rendering}/{part}/{letter}/{number}/{direction}/{camera}"
                yield Pair(first, second, flow, group, split=split)


def sintel(root: Path, passes: Sequence[str]) -> Iterator[Pair]:
    """Sintel: training/<pass>/<scene>/frame_0001.png, flow/, occlusions/ and invalid/ beside the passes."""
    base = root / "training" if (root / "training").is_dir() else root
    for flow in sorted(base.glob("flow/*/*.flo")):
        scene, following = flow.parent.name, _next_name(flow.stem)
        for rendering in passes:
            first, second = (base / rendering / scene / f"{stem}.png" for stem in (flow.stem, following))
            if first.exists():
                yield Pair(first, second, flow, f"{rendering}/{scene}", **companions(flow))


def kitti(root: Path, passes: Sequence[str]) -> Iterator[Pair]:
    """KITTI 2015 (image_2) and 2012 (colored_0, or image_0): 000000_10.png, 000000_11.png, flow_occ/ and flow_noc/."""
    base = root / "training" if (root / "training").is_dir() else root
    folder = next((base / name for name in ("image_2", "colored_0", "image_0") if (base / name).is_dir()), base)
    for flow in sorted(base.glob("flow_occ/*.png")):
        second = folder / f"{_next_name(flow.stem)}.png"
        yield Pair(folder / flow.name, second, flow, flow.stem.split("_")[0], **companions(flow))


def hd1k(root: Path, passes: Sequence[str]) -> Iterator[Pair]:
    """HD1K: hd1k_input/image_2/000000_0000.png, hd1k_flow_gt/flow_occ of the same name; the last frame has no next."""
    for flow in sorted(root.glob("hd1k_flow_gt/flow_occ/*.png")):
        first, second = (root / "hd1k_input/image_2" / f"{stem}.png" for stem in (flow.stem, _next_name(flow.stem)))
        if second.exists():
            yield Pair(first, second, flow, flow.stem.split("_")[0])


def middlebury(root: Path, passes: Sequence[str]) -> Iterator[Pair]:
    """Middlebury: other-data/<scene>/frame10.png, frame11.png and other-gt-flow/<scene>/flow10.flo."""
    for flow in sorted(root.glob("other-gt-flow/*/flow10.flo")):
        folder = root / "other-data" / flow.parent.name
        yield Pair(folder / "frame10.png", folder / "frame11.png", flow, flow.parent.name)


def spring(root: Path, passes: Sequence[str]) -> Iterator[Pair]:
    """Spring: train/0001/frame_left/frame_left_0001.png, flow_FW_left/flow_FW_left_0001.flo5; BW and right alike."""
    base = root / "train" if (root / "train").is_dir() else root
    for flow in sorted(base.glob("*/flow_[FB]W_*/*.flo5")):
        scene, kind = flow.parent.parent, flow.parent.name
        camera, step = kind.split("_")[2], 1 if "_FW_" in kind else -1
        frame = int(re.findall(r"\d+", flow.stem)[-1])
        first, second = (
            scene / f"frame_{camera}" / f"frame_{camera}_{index:04d}.png" for index in (frame, frame + step)
        )
        if first.exists() and second.exists():
            yield Pair(first, second, flow, f"{scene.name}/{kind}", doubled=True)


def tartanair(root: Path, passes: Sequence[str]) -> Iterator[Pair]:
    """TartanAir: .../<P000>/image_left/000000_left.png, flow/000000_000001_flow.npy and _mask.npy."""
    for flow in sorted(root.glob("**/flow/*_flow.npy")):
        sequence = flow.parent.parent
        first, second = (sequence / "image_left" / f"{number}_left.png" for number in flow.stem.split("_")[:2])
        yield Pair(first, second, flow, sequence.relative_to(root).as_posix(), **companions(flow))


def plain(root: Path, passes: Sequence[str]) -> Iterator[Pair]:
    """Any folders of frames with truth beside them.

    The truth is a .flo, .pfm, .npy or .flo5, or a .png with the word "flow" in its name. With a frame's number in its
    name it belongs to that frame and to the one of the next number, else to the only two frames of its folder.
    """
    for folder in sorted({root, *(path for path in root.rglob("*") if path.is_dir())}):
        files = sorted((path for path in folder.iterdir() if path.is_file()), key=natural_key)
        ground_truths = [path for path in files if _is_truth(path)]
        frames = [path for path in files if path.suffix.lower() in IMAGES and not BESIDE & _words(path)]
        group = folder.relative_to(root).as_posix()
        for flow in ground_truths:
            first, second = _frames_of(flow, frames, len(ground_truths) == 1)
            if first is not None and second is not None:
                yield Pair(first, second, flow, root.name if group == "." else group)


def companions(flow: Path) -> dict[str, Path]:
    """What a dataset says of the pixels of a file of motion, in files of their own: fields of `Pair`.

    Sintel has occlusions/ and invalid/ beside flow/, KITTI flow_noc/ beside flow_occ/, TartanAir a mask beside it.
    """
    folder, scene = flow.parent.parent, flow.parent.name
    beside = {"visible": folder / "flow_noc" / flow.name} if scene == "flow_occ" else {}
    if folder.name == "flow":
        own = f"{scene}/{flow.stem}.png"
        beside |= {"occlusion": folder.parent / "occlusions" / own, "invalid": folder.parent / "invalid" / own}
    if flow.name.endswith("_flow.npy"):
        beside |= {"mask": flow.with_name(flow.name.replace("_flow.npy", "_mask.npy"))}
    return {name: path for name, path in beside.items() if path.exists()}


LAYOUTS = (
    Layout("FlyingChairs", "data/*_flow.flo", chairs),
    Layout("FlyingThings3D", "optical_flow/*/*/*/into_*", things, rendered=True),
    Layout("Sintel", "training/flow/*/*.flo", sintel, rendered=True),
    Layout("Sintel", "flow/*/frame_*.flo", sintel, rendered=True),
    Layout("KITTI", "training/flow_occ/*.png", kitti),
    Layout("KITTI", "flow_occ/*_10.png", kitti),
    Layout("HD1K", "hd1k_flow_gt/flow_occ/*.png", hd1k),
    Layout("Middlebury", "other-gt-flow/*/flow10.flo", middlebury),
    Layout("Spring", "train/*/flow_FW_*", spring),
    Layout("Spring", "*/flow_FW_*", spring),
    Layout("TartanAir", "**/flow/*_flow.npy", tartanair),
    Layout("pairs of frames", "**/*", plain),
)
"""The most particular first; the last fits any folder."""


def detect_format(root: Path) -> Layout:
    """The layout of a folder."""
    return next(layout for layout in LAYOUTS if layout is LAYOUTS[-1] or any(root.glob(layout.mark)))


def _next_name(stem: str) -> str:
    """The name with its last number one higher: `frame_0001` to `frame_0002`."""
    head, digits, tail = re.fullmatch(r"(.*?)(\d+)(\D*)", stem).groups()
    return f"{head}{int(digits) + 1:0{len(digits)}d}{tail}"


def _frames_of(flow: Path, frames: Sequence[Path], alone: bool) -> tuple[Path | None, Path | None]:
    """The frames that a file of motion belongs to, None where one is missing; `alone`: its folder has no other."""
    number = _number(flow)
    numbered = [frame for frame in frames if number is not None and _number(frame) == number]
    if numbered:
        # Several sequences in one folder are told apart by how their names begin.
        first = next((frame for frame in numbered if _head(frame) == _head(flow)), numbered[0])
        following = _next_name(first.stem)
        return first, next((frame for frame in frames if frame.stem == following), None)
    return (frames[0], frames[1]) if alone and len(frames) == 2 else (None, None)


def _number(path: Path) -> int | None:
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None


def _head(path: Path) -> str:
    """What stands before the last number in a name."""
    return re.split(r"\d+\D*$", path.stem)[0]


def _words(path: Path) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path.stem)}


def _is_truth(path: Path) -> bool:
    return path.suffix.lower() in FLOWS and (path.suffix.lower() != ".png" or "flow" in _words(path))
