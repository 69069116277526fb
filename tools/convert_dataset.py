"""Thin wrapper: `python tools/convert_dataset.py ...` is `densevision convert ...`."""

from __future__ import annotations

import sys

from densevision.cli.main import run

if __name__ == "__main__":
    run(["convert", *sys.argv[1:]])
