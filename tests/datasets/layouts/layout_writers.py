"""Writers of one dataset in the layouts of labeling programs, from the documentation of each."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Point = tuple[float, float]


@dataclass(frozen=True)
class Object:
    """A labeled object: class, corners of its polygon, and the mask of its pixels."""

    name: str
    polygon: tuple[Point, ...]
    mask: np.ndarray

    @property
    def box(self) -> tuple[float, float, float, float]:
        """xyxy."""
        x, y = zip(*self.polygon)
        return min(x), min(y), max(x), max(y)

    @property
    def xywh(self) -> list[float]:
        """x, y, width, height."""
        x1, y1, x2, y2 = self.box
        return [x1, y1, x2 - x1, y2 - y1]

    @property
    def flat(self) -> list[float]:
        """x y x y ..."""
        return [value for point in self.polygon for value in point]


@dataclass(frozen=True)
class Photo:
    """An image and its objects."""

    stem: str
    pixels: np.ndarray
    objects: tuple[Object, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height, width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def name(self) -> str:
        """The file."""
        return f"{self.stem}.png"


Splits = dict[str, Sequence[Photo]]
NAMES = ("apple", "pear")
ROBOFLOW = {"train": "train", "val": "valid"}


def save(photo: Photo, folder: Path, name: str | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo.pixels).save(folder / (name or photo.name))


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def merge(splits: Splits) -> list[Photo]:
    return [photo for photos in splits.values() for photo in photos]


# --- COCO ---


def coco_json(photos: Iterable[Photo], first: int = 1, prefix: str = "", dummy: bool = False) -> str:
    images, annotations = [], []
    for number, photo in enumerate(photos):
        height, width = photo.size
        images.append({"id": number, "file_name": prefix + photo.name, "width": width, "height": height})
        for item in photo.objects:
            x, y, w, h = item.xywh
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": NAMES.index(item.name) + first,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "segmentation": [item.flat],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": row + first, "name": name, "supercategory": "fruit"} for row, name in enumerate(NAMES)]
    if dummy:
        categories = [{"id": 0, "name": "fruit", "supercategory": "none"}, *categories]
    return json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})


def coco_roboflow(root: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        folder = root / ROBOFLOW[split]
        for photo in photos:
            save(photo, folder)
        write_text(folder / "_annotations.coco.json", coco_json(photos, dummy=True))
    write_text(root / "README.roboflow.txt", "exported by roboflow.com")


def coco_label_studio(root: Path, splits: Splits, prefix: str = "images/") -> None:
    for photo in merge(splits):
        save(photo, root / "images")
    write_text(root / "result.json", coco_json(merge(splits), 0, prefix))


def coco_fiftyone(root: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        for photo in photos:
            save(photo, root / split / "data")
        write_text(root / split / "labels.json", coco_json(photos))


def coco_cvat(root: Path, splits: Splits) -> None:
    for photo in merge(splits):
        save(photo, root / "images")
    write_text(root / "annotations" / "instances_default.json", coco_json(merge(splits)))


# --- YOLO ---


def yolo_lines(photo: Photo, polygons: bool) -> str:
    height, width = photo.size
    lines = []
    for item in photo.objects:
        x1, y1, x2, y2 = item.box
        values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        if polygons:
            values = [value / side for point in item.polygon for value, side in zip(point, (width, height))]
        lines.append(" ".join([str(NAMES.index(item.name)), *(f"{value:.6f}" for value in values)]))
    return "\n".join(lines)


def yolo_roboflow(root: Path, splits: Splits, polygons: bool = True) -> None:
    for split, photos in splits.items():
        for photo in photos:
            save(photo, root / ROBOFLOW[split] / "images")
            write_text(root / ROBOFLOW[split] / "labels" / f"{photo.stem}.txt", yolo_lines(photo, polygons))
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['apple', 'pear']\n"
    write_text(root / "data.yaml", text + "\nroboflow:\n  workspace: w\n  version: 1\n")
    write_text(root / "README.dataset.txt", "fruit")


def yolo_boxes(root: Path, splits: Splits) -> None:
    yolo_roboflow(root, splits, polygons=False)


def yolo_ultralytics(root: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        for photo in photos:
            save(photo, root / "images" / split)
            write_text(root / "labels" / split / f"{photo.stem}.txt", yolo_lines(photo, True))
    write_text(root / "fruit.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: apple\n  1: pear\n")


def yolo_cvat_11(root: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        part = {"train": "train", "val": "valid"}[split]
        for photo in photos:
            save(photo, root / f"obj_{part}_data")
            write_text(root / f"obj_{part}_data" / f"{photo.stem}.txt", yolo_lines(photo, False))
        write_text(root / f"{part}.txt", "".join(f"data/obj_{part}_data/{photo.name}\n" for photo in photos))
    write_text(root / "obj.names", "".join(f"{name}\n" for name in NAMES))
    write_text(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")


def yolo_cvat_ultralytics(root: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        for photo in photos:
            save(photo, root / "images" / split)
            write_text(root / "labels" / split / f"{photo.stem}.txt", yolo_lines(photo, True))
        write_text(root / f"{split}.txt", "".join(f"data/images/{split}/{photo.name}\n" for photo in photos))
    write_text(root / "data.yaml", "names:\n  0: apple\n  1: pear\npath: .\ntrain: train.txt\nval: val.txt\n")


def yolo_label_studio(root: Path, splits: Splits) -> None:
    for photo in merge(splits):
        save(photo, root / "images")
        write_text(root / "labels" / f"{photo.stem}.txt", yolo_lines(photo, True))
    write_text(root / "classes.txt", "apple\npear\n")
    categories = [{"id": row, "name": name} for row, name in enumerate(NAMES)]
    write_text(root / "notes.json", json.dumps({"categories": categories, "info": {"contributor": "Label Studio"}}))


def yolo_labelimg(root: Path, splits: Splits) -> None:
    for photo in merge(splits):
        save(photo, root)
        write_text(root / f"{photo.stem}.txt", yolo_lines(photo, False))
    write_text(root / "classes.txt", "apple\npear\n")


def yolo_fiftyone_4(root: Path, splits: Splits) -> None:
    for photo in merge(splits):
        save(photo, root / "data")
        write_text(root / "data" / f"{photo.stem}.txt", yolo_lines(photo, False))
    write_text(root / "obj.names", "apple\npear\n")
    write_text(root / "images.txt", "".join(f"data/{photo.name}\n" for photo in merge(splits)))


def yolo_darknet_roboflow(root: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        for photo in photos:
            save(photo, root / ROBOFLOW[split])
            write_text(root / ROBOFLOW[split] / f"{photo.stem}.txt", yolo_lines(photo, False))
        write_text(root / ROBOFLOW[split] / "_darknet.labels", "apple\npear\n")


# --- Pascal VOC ---


def voc_xml(photo: Photo, folder: str, encoding: str | None = None) -> bytes:
    height, width = photo.size
    objects = "".join(
        f"<object><name>{item.name}</name><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{item.box[0] + 1:g}</xmin><ymin>{item.box[1] + 1:g}</ymin><xmax>{item.box[2]:g}</xmax>"
        f"<ymax>{item.box[3]:g}</ymax></bndbox></object>"
        for item in photo.objects
    )
    text = (
        f"<annotation><folder>{folder}</folder><filename>{photo.name}</filename><path>C:\\{folder}\\{photo.name}</path>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>{objects}</annotation>"
    )
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n' if encoding else ""
    return (head + text).encode(encoding or "utf-8")


def voc(root: Path, photos: Iterable[Photo], labels: str, images: str) -> None:
    for photo in photos:
        save(photo, root / images)
        (root / labels).mkdir(parents=True, exist_ok=True)
        (root / labels / f"{photo.stem}.xml").write_bytes(voc_xml(photo, images))


def voc_pascal(root: Path, splits: Splits) -> None:
    voc(root, merge(splits), "Annotations", "JPEGImages")
    for split, photos in splits.items():
        write_text(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{photo.stem}\n" for photo in photos))


def voc_labelimg(root: Path, splits: Splits) -> None:
    voc(root, merge(splits), ".", ".")


def voc_label_studio(root: Path, splits: Splits) -> None:
    voc(root, merge(splits), "Annotations", "images")


def voc_roboflow(root: Path, splits: Splits) -> None:
    for split, photos in splits.items():
        voc(root / ROBOFLOW[split], photos, ".", ".")


def voc_fiftyone(root: Path, splits: Splits) -> None:
    voc(root, merge(splits), "labels", "data")


def get_palette_colors() -> np.ndarray:
    """The 256 colors of Pascal VOC's palette, as the published table lists its first entries."""
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    colors = np.full((256, 3), 7, np.uint8)
    colors[: len(first)], colors[255] = first, (224, 224, 192)
    return colors


