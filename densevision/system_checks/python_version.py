"""Python: its version against the one that the package requires, and its architecture."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.specifiers import SpecifierSet

from densevision.system_checks.finding import SystemFinding

__all__ = ["check_python"]


def check_python() -> Iterator[SystemFinding]:
    """Checks the running Python."""
    version = platform.python_version()
    required = SpecifierSet(metadata.metadata("densevision")["Requires-Python"] or "")
    if not required.contains(version, prereleases=True):
        hint = f"Make an environment with Python {required}."
        yield SystemFinding("python", "error", f"Python {version}, but densevision requires {required}", hint)
    elif sys.maxsize <= 2**32:
        yield SystemFinding("python", "error", f"Python {version} is a 32-bit program", "Install a 64-bit Python.")
    else:
        yield SystemFinding("python", "ok", f"Python {version}, {platform.system()} {platform.machine()}")
