"""What an exported file says about itself: how to feed it, and what its outputs mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from densevision.errors import WeightsError

__all__ = ["CARD_KEY", "DECODE_OPTIONS", "EXPORT_KEY", "OUTPUT_FORMATS", "ExportMetadata"]

CARD_KEY, EXPORT_KEY = "densevision", "densevision_export"
"""Keys of an exported file's metadata: the card of the weights, and `ExportMetadata`, both as JSON."""

DECODE_OPTIONS = ("score_threshold", "max_detections", "iou_threshold", "class_agnostic", "classes", "iterations")
"""Options of `predict` that the model or its postprocessing reads, so that an export fixes their values.

Without postprocessing, an export fixes only those that `forward` reads."""

OUTPUT_FORMATS = {
    "boxes": "(batch, rows, 4) float32: x1, y1, x2, y2 in pixels of the network's input canvas",
    "scores": "(batch, rows) float32 in [0, 1], in descending order",
    "labels": "(batch, rows) int64: index into `classes`",
    "valid": "(batch, rows) bool: true for detections, false for padding",
}
"""Output -> its format, as it is written into exported files."""


@dataclass(frozen=True)
class ExportMetadata:
    """How to use an exported file, beyond the card of its weights.

    Attributes:
        decoded: The file includes the postprocessing, not only the network.
        options: Value of each of `DECODE_OPTIONS`.
        half: The network computes in float16; inputs, postprocessing and outputs are float32.
        inputs: Input -> its size rule, the fields of `densevision.sample.InputSpec`: how an image is resized and placed
            on the canvas, and the fill value around it.
        images: Number of images on which the file was compared with PyTorch, or, in integers, with the file that was
            judged.
        differences: Output -> the largest difference from PyTorch; see `densevision.exporting.verification`.
        outputs: Output -> its format, where it is a list of detections.
        classes: Class names in the order of the labels.
        layout: Layout of the image inputs.
        color_order: Order of their color channels.
        value_range: Range of their values; the network normalizes them itself.
        predict_options: Score and IoU thresholds and number of detections of `predict`. The file itself keeps all that
            `options` allow, which evaluation needs.
        quantization: None of a network in float; otherwise the "type" of its integers, the metric before and after, on
            which data and by which protocol, and the layers that stay in float; see `densevision.quantization.export`.
    """

    decoded: bool
    options: dict[str, Any]
    half: bool
    inputs: dict[str, dict[str, Any]]
    images: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    layout: str = "NCHW float32"
    color_order: str = "RGB"
    value_range: tuple[float, float] = (0.0, 1.0)
    predict_options: dict[str, float] = field(default_factory=dict)
    quantization: dict[str, Any] | None = None

    @property
    def precision(self) -> str:
        """In which type the network computes: "float32", "float16" or "int8"."""
        return str(self.quantization["type"]) if self.quantization else "float16" if self.half else "float32"

    def to_json(self) -> str:
        """The metadata as JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    def to_texts(self) -> dict[str, str]:
        """The same as plain keys for programs in any language: words and numbers separated by blanks, names by lines.

        Size rules have the name of their input in front ("next.fill") where image inputs differ.
        """
        texts = {
            "layout": self.layout,
            "color_order": self.color_order,
            "value_range": _to_text([format(value, "g") for value in self.value_range]),
        }
        rules = {name: _describe_input(spec) for name, spec in self.inputs.items() if spec["kind"] == "image"}
        is_common = len({tuple(rule.items()) for rule in rules.values()}) == 1
        for name, rule in rules.items():
            texts |= rule if is_common else {f"{name}.{key}": text for key, text in rule.items()}
        if any(name.rpartition("/")[2] == "boxes" for name in self.outputs):
            texts["box_format"] = "x1 y1 x2 y2 in pixels of the input"
        if self.classes:
            texts["class_names"] = "\n".join(self.classes)
        for name, value in self.predict_options.items():
            texts[name] = format(value, "g")
        return texts

    @classmethod
    def from_json(cls, text: str, file: Path) -> ExportMetadata:
        """Reads metadata; fields that this version does not know are ignored.

        Raises:
            WeightsError: The metadata is damaged.
        """
        try:
            values = json.loads(text)
            values["options"] = {name: _to_option(values["options"].get(name)) for name in DECODE_OPTIONS}
            values |= {name: _to_option(values[name]) for name in ("classes", "value_range")}
            if values.setdefault("quantization", None) is not None and values["quantization"]["type"] != "int8":
                raise ValueError  # files of earlier versions have no such field
            return cls(**{item.name: values[item.name] for item in fields(cls)})
        except (ValueError, KeyError, TypeError, AttributeError):
            hint = "Export the weights again."
            raise WeightsError("the export metadata is damaged", file=file, field=EXPORT_KEY, hint=hint) from None


_POSITIONS = {"letterbox": "center", "center": "center", "stretch": "none"}
"""Resize mode -> where the canvas holds the image; top left for all others."""


def _describe_input(spec: Mapping[str, Any]) -> dict[str, str]:
    """The size rule of an image input as plain text."""
    size = spec["size"]
    texts = {
        "channels": spec["channels"],
        "resize_mode": spec["mode"],
        "resize_position": _POSITIONS.get(spec["mode"], "top left"),
        "input_size": None if size is None else [size, size] if isinstance(size, int) else list(size),
        "max_size": spec["max_size"],
        "multiple_of": spec["multiple_of"],
        "min_side": spec["min_side"],
        "full_size": int(spec["full_size"]),
        "fill": spec["fill"],
        "interpolation": spec["interpolation"],
    }
    return {name: _to_text(value) for name, value in texts.items() if value is not None}


def _to_text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _to_option(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
