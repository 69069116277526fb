"""Writers of one dataset as projects of VIA 3 and FiftyOne and as tracks of CVAT, from the documentation of each."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from layout_writers import NAMES, Object, Photo, Splits, merge, save, write_text
from PIL import Image

POLYGON, RECTANGLE = 7, 2
TEXT, SELECT = 1, 4


def via3(root: Path, splits: Splits, kind: int = POLYGON) -> None:
    """A project of VIA 3; classes are the options of a list, or text."""
    photos = merge(splits)
    options = {str(row): name for row, name in enumerate(NAMES)} if kind == POLYGON else {}
    attribute = {"aname": "class", "anchor_id": "FILE1_Z0_XY1", "type": SELECT if options else TEXT, "desc": ""}
    attribute |= {"options": options, "default_option_id": ""}
    temporal = {"aname": "TEMPORAL-SEGMENTS", "anchor_id": "FILE1_Z2_XY0", "type": SELECT, "options": {"0": "talk"}}
    files, views, metadata = {}, {}, {}
    for number, photo in enumerate(photos, 1):
        save(photo, root / "images")
        files[str(number)] = {"fid": str(number), "fname": photo.name, "type": 2, "loc": 1, "src": photo.name}
        views[str(number)] = {"fid_list": [str(number)]}
        for row, item in enumerate(photo.objects):
            numbers = item.flat if kind == POLYGON else item.xywh
            value = str(NAMES.index(item.name)) if options else item.name
            entry = {"vid": str(number), "flg": 0, "z": [], "xy": [kind, *numbers], "av": {"2": value}}
            metadata[f"{number}_{row}"] = entry
    metadata["1_time"] = {"vid": "1", "flg": 0, "z": [0.5, 1.5], "xy": [], "av": {"1": "0"}}
    project = {"pid": "x", "rev": "1", "rev_timestamp": "x", "pname": "fruit", "vid_list": list(views)}
    content = {"project": project, "config": {}, "attribute": {"1": temporal, "2": attribute}, "file": files}
    write_text(root / "via_project.json", json.dumps(content | {"metadata": metadata, "view": views}))


def cvat_video(root: Path, splits: Splits, kind: str = "polygon") -> None:
    """Each photo is a frame, and each object a track of one frame, after which it is outside."""
    photos = merge(splits)
    tracks = []
    for frame, photo in enumerate(photos):
        save(photo, root / "images")
        for item in photo.objects:
            shapes = _cvat_track_shape(item, kind, frame, False)
            shapes += _cvat_track_shape(item, kind, frame + 1, True) if frame + 1 < len(photos) else ""
            tracks.append(f'<track id="{len(tracks)}" label="{item.name}" source="manual">{shapes}</track>')
    labels = "".join(f"<label><name>{name}</name></label>" for name in NAMES)
    meta = f"<meta><task><size>{len(photos)}</size><start_frame>0</start_frame><labels>{labels}</labels></task></meta>"
    write_text(root / "annotations.xml", f"<annotations><version>1.1</version>{meta}{''.join(tracks)}</annotations>")


def _cvat_track_shape(item: Object, kind: str, frame: int, is_outside: bool) -> str:
    head = f'<{kind} frame="{frame}" outside="{int(is_outside)}" occluded="0" keyframe="1"'
    x1, y1, x2, y2 = item.box
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in item.polygon)
    place = f'points="{points}"' if kind == "polygon" else f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
    return f'{head} {place} z_order="0"></{kind}>'


def fiftyone_masks(root: Path, splits: Splits, as_files: bool = False) -> None:
    """Samples with tags for the splits, and masks of boxes as zlib-compressed arrays or as images."""
    samples = []
    for split, photos in splits.items():
        for photo in photos:
            save(photo, root / "data")
            detections = [_fiftyone_mask(root, photo, row, as_files) for row in range(len(photo.objects))]
            truth = {"_cls": "Detections", "detections": detections}
            tags = ["seen", {"val": "validation"}.get(split, split)]
            samples.append({"filepath": f"data/{photo.name}", "tags": tags, "ground_truth": truth})
    write_text(root / "metadata.json", json.dumps({"media_type": "image", "default_classes": list(NAMES)}))
    write_text(root / "samples.json", json.dumps({"samples": samples}))


def _fiftyone_mask(root: Path, photo: Photo, row: int, as_file: bool) -> dict[str, Any]:
    item, (height, width) = photo.objects[row], photo.size
    rows, columns = (np.flatnonzero(item.mask.any(axis)) for axis in (1, 0))
    top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    window = item.mask[top:bottom, left:right]
    box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
    entry: dict[str, Any] = {"_cls": "Detection", "label": item.name, "bounding_box": [float(value) for value in box]}
    if as_file:
        entry["mask_path"] = f"fields/ground_truth/{photo.stem}_{row}.png"
        path = root / entry["mask_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(window.astype(np.uint8) * 255).save(path)
        return entry
    stream = io.BytesIO()
    np.save(stream, window)
    content = base64.b64encode(zlib.compress(stream.getvalue())).decode()
    return entry | {"mask": {"$binary": {"base64": content, "subType": "00"}}}


PROJECTS_WITH_MASKS = {
    "VIA 3": via3,
    "CVAT for video": cvat_video,
    "FiftyOne, masks": fiftyone_masks,
    "FiftyOne, masks as images": lambda root, splits: fiftyone_masks(root, splits, True),
}
PROJECTS_WITH_BOXES = {
    "VIA 3, rectangles": lambda root, splits: via3(root, splits, RECTANGLE),
    "CVAT for video, boxes": lambda root, splits: cvat_video(root, splits, "box"),
}


def cvat_track(root: Path, count: int, *shapes: str, meta: str = "", names: Sequence[str] = ()) -> None:
    """A video of gray frames with one track."""
    for frame in range(count):
        name = names[frame] if names else f"frame_{frame:06d}.png"
        save(Photo("a", np.full((48, 64, 3), frame, np.uint8), ()), root / "images", name)
    track = f'<track id="0" label="apple">{"".join(shapes)}</track>'
    write_text(root / "annotations.xml", f"<annotations><meta>{meta}</meta>{track}</annotations>")
