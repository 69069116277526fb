"""YOLOX by itself: assignment and losses on analytic cases, postprocessing, folded norms, export."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from densevision.exporting.onnx_operators import make_translation_table
from densevision.ops.boxes import anchor_points
from densevision.tasks.detection.models import MODELS
from densevision.tasks.detection.models.yolox import YOLOX
from densevision.tasks.detection.models.yolox_loss import (
    assign,
    decode_boxes,
    encode_boxes,
    iou_loss,
    match_simota,
)
from densevision.tasks.detection.models.yolox_weights import (
    convert_state_dict,
    has_folded_batch_norms,
    unfold_batch_norms,
)

SMALL = {"num_classes": 3, "width_multiple": 0.125, "image_size": 64}
PARAMETERS = {"nano": 0.91, "tiny": 5.06, "s": 9.0, "m": 25.3, "l": 54.2, "x": 99.1}
"""Millions, as the publisher states them."""


def make_model(seed: int = 0, **arguments) -> YOLOX:
    """A small network whose norms fit its random weights, with scores that differ from place to place."""
    torch.manual_seed(seed)
    model = YOLOX(**{**SMALL, **arguments})
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(torch.rand(8, model.input_spec["image"].channels, 128, 128))
        for norm in norms:
            norm.running_var.clamp_(min=0.1)  # or the network would amplify rounding
        for layer in (*model.head.cls_preds, *model.head.obj_preds):
            layer.weight.mul_(12)
            layer.bias.zero_()
    for norm in norms:
        norm.momentum = 0.03
    return model.eval()


def make_targets(boxes: list[list[list[float]]], labels: list[list[int]], crowd: list[list[bool]] | None = None):
    size = max(map(len, boxes))
    targets = {
        "boxes": torch.zeros(len(boxes), size, 4),
        "labels": torch.zeros(len(boxes), size, dtype=torch.int64),
        "valid": torch.zeros(len(boxes), size, dtype=torch.bool),
        "crowd": torch.zeros(len(boxes), size, dtype=torch.bool),
    }
    for row, (own, classes) in enumerate(zip(boxes, labels)):
        for column, (box, label) in enumerate(zip(own, classes)):
            targets["boxes"][row, column] = torch.tensor(box)
            targets["labels"][row, column] = label
            targets["valid"][row, column] = True
            targets["crowd"][row, column] = bool(crowd and crowd[row][column])
    return targets


OBJECTS = make_targets([[[4.0, 6, 40, 50], [30, 20, 60, 62]], [[10.0, 10, 22, 20]]], [[0, 2], [1]])


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes__have_the_published_number_of_parameters(name):
    with torch.device("meta"):
        model = YOLOX(**MODELS[f"yolox_{name}"].arguments)
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(PARAMETERS[name], abs=0.06)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_forward__same_keys_and_shapes_in_both_modes(channels):
    model = make_model(in_channels=channels)
    image = torch.rand(2, channels, 64, 96)
    evaluated, trained = model(image=image), model.train()(image=image)
    count = 8 * 12 + 4 * 6 + 2 * 3
    shapes = {
        "logits": (2, count, 3),
        "objectness": (2, count, 1),
        "box_deltas": (2, count, 4),
        "anchors": (count, 3),
    }
    assert {name: tuple(value.shape) for name, value in evaluated.items()} == shapes
    assert {name: tuple(value.shape) for name, value in trained.items()} == shapes


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("size", [(61, 37), (1, 1), (64, 33)])
def test_forward__of_odd_sizes_equals_that_of_the_padded_canvas(size, legacy):
    model = make_model(legacy=legacy)
    image = torch.rand(1, 3, *size)
    canvas = torch.full((1, 3, *(-(-side // 32) * 32 for side in size)), 114 / 255)
    canvas[:, :, : size[0], : size[1]] = image
    with torch.no_grad():
        outputs, expected = model(image=image), model(image=canvas)
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value)


def test_forward__normalizes_as_each_release_does():
    torch.manual_seed(0)
    rgb = torch.rand(1, 3, 64, 64)
    release, legacy = make_model(), make_model(legacy=True)
    seen: dict[str, Tensor] = {}
    for name, model in (("release", release), ("legacy", legacy)):
        model.backbone.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
        model(image=rgb)
    torch.testing.assert_close(seen["release"][:, 0], rgb[:, 2] * 255)
    torch.testing.assert_close(seen["legacy"][:, 0], (rgb[:, 0] - 0.485) / 0.229)


def test_anchors__are_cell_centers():
    levels = [torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)]
    expected = [[4, 4, 8], [12, 4, 8], [20, 4, 8], [4, 12, 8], [12, 12, 8], [20, 12, 8], [8, 8, 16]]
    torch.testing.assert_close(anchor_points(levels, (8, 16)), torch.tensor(expected, dtype=torch.float32))


def test_boxes__decode_as_published_and_encode_is_the_inverse():
    anchors = torch.tensor([[12.0, 4.0, 8.0]])  # column 1, row 0 at stride 8
    deltas = torch.tensor([[0.25, 0.75, 0.0, math.log(2)]])
    box = decode_boxes(deltas, anchors)
    torch.testing.assert_close(box, torch.tensor([[10 - 4.0, 6 - 8.0, 10 + 4.0, 6 + 8.0]]))
    torch.testing.assert_close(encode_boxes(box, anchors), deltas)
    assert encode_boxes(torch.zeros(1, 4), anchors).isfinite().all()


def test_iou_loss__of_equal_half_and_disjoint_boxes():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4]], requires_grad=True)
    loss = iou_loss(boxes, torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 10, 10]]))
    torch.testing.assert_close(loss, torch.tensor([0.0, 0.75, 1.0]))
    loss.sum().backward()
    assert boxes.grad.isfinite().all()


def test_match__takes_as_many_anchors_as_the_overlaps_sum_up_to():
    ious = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.5, 0.0]])  # 2.5: two anchors
    scores = torch.tensor([[0.1], [0.9], [0.2], [0.8], [0.3], [0.99]])
    owner, iou = match_simota(scores, ious, torch.tensor([0]), torch.ones(1, 6, dtype=torch.bool))
    assert owner.tolist() == [-1, 0, -1, 0, -1, -1]
    torch.testing.assert_close(iou, torch.tensor([0, 0.5, 0, 0.5, 0, 0]))


def test_match__a_hopeless_ground_truth_still_takes_its_cheapest_anchor():
    scores = torch.tensor([[0.2], [0.4], [0.3]])
    owner, iou = match_simota(scores, torch.zeros(1, 3), torch.tensor([0]), torch.ones(1, 3, dtype=torch.bool))
    assert owner.tolist() == [-1, 0, -1]
    assert iou.tolist() == [0, 0, 0]


def test_match__two_target_records_in_one_place_are_reported_apart_by_class():
    ious = torch.full((2, 2), 0.9)
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    near = torch.ones(2, 2, dtype=torch.bool)
    assert match_simota(scores, ious, torch.tensor([0, 1]), near)[0].tolist() == [0, 1]
    assert match_simota(scores, ious, torch.tensor([1, 0]), near)[0].tolist() == [1, 0]


def test_match__prefers_the_center_region():
    scores, ious = torch.tensor([[0.9], [0.1]]), torch.tensor([[0.6, 0.3]])
    owner, _ = match_simota(scores, ious, torch.tensor([0]), torch.tensor([[False, True]]))
    assert owner.tolist() == [-1, 0]


def test_assign__an_analytic_canvas():
    anchors = anchor_points([torch.zeros(1, 1, 64 // stride, 64 // stride) for stride in (8, 16, 32)], (8, 16, 32))
    targets = make_targets([[[0.0, 0, 0, 0], [16, 16, 48, 48]], []], [[0, 1], []])
    targets["valid"][0, 0] = False
    boxes = torch.tensor([100.0, 100, 110, 110]).repeat(2, len(anchors), 1)
    # The center region around (32, 32) holds 2x2 cells of every level. Three of them predict the box perfectly; so does
    # the cell in the corner, which is outside.
    perfect = [3 * 8 + 3, 64 + 1 * 4 + 2, 64 + 16 + 3]
    boxes[:, [*perfect, 0]] = torch.tensor([16.0, 16, 48, 48])
    logits, objectness = torch.zeros(2, len(anchors), 2), torch.zeros(2, len(anchors), 1)
    matched, overlap = assign(logits, objectness, boxes, anchors, targets)
    assert matched[0].nonzero().shape[0] == len(anchors)  # nothing is matched to the invalid row 0
    assert (matched[0] == 1).nonzero()[:, 0].tolist() == perfect
    torch.testing.assert_close(overlap[0, perfect], torch.ones(3))
    assert overlap[0].sum() == 3
    assert (matched[1] == -1).all()


def test_loss__vanishes_for_a_exact_network():
    anchors = anchor_points([torch.zeros(1, 1, 64 // stride, 64 // stride) for stride in (8, 16, 32)], (8, 16, 32))
    targets = make_targets([[[16.0, 16, 48, 48]]], [[1]])
    perfect = [3 * 8 + 3, 64 + 1 * 4 + 2, 64 + 16 + 3]
    deltas = encode_boxes(torch.tensor([[200.0, 200, 210, 210]]), anchors)
    deltas[perfect] = encode_boxes(targets["boxes"][0], anchors[perfect])
    logits, objectness = torch.full((1, len(anchors), 2), -20.0), torch.full((1, len(anchors), 1), -20.0)
    logits[0, perfect, 1] = objectness[0, perfect] = 20.0
    outputs = {"logits": logits, "objectness": objectness, "box_deltas": deltas[None], "anchors": anchors}
    losses = YOLOX(**SMALL, use_l1=True).loss(outputs, targets)
    assert set(losses) == {"box", "objectness", "class", "l1"}
    assert sum(losses.values()) < 1e-4


@pytest.mark.parametrize("depthwise", [False, True])
def test_loss__gradients_reach_all_parameters(depthwise):
    model = make_model(depthwise=depthwise, use_l1=True).train()
    outputs = model(image=torch.rand(2, 3, 64, 64))
    # Objects a little smaller than what one anchor point of each level predicts, so that every level has a positive.
    predicted = decode_boxes(outputs["box_deltas"], outputs["anchors"]).detach()[:, [27, 64 + 5, 64 + 16]]
    size = predicted[..., 2:] - predicted[..., :2]
    targets = make_targets((predicted + torch.cat([size, -size], -1) / 10).tolist(), [[0, 1, 2]] * 2)
    sum(model.loss(outputs, targets).values()).backward()
    lacking = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    silent = [name for name, parameter in model.named_parameters() if not lacking and not parameter.grad.any()]
    assert (lacking, silent) == ([], [])
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("rows", [0, 2])
def test_loss__without_objects_is_finite_and_pushes_objectness_down(rows):
    model = make_model(use_l1=True).train()
    targets = make_targets([[], []], [[], []])
    targets = {name: torch.zeros((2, rows, *value.shape[2:]), dtype=value.dtype) for name, value in targets.items()}
    outputs = model(image=torch.rand(2, 3, 64, 64))
    outputs["objectness"].retain_grad()
    losses = model.loss(outputs, targets)
    assert all(value.isfinite() for value in losses.values())
    assert {name for name, value in losses.items() if value == 0} == {"box", "class", "l1"}
    sum(losses.values()).backward()
    assert (outputs["objectness"].grad > 0).all()


def test_loss__empty_boxes_and_boxes_outside_the_canvas_are_finite():
    model = make_model(use_l1=True).train()
    targets = make_targets([[[20.0, 20, 20, 20], [900, 900, 990, 990], [-90, -90, -10, -10]], []], [[0, 1, 2], []])
    losses = model.compute_losses({"image": torch.rand(2, 3, 64, 64)}, targets)
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_loss__crowd_regions_are_neither_objects_nor_background():
    model = make_model()
    outputs = {name: value.detach() for name, value in model(image=torch.rand(1, 3, 64, 64)).items()}
    outputs["objectness"] = torch.randn_like(outputs["objectness"]).requires_grad_()
    targets = make_targets([[[0.0, 0, 64, 32], [40, 40, 60, 60]]], [[0, 1]], [[True, False]])
    losses = model.loss(outputs, targets)
    losses["objectness"].backward()
    in_crowd = outputs["anchors"][:, 1] < 32
    is_silent = outputs["objectness"].grad[0, :, 0] == 0
    matched, _ = assign(
        *(outputs[name] for name in ("logits", "objectness")),
        decode_boxes(outputs["box_deltas"], outputs["anchors"]),
        outputs["anchors"],
        targets,
    )
    assert set(matched.unique().tolist()) == {-1, 1}
    torch.testing.assert_close(is_silent, in_crowd & (matched[0] < 0))


def test_loss__decreases_on_one_batch():
    model = make_model().train()
    image = torch.rand(2, 3, 64, 64)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    values = []
    for _ in range(40):
        loss = sum(model.compute_losses({"image": image}, OBJECTS).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0] / 2


def reference_postprocess(outputs, score_threshold, iou_threshold, limit, class_agnostic=False):
    """The same by torchvision, image by image."""
    scores = outputs["logits"].sigmoid() * outputs["objectness"].sigmoid()
    boxes = decode_boxes(outputs["box_deltas"], outputs["anchors"])
    rows = []
    for own_scores, own_boxes in zip(scores, boxes):
        anchor, label = (own_scores >= score_threshold).nonzero(as_tuple=True)
        score, box = own_scores[anchor, label], own_boxes[anchor]
        keep = batched_nms(box, score, label * (not class_agnostic), iou_threshold)[:limit]
        rows.append((box[keep], score[keep], label[keep]))
    return rows


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize(("score_threshold", "limit"), [(0.3, 300), (0.05, 300), (0.05, 7), (0.999999, 300)])
def test_postprocess__equals_torchvisions_suppression(score_threshold, limit, class_agnostic):
    model = make_model()
    with torch.no_grad():
        outputs = model(image=torch.rand(3, 3, 96, 64))
    outputs["box_deltas"][..., 2:] += 1.5  # boxes that overlap
    found = model.postprocess(outputs, score_threshold, 0.5, limit, class_agnostic)
    assert found["boxes"].shape == (3, limit, 4)
    for row, (boxes, scores, labels) in enumerate(
        reference_postprocess(outputs, score_threshold, 0.5, limit, class_agnostic)
    ):
        valid = found["valid"][row]
        torch.testing.assert_close(found["scores"][row][valid], scores)
        torch.testing.assert_close(found["boxes"][row][valid], boxes)
        assert found["labels"][row][valid].tolist() == labels.tolist()
        assert not valid[len(scores) :].any()


def test_postprocess__class_mask_selects_and_several_classes_per_anchor_are_possible():
    model = make_model()
    with torch.no_grad():
        outputs = model(image=torch.rand(1, 3, 64, 64))
    outputs["logits"][:] = torch.tensor([2.0, 1.0, 3.0])
    outputs["objectness"][:] = -9.0
    outputs["objectness"][:, 5] = 4.0
    found = model.postprocess(outputs, 0.5)
    assert found["labels"][0][found["valid"][0]].tolist() == [2, 0, 1]
    masked = model.postprocess(outputs, 0.5, class_mask=torch.tensor([True, True, False]))
    assert masked["labels"][0][masked["valid"][0]].tolist() == [0, 1]


def fold(model: YOLOX) -> None:
    """Leaves of every norm only a bias, as checkpoints have it that were made from deployed networks."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            nn.init.ones_(norm.weight)
            nn.init.normal_(norm.bias, std=0.2)


