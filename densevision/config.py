"""Typed options: a frozen, strict base class of all configs; defaults < YAML < flags. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from densevision.errors import UsageError, convert_error, did_you_mean
from densevision.yaml_files import read_yaml

__all__ = ["Config", "Count", "FieldInfo", "Fraction", "NonNegative", "Positive", "set_option"]

C = TypeVar("C", bound="Config")

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class FieldInfo(NamedTuple):
    """One option, for help texts."""

    name: str
    type: str
    default: Any
    help: str


class Config(BaseModel):
    """Base class of all configs: frozen, without unknown keys or type coercion; sequences are tuples.

    The docstring of a field is its help text on the command line.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, validate_default=False
    )

    @model_validator(mode="before")
    @classmethod
    def _convert_lists(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {key: _to_tuple(value) for key, value in values.items()}
        return values

    @classmethod
    def resolve(cls: type[C], file: str | Path | None = None, settings: Mapping[str, Any] | None = None) -> C:
        """Builds the config from defaults, then a YAML file, then dotted settings.

        Args:
            file: A YAML file with a mapping of plain data; tags are refused.
            settings: Dotted names to values, e.g. `{"train.epochs": 3}`; they override the file.

        Raises:
            UsageError: An option is unknown, or has a wrong type or value; the error names file and field.
        """
        values = read_yaml(file) if file else {}
        for name, value in (settings or {}).items():
            set_option(values, name, value)
        return cls.from_dict(values, file)

    @classmethod
    def from_dict(cls: type[C], values: Mapping[str, Any], file: str | Path | None = None) -> C:
        """Validates plain data.

        Raises:
            UsageError: An option is unknown, or has a wrong type or value; the error names file, field, value and fix.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _convert_error(cls, error, file) from None
        except RecursionError:
            raise UsageError("is nested too deeply", file=file) from None
        except UsageError as error:
            raise error if file is None else convert_error(error, UsageError, file) from None

    def replace(self: C, **settings: Any) -> C:
        """Returns a copy with other values of options; `__` replaces the dot: `replace(train__epochs=3)`."""
        values = self.to_dict()
        for name, value in settings.items():
            set_option(values, name.replace("__", "."), value)
        return type(self).from_dict(values)

    def list_given(self) -> set[str]:
        """Dotted names of the options that were given explicitly."""
        names: set[str] = set()
        for name in self.model_fields_set:
            value = getattr(self, name)
            names |= {f"{name}.{inner}" for inner in value.list_given()} if isinstance(value, Config) else {name}
        return names

    def to_dict(self) -> dict[str, Any]:
        """The config as plain data for YAML and JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The config as YAML, in the order of its fields."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=120)

    @classmethod
    def iterate_options(cls, prefix: str = "") -> Iterator[FieldInfo]:
        """Yields every option with its dotted name, type, default and help."""
        for name, field in cls.model_fields.items():
            section = _get_section(field.annotation)
            if section is not None:
                yield from section.iterate_options(f"{prefix}{name}.")
            else:
                default = field.get_default(call_default_factory=True)
                yield FieldInfo(prefix + name, _type_name(field.annotation), default, field.description or "")


def _to_tuple(value: Any) -> Any:
    return tuple(map(_to_tuple, value)) if isinstance(value, list) else value


def set_option(values: dict[str, Any], name: str, value: Any) -> None:
    """Sets an option in nested plain data by its dotted name.

    Raises:
        UsageError: A part of the name is a value, not a section.
    """
    *path, leaf = name.split(".")
    for part in path:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UsageError("is a value, not a section", field=part, value=inner, hint=f"{name} cannot be set.")
        values = inner
    values[leaf] = value


def _get_section(annotation: Any) -> type[Config] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Config) else None


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None").replace("Literal", "one of ")


def _convert_error(cls: type[Config], error: ValidationError, file: str | Path | None) -> UsageError:
    """Converts pydantic's error to one line with file, field, value and fix."""
    try:
        first = error.errors()[0]
    except UnicodeEncodeError:  # pydantic writes our own errors with their values as UTF-8
        return UsageError("an option is text with a lone surrogate, which is no character", file=file)
    path = [str(part) for part in first["loc"]]
    field = ".".join(path) or None
    if first["type"] == "extra_forbidden":
        owner: type[Config] | None = cls
        for part in path[:-1]:
            inner = owner.model_fields.get(part) if owner else None
            owner = _get_section(inner.annotation) if inner else None
        hint = did_you_mean(path[-1], owner.model_fields) if owner else None
        return UsageError("no such option", file=file, field=field, value=first["input"], hint=hint)
    if first["type"] == "no_such_arch":
        given, known = first["ctx"]["given"], first["ctx"]["known"]
        hint = did_you_mean(str(given), known)
        return UsageError("no such architecture", file=file, field="arch", value=given, hint=hint)
    problem = first["msg"].removeprefix("Value error, ")
    problem = problem[0].lower() + problem[1:].rstrip(".")
    if first["type"] == "value_error" and not path:
        return UsageError(problem, file=file)
    choices = re.findall(r"'([^']*)'", first["ctx"]["expected"]) if first["type"] == "literal_error" else []
    if choices and isinstance(first["input"], str):
        hint = did_you_mean(first["input"], choices)
        return UsageError("no such choice", file=file, field=field, value=first["input"], hint=hint)
    return UsageError(problem, file=file, field=field, value=first["input"])
