"""Detects the format of a dataset of objects: COCO, YOLO, Pascal VOC, formats of labeling programs, or scenes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from densevision.datasets.box_sources import BoxSource, CocoSource, VocSource, YoloSource
from densevision.datasets.formats import coco, object_masks, voc, yolo
from densevision.datasets.object_sources import FORMATS, ObjectSource, detect_objects
from densevision.datasets.splits import HOLD_OUT_NOTE, SPLIT_NAMES, parse_scene_splits
from densevision.errors import DataError, UsageError, did_you_mean
from densevision.io.foreign_names import localize_name
from densevision.io.image_files import IMAGE_SUFFIXES, list_files, list_folders
from densevision.yaml_files import read_yaml

__all__ = ["CONVERT_HINT", "OBJECT_FORMATS", "DetectedFormat", "detect_format", "find_image_folder", "list_content"]

OBJECT_FORMATS = (
    "a data.yaml or obj.names (YOLO); annotations/*.json with images, or _annotations.coco.json in splits (COCO); "
    "Annotations/*.xml with JPEGImages, or XML beside the images (Pascal VOC); images, labels and classes.txt (YOLO); "
    f"{', '.join(FORMATS)}"
)
CONVERT_HINT = (
    "Other formats: export as COCO. `densevision convert SOURCE OUT --to FORMAT` converts between those above."
)
EXPECTED = f"Expected: {OBJECT_FORMATS}; or scenes[:COUNT[:SEED]]. {CONVERT_HINT}"
OTHER_ANNOTATIONS = ("panoptic", "captions", "stuff", "person_keypoints", "image_info")
"""Prefixes of COCO files that do not hold boxes of all classes."""
VOC_FOLDERS = ((".", "."), ("labels", "data"), ("labels", "images"), ("annotations", "images"), (".", "images"))
"""Folders of XML files and images, besides those of Pascal VOC."""
PROBED_FILES = 50
"""Images of a JSON that are looked up to find its image folder."""


SPLIT_JSON = ("annotations", "labels", "result")
"""Names of COCO JSON files in the folders of splits, besides Roboflow's."""

S = TypeVar("S")


@dataclass(frozen=True)
class DetectedFormat(Generic[S]):
    """The dataset at a path.

    Attributes:
        splits: "train" and "val", or one of them.
        notes: Choices made during detection.
    """

    splits: dict[str, S]
    notes: tuple[str, ...] = ()


def detect_format(
    path: str, train: str | None = None, val: str | None = None, needs_masks: bool = False
) -> DetectedFormat[BoxSource]:
    """Detects the format and the splits of a dataset of objects.

    Args:
        path: A folder, a COCO JSON, a data.yaml, or `scenes[:COUNT[:SEED]]`.
        train: Name or file of the training split, if it is not a standard one.
        val: Name or file of the validation split.
        needs_masks: Of a dataset that has both, the masks of objects are read instead of boxes: Pascal VOC has many
            images with boxes only.

    Raises:
        DataError: The format is unknown or ambiguous; the message lists what the folder contains.
    """
    scenes = parse_scene_splits(path)
    if scenes is not None:
        return DetectedFormat(dict(scenes))
    root = Path(path)
    split_names = {"train": train, "val": val}
    if not root.exists():
        raise DataError("there is no such file or folder", file=path, hint=EXPECTED)
    if root.is_file():
        return _detect_file(root, split_names)
    if needs_masks and object_masks.find_labels(root):
        return _build_object_splits(detect_objects(root, split_names))
    for detect in DETECTORS:
        detected = detect(root, split_names)
        if detected is not None:
            return detected
    others = ", ".join(file.name for file in _list_json_files(root)[1])
    hint = f"Not COCO JSON: {others}. {EXPECTED}" if others else EXPECTED
    raise DataError("unknown format of a dataset of objects", file=path, value=list_content(root), hint=hint)


def _hold_out(build_source: Callable[[str], BoxSource], notes: tuple[str, ...] = ()) -> DetectedFormat[BoxSource]:
    return DetectedFormat({part: build_source(part) for part in ("train", "val")}, (*notes, HOLD_OUT_NOTE))