def object_masks(root: Path, splits: Splits, is_colored: bool) -> None:
    """Pascal VOC's masks with a palette, or those of CVAT, in colors with a label map; the last row is border."""
    colors = get_palette_colors()
    names = ("background", *NAMES)
    for photo in merge(splits):
        save(photo, root / "JPEGImages")
        numbers, classes = np.zeros(photo.size, np.uint8), np.zeros(photo.size, np.uint8)
        numbers[-1] = 255
        for number, item in enumerate(photo.objects, 1):
            numbers[item.mask], classes[item.mask] = number, names.index(item.name)
        for folder, values in (("SegmentationObject", numbers), ("SegmentationClass", classes)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(values, "P")
            image.putpalette(colors.tobytes())
            (image.convert("RGB") if is_colored else image).save(root / folder / photo.name)
    lines = [f"{name}:{','.join(map(str, color))}::\n" for name, color in zip(names, colors.tolist())]
    write_text(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(lines))
    for split, photos in splits.items():
        stems = "".join(f"{photo.stem}\n" for photo in photos)
        write_text(root / "ImageSets" / "Segmentation" / f"{split}.txt", stems)


# --- programs with formats of their own ---


def labelme(root: Path, splits: Splits) -> None:
    for photo in merge(splits):
        save(photo, root)
        shapes = [
            {"label": item.name, "points": item.polygon, "group_id": None, "shape_type": "polygon", "flags": {}}
            for item in photo.objects
        ]
        height, width = photo.size
        document = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": photo.name, "imageData": None}
        document |= {"imageHeight": height, "imageWidth": width}
        write_text(root / f"{photo.stem}.json", json.dumps(document))


def cvat_xml(root: Path, splits: Splits, kind: str = "polygon", project: bool = False) -> None:
    rows = []
    for split, photos in splits.items():
        for photo in photos:
            save(photo, root / "images" / (split if project else ""))
            subset = f' subset="{split.capitalize()}"' if project else ""
            height, width = photo.size
            shapes = "".join(_cvat_shape(item, kind) for item in photo.objects)
            head = f'<image id="{len(rows)}" name="{photo.name}"{subset} width="{width}" height="{height}">'
            rows.append(f'{head}{shapes}<tag label="apple" source="manual"></tag></image>')
    labels = "".join(f"<label><name>{name}</name><type>any</type></label>" for name in NAMES)
    meta = f"<version>1.1</version><meta><job><labels>{labels}</labels></job></meta>"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{"".join(rows)}</annotations>'
    write_text(root / "annotations.xml", text)


def _cvat_shape(item: Object, kind: str) -> str:
    attributes = f'label="{item.name}" source="manual" occluded="0" z_order="0"'
    x1, y1, x2, y2 = item.box
    if kind == "box":
        return f'<box {attributes} xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"></box>'
    if kind == "mask":
        rows, columns = np.nonzero(item.mask)
        top, left, height, width = rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1
        window = item.mask[top : top + height, left : left + width].ravel()
        edges = np.flatnonzero(np.diff(window)) + 1
        runs = np.diff([0, *edges, len(window)]).tolist()
        runs = [0, *runs] if window[0] else runs
        place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
        return f'<mask {attributes} rle="{", ".join(map(str, runs))}" {place}></mask>'
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in item.polygon)
    return f'<polygon {attributes} points="{points}"></polygon>'


