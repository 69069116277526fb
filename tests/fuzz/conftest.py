"""The readers and mutations that the tests here share with tools/fuzz.py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
