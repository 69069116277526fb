"""Reports as Python objects: short in a prompt, tables in pandas."""

from __future__ import annotations

import math

import pytest

from densevision.errors import UsageError
from densevision.evaluation.report import Report

TABLE = {"cat <b>": {"AP": 0.25, "AR": 0.5}, "dog": {"AP": 0.75}}
REPORT = Report(
    "detection", {"AP": 0.5, "AP50": math.nan}, {"tool": "x" * 5000}, {"images": 3}, {"per class": TABLE}, {"a": ["b"]}
)


def test_repr__is_short_and_has_the_numbers() -> None:
    text = repr(REPORT)
    assert len(text) < 200
    assert "AP 0.5" in text
    assert "images 3" in text
    assert "per class" in text


def test_html__escapes_names() -> None:
    page = Report("detection", {"AP": 1.0}, {}, {"<b>": 2})._repr_html_()
    assert "<b>" not in page
    assert "1.0000" in page


def test_to_pandas__rows_are_metrics_or_those_of_a_table() -> None:
    pandas = pytest.importorskip("pandas")
    metrics = REPORT.to_pandas()
    assert list(metrics["metric"]) == ["AP", "AP50"]
    assert metrics["value"][0] == 0.5
    frame = REPORT.to_pandas("per class")
    assert frame.loc["cat <b>", "AR"] == 0.5
    assert pandas.isna(frame.loc["dog", "AR"])
    with pytest.raises(UsageError):
        REPORT.to_pandas("per clas")
