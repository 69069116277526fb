"""One line of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SystemFinding"]


@dataclass(frozen=True)
class SystemFinding:
    """What one check found.

    Attributes:
        name: What was checked.
        status: "ok"; "warning" for what costs speed or a feature; "error" for what keeps densevision from working.
        message: What was found, a clause.
        hint: How to fix it, a sentence; empty where nothing is wrong.
    """

    name: str
    status: Literal["ok", "warning", "error"]
    message: str
    hint: str = ""
