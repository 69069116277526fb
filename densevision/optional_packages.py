"""Packages that are not dependencies."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from densevision.errors import UsageError

__all__ = ["check_extra", "import_optional"]


def import_optional(name: str, purpose: str, extra: str | None = None) -> Any:
    """Imports a package that is not a dependency.

    Args:
        name: Name of the package.
        purpose: What needs it, for the message.
        extra: The extra of densevision that brings it, if there is one.

    Raises:
        UsageError: The package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        target = name if extra is None else f'"densevision[{extra}]"'
        raise UsageError(f"{purpose} needs the package {name}", hint=f"Run `pip install {target}`.") from None


def check_extra(extra: str, modules: Sequence[str], purpose: str) -> None:
    """Checks that the packages of an extra are installed; nothing is imported.

    Args:
        extra: Name of the extra.
        modules: Names of its modules.
        purpose: What needs them, for the message.

    Raises:
        UsageError: One is not installed.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        hint = f'Run `pip install "densevision[{extra}]"`.'
        raise UsageError(f"{purpose} needs packages that are not installed", value=", ".join(missing), hint=hint)
