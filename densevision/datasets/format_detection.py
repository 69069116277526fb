"""Which detection dataset a path holds, by what lies there: COCO json, YOLO txt, Pascal VOC xml, or `scenes`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from densevision.datasets.box_sources import CocoSource, Source, VocSource, YoloSource
from densevision.datasets.formats import coco, voc, yolo
from densevision.datasets.scene_splits import scene_splits
from densevision.errors import DataError, UsageError, did_you_mean
from densevision.io.image_files import SUFFIXES
from densevision.yaml_files import read_yaml

EXPECTED = (
    "Expected: a data.yaml (YOLO); annotations/*.json with images (COCO); Annotations/*.xml with JPEGImages (Pascal "
    "VOC); images, labels and classes.txt (YOLO); or scenes[:COUNT[:SEED]]."
)
OTHER_ANNOTATIONS = ("panoptic", "captions", "stuff", "person_keypoints", "image_info")
"""COCO's json files that are about something else than boxes."""
SPLIT_NOTE = "there is no validation split: a tenth of the images, chosen by a hash of their names, is held out"
PROBED = 50


@dataclass(frozen=True)
class DetectedFormat:
    """What a path holds.

    Attributes:
        splits: "train" and "val", or one of them.
        notes: Choices that were made on the way.
    """

    splits: dict[str, Source]
    notes: tuple[str, ...] = ()


def detect_format(path: str, train: str | None = None, val: str | None = None) -> DetectedFormat:
    """Finds the splits of a detection dataset.

    Args:
        path: A folder, a COCO json, a data.yaml, or `scenes[:COUNT[:SEED]]`.
        train: Name or file of the training split, when it is not the usual one.
        val: Name or file of the validation split.

    Raises:
        DataError: Nothing is recognized, or several things could be meant; the message says what is there.
    """
    scenes = scene_splits(path)
    if scenes is not None:
        return DetectedFormat(scenes)
    root = Path(path)
    wanted = {"train": train, "val": val}
    if not root.exists():
        raise DataError("there is no such file or folder", file=path, hint=EXPECTED)
    if root.is_file():
        return _detect_file(root, wanted)
    for detect_one in (_yolo_with_yaml, _voc, _coco, _yolo_without_yaml):
        found = detect_one(root, wanted)
        if found is not None:
            return found
    raise DataError("no detection dataset is recognized", file=path, value=_inventory(root), hint=EXPECTED)


def _divided(make: Callable[[str], Source], notes: tuple[str, ...] = ()) -> DetectedFormat:
    return DetectedFormat({part: make(part) for part in ("train", "val")}, (*notes, SPLIT_NOTE))


def _detect_file(file: Path, wanted: dict[str, str | None]) -> DetectedFormat:
    if file.suffix in (".yaml", ".yml"):
        return _yolo_splits(yolo.read_data_yaml(file), wanted)
    if file.suffix == ".json":
        named = [f"data.{name}" for name, value in wanted.items() if value]
        if named:
            hint = "Give the folder of the dataset as data.path."
            raise UsageError("has no effect when data.path is a json", field=named[0], value=file.name, hint=hint)
        return _divided(lambda part: CocoSource(file, image_folder(file), part))
    raise DataError("is no dataset", file=file, hint=EXPECTED)


def _yolo_with_yaml(root: Path, wanted: dict[str, str | None]) -> DetectedFormat | None:
    files = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    usual = [file for file in files if file.stem in ("data", "dataset")] or [
        file for file in files if _is_data_yaml(file)
    ]
    if len(usual) > 1:
        names = ", ".join(file.name for file in usual)
        raise DataError(
            "several yaml files could be the dataset's", file=root, value=names, hint="Give one as data.path."
        )
    return _yolo_splits(yolo.read_data_yaml(usual[0]), wanted) if usual else None


def _is_data_yaml(file: Path) -> bool:
    """Whether a yaml of any name reads like a data.yaml."""
    try:
        values = read_yaml(file)
    except UsageError:
        return False
    return "names" in values and any(split in values for split in yolo.SPLITS)


def _yolo_without_yaml(root: Path, wanted: dict[str, str | None]) -> DetectedFormat | None:
    if not (root / "images").is_dir() or not (root / "labels").is_dir():
        return None
    lists = [file for file in (root / "classes.txt", root / "labels" / "classes.txt") if file.is_file()]
    if not lists:
        hint = "Write them into classes.txt, one a line, or write a data.yaml."
        raise DataError("images and labels are there, but no class names", file=root, value=_inventory(root), hint=hint)
    names = yolo.read_name_list(lists[0])
    splits = {}
    for split, folders in {"train": ("train",), "val": ("val", "valid", "validation")}.items():
        found = [name for name in folders if (root / "images" / name).is_dir()]
        if found:
            splits[split] = (f"images/{found[0]}",)
    splits = splits or {"train": ("images",)}
    return _yolo_splits(yolo.YoloDataset(lists[0], root, names, tuple(range(len(names))), splits), wanted)


