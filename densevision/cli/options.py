"""Options that several verbs share, and options generated from config fields."""

from __future__ import annotations

import shlex
import sys
import types
import typing
from collections.abc import Callable, Container, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from densevision.config import Config
    from densevision.run_config import TaskConfig

__all__ = [
    "config_options",
    "count_options",
    "data_option",
    "describe_config",
    "describe_invocation",
    "engine_option",
    "folder_or_none",
    "json_flag",
    "listen_options",
    "parse_settings",
    "predict_options",
    "quiet_flag",
    "report_option",
    "save_option",
    "select_given",
    "sequence_options",
    "set_option",
    "unpack_sources",
    "weights_option",
]

Function = TypeVar("Function", bound=Callable[..., Any])

json_flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
quiet_flag = click.option("--quiet", is_flag=True, help="Suppress progress bars and log messages.")
report_option = click.option(
    "--report", metavar="FOLDER", help="Write an HTML report: intervals, plots, tables, best and worst images."
)
weights_option = click.option(
    "--weights", metavar="FILE|NAME", help="Weights file, exported model or name; the bundled demo weights by default."
)
engine_option = click.option(
    "--engine",
    type=click.Choice(["torch", "onnxruntime", "openvino", "ray"]),
    help="What computes the network; onnxruntime and openvino need the extra export, and export it once into the cache "
    "folder; ray (extra ray) distributes the images over a cluster. [default: torch]",
)
data_option = click.option("--data", metavar="PATH", help="Dataset folder or file, or scenes[:COUNT[:SEED]].")


def parse_settings(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any]:
    if not texts:  # configs are imported where they are used: `score` needs none, and starts sooner without
        return {}
    from densevision.yaml_files import parse_setting

    return dict(parse_setting(text) for text in texts)


set_option = click.option(
    "--set",
    "overrides",
    metavar="NAME=VALUE",
    multiple=True,
    callback=parse_settings,
    help="Override a config option, e.g. train.epochs=3; repeatable.",
)


def predict_options(task: str) -> Callable[[Function], Function]:
    """Adds one flag per field of `PredictOptions` that the task supports."""
    from densevision.run_config import COMMON_OPTIONS, PredictOptions
    from densevision.tasks import load_config

    supported = COMMON_OPTIONS | load_config(task).predict_options

    return config_options(PredictOptions, supported)


def save_option(task: str) -> Callable[[Function], Function]:
    """--save, with the formats that the task has."""
    from densevision.tasks import load_config

    tracks = "mot and cocovid write one file of tracks for a sequence; " if load_config(task).is_trackable else ""
    text = (
        f"Output format: png (drawn), json, ...; mp4 writes one video for a video; {tracks}repeatable. With --engine "
        "ray: parquet, jsonl, coco, png. [default: png, with --engine ray parquet]"
    )
    return click.option("--save", metavar="SUFFIX", multiple=True, help=text)


def sequence_options(task: str) -> Callable[[Function], Function]:
    """Adds one flag per field of `SequenceOptions` that the task supports."""
    from densevision.sequence_options import SequenceOptions
    from densevision.tasks import load_config

    if not load_config(task).is_trackable:
        return config_options(SequenceOptions, {"timeout", "reconnect", "max_frames"})
    add_options = config_options(SequenceOptions, {"track", "timeout", "reconnect", "max_frames"})
    add_settings = click.option(
        "--track-option",
        "track_options",
        metavar="NAME=VALUE",
        multiple=True,
        callback=parse_settings,
        help="An option of the tracker, e.g. lost_track_buffer=60; repeatable.",
    )
    return lambda function: add_options(add_settings(function))


def count_options(task: str) -> Callable[[Function], Function]:
    """Adds --line and --zone, for tasks whose objects can be counted."""
    from densevision.tasks import load_config

    if not load_config(task).is_trackable:
        return lambda function: function
    line = click.option(
        "--line",
        "lines",
        metavar="X1,Y1,X2,Y2",
        multiple=True,
        callback=_parse_numbers,
        help="Count tracked objects that cross this line, by class, into counts.csv; in is to the left of the "
        "direction from the first point to the second; repeatable.",
    )
    zone = click.option(
        "--zone",
        "zones",
        metavar="X1,Y1,...",
        multiple=True,
        callback=_parse_numbers,
        help="Count objects inside this polygon, by class, into counts.csv; repeatable.",
    )
    return lambda function: line(zone(function))


