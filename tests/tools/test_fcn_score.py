"""tools/fcn_score.py: what it says of itself, and of what it is not given."""

from __future__ import annotations


def test_help__a_line_for_each_example(tool) -> None:
    code, out, _ = tool("fcn_score", "--help")
    examples = [line.strip() for line in out.splitlines() if "--segmenter semantic.safetensors" in line]
    assert code == 0 and len(examples) == 2 and all(line.startswith("python tools/fcn_score.py") for line in examples)


def test_images__neither_given_nor_made(tool) -> None:
    code, _, err = tool("fcn_score", "--segmenter", "a", "--data", "b")
    assert code == 2 and "--generator" in err
