"""Results as the body of a response: JSON, a drawing, or a file of any format that `predict --save` writes."""

from __future__ import annotations

import json
import mimetypes
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densevision.errors import DenseVisionError, UsageError, did_you_mean
from densevision.results import Result
from densevision.results.base import DRAWING_SUFFIXES

__all__ = ["NotAcceptableError", "encode_error", "encode_results", "list_formats", "media_type", "negotiate_format"]

MEDIA_TYPES = {
    "json": "application/json",
    "png": "image/png",
    "npy": "application/x-npy",
    "npz": "application/x-npz",
}
"""Format -> media type, as in the header Accept; other formats are selected by `format` only."""


class NotAcceptableError(UsageError):
    """No format that the client accepts is available."""


def list_formats(result_type: type[Result]) -> list[str]:
    """The formats of a result, as `predict --save` names them."""
    suffixes = dict.fromkeys((".json", ".png", ".npz", *DRAWING_SUFFIXES, *result_type.save_methods))
    return [suffix[1:] for suffix in suffixes]


def media_type(name: str) -> str:
    """The media type of a format."""
    return MEDIA_TYPES.get(name) or mimetypes.guess_type(f"file.{name}")[0] or "application/octet-stream"


def negotiate_format(name: str | None, accept: str | None, result_type: type[Result]) -> str:
    """The format of the response.

    Args:
        name: The field `format`, which wins.
        accept: The header Accept (RFC 9110, section 12.5.1): the supported type of the highest weight.
        result_type: The type of the result.

    Raises:
        UsageError: The result has no such format.
        NotAcceptableError: It has none that is accepted.
    """
    formats = list_formats(result_type)
    if name is not None:
        if name not in formats:
            hint = did_you_mean(name, formats)
            raise UsageError(f"{result_type.__name__} has no such format", field="format", value=name, hint=hint)
        return name
    ranges = []
    for position, item in enumerate((accept or "*/*").split(",")):
        wanted, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            ranges.append((-float(weight), position, wanted))
        except ValueError:
            continue
    refused = {wanted for weight, _, wanted in ranges if not weight}
    for _, _, wanted in sorted(ranges):
        for name, media in MEDIA_TYPES.items():
            matches = wanted in (media, "*/*") or wanted == media.partition("/")[0] + "/*"
            if matches and name in formats and refused.isdisjoint((media, wanted)):
                return name
    known = ", ".join(media for name, media in MEDIA_TYPES.items() if name in formats)
    raise NotAcceptableError(
        "no format of the result is accepted", field="Accept", value=accept, hint=f"Known: {known}."
    )


def encode_results(
    results: Sequence[Result], sources: Sequence[str], name: str, task: str, model: str
) -> tuple[bytes, str]:
    """The body of a response and its media type.

    Args:
        results: At least one; formats other than JSON hold exactly one.
        sources: Names of the images.
        name: The format.
        task: Name of the task.
        model: Name of the model.
    """
    if name == "json":
        rows = [{"source": source, **result.to_dict()} for source, result in zip(sources, results)]
        text = json.dumps({"task": task, "model": model, "results": rows}, allow_nan=False, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace"), MEDIA_TYPES["json"]
    with tempfile.TemporaryDirectory(prefix="densevision-") as folder:
        path = results[0].save(Path(folder) / f"result.{name}")
        return path.read_bytes(), media_type(name)


def encode_error(error: DenseVisionError | str, **more: Any) -> Mapping[str, Any]:
    """The JSON of an error: its message, and field and hint where it has them."""
    if isinstance(error, str):
        return {"error": {"message": error, **more}}
    parts = {"message": str(error), "field": error.field, "hint": error.hint, **more}
    return {"error": {key: value for key, value in parts.items() if value is not None}}
