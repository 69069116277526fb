"""Label files of datasets, read by every task that they are for, under a random error policy."""

from __future__ import annotations

import base64
import io
import json
import random
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from PIL import Image

from densevision.datasets.formats.fiftyone_masks import encode_mask
from densevision.metrics.coco_files import score_files
from densevision.metrics.mot_files import score_mot
from densevision.ops.masks import encode
from densevision.sample import InputSpec
from densevision.tasks import load_config
from fuzzing.images import FILES, SIZE
from fuzzing.mutations import mutate_json, mutate_png, mutate_text
from fuzzing.reader import Reader, write

HEIGHT, WIDTH = SIZE
MASK = np.add.outer(np.arange(HEIGHT) // 8, np.arange(WIDTH) // 16).astype(np.uint8)
POLICIES = ("fail", "fix", "skip")
SQUARE = [4, 4, 12, 4, 12, 12, 4, 12]
RUNS = {"size": [HEIGHT, WIDTH], "counts": [100, 4, 20, 4, HEIGHT * WIDTH - 128]}
COCO: dict[str, Any] = {
    "info": {"year": 2020},
    "images": [
        {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
        {"id": 2, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 4, 8, 8], "area": 64, "segmentation": [SQUARE],
         "iscrowd": 0, "keypoints": [5, 5, 2, 6, 6, 1], "num_keypoints": 2},
        {"id": 2, "image_id": 1, "category_id": 3, "bbox": [1.5, 2.5, 3, 3], "area": 9, "segmentation": RUNS,
         "iscrowd": 1, "keypoints": [0] * 6, "num_keypoints": 0},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 25, "segmentation": [SQUARE],
         "iscrowd": 0, "keypoints": [5, 5, 2, 6, 6, 1], "num_keypoints": 2},
    ],
    "categories": [
        {"id": 1, "name": "cat", "keypoints": ["head", "tail"], "skeleton": [[1, 2]]}, {"id": 3, "name": "dog"},
    ],
}  # fmt: skip
PEOPLE = COCO | {"categories": COCO["categories"][:1], "annotations": COCO["annotations"][::2]}
PANOPTIC: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
    "annotations": [
        {"image_id": 1, "file_name": "a.png", "segments_info": [
            {"id": 1, "category_id": 1, "area": 10, "bbox": [0, 0, 5, 5], "iscrowd": 0},
            {"id": 2, "category_id": 2, "area": 10, "bbox": [5, 5, 5, 5], "iscrowd": 0}]},
    ],
    "categories": [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}],
}  # fmt: skip
RESULTS = [
    {"image_id": 1, "category_id": 1, "bbox": [4, 4, 8, 8], "score": 0.9, "segmentation": encode(MASK == 0)},
    {"image_id": 2, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.1, "segmentation": [SQUARE]},
]


TRACKS = b"1,1,10.5,20,30,40,1,1,1\n1,2,60,20,30,40,1,7,1\n2,1,12,20,30,40,1,1,1\n3 2 61 20 30 40 0.5\n"
"""Tracks as MOTChallenge's text."""


