"""Labels that annotation programs' own packages read as they were meant, and theirs as read here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from densevision.datasets.conversion import convert_dataset
from densevision.datasets.formats.label_studio import decode_brush, encode_brush
from densevision.datasets.object_sources import detect_objects
from densevision.io.image import write_image
from densevision.io.label_issues import LabelIssues
from densevision.ops.masks import decode

HEIGHT, WIDTH = 48, 64
NAMES = ("cat", "dog, wet")
Truth = dict[str, list[tuple[str, list[float], np.ndarray]]]
"""Image -> class, box (xyxy) and mask of each object."""


def make_masks(seed: int) -> list[np.ndarray]:
    """A pentagon, an object of two parts, and one with a hole."""
    rng = np.random.default_rng(seed)
    left, top = (int(value) for value in rng.integers(1, 9, 2))
    outline = [left, top, left + 14, top, left + 14, top + 6, left + 7, top + 12, left, top + 12]
    polygon = coco.decode(coco.merge(coco.frPyObjects([outline], HEIGHT, WIDTH))).astype(bool)
    parts, ring = np.zeros((2, HEIGHT, WIDTH), bool)
    parts[2:12, 40:50] = parts[30:40, 50:60] = True
    ring[26:44, 4:30] = True
    ring[30:38, 10 : 20 + left] = False
    return [polygon, parts, ring]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """COCO with run lengths and one polygon, and what it says."""
    root, truth = tmp_path_factory.mktemp("coco"), {}
    for split, seeds in (("train", (0, 1, 2)), ("val", (3, 4))):
        images, annotations = [], []
        for seed in seeds:
            name = f"{split}{seed}.png"
            pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            write_image(root / "images" / split / name, pixels)
            images.append({"id": seed + 1, "file_name": name, "width": WIDTH, "height": HEIGHT})
            truth[name] = []
            for row, mask in enumerate(make_masks(seed) if seed != 1 else []):
                encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
                x, y, width, height = coco.toBbox(encoded).tolist()
                truth[name].append((NAMES[row % 2], [x, y, x + width, y + height], mask))
                entry: dict[str, Any] = {"id": len(annotations) + 1, "image_id": seed + 1, "category_id": row % 2 + 1}
                segmentation = {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}
                entry |= {"bbox": [x, y, width, height], "iscrowd": 0, "segmentation": segmentation}
                annotations.append(entry | {"area": float(mask.sum())})
        categories = [{"id": row, "name": name} for row, name in enumerate(NAMES, 1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root, truth


def read(root: Path, masks: bool = True) -> Truth:
    """What this package reads."""
    found: Truth = {}
    for source in detect_objects(root, {"train": None, "val": None}).values():
        table = source.read(LabelIssues("fail"), 10**6)
        pixels = source.read_masks(table, LabelIssues("fail"))[0] if masks else None
        for image in range(len(table)):
            rows = range(int(table.offsets[image]), int(table.offsets[image + 1]))
            empty = np.zeros((HEIGHT, WIDTH), bool)
            found[Path(table.files[image]).name] = [
                (
                    table.names[table.labels[row]],
                    table.boxes[row].tolist(),
                    empty if pixels is None else decode(pixels.mask(row, (HEIGHT, WIDTH))).astype(bool),
                )
                for row in rows
            ]
    return found


def assert_equal(found: Truth, truth: Truth, masks: bool = True, tolerance: float = 1e-3) -> None:
    assert found.keys() == truth.keys()
    for name, objects in truth.items():
        assert [item[0] for item in found[name]] == [item[0] for item in objects]
        for (_, box, mask), (_, expected, expected_mask) in zip(found[name], objects):
            np.testing.assert_allclose(box, expected, atol=tolerance)
            assert not masks or np.array_equal(mask, expected_mask)


def test_label_studio__brushes_in_its_own_codec() -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    rng = np.random.default_rng(0)
    noise = rng.random((HEIGHT, WIDTH)) < 0.5
    large = np.zeros((700, 900), bool)  # runs longer than a length of 16 bits
    large[300:, 450:] = True
    for mask in [noise, *make_masks(0), large, ~large[:1]]:
        pixels = brush.decode_rle(encode_brush(mask)).reshape(*mask.shape, 4)
        np.testing.assert_array_equal(pixels[..., 3], np.where(mask, 255, 0))
        np.testing.assert_array_equal(
            decode_brush(brush.mask2rle(np.where(mask, 255, 0).astype(np.uint8)), mask.shape), mask
        )


def test_label_studio__its_interface_accepts_the_annotations(dataset: tuple[Path, Truth], tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    root, truth = dataset
    for masks in (True, False):
        out = tmp_path / str(masks)
        convert_dataset(root, out, "label-studio", masks=masks)
        view = interface.LabelInterface((out / "labeling_config.xml").read_text())
        tasks = json.loads((out / "tasks.json").read_text())
        assert len(tasks) == len(truth)
        for task in tasks:
            assert view.validate_task({"data": task["data"]})
            assert all(map(view.validate_annotation, task["annotations"]))
        assert_equal(read(out, masks), truth, masks)
    regions = [region for task in json.loads((tmp_path / "True" / "tasks.json").read_text())
               for region in task["annotations"][0]["result"]]  # fmt: skip
    expected = [item for objects in truth.values() for item in objects]
    for region, (name, _, mask) in zip(regions, expected, strict=True):
        assert region["value"]["brushlabels"] == [name]
        pixels = brush.decode_rle(region["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)[..., 3]
        np.testing.assert_array_equal(pixels > 0, mask)


def test_label_studio__classes_of_pixels(tmp_path: Path) -> None:
    """A semantic dataset has one brush per class, and returns pixel by pixel."""
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    labels = {}
    for number in range(3):
        labels[number] = np.random.default_rng(number).integers(0, 4, (HEIGHT, WIDTH), np.uint8)
        labels[number][:4] = 255
        write_image(tmp_path / "in" / "train" / "images" / f"{number}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        write_image(tmp_path / "in" / "train" / "masks" / f"{number}.png", labels[number])
    (tmp_path / "in" / "classes.txt").write_text("sky\nroad\ncar\ntree\n")
    report = convert_dataset(tmp_path / "in", tmp_path / "out", "label-studio")
    assert report.counts["unknown pixels"] == 3 * 4 * WIDTH
    for number, task in enumerate(json.loads((tmp_path / "out" / "tasks.json").read_text())):
        regions = task["annotations"][0]["result"]
        assert [region["value"]["brushlabels"] for region in regions] == [["sky"], ["road"], ["car"], ["tree"]]
        for value, region in enumerate(regions):
            pixels = brush.decode_rle(region["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)[..., 3]
            np.testing.assert_array_equal(pixels > 0, labels[number] == value)
    convert_dataset(tmp_path / "out", tmp_path / "again", "masks", uncovered="unknown")
    names = (tmp_path / "again" / "classes.txt").read_text().split()
    for number, expected in labels.items():
        from densevision.io.image import read_index_mask

        (file,) = tmp_path.glob(f"again/train/masks/**/{number}.png")
        values = np.array([names.index(name) for name in ("sky", "road", "car", "tree")] + [255], np.uint8)
        np.testing.assert_array_equal(read_index_mask(file), values[np.where(expected == 255, 4, expected)])


def test_imagefolder__datasets_loads_it(dataset: tuple[Path, Truth], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    import yaml

    root, truth = dataset
    report = convert_dataset(root, tmp_path / "out", "imagefolder")
    assert report.counts["masks"] == 12
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation"}
    card = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])
    features = datasets.Features._from_yaml_list(card["dataset_info"]["features"])
    assert features["objects"]["categories"].feature.names == list(NAMES)
    count = 0
    for split in loaded.values():
        numbered = split.cast_column("objects", features["objects"])
        for row, numbers in zip(split, numbered):
            name = next(name for name in truth if np.array_equal(_read_pixels(root, name), np.asarray(row["image"])))
            assert row["objects"]["categories"] == [item[0] for item in truth[name]]
            assert numbers["objects"]["categories"] == [NAMES.index(item[0]) for item in truth[name]]
            boxes = np.reshape(row["objects"]["bbox"], (-1, 4)) @ np.array(
                [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]
            )
            np.testing.assert_allclose(boxes, np.reshape([item[1] for item in truth[name]], (-1, 4)), atol=1e-3)
            count += 1
    assert count == len(truth)
    assert_equal(read(tmp_path / "out", masks=False), truth, masks=False)


def _read_pixels(root: Path, name: str) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(next(root.glob(f"images/*/{name}"))))


@pytest.mark.parametrize("masks", [True, False])
def test_fiftyone__its_importer_reads_it(masks: bool, dataset: tuple[Path, Truth], tmp_path: Path) -> None:
    """FiftyOne reads files without version by this importer, also as `FiftyOneDataset`; it needs no database."""
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    root, truth = dataset
    convert_dataset(root, tmp_path / "out", "fiftyone", masks=masks)
    assert importers.FiftyOneDatasetImporter(str(tmp_path / "out"))._is_legacy_format_data()
    found: Truth = {}
    with importers.LegacyFiftyOneDatasetImporter(str(tmp_path / "out")) as importer:
        assert importer.get_dataset_info() == {"default_classes": list(NAMES)}
        for sample in importer:
            name = Path(sample.filepath).name
            assert Path(sample.filepath).is_file() and (sample.metadata.width, sample.metadata.height) == (
                WIDTH,
                HEIGHT,
            )
            assert sample.tags == (["train"] if name.startswith("train") else ["validation"])
            found[name] = [_read_fiftyone_object(item, masks) for item in sample.ground_truth.detections]
    assert_equal(found, truth, masks)
    assert_equal(read(tmp_path / "out", masks), truth, masks)


def _read_fiftyone_object(detection: Any, masks: bool) -> tuple[str, list[float], np.ndarray]:
    x, y, width, height = np.array(detection.bounding_box) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    mask = detection.to_segmentation(frame_size=(WIDTH, HEIGHT)).mask > 0 if masks else np.zeros(0, bool)
    return detection.label, [x, y, x + width, y + height], mask


def test_fiftyone__its_samples_are_read(dataset: tuple[Path, Truth], tmp_path: Path) -> None:
    fiftyone = pytest.importorskip("fiftyone")
    root, truth = dataset
    samples = []
    for name, objects in truth.items():
        (file,) = root.glob(f"images/*/{name}")
        write_image(tmp_path / "data" / name, _read_pixels(root, file.name))
        detections = []
        for label, (x1, y1, x2, y2), mask in objects:
            window = mask[int(y1) : int(y2), int(x1) : int(x2)]
            box = [x1 / WIDTH, y1 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT]
            detections.append(fiftyone.Detection(label=label, bounding_box=box, mask=window))
        truth_field = fiftyone.Detections(detections=detections)
        sample = fiftyone.Sample(filepath=str(file), ground_truth=truth_field).to_dict()
        samples.append(sample | {"filepath": f"data/{name}"})
    (tmp_path / "samples.json").write_text(json.dumps({"samples": samples}))
    assert_equal(read(tmp_path), truth)


@pytest.mark.parametrize(
    ("to", "importer", "masks"),
    [
        ("cvat", "cvat", True),
        ("cvat", "cvat", False),
        ("roboflow-coco", "roboflow_coco", True),
        ("roboflow-yolo", "roboflow_yolo", False),
        ("coco", "coco", True),
    ],
)
def test_datumaro__reads_it(to: str, importer: str, masks: bool, dataset: tuple[Path, Truth], tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    root, truth = dataset
    convert_dataset(root, tmp_path / "out", to, masks=masks)
    if to == "cvat":  # datumaro reads the subsets that the tasks of a project list
        file = tmp_path / "out" / "annotations.xml"
        file.write_text(file.read_text().replace("</project>", "<subset>train</subset><subset>val</subset></project>"))
    loaded = datumaro.Dataset.import_from(str(tmp_path / "out"), importer)
    labels = [item.name for item in loaded.categories()[datumaro.AnnotationType.label].items]
    found: Truth = {}
    for item in loaded:
        rows = [each for each in item.annotations if not masks or each.type.name in ("mask", "polygon")]
        found[f"{Path(item.id).name}.png"] = [_read_datumaro_object(row, labels) for row in rows]
    if to == "roboflow-yolo":  # datumaro leaves out images without objects
        assert not found.keys() ^ {name for name, objects in truth.items() if objects}
        found |= {name: [] for name, objects in truth.items() if not objects}
    found, expected = ({name: _sort(objects) for name, objects in side.items()} for side in (found, truth))
    assert_equal(found, expected, masks, 0.01)


def _sort(objects: list[tuple[str, list[float], np.ndarray]]) -> list[tuple[str, list[float], np.ndarray]]:
    return sorted(objects, key=lambda item: (item[0], [round(float(value), 1) for value in item[1]]))


def _read_datumaro_object(row: Any, labels: list[str]) -> tuple[str, list[float], np.ndarray]:
    x, y, width, height = row.get_bbox()
    mask = np.zeros((HEIGHT, WIDTH), bool)
    if hasattr(row, "image"):
        mask = np.asarray(row.image, bool)
        rows, columns = np.nonzero(mask)
        x, y, width, height = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    elif hasattr(row, "points") and len(row.points) > 4:
        outline = coco.frPyObjects([list(map(float, row.points))], HEIGHT, WIDTH)
        mask = coco.decode(coco.merge(outline)).astype(bool)
    return labels[row.label], [x, y, x + width, y + height], mask


def test_cvat__masks_in_its_sdk(dataset: tuple[Path, Truth], tmp_path: Path) -> None:
    """The run lengths of the XML, with the corners of the window behind them, are those of CVAT's API."""
    sdk = pytest.importorskip("cvat_sdk.masks")
    from xml.etree import ElementTree

    root, truth = dataset
    convert_dataset(root, tmp_path / "out", "cvat")
    shapes = [
        shape for image in ElementTree.parse(tmp_path / "out" / "annotations.xml").iterfind("image") for shape in image
    ]
    masks = [item[2] for objects in truth.values() for item in objects]
    for shape, mask in zip(shapes, masks, strict=True):
        assert shape.tag == "mask"
        left, top, width, height = (int(shape.get(key, "")) for key in ("left", "top", "width", "height"))
        runs = [int(value) for value in shape.get("rle", "").split(",")]
        encoded = [*runs, left, top, left + width - 1, top + height - 1]
        np.testing.assert_array_equal(sdk.decode_mask(encoded, image_width=WIDTH, image_height=HEIGHT), mask)
        assert sdk.encode_mask(mask) == encoded


