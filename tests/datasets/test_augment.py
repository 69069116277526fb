"""Augmentation: the ground truth follows the image, dtypes are kept, randomness comes from the generator only."""

from __future__ import annotations

import colorsys
import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as F

from densevision.config import Config
from densevision.datasets.augment import augment_sample, recolor
from densevision.datasets.geometry import compose_affine, random_affine, random_jitter, warp_antialiased, warp_sample
from densevision.datasets.mosaic import mixup, mosaic
from densevision.errors import UsageError
from densevision.ops.view import fit_view
from densevision.results import Detections
from densevision.run_config import AugmentConfig
from densevision.sample import Sample

STILL = AugmentConfig(
    mosaic=0.0, scale=(1.0, 1.0), translate=0.0, flip=0.0, hue=0.0, saturation=0.0, value=0.0, blur=0.0, gray=0.0
)
GEOMETRY = STILL.replace(scale=[0.5, 1.5], rotate=30.0, translate=0.2, shear=15.0, flip=0.5, flip_vertical=0.5)
COLORS = STILL.replace(hue=0.1, saturation=0.7, value=0.4, blur=0.5, noise=0.5, jpeg=0.5, gray=0.2)
FILL = 0.5


def rectangle(size=(60, 80), box=(20, 12, 50, 40), value=255, dtype=np.uint8, channels=3, label=0):
    """A black image with one filled box."""
    image = np.zeros((*size, channels), dtype)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = value
    return Sample(
        {"image": image}, Detections.from_arrays([box], [label], ("thing", "other"), size), label, f"{label}.png"
    )


def extent(image, low):
    """Returns the bounding box of pixels brighter than `low` other than the fill."""
    y, x = np.nonzero(image[..., 0] > low)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


# -- geometry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_affine__box_follows_the_image(seed):
    config = GEOMETRY.replace(scale=[0.8, 1.2], translate=0.05, rotate=20.0)
    sample = rectangle()
    matrix = random_affine(config, np.random.default_rng(seed), sample.size, (120, 120))
    warped = warp_sample(sample, matrix, (120, 120), 0.0)
    assert warped.size == (120, 120) and warped.truth.size == (120, 120)
    np.testing.assert_allclose(warped.truth.boxes[0], extent(warped.images["image"], 127), atol=1.5)


@pytest.mark.parametrize("seed", range(4))
def test_affine__inverse_restores_the_image(seed):
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8), (0, 0), 4)
    matrix = random_affine(GEOMETRY.replace(scale=[1.0, 1.3], translate=0.0), rng, (60, 80), (200, 200))
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    warped = warp_antialiased(image, matrix, (200, 200), 0.0)
    back = warp_antialiased(warped, inverse, (60, 80), 0.0)
    inside = warp_antialiased(np.full_like(warped, 255), inverse, (60, 80), 0.0)[8:-8, 8:-8] == 255
    difference = np.abs(back[8:-8, 8:-8].astype(int) - image[8:-8, 8:-8])[inside]
    assert inside.mean() > 0.5 and difference.max() <= 12


def test_affine__without_jitter_is_the_letterbox():
    matrix = random_affine(STILL, np.random.default_rng(0), (60, 80), (64, 96))
    np.testing.assert_allclose(matrix, fit_view((60, 80), "letterbox", (64, 96)).matrix)


def test_affine__flips_are_exact():
    sample = rectangle((64, 64), (4, 8, 20, 30))
    for config, flipped, box in (
        (STILL.replace(flip=1.0), np.s_[:, ::-1], [44, 8, 60, 30]),
        (STILL.replace(flip_vertical=1.0), np.s_[::-1], [4, 34, 20, 56]),
    ):
        warped = augment_sample(config, [sample], 0, np.random.default_rng(0), (64, 64), FILL)
        np.testing.assert_array_equal(warped.images["image"], sample.images["image"][flipped])
        assert warped.truth.boxes.tolist() == [box]


def test_affine__options_are_independent():
    configs = GEOMETRY, GEOMETRY.replace(rotate=0.0)
    one, other = (random_jitter(config, np.random.default_rng(3), (100, 100)) for config in configs)
    assert abs(np.linalg.det(one[:, :2])) == pytest.approx(abs(np.linalg.det(other[:, :2])))


