"""Records as cells of a table, and back without loss: the columns of bulk predictions. No torch, no pyarrow.

A column is a field of the record, or `part.field` of a joint result. Boxes, scores and labels are lists; masks are the
texts of COCO's run lengths; integer maps are PNGs; float maps are NumPy files (`.npy`). What all images share, such as
the names of classes, is stated once for the file.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from densevision.errors import DataError
from densevision.io.image_metadata import ImageMetadata
from densevision.io.segmentations import parse_rle
from densevision.ops.skeleton import Skeleton
from densevision.ops.view import Size
from densevision.results.base import Result
from densevision.results.depth_map import Camera, DepthMap
from densevision.results.detections import Detections
from densevision.results.flow_field import FlowField
from densevision.results.image import Image
from densevision.results.instances import Instances
from densevision.results.joint_result import JointResult
from densevision.results.semantic_map import SemanticMap

__all__ = ["decode_cells", "describe_constants", "encode_cells", "list_columns"]

Cells = dict[str, Any]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class _Format:
    """How one field is stored: the name of its type in a table, and the two directions."""

    arrow_type: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any, Size], Any]


def _encode_png(array: np.ndarray) -> bytes:
    pixels = array.astype(np.uint8) * np.uint8(255) if array.dtype == bool else array
    return cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()


def _decode_png(data: bytes, size: Size) -> np.ndarray:
    """A map of the image's size; the header is read first, so that a small file cannot claim a large memory."""
    if not data.startswith(PNG_SIGNATURE) or len(data) < 24 or struct.unpack(">II", data[16:24]) != size[::-1]:
        raise DataError("not a PNG of the size of the image", value=f"{len(data)} bytes, {size}")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError("a PNG that cannot be decoded", value=f"{len(data)} bytes")
    return pixels


def _encode_npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _decode_npy(data: bytes, size: Size) -> np.ndarray:
    """An array; nothing is allocated before the bytes are known to be there."""
    try:
        stream = io.BytesIO(data)
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape).copy()
    except ValueError as error:
        raise DataError(f"not a NumPy file: {error}", value=f"{len(data)} bytes") from None


def _decode_image(data: bytes, size: Size) -> np.ndarray:
    """An image of any size: a PNG in RGB order, or an array."""
    if not data.startswith(PNG_SIGNATURE):
        return _decode_npy(data, size)
    pixels = _decode_png(data, (struct.unpack(">II", data[16:24]))[::-1])
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(channels, [0])
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels)[..., order])


def _to_array(dtype: Any, *shape: int) -> Callable[[Any, Size], np.ndarray]:
    def convert(values: Any, size: Size) -> np.ndarray:
        rows = [] if values is None else values
        return np.array(rows, dtype).reshape(len(rows), *shape)

    return convert


def _to_keypoints(values: Any, size: Size) -> np.ndarray:
    return np.array(values, np.float32).reshape(len(values), len(values[0]) if len(values) else 0, 3)


def _to_keypoint_scores(values: Any, size: Size) -> np.ndarray:
    return np.array(values, np.float32).reshape(len(values), len(values[0]) if len(values) else 0)


def _decode_masks(values: Any, size: Size) -> tuple[dict[str, Any], ...]:
    masks = [parse_rle({"counts": text}, size) for text in values]
    if None in masks:
        raise DataError("run lengths of another size than the image", value=size)
    return tuple(mask for mask in masks if mask is not None)


def _decode_camera(text: str) -> Camera:
    values = json.loads(text)
    principal = values.pop("principal")
    return Camera(**values, principal=None if principal is None else tuple(principal))


def _keep(value: Any, size: Size) -> Any:
    return value


_LIST = Callable[[Any], Any]
_to_list: _LIST = np.ndarray.tolist
_PNG = _Format("binary", _encode_png, _decode_png)
_PNG_BOOL = _Format("binary", _encode_png, lambda data, size: _decode_png(data, size) > 0)
_NPY = _Format("binary", _encode_npy, _decode_npy)
_TEXT = _Format("string", str, _keep)
_JSON = _Format("string", lambda value: json.dumps(value, default=str), lambda text, size: json.loads(text))
_CAMERA = _Format("string", lambda camera: json.dumps(vars(camera)), lambda text, size: _decode_camera(text))
_BOXES = {
    "boxes": _Format("list<list<float>>", _to_list, _to_array(np.float32, 4)),
    "scores": _Format("list<float>", _to_list, _to_array(np.float32)),
    "labels": _Format("list<int64>", _to_list, _to_array(np.int64)),
}
_FORMATS: dict[type[Result], dict[str, _Format]] = {
    Detections: _BOXES,
    Instances: {
        **_BOXES,
        "masks": _Format("list<string>", lambda masks: [mask["counts"] for mask in masks], _decode_masks),
        "keypoints": _Format("list<list<list<float>>>", _to_list, _to_keypoints),
        "keypoint_scores": _Format("list<list<float>>", _to_list, _to_keypoint_scores),
    },
    SemanticMap: {"labels": _PNG, "probabilities": _NPY},
    DepthMap: {
        "depth": _NPY,
        "valid": _PNG_BOOL,
        "kind": _TEXT,
        "unit": _TEXT,
        "max": _Format("double", float, _keep),
        "camera": _CAMERA,
    },
    FlowField: {"flow": _NPY, "occlusion": _NPY, "valid": _PNG_BOOL},
    Image: {
        "image": _Format("binary", lambda array: array, _decode_image),
        "scale": _Format("int64", int, _keep),
        "metadata": _Format(
            "struct<icc_profile: binary, dpi: list<double>>",
            lambda value: {"icc_profile": value.icc_profile, "dpi": None if value.dpi is None else list(value.dpi)},
            lambda value, size: ImageMetadata(value["icc_profile"], value["dpi"] and tuple(value["dpi"])),
        ),
    },
}
_CONSTANTS: dict[type[Result], tuple[str, ...]] = {
    Detections: ("names", "category_ids"),
    Instances: ("names", "category_ids", "skeleton"),
    SemanticMap: ("names", "multilabel"),
}
"""Fields that are the same for all images."""
_KINDS = {kind.__name__: kind for kind in _FORMATS}


