"""Architectures by name: the class of each and its arguments. Imports no torch.

Each task lists its architectures in `densevision/tasks/<task>/models/__init__.py`, one line per name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from densevision.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from densevision.nn.model import Model

__all__ = ["Architecture", "find_architecture"]


@dataclass(frozen=True)
class Architecture:
    """One named architecture.

    Attributes:
        path: Module and class, e.g. "densevision.tasks.detection.models.yolo:YOLO".
        summary: One line for `densevision models`.
        arguments: Arguments of the constructor that make this variant.
        defaults: Defaults of this architecture for dotted options of the task's config, e.g. `{"data.size": 416}`.
    """

    path: str
    summary: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def load_class(self) -> type[Model]:
        """Imports the class, and torch with it."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)

    def parameters(self) -> dict[str, Any]:
        """Types of the constructor's parameters by name, including those that `**kwargs` pass on to base classes."""
        types: dict[str, Any] = {}
        for cls in self.load_class().__mro__:
            if "__init__" not in vars(cls):
                continue
            constructor = vars(cls)["__init__"]
            hints, has_more = get_type_hints(constructor), False
            for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]:
                has_more |= parameter.kind is inspect.Parameter.VAR_KEYWORD
                if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                    types.setdefault(name, hints.get(name, Any))
            if not has_more:
                break
        return types

    def build(self, offered: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Model:
        """Builds the model.

        Args:
            offered: Arguments from the task; those that the constructor does not have are left out.
            options: Arguments from the user; one that the constructor does not have is an error.

        Raises:
            UsageError: An option does not exist, has a wrong type, or is refused by the constructor.
        """
        parameters = self.parameters()
        arguments = {**self.arguments, **{name: value for name, value in offered.items() if name in parameters}}
        arguments |= self.check_options(options or {})
        try:
            return self.load_class()(**arguments)
        except ValueError as error:  # of the constructor; the message names argument and value
            raise UsageError(str(error).rstrip("."), field="model") from error

    def check_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Validates constructor arguments against the signature's names and types.

        Raises:
            UsageError: An argument does not exist or has a wrong type.
        """
        from pydantic import ConfigDict, TypeAdapter, ValidationError

        parameters = self.parameters()
        checked = {}
        for name, value in options.items():
            if name not in parameters:
                hint = did_you_mean(name, parameters)
                raise UsageError("the architecture has no such option", field=f"model.{name}", value=value, hint=hint)
            try:
                adapter = TypeAdapter(parameters[name], config=ConfigDict(arbitrary_types_allowed=True))
                checked[name] = adapter.validate_python(value)
            except ValidationError as error:
                problem = error.errors()[0]["msg"].lower()
                raise UsageError(problem, field=f"model.{name}", value=value) from None
        return checked


def find_architecture(models: Mapping[str, Architecture], name: str) -> Architecture:
    """Returns the architecture of a name.

    Raises:
        UsageError: There is no such architecture.
    """
    if name not in models:
        raise UsageError("no such architecture", field="arch", value=name, hint=did_you_mean(name, models))
    return models[name]
