"""Where the real data is, and small runs that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures with truth; skips where it is absent."""
    base = Path(os.environ.get("DENSEVISION_TEST_DATA", "../shared"))
    base = base if base.is_absolute() else ROOT / base
    if not (base / "data").is_dir():
        pytest.skip(f"no real data at {base}/data: set DENSEVISION_TEST_DATA")
    return base