def save_png(image: Image.Image) -> bytes:
    """The bytes of a PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


CVAT = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>cat</name></label><label><name>dog</name></label></labels></task></meta>
<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">
<polygon label="cat" occluded="0" points="4.0,4.0;12.0,4.0;12.0,12.0" z_order="0"></polygon>
<polygon label="dog" occluded="0" points="1.5,1.0;9.0,2.0;9.5,20.0" z_order="1"></polygon>
<mask label="dog" occluded="0" rle="1, 2, 3, 2, 1" left="2" top="3" width="3" height="3" z_order="0"></mask>
</image>
<image id="1" name="b.png" width="{WIDTH}" height="{HEIGHT}">
<polygon label="cat" occluded="0" points="4.0,4.0;12.0,4.0;12.0,12.0" z_order="0"></polygon>
</image>
</annotations>
"""
CVAT_VIDEO = """<annotations><version>1.1</version>
<meta><task><start_frame>0</start_frame><frame_filter>step=1</frame_filter></task></meta>
<track id="0" label="cat"><polygon frame="0" outside="0" keyframe="1" points="4.0,4.0;12.0,4.0;12.0,12.0"></polygon>
<polygon frame="1" outside="1" keyframe="1" points="5.0,4.0;13.0,4.0;13.0,12.0"></polygon></track>
<track id="1" label="dog"><ellipse frame="0" outside="0" cx="9" cy="9" rx="4" ry="3" rotation="9"></ellipse></track>
</annotations>
"""
VIA: dict[str, Any] = {
    name: {
        "filename": name, "size": 100, "file_attributes": {},
        "regions": [
            {"shape_attributes": {"name": "polygon", "all_points_x": [4, 12, 12], "all_points_y": [4, 4, 12]},
             "region_attributes": {"label": "cat"}},
            {"shape_attributes": {"name": "circle", "cx": 14, "cy": 14, "r": 4},
             "region_attributes": {"label": "dog"}},
        ],
    }
    for name in ("a.png", "b.png")
}  # fmt: skip
VIA3: dict[str, Any] = {
    "project": {"vid_list": ["1", "2"]}, "config": {},
    "attribute": {"1": {"aname": "class", "anchor_id": "FILE1_Z0_XY1", "type": 4, "options": {"0": "cat", "1": "dog"}}},
    "file": {key: {"fid": key, "type": 2, "src": name} for key, name in (("1", "a.png"), ("2", "b.png"))},
    "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    "metadata": {
        f"{view}_{kind}": {"vid": view, "flg": 0, "z": [], "xy": [kind, *numbers], "av": {"1": str(kind % 2)}}
        for view in ("1", "2")
        for kind, numbers in ((3, (14, 14, 4)), (4, (9, 9, 4, 3)), (7, SQUARE), (9, (4, 8, 8, 4, 12, 8)))
    },
}  # fmt: skip
FIFTYONE: dict[str, Any] = {
    "samples": [
        {
            "filepath": name, "tags": ["train"],
            "ground_truth": {"_cls": "Detections", "detections": [
                {"_cls": "Detection", "label": label, "bounding_box": [0.25, 0.25, 0.5, 0.5],
                 "mask": encode_mask(np.tri(5, 7, dtype=bool))}
                for label in ("cat", "dog")
            ]},
        }
        for name in ("a.png", "b.png")
    ]
}  # fmt: skip
SUPERVISELY: dict[str, Any] = {
    "size": {"height": HEIGHT, "width": WIDTH}, "tags": [],
    "objects": [
        {"classTitle": "cat", "geometryType": "rectangle", "points": {"exterior": [[4, 4], [12, 12]], "interior": []}},
        {"classTitle": "dog", "geometryType": "polygon",
         "points": {"exterior": [[1, 1], [9, 1], [9, 20]], "interior": [[[3, 2], [8, 2], [8, 8]]]}},
        {"classTitle": "dog", "geometryType": "bitmap", "bitmap": {
            "origin": [2, 3],
            "data": base64.b64encode(zlib.compress(save_png(Image.fromarray(np.tri(5, 7) > 0)))).decode()}},
    ],
}  # fmt: skip
SUPERVISELY_META = '{"classes": [{"title": "cat", "shape": "any"}, {"title": "dog", "shape": "any"}]}'
IMAGE_FOLDER = b"""\
{"file_name": "a.png", "objects": {"bbox": [[4, 4, 8, 8], [1.5, 2.5, 3, 3]], "categories": [0, 1]}}
{"file_name": "b.png", "objects": [{"bbox": [0, 0, 5, 5], "label": 1}]}
"""
IMAGE_FOLDER_CARD = b"""---
dataset_info:
  features:
  - name: objects
    struct:
    - name: categories
      list:
        class_label:
          names:
            '0': cat
            '1': dog
---
"""
LABEL_STUDIO: list[dict[str, Any]] = [
    {
        "id": number, "data": {"image": f"/data/upload/1/{name}"},
        "annotations": [{"id": 1, "result": [
            {"id": "x", "type": "polygonlabels", "from_name": "label", "to_name": "image",
             "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
             "value": {"points": [[10, 10], [50, 10], [50, 50]], "closed": True, "polygonlabels": ["cat"]}},
        ]}],
    }
    for number, name in enumerate(("a.png", "b.png"))
]  # fmt: skip
LABELME: dict[str, Any] = {
    "version": "5.0", "flags": {}, "imagePath": "a.png", "imageData": None, "imageHeight": HEIGHT,
    "imageWidth": WIDTH,
    "shapes": [
        {"label": "cat", "points": [[4, 4], [12, 4], [12, 12]], "shape_type": "polygon", "group_id": None},
        {"label": "dog", "points": [[1, 1], [9, 8]], "shape_type": "rectangle", "group_id": 1},
        {"label": "dog", "points": [[14, 14], [16, 16]], "shape_type": "circle", "group_id": 1},
        {"label": "cat", "points": [[2, 2], [3, 3]], "shape_type": "mask", "group_id": None,
         "mask": base64.b64encode(save_png(Image.fromarray(np.full((2, 2), 255, np.uint8)))).decode()},
    ],
}  # fmt: skip
VOC = f"""<annotation>
<folder>JPEGImages</folder><filename>a.png</filename>
<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size><segmented>0</segmented>
<object><name>cat</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>4</xmin><ymin>5</ymin><xmax>12</xmax><ymax>12</ymax></bndbox></object>
<object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>1.5</xmin><ymin>1</ymin><xmax>9</xmax><ymax>20</ymax></bndbox></object>
</annotation>
"""
DATA_YAML = """path: .
train: images/train
val: images/val
nc: 2
names:
  0: cat
  1: dog
"""
CONFIG_YAML = """task: detection
arch: yolo_n
backbone: {name: mobilenetv2_050, channels: 3}
data:
  path: scenes:8
  size: 64
train: {epochs: 3, batch: 4, lr: 1.0e-3, seed: 1}
augment:
  mosaic: 0.5
"""


