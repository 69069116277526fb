"""Learning from pairs: the exact disparity explains a scene's images best, and mirrors keep pairs rectified."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from densevision.datasets.scenes import Scenes
from densevision.results import DepthMap
from densevision.sample import Sample
from densevision.tasks.depth.augment import augment_sample
from densevision.tasks.depth.config import DepthAugment, DepthConfig
from densevision.tasks.depth.sgbm import match_stereo
from densevision.tasks.depth.stereo import StereoCriterion, compute_ssim, find_occlusion

CRITERION = StereoCriterion(photometric=1.0, consistency=1.0, smoothness=0.01)


@pytest.fixture(scope="module")
def scene():
    return Scenes(1, 3, (96, 160))[0]


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None] / 255


def maps(disparity: np.ndarray) -> torch.Tensor:
    """The left disparity beside what of it the right eye sees, found by carrying each pixel over, the nearest last."""
    right = np.zeros_like(disparity)
    rows, columns = np.divmod(np.argsort(disparity, axis=None), disparity.shape[1])
    there = np.rint(columns - disparity[rows, columns]).astype(int)
    inside = there >= 0
    right[rows[inside], there[inside]] = disparity[rows[inside], columns[inside]]
    for column in range(disparity.shape[1] - 2, -1, -1):
        empty = right[:, column] == 0
        right[empty, column] = right[empty, column + 1]
    return torch.from_numpy(np.stack([disparity, right]))[None]


def test_losses__the_exact_disparity_is_best(scene) -> None:
    left, right = to_tensor(scene.image), to_tensor(scene.right)
    exact = maps(scene.disparity)
    best = CRITERION([exact], left, right)
    for shift in (-2.0, 2.0):
        worse = CRITERION([exact + shift], left, right)
        assert worse["photometric"] > 1.3 * best["photometric"]
    apart = exact * torch.tensor([1.0, 1.5]).view(1, 2, 1, 1)
    assert best["consistency"] < 0.3 * CRITERION([apart], left, right)["consistency"]


def test_losses__gradients_lead_to_the_exact_disparity(scene) -> None:
    exact = maps(scene.disparity)
    moved = (exact + 0.7).requires_grad_()
    CRITERION([moved], to_tensor(scene.image), to_tensor(scene.right))["photometric"].backward()
    assert (moved.grad[:, 0] > 0).float().sum() > (moved.grad[:, 0] < 0).float().sum()


def test_losses__four_scales_are_finite_with_gradients(scene) -> None:
    raw = [torch.full((1, 2, 96 >> k, 160 >> k), 5.0, requires_grad=True) for k in range(4)]
    sum(CRITERION(raw, to_tensor(scene.image), to_tensor(scene.right)).values()).backward()
    assert all(one.grad.isfinite().all() and one.grad.abs().sum() > 0 for one in raw)


def test_structure__of_a_image_with_itself_is_one(scene) -> None:
    image = to_tensor(scene.image)
    torch.testing.assert_close(compute_ssim(image, image), torch.ones_like(image), atol=1e-3, rtol=0)
    assert compute_ssim(image, 1 - image).mean() < 0.5


def test_hidden__what_something_nearer_covers() -> None:
    own, answered = torch.tensor([10.0, 10.0, 10.0]), torch.tensor([10.2, 20.0, 5.0])
    assert find_occlusion(own, answered).tolist() == [False, True, False]


def test_sgbm__agrees_with_the_exact_disparity(scene) -> None:
    found = match_stereo(scene.image, scene.right, 32)
    assert found.valid.mean() > 0.4 and (found.kind, found.unit) == ("disparity", "px")
    error = np.abs(found.depth - scene.disparity)[found.valid]
    assert np.median(error / scene.disparity[found.valid]) < 0.05


def test_sgbm__image_too_narrow_is_unknown() -> None:
    assert not match_stereo(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 3), np.uint8), 64).valid.any()


def test_augment__a_mirrored_pair_exchanges_its_eyes() -> None:
    rng = np.random.default_rng(0)
    left, right = (rng.integers(0, 256, (32, 48, 3), np.uint8) for _ in range(2))
    plain = DepthAugment(scale=(1.0, 1.0), flip=1.0, hue=0.0, saturation=0.0, value=0.0, blur=0.0, gray=0.0)
    sample = Sample({"image": left, "right": right}, DepthMap.from_arrays(np.ones((32, 48))))
    mirrored = augment_sample(plain, sample, np.random.default_rng(1), (32, 48))
    np.testing.assert_array_equal(mirrored.images["image"], right[:, ::-1])
    np.testing.assert_array_equal(mirrored.images["right"], left[:, ::-1])
    assert mirrored.truth is None


def test_config__pairs_and_truth_are_not_mixed() -> None:
    from densevision.errors import UsageError

    with pytest.raises(UsageError, match="cannot be combined"):
        DepthConfig.resolve(None, {"output": "disparity", "loss.photometric": 1.0})
    with pytest.raises(UsageError, match="rotate"):
        settings = {"loss.silog": 0.0, "loss.photometric": 1.0, "augment.rotate": 3.0}
        DepthConfig.resolve(None, {"output": "disparity", **settings})


@pytest.mark.parametrize("bits", ["all 16", "12 of 16", "floats"])
def test_sgbm__images_of_more_than_8_bits(bits: str) -> None:
    wide = cv2.resize(np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8), (240, 160))[..., None]
    left, right = wide[:, 20:220], np.roll(wide, -9, 1)[:, 20:220]
    plain = match_stereo(left, right, 32)
    made = {
        "all 16": lambda image: image.astype(np.uint16) * 257,
        "12 of 16": lambda image: image.astype(np.uint16) * 16,
        "floats": lambda image: image.astype(np.float32) / 255,
    }[bits]
    found = match_stereo(made(left), made(right), 32)
    both = plain.valid & found.valid
    assert both.mean() > 0.9 and np.median(found.depth[both]) == 9
