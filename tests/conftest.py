"""Where the real data is, and small runs that several tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Two processes test at once (setup.cfg). Threads of torch beside them would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def peak_megabytes() -> Callable[[Path, Path, str], float]:
    """Measures the peak resident memory of a fresh process that answers a file with weights, and uses the `answer`."""

    def measure(source: Path, weights: Path, use: str) -> float:
        program = (
            "import resource, densevision\n"
            f"answer = densevision.predict({str(source)!r}, weights={str(weights)!r}, precision='float32')\n"
            f"{use}\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        return float(answer.stdout.split()[-1])

    return measure


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures with truth; skips where it is absent."""
    base = Path(os.environ.get("DENSEVISION_TEST_DATA", "../shared"))
    base = base if base.is_absolute() else ROOT / base
    if not (base / "data").is_dir():
        pytest.skip(f"no real data at {base}/data: set DENSEVISION_TEST_DATA")
    return base
