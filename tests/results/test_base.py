"""What all results have in common: files, short representations, and images in notebooks."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from densevision.errors import UsageError
from densevision.results import DepthMap, Detections, FlowField, Image, Instances, SemanticMap

SIZE = (3, 4)
LABELS = np.arange(12, dtype=np.uint8).reshape(SIZE) % 3
ARRAYS = {
    "semantic": (SemanticMap(labels=LABELS, names=("a", "b", "c"), size=SIZE), LABELS),
    "depth": (DepthMap.from_arrays(1.0 + LABELS, kind="metric", unit="m"), 1.0 + LABELS),
    "flow": (FlowField.from_arrays(np.stack([LABELS, -1.0 * LABELS])), np.dstack([LABELS, -1.0 * LABELS])),
    "image": (Image.from_source(np.dstack([LABELS] * 3)), np.dstack([LABELS] * 3)),
}
OBJECTS = {
    "detection": Detections.from_arrays(np.array([[0.0, 0, 2, 2]]), np.array([0]), ("a",), SIZE),
    "instance": Instances.from_arrays(np.array([[0.0, 0, 2, 2]]), np.array([0]), ("a",), SIZE),
}


@pytest.mark.parametrize("task", ARRAYS)
def test_save__npy_has_the_main_array(tmp_path, task):
    record, array = ARRAYS[task]
    saved = np.load(record.save(tmp_path / "a.npy"), allow_pickle=False)
    assert isinstance(saved, np.ndarray)
    np.testing.assert_array_equal(saved, array)


@pytest.mark.parametrize("task", OBJECTS)
def test_save__npy_of_objects_is_refused(tmp_path, task):
    with pytest.raises(UsageError, match="npz"):
        OBJECTS[task].save(tmp_path / "a.npy")
    assert not (tmp_path / "a.npy").exists()
    assert set(np.load(OBJECTS[task].save(tmp_path / "a.npz"))) >= {"boxes", "labels", "size"}


ALL = {name: record for name, (record, _) in ARRAYS.items()} | OBJECTS


@pytest.mark.parametrize("task", ALL)
def test_repr__is_short_and_states_class_and_size(task):
    text = repr(ALL[task])
    assert text.startswith(type(ALL[task]).__name__) and "(3, 4)" in text and "\n" not in text and len(text) < 120


def test_repr__content():
    assert repr(ARRAYS["semantic"][0]) == "SemanticMap(a 33%, b 33%, c 33%, size=(3, 4))"
    assert repr(ARRAYS["depth"][0]) == "DepthMap(metric depth 1 to 3 m, 100% valid, size=(3, 4))"
    assert repr(ARRAYS["image"][0]) == "Image(3 channels of uint8, size=(3, 4))"
    assert "max 2.828 px" in repr(ARRAYS["flow"][0])
    unknown = DepthMap.from_arrays(np.full(SIZE, np.nan)), SemanticMap.unknown(SIZE, ("a",))
    assert all("no " in repr(result) for result in unknown)


@pytest.mark.parametrize("task", ALL)
def test_repr_png__is_the_drawing(task):
    with PIL.Image.open(io.BytesIO(ALL[task]._repr_png_())) as image:
        np.testing.assert_array_equal(np.asarray(image), ALL[task].draw())


def test_repr_png__large_images_are_reduced():
    result = Image.from_source(np.full((3000, 1500, 3), 77, np.uint8))
    with PIL.Image.open(io.BytesIO(result._repr_png_())) as image:
        assert image.size == (512, 1024) and (np.asarray(image) == 77).all()


def test_repr_png__unreadable_source_gives_none(tmp_path, caplog):
    result = Detections.from_arrays([], [], ("a",), SIZE, source=str(tmp_path / "absent.png"))
    assert result._repr_png_() is None and "absent.png" in caplog.text


@pytest.mark.parametrize("task", ["semantic", *OBJECTS])
def test_draw__on_a_file_equals_drawing_on_its_pixels_which_stay_as_they_are(task, tmp_path):
    size, pixels = (48, 64), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    before = pixels.copy()
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    matrix = np.array([[16.0, 0, 0], [0, 16, 0]])
    result = ALL[task].warp(matrix, size)
    drawing = result.draw(pixels)
    assert (drawing != pixels).any()
    np.testing.assert_array_equal(result.draw(tmp_path / "a.png"), drawing)
    np.testing.assert_array_equal(result.overlay(pixels), drawing)
    np.testing.assert_array_equal(pixels, before)


def test_to_pandas__pixels_of_classes():
    pytest.importorskip("pandas")
    table = ARRAYS["semantic"][0].to_pandas()
    assert table["name"].tolist() == ["a", "b", "c"] and table["pixels"].tolist() == [4, 4, 4]
    np.testing.assert_allclose(table["fraction"], 1 / 3)
    sets = SemanticMap(labels=np.array([[3, 1, 65535]], np.uint16), names=("a", "b"), multilabel=True, size=(1, 3))
    assert sets.to_pandas()["pixels"].tolist() == [2, 1]
