"""`densevision TASK VERB`, `densevision demo`, `densevision models`; errors become one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

import click

from densevision.errors import DenseVisionError, did_you_mean
from densevision.tasks import TASKS
from densevision.version import __version__

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

VERBS = {
    "train": "Train, or continue a run.",
    "predict": "Answer images, folders or videos.",
    "evaluate": "Judge weights on a dataset.",
    "score": "Judge prediction files against truth files.",
    "export": "Write a model for other runtimes, and verify it.",
    "check": "Example for faults in a dataset.",
    "info": "Tell what a weights file is.",
    "benchmark": "Measure the speed of prediction.",
}
COMMANDS = {
    "demo": "Show every task at work on fresh scenes, in one page.",
    "models": "List backbones and named weights.",
}


class Lazy(click.Group):
    """A group whose commands are imported when they are called, and named without."""

    def __init__(self, name: str, short: dict[str, str], module: str, **more):
        super().__init__(name, **more)
        self.short, self.module = short, module

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(self.short)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports one command."""
        if name not in self.short:
            return None
        return import_module(f"{self.module}.{name}").command(*self._arguments())

    def resolve_command(self, ctx: click.Context, args: list[str]):
        """Offers the nearest name for an unknown one."""
        if args and not args[0].startswith("-") and args[0] not in self.short:
            raise click.UsageError(f"No such command '{args[0]}'. {did_you_mean(args[0], self.short)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands from the table, so that help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.short.items()))

    def _arguments(self) -> tuple[str, ...]:
        return ()


class TaskVerbs(Lazy):
    """The verbs of one task."""

    def _arguments(self) -> tuple[str, ...]:
        return (self.name or "",)


class Root(Lazy):
    """Tasks, and the commands that belong to none."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """A task's verbs, or a command."""
        if name in TASKS:
            return TaskVerbs(name, VERBS, "densevision.cli.verbs", help=TASKS[name])
        return super().get_command(ctx, name)


root = Root(
    "densevision",
    {**TASKS, **COMMANDS},
    "densevision.cli",
    help="Dense prediction by one set of words. Each task has the same verbs: densevision TASK VERB --help.",
    params=[click.Option(["--debug"], is_flag=True, help="Show tracebacks.")],
)
root = click.version_option(__version__, prog_name="densevision")(root)


def run(arguments: list[str] | None = None) -> None:
    """Entry point: exit code 0 done, 1 failed while running, 2 usage, 3 data, 4 weights or model, 5 export.

    What is interrupted by Ctrl-C ends with 130, by SIGTERM with 143; nothing half written stays behind.
    """
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # the process is ours
        signal.signal(signal.SIGTERM, _terminated)
    try:
        code = root.main(arguments, prog_name="densevision", standalone_mode=False)
    except click.ClickException as failure:
        failure.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except DenseVisionError as failure:
        if debug:
            raise
        _fail(str(failure), failure.exit_code)
    except Exception as failure:
        if debug:
            raise
        _fail(f"{type(failure).__name__}: {failure}. Run again with 'densevision --debug ...' for the traceback.", 1)
    if isinstance(code, int) and code:  # what a command gave to `ctx.exit`
        sys.exit(code)


def guarded(command: click.Command, arguments: list[str] | None = None) -> None:
    """Runs a command of a tool: what a person can cause becomes one line and its exit code, all else a traceback."""
    try:
        command.main(arguments)
    except DenseVisionError as failure:
        _fail(str(failure), failure.exit_code)


def _terminated(*_: object) -> None:
    """Lets whoever has opened a file take it away, as Ctrl-C does."""
    sys.exit(143)


def _fail(message: str, code: int) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(code)