def describe_constants(result: Result) -> dict[str, Any]:
    """What a file states once: the class of the records, and the fields that all images share, as plain data."""
    if isinstance(result, JointResult):
        return {"result": "JointResult", "parts": {name: describe_constants(result[name]) for name in result}}
    kind = type(result)
    values = {name: getattr(result, name) for name in _CONSTANTS.get(kind, ())}
    plain = {name: vars(value) if isinstance(value, Skeleton) else value for name, value in values.items()}
    return {"result": kind.__name__, **plain}


def list_columns(constants: Mapping[str, Any], kinds: Mapping[str, type[Result]] | None = None) -> dict[str, str]:
    """The columns of records with these constants: name -> type in Arrow's notation, such as list<float>.

    Args:
        constants: From `describe_constants`.
        kinds: Classes of records of other packages, by name.
    """
    if constants["result"] == "JointResult":
        parts = {name: list_columns(part, kinds) for name, part in constants["parts"].items()}
        return {f"{name}.{column}": kind for name, part in parts.items() for column, kind in part.items()}
    formats = _get_formats(_find_kind(constants, kinds))
    return {name: each.arrow_type for name, each in formats.items()}


def encode_cells(result: Result) -> Cells:
    """The cells of a record; None where an optional field is absent."""
    if isinstance(result, JointResult):
        return {f"{part}.{name}": cell for part in result for name, cell in encode_cells(result[part]).items()}
    cells: Cells = {}
    for name, each in _get_formats(type(result)).items():
        value = getattr(result, name)
        if isinstance(result, Image) and name == "image":
            value = result.encode()[1]
        cells[name] = None if value is None else each.encode(value)
    return cells


def decode_cells(
    constants: Mapping[str, Any],
    cells: Mapping[str, Any],
    size: Size,
    source: Any = None,
    kinds: Mapping[str, type[Result]] | None = None,
) -> Result:
    """The record of cells, the inverse of `encode_cells`.

    Args:
        constants: From `describe_constants`.
        cells: Name of the column -> cell; others are ignored.
        size: (height, width) of the image.
        source: The image, or its path.
        kinds: Classes of records of other packages, by name.

    Raises:
        DataError: A cell is damaged, or the class of the records is unknown.
    """
    if constants["result"] == "JointResult":
        parts = {
            name: decode_cells(part, _select_part(cells, name), size, source, kinds)
            for name, part in constants["parts"].items()
        }
        return JointResult(size=size, source=source, results=parts)
    kind = _find_kind(constants, kinds)
    values: dict[str, Any] = {}
    for name, each in _get_formats(kind).items():
        try:
            values[name] = None if cells[name] is None else each.decode(cells[name], size)
        except (DataError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"a damaged cell: {error}", field=name) from None
    values |= {name: _decode_constant(name, constants.get(name)) for name in _CONSTANTS.get(kind, ())}
    if issubclass(kind, Detections):
        _check_objects(values, kind)
    own_size = values["image"].shape[:2] if kind is Image else size
    return kind(size=own_size, source=source, **values)


def _check_objects(values: Mapping[str, Any], kind: type[Detections]) -> None:
    """Refuses objects whose fields have different lengths, and labels without a name."""
    counts = {name: len(values[name]) for name in kind.object_fields if values.get(name) is not None}
    if len(set(counts.values())) > 1:
        raise DataError("fields of different lengths", field="boxes", value=counts)
    labels = values["labels"]
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(values["names"])):
        raise DataError("an index of no class", field="labels", value=int(labels.max()))


def _decode_constant(name: str, value: Any) -> Any:
    if name == "skeleton" and value is not None:
        return Skeleton(tuple(value["names"]), tuple(tuple(edge) for edge in value["edges"]))
    return tuple(value) if isinstance(value, list) else value


def _select_part(cells: Mapping[str, Any], part: str) -> Cells:
    return {name.removeprefix(f"{part}."): cell for name, cell in cells.items() if name.startswith(f"{part}.")}


def _find_kind(constants: Mapping[str, Any], kinds: Mapping[str, type[Result]] | None) -> type[Result]:
    name = constants["result"]
    kind = _KINDS.get(name) or (kinds or {}).get(name)
    if kind is None:
        raise DataError("records of an unknown class", value=name, hint="Import the package of the task.")
    return kind


def _get_formats(kind: type[Result]) -> dict[str, _Format]:
    """The stored fields of a class; arrays of classes of other packages are NumPy files, and all else is JSON."""
    if kind in _FORMATS:
        return _FORMATS[kind]
    fields = [item for item in dataclasses.fields(kind) if item.name not in ("size", "source")]
    return {item.name: _NPY if "ndarray" in str(item.type) else _JSON for item in fields}
