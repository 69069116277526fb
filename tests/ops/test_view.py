"""Views: round trips, size rules and pixel conventions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densevision.ops.view import View, fit_view, resize_image, warp_image

sides = st.integers(1, 700)


@settings(deadline=None)
@given(sides, sides, st.sampled_from(["letterbox", "shortest", "pad"]), st.sampled_from([1, 8, 32]), st.booleans())
def test_fit_view__points_round_trip(height: int, width: int, mode: str, multiple: int, full_size: bool) -> None:
    view = fit_view((height, width), mode, 320, 640, multiple, 32, full_size)  # type: ignore[arg-type]
    points = np.random.default_rng(0).uniform(0, (width, height), (10, 2))
    mapped = view.points_to_network(points)
    np.testing.assert_allclose(view.points_to_original(mapped), points, atol=1e-9 * max(view.size))
    assert view.size[0] % multiple == 0 and view.size[1] % multiple == 0 and min(view.size) >= 32
    content = view.content
    assert content[0] + view.offset[1] <= view.size[0] and content[1] + view.offset[0] <= view.size[1]


def test_fit_view__letterbox_by_hand() -> None:
    view = fit_view((480, 640), "letterbox", 320, multiple_of=32, full_size=True)
    assert view == View((480, 640), (320, 320), (0.5, 0.5), (0.0, 40.0))
    assert fit_view((480, 640), "letterbox", 320, multiple_of=32, full_size=False).size == (256, 320)


def test_fit_view__shortest_equals_torchvision() -> None:
    import torch
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    transform = GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3)
    for size in ((480, 640), (300, 1000), (1000, 333)):
        resized, _ = transform.resize(torch.zeros(3, *size), None)
        content = fit_view(size, "shortest", 800, 1333).content
        assert abs(content[0] - resized.shape[1]) <= 1 and abs(content[1] - resized.shape[2]) <= 1


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_image_to_network__preserves_type_and_channels(channels: int, dtype: type) -> None:
    image = np.full((31, 57, channels), 1, dtype)
    canvas = fit_view((31, 57), "letterbox", 64, multiple_of=32, full_size=True).image_to_network(image)
    assert canvas.dtype == dtype and canvas.shape == (64, 64, channels)
    assert canvas[32, 32].tolist() == [1] * channels and canvas[0, 0].tolist() == [0] * channels


def test_warp_image__corner_convention() -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    mirror = np.array([[-1.0, 0, 30], [0, 1, 0]])
    np.testing.assert_array_equal(warp_image(image, mirror, (20, 30), cv2.INTER_LINEAR, 0), image[:, ::-1])
    double = np.array([[2.0, 0, 0], [0, 2, 0]])
    big = warp_image(image, double, (40, 60), cv2.INTER_NEAREST, 0)
    np.testing.assert_array_equal(big[::2, ::2][1:-1, 1:-1], image[1:-1, 1:-1])


@pytest.mark.parametrize("interpolation", [cv2.INTER_AREA, cv2.INTER_LINEAR])
def test_resize_image__any_number_of_channels(interpolation: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (12, 18, 7), dtype=np.uint8)
    for channels in (1, 2, 4, 5, 7):
        resized = resize_image(image[..., :channels], (6, 9), interpolation)
        separate = [cv2.resize(image[..., c], (9, 6), interpolation=interpolation) for c in range(channels)]
        np.testing.assert_allclose(resized, np.stack(separate, 2), atol=1)
