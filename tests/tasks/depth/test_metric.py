"""Depth's numbers: against scikit-learn and formulas written out, under every protocol."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_percentage_error, mean_squared_error

from densevision.errors import DataError, UsageError
from densevision.results import DepthMap
from densevision.results.depth_map import Camera
from densevision.tasks.depth.metrics import DepthMetric, Protocol

SHAPE = (12, 16)


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 9, SHAPE)
    return (truth * np.exp(rng.normal(0, 0.2, SHAPE))).astype(np.float32), truth.astype(np.float32)


def evaluated(result: DepthMap, truth: DepthMap, **rules) -> dict[str, float]:
    metric = DepthMetric(Protocol(**rules))
    metric.update(result, truth, 0)
    return metric.compute()


def test_numbers__equal_scikit_learn_and_the_formulas() -> None:
    answer, truth = pair()
    found = evaluated(DepthMap.from_arrays(answer), DepthMap.from_arrays(truth))
    a, t = (array.astype(np.float64).ravel() for array in (answer, truth))
    log = np.log(a / t)
    wanted = {
        "AbsRel": mean_absolute_percentage_error(t, a),
        "SqRel": sum((x - y) ** 2 / y for x, y in zip(a, t)) / a.size,
        "RMSE": math.sqrt(mean_squared_error(t, a)),
        "RMSElog": math.sqrt(mean_squared_error(np.log(t), np.log(a))),
        "log10": np.abs(np.log10(a) - np.log10(t)).mean(),
        "SILog": 100 * math.sqrt((log**2).mean() - log.mean() ** 2),
    }
    wanted |= {f"delta{k}": (np.exp(np.abs(log)) < 1.25**k).mean() for k in (1, 2, 3)}
    assert found == pytest.approx(wanted, rel=1e-6)


def test_unknown_pixels__count_nowhere() -> None:
    answer, truth = pair()
    valid = np.random.default_rng(1).random(SHAPE) < 0.5
    spoilt = np.where(valid, answer, 1e6)
    kept = evaluated(DepthMap.from_arrays(answer[valid][None]), DepthMap.from_arrays(truth[valid][None]))
    assert evaluated(DepthMap.from_arrays(spoilt), DepthMap.from_arrays(truth, valid)) == pytest.approx(kept)


def test_average__is_over_images() -> None:
    metric = DepthMetric()
    metric.update(DepthMap.from_arrays(np.full((1, 1), 2.0)), DepthMap.from_arrays(np.full((1, 1), 1.0)), "a")
    metric.update(DepthMap.from_arrays(np.full((9, 9), 1.0)), DepthMap.from_arrays(np.full((9, 9), 1.0)), "b")
    assert metric.compute()["AbsRel"] == 0.5


def test_nothing_known__is_nan_and_counted() -> None:
    metric = DepthMetric()
    metric.update(DepthMap.from_arrays(np.ones(SHAPE)), DepthMap.from_arrays(np.ones(SHAPE), np.zeros(SHAPE, bool)), 0)
    assert math.isnan(metric.compute()["AbsRel"]) and metric.counts()["images without known pixels"] == 1


def test_merge__order_changes_nothing() -> None:
    metrics = [DepthMetric() for _ in range(2)]
    whole = DepthMetric()
    for number in range(6):
        answer, truth = pair(number)
        for metric in (whole, metrics[number % 2]):
            metric.update(DepthMap.from_arrays(answer), DepthMap.from_arrays(truth), number)
    metrics[1].merge(metrics[0])
    assert metrics[1].compute() == whole.compute() and metrics[1].counts() == whole.counts()


def test_median__forgives_a_factor() -> None:
    truth = pair()[1]
    relative = DepthMap.from_arrays(truth * 37, kind="relative", unit="")
    found = evaluated(relative, DepthMap.from_arrays(truth), align="median")
    assert found["AbsRel/median"] == pytest.approx(0, abs=1e-6)


@settings(deadline=None)
@given(st.floats(0.1, 50), st.floats(-3, 3))
def test_lstsq__forgives_factor_and_offset_of_disparity(factor: float, offset: float) -> None:
    truth = pair()[1]
    answer = DepthMap.from_arrays(factor / truth + offset + 5, kind="disparity", unit="")
    assert evaluated(answer, DepthMap.from_arrays(truth), align="lstsq")["AbsRel/lstsq"] < 1e-3


def test_lstsq__equals_polyfit() -> None:
    answer, truth = pair()
    slope, intercept = np.polyfit(answer.ravel().astype(float), truth.ravel().astype(float), 1)
    wanted = evaluated(DepthMap.from_arrays(slope * answer.astype(float) + intercept), DepthMap.from_arrays(truth))
    found = evaluated(DepthMap.from_arrays(answer), DepthMap.from_arrays(truth), align="lstsq")
    assert found["AbsRel/lstsq"] == pytest.approx(wanted["AbsRel"], rel=1e-4)


def test_by_distance__rows_hold_the_pixels_between_their_edges() -> None:
    edges = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    rng = np.random.default_rng(3)
    truth = np.exp(rng.uniform(np.log(0.1), np.log(50), (40, 50))).astype(np.float32)
    truth[0, : len(edges)] = edges
    answer = (truth * rng.uniform(0.7, 1.4, truth.shape)).astype(np.float32)
    metric = DepthMetric()
    metric.update(DepthMap.from_arrays(answer), DepthMap.from_arrays(truth), 0)
    rows = list(metric.tables()["by distance [m]"].values())
    place = np.digitize(truth, edges)
    relative = np.abs(answer.astype(np.float64) - truth) / truth
    assert [row["pixels"] for row in rows] == np.bincount(place.ravel()).tolist()
    assert [row["AbsRel"] for row in rows] == pytest.approx([relative[place == row].mean() for row in range(len(rows))])


def test_range__truth_beyond_is_left_out_and_predictions_are_clipped() -> None:
    truth, answer = np.array([[1.0, 5.0, 90.0]]), np.array([[1.0, 500.0, 1.0]])
    found = evaluated(DepthMap.from_arrays(answer), DepthMap.from_arrays(truth), max_depth=80.0)
    assert found["AbsRel/80m"] == pytest.approx((0 + 75 / 5) / 2)


@pytest.mark.parametrize(
    ("crop", "size", "window"),
    [
        ("garg", (375, 1242), (153, 371, 44, 1197)),
        ("eigen", (375, 1242), (124, 342, 44, 1197)),
        ("nyu", (480, 640), (45, 471, 41, 601)),
    ],
)
def test_crops__are_the_published_ones(crop: str, size: tuple[int, int], window: tuple[int, ...]) -> None:
    rows, columns = Protocol(crop=crop).window(size)
    assert (rows.start, rows.stop, columns.start, columns.stop) == window


def test_crop__what_lies_outside_does_not_count() -> None:
    truth = np.full((375, 1242), 2.0)
    answer = np.full_like(truth, 9.0)
    answer[153:371, 44:1197] = 2.0
    assert evaluated(DepthMap.from_arrays(answer), DepthMap.from_arrays(truth), crop="garg")["AbsRel/garg"] == 0


def test_disparity__end_point_error_and_outliers_by_hand() -> None:
    truth = np.array([[10.0, 100.0, 100.0, 50.0]])
    answer = truth + np.array([[4.0, 4.0, 6.0, 1.5]])
    kind = {"kind": "disparity", "unit": "px"}
    found = evaluated(DepthMap.from_arrays(answer, **kind), DepthMap.from_arrays(truth, **kind))
    assert found["EPE"] == pytest.approx(15.5 / 4)
    # Four pixels are more than 5 % of ten, but less of a hundred.
    assert found["D1"] == 0.5 and (found["bad1"], found["bad2"], found["bad3"]) == (1, 0.75, 0.75)
    assert found["medRel"] == pytest.approx(np.median([0.4, 0.04, 0.06, 0.03]))
    assert found["AbsRel"] == pytest.approx(np.mean(np.abs(truth / answer - 1))) and math.isnan(found["RMSE"])


def test_disparity__against_meters_through_the_camera() -> None:
    camera = Camera(720.0, baseline=0.5)
    truth = DepthMap.from_arrays(np.array([[9.0, 36.0]]), camera=camera)
    answer = DepthMap.from_arrays(np.array([[40.0, 10.0]]), kind="disparity", unit="px")
    assert evaluated(answer, truth)["RMSE"] == pytest.approx(0)


def test_bounds__truth_at_the_ends() -> None:
    truth, answer = DepthMap.from_arrays(np.array([[1.0, 5, 10]])), DepthMap.from_arrays(np.array([[2.0, 5, 5]]))
    found = evaluated(answer, truth, min_depth=1.0, max_depth=10.0)
    assert found["AbsRel/10m/from1m"] == pytest.approx(0.5)
    rules = {"min_depth": 1.0, "max_depth": 10.0, "bounds": "exclusive"}
    found = evaluated(answer, truth, **rules)
    assert found["AbsRel/10m/from1m/exclusive"] == 0
    assert "exclusive" in DepthMetric(Protocol(**rules)).protocol["bounds"]


def test_left_open__is_evaluated_as_far_and_counted() -> None:
    metric = DepthMetric(Protocol(max_depth=10.0))
    metric.update(
        DepthMap.from_arrays(np.zeros((1, 2)), np.zeros((1, 2), bool)), DepthMap.from_arrays(np.full((1, 2), 5.0)), 0
    )
    assert metric.compute()["AbsRel/10m"] == 1 and metric.counts()["pixels without prediction"] == 2


@pytest.mark.parametrize("align", ["median", "lstsq"])
@pytest.mark.parametrize("kind", ["relative", "disparity"])
def test_left_open__does_not_steer_the_alignment(kind: str, align: str) -> None:
    truth = np.random.default_rng(0).uniform(1, 9, (8, 64))
    told = np.arange(64) >= 40
    numbers = np.where(told, 3 / truth if kind == "disparity" else 3 * truth, 0)
    answer = DepthMap.from_arrays(numbers, told & (numbers > 0), kind=kind, unit="")
    found = evaluated(answer, DepthMap.from_arrays(truth), align=align)
    assert found[f"delta1/{align}"] == pytest.approx(24 / 64)


def test_protocol__says_what_was_compared_and_what_open_pixels_count_as() -> None:
    metric = DepthMetric()
    assert "prediction" not in metric.protocol and "10000 m" in metric.protocol["missing"]
    disparity = DepthMap.from_arrays(np.ones((2, 2)), kind="disparity", unit="px")
    metric.update(disparity, DepthMap.from_arrays(np.ones((2, 2)), camera=Camera(1.0, baseline=1.0)), 0)
    assert (metric.protocol["prediction"], metric.protocol["truth"]) == ("disparity in px", "metric in m")


@pytest.mark.parametrize("align", ["none", "lstsq"])
def test_disparity__from_a_pair_whose_principal_points_differ(align: str) -> None:
    rng = np.random.default_rng(0)
    camera, disparity = Camera(720.0, baseline=0.5, offset=12.0), rng.uniform(1, 60, (8, 8))
    depth = 720 * 0.5 / (disparity + 12)
    truth = DepthMap.from_arrays(disparity, kind="disparity", unit="px", camera=camera)
    found = evaluated(DepthMap.from_arrays(depth), truth, align=align)
    suffix = "" if align == "none" else "/lstsq"
    assert found[f"RMSE{suffix}"] == pytest.approx(0, abs=1e-5)
    found = evaluated(truth, DepthMap.from_arrays(depth, camera=camera), align=align)
    assert found[f"RMSE{suffix}"] == pytest.approx(0, abs=1e-5)
    assert evaluated(truth, truth, align=align)[f"EPE{suffix}"] == pytest.approx(0, abs=1e-4)


def test_without_unit__needs_alignment() -> None:
    answer = DepthMap.from_arrays(np.ones((2, 2)), kind="disparity", unit="")
    with pytest.raises(UsageError, match="lstsq"):
        evaluated(answer, DepthMap.from_arrays(np.ones((2, 2))))


def test_sizes__must_agree() -> None:
    with pytest.raises(DataError, match="size"):
        evaluated(DepthMap.from_arrays(np.ones((2, 2))), DepthMap.from_arrays(np.ones((2, 3))))
