"""Opens COCO files with hotcoco: without its lines on standard error, and with the place of values that it refuses."""

from __future__ import annotations

import codecs
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from densevision.errors import DataError
from densevision.metrics.coco_validation import load_json, validate_predictions, validate_truth

if TYPE_CHECKING:
    from hotcoco import COCO

__all__ = ["load_coco_files", "silence_hotcoco"]

SIDE_HINT = "Write an integer number of pixels, or leave it out."
HINTS = {
    "iscrowd": "Write 0 or 1.",
    "name": "Write a text.",
    "file_name": "Write a text.",
    "height": SIDE_HINT,
    "width": SIDE_HINT,
    "segmentation": "Write polygons, or non-negative run lengths with their size [height, width].",
}
"""Key -> hint; all other keys get hotcoco's own message."""

_stderr_lock = threading.Lock()


def load_coco_files(truth: Path, predictions: Path, iou_type: str) -> tuple[COCO, COCO]:
    """Ground truth, and the predictions loaded against it.

    Args:
        truth: COCO json.
        predictions: COCO results.
        iou_type: What is evaluated; its geometry is checked first if a file is refused.

    Raises:
        DataError: A file is missing or broken, or an entry has a type that hotcoco does not accept.
    """
    from hotcoco import COCO

    objects = _load(COCO, truth, lambda: validate_truth(truth, iou_type))
    results = _load(objects.load_res, predictions, lambda: validate_predictions(predictions, truth, iou_type))
    return objects, results


def _load(read: Callable[[str], COCO], path: Path, validate: Callable[[], object]) -> COCO:
    try:
        with silence_hotcoco(), _strip_byte_order_mark(path) as plain:
            return read(os.fspath(plain))
    except (ValueError, OSError) as failure:
        validate()
        message = str(failure)
    with silence_hotcoco():
        _refuse_value(read, path, message)


@contextmanager
def silence_hotcoco() -> Iterator[None]:
    """Suppresses hotcoco's own lines on standard error, which repeat what errors and reports say.

    hotcoco writes to the file descriptor, so that is redirected; lines of others are passed on afterwards.
    """
    if sys.stderr is None:
        yield
        return
    with _stderr_lock, tempfile.TemporaryFile() as captured:
        sys.stderr.flush()
        original = os.dup(2)
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
            captured.seek(0)
            os.write(2, b"".join(line for line in captured if not line.startswith(b"hotcoco: ")))


@contextmanager
def _strip_byte_order_mark(path: Path) -> Iterator[Path]:
    """The file, or a temporary copy without the byte order mark, which hotcoco does not accept."""
    with open(path, "rb") as stream:
        if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            yield path
            return
        text = stream.read()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(text)
        yield copy


def _refuse_value(read: Callable[[str], COCO], path: Path, message: str) -> NoReturn:
    """Finds the first value that hotcoco does not accept, by reading parts of an otherwise valid file."""
    data = load_json(path)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.json"

        def is_refused(value: Any) -> bool:
            part.write_text(json.dumps(value), encoding="utf-8")
            try:
                read(os.fspath(part))
            except ValueError:
                return True
            return False

        if not is_refused(data):
            raise DataError(message, file=path, hint="Write the file again, each key of an entry once.")
        place, value = _locate_refused(data, is_refused, "")
    hint = HINTS.get(place.rpartition(".")[2], f"hotcoco says: {message.split(' at line ')[0]}.")
    problem = "has a type that COCO does not have"
    raise DataError(problem, file=path, field=place.lstrip("."), value=value, hint=hint)


def _locate_refused(value: Any, is_refused: Callable[[Any], bool], place: str) -> tuple[str, Any]:
    """Place and value of the smallest part of a refused value without which the rest is accepted."""
    if isinstance(value, dict):
        rest = dict(value)
        for key in reversed(value):
            del rest[key]
            if not is_refused(rest):

                def is_part_refused(part: Any, key: str = key) -> bool:
                    return is_refused({**rest, key: part})

                return _locate_refused(value[key], is_part_refused, f"{place}.{key}")
    elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        low, high = 0, len(value)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if is_refused(value[low:middle]) else (middle, high)
        return _locate_refused(value[low], lambda part: is_refused([part]), f"{place}[{low}]")
    return place, value
