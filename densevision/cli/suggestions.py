"""What a person may have meant by an option that a command does not have."""

from __future__ import annotations

import difflib

import click

from densevision.tasks import TASKS

__all__ = ["suggest_option"]

OTHER_TOOLS: dict[str, tuple[str, ...]] = {
    "batch_size": ("train.batch",),
    "checkpoint": ("--weights",),
    "ckpt": ("--weights",),
    "conf": ("--score-threshold",),
    "dataset": ("--data",),
    "freeze": ("backbone.freeze",),
    "imgsz": ("data.size",),
    "img_size": ("data.size",),
    "input_size": ("data.size",),
    "iou": ("--iou-threshold",),
    "learning_rate": ("train.lr",),
    "lr0": ("train.lr",),
    "max_det": ("--max-detections",),
    "model": ("--weights", "arch"),
    "num_workers": ("data.workers",),
    "output": ("--out",),
    "patience": ("train.early_stopping_patience",),
    "pretrained": ("backbone.pretrained",),
    "project": ("--out",),
    "save_dir": ("--out",),
}
"""Names of widespread tools -> the options here, of which a command has one."""
IGNORED_BY_WEIGHTS = ("train.", "augment.", "loss.", "backbone.")
"""Options of a config that only training takes."""
CUTOFF = 0.75


def suggest_option(error: click.NoSuchOption) -> str:
    """A sentence that names the nearest option, or the nearest config option by `--set`; empty where none is near.

    >>> from densevision.cli.main import root
    >>> train = root.get_command(None, "detection").get_command(None, "train")
    >>> context = click.Context(train, click.Context(root.get_command(None, "detection"), info_name="detection"))
    >>> suggest_option(click.NoSuchOption("--epochs", ctx=context))
    'Did you mean --set train.epochs=...?'
    """
    context = error.ctx
    if context is None:
        return ""
    name = error.option_name.lstrip("-").replace("-", "_")
    options = {
        flag.lstrip("-").replace("-", "_"): flag
        for parameter in context.command.params
        for flag in parameter.opts
        if flag.startswith("--")
    }
    settings = _list_settings(context) if "set" in options else []
    candidates = options | {setting.rpartition(".")[2]: setting for setting in reversed(settings)}
    candidates |= {setting.replace(".", "_"): setting for setting in settings}
    candidates |= {setting: setting for setting in settings}
    known = {*options.values(), *settings}
    for other, owns in OTHER_TOOLS.items():
        own = next((own for own in owns if own in known), None)
        if own is not None:
            candidates[other] = own
    match = name if name in candidates else next(iter(difflib.get_close_matches(name, candidates, 1, CUTOFF)), None)
    if match is None:
        return ""
    suggestion = candidates[match]
    return f"Did you mean {suggestion}?" if suggestion.startswith("--") else f"Did you mean --set {suggestion}=...?"


def _list_settings(context: click.Context) -> list[str]:
    """Config options of the command's task by dotted name, without those that the verb refuses."""
    task = context.parent.info_name if context.parent is not None else None
    if task is None or task not in TASKS:
        return []
    from densevision.tasks import load_config

    names = [option.name for option in load_config(task).iterate_options() if option.name != "task"]
    is_training = context.command.name in ("train", "check")
    return [name for name in names if is_training or not name.startswith(IGNORED_BY_WEIGHTS)]
