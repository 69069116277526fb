"""Error messages: file, field, value and hint, in one line."""

from __future__ import annotations

import pytest

from densevision.errors import DataError, DenseVisionError, ExportError, UsageError, WeightsError, convert_error


def test_message__all_parts() -> None:
    error = DataError("is negative", file="a.json", field="annotations[3].bbox", value=-1, hint="Fix it.")
    assert str(error) == "a.json: annotations[3].bbox: is negative (got -1). Fix it."


def test_message__long_value_is_shortened() -> None:
    assert len(str(DataError("x", value="y" * 1000))) < 140


@pytest.mark.parametrize(
    ("kind", "code"), [(DenseVisionError, 1), (UsageError, 2), (DataError, 3), (WeightsError, 4), (ExportError, 5)]
)
def test_exit_code__by_kind(kind: type[DenseVisionError], code: int) -> None:
    assert kind("x").exit_code == code


def test_message__question_gets_no_period() -> None:
    assert str(DenseVisionError("which task?", hint="Give task=.")) == "which task? Give task=."


def test_convert_error__keeps_all_but_file_and_class() -> None:
    error = convert_error(DataError("x", file="a", field="b", value=0, hint="C."), WeightsError, "d")
    assert type(error) is WeightsError and str(error) == "d: b: x (got 0). C."
