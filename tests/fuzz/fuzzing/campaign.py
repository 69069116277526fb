"""Many mutations of one reader in a process of its own, with limits on memory and time."""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing import READERS
from fuzzing.reader import Reader, prepare, run_trial

MAX_GROWTH = 1 << 30
"""Bytes by which the peak of resident memory may grow while one mutation is read."""
ADDRESS_SPACE = 4 << 30
"""Bytes of address space beyond those of the start: an allocation that is never touched also fails."""
MAX_SILENCE = 60.0
"""Seconds of one mutation after which the process is killed."""
MEMORY, CRASHED, HUNG = "memory", "crashed", "hung"
KEPT_FAULTS = 20


@dataclass
class Result:
    """Counts of outcomes, and the first faults as (index, outcome, detail)."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    peak_megabytes: float = 0.0

    def add(self, index: int, outcome: str, detail: str, is_fault: bool) -> None:
        self.counts[outcome] += 1
        if is_fault and len(self.faults) < KEPT_FAULTS:
            self.faults.append((index, outcome, detail))


def run_campaign(name: str, count: int, seed: int) -> Result:
    """Runs mutations 0 to `count` of a reader; a process that dies or hangs is replaced by another."""
    context, result, start = multiprocessing.get_context("fork"), Result(), 0
    while start < count:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(name, start, count, seed, sender))
        process.start()
        sender.close()
        start = _collect(receiver, process, result, start)
        process.join()
    return result


def _collect(receiver: Any, process: Any, result: Result, start: int) -> int:
    """Takes outcomes until the process ends; returns the mutation to continue with."""
    while True:
        try:
            if not receiver.poll(MAX_SILENCE):
                process.kill()
                result.add(start, HUNG, f"more than {MAX_SILENCE:.0f} s", True)
                return start + 1
            outcome, detail, is_fault, peak = receiver.recv()
        except EOFError:
            process.join()
            if process.exitcode == 1:
                raise RuntimeError("the worker failed outside of a mutation: see its traceback above") from None
            if process.exitcode:
                result.add(start, CRASHED, f"exit code {process.exitcode}", True)
                return start + 1
            return start
        result.add(start, outcome, detail, is_fault)
        result.peak_megabytes = max(result.peak_megabytes, peak / 2**20)
        start += 1


def _work(name: str, start: int, count: int, seed: int, sender: Any) -> None:
    """Sends (outcome, detail, is_fault, growth of the peak) per mutation; ends early after too much memory."""
    reader = READERS[name]
    # In memory where the system can: some file systems write to the disk whenever a file is replaced.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as temporary:
        folder = Path(temporary)
        prepare(reader, folder)
        _warm_up(reader, folder)
        _limit_address_space()
        baseline = _get_peak()
        # Decoders in C write warnings to the standard error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for index in range(start, count):
            verdict = run_trial(reader, folder, index, seed)
            growth = _get_peak() - baseline
            if growth > MAX_GROWTH:
                sender.send((MEMORY, f"{growth >> 20} MiB", True, growth))
                return
            sender.send((verdict.outcome, verdict.detail, verdict.is_fault, growth))


def _warm_up(reader: Reader, folder: Path) -> None:
    """Reads the valid files, so that imports count neither as time nor as memory."""
    import random

    for name in reader.seeds:
        for seed in range(5):
            reader.read(folder / name, random.Random(seed))


def _limit_address_space() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE, hard))


def _get_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
