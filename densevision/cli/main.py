"""`densevision TASK VERB` and the commands without a task; errors become one line and an exit code."""

from __future__ import annotations

import io
import signal
import sys
from importlib import import_module
from typing import Any

import click

from densevision.cli.suggestions import suggest_option
from densevision.errors import DenseVisionError, did_you_mean
from densevision.escaping import escape_control
from densevision.tasks import TASKS
from densevision.version import __version__

__all__ = ["COMMANDS", "TASK_VERBS", "VERBS", "LazyGroup", "RootGroup", "TaskGroup", "root", "run", "run_tool"]

VERBS = {
    "train": "Train a model, or resume a run.",
    "tune": "Search for the best options of a training.",
    "predict": "Run inference on images, folders or videos.",
    "evaluate": "Evaluate weights on a dataset.",
    "score": "Score prediction files against ground-truth files.",
    "export": "Export weights to ONNX, OpenVINO or torch.export, and verify the result.",
    "check": "Check a dataset for problems.",
    "info": "Show what a weights file, exported model or run folder is.",
    "benchmark": "Measure the speed and memory of prediction.",
    "analyze": "Analyze which kinds of errors occur and what they cost.",
    "compare": "Compare two models or prediction files, with confidence intervals.",
    "robustness": "Measure how a model degrades under corruptions.",
    "select": "Select the images to label next.",
}
_AUTOLABEL = {"autolabel": "Write predictions as labels that people correct in an annotation program."}
TASK_VERBS = {
    "detection": _AUTOLABEL,
    "instance": _AUTOLABEL,
    "flow": {"submit": "Write files for the test servers of Sintel and KITTI."},
    "joint": {
        "split": "Write the weights of each task as weights of their own.",
        "combine": "Write weights of single tasks as those of a joint model.",
    },
}
"""Verbs that only some tasks have."""
COMMANDS = {
    "doctor": "Check whether this machine can run densevision.",
    "demo": "Run every task on fresh synthetic scenes and write one page.",
    "app": "Open a web page to predict, compare, and look at runs and datasets.",
    "serve": "Serve models over HTTP.",
    "models": "List architectures, weights and backbones.",
    "info": "Show what a weights file, exported model or run folder is.",
    "convert": "Convert a dataset into another format.",
    "similar": "Find near-duplicates, or the images most similar to one.",
    "convert-weights": "Convert published weights of other projects.",
    "push": "Publish trained weights on the Hugging Face Hub or in a folder.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when help lists them."""

    def __init__(self, name: str, summaries: dict[str, str], module: str, **options: Any):
        super().__init__(name, **options)
        self.summaries, self.module = summaries, module

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(self.summaries)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Imports one command."""
        if name not in self.summaries:
            return None
        module = import_module(f"{self.module}.{name.replace('-', '_')}")
        return module.command(*self._command_arguments())

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Suggests the nearest name for an unknown one."""
        if args and not args[0].startswith("-") and not self.has_command(args[0]):
            raise click.UsageError(f"No such command '{args[0]}'. {did_you_mean(args[0], self.summaries)}", ctx)
        return super().resolve_command(ctx, args)

    def has_command(self, name: str) -> bool:
        """Whether there is a command of this name, without importing it."""
        return name in self.summaries

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands from the table, so that help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))

    def _command_arguments(self) -> tuple[str, ...]:
        return ()


class TaskGroup(LazyGroup):
    """The verbs of one task."""

    def _command_arguments(self) -> tuple[str, ...]:
        return (self.name or "",)


class RootGroup(LazyGroup):
    """Tasks, and the commands that belong to none. Help lists the tasks of this package; those of others work too."""

    def has_command(self, name: str) -> bool:
        """Whether there is a task or a command of this name."""
        return super().has_command(name) or name in TASKS

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """A task's verbs, or a command."""
        if name in TASKS:
            verbs = VERBS | TASK_VERBS.get(name, {})
            return TaskGroup(name, verbs, "densevision.cli.verbs", help=TASKS[name])
        return super().get_command(ctx, name)


root = RootGroup(
    "densevision",
    {**TASKS.built_in, **COMMANDS},
    "densevision.cli",
    help="Dense prediction from one command line. Every task has the same verbs: see densevision TASK --help.",
    params=[click.Option(["--debug"], is_flag=True, help="Show tracebacks.")],
)
root = click.version_option(__version__, prog_name="densevision")(root)


def run(arguments: list[str] | None = None) -> None:
    """Entry point: exit code 0 done, 1 failed while running, 2 usage, 3 data, 4 weights or model, 5 export.

    Ctrl-C exits with 130 and SIGTERM with 143; no half-written files stay behind.
    """
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    if arguments is None and hasattr(signal, "SIGTERM"):  # the process is ours
        signal.signal(signal.SIGTERM, _exit_on_sigterm)
    try:
        code = root.main(arguments, prog_name="densevision", standalone_mode=False)
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption):
            problem = f"No such option '{error.option_name}'. {suggest_option(error)}"
            error = click.UsageError(problem.rstrip(), error.ctx)
        message = io.StringIO()
        error.show(message)
        click.echo(escape_control(message.getvalue()), err=True, nl=False)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except DenseVisionError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except MemoryError as error:
        if debug:
            raise
        detail = str(error) or "an allocation failed"
        _fail(f"out of memory: {detail}. Lower the size, the batch or the number of workers.", 1)
    except Exception as error:
        if debug:
            raise
        _fail(f"{type(error).__name__}: {error}. Run again with 'densevision --debug ...' for the traceback.", 1)
    if isinstance(code, int) and code:  # from `ctx.exit`
        sys.exit(code)


def run_tool(command: click.Command, arguments: list[str] | None = None) -> None:
    """Runs a command of a maintenance program: expected errors become one line and an exit code."""
    try:
        command.main(arguments)
    except DenseVisionError as error:
        _fail(str(error), error.exit_code)


def _exit_on_sigterm(*_: object) -> None:
    """Unwinds the stack as Ctrl-C does, so that open files are removed."""
    sys.exit(143)


def _fail(message: str, code: int) -> None:
    click.echo(f"error: {escape_control(message)}", err=True)
    sys.exit(code)