def _detect_file(file: Path, split_names: dict[str, str | None]) -> DetectedFormat[BoxSource]:
    if file.suffix in (".yaml", ".yml"):
        return _build_yolo_splits(yolo.read_data_yaml(file), split_names)
    if objects := detect_objects(file, split_names):
        return _build_object_splits(objects)
    if file.suffix == ".json":
        fields = [f"data.{split}" for split, name in split_names.items() if name]
        if fields:
            hint = "Give the folder of the dataset as data.path."
            raise UsageError("has no effect if data.path is a JSON", field=fields[0], value=file.name, hint=hint)
        return _hold_out(lambda part: CocoSource(file, find_image_folder(file), part))
    raise DataError("is not a dataset", file=file, hint=EXPECTED)


def _detect_yolo_yaml(root: Path, split_names: dict[str, str | None]) -> DetectedFormat[BoxSource] | None:
    files = sorted([*list_files(root, "*.yaml"), *list_files(root, "*.yml")])
    candidates = [file for file in files if file.stem in ("data", "dataset")]
    candidates = candidates or [file for file in files if _is_data_yaml(file)]
    if len(candidates) > 1:
        names, hint = ", ".join(file.name for file in candidates), "Give one as data.path."
        raise DataError("several YAML files could describe the dataset", file=root, value=names, hint=hint)
    return _build_yolo_splits(yolo.read_data_yaml(candidates[0], root), split_names) if candidates else None


def _is_data_yaml(file: Path) -> bool:
    """Whether a YAML file of any name has the keys of a data.yaml."""
    try:
        values = read_yaml(file)
    except UsageError:
        return False
    return "names" in values and any(split in values for split in yolo.SPLIT_KEYS)


def _detect_objects(root: Path, split_names: dict[str, str | None]) -> DetectedFormat[BoxSource] | None:
    objects = detect_objects(root, split_names)
    return _build_object_splits(objects) if objects else None


def _build_object_splits(objects: dict[str, ObjectSource]) -> DetectedFormat[BoxSource]:
    if "val" in objects:
        return DetectedFormat(dict(objects))
    source = objects.get("train") or objects[""]
    return _hold_out(lambda part: replace(source, part=part))


def _detect_darknet(root: Path, split_names: dict[str, str | None]) -> DetectedFormat[BoxSource] | None:
    """Detects images with YOLO labels beside them, and lists of names: obj.names, classes.txt or _darknet.labels."""
    lists = [file for folder in (root, root / "train") for name in yolo.NAME_LISTS for file in list_files(folder, name)]
    if not lists:
        return None
    splits: dict[str, tuple[str, ...]] = {}
    for split in ("train", "val"):
        for word in (f"obj_{yolo.SPLIT_KEYS[split][0]}_data", *yolo.SPLIT_KEYS[split]):
            if (root / f"{word}.txt").is_file():
                splits[split] = (f"{word}.txt",)
            elif split not in splits and _has_labels_beside_images(root / word):
                splits[split] = (word,)
    if not splits and (root / "images.txt").is_file():
        splits["train"] = ("images.txt",)
    if not splits and _has_labels_beside_images(root):
        splits["train"] = (".",)
    if not splits:
        return None
    names = yolo.read_name_list(lists[0])
    return _build_yolo_splits(yolo.YoloDataset(lists[0], root, names, tuple(range(len(names))), splits), split_names)


def _has_labels_beside_images(folder: Path) -> bool:
    labels = list_files(folder, "*.txt") if folder.is_dir() else []
    return any(label.with_suffix(suffix).is_file() for label in labels for suffix in IMAGE_SUFFIXES)


def _detect_yolo_folders(root: Path, split_names: dict[str, str | None]) -> DetectedFormat[BoxSource] | None:
    if not (root / "images").is_dir() or not (root / "labels").is_dir():
        return None
    lists = [
        file for folder in (root, root / "labels") for name in yolo.NAME_LISTS for file in list_files(folder, name)
    ]
    if not lists:
        problem = "there are images and labels, but no class names"
        hint = "Write them into classes.txt, one per line, or write a data.yaml."
        raise DataError(problem, file=root, value=list_content(root), hint=hint)
    names = yolo.read_name_list(lists[0])
    splits: dict[str, tuple[str, ...]] = {}
    for split in ("train", "val"):
        folders = [name for name in yolo.SPLIT_KEYS[split] if (root / "images" / name).is_dir()]
        if folders:
            splits[split] = (f"images/{folders[0]}",)
    splits = splits or {"train": ("images",)}
    dataset = yolo.YoloDataset(lists[0], root, names, tuple(range(len(names))), splits)
    detected = _build_yolo_splits(dataset, split_names)
    ignored = _note_ignored_files(root, _list_json_files(root)[1])
    return DetectedFormat(detected.splits, (*ignored, *detected.notes))


