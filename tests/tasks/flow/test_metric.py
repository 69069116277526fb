"""The numbers of optical flow, each beside an independent computation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.io.flow import write_flow
from densevision.results import FlowField
from densevision.tasks import load_score
from densevision.tasks.flow.metrics import FlowMetric, angular_error

score = load_score("flow")


def pair(seed: int, size: tuple[int, int] = (23, 31)) -> tuple[FlowField, FlowField]:
    """An answer and a truth with unknown pixels and occlusion."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 25, (2, *size))
    answer = truth + rng.normal(0, 3, (2, *size))
    valid, hidden = rng.random(size) < 0.7, rng.random(size) < 0.3
    claims = np.clip(hidden + rng.normal(0, 0.5, size), 0, 1).astype(np.float32)
    return FlowField.from_arrays(answer, occlusion=claims), FlowField.from_arrays(truth, valid, hidden)


def measured(pairs: list[tuple[FlowField, FlowField]]) -> dict[str, float]:
    metric = FlowMetric()
    for number, (answer, truth) in enumerate(pairs):
        metric.update(answer, truth, number)
    return metric.compute()


@pytest.mark.parity
def test_numbers__by_plain_loops():
    """One pixel at a time, in Python's own floats, as the papers define them."""
    pairs = [pair(0, (7, 9)), pair(1, (5, 4))]
    errors, angles, speeds, hidden, hits, claims = [], [], [], [], [], []
    for answer, truth in pairs:
        for y in range(truth.size[0]):
            for x in range(truth.size[1]):
                if not truth.valid[y, x]:
                    continue
                (u, v), (a, b) = (record.flow[:, y, x].astype(float).tolist() for record in (answer, truth))
                errors.append(math.sqrt((u - a) ** 2 + (v - b) ** 2))
                cosine = (u * a + v * b + 1) / math.sqrt((u * u + v * v + 1) * (a * a + b * b + 1))
                angles.append(math.degrees(math.acos(min(1.0, cosine))))
                speeds.append(math.hypot(a, b))
                hidden.append(bool(truth.occlusion[y, x]))
                claims.append(bool(answer.occlusion[y, x] >= 0.5))
    hits = sum(claim and there for claim, there in zip(claims, hidden))
    precision, recall = hits / sum(claims), hits / sum(hidden)

    def mean(values, where=None):
        kept = [value for value, keep in zip(values, where or [True] * len(values)) if keep]
        return sum(kept) / len(kept)

    expected = {
        "EPE": mean(errors),
        "1px": mean([error > 1 for error in errors]),
        "3px": mean([error > 3 for error in errors]),
        "5px": mean([error > 5 for error in errors]),
        "Fl": mean([error > 3 and error / speed > 0.05 for error, speed in zip(errors, speeds)]),
        "AAE": mean(angles),
        "s0-10": mean(errors, [speed < 10 for speed in speeds]),
        "s10-40": mean(errors, [10 <= speed < 40 for speed in speeds]),
        "s40+": mean(errors, [speed >= 40 for speed in speeds]),
        "EPE_occ": mean(errors, hidden),
        "EPE_noc": mean(errors, [not there for there in hidden]),
        "F1_occ": 2 * precision * recall / (precision + recall),
    }
    numbers = measured(pairs)
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parity
def test_epe_and_fl__as_torchvisions_reference_formula():
    """The formulas of torchvision's training reference, in torch."""
    import torch

    answer, truth = pair(3)
    flow, wanted, valid = torch.tensor(answer.flow), torch.tensor(truth.flow), torch.tensor(truth.valid)
    epe = ((flow - wanted) ** 2).sum(0).sqrt()[valid]
    relative = epe / (wanted**2).sum(0).sqrt()[valid]
    numbers = measured([(answer, truth)])
    assert numbers["EPE"] == pytest.approx(epe.mean().item(), rel=1e-5)
    assert numbers["1px"] == pytest.approx(1 - (epe < 1).float().mean().item(), rel=1e-5)
    assert numbers["Fl"] == pytest.approx(((epe > 3) & (relative > 0.05)).float().mean().item(), rel=1e-5)


@pytest.mark.parity
def test_f1__as_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    answer, truth = pair(4)
    expected = metrics.f1_score(truth.occlusion[truth.valid], answer.occlusion[truth.valid] >= 0.5)
    assert measured([(answer, truth)])["F1_occ"] == pytest.approx(expected)


def test_angle__of_known_triangles():
    flow = np.array([[0.0, 1.0, 3.0], [0.0, 0.0, 4.0]])
    truth = np.zeros((2, 3))
    np.testing.assert_allclose(angular_error(flow, truth), [0, 45, math.degrees(math.atan(5))])


