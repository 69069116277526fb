"""YAML of plain data, as people write it in files and behind `--set`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from densevision.errors import UsageError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but `1e-3` is a number as in YAML 1.2."""


_Loader.yaml_implicit_resolvers = {key: list(rules) for key, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(file: str | Path) -> dict[str, Any]:
    """Reads a YAML mapping of plain data.

    Raises:
        UsageError: The file is missing, is no mapping, or holds tags that would build Python objects.
    """
    try:
        with open(file, encoding="utf-8") as stream:
            values = yaml.load(stream, _Loader)
    except OSError as failure:
        raise UsageError("cannot read the config", file=file, hint=f"{os.strerror(failure.errno or 0)}.") from None
    except yaml.constructor.ConstructorError as failure:
        hint = "Only plain YAML is read: mappings, lists, numbers, strings."
        raise UsageError(str(failure.problem or "tag refused"), file=file, field=_line(failure), hint=hint) from None
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        problem = str(getattr(failure, "problem", None) or failure)
        raise UsageError(f"not valid YAML: {problem}", file=file, field=_line(failure)) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError("the config must be a mapping", file=file, value=values, hint="Write 'key: value' lines.")
    return values


def parse_setting(text: str) -> tuple[str, Any]:
    """Splits `train.epochs=3` into the dotted name and its YAML value.

    >>> parse_setting("train.epochs=3")
    ('train.epochs', 3)
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError("a setting reads NAME=VALUE", value=text, hint="For example --set train.epochs=3.")
    try:
        return name.strip(), yaml.load(value, _Loader)
    except yaml.YAMLError:
        raise UsageError("the value is not plain YAML", field=name, value=value) from None


def _line(failure: Exception) -> str | None:
    mark = getattr(failure, "problem_mark", None)
    return f"line {mark.line + 1}" if mark is not None else None
