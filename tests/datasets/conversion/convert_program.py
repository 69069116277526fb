"""`densevision convert`, run in this process."""

from __future__ import annotations

from types import SimpleNamespace

from click.testing import CliRunner

from densevision.cli.main import root
from densevision.errors import DenseVisionError


def run_program(*arguments: object) -> SimpleNamespace:
    """Runs `densevision convert`: its exit code, and what it prints."""
    done = CliRunner().invoke(root, ["convert", *map(str, arguments)])
    if isinstance(done.exception, DenseVisionError):
        return SimpleNamespace(exit_code=done.exception.exit_code, output=f"{done.output}error: {done.exception}")
    return SimpleNamespace(exit_code=done.exit_code, output=done.output)
