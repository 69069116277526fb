"""Mutated files of every format: an error of this package or content, as the reference decoder says.

`python tools/fuzz.py` runs many more, with limits on memory; docs/results/fuzz.json holds its counts.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzzing import READERS
from fuzzing.reader import Reader, Verdict, prepare, run_trial

MUTATIONS = 50
SEED = 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_reader__intact_files_are_read_and_mutations_do_no_harm(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    prepare(reader, tmp_path)
    for file in reader.seeds:
        for seed in range(4):
            reader.read(tmp_path / file, random.Random(seed))
        assert reader.refuses is None or not reader.refuses(tmp_path / file)
    verdicts = [run_trial(reader, tmp_path, index, SEED) for index in range(MUTATIONS)]
    assert [(index, verdict) for index, verdict in enumerate(verdicts) if verdict.is_fault] == []


def fail(path: Path, rng: random.Random) -> tuple[str, ...]:
    raise KeyError("planted")


@pytest.mark.parametrize(
    ("read", "refuses", "outcome"),
    [
        (fail, None, "wrong error"),
        (lambda path, rng: (), lambda path: True, "accepted"),
        (lambda path, rng: ("1 entry is skipped",), lambda path: True, "read"),
    ],
)
def test_run_trial__planted_faults(read, refuses, outcome: str, tmp_path: Path) -> None:
    reader = Reader("planted", {"a.txt": b"content"}, read, refuses=refuses)
    verdict = run_trial(reader, tmp_path, 0, SEED)
    assert isinstance(verdict, Verdict) and verdict.outcome == outcome
    assert verdict.is_fault == (outcome != "read")