def label_studio(root: Path, splits: Splits, kind: str = "polygon", minimal: bool = False) -> None:
    tasks: list[dict[str, Any]] = []
    for number, photo in enumerate(merge(splits)):
        save(photo, root / "images")
        height, width = photo.size
        address = f"/data/upload/1/{number:08x}-{photo.name}"
        results = []
        for item in photo.objects:
            x, y, w, h = (100 * value / side for value, side in zip(item.xywh, (width, height) * 2))
            value: dict[str, Any] = {"x": x, "y": y, "width": w, "height": h, "rotation": 0}
            if kind == "polygon":
                value = {"points": [[100 * x / width, 100 * y / height] for x, y in item.polygon], "closed": True}
            if kind == "brush":
                value = {"format": "rle", "rle": encode_brush(item.mask)}
            key = {"box": "rectanglelabels"}.get(kind, f"{kind}labels")
            value[key] = [item.name]
            size = {"original_width": width, "original_height": height, "image_rotation": 0}
            results.append(value | size if minimal else {"value": value, "type": key, "id": "x", **size})
        if minimal:
            tasks.append({"image": address, "id": number, "label": results, "annotator": 1, "annotation_id": number})
        else:
            cancelled = {"id": 0, "result": [], "was_cancelled": True}
            choice = {"value": {"choices": ["good"]}, "type": "choices", "id": "y"}
            done = {"id": 1, "result": [choice, *results], "was_cancelled": False}
            tasks.append(
                {"id": number, "data": {"image": address}, "annotations": [cancelled, done], "predictions": []}
            )
    write_text(root / "project-1-at-2024-01-01.json", json.dumps(tasks))