def test_labelme__its_own_reader(dataset: tuple[Path, Truth], tmp_path: Path) -> None:
    reader = pytest.importorskip("labelme._label_file")
    root, truth = dataset
    convert_dataset(root, tmp_path / "out", "labelme")
    found: Truth = {}
    for file in tmp_path.glob("out/**/*.json"):
        found[f"{file.stem}.png"] = []
        for shape in reader.LabelFile(str(file)).shapes:
            points = np.asarray(shape["points"], float)
            mask = np.zeros((HEIGHT, WIDTH), bool)
            if shape["shape_type"] == "mask":
                left, top = points[0].astype(int)
                height, width = shape["mask"].shape
                mask[top : top + height, left : left + width] = shape["mask"]
            else:
                outline = coco.frPyObjects([points.ravel().tolist()], HEIGHT, WIDTH)
                mask = coco.decode(coco.merge(outline)).astype(bool)
            x, y, width, height = coco.toBbox(coco.encode(np.asfortranarray(mask.astype(np.uint8)))).tolist()
            found[f"{file.stem}.png"].append((shape["label"], [x, y, x + width, y + height], mask))
    for name, objects in truth.items():  # an image without objects has an empty file, or none
        assert name in found or not objects
    assert_equal({name: found.get(name, []) for name in truth}, truth)


