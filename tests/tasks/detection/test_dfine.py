"""D-FINE by itself: its arithmetic, its training, its predictions and its export."""

from __future__ import annotations

import copy
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.tasks.detection.models import MODELS
from densevision.tasks.detection.models.deformable_decoder import (
    DeformableAttention,
    expected_distances,
    inverse_sigmoid,
    move_edges,
    weighting_function,
)
from densevision.tasks.detection.models.dfine import DFine
from densevision.tasks.detection.models.dfine_loss import (
    Assignment,
    Prediction,
    bin_position,
    class_loss,
    edge_distances,
    match,
    union,
)
from densevision.tasks.detection.models.dfine_queries import denoising_queries
from densevision.tasks.detection.models.dfine_targets import BoxTargets, box_targets, overlap, to_centers, to_corners

CLASSES = 4
SIDE = 64
UP, REG_SCALE = torch.tensor([0.5]), torch.tensor([4.0])


def model(**changes: Any) -> DFine:
    """The smallest size with few queries, whose zero-initialized layers are drawn too."""
    torch.manual_seed(0)
    network = DFine(
        **{"num_classes": CLASSES, "num_queries": 12, "num_denoising": 8, **MODELS["dfine_n"].arguments, **changes}
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "backbone" not in name and parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def images(count: int = 2, channels: int = 3, side: int = SIDE) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def targets(*rows: list[tuple[list[float], int]], crowd: list[list[bool]] | None = None) -> dict[str, Tensor]:
    """Padded targets from boxes and labels of each image."""
    most = max(len(row) for row in rows)
    boxes, labels = torch.zeros(len(rows), most, 4), torch.zeros(len(rows), most, dtype=torch.long)
    valid, is_crowd = torch.zeros(len(rows), most).bool(), torch.zeros(len(rows), most).bool()
    for index, row in enumerate(rows):
        for place, (box, label) in enumerate(row):
            boxes[index, place], labels[index, place] = torch.tensor(box), label
            valid[index, place] = True
            is_crowd[index, place] = crowd is not None and crowd[index][place]
    return {"boxes": boxes, "labels": labels, "valid": valid, "crowd": is_crowd}


TWO = targets([([5.0, 8, 40, 50], 1), ([20.0, 20, 60, 30], 3)], [([30.0, 5, 50, 60], 0)])


# Arithmetic of boxes and distributions


def test_weighting_function__bounds_and_symmetry():
    values = weighting_function(32, UP, REG_SCALE)
    assert len(values) == 33
    assert bool((values.diff() > 0).all())
    torch.testing.assert_close(values, -values.flip(0))
    torch.testing.assert_close(values[-2:], torch.tensor([2.0, 4.0]))


def test_edge_distances__inverse_of_move_edges():
    reference = torch.tensor([[0.5, 0.4, 0.2, 0.3], [0.1, 0.9, 0.05, 0.4]])
    distances = torch.tensor([[0.5, -1.0, 0.0, 2.0], [-0.3, 0.1, 0.7, -0.9]])
    moved = move_edges(reference, distances, REG_SCALE)
    torch.testing.assert_close(edge_distances(reference, to_corners(moved), REG_SCALE), distances, rtol=0, atol=1e-5)
    torch.testing.assert_close(move_edges(reference, torch.zeros(2, 4), REG_SCALE), reference)


def test_bin_position__expectation_gives_the_value_back():
    weights = weighting_function(32, UP, REG_SCALE)
    values = torch.tensor([-3.9, -0.02, 0.0, 0.31, 1.99, 9.0, -9.0])
    left, fraction = bin_position(values, weights)
    probability = torch.zeros(len(values), 33)
    probability.scatter_add_(1, left[:, None], 1 - fraction[:, None])
    probability.scatter_add_(1, left[:, None] + 1, fraction[:, None])
    torch.testing.assert_close(probability @ weights, values.clamp(-4, 4))
    corners = probability.clamp(min=1e-30).log().flatten()[: 4 * 33]
    torch.testing.assert_close(expected_distances(corners, weights), values[:4], rtol=0, atol=1e-5)


def test_overlap__analytic():
    box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    others = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [4.0, 0.0, 6.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    iou, giou = overlap(box, others)
    torch.testing.assert_close(iou, torch.tensor([1.0, 1 / 7, 0.0, 0.0]))
    torch.testing.assert_close(giou, torch.tensor([1.0, 1 / 7 - 2 / 9, -1 / 3, 0.0]))


def test_overlap__empty_boxes_have_finite_gradients():
    box = torch.zeros(1, 4, requires_grad=True)
    sum(value.sum() for value in overlap(box, torch.zeros(1, 4))).backward()
    assert bool(box.grad.isfinite().all())


# Matching


def test_match__cheapest_of_all_permutations():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 5, CLASSES, generator=generator)
    boxes = 0.2 + 0.3 * torch.rand(1, 5, 4, generator=generator)
    ground_truth = BoxTargets(
        0.2 + 0.3 * torch.rand(1, 3, 4, generator=generator),
        torch.tensor([[0, 2, 2]]),
        torch.ones(1, 3).bool(),
        torch.zeros(1, 0, 4),
    )

    def cost(query: int, target: int) -> float:
        score = logits[0, query, ground_truth.labels[0, target]].sigmoid()
        positive = 0.25 * (1 - score) ** 2 * -score.log()
        negative = 0.75 * score**2 * -(1 - score).log()
        distance = (boxes[0, query] - ground_truth.boxes[0, target]).abs().sum()
        _, giou = overlap(to_corners(boxes[0, query]), to_corners(ground_truth.boxes[0, target]))
        return float(2 * (positive - negative) + 5 * distance - 2 * giou)

    best = min(permutations(range(5), 3), key=lambda order: sum(cost(query, t) for t, query in enumerate(order)))
    (assignment,) = match([Prediction(logits, boxes)], ground_truth)
    assert dict(zip(assignment.target.tolist(), assignment.query.tolist())) == dict(enumerate(best))


def test_match__more_objects_than_queries_and_broken_numbers():
    logits, boxes = torch.zeros(1, 2, CLASSES), torch.full((1, 2, 4), 0.5)
    logits[0, 0] = float("nan")
    ground_truth = BoxTargets(
        torch.rand(1, 5, 4), torch.zeros(1, 5).long(), torch.ones(1, 5).bool(), torch.zeros(1, 0, 4)
    )
    (assignment,) = match([Prediction(logits, boxes)], ground_truth)
    assert sorted(assignment.query.tolist()) == [0, 1]


def test_union__query_keeps_its_most_frequent_object():
    def assignment(*rows: tuple[int, int, int]) -> Assignment:
        return Assignment(*torch.tensor(rows).T)

    common = union([assignment((0, 1, 0), (1, 1, 2)), assignment((0, 1, 1)), assignment((0, 1, 1), (0, 3, 0))], 2)
    assert sorted(zip(*(column.tolist() for column in common))) == [(0, 1, 1), (0, 3, 0), (1, 1, 2)]


# Targets


def test_box_targets__crowd_and_padding_are_apart():
    ground_truth = targets(
        [([0.0, 0, 32, 64], 1), ([0.0, 0, 64, 64], 2), ([16.0, 16, 32, 32], 3)], [], crowd=[[False, True, False], []]
    )
    result = box_targets(ground_truth, torch.tensor([[64.0, 64.0]] * 2))
    assert result.valid.tolist() == [[True, True], [False, False]]
    assert result.labels[0].tolist() == [1, 3]
    torch.testing.assert_close(result.boxes[0, 0], torch.tensor([0.25, 0.5, 0.5, 1.0]))
    torch.testing.assert_close(result.crowd_boxes[0], torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    assert float(result.crowd_boxes[1].abs().sum()) == 0


def test_class_loss__queries_in_crowd_regions_are_no_negatives():
    logits = torch.zeros(1, 2, CLASSES, requires_grad=True)
    boxes = torch.tensor([[[0.25, 0.25, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2]]])
    crowd = targets([([0.0, 0, 32, 32], 0)], crowd=[[True]])
    ground_truth = box_targets(crowd, torch.tensor([[64.0, 64.0]]))
    nobody = Assignment(*torch.zeros(3, 0).long())
    class_loss(Prediction(logits, boxes), ground_truth, nobody, 1.0).backward()
    assert float(logits.grad[0, 0].abs().sum()) == 0
    assert float(logits.grad[0, 1].abs().sum()) > 0


def test_denoising_queries__positives_stay_near_and_negatives_leave():
    ground_truth = box_targets(TWO, torch.tensor([[64.0, 64.0]] * 2))
    torch.manual_seed(0)
    noised = denoising_queries(ground_truth, CLASSES, 5, 100, 0.0, 1.0)
    assert noised.groups == 50
    assert noised.count == 2 * 2 * 50
    image, query, target = noised.assignment
    assert len(image) == 3 * 50
    boxes = to_corners(noised.box_logits.sigmoid()[image, query])
    expected = ground_truth.boxes[image, target]
    reach = 0.5 * expected[:, 2:].repeat(1, 2) + 1e-4
    assert bool(((boxes - to_corners(expected)).abs() <= reach).all())
    assert bool((noised.labels[image, query] == ground_truth.labels[image, target]).all())
    assert bool((noised.labels[1] == CLASSES).any())  # where an image has fewer objects


def test_denoising_queries__without_noise_they_are_the_ground_truth():
    ground_truth = box_targets(TWO, torch.tensor([[64.0, 64.0]] * 2))
    noised = denoising_queries(ground_truth, CLASSES, 5, 10, 0.0, 0.0)
    image, query, target = noised.assignment
    torch.testing.assert_close(noised.box_logits[image, query], inverse_sigmoid(ground_truth.boxes[image, target]))


def test_denoising_queries__nothing_leaks_to_other_queries():
    network = model().train()
    network.apply(lambda module: module.eval() if isinstance(module, nn.BatchNorm2d) else None)
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(network.training_outputs(images(), TWO))
    first, second = (result.matched.layers[-1] for result in results)
    torch.testing.assert_close(first.logits, second.logits)
    torch.testing.assert_close(first.boxes, second.boxes)
    assert not torch.equal(results[0].noised.layers[-1].boxes, results[1].noised.layers[-1].boxes)


# The network


def test_forward__same_outputs_in_training_and_evaluation():
    network = model()
    network.apply(lambda module: setattr(module, "momentum", 0.0) if isinstance(module, nn.BatchNorm2d) else None)
    with torch.no_grad():
        outputs = {mode: network.train(mode)(image=images()) for mode in (True, False)}
    for mode in (True, False):
        shapes = {name: tuple(tensor.shape) for name, tensor in outputs[mode].items()}
        assert shapes == {"logits": (2, 12, CLASSES), "boxes": (2, 12, 4), "size": (2, 2)}
    assert outputs[False]["size"].tolist() == [[SIDE, SIDE]] * 2


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 64, 96), (4, 72, 50), (3, 32, 32)])
def test_forward__other_channels_and_sizes(channels: int, height: int, width: int):
    network = model(in_channels=channels, num_queries=300).eval()
    outputs = network(image=torch.rand(1, channels, height, width))
    assert bool(outputs["boxes"].isfinite().all())
    assert outputs["size"].tolist() == [[height, width]]


