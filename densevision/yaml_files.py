"""Plain YAML: config files, dataset descriptions, and values of `--set`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

import yaml

from densevision.errors import UsageError

__all__ = ["parse_setting", "parse_yaml", "read_yaml"]

MAX_VALUES = 1_000_000
IMPLICIT_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "timestamp", "value"))
"""Types that YAML gives to scalars by their form, besides null."""
NULL_TAG = "tag:yaml.org,2002:null"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but `1e-3` is a number as in YAML 1.2."""


_Loader.yaml_implicit_resolvers = {key: list(rules) for key, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(file: str | Path, text_keys: Container[str] = ()) -> dict[str, Any]:
    """Reads a YAML mapping of plain data.

    Args:
        file: The file.
        text_keys: Keys of the mapping below which numbers, booleans and dates stay text as written, such as names and
            paths: YAML 1.1 would read `010` as 8, `12:30` as 750 and `no` as False. Empty values stay None, and so does
            `null` as the value of a key; in a list or mapping below it, `null` is the text, such as a class name.

    Raises:
        UsageError: The file is missing, is not a mapping, or has tags that would build Python objects.
    """
    try:
        text = Path(file).read_text("utf-8")
    except OSError as failure:
        raise UsageError("cannot be read", file=file, hint=f"{os.strerror(failure.errno or 0)}.") from None
    except UnicodeDecodeError as failure:
        raise UsageError(f"is not valid YAML: {failure}", file=file) from None
    return parse_yaml(text, file, text_keys)


def parse_yaml(text: str, file: str | Path, text_keys: Container[str] = ()) -> dict[str, Any]:
    """Parses a YAML mapping of plain data; see `read_yaml`.

    Args:
        text: The YAML.
        file: The file that holds it, for messages.
        text_keys: Keys below which scalars stay text.

    Raises:
        UsageError: The text is not a mapping, or has tags that would build Python objects.
    """
    try:
        values = _construct(text, text_keys)
    except yaml.constructor.ConstructorError as failure:
        hint = "Only plain YAML is supported: mappings, lists, numbers, strings."
        raise UsageError(
            str(failure.problem or "unknown tag"), file=file, field=_get_line(failure), hint=hint
        ) from None
    except RecursionError:
        raise UsageError("is nested too deeply", file=file) from None
    except yaml.YAMLError as failure:
        problem = str(getattr(failure, "problem", None) or failure)
        raise UsageError(f"is not valid YAML: {problem}", file=file, field=_get_line(failure)) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError("is not a mapping", file=file, value=values, hint="Write 'key: value' lines.")
    if _count_values(values, {}) > MAX_VALUES:
        raise UsageError(f"has more than {MAX_VALUES:,} values after expanding its aliases", file=file)
    return values


def _construct(text: str, text_keys: Container[str]) -> Any:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if isinstance(root, yaml.MappingNode):
            for key, value in root.value:
                is_null = value.tag == NULL_TAG
                if isinstance(key, yaml.ScalarNode) and key.value in text_keys and not is_null:
                    _keep_text(value, set())
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _keep_text(node: yaml.Node, seen: set[int]) -> None:
    """Marks the scalars below a node as text, without the keys of mappings and without empty values."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        if node.tag in IMPLICIT_TAGS or (node.tag == NULL_TAG and node.value):
            node.tag = "tag:yaml.org,2002:str"
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_text(item, seen)
    elif isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            _keep_text(value, seen)


def _count_values(value: Any, sizes: dict[int, float]) -> float:
    """Counts the values after expanding all aliases; infinite for recursive ones."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in sizes:
        sizes[id(value)] = math.inf
        parts = value.values() if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum(_count_values(part, sizes) for part in parts)
    return sizes[id(value)]


def parse_setting(text: str) -> tuple[str, Any]:
    """Splits `train.epochs=3` into the dotted name and its YAML value.

    >>> parse_setting("train.epochs=3")
    ('train.epochs', 3)
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError("is not NAME=VALUE", value=text, hint="For example --set train.epochs=3.")
    try:
        return name.strip(), yaml.load(value, _Loader)
    except yaml.YAMLError:
        raise UsageError("the value is not plain YAML", field=name, value=value) from None


def _get_line(failure: Exception) -> str | None:
    mark = getattr(failure, "problem_mark", None)
    return f"line {mark.line + 1}" if mark is not None else None