def encode_brush(mask: np.ndarray) -> list[int]:
    """Packs RGBA pixels as rle-pack does: single runs where 8 and more values are equal, literal values otherwise."""
    values = np.repeat(mask.ravel().astype(np.uint8) * 255, 4)
    lengths = (3, 4, 8, 16)
    bits = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{length - 1:04b}" for length in lengths)
    start = 0
    while start < len(values):
        stop = start + 1
        while stop < len(values) and values[stop] == values[start] and stop - start < 1 << 16:
            stop += 1
        is_run = stop - start >= 8
        stop = stop if is_run else min(start + 5, len(values))
        row = next(row for row, length in enumerate(lengths) if stop - start - 1 < 1 << length)
        bits += f"{int(is_run)}{row:02b}{stop - start - 1:0{lengths[row]}b}"
        bits += "".join(f"{value:08b}" for value in ([values[start]] if is_run else values[start:stop]))
        start = stop
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def via(root: Path, splits: Splits, kind: str = "polygon", version: int = 2, project: bool = True) -> None:
    entries = {}
    for photo in merge(splits):
        save(photo, root)
        regions = []
        for item in photo.objects:
            x, y, width, height = item.xywh
            shape: dict[str, Any] = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
            if kind == "polygon":
                x_values, y_values = zip(*item.polygon)
                shape = {"name": "polygon", "all_points_x": x_values, "all_points_y": y_values}
            regions.append({"shape_attributes": shape, "region_attributes": {"fruit": item.name}})
        numbered: Any = {str(row): region for row, region in enumerate(regions)} if version == 1 else regions
        entry = {"filename": photo.name, "size": 1000, "regions": numbered, "file_attributes": {}}
        entries[f"{photo.name}1000"] = entry
    settings = {
        "_via_settings": {"ui": {}},
        "_via_img_metadata": entries,
        "_via_attributes": {"region": {}, "file": {}},
    }
    write_text(root / "via_project.json", json.dumps(settings if project else entries))


def supervisely(root: Path, splits: Splits, kind: str = "polygon") -> None:
    geometry = {"box": "rectangle", "polygon": "polygon", "bitmap": "bitmap"}[kind]
    classes = [{"title": name, "shape": geometry, "color": "#FF0000"} for name in NAMES]
    write_text(root / "meta.json", json.dumps({"classes": classes, "tags": []}))
    for split, photos in splits.items():
        for photo in photos:
            save(photo, root / split / "img")
            objects = []
            for item in photo.objects:
                x1, y1, x2, y2 = item.box
                entry: dict[str, Any] = {"id": 1, "classTitle": item.name, "geometryType": geometry, "tags": []}
                exterior = [[x1, y1], [x2, y2]] if kind == "box" else [list(point) for point in item.polygon]
                if kind == "bitmap":
                    rows, columns = np.nonzero(item.mask)
                    window = item.mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
                    stream = io.BytesIO()
                    Image.fromarray(window).save(stream, "PNG")
                    data = base64.b64encode(zlib.compress(stream.getvalue())).decode()
                    entry["bitmap"] = {"data": data, "origin": [int(columns.min()), int(rows.min())]}
                else:
                    entry["points"] = {"exterior": exterior, "interior": []}
                objects.append(entry)
            height, width = photo.size
            document = {"description": "", "tags": [], "size": {"height": height, "width": width}, "objects": objects}
            write_text(root / split / "ann" / f"{photo.name}.json", json.dumps(document))


def fiftyone_detections(root: Path, splits: Splits) -> None:
    labels = {}
    for photo in merge(splits):
        save(photo, root / "data")
        height, width = photo.size
        labels[photo.stem] = [
            {"label": item.name, "bounding_box": [v / side for v, side in zip(item.xywh, (width, height) * 2)]}
            for item in photo.objects
        ]
    write_text(root / "labels.json", json.dumps({"classes": list(NAMES), "labels": labels}))


