"""Thin wrapper: `python tools/robustness.py TASK ...` is `densevision TASK robustness ...`."""

from __future__ import annotations

import sys

from densevision.cli.main import run

if __name__ == "__main__":
    run([*sys.argv[1:2], "robustness", *sys.argv[2:]])
