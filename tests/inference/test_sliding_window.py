"""Blending: windows cover the image with weights that sum to 1, and what they agree on comes out unchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from densevision.inference import sliding_window as blend
from densevision.inference.sliding_window import STEP, blended, in_windows, strips
from densevision.ops.fields import to_original
from densevision.ops.view import View
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import InputSpec, Sample
from densevision.tasks.base import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class Pixels(Result):
    """A record of one number per pixel and channel."""

    values: np.ndarray
    rows: ClassVar = {"values": 1}

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> Pixels:
        raise AssertionError("blending does not warp records")

    def overlay(self, image: np.ndarray) -> np.ndarray:
        return image


class Local:
    """A model whose answer is a function of each pixel's near surroundings, `scale` times as large."""

    merge_strategy, needs_global_alignment = "pixels", False
    fields, finish = Task.fields, Task.finish

    def __init__(self, receptive_field_radius: int = 0, scale: int = 1, how: str = "pad", multiple_of: int = 32):
        self.receptive_field_radius, self.scale, self.seen = receptive_field_radius, scale, []
        size = None if how == "pad" else 64
        self.inputs = {"image": InputSpec(3, how, size, multiple_of=multiple_of)}
        self.task = self

    def answers(self, inputs: dict[str, torch.Tensor], options: PredictOptions) -> dict[str, torch.Tensor]:
        x = inputs["image"]
        self.seen.append(tuple(x.shape[-2:]))
        if self.receptive_field_radius:
            x = F.avg_pool2d(
                x, 2 * self.receptive_field_radius + 1, 1, self.receptive_field_radius, count_include_pad=True
            )
        return {"values": x.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)}

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] * self.scale, size[1] * self.scale

    def results(self, answers: dict[str, torch.Tensor], views: list[View], options: Any) -> list[Pixels]:
        fields = [to_original(answers["values"], view, self.scale)[0].numpy() for view in views]
        return [Pixels(values=field, size=field.shape[1:]) for field in fields]


class Enlarging(Local):
    """One that answers twice as large."""

    def fields(self, answers: dict[str, torch.Tensor], view: View, mirrored: bool = False) -> dict[str, torch.Tensor]:
        return {name: to_original(answer, view, self.scale) for name, answer in answers.items()}


class Floating(Local):
    """One whose answers shift from window to window, and are brought back by the guide."""

    needs_global_alignment = True

    def answers(self, inputs: dict[str, torch.Tensor], options: PredictOptions) -> dict[str, torch.Tensor]:
        found = super().answers(inputs, options)["values"]
        return {"values": found + len(self.seen) - 1}

    def align(self, fields: dict[str, torch.Tensor], guide: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        shift = (guide["values"] - fields["values"]).mean()
        return {"values": fields["values"] + shift}


def image(height: int, width: int) -> Sample:
    return Sample({"image": np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)})


@given(st.integers(1, 3000), st.integers(1, 700), st.floats(0, 0.9), st.sampled_from([1, 2, 4]))
def test_strips__weights_sum_to_one(length: int, tile: int, overlap: float, scale: int) -> None:
    found = strips(length, PredictOptions(tile=tile, overlap=overlap), scale)
    total = np.zeros(length * scale)
    for strip in found:
        assert strip.start % STEP == 0 and strip.weights.min() >= 0
        total[strip.start * scale : strip.stop * scale] += strip.weights.numpy()
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert [strip.done for strip in found] == [*(strip.start for strip in found[1:]), length]
    side = max(tile, STEP)
    assert all(strip.stop - strip.start < max(side, math.ceil(overlap * side) + STEP) + STEP for strip in found)


@given(st.integers(1, 3000), st.integers(1, 300), st.floats(0, 0.9), st.integers(0, 60), st.sampled_from([1, 3]))
def test_strips__what_did_not_see_its_reach_counts_nothing(
    length: int, tile: int, overlap: float, receptive_field_radius: int, scale: int
) -> None:
    found = strips(length, PredictOptions(tile=tile, overlap=overlap), scale, receptive_field_radius)
    total = np.zeros(length * scale)
    for index, strip in enumerate(found):
        weights = strip.weights.numpy()
        assert np.isfinite(weights).all()
        total[strip.start * scale : strip.stop * scale] += weights
        if 2 * receptive_field_radius <= 0.75 * max(tile, STEP):
            assert index == 0 or not weights[: receptive_field_radius * scale].any()
            assert strip.last or not weights[weights.size - receptive_field_radius * scale :].any()
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.7])
@pytest.mark.parametrize("size", [(1, 1), (97, 131), (300, 200)])
def test_blended__identity_comes_out_unchanged(size: tuple[int, int], overlap: float) -> None:
    sample = image(*size)
    result = blended(Local(), sample, PredictOptions(tile=96, overlap=overlap, tta=("flip",)))
    np.testing.assert_allclose(result.values, sample.images["image"].transpose(2, 0, 1) / 255, atol=1e-5)


