"""How the components of the page call their handlers: errors are shown, and predictions wait for each other."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from densevision.errors import DenseVisionError

__all__ = ["connect", "connect_prediction", "connect_silent", "describe_error"]

PREDICTIONS = "predict"
"""What predicts shares the processor: one of these handlers runs at a time, the others wait."""


def connect(event: Callable[..., Any], handler: Callable[..., Any], inputs: Any, outputs: Any, **options: Any) -> Any:
    """Calls a handler on an event of a component. Handlers are for the page alone; they are no API.

    Args:
        event: For example `button.click`.
        handler: Returns the updates of `outputs`.
        inputs: Components whose values the handler takes.
        outputs: Components that it updates.
        options: Further ones of gradio, such as `show_progress_on`.

    Returns:
        What follows the event, as gradio returns it.
    """
    return event(_report_errors(handler), inputs, outputs, api_visibility="private", **options)


def connect_prediction(
    event: Callable[..., Any], handler: Callable[..., Any], inputs: Any, outputs: Any, **options: Any
) -> Any:
    """As `connect`, for handlers that predict: they run one after the other."""
    return connect(event, handler, inputs, outputs, concurrency_limit=1, concurrency_id=PREDICTIONS, **options)


def connect_silent(
    event: Callable[..., Any], handler: Callable[..., Any], inputs: Any, outputs: Any, **options: Any
) -> Any:
    """As `connect`, without a progress indicator, for handlers that are quick and called often.

    While one runs, of the values that a visitor passes through only the last one is handled.
    """
    return connect(event, handler, inputs, outputs, show_progress="hidden", trigger_mode="always_last", **options)


def describe_error(error: DenseVisionError) -> str:
    """The message of an error as HTML, with the name of a file in the place of its path on this machine."""
    text = str(error)
    if error.file is not None:
        text = text.replace(str(error.file), Path(error.file).name)
    return html.escape(text)


def _report_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Shows errors that a visitor can fix as messages of the page; others are logged with their traceback."""

    @wraps(handler)
    def handle(*args: Any, **keywords: Any) -> Any:
        try:
            return handler(*args, **keywords)
        except DenseVisionError as error:
            raise gr.Error(describe_error(error), duration=None, print_exception=False) from None

    return handle
