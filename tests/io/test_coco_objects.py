"""Masks and keypoints of COCO json, YOLO polygons and labelme, and all that can be wrong with them."""

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
    found = np.zeros(SIZE, bool)
    found[10:25, 10:20] = True
    return found


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


def opened(path: Path, **settings):
    config = InstanceConfig.resolve(None, {"data.path": str(path), **settings})
    return Instance(Instance.infer_from_data(config)).dataset("train")


def runs() -> dict:
    found = coco.encode(np.asfortranarray(mask().astype(np.uint8)))
    return {"size": list(SIZE), "counts": found["counts"].decode()}


def counts() -> list[int]:
    flat = np.concatenate([[0], mask().ravel("F").astype(int), [0]])
    return np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [mask().size]])).tolist()


@pytest.mark.parametrize(
    "segmentation", [[SQUARE], runs(), {"size": list(SIZE), "counts": counts()}], ids=["polygon", "text", "numbers"]
)
def test_coco__every_form_is_the_same_mask(tmp_path, segmentation):
    truth = opened(dataset(tmp_path, [annotation(segmentation)]))[0].truth
    assert np.array_equal(truth.dense()[0], mask())
    assert truth.masks[0] == encode(mask())


@pytest.mark.parametrize("decimals", [1, 2, 9])
def test_coco__polygons_are_drawn_to_the_pixel_as_pycocotools_draws_them(tmp_path, decimals):
    rng = np.random.default_rng(decimals)
    shapes = [
        [rng.uniform(0, 40, 2 * rng.integers(3, 9)).round(decimals).tolist() for _ in range(2)] for _ in range(60)
    ]
    drawn = [coco.decode(coco.merge(coco.frPyObjects(parts, *SIZE))).astype(bool) for parts in shapes]
    found = opened(dataset(tmp_path, [annotation(parts) for parts in shapes]))[0].truth.dense()
    assert [int((ours != theirs).sum()) for ours, theirs in zip(found, drawn)] == [0] * len(shapes)


def test_coco__a_crowd_keeps_its_mask(tmp_path):
    truth = opened(dataset(tmp_path, [annotation(runs(), iscrowd=1)]))[0].truth
    assert truth.crowd.tolist() == [True]
    assert np.array_equal(truth.dense()[0], mask())


def test_coco__a_dataset_opens_in_the_memory_of_its_packed_masks(tmp_path):
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
    samples = opened(path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(samples.objects.masks) == count
    assert kept < 5 * 2**20 and peak < 60 * 2**20, "one decoded mask alone has 12 MB, all of them 7 GB"


@pytest.mark.parametrize(
    "segmentation, words",
    [
        ([[1.0, 1, 9, 9]], "fewer than 3 points"),
        ({"size": [9, 9], "counts": "22"}, "another size"),
        ({"size": list(SIZE), "counts": [3, 4]}, "another size"),
        ({"size": list(SIZE), "counts": "22"}, "another size"),
        ({"size": list(SIZE), "counts": [SIZE[0] * SIZE[1]]}, "without a single pixel"),
        ([[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]], "without a single pixel"),
        ([[SIZE[1] + 5, 1, SIZE[1] + 9, 1, SIZE[1] + 9, 9]], "without a single pixel"),
        ([], "without a mask"),
        (None, "without a mask"),
        ([["a", 1, 2, 3, 4, 5]], "without a mask"),
        ([[1.0, 2, 3, 4, 5, 6, 7]], "without a mask"),
    ],
)
def test_coco__bad_masks_are_named_or_left_out(tmp_path, segmentation, words):
    path = dataset(tmp_path, [annotation(segmentation), annotation([SQUARE], bbox=[10, 10, 10, 14])])
    with pytest.raises(DataError, match=words) as failure:
        opened(path)
    assert "annotations[0]" in str(failure.value) and failure.value.hint
    samples = opened(path, **{"data.on_error": "skip"})
    assert len(samples[0].truth) == 1
    assert any(words in note for note in samples.notes)


def test_coco__fix_leaves_out_the_short_polygon_alone(tmp_path):
    path = dataset(tmp_path, [annotation([SQUARE, [1.0, 1, 9, 9]])])
    assert np.array_equal(opened(path, **{"data.on_error": "fix"})[0].truth.dense()[0], mask())


def test_keypoints__are_read_with_their_skeleton(tmp_path):
    points = [12, 12, 2, 15, 20, 1, 0, 0, 0]
    category = {"keypoints": ["nose", "left_hand", "right_hand"], "skeleton": [[1, 2], [1, 3]]}
    path = dataset(tmp_path, [annotation([SQUARE], keypoints=points)], **category)
    truth = opened(path, keypoints=True)[0].truth
    assert truth.keypoints[0].ravel().tolist() == points
    assert truth.skeleton.skeleton_edges == ((0, 1), (0, 2))
    wrong = dataset(tmp_path, [annotation([SQUARE], keypoints=points[:6])], **category)
    with pytest.raises(DataError, match="another number of keypoints"):
        opened(wrong, keypoints=True)
    with pytest.raises(DataError, match="no category has keypoints"):
        opened(dataset(tmp_path, [annotation([SQUARE])]), keypoints=True)


def test_scenes__have_no_keypoints():
    with pytest.raises(DataError, match="no keypoints"):
        opened(Path("scenes:4:0"), keypoints=True)


def test_yolo__polygons(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "images" / "train" / "a.png")
    label = tmp_path / "labels" / "train" / "a.txt"
    shares = (np.reshape(SQUARE, (-1, 2)) / SIZE[::-1]).ravel()
    label.write_text("0 " + " ".join(f"{value:.6f}" for value in shares) + "\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [thing]\n")
    truth = opened(tmp_path)[0].truth
    assert np.array_equal(truth.dense()[0], mask())
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(DataError, match="without a mask"):
        opened(tmp_path)


def test_labelme__polygons_rectangles_and_groups(tmp_path):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a.png")
    shapes = [
        {"label": "b", "points": np.reshape(SQUARE, (-1, 2)).tolist(), "shape_type": "polygon"},
        {"label": "a", "points": [[30, 5], [40, 9]], "shape_type": "rectangle", "group_id": 1},
        {"label": "a", "points": [[30, 20], [40, 29]], "shape_type": "rectangle", "group_id": 1},
        {"label": "a", "points": [[25, 30], [25, 34]], "shape_type": "circle"},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    samples = opened(tmp_path)
    truth = samples[0].truth
    assert truth.names == ("a", "b") and sorted(truth.labels.tolist()) == [0, 0, 1]
    assert np.array_equal(truth.dense()[truth.labels == 1][0], mask())
    assert sorted(dense.sum() for dense in truth.dense())[-1] == 150
    assert decode(truth.masks[int(np.argmax(truth.boxes[:, 3] == 29))])[5:9, 30:40].all(), "a group is one object"
    shapes[0]["points"] = [[1, 1], [2, 2]]
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    with pytest.raises(DataError, match="fewer than 3 points"):
        opened(tmp_path)


def test_voc__has_no_masks(tmp_path):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "JPEGImages" / "a.jpg")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    (tmp_path / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>a.jpg</filename><size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
        f"<object><name>thing</name>{box}</object></annotation>"
    )
    with pytest.raises(DataError, match="no masks"):
        opened(tmp_path)
