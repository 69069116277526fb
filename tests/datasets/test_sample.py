"""Preparation of network inputs."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.sample import InputSpec, Sample, prepare_inputs

SPECS = (
    InputSpec(3, "shortest", size=73, interpolation="linear", as_float=True),
    InputSpec(3, "letterbox", size=(73, 91)),
)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_inputs__white_images_stay_white(spec: InputSpec, kind: type) -> None:
    """Interpolation in single precision gives 1.0000001, which must not be an error."""
    white = 255 if kind is np.uint8 else 1
    for height in range(21, 40):
        image = np.full((height, height + 3, 3), white, kind)
        actual = prepare_inputs([Sample({"image": image}, None, 0)], {"image": spec})[0]["image"]
        assert actual.max() == 1 and actual.min() >= 0


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_inputs__floats_out_of_range(value: float) -> None:
    image = np.full((24, 24, 3), 0.5, np.float32)
    image[3, 4] = value
    for spec in SPECS:
        with pytest.raises(DataError, match=r"lie in \[0, 1\]"):
            prepare_inputs([Sample({"image": image}, None, 0)], {"image": spec})


@pytest.mark.parametrize("shape", [(1, 5, 3), (5, 1, 3), (1, 1, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_inputs__negative_strides(shape: tuple[int, ...], kind: type) -> None:
    image = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(kind)
    mirrored = np.ascontiguousarray(image[::-1, ::-1])
    actual = prepare_inputs([Sample({"image": mirrored}, None, 0)], {"image": InputSpec(3)})[0]["image"]
    expected = image[::-1, ::-1].transpose(2, 0, 1) / (255 if kind is np.uint8 else 1)
    np.testing.assert_allclose(actual[0], expected.astype(np.float32), atol=1e-7)
