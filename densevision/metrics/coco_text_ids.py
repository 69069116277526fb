"""Copies of COCO files whose image ids are text, which pycocotools takes and hotcoco does not, with numbers instead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from densevision.errors import DataError
from densevision.metrics.coco_validation import load_json

__all__ = ["number_text_ids"]

UNUSED_KEYS = ("info", "licenses")
"""Keys of a ground truth file that no metric uses, whatever they hold."""


@contextmanager
def number_text_ids(truth: Path, predictions: Path) -> Iterator[tuple[Path, Path] | None]:
    """Yields copies of both files with numbers for text image ids, and without `info` and `licenses`.

    Numbers are in the order of the images. Ids of predictions that the ground truth does not list stay, to be refused.

    Yields:
        The copies; None if the files need no copy.
    """
    try:
        objects, results = load_json(truth), load_json(predictions)
    except DataError:
        yield None
        return
    images = objects.get("images") if isinstance(objects, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        yield None
        return
    ids = [image.get("id") for image in images]
    has_text_ids = bool(ids) and all(isinstance(image_id, str) for image_id in ids) and len(set(ids)) == len(ids)
    is_odd = any(objects.get(key) is not None for key in UNUSED_KEYS)
    if not has_text_ids and not is_odd:
        yield None
        return
    if has_text_ids:
        numbers = {image_id: number for number, image_id in enumerate(ids, 1)}
        objects["images"] = [image | {"id": numbers[image["id"]]} for image in images]
        objects["annotations"] = _number(objects.get("annotations"), numbers)
        results = _number(results, numbers)
    with TemporaryDirectory() as folder:
        copies = Path(folder, "truth", truth.name), Path(folder, "predictions", predictions.name)
        plain = {key: value for key, value in objects.items() if key not in UNUSED_KEYS}
        for copy, content in zip(copies, (plain, results)):
            copy.parent.mkdir()
            copy.write_text(json.dumps(content), encoding="utf-8")
        yield copies


def _number(entries: Any, numbers: dict[Any, int]) -> Any:
    if not isinstance(entries, list):
        return entries
    return [
        entry | {"image_id": numbers[entry["image_id"]]}
        if isinstance(entry, dict) and isinstance(entry.get("image_id"), str) and entry["image_id"] in numbers
        else entry
        for entry in entries
    ]
