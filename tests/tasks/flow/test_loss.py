"""Losses beside their formulas, without truth, and what they teach."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from densevision.results import FlowField
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.losses import (
    collate_targets,
    flow_loss,
    matching_loss,
    occlusion_loss,
    visibility_loss,
)
from densevision.tasks.flow.models.occlusion import OcclusionRefiner, find_inconsistent
from densevision.tasks.flow.photometric import census_distance, smoothness_loss
from densevision.tasks.flow.task import Flow

TINY = {"arch": "raft_tiny", "model.iterations": 2, "model.training_iterations": 3}


def tiny(**more) -> Flow:
    torch.manual_seed(0)
    return Flow(FlowConfig.resolve(None, {**TINY, **more}))


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(1, 3, 128, 128, generator=generator) for name in ("first", "second")}


def truth(seed: int = 0, occlusion: bool = True) -> FlowField:
    rng = np.random.default_rng(seed)
    hidden = rng.random((128, 128)) < 0.2 if occlusion else None
    return FlowField.from_arrays(rng.normal(0, 4, (2, 128, 128)), rng.random((128, 128)) < 0.5, hidden)


def test_flow_distance__of_l1_and_robust():
    flow, wanted = torch.randn(2, 2, 2, 4, 5)
    valid = torch.rand(2, 4, 5) < 0.5
    apart = [
        (abs(float(flow[b, c, y, x] - wanted[b, c, y, x])))
        for b in range(2)
        for c in range(2)
        for y in range(4)
        for x in range(5)
        if valid[b, y, x]
    ]
    assert flow_loss(flow, wanted, valid, "l1").item() == pytest.approx(np.mean(apart), rel=1e-5)
    robust = np.mean([(one + 0.01) ** 0.4 for one in apart])
    assert flow_loss(flow, wanted, valid, "robust").item() == pytest.approx(robust, rel=1e-5)


def test_distances__without_truth_are_zero():
    nothing = torch.zeros(1, 4, 5, dtype=torch.bool)
    assert flow_loss(torch.ones(1, 2, 4, 5), torch.zeros(1, 2, 4, 5), nothing, "robust") == 0
    assert occlusion_loss(torch.ones(1, 4, 5), torch.zeros(1, 4, 5), nothing) == 0


def test_sequence_loss__weighs_later_steps_more():
    task = tiny(**{"loss.gamma": 0.5, "loss.occlusion": 0.25})
    net, targets = task.build_model(), collate_targets([truth()])
    losses = net.compute_losses(inputs(), targets)
    total, hidden = 0.0, 0.0
    for iterations in (1, 2, 3):
        images = inputs()
        *_, state = net.iterate(net.encoder(images["first"]), net.encoder(images["second"]), iterations)
        outputs = net.upsample(state)
        total += 0.5 ** (3 - iterations) * flow_loss(outputs["flow"], targets["flow"], targets["valid"], "l1")
        logits = outputs["occlusion"].sigmoid()[targets["valid"]]
        wanted = targets["occlusion"][targets["valid"]]
        hidden += 0.5 ** (3 - iterations) * torch.nn.functional.binary_cross_entropy(logits, wanted)
    assert losses["flow"].item() == pytest.approx(total.item(), rel=1e-4)
    assert losses["occlusion"].item() == pytest.approx(0.25 * hidden.item(), rel=1e-4)
    decided = net(**inputs(), iterations=3)["occlusion"]
    apart = visibility_loss(decided, targets["occlusion"], targets["occlusion_valid"])
    assert losses["visibility"].item() == pytest.approx(0.25 * apart.item(), rel=1e-4)


def test_visibility_distance__is_cross_entropy_and_one_minus_f1():
    """Where all is certain Dice is F1, which scikit-learn counts; what is not told counts nowhere."""
    rng = np.random.default_rng(0)
    answer, wanted, told = (rng.random((2, 9, 11)) < part for part in (0.4, 0.3, 0.8))
    logits = torch.from_numpy(np.where(answer, 50.0, -50.0))
    given = torch.from_numpy(wanted.astype(np.float64)), torch.from_numpy(told)
    dice = visibility_loss(logits, *given) - occlusion_loss(logits, *given)
    f1, smooth = f1_score(wanted[told], answer[told]), (answer & told).sum() + (wanted & told).sum()
    assert dice.item() == pytest.approx(1 - (f1 * smooth + 1) / (smooth + 1), abs=1e-9)
    nothing = torch.zeros_like(given[1])
    assert visibility_loss(logits, given[0], nothing) == 0


def test_matching__is_the_cross_entropy_of_the_four_cells_around_the_match():
    """Features of two cells' size by loops over cells: bilinear shares, only what is seen whole and stays inside."""
    generator = torch.Generator().manual_seed(0)
    here, there = torch.randn(2, 1, 5, 4, 6, generator=generator)
    flow = (torch.rand(1, 2, 4, 6, generator=generator) * 6 - 3).repeat_interleave(4, 2).repeat_interleave(4, 3)
    seen = torch.ones(1, 16, 24, dtype=torch.bool)
    seen[0, 5, 9] = False  # cell (row 1, column 2)
    losses = []
    for row in range(4):
        for column in range(6):
            u, v = (flow[0, :, 4 * row, 4 * column] / 4).tolist()
            x, y = column + u, row + v
            left, top = int(np.floor(x)), int(np.floor(y))
            if (row, column) == (1, 2) or not (0 <= left < 5 and 0 <= top < 3):
                continue
            logits = (here[0, :, row, column, None, None] * there[0]).sum(0) / 5**0.5
            probability = (logits - logits.logsumexp((0, 1))).numpy()
            shares = np.outer([top + 1 - y, y - top], [left + 1 - x, x - left])
            losses.append(-(shares * probability[top : top + 2, left : left + 2]).sum())
    assert len(losses) > 5
    assert matching_loss(here, there, flow, seen).item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert matching_loss(here, there, flow, torch.zeros_like(seen)) == 0