def test_blended__equals_the_whole_where_surroundings_are_seen() -> None:
    sample = image(250, 330)
    model = Local(receptive_field_radius=7)
    whole = blended(model, sample, PredictOptions(tta=("flip",)))
    tiled = blended(model, sample, PredictOptions(tile=128, overlap=0.25))  # an overlap of 32 hides a rim of 8
    np.testing.assert_allclose(tiled.values, whole.values, atol=1e-5)


@pytest.mark.parametrize("reach", [7, 30, 40])
def test_blended__equals_the_whole_because_the_reach_is_known(receptive_field_radius: int) -> None:
    sample = image(250, 330)
    whole = blended(Local(receptive_field_radius), sample, PredictOptions(tta=("flip",)))
    tiled = blended(Local(receptive_field_radius), sample, PredictOptions(tile=128, overlap=0.0))
    np.testing.assert_allclose(tiled.values, whole.values, atol=1e-5)


def test_blended__turned_looks_come_back_upright() -> None:
    sample = image(50, 70)
    model = Local(how="pad", multiple_of=1)
    result = blended(model, sample, PredictOptions(tta=("flip", "rotate")))
    np.testing.assert_allclose(result.values, sample.images["image"].transpose(2, 0, 1) / 255, atol=1e-5)
    assert len(model.seen) == 8 and set(model.seen) == {(50, 70), (70, 50)}


def test_blended__large_answers_are_kept_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densevision.inference.sliding_window.IN_MEMORY", 1000)
    sample = image(100, 90)
    result = blended(Local(), sample, PredictOptions(tile=64))
    assert isinstance(result.values, np.memmap)
    np.testing.assert_allclose(result.values, sample.images["image"].transpose(2, 0, 1) / 255, atol=1e-5)


def test_blended__enlarged_answers() -> None:
    sample = image(150, 170)
    result = blended(Enlarging(scale=2), sample, PredictOptions(tile=64))
    assert result.size == (300, 340)
    wanted = sample.images["image"].transpose(2, 0, 1).repeat(2, 1).repeat(2, 2) / 255
    np.testing.assert_allclose(result.values, wanted, atol=1e-5)


def test_blended__windows_are_scaled_to_the_network() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 200)[None, :, None], (200, 200, 3)).astype(np.uint8)
    result = blended(
        Local(how="letterbox", multiple_of=1), Sample({"image": ramp}), PredictOptions(tile=100, tta=("scale",))
    )
    np.testing.assert_allclose(result.values[0], ramp[..., 0] / 255, atol=0.02)


def test_blended__floating_answers_follow_the_guide() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 256)[None, :, None], (256, 256, 3)).astype(np.uint8)
    result = blended(Floating(), Sample({"image": ramp}), PredictOptions(tile=128))
    np.testing.assert_allclose(result.values[0], ramp[..., 0] / 255, atol=0.02)


def test_in_windows__only_what_is_too_large() -> None:
    task, options = (
        SimpleNamespace(merge_strategy="pixels", largest=Task.largest, window=1024, receptive_field_radius=None),
        PredictOptions(),
    )
    assert in_windows(task, (1000, 1000), options).tile is None
    assert in_windows(task, (10_000, 10_000), options).tile
    assert in_windows(SimpleNamespace(merge_strategy="objects"), (10_000, 10_000), options).tile is None


def test_in_windows__a_tile_grows_to_what_the_reach_needs_or_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(blend.log, "warning", lambda text, *values: said.append(text % values))
    task = SimpleNamespace(merge_strategy="pixels", largest=Task.largest, window=384, receptive_field_radius=16)
    assert in_windows(task, (100, 100), PredictOptions(tile=40)).tile == 43
    assert in_windows(task, (100, 100), PredictOptions(tile=200)).tile == 200
    assert not said
    task.receptive_field_radius = 351
    for _ in range(3):
        assert in_windows(task, (100, 100), PredictOptions(tile=256)).tile == 256
    assert len(said) == 1 and "from --tile 936 on" in said[0]
