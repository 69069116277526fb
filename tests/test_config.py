"""Configs are strict and frozen, and their errors name file, field and value."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from densevision.config import Config, Count
from densevision.errors import UsageError
from densevision.run_config import TrainConfig
from densevision.yaml_files import parse_setting, read_yaml


class Inner(Config):
    epochs: Count = 10
    """Passes."""
    size: tuple[int, int] = (3, 4)
    """Size."""
    mode: Literal["a", "b"] = "a"
    """Mode."""


class Outer(Config):
    inner: Inner = Inner()
    rate: float = 1.0
    """Rate."""


def test_resolve__flag_over_yaml_over_default(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("inner:\n  epochs: 5\n  size: [1, 2]\nrate: 1e-3\n")
    config = Outer.resolve(file, {"inner.epochs": 7})
    assert (config.inner.epochs, config.inner.size, config.inner.mode, config.rate) == (7, (1, 2), "a", 1e-3)


def test_yaml__round_trip() -> None:
    config = Outer.resolve(None, {"inner.epochs": 3})
    import yaml

    assert Outer.from_dict(yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inner.epoch": 3}, ["inner.epoch", "no such option", "Did you mean 'epochs'"]),
        ({"inner.epochs": "3"}, ["inner.epochs", "integer", "'3'"]),
        ({"inner.epochs": 0}, ["inner.epochs", "greater than or equal to 1"]),
        ({"inner.mode": "c"}, ["inner.mode", "Known: a, b.", "'c'"]),
        ({"inner.mode": "bb"}, ["inner.mode", "no such choice", "Did you mean 'b'?"]),
        ({"rate.x": 1}, ["rate"]),
    ],
)
def test_resolve__bad_setting(settings: dict, words: list[str]) -> None:
    with pytest.raises(UsageError) as failure:
        Outer.resolve(None, settings)
    assert all(word in str(failure.value) for word in words), str(failure.value)
    assert failure.value.exit_code == 2


def test_resolve__bad_value_names_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("inner: {epochs: many}\n")
    with pytest.raises(UsageError, match=r"config\.yaml: inner\.epochs"):
        Outer.resolve(file)


def test_read_yaml__python_tag(tmp_path: Path) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text("a: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UsageError, match=r"evil\.yaml: line 1.*plain YAML"):
        read_yaml(file)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "a: {b\n"])
def test_read_yaml__no_mapping(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"bad\.yaml"):
        read_yaml(file)


def test_read_yaml__missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_yaml(tmp_path / "absent.yaml")


def test_config__frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().epochs = 3  # type: ignore[misc]


def test_parse_setting__without_equals() -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_setting("train.epochs")


def test_leaves__every_field_has_help() -> None:
    assert all(option.help for option in TrainConfig.iterate_options())
