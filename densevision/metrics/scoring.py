"""Scoring of prediction files of any tool: files are paired by name, then read and evaluated on all cores."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from densevision.errors import DataError, UsageError
from densevision.metrics.metric import Metric

__all__ = [
    "BROKEN_FILES",
    "MISSING_PREDICTIONS",
    "UNLABELED",
    "OnError",
    "Scoring",
    "drop_drawings",
    "refuse_skip",
    "score_folders",
]

R = TypeVar("R")
OnError = Literal["fail", "skip"]
MISSING_PREDICTIONS, UNLABELED = "images without prediction", "predictions without truth"
BROKEN_FILES = "broken files"
FORMAT_ENDINGS = (".kitti", ".depth", ".labels")
"""Inner endings of file names that state the number format and are not part of the image's name."""
PREFETCH = 4
"""Pairs that are read ahead."""
_SKIP_HINT = "Run without skipping to see the first failure."


class Scoring:
    """Paired files that are ready to be evaluated.

    Args:
        metric: Accumulates the numbers.
        ids: Names of the images that have both files.
        read: Name -> (prediction, ground truth).
        named: Names of images or files that are left out, by kind.
        on_error: "skip" counts and lists pairs that cannot be read or compared, "fail" raises the first failure.
        make_report: Computes the report, if the numbers come from elsewhere than from the metric.

    Attributes:
        named: Kind -> names of what the numbers leave out.
        scored: Number of evaluated pairs, once `run` was called.
    """

    def __init__(
        self,
        metric: Metric,
        ids: Sequence[str],
        read: Callable[[str], tuple[Any, Any]],
        named: Mapping[str, Sequence[str]] | None = None,
        on_error: OnError = "fail",
        make_report: Callable[[], dict[str, Any]] | None = None,
    ):
        self.metric, self.ids, self.read, self.on_error = metric, list(ids), read, on_error
        self.make_report = make_report
        self.named: dict[str, list[str]] = {kind: list(names) for kind, names in (named or {}).items()}
        self.scored: int | None = None

    def pairs(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, Any, Any]]:
        """Name, prediction and ground truth of all images, or of some; a few are read ahead.

        Raises:
            DataError: A file cannot be read, unless such pairs are skipped.
        """
        queue: deque[tuple[str, Future]] = deque()
        with ThreadPoolExecutor(max_workers=min(PREFETCH, os.cpu_count() or 1)) as pool:
            for image_id in self.ids if ids is None else ids:
                queue.append((image_id, pool.submit(self.read, image_id)))
                if len(queue) > PREFETCH:
                    yield from self._pop_pair(queue)
            while queue:
                yield from self._pop_pair(queue)

    def run(self) -> Scoring:
        """Evaluates all pairs, once; threads have metrics of their own, which are merged.

        Raises:
            DataError: A pair cannot be read or compared, unless such pairs are skipped; then, no pair can.
        """
        if self.scored is None:
            workers = min(PREFETCH, os.cpu_count() or 1)
            shards = [copy.deepcopy(self.metric) for _ in range(workers)]
            queue: deque[str] = deque(self.ids)
            with ThreadPoolExecutor(max_workers=workers) as pool:
                counts = list(pool.map(lambda shard: self._score_queue(queue, shard), shards))
            for shard in shards:
                self.metric.merge(shard)
            self.scored = sum(counts)
            if self.ids and not self.scored:
                raise DataError("no pair can be read or compared", value=self.ids[:3], hint=_SKIP_HINT)
            for names in self.named.values():
                names.sort()
        return self

    def report(self) -> dict[str, Any]:
        """metrics, protocol, counts, named and tables."""
        self.run()
        if self.make_report is not None:
            return self.make_report()
        left_out = {kind: len(names) for kind, names in self.named.items()}
        return {
            "metrics": self.metric.compute(),
            "protocol": self.metric.protocol,
            "counts": {"images": self.scored, **left_out, **self.metric.counts()},
            "named": {kind: names for kind, names in self.named.items() if names},
            "tables": self.metric.tables(),
        }

    def _score_queue(self, queue: deque[str], shard: Metric) -> int:
        """Evaluates pairs until the queue is empty; the number of pairs."""
        scored = 0
        while True:
            try:
                image_id = queue.popleft()
            except IndexError:
                return scored
            try:
                prediction, truth = self.read(image_id)
                shard.update(prediction, truth, image_id)
                scored += 1
            except DataError as failure:
                if self.on_error == "fail":
                    queue.clear()
                self._handle_failure(image_id, failure)

    def _pop_pair(self, queue: deque[tuple[str, Future]]) -> Iterator[tuple[str, Any, Any]]:
        image_id, reading = queue.popleft()
        try:
            prediction, truth = reading.result()
        except DataError as failure:
            self._handle_failure(image_id, failure)
        else:
            yield image_id, prediction, truth

    def _handle_failure(self, image_id: str, failure: DataError) -> None:
        if self.on_error == "fail":
            raise failure if failure.file else DataError(str(failure).rstrip("."), file=image_id) from failure
        names = self.named.setdefault(BROKEN_FILES, [])
        names += [] if image_id in names else [image_id]