def test_matching__is_weighed_and_leaves_out_what_is_occluded():
    task = tiny(**{"loss.matching": 0.5})
    net, hidden = (
        task.build_model(),
        FlowField.from_arrays(np.zeros((2, 128, 128)), occlusion=np.ones((128, 128), bool)),
    )
    visible = FlowField.from_arrays(hidden.flow, occlusion=~hidden.occluded)
    found = [net.compute_losses(inputs(), collate_targets([each]))["matching"] for each in (hidden, visible)]
    images = inputs()
    features = net._project_features(net.encoder(images["first"]), net.encoder(images["second"]))
    wanted = matching_loss(*features, torch.zeros(1, 2, 128, 128), torch.ones(1, 128, 128, dtype=torch.bool))
    assert found[0] == 0 and found[1].item() == pytest.approx(0.5 * wanted.item(), rel=1e-5)


def test_target_records_too_fast__are_left_out():
    task, fast = tiny(**{"loss.max_flow": 5.0}), truth()
    flow = fast.flow.copy()
    flow[:, :64] = 1000
    targets = collate_targets([FlowField.from_arrays(flow, fast.valid)])
    losses = task.build_model().compute_losses(inputs(), targets)
    assert losses["flow"] < 100


def test_stack__pads_and_tells_what_is_known():
    targets = collate_targets([FlowField.from_arrays(np.ones((2, 3, 4))), None, truth()])
    assert targets["flow"].shape == (3, 2, 128, 128)
    assert targets["valid"][0].sum() == 12 and not targets["valid"][1].any()
    assert not targets["occlusion_valid"][:2].any() and targets["occlusion_valid"][2].sum() == truth().valid.sum()


def test_forward_backward__is_what_the_other_image_does_not_show():
    """A square moves right by 8 over a still ground: it hides the ground that it comes to lie on."""
    forward, backward = torch.zeros(2, 1, 2, 32, 48)
    forward[:, 0, 8:24, 8:24] = 8
    backward[:, 0, 8:24, 16:32] = -8
    hidden = torch.zeros(32, 48, dtype=torch.bool)
    hidden[8:24, 24:32] = True
    assert torch.equal(find_inconsistent(forward, backward)[0], hidden)


def test_forward_backward__leaves_the_image():
    flow = torch.full((1, 2, 10, 10), 0.0)
    flow[:, 0] = 3
    lost = find_inconsistent(flow, -flow)[0]
    assert lost[:, 7:].all() and not lost[:, :7].any()


def test_census__does_not_mind_the_light_but_minds_a_shift():
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    assert census_distance(image, image + 0.3, 3)[inner].max() < 1e-5
    assert census_distance(image, image.roll(2, 3), 3)[inner].mean() > 0.3


def test_smoothness__is_waived_at_edges_of_the_image():
    flow, image = torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 8)
    flow[..., 4:] = 5
    rough = smoothness_loss(image, flow)
    image[..., 4:] = 1
    assert smoothness_loss(image, flow) < 1e-6 < rough


@pytest.mark.parametrize("occlusion", [True, False])
def test_photometric__learns_without_truth(occlusion):
    task = tiny(**{"loss.supervision": "photometric", "model.occlusion": occlusion})
    net = task.build_model()
    losses = net.compute_losses(inputs(), {})
    assert set(losses) == {"census", "smoothness"} | ({"occlusion", "visibility"} if occlusion else set())
    sum(losses.values()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in net.parameters())


@pytest.mark.slow
def test_refiner__learns_what_is_hidden_from_where_the_flow_leads():
    """Cells that know nothing, and the true flow of scenes: what is hidden is found on scenes that were not learned."""
    torch.manual_seed(0)
    scenes = Flow(FlowConfig.resolve(None, {**TINY, "data.path": "scenes:24:3", "data.size": [128, 128]})).open_dataset(
        "train"
    )
    samples = [scenes[index] for index in range(24)]
    first, second = (
        torch.stack([torch.from_numpy(one.images[name].copy()) for one in samples]).permute(0, 3, 1, 2) / 255
        for name in ("first", "second")
    )
    told = collate_targets([one.truth for one in samples])
    refine, blank = OcclusionRefiner(), torch.zeros_like(told["occlusion"])
    optimizer = torch.optim.Adam(refine.parameters(), 1e-2)
    for step in range(60):
        rows = torch.arange(4 * step, 4 * step + 4) % 20
        logits = refine(blank[rows], told["flow"][rows], first[rows], second[rows])
        optimizer.zero_grad()
        visibility_loss(logits, told["occlusion"][rows], told["occlusion_valid"][rows]).backward()
        optimizer.step()
    with torch.no_grad():
        found = refine(blank[20:], told["flow"][20:], first[20:], second[20:]) > 0
    assert f1_score(told["occlusion"][20:].flatten() > 0.5, found.flatten()) > 0.8