def _yolo_splits(dataset: yolo.YoloDataset, wanted: dict[str, str | None]) -> DetectedFormat:
    splits: dict[str, Source] = {}
    for split, name in wanted.items():
        entries = dataset.splits.get(name or split)
        if entries is None and name is not None:
            entries = (name,)
        if entries is not None:
            splits[split] = YoloSource(dataset, entries)
    if "val" not in splits and "train" in splits:
        return _divided(lambda part: YoloSource(dataset, splits["train"].entries, part))
    if not splits:
        hint = "Give folders of images as train: and val:."
        raise DataError("names no split", file=dataset.file, value=", ".join(dataset.splits), hint=hint)
    return DetectedFormat(splits)


def _voc(root: Path, wanted: dict[str, str | None]) -> DetectedFormat | None:
    if not (root / "Annotations").is_dir() or next((root / "Annotations").glob("*.xml"), None) is None:
        return None
    known = voc.splits(root)
    usual = ("train", "val") if "train" in known else ("trainval", "test")
    splits: dict[str, Source] = {}
    for (split, name), other in zip(wanted.items(), usual):
        if name is not None and name not in known:
            hint = did_you_mean(name, known)
            raise DataError(
                "there is no such list in ImageSets/Main", file=root, field=f"data.{split}", value=name, hint=hint
            )
        if name or other in known:
            splits[split] = VocSource(root, name or other)
    if "val" not in splits:
        only = splits["train"].split if "train" in splits else None
        return _divided(lambda part: VocSource(root, only, part))
    return DetectedFormat(splits)


def _coco(root: Path, wanted: dict[str, str | None]) -> DetectedFormat | None:
    found = [*root.glob("annotations/*.json"), *root.glob("*.json"), *root.glob("*/_annotations.coco.json")]
    files = sorted(file for file in found if not file.name.startswith(OTHER_ANNOTATIONS))
    if not files:
        return None
    splits: dict[str, Source] = {}
    notes: list[str] = []
    for split, name in wanted.items():
        file = _named_json(root, files, split, name) if name else _usual_json(root, files, split, notes)
        if file is not None:
            splits[split] = CocoSource(file, image_folder(file))
    if not splits and len(files) == 1:
        return _divided(lambda part: CocoSource(files[0], image_folder(files[0]), part))
    if not splits:
        names = ", ".join(str(file.relative_to(root)) for file in files)
        hint = "Say which is which: data.train and data.val."
        raise DataError("no file's name says which split it is", file=root, value=names, hint=hint)
    if "val" not in splits:
        source = splits["train"]
        return _divided(lambda part: CocoSource(source.file, source.folder, part), tuple(notes))
    return DetectedFormat(splits, tuple(notes))


def _usual_json(root: Path, files: list[Path], split: str, notes: list[str]) -> Path | None:
    """The json whose name, or whose folder's name, says the split; COCO's own `instances_` before others."""
    fitting = [file for file in files if re.search(rf"(?<![a-z]){split}", str(file.relative_to(root)).lower())]
    first = [file for file in fitting if file.name.startswith("instances_")] or fitting
    if not first:
        return None
    names = [str(file.relative_to(root)) for file in fitting]
    if len(first) > 1:
        hint = f"Name one as data.{split}."
        raise DataError(f"several files could be the {split} split", file=root, value=", ".join(names), hint=hint)
    if len(fitting) > 1:
        taken = str(first[0].relative_to(root))
        others = ", ".join(name for name in names if name != taken)
        notes.append(f"{split}: {taken} is read, not {others}; data.{split} names another")
    return first[0]


def _named_json(root: Path, files: list[Path], split: str, name: str) -> Path:
    for path in (Path(name), root / name, *(root / folder / f"{name}.json" for folder in (".", "annotations"))):
        if path.is_file():
            return path
    fitting = [file for file in files if file.name == name]
    if not fitting:
        hint = did_you_mean(name, [file.stem for file in files])
        raise DataError("there is no such annotation file", file=root, field=f"data.{split}", value=name, hint=hint)
    return fitting[0]


def image_folder(file: Path) -> Path:
    """Where the images of a json are: of the folders near it, the one that holds most of the first few.

    Where several hold as many, it is the one whose name has most words in common with the json's.
    """
    base = file.parent.parent if file.parent.name.lower().startswith("annotation") else file.parent
    inner = [folder for parent in (base / "images", base) if parent.is_dir() for folder in sorted(parent.iterdir())]
    near = [folder for folder in (base / "images", base, *inner) if folder.is_dir()]
    names = coco.first_files(file, PROBED)
    held = [sum((folder / name).is_file() for name in names) for folder in near]
    fullest = [folder for folder, count in zip(near, held) if count == max(held)]
    return max(fullest, key=lambda folder: len(_words(folder.name) & _words(file.stem)))


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+|[0-9]+", name.lower()))


def _inventory(root: Path) -> str:
    """What lies in a folder, in a few words."""
    entries = sorted(root.iterdir())
    folders = [f"{entry.name}/" for entry in entries if entry.is_dir()]
    kinds = Counter(entry.suffix.lower() or entry.name for entry in entries if entry.is_file())
    files = [f"{count} {'images' if kind in SUFFIXES else 'files'} {kind}" for kind, count in kinds.most_common(5)]
    return ", ".join([*folders[:8], *files]) or "an empty folder"
