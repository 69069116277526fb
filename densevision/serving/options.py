"""Options of the server, and prediction options that arrive as text in a request. Imports no torch."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from densevision.config import Config, Count, Positive
from densevision.errors import UsageError, did_you_mean
from densevision.run_config import Device, Engine, Precision, PredictOptions
from densevision.yaml_files import parse_setting

__all__ = [
    "REQUEST_LIMITS",
    "ListenOptions",
    "ServerOptions",
    "check_exposure",
    "is_loopback",
    "list_request_options",
    "parse_options",
]

MIN_TOKEN_LENGTH = 16
"""Characters that a token has at least."""
REQUEST_LIMITS: Mapping[str, tuple[float, float]] = {
    "tile": (128, 65_536),
    "overlap": (0, 0.5),
    "iterations": (1, 100),
}
"""Option -> smallest and largest value in a request, because the cost of one image grows without bound outside."""


class ListenOptions(Config):
    """Where to listen, what to compute with, and what a request may hold: the same for the server and the page."""

    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback address needs a token."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """Port to listen on; 0 picks a free one."""
    token: str | None = None
    """Token that requests must send as `Authorization: Bearer TOKEN`; the environment variable keeps it out of the
    list of processes."""
    engine: Engine = "torch"
    """What computes the networks; others than torch need the extra export, and export them once into the cache."""
    device: Device = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    precision: Precision = "auto"
    """`auto` is bfloat16 where the device computes it natively, float32 elsewhere."""
    max_upload_mb: Positive = 20.0
    """Maximum size of a request in megabytes."""
    max_pixels: Count = 50_000_000
    """Maximum number of pixels of all images of a request together."""
    max_images: Count = 16
    """Maximum number of images, or pairs, per request."""

    @property
    def max_upload_bytes(self) -> int:
        """Maximum size of a request in bytes."""
        return int(self.max_upload_mb * 1_000_000)


class ServerOptions(ListenOptions):
    """Options of `densevision serve`."""

    batch: Count = 8
    """Maximum number of images per forward pass."""
    batch_window_ms: Annotated[float, Field(ge=0, le=10_000)] = 5.0
    """Milliseconds that a request waits for others to be predicted with."""
    queue: Count = 64
    """Maximum number of requests in work; further ones are answered with 429."""
    timeout: Positive = 60.0
    """Seconds after which a request is given up."""
    allow_urls: bool = False
    """Let requests name images by public http and https addresses, which the server downloads."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_exposure(options: ListenOptions) -> None:
    """Refuses to listen to other machines without a token, and tokens that can be guessed.

    Raises:
        UsageError: The host needs a token, or the token is too short or not ASCII.
    """
    if options.token is not None and (len(options.token) < MIN_TOKEN_LENGTH or not options.token.isascii()):
        hint = "For example: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        raise UsageError(f"needs at least {MIN_TOKEN_LENGTH} ASCII characters", field="token", hint=hint)
    if options.token is None and not is_loopback(options.host):
        hint = "Set a token, by --token or its environment variable, or listen on 127.0.0.1."
        raise UsageError("other machines may only be served with a token", field="host", value=options.host, hint=hint)


def list_request_options(supported: Iterable[str]) -> list[str]:
    """The prediction options that a request may set: those of the task, but for sequences, which need a session."""
    return [name for name in PredictOptions.model_fields if name in supported and name != "warm_start"]


def parse_options(pairs: Iterable[tuple[str, str]], supported: Iterable[str]) -> dict[str, Any]:
    """Reads prediction options from query and form fields; values are written as after `--set`.

    Args:
        pairs: Names and values; lists repeat the name.
        supported: Options that the task supports.

    Raises:
        UsageError: An option is not supported, is given twice, or is outside of `REQUEST_LIMITS`.
    """
    known = list_request_options(supported)
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known:
            raise UsageError("no such option", field=name, value=text, hint=did_you_mean(name, known))
        if "tuple" in str(PredictOptions.model_fields[name].annotation):
            values[name] = (*values.get(name, ()), text)
        elif name in values:
            raise UsageError("is given twice", field=name, value=text, hint="Give it once.")
        else:
            values[name] = parse_setting(f"{name}={text}")[1]
    for name, (low, high) in REQUEST_LIMITS.items():
        value = values.get(name)
        if isinstance(value, (int, float)) and not low <= value <= high:
            hint = f"The server accepts {low:g} to {high:g}."
            raise UsageError("is outside the limits of the server", field=name, value=value, hint=hint)
    return values
