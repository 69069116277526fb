"""Thin wrapper: `python tools/errors.py TASK ...` is `densevision TASK analyze ...`."""

from __future__ import annotations

import sys

from densevision.cli.main import run

if __name__ == "__main__":
    run([*sys.argv[1:2], "analyze", *sys.argv[2:]])
