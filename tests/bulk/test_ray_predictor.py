"""The model as a stage of a pipeline: batches in, batches out, without a cluster."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

import densevision
from densevision.datasets.scenes import Scenes
from densevision.errors import DataError, UsageError
from densevision.io.image import write_image
from densevision.results.columns import decode_cells, describe_constants

pyarrow = pytest.importorskip("pyarrow")

from densevision.bulk.ray_predictor import RayPredictor, open_predictor, pack_weights  # noqa: E402

IMAGES = [Scenes(3, 5, (48, 64))[index].image for index in range(3)]


@pytest.fixture(scope="module")
def predictor() -> RayPredictor:
    return RayPredictor("detection", on_error="skip", score_threshold=0.1, device="cpu")


def test_call__arrays_bytes_and_paths_are_predicted_as_by_predict(predictor: RayPredictor, tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.png" for index in range(3)]
    for file, image in zip(files, IMAGES):
        write_image(file, image)
    expected = [densevision.predict(image, "detection", score_threshold=0.1, device="cpu") for image in IMAGES]
    assert any(len(record) for record in expected)
    batches = [
        {"image": np.stack(IMAGES), "label": np.arange(3)},
        {"image": [file.read_bytes() for file in files], "label": [0, 1, 2]},
        pyarrow.table({"image": [str(file) for file in files], "label": [0, 1, 2]}),
    ]
    constants = describe_constants(expected[0])
    for batch in batches:
        table = predictor(batch)
        assert table["label"].to_pylist() == [0, 1, 2] and "image" not in table.column_names
        for cells, record in zip(table.to_pylist(), expected):
            actual = decode_cells(constants, cells, (cells["height"], cells["width"]))
            assert actual.size == record.size
            for name, array in record.numpy().items():
                np.testing.assert_allclose(actual.numpy()[name], array, atol=1e-4)


def test_call__unreadable_image_is_a_row_or_an_error(predictor: RayPredictor) -> None:
    stream = io.BytesIO()
    np.save(stream, IMAGES[0])
    batch = {"image": [IMAGES[0], stream.getvalue(), None]}
    rows = predictor(batch).to_pylist()
    assert [row["error"] is None for row in rows] == [True, False, False]
    assert rows[0]["boxes"] is not None and rows[1]["boxes"] is None and rows[1]["width"] is None
    with pytest.raises(DataError):
        RayPredictor("detection")(batch)
    with pytest.raises(UsageError):
        predictor({"picture": [IMAGES[0]]})


def test_init__options_without_effect_and_several_images() -> None:
    with pytest.raises(UsageError):
        RayPredictor("detection", probabilities=True)
    with pytest.raises(UsageError):
        RayPredictor("flow")


def test_pack_weights__keeps_overrides() -> None:
    original = open_predictor("superres", "bicubic", {"scale": 3})
    again = open_predictor("superres", pack_weights(original))
    image = IMAGES[0]
    np.testing.assert_array_equal(again.predict(image).image, original.predict(image).image)
    assert again.predict(image).size == (144, 192)