def _build_yolo_splits(dataset: yolo.YoloDataset, split_names: dict[str, str | None]) -> DetectedFormat[BoxSource]:
    splits: dict[str, YoloSource] = {}
    for split, name in split_names.items():
        entries = dataset.splits.get(name or split)
        if entries is None and name is not None:
            entries = (name,)
        if entries is not None:
            splits[split] = YoloSource(dataset, entries)
    if "val" not in splits and "train" in splits:
        return _hold_out(lambda part: YoloSource(dataset, splits["train"].entries, part))
    if not splits:
        hint = "Give image folders as train: and val:."
        raise DataError("names no split", file=dataset.file, value=", ".join(dataset.splits), hint=hint)
    return DetectedFormat(dict(splits))


def _detect_voc(root: Path, split_names: dict[str, str | None]) -> DetectedFormat[BoxSource] | None:
    if not (root / "Annotations").is_dir() or not list_files(root / "Annotations", "*.xml"):
        return None
    image_sets = voc.list_splits(root)
    defaults = ("train", "val") if "train" in image_sets else ("trainval", "test")
    splits: dict[str, VocSource] = {}
    for (split, name), default in zip(split_names.items(), defaults):
        if name is not None and name not in image_sets:
            field, hint = f"data.{split}", did_you_mean(name, image_sets)
            raise DataError("there is no such list in ImageSets/Main", file=root, field=field, value=name, hint=hint)
        if name or default in image_sets:
            splits[split] = VocSource(root, name or default)
    if "val" not in splits:
        image_set = splits["train"].split if "train" in splits else None
        return _hold_out(lambda part: VocSource(root, image_set, part))
    return DetectedFormat(dict(splits))


def _detect_voc_folders(root: Path, split_names: dict[str, str | None]) -> DetectedFormat[BoxSource] | None:
    """Detects XML files beside the images, in the folders of the splits or in one folder, or in labels beside data."""
    splits = {}
    for split, name in split_names.items():
        for word in (name,) if name else SPLIT_NAMES[split]:
            if (folders := _find_voc_folders(root / word)) is not None:
                splits[split] = VocSource(root, None, None, *(os.path.join(word, folder) for folder in folders))
                break
    if "train" not in splits:
        folders = _find_voc_folders(root)
        return None if folders is None else _hold_out(lambda part: VocSource(root, None, part, *folders))
    if "val" not in splits:
        return _hold_out(lambda part: replace(splits["train"], part=part))
    return DetectedFormat(dict(splits))


def _find_voc_folders(folder: Path) -> tuple[str, str] | None:
    """Returns the folders of XML files and images below a folder."""
    for labels, images in VOC_FOLDERS:
        files = list_files(folder / labels, "*.xml") if (folder / images).is_dir() else []
        if files and voc.is_annotation(files[0]):
            return labels, images
    return None


def _detect_coco(root: Path, split_names: dict[str, str | None]) -> DetectedFormat[BoxSource] | None:
    files, others = _list_json_files(root)
    if not files and not any(name and name.endswith(".json") for name in split_names.values()):
        return None
    notes = _note_ignored_files(root, others)
    splits: dict[str, CocoSource] = {}
    for split, name in split_names.items():
        file = _find_named_json(root, files, split, name) if name else _find_split_json(root, files, split, notes)
        if file is not None:
            splits[split] = CocoSource(file, find_image_folder(file))
    if not splits and len(files) == 1:
        return _hold_out(lambda part: CocoSource(files[0], find_image_folder(files[0]), part), tuple(notes))
    if not splits:
        names = ", ".join(str(file.relative_to(root)) for file in files)
        hint = "Give their names as data.train and data.val."
        raise DataError("no file name tells its split", file=root, value=names, hint=hint)
    if "val" not in splits:
        source = splits["train"]
        return _hold_out(lambda part: CocoSource(source.file, source.folder, part), tuple(notes))
    return DetectedFormat(dict(splits), tuple(notes))


