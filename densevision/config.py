"""Typed options: a frozen, strict base for every config; default < YAML < flag. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from densevision.errors import UsageError, did_you_mean
from densevision.yaml_files import read_yaml

C = TypeVar("C", bound="Config")

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class FieldInfo(NamedTuple):
    """One option as a person types and reads it."""

    name: str
    type: str
    default: Any
    help: str


class Config(BaseModel):
    """Base of every config: frozen, no unknown keys, no silent coercion; sequences are tuples.

    The docstring under a field is its help text, in Python and on the command line alike.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, validate_default=False
    )

    @model_validator(mode="before")
    @classmethod
    def _sequences_are_tuples(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {key: _tupled(value) for key, value in values.items()}
        return values

    @classmethod
    def resolve(cls: type[C], file: str | Path | None = None, settings: Mapping[str, Any] | None = None) -> C:
        """Builds the config from defaults, then a YAML file, then dotted settings.

        Args:
            file: A YAML mapping; plain data only, tags are refused.
            settings: Dotted names to values, e.g. `{"train.epochs": 3}`; they win over the file.

        Raises:
            UsageError: For an unknown key, a wrong type or value, naming file and field.
        """
        values = read_yaml(file) if file else {}
        for name, value in (settings or {}).items():
            _set(values, name, value)
        return cls.checked(values, file)

    @classmethod
    def checked(cls: type[C], values: Mapping[str, Any], file: str | Path | None = None) -> C:
        """Validates plain data; pydantic's complaint becomes one line with file, field, value and fix."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as failure:
            raise _explained(cls, failure, file) from None

    def changed(self: C, **settings: Any) -> C:
        """A copy with the dotted settings replaced; `__` stands for the dot: `changed(train__epochs=3)`."""
        values = self.plain()
        for name, value in settings.items():
            _set(values, name.replace("__", "."), value)
        return type(self).checked(values)

    def given(self) -> set[str]:
        """Dotted names of the options that were set, rather than left to their defaults."""
        names: set[str] = set()
        for name in self.model_fields_set:
            value = getattr(self, name)
            names |= {f"{name}.{inner}" for inner in value.given()} if isinstance(value, Config) else {name}
        return names

    def plain(self) -> dict[str, Any]:
        """The config as plain data (dicts, lists, numbers, strings), as it is written to YAML and JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The whole config as YAML, in the order of its fields."""
        return yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True, width=120)

    @classmethod
    def leaves(cls, prefix: str = "") -> Iterator[FieldInfo]:
        """Every leaf option with its dotted name, type, default and help."""
        for name, field in cls.model_fields.items():
            section = _section(field.annotation)
            if section is not None:
                yield from section.leaves(f"{prefix}{name}.")
            else:
                default = field.get_default(call_default_factory=True)
                yield FieldInfo(prefix + name, _type_name(field.annotation), default, field.description or "")


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    *path, leaf = name.split(".")
    for part in path:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UsageError("is a value, not a section", field=part, value=inner, hint=f"Cannot set {name} in it.")
        values = inner
    values[leaf] = value


def _section(annotation: Any) -> type[Config] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Config) else None


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None").replace("Literal", "one of ")


def _explained(cls: type[Config], failure: ValidationError, file: str | Path | None) -> UsageError:
    first = failure.errors()[0]
    path = [str(part) for part in first["loc"]]
    field = ".".join(path) or None
    if first["type"] == "extra_forbidden":
        owner: type[Config] | None = cls
        for part in path[:-1]:
            inner = owner.model_fields.get(part) if owner else None
            owner = _section(inner.annotation) if inner else None
        hint = did_you_mean(path[-1], owner.model_fields) if owner else None
        return UsageError("no such option", file=file, field=field, value=first["input"], hint=hint)
    problem = first["msg"].removeprefix("Value error, ")
    problem = problem[0].lower() + problem[1:].rstrip(".")
    if first["type"] == "value_error" and not path:
        return UsageError(problem, file=file)
    choices = re.findall(r"'([^']*)'", first["ctx"]["expected"]) if first["type"] == "literal_error" else []
    if choices and isinstance(first["input"], str):
        hint = did_you_mean(first["input"], choices)
        return UsageError("no such choice", file=file, field=field, value=first["input"], hint=hint)
    return UsageError(problem, file=file, field=field, value=first["input"])
