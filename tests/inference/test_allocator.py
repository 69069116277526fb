"""What glibc keeps of freed memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from densevision.inference.allocator import keep_freed_memory

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(20 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(keep_freed_memory(), count_faults())
"""
PAGES = (20 << 20) // 4096


def run(**variables: str) -> tuple[bool, int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    output = subprocess.check_output([sys.executable, "-c", PROGRAM], env=environment | variables, text=True)
    is_kept, faults = output.split()
    return is_kept == "True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is the C library of most Linux systems")
def test_freed_memory_is_used_again() -> None:
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        pytest.skip("another C library")
    is_kept, faults = run()
    assert is_kept and faults < 2 * PAGES  # the first block alone costs one fault per page


def test_settings_of_the_user_are_kept() -> None:
    assert not run(MALLOC_TRIM_THRESHOLD_="1000000")[0]
