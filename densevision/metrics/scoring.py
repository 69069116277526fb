"""Prediction files of any tool against truth files: paired by name, read and judged on all cores."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from densevision.errors import DataError, UsageError

if TYPE_CHECKING:
    from densevision.metrics.per_image import PerImageStats

R = TypeVar("R")
OnError = Literal["fail", "skip"]
UNANSWERED, UNLABELED, BROKEN = "images without prediction", "predictions without truth", "broken files"
FORMS = (".kitti", ".depth")
"""Inner endings that say how an image's numbers are written, and are no part of its name."""
AHEAD = 4
"""Pairs that are read before they are asked for."""
_NONE = "Without skipping, the first failure is told."


class Judge(Protocol):
    """What is asked of a metric here; see `tasks.contract.Metric`."""

    protocol: dict[str, Any]

    def update(self, result: Any, truth: Any, id: int | str) -> None: ...

    def merge(self, other: Any) -> None: ...

    def compute(self) -> dict[str, float]: ...

    def counts(self) -> dict[str, int]: ...

    def tables(self) -> dict[str, dict[str, dict[str, float]]]: ...

    def per_image(self) -> PerImageStats: ...


class Scoring:
    """Files that are ready to be judged.

    Args:
        metric: What judges them.
        ids: Names of the images that have both.
        read: Name -> (answer, truth).
        named: What was left out, by kind.
        on_error: "skip" counts and names pairs that cannot be read or compared, "fail" raises the first failure.
        told: Makes the report, where the numbers are to come from elsewhere than from the metric.

    Attributes:
        named: Kind -> names of what the numbers do not rest on.
    """

    def __init__(
        self,
        metric: Judge,
        ids: Sequence[str],
        read: Callable[[str], tuple[Any, Any]],
        named: Mapping[str, Sequence[str]] | None = None,
        on_error: OnError = "fail",
        told: Callable[[], dict[str, Any]] | None = None,
    ):
        self.metric, self.ids, self.read, self.on_error, self.told = metric, list(ids), read, on_error, told
        self.named: dict[str, list[str]] = {kind: list(names) for kind, names in (named or {}).items()}
        self.judged: int | None = None

    def pairs(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, Any, Any]]:
        """Name, answer and truth of all images, or of some; a few are read ahead, while others are judged.

        Raises:
            DataError: A file cannot be read, unless such are skipped.
        """
        waiting: deque[tuple[str, Future]] = deque()
        with ThreadPoolExecutor(max_workers=min(AHEAD, os.cpu_count() or 1)) as pool:
            for id in self.ids if ids is None else ids:
                waiting.append((id, pool.submit(self.read, id)))
                if len(waiting) > AHEAD:
                    yield from self._next(waiting)
            while waiting:
                yield from self._next(waiting)

    def run(self) -> Scoring:
        """Judges all pairs, once; several at a time, each by a metric of its thread's own, which are merged.

        Raises:
            DataError: A pair cannot be read or compared, unless such are skipped; then, all of them.
        """
        if self.judged is None:
            workers = min(AHEAD, os.cpu_count() or 1)
            shards = [copy.deepcopy(self.metric) for _ in range(workers)]
            waiting: deque[str] = deque(self.ids)
            with ThreadPoolExecutor(max_workers=workers) as pool:
                counts = list(pool.map(lambda shard: self._work(waiting, shard), shards))
            for shard in shards:
                self.metric.merge(shard)
            self.judged = sum(counts)
            if self.ids and not self.judged:
                raise DataError("no pair can be read or compared", value=self.ids[:3], hint=_NONE)
            for names in self.named.values():
                names.sort()
        return self

    def _work(self, waiting: deque[str], shard: Judge) -> int:
        """Judges pairs as long as there are any; how many."""
        judged = 0
        while True:
            try:
                id = waiting.popleft()
            except IndexError:
                return judged
            try:
                answer, truth = self.read(id)
                shard.update(answer, truth, id)
                judged += 1
            except DataError as failure:
                if self.on_error == "fail":
                    waiting.clear()
                self._broken(id, failure)

    def report(self) -> dict[str, Any]:
        """metrics, protocol, counts, named and tables."""
        self.run()
        if self.told is not None:
            return self.told()
        metric = self.metric
        counts = {"images": self.judged, **{kind: len(names) for kind, names in self.named.items()}, **metric.counts()}
        return {
            "metrics": metric.compute(),
            "protocol": metric.protocol,
            "counts": counts,
            "named": {kind: names for kind, names in self.named.items() if names},
            "tables": metric.tables(),
        }

    def _next(self, waiting: deque[tuple[str, Future]]) -> Iterator[tuple[str, Any, Any]]:
        id, reading = waiting.popleft()
        try:
            answer, truth = reading.result()
        except DataError as failure:
            self._broken(id, failure)
        else:
            yield id, answer, truth

    def _broken(self, id: str, failure: DataError) -> None:
        if self.on_error == "fail":
            raise failure if failure.file else DataError(str(failure).rstrip("."), file=id) from failure
        names = self.named.setdefault(BROKEN, [])
        names += [] if id in names else [id]


