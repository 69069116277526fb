"""Images on their way to the network."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.sample import InputSpec, Sample, to_inputs

SPECS = (
    InputSpec(3, "shortest", size=73, interpolation="linear", floats=True),
    InputSpec(3, "letterbox", size=(73, 91)),
)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_inputs__of_white_images_stay_white_whatever_the_rounding(spec: InputSpec, kind: type) -> None:
    """Interpolated in single precision, ones become 1.0000001; that is no mistake of the person who gave them."""
    white = 255 if kind is np.uint8 else 1
    for height in range(21, 40):
        image = np.full((height, height + 3, 3), white, kind)
        found = to_inputs([Sample({"image": image}, None, 0)], {"image": spec})[0]["image"]
        assert found.max() == 1 and found.min() >= 0


@pytest.mark.parametrize("wrong", [1.5, -0.1, np.nan])
def test_inputs__of_floats_that_are_no_image_are_refused(wrong: float) -> None:
    image = np.full((24, 24, 3), 0.5, np.float32)
    image[3, 4] = wrong
    for spec in SPECS:
        with pytest.raises(DataError, match=r"lie in \[0, 1\]"):
            to_inputs([Sample({"image": image}, None, 0)], {"image": spec})


@pytest.mark.parametrize("shape", [(1, 5, 3), (5, 1, 3), (1, 1, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_inputs__of_mirrored_images_one_pixel_wide_or_high(shape: tuple[int, ...], kind: type) -> None:
    image = (np.arange(np.prod(shape)).reshape(shape) % 2).astype(kind)
    mirrored = np.ascontiguousarray(image[::-1, ::-1])
    found = to_inputs([Sample({"image": mirrored}, None, 0)], {"image": InputSpec(3)})[0]["image"]
    wanted = image[::-1, ::-1].transpose(2, 0, 1) / (255 if kind is np.uint8 else 1)
    np.testing.assert_allclose(found[0], wanted.astype(np.float32), atol=1e-7)