def _list_json_files(root: Path) -> tuple[list[Path], list[Path]]:
    """Lists the JSON files of a folder: those of COCO, and others that do not belong to the dataset."""
    patterns = ("annotations/*.json", "*.json", "*/_annotations.coco*.json", *(f"*/{name}.json" for name in SPLIT_JSON))
    paths = {path for pattern in patterns for path in list_files(root, pattern)}
    candidates = sorted(path for path in paths if not path.name.startswith(OTHER_ANNOTATIONS))
    files = [path for path in candidates if coco.is_coco(path)]
    return files, [path for path in candidates if path not in files]


def _note_ignored_files(root: Path, files: list[Path]) -> list[str]:
    names = ", ".join(str(file.relative_to(root)) for file in files)
    return [f"ignored, not part of the dataset: {names}"] if files else []


def _find_split_json(root: Path, files: list[Path], split: str, notes: list[str]) -> Path | None:
    """Finds the JSON whose name or folder name contains the split; `instances_*` takes precedence."""
    matches = [file for file in files if re.search(rf"(?<![a-z]){split}", str(file.relative_to(root)).lower())]
    preferred = [file for file in matches if file.name.startswith("instances_")] or matches
    if not preferred:
        return None
    names = [str(file.relative_to(root)) for file in matches]
    if len(preferred) > 1:
        hint = f"Name one as data.{split}."
        raise DataError(f"several files could be the {split} split", file=root, value=", ".join(names), hint=hint)
    if len(matches) > 1:
        name = str(preferred[0].relative_to(root))
        others = ", ".join(other for other in names if other != name)
        notes.append(f"{split}: {name} is read, not {others}; data.{split} selects another one")
    return preferred[0]


def _find_named_json(root: Path, files: list[Path], split: str, name: str) -> Path:
    for path in (Path(name), root / name, *(root / folder / f"{name}.json" for folder in (".", "annotations"))):
        if path.is_file():
            return path
    matches = [file for file in files if file.name == name]
    if not matches:
        hint = did_you_mean(name, [file.stem for file in files])
        raise DataError("there is no such annotation file", file=root, field=f"data.{split}", value=name, hint=hint)
    return matches[0]


def find_image_folder(file: Path) -> Path:
    """Finds the image folder of a COCO JSON: the nearby folder that holds most of the first images.

    Among folders that hold as many, the one whose name shares most words with that of the JSON is taken.
    """
    base = file.parent.parent if file.parent.name.lower().startswith("annotation") else file.parent
    subfolders = [folder for parent in (base / "images", base) for folder in list_folders(parent)]
    folders = [folder for folder in (base / "images", base, *subfolders) if folder.is_dir()]
    names = coco.list_first_files(file, PROBED_FILES)
    counts = [sum(os.path.isfile(folder / localize_name(name, folder)) for name in names) for folder in folders]
    best = [folder for folder, count in zip(folders, counts) if count == max(counts)]
    return max(best, key=lambda folder: len(_split_words(folder.name) & _split_words(file.stem)))


def _split_words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+|[0-9]+", name.lower()))


def list_content(root: Path) -> str:
    """Summarizes the content of a folder for an error message."""
    entries = sorted(root.iterdir())
    folders = [f"{entry.name}/" for entry in entries if entry.is_dir()]
    suffixes = Counter(entry.suffix.lower() or entry.name for entry in entries if entry.is_file())
    files = [
        f"{count} {'images' if suffix in IMAGE_SUFFIXES else 'files'} {suffix}"
        for suffix, count in suffixes.most_common(5)
    ]
    return ", ".join([*folders[:8], *files]) or "an empty folder"


DETECTORS = (
    *(_detect_yolo_yaml, _detect_voc, _detect_objects, _detect_coco),
    *(_detect_voc_folders, _detect_yolo_folders, _detect_darknet),
)
"""Functions that detect one format each, in order of preference."""