def fiftyone_samples(root: Path, splits: Splits) -> None:
    samples = []
    for photo in merge(splits):
        save(photo, root / "data")
        height, width = photo.size
        detections = [
            {
                "_cls": "Detection",
                "label": item.name,
                "bounding_box": [v / side for v, side in zip(item.xywh, (width, height) * 2)],
            }
            for item in photo.objects
        ]
        truth = {"_cls": "Detections", "detections": detections}
        samples.append({"filepath": f"data/{photo.name}", "tags": [], "ground_truth": truth})
    write_text(root / "metadata.json", json.dumps({"name": "fruit", "media_type": "image"}))
    write_text(root / "samples.json", json.dumps({"samples": samples}))


def image_folder(root: Path, splits: Splits, numbers: bool = True) -> None:
    for split, photos in splits.items():
        folder, lines = root / {"train": "train", "val": "validation"}[split], []
        for photo in photos:
            save(photo, folder)
            classes = [NAMES.index(item.name) if numbers else item.name for item in photo.objects]
            objects = {"bbox": [item.xywh for item in photo.objects], "categories": classes}
            lines.append(json.dumps({"file_name": photo.name, "objects": objects}))
        write_text(folder / "metadata.jsonl", "\n".join(lines) + "\n")
    names = "".join(f"          '{row}': {name}\n" for row, name in enumerate(NAMES))
    features = "dataset_info:\n  features:\n  - name: objects\n    sequence:\n    - name: categories\n      dtype:\n"
    write_text(root / "README.md", f"---\n{features}        class_label:\n         names:\n{names}---\n# Fruit\n")


Writer = Callable[[Path, Splits], None]

WITH_MASKS: dict[str, Writer] = {
    "COCO of Roboflow": coco_roboflow,
    "COCO of Label Studio": coco_label_studio,
    "COCO of Label Studio on Windows": lambda root, splits: coco_label_studio(root, splits, "images\\"),
    "COCO of FiftyOne": coco_fiftyone,
    "COCO of CVAT": coco_cvat,
    "YOLO of Roboflow": yolo_roboflow,
    "YOLO of Ultralytics": yolo_ultralytics,
    "YOLO of CVAT, Ultralytics' layout": yolo_cvat_ultralytics,
    "YOLO of Label Studio": yolo_label_studio,
    "labelme": labelme,
    "CVAT for images": cvat_xml,
    "CVAT for images, a project": lambda root, splits: cvat_xml(root, splits, project=True),
    "CVAT for images, masks": lambda root, splits: cvat_xml(root, splits, "mask"),
    "Label Studio JSON": label_studio,
    "Label Studio JSON, brush": lambda root, splits: label_studio(root, splits, "brush"),
    "Label Studio JSON-MIN": lambda root, splits: label_studio(root, splits, minimal=True),
    "VIA 2, project": via,
    "VIA 2, annotations": lambda root, splits: via(root, splits, project=False),
    "VIA 1": lambda root, splits: via(root, splits, version=1, project=False),
    "Supervisely": supervisely,
    "Supervisely, bitmaps": lambda root, splits: supervisely(root, splits, "bitmap"),
    "CVAT segmentation, masks": lambda root, splits: object_masks(root, splits, True),
    "Datumaro, masks": lambda root, splits: object_masks(root, splits, False),
}
WITH_BOXES: dict[str, Writer] = {
    "YOLO of Roboflow, boxes": yolo_boxes,
    "YOLO 1.1 of CVAT": yolo_cvat_11,
    "YOLO of LabelImg": yolo_labelimg,
    "YOLO of FiftyOne": yolo_fiftyone_4,
    "Darknet of Roboflow": yolo_darknet_roboflow,
    "Pascal VOC": voc_pascal,
    "Pascal VOC of LabelImg": voc_labelimg,
    "Pascal VOC of Label Studio": voc_label_studio,
    "Pascal VOC of Roboflow": voc_roboflow,
    "Pascal VOC of FiftyOne": voc_fiftyone,
    "CVAT for images, boxes": lambda root, splits: cvat_xml(root, splits, "box"),
    "Label Studio JSON, boxes": lambda root, splits: label_studio(root, splits, "box"),
    "VIA 2, rectangles": lambda root, splits: via(root, splits, "rect"),
    "Supervisely, rectangles": lambda root, splits: supervisely(root, splits, "box"),
    "FiftyOne, detections": fiftyone_detections,
    "FiftyOne, samples": fiftyone_samples,
    "imagefolder": image_folder,
    "imagefolder, names": lambda root, splits: image_folder(root, splits, False),
}