def test_forward__autocast_keeps_boxes():
    network = model().eval()
    with torch.no_grad():
        proposals = network.selection(network.encoder(network.backbone(images())))["queries"]
        expected = network(image=images())
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network(image=images())
    assert proposals.dtype == torch.float32
    assert outputs["boxes"].dtype == torch.float32
    nearest = torch.cdist(outputs["boxes"], expected["boxes"]).amin(-1)
    assert float(nearest.median()) < 0.02


@pytest.mark.parametrize(
    "changes", [{"points": (4, 4, 4)}, {"image_size": (100, 64)}, {"strides": (2, 4)}, {"heads": 7}]
)
def test_constructor__impossible_sizes(changes: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(changes)).rstrip("s")):
        model(**changes)


def test_frozen__backbone_norms_and_stem_stay():
    network = model(freeze_norm=True, freeze_stem=True).train()
    before = copy.deepcopy(network.backbone.state_dict())
    sum(network.compute_losses({"image": images()}, TWO).values()).backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.backbone.state_dict().items())
    assert all(p.grad is None for name, p in network.backbone.named_parameters() if name.startswith("stem"))
    assert all(p.grad is None for name, p in network.backbone.named_parameters() if ".bn." in name)
    assert any(p.grad is not None for p in network.backbone.parameters())


