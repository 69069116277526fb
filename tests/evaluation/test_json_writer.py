"""JSON writing: numbers that are not finite, arrays, and text."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from densevision.io.json_writer import dump_json, to_json_value, write_json


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        ([1.5, (math.inf, -math.inf)], [1.5, [None, None]]),
        ({1: {"a": np.float32("nan")}}, {"1": {"a": None}}),
        (np.array([[1.0, np.nan], [2.0, 3.0]]), [[1.0, None], [2.0, 3.0]]),
        (np.array([1, 2]), [1, 2]),
        ([np.int64(3), np.bool_(True), "text", None], [3, True, "text", None]),
    ],
)
def test_to_json_value__plain_and_strict(value: object, expected: object) -> None:
    assert to_json_value(value) == expected
    assert json.loads(dump_json(value)) == expected


def test_write_json__readable_text(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", {"name": "Fréchet", "value": math.nan})
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert "Fréchet" in text and text.endswith("\n") and json.loads(text)["value"] is None
