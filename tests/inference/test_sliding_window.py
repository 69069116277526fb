"""Sliding windows: weights sum to 1, and maps on which all windows agree come out unchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from densevision.inference import sliding_window
from densevision.inference.sliding_window import STEP, choose_tile, predict_blended, split_side
from densevision.ops.fields import resize_to_original
from densevision.ops.view import View
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import InputSpec, Sample
from densevision.tasks.base import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class PixelValues(Result):
    """A result with one number per pixel and channel."""

    values: np.ndarray
    row_axes: ClassVar = {"values": 1}

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> PixelValues:
        raise AssertionError("blending does not warp results")

    def overlay(self, image: np.ndarray) -> np.ndarray:
        return image


class LocalMean:
    """A task and predictor in one: the mean around each pixel, `scale` times as large."""

    merge_strategy, needs_global_alignment = "blend", False
    to_image_space, restore_metadata = Task.to_image_space, Task.restore_metadata

    def __init__(self, receptive_field_radius: int = 0, scale: int = 1, mode: str = "pad", multiple_of: int = 32):
        self.receptive_field_radius, self.scale, self.sizes = receptive_field_radius, scale, []
        size = None if mode == "pad" else 64
        self.input_spec = {"image": InputSpec(3, mode, size, multiple_of=multiple_of)}
        self.task = self

    def predict_tensors(self, inputs: dict[str, torch.Tensor], options: PredictOptions) -> dict[str, torch.Tensor]:
        x = inputs["image"]
        self.sizes.append(tuple(x.shape[-2:]))
        radius = self.receptive_field_radius
        if radius:
            for window, padding in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
                x = F.avg_pool2d(x, window, 1, padding, count_include_pad=True)
        return {"values": x.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)}

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] * self.scale, size[1] * self.scale

    def to_results(self, maps: dict[str, torch.Tensor], views: list[View], options: Any) -> list[PixelValues]:
        arrays = [resize_to_original(maps["values"], view, self.scale)[0].numpy() for view in views]
        return [PixelValues(values=array, size=array.shape[1:]) for array in arrays]


class Enlarge(LocalMean):
    """A model whose output is larger than the image."""

    def to_image_space(
        self, maps: dict[str, torch.Tensor], view: View, mirrored: bool = False
    ) -> dict[str, torch.Tensor]:
        return {name: resize_to_original(values, view, self.scale) for name, values in maps.items()}


class Drifting(LocalMean):
    """A model whose outputs are shifted from window to window, and aligned to the whole image."""

    needs_global_alignment = True

    def predict_tensors(self, inputs: dict[str, torch.Tensor], options: PredictOptions) -> dict[str, torch.Tensor]:
        return {"values": super().predict_tensors(inputs, options)["values"] + len(self.sizes)}

    def align_to_reference(
        self, maps: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        return {"values": maps["values"] + (reference["values"] - maps["values"]).mean() - 1}


def make_sample(height: int, width: int) -> Sample:
    return Sample({"image": np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)})


def to_floats(sample: Sample) -> np.ndarray:
    return sample.images["image"].transpose(2, 0, 1) / 255


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 700), st.floats(0, 0.9), st.sampled_from([1, 2, 4]))
def test_split_side__weights_sum_to_one(length: int, tile: int, overlap: float, scale: int) -> None:
    spans = split_side(length, PredictOptions(tile=tile, overlap=overlap), scale)
    total = np.zeros(length * scale)
    for span in spans:
        assert span.start % STEP == 0 and span.weights.min() >= 0
        total[span.start * scale : span.stop * scale] += span.weights.numpy()
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert [span.final_stop for span in spans] == [*(span.start for span in spans[1:]), length]
    side = max(tile, STEP)
    assert all(span.stop - span.start < max(side, math.ceil(overlap * side) + STEP) + STEP for span in spans)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 300), st.floats(0, 0.9), st.integers(0, 60), st.sampled_from([1, 3]))
def test_split_side__no_weight_without_the_receptive_field(
    length: int, tile: int, overlap: float, radius: int, scale: int
) -> None:
    spans = split_side(length, PredictOptions(tile=tile, overlap=overlap), scale, radius)
    total = np.zeros(length * scale)
    for index, span in enumerate(spans):
        weights = span.weights.numpy()
        assert np.isfinite(weights).all()
        total[span.start * scale : span.stop * scale] += weights
        if 2 * radius <= 0.75 * max(tile, STEP):
            assert index == 0 or not weights[: radius * scale].any()
            assert span.is_last or not weights[weights.size - radius * scale :].any()
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.7])
@pytest.mark.parametrize("size", [(1, 1), (97, 131), (300, 200)])
def test_predict_blended__identity(size: tuple[int, int], overlap: float) -> None:
    sample = make_sample(*size)
    result = predict_blended(LocalMean(), sample, PredictOptions(tile=96, overlap=overlap, tta=("flip",)))
    np.testing.assert_allclose(result.values, to_floats(sample), atol=1e-5)


@pytest.mark.parametrize(("radius", "overlap"), [(7, 0.25), (7, 0.0), (30, 0.0), (40, 0.0)])
def test_predict_blended__equals_the_whole_image_with_a_known_receptive_field(radius: int, overlap: float) -> None:
    sample = make_sample(250, 330)
    whole = predict_blended(LocalMean(radius), sample, PredictOptions(tta=("flip",)))
    tiled = predict_blended(LocalMean(radius), sample, PredictOptions(tile=128, overlap=overlap))
    np.testing.assert_allclose(tiled.values, whole.values, atol=1e-5)


def test_predict_blended__rotated_views_come_back_upright() -> None:
    sample = make_sample(50, 70)
    model = LocalMean(mode="pad", multiple_of=1)
    result = predict_blended(model, sample, PredictOptions(tta=("flip", "rotate")))
    np.testing.assert_allclose(result.values, to_floats(sample), atol=1e-5)
    assert len(model.sizes) == 8 and set(model.sizes) == {(50, 70), (70, 50)}


def test_predict_blended__large_results_are_kept_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliding_window, "MAX_ARRAY_BYTES", 1000)
    sample = make_sample(100, 90)
    result = predict_blended(LocalMean(), sample, PredictOptions(tile=64))
    assert isinstance(result.values, np.memmap)
    np.testing.assert_allclose(result.values, to_floats(sample), atol=1e-5)


def test_predict_blended__enlarged_output() -> None:
    sample = make_sample(150, 170)
    result = predict_blended(Enlarge(scale=2), sample, PredictOptions(tile=64))
    assert result.size == (300, 340)
    np.testing.assert_allclose(result.values, to_floats(sample).repeat(2, 1).repeat(2, 2), atol=1e-5)


def test_predict_blended__windows_are_resized_for_the_model() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 200)[None, :, None], (200, 200, 3)).astype(np.uint8)
    model = LocalMean(mode="letterbox", multiple_of=1)
    result = predict_blended(model, Sample({"image": ramp}), PredictOptions(tile=100, tta=("scale",)))
    np.testing.assert_allclose(result.values[0], ramp[..., 0] / 255, atol=0.02)


def test_predict_blended__drifting_outputs_are_aligned_to_the_whole_image() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 256)[None, :, None], (256, 256, 3)).astype(np.uint8)
    result = predict_blended(Drifting(), Sample({"image": ramp}), PredictOptions(tile=128))
    np.testing.assert_allclose(result.values[0], ramp[..., 0] / 255, atol=0.02)


def make_task(**attributes: Any) -> SimpleNamespace:
    defaults = {
        "merge_strategy": "blend",
        "max_untiled_pixels": Task.max_untiled_pixels,
        "tile_size": 1024,
        "receptive_field_radius": None,
    }
    return SimpleNamespace(**{**defaults, **attributes})


def test_choose_tile__only_for_large_images_of_dense_tasks() -> None:
    task, options = make_task(), PredictOptions()
    assert choose_tile(task, (1000, 1000), options).tile is None
    assert choose_tile(task, (10_000, 10_000), options).tile == 1024
    assert choose_tile(make_task(merge_strategy="nms"), (10_000, 10_000), options).tile is None


def test_choose_tile__grows_to_the_receptive_field_or_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(sliding_window.log, "warning", lambda text, *values: messages.append(text % values))
    task = make_task(tile_size=384, receptive_field_radius=16)
    assert choose_tile(task, (100, 100), PredictOptions(tile=40)).tile == 43
    assert choose_tile(task, (100, 100), PredictOptions(tile=200)).tile == 200
    assert not messages
    task.receptive_field_radius = 351
    for _ in range(3):
        assert choose_tile(task, (100, 100), PredictOptions(tile=256)).tile == 256
    assert len(messages) == 1 and "--tile 936" in messages[0]
