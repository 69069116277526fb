"""Options that do not exist, and what is suggested instead."""

from __future__ import annotations

import pytest

from densevision.cli.main import run


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["detection", "train", "--epochs", "3"], "--set train.epochs="),
        (["detection", "train", "--epoch", "3"], "--set train.epochs="),
        (["depth", "train", "--train.lr", "1"], "--set train.lr="),
        (["detection", "train", "--batch-size", "8"], "--set train.batch="),
        (["detection", "train", "--imgsz", "640"], "--set data.size="),
        (["detection", "train", "--model", "yolo_n"], "--set arch="),
        (["detection", "predict", "--model", "a", "x.jpg"], "--weights"),
        (["detection", "predict", "--conf", "0.5", "x.jpg"], "--score-threshold"),
        (["semantic", "evaluate", "--wieghts", "x"], "--weights"),
        (["models", "--jsn"], "--json"),
    ],
)
def test_unknown_option__is_suggested(
    arguments: list[str], suggestion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        run(arguments)
    message = capsys.readouterr().err.splitlines()[-1]
    assert ending.value.code == 2
    assert arguments[2 if arguments[0] != "models" else 1] in message
    assert suggestion in message


@pytest.mark.parametrize(
    "arguments", [["detection", "train", "--zzzz"], ["detection", "predict", "--epochs", "3", "x"]]
)
def test_unknown_option__without_a_similar_one(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        run(arguments)
    assert ending.value.code == 2
    assert "mean" not in capsys.readouterr().err
