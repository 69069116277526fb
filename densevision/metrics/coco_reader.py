"""Opens COCO files by hotcoco: without its lines on standard error, and naming the place of what it does not take."""

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
from densevision.metrics.coco_faults import examine_predictions, examine_truth, parsed

if TYPE_CHECKING:
    from hotcoco import COCO

SIDE = "Write a whole number of pixels, or leave it out."
FORMS = {
    "iscrowd": "Write 0 or 1.",
    "name": "Write a text.",
    "file_name": "Write a text.",
    "height": SIDE,
    "width": SIDE,
    "segmentation": "Write polygons, or run lengths from 0 on with their size [height, width].",
}
"""Key -> what to write there; for all others the reader's own words are told."""

_one_at_a_time = threading.Lock()


def open_files(truth: Path, predictions: Path, iou_type: str) -> tuple[COCO, COCO]:
    """Truth, and the predictions loaded against it.

    Args:
        truth: COCO json.
        predictions: COCO results.
        iou_type: What is judged, and looked at first where a file is refused.

    Raises:
        DataError: A file is missing or broken, or an entry is of a form that hotcoco does not take.
    """
    from hotcoco import COCO

    objects = _opened(COCO, truth, lambda: examine_truth(truth, iou_type))
    return objects, _opened(objects.load_res, predictions, lambda: examine_predictions(predictions, truth, iou_type))


def _opened(read: Callable[[str], COCO], path: Path, examine: Callable[[], object]) -> COCO:
    try:
        with silenced(), _without_mark(path) as plain:
            return read(os.fspath(plain))
    except (ValueError, OSError) as failure:
        examine()
        words = str(failure)
    with silenced():
        _refuse_form(read, path, words)


@contextmanager
def silenced() -> Iterator[None]:
    """Holds back hotcoco's own lines on standard error, which tell what a refusal or the report tells.

    They are written past Python, so the descriptor is turned aside; what others write meanwhile is passed on after.
    """
    if sys.stderr is None:
        yield
        return
    with _one_at_a_time, tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not line.startswith(b"hotcoco: ")))


@contextmanager
def _without_mark(path: Path) -> Iterator[Path]:
    """The file, or a copy of it without the mark of byte order, which hotcoco does not read."""
    with open(path, "rb") as stream:
        if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            yield path
            return
        text = stream.read()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(text)
        yield copy


def _refuse_form(read: Callable[[str], COCO], path: Path, words: str) -> NoReturn:
    """Names the first value that the reader does not take, by reading parts of a file that is sound otherwise."""
    data = parsed(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "part.json"

        def refused(value: Any) -> bool:
            copy.write_text(json.dumps(value), encoding="utf-8")
            try:
                read(os.fspath(copy))
            except ValueError:
                return True
            return False

        if not refused(data):
            raise DataError(words, file=path, hint="Write the file again, each key of an entry once.")
        place, value = _first_refused(data, refused, "")
    hint = FORMS.get(place.rpartition(".")[2], f"hotcoco says: {words.split(' at line ')[0]}.")
    problem = "of a form that COCO does not have"
    raise DataError(problem, file=path, field=place.lstrip("."), value=value, hint=hint)


def _first_refused(value: Any, refused: Callable[[Any], bool], place: str) -> tuple[str, Any]:
    """Place and value of what spoils a value that is refused: the key without which it is taken, or the entry."""
    if isinstance(value, dict):
        rest = dict(value)
        for key in reversed(value):
            del rest[key]
            if not refused(rest):
                return _first_refused(value[key], lambda part, at=key: refused({**rest, at: part}), f"{place}.{key}")
    elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        low, high = 0, len(value)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if refused(value[low:middle]) else (middle, high)
        return _first_refused(value[low], lambda part: refused([part]), f"{place}[{low}]")
    return place, value
