"""Thin wrapper: `python tools/compare.py TASK ...` is `densevision TASK compare ...`."""

from __future__ import annotations

import sys

from densevision.cli.main import run

if __name__ == "__main__":
    run([*sys.argv[1:2], "compare", *sys.argv[2:]])
