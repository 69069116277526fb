"""Dense prediction by one set of words: detection, segmentation, depth, flow, super-resolution, translation.

Importing this package loads no torch: the names below are read on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from densevision.tasks import TASKS
from densevision.version import __version__

if TYPE_CHECKING:
    from densevision.api import check, evaluate, export, load, predict, score, train

__all__ = ["TASKS", "__version__", "check", "evaluate", "export", "load", "predict", "score", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from densevision import api

        return getattr(api, name)
    raise AttributeError(f"module 'densevision' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