def read_whole(on_error: OnError) -> None:
    """Refuses to skip where the predictions are one file.

    Raises:
        UsageError: `on_error` is "skip".
    """
    if on_error == "skip":
        problem, hint = "has no effect: the predictions are one file, read whole or not at all", "Leave it out."
        raise UsageError(problem, field="on_error", value=on_error, hint=hint)


def score_folders(
    truth: Path,
    predictions: Path,
    suffixes: Iterable[str],
    read: tuple[Callable[[Path], R], Callable[[Path], R]],
    metric: Callable[[Path, Path], Judge],
    on_error: OnError = "fail",
    endings: Sequence[str] = (),
) -> Scoring:
    """Pairs files by their paths below the two folders, whatever their suffixes.

    Args:
        truth: A folder with files below it, or a file.
        predictions: A folder, or a file where the truth is one.
        suffixes: Of the files that count.
        read: Reads a prediction, and reads a truth.
        metric: Makes the judge, from the first prediction and its truth; of those that it can read, where the others
            are skipped.
        on_error: See `Scoring`.
        endings: What a name may add to its image's; a file that has no partner otherwise is called by the rest.

    Raises:
        DataError: There is no such folder, it is empty, two of its files have one name, or no prediction has a truth's.
    """
    suffixes = tuple(suffixes)
    if truth.is_file():
        told, said = {truth.name: truth}, {truth.name: predictions}
    else:
        told, said = (_files(folder, suffixes) for folder in (truth, predictions))
        if not told:
            raise DataError("no file of truth is there", file=truth, hint=f"Known: {', '.join(suffixes)}.")
        told, said = _without_endings(told, said, endings), _without_endings(said, told, endings)
    ids = sorted(told.keys() & said.keys())
    if not ids:
        problem, hint = "no prediction has the name of a truth", "Give each the name of its truth; suffixes may differ."
        raise DataError(problem, file=predictions, value=sorted(said)[:3], hint=f"{hint} Truth is {sorted(told)[:3]}.")
    read_answer, read_truth = read
    named = {UNANSWERED: sorted(told.keys() - said.keys()), UNLABELED: sorted(said.keys() - told.keys())}

    def both(id: str) -> tuple[R, R]:
        return read_answer(said[id]), read_truth(told[id])

    judge = _judge(metric, [(said[id], told[id]) for id in ids], on_error)
    return Scoring(judge, ids, both, named, on_error)


def _judge(metric: Callable[[Path, Path], Judge], pairs: Sequence[tuple[Path, Path]], on_error: OnError) -> Judge:
    for answer, truth in pairs:
        try:
            return metric(answer, truth)
        except DataError:
            if on_error == "fail":
                raise
    raise DataError("no prediction can be read", file=pairs[0][0], hint=_NONE)


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Path below the folder, without suffix -> file."""
    if not folder.is_dir():
        raise DataError("there is no such folder", file=folder, hint="Give two folders, or two files.")
    found: dict[str, Path] = {}
    for root, _, names in os.walk(folder, followlinks=True):
        for name in sorted(names):
            path = Path(root) / name
            if path.suffix.lower() not in suffixes:
                continue
            key = path.relative_to(folder).with_suffix("").as_posix()
            key = next((key.removesuffix(form) for form in FORMS if key.lower().endswith(form)), key)
            _add(found, key, path)
    return found


def _without_endings(files: dict[str, Path], others: dict[str, Path], endings: Sequence[str]) -> dict[str, Path]:
    """The files, those that have no partner without the ending of their name, where no other file has that name."""
    found: dict[str, Path] = {}
    for key, path in files.items():
        shorter = key.removesuffix(next((end for end in endings if key.endswith(end)), ""))
        _add(found, key if key in others or shorter in files else shorter, path)
    return found


def _add(found: dict[str, Path], key: str, path: Path) -> None:
    if key in found:
        hint = "Keep one of them, or put them into folders of their own."
        raise DataError("two files of one name", file=path, value=found[key].name, hint=hint)
    found[key] = path