def test_load__points_of_the_weights_survive_a_copy():
    saved, other = DeformableAttention(16, (2, 4), 2), DeformableAttention(16, (3, 3), 2)
    duplicate = copy.deepcopy(other)
    duplicate.load_state_dict(saved.state_dict())
    assert duplicate.points == (2, 4)
    assert other.points == (3, 3)
    generator = torch.Generator().manual_seed(0)
    query, box = torch.randn(1, 3, 16, generator=generator), torch.rand(1, 3, 4, generator=generator)
    levels = [torch.randn(2, 8, side, side, generator=generator) for side in (4, 2)]
    torch.testing.assert_close(duplicate(query, box, levels), saved(query, box, levels))


# Predictions


def outputs_of(scores: list[list[float]], boxes: list[list[float]]) -> dict[str, Tensor]:
    return {
        "logits": torch.tensor([scores]).logit(),
        "boxes": torch.tensor([boxes]),
        "size": torch.tensor([[100.0, 200.0]]),
    }


EQUAL = outputs_of([[0.9, 0.1, 0.6], [0.8, 0.2, 0.3]], [[0.5, 0.5, 0.5, 0.5], [0.95, 0.5, 0.2, 0.5]])


def test_postprocess__strongest_pairs_in_pixels_and_nothing_removed():
    result = model().postprocess(EQUAL, score_threshold=0.25, max_detections=5)
    torch.testing.assert_close(result["scores"], torch.tensor([[0.9, 0.8, 0.6, 0.3, 0.2]]))
    assert result["labels"].tolist() == [[0, 0, 2, 2, 1]]
    assert result["valid"].tolist() == [[True, True, True, True, False]]
    expected = torch.tensor([[50.0, 25, 150, 75], [170.0, 25, 200, 75]])[[0, 1, 0, 1, 1]]
    torch.testing.assert_close(result["boxes"][0], expected)