def test_jitter__stays_in_its_ranges():
    rng = np.random.default_rng(0)
    config = STILL.replace(scale=[0.5, 1.5], translate=0.1, flip=0.5)
    matrices = np.array([random_jitter(config, rng, (100, 200)) for _ in range(500)])
    scales = np.abs(matrices[:, 0, 0])
    assert scales.min() >= 0.5 and scales.max() <= 1.5 and np.median(scales) < 1
    middles = matrices[:, :, :2] @ [100, 50] + matrices[:, :, 2]
    assert (np.abs(middles - [100, 50]) <= [20, 10]).all()
    assert 0.4 < (matrices[:, 0, 0] < 0).mean() < 0.6


def test_warp__shrinking_averages():
    """A checkerboard of single pixels becomes gray; plain bilinear interpolation would alias."""
    board = (np.indices((96, 96)).sum(0) % 2 * 255).astype(np.uint8)[..., None]
    matrix = compose_affine(np.array([[1, 0, 0.3], [0, 1, 0.1]]), np.array([[0.23, 0, 0], [0, 0.23, 0]]))
    small = warp_antialiased(board, matrix, (20, 20), FILL)
    assert small.shape == (20, 20, 1) and np.abs(small.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_warp__dtypes_channels_and_fill(dtype, channels):
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = np.full((19, 31, channels), white, dtype)
    for scale in (0.2, 1.5):
        warped = warp_antialiased(image, np.array([[scale, 0, 10], [0, scale, 10]]), (40, 120), FILL)
        assert warped.shape == (40, 120, channels) and warped.dtype == dtype
        np.testing.assert_allclose(warped[0, 0], FILL * white, atol=1)
        np.testing.assert_allclose(warped[11, 12], white)


def test_warp__one_pixel_without_ground_truth():
    sample = Sample({"image": np.full((1, 1, 3), 9, np.uint8)})
    warped = augment_sample(GEOMETRY, [sample], 0, np.random.default_rng(0), (32, 32), FILL)
    assert warped.images["image"].shape == (32, 32, 3) and warped.truth is None


def test_warp__every_image_of_a_sample():
    left, right = (np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8) for seed in (0, 1))
    matrix = random_affine(GEOMETRY, np.random.default_rng(0), (20, 30), (40, 40))
    warped = warp_sample(Sample({"left": left, "right": right}), matrix, (40, 40), FILL)
    np.testing.assert_array_equal(warped.images["right"], warp_antialiased(right, matrix, (40, 40), FILL))


# -- mosaic and mixup ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_mosaic__boxes_match_their_rectangles(seed):
    values = (60, 110, 160, 210)
    samples = [rectangle((60, 80), (20, 12, 50, 40), value, label=i % 2) for i, value in enumerate(values)]
    config = GEOMETRY.replace(rotate=0.0, shear=0.0, scale=[0.5, 0.9])
    result = mosaic(config, samples, np.random.default_rng(seed), (160, 160), 0.0)
    image, truth = result.images["image"][..., 0], result.truth
    assert image.shape == (160, 160) and truth.size == (160, 160) and len(truth) >= 1
    for box, label in zip(truth.boxes, truth.labels):
        x1, y1, x2, y2 = box
        value = int(image[int((y1 + y2) / 2), int((x1 + x2) / 2)])
        assert value in values and values.index(value) % 2 == label
        inner = image[int(y1) + 2 : int(y2) - 1, int(x1) + 2 : int(x2) - 1]
        assert (inner == value).all()
        near = (slice(max(0, int(y1) - 3), int(y2) + 3), slice(max(0, int(x1) - 3), int(x2) + 3))
        assert abs((image[near] == value).sum() - (x2 - x1) * (y2 - y1)) <= 2 * (x2 - x1 + y2 - y1)


def test_mosaic__rotated_rectangles_are_enclosed():
    samples = [rectangle((60, 80), (20, 12, 50, 40), 200) for _ in range(4)]
    result = mosaic(GEOMETRY.replace(scale=[0.5, 0.7]), samples, np.random.default_rng(5), (200, 200), 0.0)
    y, x = np.nonzero(result.images["image"][..., 0] > 100)
    inside = np.zeros(len(x), bool)
    for x1, y1, x2, y2 in result.truth.boxes:
        inside |= (x + 0.5 >= x1 - 1) & (x + 0.5 <= x2 + 1) & (y + 0.5 >= y1 - 1) & (y + 0.5 <= y2 + 1)
    assert len(x) > 100 and inside.all()