def unpack_sources(sources: tuple[str, ...]) -> str | list[str]:
    """One source as it is, several as a list, as the functions of the API take them."""
    return sources[0] if len(sources) == 1 else list(sources)


def _parse_numbers(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[list[float], ...]:
    try:
        return tuple([float(part) for part in text.split(",")] for text in texts)
    except ValueError:
        raise click.BadParameter("must be numbers separated by commas", ctx, param) from None


def config_options(
    config: type[Config], names: Container[str], envvars: Mapping[str, str] | None = None
) -> Callable[[Function], Function]:
    """Adds one flag per field of a config.

    Args:
        config: The config.
        names: The fields.
        envvars: Field -> environment variable that sets it too.
    """

    def decorate(function: Function) -> Function:
        for name, field in reversed(config.model_fields.items()):
            if name not in names:
                continue
            is_multiple = typing.get_origin(field.annotation) is tuple or "tuple" in str(field.annotation)
            function = click.option(
                f"--{name.replace('_', '-')}",
                name,
                type=_click_type(field.annotation),
                multiple=is_multiple,
                is_flag=field.annotation is bool,
                default=None,
                envvar=(envvars or {}).get(name),
                show_envvar=True,
                help=(field.description or "") + _describe_default(field.default),
            )(function)
        return function

    return decorate


def listen_options(config: type[Config], command: str) -> Callable[[Function], Function]:
    """Adds the options of a command that listens to connections, and --quiet.

    The command gets the config as `options`, with the fields that were given. Its token may also be set by the
    environment variable DENSEVISION_COMMAND_TOKEN.

    Args:
        config: What the options are read into.
        command: Name of the command.
    """
    envvars = {"token": f"DENSEVISION_{command.upper()}_TOKEN"}

    def decorate(function: Function) -> Function:
        @wraps(function)
        def run(quiet: bool, **arguments: Any) -> Any:
            from densevision.cli.printing import configure_logging

            options = config.from_dict(select_given({name: arguments.pop(name) for name in config.model_fields}))
            configure_logging(quiet)
            return function(options=options, **arguments)

        return config_options(config, config.model_fields, envvars)(quiet_flag(run))  # type: ignore[return-value]

    return decorate


def select_given(options: dict[str, Any]) -> dict[str, Any]:
    """The prediction options that were typed."""
    return {
        name: value
        for name, value in options.items()
        if value is not None and value is not False and value != () and value != {}
    }


def describe_config(config: type[TaskConfig]) -> str:
    """Every option of a task's config with default and help, for the end of a help page."""
    lines = ["\b", "Config options (--set NAME=VALUE, or YAML):"]
    for option in config.iterate_options():
        if option.name != "task":
            first_paragraph = option.help.split("\n\n")[0]
            lines.append(
                f"  {option.name}={_format_yaml(option.default)}  {' '.join(first_paragraph.split())}".rstrip()
            )
    return "\n".join(lines)


def _describe_default(default: Any) -> str:
    return "" if default in (None, (), False) else f" [default: {default}]"


def _format_yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_format_yaml, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _click_type(annotation: Any) -> Any:
    """int, float, str or a choice, for an annotation such as `Annotated[int, ...] | None`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _click_type(next(part for part in arguments if part is not type(None)))
    if origin in (typing.Annotated, tuple):
        return _click_type(arguments[0])
    if origin is typing.Literal:
        return click.Choice(arguments)
    return annotation if annotation in (int, float, str, bool) else str


def describe_invocation() -> str:
    """The command line that reproduces a page."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def folder_or_none(path: str | None) -> Path | None:
    """An optional folder option as a path."""
    return None if path is None else Path(path)
