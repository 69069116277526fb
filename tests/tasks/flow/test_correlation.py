"""Both correlations: equal to the definition, to each other, and in their gradients; one bounded in memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densevision.tasks.flow.models import correlation
from densevision.tasks.flow.models.correlation import AllPairsCorrelation, OnDemandCorrelation, correlate

LEVELS, RADIUS = 3, 2


def maps(seed: int = 0, size: tuple[int, int] = (9, 13)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, 2, 6, *size, generator=generator)
    matches = torch.rand(2, 2, *size, generator=generator) * 20 - 4
    return first, second, matches


def by_definition(first: torch.Tensor, second: torch.Tensor, matches: torch.Tensor) -> torch.Tensor:
    """Features read between the cells, then multiplied: the order of RAFT's other, slower formula."""
    depth, answers = first.shape[1], []
    for level in range(LEVELS):
        pooled = F.avg_pool2d(second, 2**level) if level else second
        for dx in range(-RADIUS, RADIUS + 1):
            for dy in range(-RADIUS, RADIUS + 1):
                place = matches / 2**level + torch.tensor([dx, dy]).view(1, 2, 1, 1)
                sides = torch.tensor([pooled.shape[3], pooled.shape[2]]).view(1, 2, 1, 1)
                points = ((2 * place + 1) / sides - 1).permute(0, 2, 3, 1)
                read = F.grid_sample(pooled, points, padding_mode="zeros", align_corners=False)
                answers.append((first * read).sum(1) / depth**0.5)
    return torch.stack(answers, 1)


@pytest.mark.parametrize("kind", ["all_pairs", "on_demand"])
def test_view_up__is_the_product_of_features_read_between_cells(kind):
    first, second, matches = maps()
    found = correlate(first, second, LEVELS, RADIUS, kind)(matches)
    torch.testing.assert_close(found, by_definition(first, second, matches), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block_bytes", [1, 4096, 1 << 26])
def test_blocks__of_any_length_prediction_and_learn_as_the_volume(monkeypatch, block_bytes):
    monkeypatch.setattr(correlation, "BLOCK_BYTES", block_bytes)
    answers, gradients = [], []
    for kind in ("all_pairs", "on_demand"):
        first, second, matches = maps()
        first.requires_grad_(), second.requires_grad_()
        look_up = correlate(first, second, LEVELS, RADIUS, kind)
        found = torch.cat([look_up(matches), look_up(matches / 2)])
        (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum().backward()
        answers.append(found.detach())
        gradients.append((first.grad, second.grad))
    torch.testing.assert_close(*answers, atol=1e-5, rtol=1e-5)
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["all_pairs", "on_demand"])
def test_matches_far_outside__see_nothing(kind):
    first, second, _ = maps()
    for far in (1e9, -1e9, 500.0):
        found = correlate(first, second, LEVELS, RADIUS, kind)(torch.full((2, 2, 9, 13), far))
        assert not found.any()


@pytest.mark.parametrize("kind", ["all_pairs", "on_demand"])
def test_matches__take_no_gradient(kind):
    first, second, matches = maps()
    matches.requires_grad_()
    found = correlate(first.requires_grad_(), second, LEVELS, RADIUS, kind)(matches)
    found.sum().backward()
    assert matches.grad is None


@pytest.mark.parametrize("kind", ["all_pairs", "on_demand"])
def test_bfloat16__is_compared_in_float32(kind):
    first, second, matches = maps()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = correlate(first.bfloat16(), second.bfloat16(), LEVELS, RADIUS, kind)(matches)
    wanted = correlate(first.bfloat16().float(), second.bfloat16().float(), LEVELS, RADIUS, kind)(matches)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=0, rtol=0)


def test_auto__by_the_memory_there_is(monkeypatch):
    first, second, _ = maps()
    assert isinstance(correlate(first, second, LEVELS, RADIUS), AllPairsCorrelation)
    monkeypatch.setattr(correlation, "_total_memory", lambda device: 1000)
    assert isinstance(correlate(first, second, LEVELS, RADIUS), OnDemandCorrelation)


def test_blocks__hold_no_tensor_that_grows_with_the_square_of_the_pixels(monkeypatch):
    monkeypatch.setattr(correlation, "BLOCK_BYTES", 1 << 12)
    largest = {}
    for side in (16, 32):
        sizes: list[int] = []
        monkeypatch.setattr(correlation, "_multiply", _watched(sizes))
        with torch.no_grad():
            look_up = correlate(*torch.randn(2, 1, 4, side, side), LEVELS, RADIUS, "on_demand")
            sizes.append(look_up(torch.zeros(1, 2, side, side)).numel())
        sizes += [tensor.numel() for tensor in (look_up.first, *look_up.maps)]
        largest[side] = max(sizes)
    assert largest[32] <= 4 * largest[16]


def _watched(sizes: list[int]):
    def compare(first, cells, places):
        sizes.append(places.numel() * cells.shape[1])
        return torch.einsum("qkd,qd->qk", cells[places], first)

    return compare


def test_bfloat16__volume_is_rounded_once_where_no_gradient_is_wanted():
    first, second, matches = maps()
    first, second = first.bfloat16(), second.bfloat16()
    with torch.no_grad():
        found = correlate(first, second, LEVELS, RADIUS, "all_pairs")(matches)
    exact = by_definition(first.double(), second.double(), matches.double())
    assert found.dtype == torch.float32
    # Eight significant bits of each of the four products that are interpolated, and of the features that are pooled.
    assert (found - exact).abs().max() < 2**-8 * exact.abs().max() + 2**-8