def test_mosaic__without_jitter_images_fill_the_canvas():
    samples = [rectangle((64, 64), (0, 0, 64, 64), value) for value in (50, 100, 150, 200)]
    result = mosaic(STILL, samples, np.random.default_rng(1), (64, 64), 1.0)
    image = result.images["image"][..., 0]
    corners = [image[0, 0], image[0, -1], image[-1, 0], image[-1, -1]]
    assert corners == [50, 100, 150, 200]
    x, y = np.random.default_rng(1).random(2) * 64
    assert (image[: int(y) - 1, : int(x) - 1] == 50).all() and (image[int(y) + 2 :, int(x) + 2 :] == 200).all()
    assert (result.truth.boxes[0] == np.float32([0, 0, x, y])).all()


def test_mosaic__mixed_dtypes_become_floats():
    samples = [rectangle(label=0), rectangle(dtype=np.uint16, value=65535, label=1), rectangle(), rectangle()]
    result = mosaic(STILL, samples, np.random.default_rng(0), (64, 64), FILL)
    assert result.images["image"].dtype == np.float32 and result.images["image"].max() <= 1
    assert (result.id, result.file) == (0, "0.png")
    unknown = [samples[0], Sample({"image": samples[0].images["image"]}), *samples[2:]]
    assert mosaic(STILL, unknown, np.random.default_rng(0), (64, 64), FILL).truth is None


def test_mixup__blends_and_keeps_all_objects():
    first, second = rectangle(box=(0, 0, 80, 60), value=100), rectangle(box=(0, 0, 80, 60), value=200, label=1)
    result = mixup(first, second, np.random.default_rng(0))
    part = np.random.default_rng(0).beta(32, 32)
    assert (result.images["image"] == round(100 * part + 200 * (1 - part))).all()
    assert result.truth.labels.tolist() == [0, 1] and result.images["image"].dtype == np.uint8


def test_augment_sample__disable_mixing():
    samples = [rectangle((64, 64), (4, 4, 30, 30)) for _ in range(5)]
    config = STILL.replace(mosaic=1.0, mixup=1.0)
    rng = np.random.default_rng(0)
    assert len(augment_sample(config, samples, 0, rng, (64, 64), FILL, disable_mixing=True).truth) == 1
    assert len(augment_sample(config, samples, 0, rng, (64, 64), FILL).truth) > 1


# -- colors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_recolor__any_dtype_and_channels(dtype, channels):
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.random((24, 24, channels), np.float32), (0, 0), 3).reshape(24, 24, channels)
    sample = Sample({"image": (smooth * white).astype(dtype)})
    changed = [recolor(COLORS, sample, rng).images["image"] for _ in range(12)]
    for image in changed:
        assert image.shape == sample.images["image"].shape and image.dtype == dtype
        assert image.min() >= 0 and image.max() <= white
    assert len({image.tobytes() for image in changed}) == 12
    if dtype == np.uint16:
        assert any((image % 257 != 0).any() for image in changed), "16 bits must not pass through 8"


def test_recolor__value_scales_any_number_of_channels():
    for channels in (1, 3, 5):
        sample, config = Sample({"image": np.full((8, 8, channels), 100, np.uint8)}), STILL.replace(value=0.4)
        images = [recolor(config, sample, np.random.default_rng(seed)).images["image"] for seed in range(60)]
        levels = np.array([image[0, 0, 0] for image in images])
        assert all((image == image[0, 0, 0]).all() for image in images)
        assert 59 <= levels.min() < 75 and 125 < levels.max() <= 140


def random_colors(dtype):
    """Returns a sample of random RGB pixels, and its colors as floats in [0, 1]."""
    colors = np.random.default_rng(2).random((16, 16, 3), np.float32)
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = (colors * white).astype(dtype)
    return Sample({"image": image}), image / np.float64(white)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("seed", range(4))
