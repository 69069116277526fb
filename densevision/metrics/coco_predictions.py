"""Answers that `predict` saved, a .json for each image, as one list of COCO results."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from densevision.errors import DataError, did_you_mean
from densevision.metrics.coco_faults import GEOMETRY, examine_truth
from densevision.metrics.coco_files import class_name, image_name
from densevision.metrics.scoring import UNLABELED

if TYPE_CHECKING:
    from densevision.results import Detections

NEEDED = ("size", "boxes", "scores", "labels", "names")
"""What each answer must hold; masks and keypoints may be there."""


@contextmanager
def as_results(predictions: Path, truth: Path) -> Iterator[tuple[Path, list[str]]]:
    """Gives a file of COCO results: the predictions as they are, or a temporary one made of a folder of answers.

    An answer belongs to the image of the truth whose `file_name` is its path below the folder, suffixes aside; or to
    the one whose name, with as many of the folders before it as are the same, is its own and no other image's.
    Classes are told by their names; those that share one, by their ids.

    Args:
        predictions: COCO results, or a folder of answers.
        truth: COCO json.

    Yields:
        The file, and the names of answers whose images are not in the truth and that it leaves out.

    Raises:
        DataError: No answer belongs to an image, two belong to the same, one may belong to two, is broken, or names an
            unknown class.
    """
    if not predictions.is_dir():
        yield predictions, []
        return
    files = sorted(predictions.rglob("*.json"))
    if not files:
        hint = "Give COCO results, or the folder of `predict --save json`."
        raise DataError("no .json is in this folder", file=predictions, hint=hint)
    known = examine_truth(truth)
    ids: dict[str, list[int]] = defaultdict(list)
    for id, entry in known.categories.items():
        ids[class_name(entry)].append(id)
    belongs = _Images(known.images)
    entries: list[dict[str, Any]] = []
    answered: dict[int, Path] = {}
    strangers = []
    for file in files:
        place = file.relative_to(predictions).with_suffix("").as_posix()
        image = belongs.get(place, file)
        if image is None:
            strangers.append(place)
            continue
        if image in answered:
            raise DataError("a second answer to one image", file=file, value=answered[image].name, hint="Keep one.")
        answered[image] = file
        entries += _read(file, ids).to_coco(image)
    if not answered:
        problem, hint = "no answer has the name of an image of the truth", "Give the truth of these images."
        raise DataError(problem, file=predictions, value=strangers[:3], hint=hint)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        results.write_text(json.dumps(entries), encoding="utf-8")
        yield results, strangers


def without_other_areas(results: Path, kind: str) -> Path:
    """The results, written beside themselves without what pycocotools would take the area of a prediction of.

    By it small, medium and large are told apart. Where an entry has a box, pycocotools takes the box's, also of masks;
    `evaluate` takes that of what is judged.

    Args:
        results: COCO results in a folder that may be written to.
        kind: "bbox", "segm" or "keypoints".
    """
    others = list(GEOMETRY.values())[: list(GEOMETRY).index(kind)]
    if not others:
        return results
    entries = [{k: v for k, v in entry.items() if k not in others} for entry in json.loads(results.read_bytes())]
    path = results.with_name(f"{kind}.json")
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def with_strangers(report: dict[str, Any], strangers: list[str]) -> dict[str, Any]:
    """The report of a score that also counts and names the answers which no truth judges."""
    if not strangers:
        return report
    counts, named = report["counts"] | {UNLABELED: len(strangers)}, report["named"] | {UNLABELED: strangers}
    return report | {"counts": counts, "named": named}


class _Images:
    """Finds images by their path or, where that is enough, by the end of it."""

    def __init__(self, images: dict[int, dict[str, Any]]):
        self.by_path: dict[str, list[int]] = defaultdict(list)
        self.by_end: dict[str, list[int]] = defaultdict(list)
        for id, entry in images.items():
            path = PurePosixPath(image_name(entry)).with_suffix("").as_posix()
            self.by_path[path].append(id)
            for end in _ends(path):
                self.by_end[end].append(id)

    def get(self, place: str, file: Path) -> int | None:
        """The id of the image that a place below the folder of answers means.

        Raises:
            DataError: Two images differ by their suffixes alone.
        """
        for end in _ends(place):
            found = self.by_path.get(end) or self.by_end.get(end, [])
            if len(found) == 1:
                return found[0]
            if len(self.by_path.get(end, [])) > 1:
                hint = "Name the images apart, or give a file of COCO results."
                raise DataError("several images of the truth have this name", file=file, value=end, hint=hint)
            if found:
                return None
        return None


def _ids(values: dict[str, Any], ids: dict[str, list[int]], file: Path) -> tuple[int, ...]:
    """The truth's id of each class that an answer names."""
    own, found = values.get("ids") or [None] * len(values["names"]), []
    for name, id in zip(values["names"], own):
        if name not in ids:
            hint = did_you_mean(name, ids)
            raise DataError("no such class in the truth", file=file, field="names", value=name, hint=hint)
        if len(ids[name]) > 1 and id not in ids[name]:
            hint = f"Their ids are {ids[name]}: write the right one into ids."
            raise DataError(
                "several classes of the truth have this name", file=file, field="names", value=name, hint=hint
            )
        found.append(id if len(ids[name]) > 1 else ids[name][0])
    return tuple(found)


def _ends(path: str) -> list[str]:
    """A path, and what is left of it without its first folders, down to the name.

    >>> _ends("val/a/1")
    ['val/a/1', 'a/1', '1']
    """
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _read(file: Path, ids: dict[str, list[int]]) -> Detections:
    """An answer whose category ids are those of the truth."""
    import numpy as np

    from densevision.results import (
        Detections,
        Instances,
    )

    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError) as failure:
        raise DataError(f"cannot be read: {failure}", file=file, hint="Predict again.") from None
    absent = NEEDED if not isinstance(values, dict) else [name for name in NEEDED if name not in values]
    if absent:
        hint = "Give the folder of `predict --save json`, or a file of COCO results."
        raise DataError("is no answer of predict: a part is absent", file=file, field=absent[0], hint=hint)
    record: dict[str, Any] = {
        "boxes": np.array(values["boxes"], np.float32).reshape(-1, 4),
        "scores": np.array(values["scores"], np.float32),
        "labels": np.array(values["labels"], np.int64),
        "names": tuple(values["names"]),
        "ids": _ids(values, ids, file),
        "size": tuple(values["size"]),
    }
    if "masks" in values:
        record["masks"] = tuple(values["masks"])
    if "keypoints" in values:
        keypoint_names = len(values["keypoints"][0]) if values["keypoints"] else 0
        record["keypoints"] = np.array(values["keypoints"], np.float32).reshape(len(record["boxes"]), keypoint_names, 3)
    return Instances(**record) if {"masks", "keypoints"} & values.keys() else Detections(**record)
