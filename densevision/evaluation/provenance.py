"""Page sections that say how numbers were obtained: counts, protocol, weights, versions, and the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densevision.draw.html_page import HTMLPage
from densevision.evaluation.report import Report
from densevision.io.json_writer import dump_json
from densevision.io.weights import Card
from densevision.run_folder import collect_versions

__all__ = ["add_provenance", "add_versions", "flatten"]

MAX_NAMES = 20
"""Names that a page lists of each kind; the JSON has them all."""
CARD_FIELDS = ("task", "classes", "data", "source", "license", "versions")


def add_provenance(page: HTMLPage, report: Report, card: Card | None = None, side: str = "") -> None:
    """Adds counts, what was left out, the protocol, and the model's weights.

    Args:
        page: The page.
        report: The report.
        card: Card of the weights, if a model was evaluated.
        side: Suffix of the headings, for pages with several reports.
    """
    page.add_heading(f"Counts{side}")
    page.add_table([[name, value] for name, value in report.counts.items() if value != []])
    for kind, names in report.named.items():
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        page.add_text(f"{kind}: {', '.join(names[:MAX_NAMES])}{more}")
    page.add_heading(f"Protocol{side}")
    page.add_table(flatten(report.protocol))
    if card is None:
        return
    page.add_heading(f"Weights{side}")
    values = card.to_dict()
    page.add_table(flatten({key: values[key] for key in CARD_FIELDS if values[key]}))
    page.add_numbers(values["metrics"].get("metrics", {}), "metrics in the card")
    page.add_collapsible("Full card", dump_json(values, indent=1))


def add_versions(page: HTMLPage, command: str = "") -> None:
    """Adds versions, and the command that reproduces the page."""
    page.add_heading("Versions")
    page.add_table(list(collect_versions().items()))
    if command:
        page.add_heading("Reproduce")
        page.add_code(command)


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[list[Any]]:
    """Nested values as rows of dotted names and text.

    >>> flatten({"a": {"b": 1, "c": [2, 3]}})
    [['a.b', '1'], ['a.c', '2, 3']]
    """
    rows: list[list[Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flatten(value, f"{name}.")
        else:
            rows.append([name, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)])
    return rows
