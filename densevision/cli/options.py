"""Options that several verbs share, and options grown from config fields."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from densevision.run_config import TaskConfig

json_flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
quiet_flag = click.option("--quiet", is_flag=True, help="No bars, no remarks.")
report_option = click.option(
    "--report", metavar="FOLDER", help="Write a page to look at: intervals, plots, tables, best and worst images."
)
weights_option = click.option(
    "--weights", metavar="FILE|NAME", help="Weights or exported model; the starter weights when not given."
)
data_option = click.option("--data", metavar="PATH", help="Dataset folder or file, or scenes[:COUNT[:SEED]].")


def _settings(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any]:
    if not texts:  # configs are imported where they are used: `score` needs none, and answers sooner without
        return {}
    from densevision.yaml_files import parse_setting

    return dict(parse_setting(text) for text in texts)


set_option = click.option(
    "--set",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_settings,
    help="Set an option of the config, e.g. train.epochs=3; repeatable.",
)


def predict_options(function: Callable) -> Callable:
    """Adds one flag per field of `PredictOptions`."""
    from densevision.run_config import PredictOptions

    for name, field in reversed(PredictOptions.model_fields.items()):
        multiple = typing.get_origin(field.annotation) is tuple or "tuple" in str(field.annotation)
        function = click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=_click_type(field.annotation),
            multiple=multiple,
            is_flag=field.annotation is bool,
            default=None,
            help=(field.description or "") + _shown_default(field.default),
        )(function)
    return function


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The predict options that were typed."""
    return {name: value for name, value in options.items() if value is not None and value is not False and value != ()}


def config_table(config: type[TaskConfig]) -> str:
    """Every option of a task's config with type, default and help, for the foot of a help page."""
    lines = ["\b", "Config options (--set NAME=VALUE, or YAML):"]
    for option in config.leaves():
        if option.name != "task":
            first = option.help.split("\n\n")[0]
            lines.append(f"  {option.name}={_yaml(option.default)}  {' '.join(first.split())}".rstrip())
    return "\n".join(lines)


def _shown_default(default: Any) -> str:
    return "" if default in (None, (), False) else f" [default: {default}]"


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _click_type(annotation: Any) -> Any:
    """int, float, str or a choice, for an annotation such as `Annotated[int, ...] | None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _click_type(next(part for part in typing.get_args(annotation) if part is not type(None)))
    if typing.get_origin(annotation) is typing.Annotated:
        return _click_type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is tuple:
        return _click_type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is typing.Literal:
        return click.Choice(typing.get_args(annotation))
    return annotation if annotation in (int, float, str, bool) else str
