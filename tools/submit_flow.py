"""Thin wrapper: `python tools/submit_flow.py ...` is `densevision flow submit ...`."""

from __future__ import annotations

import sys

from densevision.cli.main import run

if __name__ == "__main__":
    run(["flow", "submit", *sys.argv[1:]])
