"""Corruptions: strength, reproducibility, and transformed ground truth."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets.corruptions import CORRUPTIONS, CorruptedDataset
from densevision.errors import UsageError
from densevision.results import Detections, FlowField, SemanticMap
from densevision.sample import Sample

SIZE = (60, 80)


def sample(truth=None, value: int | None = None, dtype=np.uint8) -> Sample:
    rng = np.random.default_rng(0)
    image = rng.integers(40, 200, (*SIZE, 3)) if value is None else np.full((*SIZE, 3), value)
    image = image / 255 if np.dtype(dtype).kind == "f" else image * (np.iinfo(dtype).max // 255)
    return Sample({"image": image.astype(dtype)}, truth, id=3)


def corrupt(name: str, strength: float, clean: Sample, seed=(0, 0)) -> Sample:
    return CORRUPTIONS[name].apply(clean, strength, seed, list(clean.images))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_images__keep_their_dtype(name: str, dtype) -> None:
    clean = sample(dtype=dtype)
    for strength in CORRUPTIONS[name].strengths:
        image = corrupt(name, strength, clean).images["image"]
        assert image.dtype == dtype and image.shape[2] == 3
        assert image.shape != clean.images["image"].shape or not np.array_equal(image, clean.images["image"])


def test_noise__standard_deviation() -> None:
    noisy = corrupt("noise", 15, sample(value=128)).images["image"].astype(float)
    assert noisy.std() == pytest.approx(15, rel=0.03) and noisy.mean() == pytest.approx(128, abs=0.6)


def test_darkness__scales_the_image() -> None:
    assert (corrupt("darkness", 0.25, sample(value=200)).images["image"] == 50).all()


@pytest.mark.parametrize("name", ["gaussian blur", "motion blur"])
def test_blur__keeps_the_mean_and_reduces_detail(name: str) -> None:
    clean = sample()
    deviations = []
    for strength in CORRUPTIONS[name].strengths:
        image = corrupt(name, strength, clean).images["image"].astype(float)
        assert image.mean() == pytest.approx(clean.images["image"].mean(), abs=1)
        deviations.append(image.std())
    assert deviations == sorted(deviations, reverse=True)


def test_jpeg__error_grows_with_lower_quality() -> None:
    clean = sample()
    errors = [
        np.abs(corrupt("jpeg", quality, clean).images["image"].astype(int) - clean.images["image"]).mean()
        for quality in CORRUPTIONS["jpeg"].strengths
    ]
    assert errors == sorted(errors) and errors[0] > 0
    odd = Sample({"image": np.zeros((*SIZE, 5), np.uint8)})
    with pytest.raises(UsageError, match="channels"):
        corrupt("jpeg", 40, odd)


@pytest.mark.parametrize("name, strength", [("rotation", 15), ("rotation", 45), ("scale", 0.5), ("scale", 1.5)])
def test_class_map__follows_the_image(name: str, strength: float) -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[20:45, 25:60] = 1
    image = np.repeat((labels * 200)[..., None], 3, 2)
    truth = SemanticMap(labels=labels, names=("a", "b"), size=SIZE)
    moved = corrupt(name, strength, Sample({"image": image}, truth))
    known = moved.truth.labels != 255
    assert moved.truth.size == moved.images["image"].shape[:2]
    agree = (moved.images["image"][..., 0] > 100) == (moved.truth.labels == 1)
    assert agree[known].mean() > 0.98 and (moved.truth.labels == 1).sum() > 0


def test_boxes_and_flow__follow_the_image() -> None:
    boxes = Detections.from_arrays([[20, 10, 40, 30]], [0], ("a",), SIZE)
    np.testing.assert_allclose(corrupt("scale", 0.5, sample(boxes)).truth.boxes, [[10, 5, 20, 15]])
    turned = CORRUPTIONS["rotation"].apply(sample(boxes), 90, (0,), ["image"]).truth.boxes
    np.testing.assert_allclose(turned, [[20, 30, 40, 50]], atol=1e-4)
    flow = FlowField.from_arrays(np.stack([np.full(SIZE, 4.0), np.zeros(SIZE)]))
    moved = CORRUPTIONS["rotation"].apply(sample(flow), 90, (0,), ["image"]).truth
    np.testing.assert_allclose(moved.flow[:, moved.valid].mean(1), [0, -4], atol=1e-4)


def test_dataset__is_reproducible() -> None:
    class Two:
        notes = ()

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Sample:
            return sample(value=100 + index)

    one, again, other = (CorruptedDataset(Two(), CORRUPTIONS["noise"], 15, ["image"], seed) for seed in (1, 1, 2))
    assert np.array_equal(one[0].images["image"], again[0].images["image"])
    assert not np.array_equal(one[0].images["image"], other[0].images["image"])
    assert len(CorruptedDataset(Two(), None, 0, ["image"], limit=1)) == 1
    assert np.array_equal(CorruptedDataset(Two(), None, 0, ["image"])[1].images["image"], Two()[1].images["image"])
