"""Converts weights that another project published: the same as `densevision convert-weights NAME FILE OUT`."""

from __future__ import annotations

import sys

from densevision.cli.main import run

if __name__ == "__main__":
    run(["convert-weights", *sys.argv[1:]])
