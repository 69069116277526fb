"""Blocks of a streamed JSON: equal to Python's json for any cut, also where a decoder refuses elements."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from densevision.errors import DataError
from densevision.io.json_stream import Block, stream_json_blocks

VALUES = st.none() | st.integers(-9, 9) | st.text('}{],[": \\é', max_size=5) | st.lists(st.integers(0, 9), max_size=3)
INNER = st.dictionaries(st.text("ab}", max_size=2), VALUES | st.lists(st.dictionaries(st.text("a}]"), VALUES)))
ENTRIES = st.lists(INNER | st.dictionaries(st.just("refused"), st.just(1), min_size=1), max_size=12)


def decode(text: str) -> list[Any] | None:
    """Accepts lists of objects without the key "refused"."""
    try:
        values = json.loads(text)
    except ValueError:
        return None
    is_usual = isinstance(values, list) and all(isinstance(each, dict) and "refused" not in each for each in values)
    return values if is_usual else None


def collect(file: Path, chunk: int) -> tuple[dict[str, Any], int]:
    content: dict[str, Any] = {}
    blocks = 0
    for item in stream_json_blocks(file, {"a": decode}, chunk):
        if isinstance(item, Block):
            assert item.start == len(content[item.key])
            content[item.key] += item.values
            blocks += 1
        elif item.index is None:
            content[item.key] = item.value
        else:
            assert item.index == len(content[item.key])
            content[item.key].append(item.value)
    return content, blocks


@settings(max_examples=50, deadline=None)
@example({"a": [{"x": "},{"}, {"y": [{"z": 1}, {"z": 2}]}, {"refused": 1}, {}], "b": [{}, {}]}, 20, None)
@given(
    data=st.fixed_dictionaries({"a": ENTRIES, "b": ENTRIES}), chunk=st.integers(1, 90), indent=st.none() | st.just(1)
)
def test_blocks__equal_json_for_any_window(data: dict[str, Any], chunk: int, indent: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.json"
        file.write_text(json.dumps(data, indent=indent, ensure_ascii=False), encoding="utf-8")
        assert collect(file, chunk)[0] == data


def test_blocks__usual_elements_come_in_few_blocks(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    data: dict[str, Any] = {"a": [{"n": number, "box": [1, 2]} for number in range(5000)], "c": [{"d": 1}]}
    data["a"][2500]["refused"] = 1
    file.write_text(json.dumps(data))
    content, blocks = collect(file, 10_000)
    assert content == data and 5 < blocks < 50


@pytest.mark.parametrize("text", ['{"a": [{"n": 1}, {"n": 2}', '{"a": [{"n": 1}, {"n": }, {"n": 3}]}', '{"a": [{}] x}'])
def test_blocks__damage_is_named_with_its_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(DataError) as refusal:
        collect(file, 1000)
    assert refusal.value.file == file and "character" in str(refusal.value.field)
