"""What numbers rest on, as the foot of a page: counts, protocol, weights, versions, and the command that repeats it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from densevision.draw.html_page import Page
from densevision.evaluation.report import Report
from densevision.io.weights import Card
from densevision.run_folder import versions

LISTED = 20
"""Names that a page lists of what was left out; the JSON has them all."""


def show_basis(page: Page, report: Report, card: Card | None = None, whose: str = "") -> None:
    """Adds counts, what was left out, the protocol, and the weights where a model answered.

    Args:
        page: Where they are added.
        report: Whose they are.
        card: Of the weights.
        whose: What the headings add, where a page has several sides.
    """
    page.heading(f"What the numbers rest on{whose}")
    page.table([[name, value] for name, value in report.counts.items() if value != []])
    for kind, names in report.named.items():
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        page.text(f"{kind}: {', '.join(names[:LISTED])}{more}")
    page.heading(f"Protocol{whose}")
    page.table(flat(report.protocol))
    if card is None:
        return
    page.heading(f"Weights{whose}")
    told = card.to_dict()
    shown = ("task", "classes", "data", "source", "license", "versions")
    page.table(flat({key: told[key] for key in shown if told[key]}))
    page.numbers(told["metrics"].get("metrics", {}), "what their card tells of them")
    page.fold("The whole card", json.dumps(told, indent=1, ensure_ascii=False))


def show_origin(page: Page, command: str = "") -> None:
    """Adds versions, and the command that gives the same again."""
    page.heading("Versions")
    page.table(list(versions().items()))
    if command:
        page.heading("Again")
        page.code(command)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[list[Any]]:
    """Nested values as rows of dotted names and text.

    >>> flat({"a": {"b": 1, "c": [2, 3]}})
    [['a.b', '1'], ['a.c', '2, 3']]
    """
    rows: list[list[Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flat(value, f"{name}.")
        else:
            rows.append([name, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)])
    return rows
