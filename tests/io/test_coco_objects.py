"""Masks and keypoints of COCO JSON, YOLO and labelme, and invalid ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from densevision.errors import DataError
from densevision.ops.masks import decode, encode
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.task import Instance

SIZE = (40, 50)
SQUARE = [10.0, 10, 20, 10, 20, 25, 10, 25]
BOX = [10, 10, 10, 15]


def mask() -> np.ndarray:
    actual = np.zeros(SIZE, bool)
    actual[10:25, 10:20] = True
    return actual


def annotation(segmentation, **more) -> dict:
    return {"image_id": 1, "category_id": 3, "bbox": BOX, "area": 150, "segmentation": segmentation, **more}


def dataset(folder: Path, annotations: list[dict], **category) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / "images" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, 1)],
        "categories": [{"id": 3, "name": "thing", **category}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def open_samples(path: Path, **settings):
    config = InstanceConfig.resolve(None, {"data.path": str(path), **settings})
    return Instance(Instance.infer_from_data(config)).open_dataset("train")


def runs() -> dict:
    actual = coco.encode(np.asfortranarray(mask().astype(np.uint8)))
    return {"size": list(SIZE), "counts": actual["counts"].decode()}


def counts() -> list[int]:
    flat = np.concatenate([[0], mask().ravel("F").astype(int), [0]])
    return np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask().size]])).tolist()


@pytest.mark.parametrize(
    "segmentation", [[SQUARE], runs(), {"size": list(SIZE), "counts": counts()}], ids=["polygon", "text", "numbers"]
)
def test_coco__all_encodings_give_the_same_mask(tmp_path, segmentation):
    truth = open_samples(dataset(tmp_path, [annotation(segmentation)]))[0].truth
    assert np.array_equal(truth.dense()[0], mask())
    assert truth.masks[0] == encode(mask())


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_coco__polygons_equal_pycocotools(tmp_path, decimals):
    rng = np.random.default_rng(decimals)
    shapes = [
        [rng.uniform(0, 40, 2 * rng.integers(3, 9)).round(decimals).tolist() for _ in range(2)] for _ in range(60)
    ]
    drawn = [coco.decode(coco.merge(coco.frPyObjects(parts, *SIZE))).astype(bool) for parts in shapes]
    actual = open_samples(dataset(tmp_path, [annotation(parts) for parts in shapes]))[0].truth.dense()
    assert [int((ours != theirs).sum()) for ours, theirs in zip(actual, drawn)] == [0] * len(shapes)


def test_coco__crowd_mask(tmp_path):
    truth = open_samples(dataset(tmp_path, [annotation(runs(), iscrowd=1)]))[0].truth
    assert truth.crowd.tolist() == [True]
    assert np.array_equal(truth.dense()[0], mask())


def test_coco__memory_of_packed_masks(tmp_path):
    import tracemalloc

    height, width, count = 3000, 4000, 600
    path = dataset(tmp_path, [])
    content = json.loads(path.read_text())
    Image.new("L", (width, height)).save(tmp_path / "images" / "a.png")
    content["images"][0] |= {"height": height, "width": width}
    forms = {"size": [height, width], "counts": [100, 50, width * height - 150]}, [[9.0, 9, 900, 9, 900, 900]]
    content["annotations"] = [
        annotation(forms[number % 2], id=number + 1, bbox=[0, 100, 1 + number, 50]) for number in range(count)
    ]
    path.write_text(json.dumps(content))
    tracemalloc.start()
    samples = open_samples(path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(samples.objects.masks) == count
    assert kept < 5 * 2**20 and peak < 60 * 2**20, "one decoded mask alone has 12 MB, all of them 7 GB"


@pytest.mark.parametrize(
    "segmentation, words",
    [
        ([[1.0, 1, 9, 9]], "fewer than 3 points"),
        ({"size": [9, 9], "counts": "22"}, "size differs"),
        ({"size": list(SIZE), "counts": [3, 4]}, "size differs"),
        ({"size": list(SIZE), "counts": "22"}, "size differs"),
        ({"size": list(SIZE), "counts": [SIZE[0] * SIZE[1]]}, "without any pixel"),
        ([[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]], "without any pixel"),
        ([[SIZE[1] + 5, 1, SIZE[1] + 9, 1, SIZE[1] + 9, 9]], "without any pixel"),
        ([], "without a mask"),
        (None, "without a mask"),
        ([["a", 1, 2, 3, 4, 5]], "without a mask"),
        ([[1.0, 2, 3, 4, 5, 6, 7]], "without a mask"),
    ],
)
def test_coco__invalid_masks(tmp_path, segmentation, words):
    path = dataset(tmp_path, [annotation(segmentation), annotation([SQUARE], bbox=[10, 10, 10, 14])])
    with pytest.raises(DataError, match=words) as failure:
        open_samples(path)
    assert "annotations[0]" in str(failure.value) and failure.value.hint
    samples = open_samples(path, **{"data.on_error": "skip"})
    assert len(samples[0].truth) == 1
    assert any(words in note for note in samples.notes)


def test_coco__fix_removes_only_the_short_polygon(tmp_path):
    path = dataset(tmp_path, [annotation([SQUARE, [1.0, 1, 9, 9]])])
    assert np.array_equal(open_samples(path, **{"data.on_error": "fix"})[0].truth.dense()[0], mask())


def test_keypoints__with_skeleton(tmp_path):
    points = [12, 12, 2, 15, 20, 1, 0, 0, 0]
    category = {"keypoints": ["nose", "left_hand", "right_hand"], "skeleton": [[1, 2], [1, 3]]}
    path = dataset(tmp_path, [annotation([SQUARE], keypoints=points)], **category)
    truth = open_samples(path, arch="keypoint_rcnn")[0].truth
    assert truth.keypoints[0].ravel().tolist() == points
    assert truth.skeleton.edges == ((0, 1), (0, 2))
    path = dataset(tmp_path, [annotation([SQUARE], keypoints=points[:6])], **category)
    with pytest.raises(DataError, match="number of keypoints differs"):
        open_samples(path, arch="keypoint_rcnn")
    with pytest.raises(DataError, match="no category has keypoints"):
        open_samples(dataset(tmp_path, [annotation([SQUARE])]), arch="keypoint_rcnn")


def test_scenes__no_keypoints():
    with pytest.raises(DataError, match="no keypoints"):
        open_samples(Path("scenes:4:0"), arch="keypoint_rcnn")


def test_yolo__polygons(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "images" / "train" / "a.png")
    label = tmp_path / "labels" / "train" / "a.txt"
    shares = (np.reshape(SQUARE, (-1, 2)) / SIZE[::-1]).ravel()
    label.write_text("0 " + " ".join(f"{value:.6f}" for value in shares) + "\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [thing]\n")
    truth = open_samples(tmp_path)[0].truth
    assert np.array_equal(truth.dense()[0], mask())
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match="without a mask"):
        open_samples(tmp_path)


def test_labelme__polygons_rectangles_and_groups(tmp_path):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a.png")
    shapes = [
        {"label": "b", "points": np.reshape(SQUARE, (-1, 2)).tolist(), "shape_type": "polygon"},
        {"label": "a", "points": [[30, 5], [40, 9]], "shape_type": "rectangle", "group_id": 1},
        {"label": "a", "points": [[30, 20], [40, 29]], "shape_type": "rectangle", "group_id": 1},
        {"label": "a", "points": [[25, 30], [25, 34]], "shape_type": "circle"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    samples = open_samples(tmp_path)
    truth = samples[0].truth
    assert truth.names == ("a", "b") and sorted(truth.labels.tolist()) == [0, 0, 1]
    assert np.array_equal(truth.dense()[truth.labels == 1][0], mask())
    assert sorted(dense.sum() for dense in truth.dense())[-1] == 150
    assert decode(truth.masks[int(np.argmax(truth.boxes[:, 3] == 29))])[5:9, 30:40].all(), "a group is one object"
    shapes[0]["points"] = [[1, 1], [2, 2]]
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    with pytest.raises(DataError, match="fewer than 3 points"):
        open_samples(tmp_path)


def test_voc__no_masks(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "JPEGImages" / "a.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    (tmp_path / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>a.jpg</filename><size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
        f"<object><name>thing</name>{box}</object></annotation>"
    )
    with pytest.raises(DataError, match="masks"):
        open_samples(tmp_path)
