"""What glibc keeps of freed memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

START = """
import resource
from densevision.inference.allocator import keep_all_freed_memory, keep_freed_memory

def count_faults(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        b"x" * (megabytes << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""
PREDICTION = START + "print(int(keep_freed_memory()), count_faults(20))"
TRAINING = (
    START
    + """
with keep_all_freed_memory():
    keep_freed_memory()  # as the validation of a training does
    inside = count_faults(100)
print(inside, count_faults(100))
"""
)
PAGES_PER_MB = (1 << 20) // 4096
needs_glibc = pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", ()), reason="the C library is not glibc"
)


def run(program: str, **variables: str) -> list[int]:
    """The numbers that a program prints in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    output = subprocess.check_output([sys.executable, "-c", program], env=environment | variables, text=True)
    return [int(number) for number in output.split()]


@needs_glibc
def test_freed_memory_is_used_again() -> None:
    is_kept, faults = run(PREDICTION)
    assert is_kept and faults < 2 * 20 * PAGES_PER_MB  # the first block alone costs one fault per page


@needs_glibc
def test_training_keeps_large_blocks_and_returns_them_at_its_end() -> None:
    inside, after = run(TRAINING)
    assert inside < 2 * 100 * PAGES_PER_MB < 19 * 100 * PAGES_PER_MB < after


def test_settings_of_the_user_are_kept() -> None:
    is_kept, _ = run(PREDICTION, MALLOC_TRIM_THRESHOLD_="1000000")
    assert not is_kept