@pytest.mark.parametrize("to", ["cvat", "label-studio", "labelme", "fiftyone", "via", "imagefolder", "roboflow-coco"])
def test_round_trip__masks_or_counted_losses(to: str, dataset: tuple[Path, Truth], tmp_path: Path) -> None:
    root, truth = dataset
    report = convert_dataset(root, tmp_path / "out", to)
    convert_dataset(tmp_path / "out", tmp_path / "again", "coco")
    found = {}
    for file in sorted((tmp_path / "again" / "annotations").iterdir()):
        content = json.loads(file.read_text())
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
        for image in content["images"]:
            entries = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
            found[Path(image["file_name"]).name] = [_read_coco_object(entry, names) for entry in entries]
    is_exact = to not in ("via", "imagefolder")
    assert_equal(found, truth, is_exact, 1e-3 if is_exact else 0.5)
    assert sorted(path.name for path in (tmp_path / "again" / "annotations").iterdir()) in (
        ["instances_train.json"],
        ["instances_train.json", "instances_val.json"],
    )
    if to == "via":  # parts are joined by lines of zero width, holes are filled
        assert report.counts["multi-part polygons, joined into one"] == 4
        assert report.counts["masks that polygons cannot represent exactly, such as holes"] == 4
        for name, objects in truth.items():
            for row, (_, _, mask) in enumerate(objects[:2]):
                assert (found[name][row][2] != mask).sum() <= (0, 40)[row]
    if to == "imagefolder":
        assert report.counts["masks"] == 12