def test_postprocess__one_class_per_query_and_classes_left_out():
    network = model()
    single = network.postprocess(EQUAL, class_agnostic=True)
    assert single["labels"].tolist() == [[0, 0]]
    masked = network.postprocess(EQUAL, 0.0, class_mask=torch.tensor([0, 1, 1]), max_detections=6)
    assert masked["labels"][masked["valid"]].tolist() == [2, 2, 1, 1]
    both = network.postprocess(EQUAL, class_agnostic=True, class_mask=torch.tensor([False, True, False]))
    assert both["labels"].tolist() == [[1, 1]]
    torch.testing.assert_close(both["scores"], torch.tensor([[0.2, 0.1]]))


def test_ideal_outputs__postprocess_gives_the_objects_back():
    with torch.device("meta"):
        network = DFine(num_classes=CLASSES, **MODELS["dfine_n"].arguments)
    ground_truth = targets(
        [([5.0, 8, 40, 50], 1), ([0.0, 0, 60, 60], 2), ([20.0, 20, 60, 30], 3)], [], crowd=[[False, True, False], []]
    )
    result = network.postprocess(network.ideal_outputs(ground_truth, (64, 96)))
    assert result["valid"].sum(1).tolist() == [2, 0]
    objects = sorted(zip(result["labels"][0, :2].tolist(), result["boxes"][0, :2].round().tolist()))
    assert objects == [(1, [5, 8, 40, 50]), (3, [20, 20, 60, 30])]
    empty = network.postprocess(network.ideal_outputs(targets([], []), (64, 96)))
    assert int(empty["valid"].sum()) == 0


# Training