def make_palette_mask() -> bytes:
    """A mask of four classes in VOC's colors."""
    image = Image.fromarray(MASK, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 756)
    return save_png(image)


def images(*names: str) -> dict[str, bytes | str]:
    """Two images per folder."""
    return {f"{name}{stem}.png": FILES["rgb.png"] for name in names for stem in "ab"}


def read_as(*tasks: str, file: bool = False) -> Callable[[Path, random.Random], Sequence[str]]:
    """Opens the dataset around a file (or the file itself, if named) as one of the tasks, and reads its samples."""

    def read(path: Path, rng: random.Random) -> Sequence[str]:
        task = rng.choice(tasks)
        root = path if file else find_root(path)
        config = load_config(task)().replace(data__path=str(root), data__on_error=rng.choice(POLICIES))
        spec = [InputSpec()] if task == "detection" else []
        samples = import_module(f"densevision.tasks.{task}.dataset").open_split(config, *spec, "train")
        for index in range(min(2, len(samples))):
            samples[index]
        return samples.notes

    return read


def find_root(path: Path) -> Path:
    """The dataset of a file: the folder in which `prepare` left a mark."""
    return next(parent for parent in path.parents if (parent / ".root").exists())


def prepare(files: dict[str, bytes | str]) -> Callable[[Path], None]:
    """Writes neighbors and the mark of the root."""
    return lambda folder: write(folder, {".root": "", **files})


def json_refuses(path: Path) -> bool:
    """Whether Python's json cannot read a file."""
    return _fails(lambda: json.loads(path.read_text("utf-8-sig")))


def xml_refuses(path: Path) -> bool:
    """Whether ElementTree cannot read a file."""
    return _fails(lambda: ElementTree.parse(path))


def yaml_refuses(path: Path) -> bool:
    """Whether PyYAML's safe loader cannot read a file."""
    return _fails(lambda: yaml.safe_load(path.read_bytes()))


