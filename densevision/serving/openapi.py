"""The OpenAPI description of a prediction: fields, options, formats and examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from densevision.run_config import PredictOptions
from densevision.serving.options import REQUEST_LIMITS, ServerOptions, list_request_options
from densevision.serving.responses import list_formats, media_type
from densevision.serving.served_models import ServedModel
from densevision.serving.uploads import image_fields

__all__ = ["describe_operation"]

ERRORS = {
    "401": ("The token is missing or wrong.", {"message": "the token is missing or wrong"}),
    "406": ("No format that the client accepts.", {"message": "no format of the result is accepted."}),
    "408": ("The body did not arrive in time.", {"message": "the body did not arrive within 60 seconds"}),
    "413": ("Too many bytes, pixels or images.", {"message": "the request is larger than 20,000,000 bytes"}),
    "422": (
        "An option is not supported, or an image cannot be read.",
        {"message": "photo.jpg: is a web page, not an image.", "hint": "Download the image itself."},
    ),
    "429": ("Too many requests in work; Retry-After says when to try again.", {"message": "64 requests are in work"}),
    "504": ("No result in time.", {"message": "no result within 60 seconds"}),
}
"""Status -> description and example of the error."""
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message"],
            "properties": {name: {"type": "string"} for name in ("message", "field", "hint")},
        }
    },
}


def describe_operation(models: Sequence[ServedModel], options: ServerOptions) -> dict[str, Any]:
    """The operation of one task.

    Args:
        models: Its models.
        options: The limits.
    """
    first = models[0]
    task = first.predictor.task
    fields = image_fields(task.input_spec)
    file_list = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": options.max_images}
    form = {"type": "object", "required": fields, "properties": dict.fromkeys(fields, file_list)}
    example = {"task": first.task, "model": first.name, "results": [{"source": "image.png", **first.example}]}
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}, "example": example}}
    formats = list_formats(first.result_type)
    for name in ("png", "npy", "npz"):
        if name in formats:
            content[media_type(name)] = {"schema": {"type": "string", "format": "binary"}}
    responses: dict[str, Any] = {"200": {"description": "The results, in the order of the images.", "content": content}}
    for status, (description, error) in ERRORS.items():
        body = {"application/json": {"schema": _ERROR_SCHEMA, "example": {"error": error}}}
        responses[status] = {"description": description, "content": body}
    return {
        "description": f"Images are uploaded as {' and '.join(fields)}, one or several of each. Options may also be "
        "form fields.",
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
        "parameters": [
            *_describe_options(task.supported_options),
            _describe_parameter("model", "Name of the model.", {"enum": [m.name for m in models]}, first.name),
            _describe_parameter("format", "Format of the response.", {"enum": formats}, "json"),
        ],
        "responses": responses,
        **({"security": [{"token": []}]} if options.token is not None else {}),
    }


def _describe_options(supported: frozenset[str]) -> list[dict[str, Any]]:
    properties = PredictOptions.model_json_schema()["properties"]
    parameters = []
    for name in list_request_options(supported):
        schema = {key: value for key, value in properties[name].items() if key not in ("description", "title")}
        choices = [each for each in schema.pop("anyOf", [schema]) if each.get("type") != "null"]
        schema = {**{key: value for key, value in schema.items() if value is not None}, **choices[0]}
        if name in REQUEST_LIMITS:
            low, high = REQUEST_LIMITS[name]
            schema |= {"minimum": low, "maximum": high}
        parameters.append(_describe_parameter(name, PredictOptions.model_fields[name].description or "", schema))
    return parameters


def _describe_parameter(name: str, description: str, schema: dict[str, Any], default: str | None = None) -> Any:
    schema = {"type": "string", "default": default, **schema} if default is not None else schema
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