def test_compute_losses__gradients_reach_every_parameter():
    network = model().train()
    losses = network.compute_losses({"image": images()}, TWO)
    assert set(losses) == {"vfl", "l1", "giou", "fgl", "ddf", "denoising"}
    sum(losses.values()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    # The norm or the softmax behind these removes their effect: rounding alone decides whether the gradient is 0.
    invariant = (".lab.scale", ".lab.bias", ".key.bias")
    silent = [name for name, p in network.named_parameters() if float(p.grad.abs().sum()) == 0]
    assert [name for name in silent if not name.endswith(invariant)] == []


@pytest.mark.parametrize("empty", [targets([], []), targets([([0.0, 0, 9, 9], 1)], [], crowd=[[True], []])])
def test_compute_losses__batch_without_objects(empty: dict[str, Tensor]):
    network = model().train()
    losses = network.compute_losses({"image": images()}, empty)
    assert set(losses) == {"vfl", "l1", "giou", "fgl", "ddf", "denoising"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    assert losses["vfl"].item() > 0
    assert losses["l1"].item() == 0


def test_compute_losses__place_of_padding_has_no_effect():
    network = model(num_denoising=0).train()
    order = torch.tensor([2, 0, 1])
    padded = {name: nn.functional.pad(tensor, [0, 0] * (tensor.ndim - 2) + [0, 1]) for name, tensor in TWO.items()}
    moved = {name: tensor[:, order] for name, tensor in padded.items()}
    expected, result = (network.compute_losses({"image": images()}, ground_truth) for ground_truth in (TWO, moved))
    for name, loss in expected.items():
        assert result[name].item() == pytest.approx(loss.item(), rel=1e-5), name


def test_loss__what_forward_returns_is_enough():
    network = model(num_denoising=0).train()
    network.apply(lambda module: module.eval() if isinstance(module, nn.BatchNorm2d) else None)
    losses = network.loss(network(image=images()), TWO)
    detailed = network.detailed_losses(images(), TWO)
    assert set(losses) == {"vfl", "l1", "giou"}
    assert losses["vfl"].item() == pytest.approx(detailed["vfl"].item(), rel=1e-5)


def test_training__a_few_steps_find_the_box():
    network = model(num_queries=20, num_denoising=20, layers=2).train()
    image = torch.full((1, 3, SIDE, SIDE), 0.1)
    image[:, :, 8:40, 12:52] = 0.9
    ground_truth = targets([([12.0, 8, 52, 40], 2)])
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    distances = []
    for _ in range(30):
        losses = network.compute_losses({"image": image}, ground_truth)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        distances.append(losses["l1"].item())
    assert distances[-1] < 0.5 * distances[0]
    with torch.no_grad():
        result = network.postprocess(network(image=image))
    iou, _ = overlap(result["boxes"][0, 0], ground_truth["boxes"][0, 0])
    assert int(result["labels"][0, 0]) == 2
    assert float(iou) > 0.5


def test_targets__centers_and_corners_are_inverse():
    boxes = torch.tensor([[0.1, 0.2, 0.5, 0.9]])
    torch.testing.assert_close(to_corners(to_centers(boxes)), boxes)


# Export


class Detector(nn.Module):
    """What an exported file holds: the network, and its predictions as tensors."""

    def __init__(self, network: DFine):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        result = self.network.postprocess(self.network(image=image), score_threshold=0.2, max_detections=10)
        return result["boxes"], result["scores"], result["labels"], result["valid"]


@pytest.mark.slow
@pytest.mark.export
def test_export__onnx_with_any_batch_and_without_suppression(tmp_path: Path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    detector = Detector(model()).eval()
    file = tmp_path / "dfine.onnx"
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    torch.onnx.export(detector, (images(2),), file, dynamo=True, dynamic_shapes=(batch,), verbose=False)
    kinds = {node.op_type for node in onnx.load(file).graph.node}
    assert "GridSample" in kinds
    assert "NonMaxSuppression" not in kinds
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        with torch.no_grad():
            expected = detector(images(count))
        result = session.run(None, {session.get_inputs()[0].name: images(count).numpy()})
        for own, other in zip(expected, result):
            torch.testing.assert_close(torch.from_numpy(other), own, rtol=1e-3, atol=1e-3)
