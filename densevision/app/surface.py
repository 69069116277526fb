"""Depth as a textured surface in space: binary glTF 2.0, which 3-D viewers and browsers show."""

from __future__ import annotations

import json
import math
import os
import struct
from typing import Any

import cv2
import numpy as np

from densevision.draw.fields import compute_display_range
from densevision.errors import DataError
from densevision.io.atomic_write import write_bytes
from densevision.results import DepthMap

__all__ = ["build_surface", "compute_distance", "write_surface"]

MAX_VERTICES = 60_000
"""Vertices up to which every pixel is one; of larger images every second, third, ... pixel."""
MAX_STEP = 1.1
"""Ratio of the distances of neighboring pixels above which the surface is cut: an edge between two objects."""
MAX_THINNED_STEP = 1.4
"""The same for vertices that are several pixels apart, however many."""
FIELD_OF_VIEW = 55.0
"""Degrees of the wider side, for images of an unknown camera."""
NEAREST_FRACTION = 0.15
"""Distance of the largest disparity, as a fraction of that of the smallest, where disparity has no unit."""
MAX_TEXTURE_SIDE = 1024
FLOAT, UNSIGNED = 5126, 5125
"""Types of numbers in glTF."""
VERTICES, INDICES = 34962, 34963
"""Kinds of buffers in glTF."""


def compute_distance(depth: DepthMap) -> tuple[np.ndarray, np.ndarray, str]:
    """Distances along the optical axis.

    Args:
        depth: Any kind of depth. Disparity without a unit leaves scale and shift open: they are chosen so that the
            nearest point has `NEAREST_FRACTION` of the distance of the farthest.

    Returns:
        (H, W) float64 distances; (H, W) bool where they are known; their unit, empty if there is none.
    """
    if depth.kind == "disparity" and depth.unit == "px" and depth.is_calibrated:
        depth = depth.metric()
    if depth.kind != "disparity":
        return depth.depth.astype(np.float64), depth.valid & (depth.depth > 0), depth.unit
    low, high = compute_display_range(depth.depth, depth.valid)
    level = np.clip((depth.depth.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
    return 1 / (1 + level * (1 / NEAREST_FRACTION - 1)), depth.valid, ""


def build_surface(depth: DepthMap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Connects neighboring pixels to triangles, except across edges of objects.

    Returns:
        (V, 3) float32 positions, x right, y up and z towards the viewer, in the depth's unit; (V, 2) float32 texture
        coordinates; (T, 3) uint32 triangles, counterclockwise as the camera sees them.

    Raises:
        DataError: No pixel has a known distance, or no neighbors belong together.
    """
    distance, known, _ = compute_distance(depth)
    height, width = depth.size
    step = max(1, math.ceil(math.sqrt(height * width / MAX_VERTICES)))
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    z, is_known = distance[::step, ::step], known[::step, ::step]
    focal = depth.camera.focal if depth.camera else max(depth.size) / 2 / math.tan(math.radians(FIELD_OF_VIEW / 2))
    center_x, center_y = depth.camera.center(depth.size) if depth.camera else (width / 2, height / 2)
    x = (columns[None] + 0.5 - center_x) / focal * z
    y = (rows[:, None] + 0.5 - center_y) / focal * z
    positions = np.stack([x, -y, -z], -1).reshape(-1, 3)
    u, v = np.meshgrid((columns + 0.5) / width, (rows + 0.5) / height)
    coordinates = np.stack([u, v], -1).reshape(-1, 2)
    triangles = _connect(z, is_known, min(MAX_STEP**step, MAX_THINNED_STEP))
    if not len(triangles):
        raise DataError("no surface can be drawn: neighboring pixels have no known distance", value=depth.size)
    used, triangles = np.unique(triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3).astype(np.uint32)
    return positions[used].astype(np.float32), coordinates[used].astype(np.float32), triangles


def write_surface(path: str | os.PathLike[str], depth: DepthMap, image: np.ndarray) -> float:
    """Writes the surface with the image on it, whole or not at all.

    The surface is moved so that the origin is its middle, around which viewers rotate.

    Args:
        path: Ends in .glb.
        depth: The depth.
        image: (H, W, 3) uint8 RGB.

    Returns:
        Distance of the camera from the origin, in the depth's unit: from there the surface looks like the image.

    Raises:
        DataError: See `build_surface`.
    """
    positions, coordinates, triangles = build_surface(depth)
    middle = (positions.min(0) + positions.max(0)) / 2
    positions = positions - middle
    parts = [positions.tobytes(), coordinates.tobytes(), triangles.tobytes(), _encode_texture(image)]
    starts = np.cumsum([0, *(len(part) + -len(part) % 4 for part in parts)]).tolist()
    views: list[dict[str, Any]] = [
        {"buffer": 0, "byteOffset": start, "byteLength": len(part)} for start, part in zip(starts, parts)
    ]
    for view, target in zip(views, (VERTICES, VERTICES, INDICES)):
        view["target"] = target
    document = {
        "asset": {"version": "2.0", "generator": "densevision"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0, "mode": 4}]}
        ],
        "materials": [
            {
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0, "roughnessFactor": 1},
                "extensions": {"KHR_materials_unlit": {}},
                "doubleSided": True,
            }
        ],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"wrapS": 33071, "wrapT": 33071}],
        "images": [{"bufferView": 3, "mimeType": "image/jpeg"}],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": FLOAT,
                "count": len(positions),
                "type": "VEC3",
                "min": positions.min(0).tolist(),
                "max": positions.max(0).tolist(),
            },
            {"bufferView": 1, "componentType": FLOAT, "count": len(coordinates), "type": "VEC2"},
            {"bufferView": 2, "componentType": UNSIGNED, "count": triangles.size, "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": starts[-1]}],
    }
    write_bytes(path, _pack(document, b"".join(part + bytes(-len(part) % 4) for part in parts)))
    return float(-middle[2])


def _connect(z: np.ndarray, is_known: np.ndarray, max_ratio: float) -> np.ndarray:
    """(T, 3) triangles of a grid of distances whose corners are known and whose ratio is at most `max_ratio`."""
    index = np.arange(z.size).reshape(z.shape)
    top_left, top_right, bottom_left, bottom_right = (
        index[rows, columns].ravel()
        for rows in (slice(None, -1), slice(1, None))
        for columns in (slice(None, -1), slice(1, None))
    )
    triangles = np.concatenate(
        [np.stack([top_left, bottom_left, top_right], 1), np.stack([top_right, bottom_left, bottom_right], 1)]
    )
    corners = z.ravel()[triangles]
    is_surface = corners.max(1) <= max_ratio * corners.min(1)
    return triangles[is_known.ravel()[triangles].all(1) & is_surface]


def _encode_texture(image: np.ndarray) -> bytes:
    scale = MAX_TEXTURE_SIDE / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _pack(document: dict[str, Any], binary: bytes) -> bytes:
    """The container of glTF 2.0, section 4: a header and two chunks, each padded to four bytes."""
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
