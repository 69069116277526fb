"""Prediction folders of `predict --save json`, one file per image, as one list of COCO results."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from densevision.errors import DataError, did_you_mean
from densevision.metrics.coco_files import get_class_name, get_image_name
from densevision.metrics.coco_validation import GEOMETRY, validate_truth
from densevision.metrics.scoring import UNLABELED

if TYPE_CHECKING:
    from densevision.results import Detections

__all__ = ["add_unlabeled", "open_coco_results", "strip_other_geometry"]

REQUIRED_FIELDS = ("size", "boxes", "scores", "labels", "names")
"""What each prediction file must hold; masks and keypoints are optional."""


@contextmanager
def open_coco_results(predictions: Path, truth: Path) -> Iterator[tuple[Path, list[str]]]:
    """Provides a file of COCO results: the given one, or a temporary one made of a folder of predictions.

    A prediction belongs to the image whose `file_name` is its path below the folder, apart from suffixes; otherwise to
    the only image that shares its name and as many parent folders as match. Classes are identified by name; those that
    share one, by id.

    Args:
        predictions: COCO results, or a folder of predictions.
        truth: COCO json.

    Yields:
        The file, and the names of predictions whose images are not in the ground truth and that it leaves out.

    Raises:
        DataError: No prediction belongs to an image, two belong to the same, one may belong to two, is broken, or has
            an unknown class.
    """
    if not predictions.is_dir():
        yield predictions, []
        return
    files = sorted(predictions.rglob("*.json"))
    if not files:
        hint = "Give COCO results, or the folder of `predict --save json`."
        raise DataError("no .json in this folder", file=predictions, hint=hint)
    index = validate_truth(truth)
    category_ids: dict[str, list[int]] = defaultdict(list)
    for category_id, entry in index.categories.items():
        category_ids[get_class_name(entry)].append(category_id)
    finder = _ImageFinder(index.images)
    entries: list[dict[str, Any]] = []
    file_by_image: dict[int, Path] = {}
    unlabeled = []
    for file in files:
        name = file.relative_to(predictions).with_suffix("").as_posix()
        image_id = finder.find(name, file)
        if image_id is None:
            unlabeled.append(name)
            continue
        if image_id in file_by_image:
            problem, hint = "a second prediction for one image", "Keep one."
            raise DataError(problem, file=file, value=file_by_image[image_id].name, hint=hint)
        file_by_image[image_id] = file
        entries += _read_prediction(file, category_ids).to_coco(image_id)
    if not file_by_image:
        problem, hint = "no prediction has the name of an image", "Give the ground truth of these images."
        raise DataError(problem, file=predictions, value=unlabeled[:3], hint=hint)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        results.write_text(json.dumps(entries), encoding="utf-8")
        yield results, unlabeled


def strip_other_geometry(results: Path, iou_type: str) -> Path:
    """Writes the results beside themselves without the geometry from which pycocotools would derive other areas.

    The area of a prediction decides between small, medium and large. pycocotools uses the area of the box if there is
    one, also for masks; `evaluate` uses that of the evaluated geometry.

    Args:
        results: COCO results in a writable folder.
        iou_type: "bbox", "segm" or "keypoints".
    """
    others = list(GEOMETRY.values())[: list(GEOMETRY).index(iou_type)]
    if not others:
        return results
    entries = [{k: v for k, v in entry.items() if k not in others} for entry in json.loads(results.read_bytes())]
    path = results.with_name(f"{iou_type}.json")
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def add_unlabeled(report: dict[str, Any], unlabeled: list[str]) -> dict[str, Any]:
    """A score report that also counts and lists the predictions without ground truth."""
    if not unlabeled:
        return report
    counts, named = report["counts"] | {UNLABELED: len(unlabeled)}, report["named"] | {UNLABELED: unlabeled}
    return report | {"counts": counts, "named": named}


class _ImageFinder:
    """Finds images by their path or, if that is unambiguous, by the end of it."""

    def __init__(self, images: dict[int, dict[str, Any]]):
        self.by_path: dict[str, list[int]] = defaultdict(list)
        self.by_end: dict[str, list[int]] = defaultdict(list)
        for image_id, entry in images.items():
            path = PurePosixPath(get_image_name(entry)).with_suffix("").as_posix()
            self.by_path[path].append(image_id)
            for end in _list_path_ends(path):
                self.by_end[end].append(image_id)

    def find(self, name: str, file: Path) -> int | None:
        """The id of the image of a prediction; None if there is none, or several are possible.

        Args:
            name: The prediction's path below the folder, without suffix.
            file: For messages.

        Raises:
            DataError: Several images differ only in their suffixes.
        """
        for end in _list_path_ends(name):
            candidates = self.by_path.get(end) or self.by_end.get(end, [])
            if len(candidates) == 1:
                return candidates[0]
            if len(self.by_path.get(end, [])) > 1:
                problem = "several images of the ground truth have this name"
                hint = "Give them distinct names, or give a file of COCO results."
                raise DataError(problem, file=file, value=end, hint=hint)
            if candidates:
                return None
        return None


def _map_category_ids(values: dict[str, Any], category_ids: dict[str, list[int]], file: Path) -> tuple[int, ...]:
    """The ground truth's id of each class that a prediction names."""
    mapped = []
    for name, own_id in zip(values["names"], values.get("category_ids") or [None] * len(values["names"])):
        if name not in category_ids:
            problem, hint = "no such class in the ground truth", did_you_mean(name, category_ids)
            raise DataError(problem, file=file, field="names", value=name, hint=hint)
        candidates = category_ids[name]
        if len(candidates) > 1 and own_id not in candidates:
            problem = "several classes of the ground truth have this name"
            hint = f"Their ids are {candidates}: write the right one into ids."
            raise DataError(problem, file=file, field="names", value=name, hint=hint)
        mapped.append(own_id if len(candidates) > 1 else candidates[0])
    return tuple(mapped)


def _list_path_ends(path: str) -> list[str]:
    """A path, and what remains of it without its first folders, down to the name.

    >>> _list_path_ends("val/a/1")
    ['val/a/1', 'a/1', '1']
    """
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _read_prediction(file: Path, category_ids: dict[str, list[int]]) -> Detections:
    """A prediction whose category ids are those of the ground truth."""
    import numpy as np

    from densevision.results import Detections, Instances

    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as failure:
        raise DataError(f"cannot be read: {failure}", file=file, hint="Predict again.") from None
    missing = [name for name in REQUIRED_FIELDS if not isinstance(values, dict) or name not in values]
    if missing:
        problem, hint = "is not an output of predict", "Give the folder of `predict --save json`, or COCO results."
        raise DataError(f"{problem}: a field is absent", file=file, field=missing[0], hint=hint)
    boxes = np.array(values["boxes"], np.float32).reshape(-1, 4)
    record: dict[str, Any] = {
        "boxes": boxes,
        "scores": np.array(values["scores"], np.float32),
        "labels": np.array(values["labels"], np.int64),
        "names": tuple(values["names"]),
        "category_ids": _map_category_ids(values, category_ids, file),
        "size": tuple(values["size"]),
    }
    if "track_ids" in values:
        record["track_ids"] = np.array(values["track_ids"], np.int64)
    if "masks" in values:
        record["masks"] = tuple(values["masks"])
    if "keypoints" in values:
        count = len(values["keypoints"][0]) if values["keypoints"] else 0
        record["keypoints"] = np.array(values["keypoints"], np.float32).reshape(len(boxes), count, 3)
    return Instances(**record) if {"masks", "keypoints"} & values.keys() else Detections(**record)