def test_unfold__keeps_evaluation_and_makes_training_agree_with_it():
    model = make_model().double()
    assert not has_folded_batch_norms(model)
    fold(model)
    assert has_folded_batch_norms(model)
    images = torch.rand(8, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        before = model(image=images)
        unfold_batch_norms(model, images.split(3))  # of unequal length
        after = model(image=images)
        assert not has_folded_batch_norms(model)
        assert not model.training
        trained = model.train()(image=images)
    for name in ("logits", "objectness", "box_deltas"):
        torch.testing.assert_close(after[name], before[name], atol=1e-7, rtol=0)
        torch.testing.assert_close(trained[name], before[name], atol=1e-6, rtol=0)


def test_unfold__is_needed_for_training():
    model = make_model().double()
    fold(model)
    images = torch.rand(8, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert (model.train()(image=images)["logits"] - model.eval()(image=images)["logits"]).abs().max() > 0.1


def test_convert__refuses_another_network():
    with pytest.raises(ValueError):
        convert_state_dict({"model": nn.Linear(2, 2).state_dict()})


class Exportable(nn.Module):
    def __init__(self, model: YOLOX):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.model.postprocess(self.model(image=image), score_threshold=0.2)


@pytest.mark.slow
@pytest.mark.export
def test_export__onnxruntime_agrees_on_other_batches_and_sizes(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = make_model()
    with torch.no_grad():
        for layer in model.head.reg_preds:
            layer.bias[2:] += 1.0  # boxes that overlap
    batch, rows, columns = (torch.export.Dim(name, min=1) for name in ("batch", "rows", "columns"))
    shapes = {"image": {0: batch, 2: 32 * rows, 3: 32 * columns}}
    program = torch.export.export(Exportable(model), (torch.rand(2, 3, 64, 96),), dynamic_shapes=shapes, strict=False)
    path = tmp_path / "yolox.onnx"
    table = make_translation_table()
    torch.onnx.export(program, dynamo=True, verbose=False, input_names=["image"], custom_translation_table=table).save(
        path
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = ("boxes", "scores", "labels", "valid")
    for size in [(1, 32, 32), (3, 128, 64), (1, 96, 160)]:
        image = torch.rand(size[0], 3, *size[1:])
        with torch.no_grad():
            expected = Exportable(model)(image)
        found = dict(zip(names, session.run(None, {"image": image.numpy()})))
        valid = expected["valid"].numpy()
        np.testing.assert_array_equal(found["valid"], valid)
        np.testing.assert_allclose(found["scores"][valid], expected["scores"].numpy()[valid], atol=1e-4)
        own, other = ({name: values[name][valid] for name in names} for values in (found, map_numpy(expected)))
        same = np.isclose(own["boxes"][:, None], other["boxes"], rtol=1e-4, atol=1e-3).all(2)
        same &= own["labels"][:, None] == other["labels"]  # nearly equal scores may change places
        assert len(own["labels"]) > 5
        assert same.any(0).all() and same.any(1).all()


def map_numpy(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in tensors.items()}