def test_recolor__hue_rotates_by_one_angle(dtype, seed):
    """Python's own color conversion tells the angle; saturation and value (HSV) stay."""
    sample, before = random_colors(dtype)
    changed = recolor(STILL.replace(hue=0.3), sample, np.random.default_rng(seed)).images["image"]
    hsv = np.array([colorsys.rgb_to_hsv(*color) for color in before.reshape(-1, 3).tolist()])
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    shift = np.median([(colorsys.rgb_to_hsv(*color)[0] - h) % 1 for color, (h, _, _) in
                       zip((changed / np.float64(white)).reshape(-1, 3).tolist(), hsv)])  # fmt: skip
    assert 0.01 < min(shift, 1 - shift) <= 0.3
    expected = np.array([colorsys.hsv_to_rgb((h + shift) % 1, s, v) for h, s, v in hsv])
    # 8 bits have 256 hues, so a channel is off by at most half a step of 6 / 256, and rounding.
    tolerance = 0.03 if dtype == np.uint8 else 1e-3
    np.testing.assert_allclose(changed.reshape(-1, 3) / white, expected, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("option", ["saturation", "value"])
def test_recolor__saturation_and_value_as_in_torchvision(dtype, option):
    """One factor explains all pixels, within the range of the option."""
    sample, before = random_colors(dtype)
    adjust = {"saturation": F.adjust_saturation, "value": F.adjust_brightness}[option]
    factors = np.linspace(0.5, 1.5, 1001)
    images = torch.from_numpy(before).permute(2, 0, 1)
    candidates = np.stack([adjust(images, float(factor)).permute(1, 2, 0).numpy() for factor in factors])
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    selected = []
    for seed in range(8):
        changed = recolor(STILL.replace(**{option: 0.5}), sample, np.random.default_rng(seed)).images["image"] / white
        errors = np.abs(candidates - changed).max((1, 2, 3))
        assert errors.min() <= (0.005 if dtype == np.uint8 else 0.002)
        selected.append(factors[errors.argmin()])
    assert min(selected) < 0.8 and max(selected) > 1.2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_recolor__gray_as_in_torchvision(dtype):
    sample, before = random_colors(dtype)
    changed = recolor(STILL.replace(gray=1.0), sample, np.random.default_rng(0)).images["image"]
    expected = F.rgb_to_grayscale(torch.from_numpy(before).permute(2, 0, 1), 3).permute(1, 2, 0).numpy()
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    np.testing.assert_allclose(changed / white, expected, atol=0.004 if dtype == np.uint8 else 5e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_recolor__blur_is_gaussian(dtype, channels):
    """The response to a point has unit sum, and the variance of a Gaussian in the documented range."""
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = np.zeros((31, 31, channels), dtype)
    image[15, 15] = white
    deviations = []
    for seed in range(12):
        output = recolor(STILL.replace(blur=1.0), Sample({"image": image}), np.random.default_rng(seed)).images["image"]
        response = output[..., -1] / float(white)
        assert response.sum() == pytest.approx(1, abs=0.1 if dtype == np.uint8 else 0.01)
        deviations.append(np.sqrt((response.sum(0) * (np.arange(31) - 15) ** 2).sum() / response.sum()))
    assert 0.1 <= min(deviations) < 0.8 and 1.0 < max(deviations) <= 1.6


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_recolor__noise_has_its_standard_deviation(dtype, channels):
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = np.full((64, 64, channels), white // 2 if dtype != np.float32 else 0.5, dtype)
    deviations = []
    for seed in range(12):
        output = recolor(STILL.replace(noise=1.0), Sample({"image": image}), np.random.default_rng(seed)).images[
            "image"
        ]
        difference = (output.astype(np.float64) - image) / white
        assert abs(difference.mean()) < 0.004
        correlations = np.corrcoef(difference.reshape(-1, channels).T) if channels > 1 else np.eye(1)
        assert np.abs(correlations - np.eye(channels)).max() < 0.1, "channels have independent noise"
        deviations.append(difference.std())
    assert 0.009 < min(deviations) < 0.025 and 0.035 < max(deviations) < 0.052


@pytest.mark.parametrize("channels", [1, 3])
def test_recolor__jpeg_as_in_pillow(channels):
    """Some documented quality of Pillow's encoder gives the same image, to few levels."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (48, 48, channels), np.uint8), (0, 0), 2).reshape(48, 48, channels)
    output = recolor(STILL.replace(jpeg=1.0), Sample({"image": image}), rng).images["image"]
    errors = []
    for quality in range(40, 96):
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze()).save(buffer, "JPEG", quality=quality)
        decoded = np.asarray(Image.open(buffer)).reshape(image.shape)
        errors.append(np.abs(decoded.astype(float) - output).mean())
    assert min(errors) < 0.5 and not np.array_equal(output, image)


def test_recolor__options_are_independent():
    """Switching noise on does not change the blur and the colors."""
    sample, _ = random_colors(np.uint16)
    configs = COLORS.replace(noise=0.0, blur=1.0), COLORS.replace(noise=1.0, blur=1.0)
    images = [recolor(config, sample, np.random.default_rng(3)).images["image"] / 65535 for config in configs]
    assert 0 < np.abs(images[0] - images[1]).std() < 0.06


def test_recolor__hue_keeps_gray_and_defaults_keep_everything():
    gray = Sample({"image": np.full((8, 8, 3), 90, np.uint8)})
    turned = recolor(STILL.replace(hue=0.5, saturation=1.0), gray, np.random.default_rng(0)).images["image"]
    np.testing.assert_allclose(turned, 90, atol=1)
    assert recolor(STILL, gray, np.random.default_rng(0)).images["image"] is gray.images["image"]


def test_recolor__probabilities_are_independent():
    """Steps that shared random numbers would change the same images."""
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    gray = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    counts = np.zeros((2, 2), int)
    for seed in range(200):
        config = STILL.replace(gray=0.5, blur=0.5)
        changed = recolor(config, Sample({"image": image}), np.random.default_rng(seed)).images["image"]
        is_gray = np.ptp(changed, 2).max() == 0
        is_blurred = np.abs(changed.astype(int) - (gray if is_gray else image)).max() > 1
        counts[int(is_gray), int(is_blurred)] += 1
    assert (counts > 30).all(), counts


def test_recolor__images_of_one_sample_change_identically():
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    changed = recolor(COLORS, Sample({"left": image, "right": image.copy()}), np.random.default_rng(1)).images
    np.testing.assert_array_equal(changed["left"], changed["right"])


# -- randomness -----------------------------------------------------------------------------------------------------


class AugmentedDataset(Dataset):
    """All augmentations, seeded by (seed, index)."""

    config = GEOMETRY.replace(mosaic=0.5, mixup=0.5, hue=0.1, saturation=0.7, value=0.4, blur=0.5, noise=0.5, jpeg=0.5)

    def __init__(self):
        rng = np.random.default_rng(0)
        truth = rectangle((30, 40), (5, 5, 20, 20)).truth
        images = [rng.integers(0, 255, (30, 40, 3), dtype=np.uint8) for _ in range(6)]
        self.samples = [Sample({"image": image}, truth, index) for index, image in enumerate(images)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = augment_sample(self.config, self.samples, index, np.random.default_rng((7, index)), (48, 48), FILL)
        return sample.images["image"], sample.truth.boxes


def test_augment_sample__independent_of_the_number_of_workers():
    expected = list(DataLoader(AugmentedDataset(), batch_size=None))
    assert len({image.numpy().tobytes() for image, _ in expected}) == 6
    for workers in (1, 2):
        actual = DataLoader(AugmentedDataset(), batch_size=None, num_workers=workers)
        for (image, boxes), (other, others) in zip(expected, actual):
            assert image.equal(other) and boxes.equal(others)


# -- config ----------------------------------------------------------------------------------------------------------


def test_config__invalid_values():
    unfit = {"scale": [1.5, 0.5]}, {"mosaic": 0.0, "close_mosaic_epochs": 3}, {"hue": 0.7}, {"flip": 1.5}, {"shear": 90}
    for settings in unfit:
        with pytest.raises(UsageError):
            AugmentConfig.from_dict(settings)
    assert isinstance(STILL, Config) and AugmentConfig.from_dict(GEOMETRY.to_dict()) == GEOMETRY
