"""Errors say file, field, value and fix, in one line."""

from __future__ import annotations

import pytest

from densevision.errors import DataError, DenseVisionError, ExportError, UsageError, WeightsError


def test_message__all_parts() -> None:
    failure = DataError("is negative", file="a.json", field="annotations[3].bbox", value=-1, hint="Fix it.")
    assert str(failure) == "a.json: annotations[3].bbox: is negative (got -1). Fix it."


def test_message__long_value_is_cut() -> None:
    assert len(str(DataError("x", value="y" * 1000))) < 140


@pytest.mark.parametrize(
    ("kind", "code"), [(DenseVisionError, 1), (UsageError, 2), (DataError, 3), (WeightsError, 4), (ExportError, 5)]
)
def test_exit_code__by_kind(kind: type[DenseVisionError], code: int) -> None:
    assert kind("x").exit_code == code


def test_question__has_no_full_stop_of_its_own() -> None:
    assert str(DenseVisionError("which task?", hint="Give task=.")) == "which task? Give task=."