def _fails(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:
        return True
    return False


def read_scores(path: Path, rng: random.Random) -> Sequence[str]:
    """Scores predictions against the truth beside them."""
    truth = path.parent / "truth.json" if path.name == "results.json" else path
    score_files(truth, path.parent / "results.json", rng.choice(("bbox", "bbox", "segm")))
    return ()


def read_config(path: Path, rng: random.Random) -> Sequence[str]:
    load_config("detection").resolve(path, {})
    return ()


def read_tracks(path: Path, rng: random.Random) -> Sequence[str]:
    """Scores tracks against the truth beside them."""
    score_mot(path.parent / "truth.txt", path.parent / "results.txt", rng.choice((None, "MOT17", "MOT20")))
    return ()


READERS = [
    Reader(
        "coco",
        {"annotations/instances_train.json": json.dumps(COCO).encode()},
        read_as("detection", "instance", "semantic"),
        prepare(images("images/")),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "coco-keypoints",
        {"annotations/instances_train.json": json.dumps(PEOPLE).encode()},
        read_as("instance"),
        prepare(images("images/")),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "coco-panoptic",
        {"annotations/panoptic_train.json": json.dumps(PANOPTIC).encode()},
        read_as("semantic"),
        prepare(
            images("images/")
            | {
                "annotations/panoptic_train/a.png": save_png(
                    Image.fromarray(np.dstack([1 + MASK % 2, 0 * MASK, 0 * MASK]))
                )
            }
        ),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "coco-results",
        {"results.json": json.dumps(RESULTS).encode(), "other/truth.json": json.dumps(COCO).encode()},
        lambda path, rng: read_scores(path, rng),
        lambda folder: write(
            folder,
            {"truth.json": json.dumps(COCO), "other/results.json": json.dumps(RESULTS)},
        ),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "mot",
        {"results.txt": TRACKS, "truth.txt": TRACKS},
        read_tracks,
        lambda folder: write(folder, {"truth.txt": TRACKS, "results.txt": TRACKS}),
        mutate=mutate_text,
    ),
    Reader(
        "yolo",
        {"labels/train/a.txt": b"0 0.5 0.5 0.25 0.25\n1 0.25 0.25 0.125 0.5\n0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n"},
        read_as("detection"),
        prepare(images("images/train/", "images/val/") | {"data.yaml": DATA_YAML, "labels/val/a.txt": "0 .5 .5 .2 .2"}),
        mutate=mutate_text,
    ),
    Reader(
        "yolo-polygons",
        {"labels/train/a.txt": b"0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n1 .2 .2 .3 .2 .3 .3\n"},
        read_as("instance", "semantic"),
        prepare(images("images/train/", "images/val/") | {"data.yaml": DATA_YAML, "labels/train/b.txt": ""}),
        mutate=mutate_text,
    ),
    Reader(
        "yolo-yaml",
        {"data.yaml": DATA_YAML.encode()},
        read_as("detection", "instance"),
        prepare(images("images/train/", "images/val/") | {"labels/train/a.txt": "0 .1 .1 .5 .1 .5 .5"}),
        yaml_refuses,
        mutate_text,
    ),
    Reader(
        "voc",
        {"Annotations/a.xml": VOC.encode()},
        read_as("detection"),
        prepare(images("JPEGImages/")),
        xml_refuses,
        mutate_text,
    ),
    Reader(
        "voc-list",
        {"ImageSets/Main/train.txt": b"a\nb  1\n", "ImageSets/Main/val.txt": b"b -1\n"},
        read_as("detection"),
        prepare(images("JPEGImages/") | {f"Annotations/{stem}.xml": VOC for stem in "ab"}),
        None,
        mutate_text,
    ),
    Reader(
        "labelme",
        {"a.json": json.dumps(LABELME).encode()},
        read_as("instance", "semantic"),
        prepare(images("")),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "cvat",
        {"annotations.xml": CVAT.encode()},
        read_as("detection", "instance", "semantic"),
        prepare(images("images/")),
        xml_refuses,
        mutate_text,
    ),
    Reader(
        "cvat-video",
        {"annotations.xml": CVAT_VIDEO.encode()},
        read_as("detection", "instance", "semantic"),
        prepare(images("images/")),
        xml_refuses,
        mutate_text,
    ),
    Reader(
        "via3",
        {"via.json": json.dumps(VIA3).encode()},
        read_as("detection", "instance", "semantic"),
        prepare(images("")),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "fiftyone",
        {"samples.json": json.dumps(FIFTYONE).encode()},
        read_as("detection", "instance", "semantic"),
        prepare(images("")),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "supervisely",
        {"set/ann/a.png.json": json.dumps(SUPERVISELY).encode(), "meta.json": SUPERVISELY_META.encode()},
        read_as("detection", "instance", "semantic"),
        prepare(images("set/img/") | {"set/ann/b.png.json": json.dumps(SUPERVISELY), "meta.json": SUPERVISELY_META}),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "imagefolder",
        {"train/metadata.jsonl": IMAGE_FOLDER, "README.md": IMAGE_FOLDER_CARD},
        read_as("detection"),
        prepare(images("train/") | {"train/metadata.jsonl": IMAGE_FOLDER, "README.md": IMAGE_FOLDER_CARD}),
        None,
        mutate_text,
    ),
    Reader(
        "via",
        {"via.json": json.dumps(VIA).encode()},
        read_as("detection", "instance", "semantic"),
        prepare(images("")),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "label-studio",
        {"tasks.json": json.dumps(LABEL_STUDIO).encode()},
        read_as("detection", "instance", "semantic"),
        prepare(images("")),
        json_refuses,
        mutate_json,
    ),
    Reader(
        "masks",
        {"masks/a.png": make_palette_mask()},
        read_as("semantic"),
        prepare(images("images/") | {"masks/b.png": make_palette_mask(), "classes.txt": "wall\nfloor\ncat\ndog\n"}),
        None,
        mutate_png,
    ),
    Reader("config", {"config.yaml": CONFIG_YAML.encode()}, read_config, refuses=yaml_refuses, mutate=mutate_text),
]