def refuse_skip(on_error: OnError) -> None:
    """Refuses to skip if the predictions are one file.

    Raises:
        UsageError: `on_error` is "skip".
    """
    if on_error == "skip":
        problem, hint = "has no effect: the predictions are one file, and all of it is read", "Leave it out."
        raise UsageError(problem, field="on_error", value=on_error, hint=hint)


def score_folders(
    truth: Path,
    predictions: Path,
    suffixes: Iterable[str],
    read: tuple[Callable[[Path], R], Callable[[Path], R]],
    metric: Callable[[Path, Path], Metric],
    on_error: OnError = "fail",
    endings: Sequence[str] = (),
) -> Scoring:
    """Pairs files by their paths below the two folders, apart from their suffixes.

    Args:
        truth: A folder with files below it, or a file.
        predictions: A folder, or a file if the ground truth is one.
        suffixes: Suffixes of the files that count.
        read: Reads a prediction, and reads a ground truth.
        metric: Creates the metric from the first prediction and its ground truth; from the first readable ones if
            others are skipped.
        on_error: See `Scoring`.
        endings: Endings that file names may add to their image's name; they are removed from the names of files that
            otherwise have no partner.

    Raises:
        DataError: A folder is missing or empty, two of its files have one name, or no prediction has a ground truth.
    """
    suffixes = tuple(suffixes)
    if truth.is_file():
        truth_files, prediction_files = {truth.name: truth}, {truth.name: predictions}
    else:
        truth_files, prediction_files = (_list_files(folder, suffixes) for folder in (truth, predictions))
        if not truth_files:
            raise DataError("no ground truth file in this folder", file=truth, hint=f"Known: {', '.join(suffixes)}.")
        truth_files = _strip_endings(truth_files, prediction_files, endings)
        prediction_files = _strip_endings(prediction_files, truth_files, endings)
    ids = sorted(truth_files.keys() & prediction_files.keys())
    if not ids:
        problem = "no prediction has the name of a ground truth"
        hint = f"Name each like its ground truth; suffixes may differ. Ground truth is {sorted(truth_files)[:3]}."
        raise DataError(problem, file=predictions, value=sorted(prediction_files)[:3], hint=hint)
    read_prediction, read_truth = read
    named = {
        MISSING_PREDICTIONS: sorted(truth_files.keys() - prediction_files.keys()),
        UNLABELED: sorted(prediction_files.keys() - truth_files.keys()),
    }

    def read_pair(image_id: str) -> tuple[R, R]:
        return read_prediction(prediction_files[image_id]), read_truth(truth_files[image_id])

    pairs = [(prediction_files[image_id], truth_files[image_id]) for image_id in ids]
    return Scoring(_create_metric(metric, pairs, on_error), ids, read_pair, named, on_error)


def _create_metric(
    metric: Callable[[Path, Path], Metric], pairs: Sequence[tuple[Path, Path]], on_error: OnError
) -> Metric:
    for prediction, truth in pairs:
        try:
            return metric(prediction, truth)
        except DataError:
            if on_error == "fail":
                raise
    raise DataError("no prediction can be read", file=pairs[0][0], hint=_SKIP_HINT)


def _list_files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Path below the folder, without suffix -> file."""
    if not folder.is_dir():
        raise DataError("there is no such folder", file=folder, hint="Give two folders, or two files.")
    files: dict[str, Path] = {}
    for root, _, names in os.walk(folder, followlinks=True):
        for name in drop_drawings(name for name in sorted(names) if Path(name).suffix.lower() in suffixes):
            path = Path(root) / name
            key = path.relative_to(folder).with_suffix("").as_posix()
            key = next((key.removesuffix(end) for end in FORMAT_ENDINGS if key.lower().endswith(end)), key)
            _add_file(files, key, path)
    return files


def drop_drawings(files: Iterable[str]) -> list[str]:
    """The files without drawings: those beside which another file of the same name states its number format.

    >>> drop_drawings(["a.labels.png", "a.png", "b.png"])
    ['a.labels.png', 'b.png']
    """
    stems = {file: os.path.splitext(file)[0] for file in files}
    is_stated = {file: stem.lower().endswith(FORMAT_ENDINGS) for file, stem in stems.items()}
    stated = {os.path.splitext(stem)[0] for file, stem in stems.items() if is_stated[file]}
    return [file for file, stem in stems.items() if is_stated[file] or stem not in stated]


def _strip_endings(files: dict[str, Path], others: dict[str, Path], endings: Sequence[str]) -> dict[str, Path]:
    """The files; those without a partner lose the ending of their name, unless another file has that name."""
    renamed: dict[str, Path] = {}
    for key, path in files.items():
        shorter = key.removesuffix(next((end for end in endings if key.endswith(end)), ""))
        _add_file(renamed, key if key in others or shorter in files else shorter, path)
    return renamed


def _add_file(files: dict[str, Path], key: str, path: Path) -> None:
    if key in files:
        hint = "Keep one of them, or put them into different folders."
        raise DataError("two files of one name", file=path, value=files[key].name, hint=hint)
    files[key] = path