def _read_coco_object(entry: dict[str, Any], names: dict[int, str]) -> tuple[str, list[float], np.ndarray]:
    x, y, width, height = entry["bbox"]
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, list):
        segmentation = coco.merge(coco.frPyObjects(segmentation, HEIGHT, WIDTH))
    mask = np.zeros((HEIGHT, WIDTH), bool) if segmentation is None else coco.decode(segmentation).astype(bool)
    return names[entry["category_id"]], [x, y, x + width, y + height], mask


@pytest.mark.parametrize("to", ["roboflow-yolo", "roboflow-coco"])
def test_roboflow__folders(to: str, dataset: tuple[Path, Truth], tmp_path: Path) -> None:
    """Boxes return, and the folders are those of Roboflow's exports."""
    root, truth = dataset
    convert_dataset(root, tmp_path / "out", to, masks=False)
    folders = {"train", "valid"} | ({"data.yaml"} if to.endswith("yolo") else set())
    assert {path.name for path in (tmp_path / "out").iterdir()} == folders
    convert_dataset(tmp_path / "out", tmp_path / "again", "coco")
    found = {}
    for split in ("train", "val"):
        content = json.loads((tmp_path / "again" / "annotations" / f"instances_{split}.json").read_text())
        names = {entry["id"]: entry["name"] for entry in content["categories"]}
        for image in content["images"]:
            entries = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
            found[image["file_name"]] = [_read_coco_object(entry, names) for entry in entries]
    assert_equal(found, truth, masks=False)