def test_angle__is_exact_where_the_arc_cosine_is_not():
    error = angular_error(np.array([[1 + 1e-7], [0.0]]), np.array([[1.0], [0.0]]))
    assert error[0] == pytest.approx(math.degrees(0.5e-7), rel=1e-5)


def test_unknown_pixels__count_nowhere():
    answer, truth = pair(5)
    spoilt = answer.flow.copy()
    spoilt[:, ~truth.valid] = 1e6
    assert measured([(FlowField.from_arrays(spoilt, occlusion=answer.occlusion), truth)]) == measured([(answer, truth)])


def test_no_valid_pixel__gives_no_number():
    answer, truth = pair(6)
    nothing = FlowField.from_arrays(truth.flow, np.zeros(truth.size, bool))
    assert all(math.isnan(value) for value in measured([(answer, nothing)]).values())
    assert measured([(answer, truth), (answer, nothing)])["EPE"] == measured([(answer, truth)])["EPE"]


def test_occlusion_unknown__leaves_its_numbers_open():
    answer, truth = pair(7)
    numbers = measured([(answer, FlowField.from_arrays(truth.flow, truth.valid))])
    assert math.isnan(numbers["F1_occ"]) and math.isnan(numbers["EPE_occ"]) and numbers["EPE"] > 0


def test_order_and_shards__change_no_bit():
    pairs = [pair(seed, (11, 13)) for seed in range(5)]
    whole, parts = FlowMetric(), [FlowMetric(), FlowMetric()]
    for number in (3, 1, 4, 0, 2):
        whole.update(*pairs[number], number)
    for number in range(5):
        parts[number % 2].update(*pairs[number], number)
    parts[1].merge(parts[0])
    assert parts[1].compute() == whole.compute() and parts[1].counts() == whole.counts()


def test_pixels_left_open__are_evaluated_as_standing_still():
    _, truth = pair(8)
    metric = FlowMetric()
    metric.update(FlowField.from_arrays(truth.flow, np.zeros(truth.size, bool)), truth, 0)
    still = measured([(FlowField.from_arrays(np.zeros_like(truth.flow)), truth)])
    assert metric.compute()["EPE"] == still["EPE"]
    assert metric.counts()["pixels without prediction"] == truth.valid.sum()


def test_other_size__is_refused():
    with pytest.raises(DataError, match="size"):
        FlowMetric().update(pair(0, (4, 5))[0], pair(0, (5, 4))[1], "a")


def test_plots_and_tables__are_made(tmp_path):
    metric = FlowMetric()
    for number in range(2):
        metric.update(*pair(number), number)
    metric.draw_plots(tmp_path)
    assert (tmp_path / "errors.png").exists()
    assert list(metric.tables()["worst images"]) and metric.counts()["pixels"] > 0


def test_score__of_files_equals_the_metric(tmp_path):
    pairs = [pair(seed) for seed in range(2)]
    for number, (answer, truth) in enumerate(pairs):
        write_flow(tmp_path / f"truth/scene/{number}.flo", truth.flow, truth.valid)
        write_flow(tmp_path / f"answers/scene/{number}.npy", answer.flow)
    scored = score(tmp_path / "truth", tmp_path / "answers")
    known = [(answer, FlowField.from_arrays(truth.flow, truth.valid)) for answer, truth in pairs]
    assert scored["metrics"]["EPE"] == measured(known)["EPE"] and scored["counts"]["images"] == 2
    single = score(tmp_path / "truth/scene/0.flo", tmp_path / "answers/scene/0.npy")
    assert single["metrics"]["EPE"] == measured(known[:1])["EPE"]


def test_score__counts_and_names_what_is_missing(tmp_path):
    answer, truth = pair(0)
    for name in ("a", "b"):
        write_flow(tmp_path / f"truth/{name}.flo", truth.flow)
    for name in ("b", "c"):
        write_flow(tmp_path / f"answers/{name}.flo", answer.flow)
    scored = score(tmp_path / "truth", tmp_path / "answers")
    assert scored["counts"]["images"] == scored["counts"]["images without prediction"] == 1
    assert scored["named"] == {"images without prediction": ["a"], "predictions without truth": ["c"]}
    (tmp_path / "answers/b.flo").unlink()
    with pytest.raises(DataError, match="no prediction has the name of a ground truth"):
        score(tmp_path / "truth", tmp_path / "answers")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no ground truth"):
        score(tmp_path / "empty", tmp_path / "answers")
