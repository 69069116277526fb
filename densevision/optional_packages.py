"""Packages that are not dependencies."""

from __future__ import annotations

import importlib
from typing import Any

from densevision.errors import UsageError

__all__ = ["import_optional"]


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
