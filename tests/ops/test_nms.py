"""Batched suppression against its sequential definition."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as symbolic_shapes

from densevision.exporting.onnx_operators import make_translation_table
from densevision.exporting.writers import remove_assertions
from densevision.ops import nms
from densevision.ops.boxes import pairwise_iou
from densevision.ops.nms import (
    batched_nms,
    drop_weak_anchors,
    gather_rows,
    select_detections,
    suppress_flat,
    top_k,
    trace_torchvision_nms,
)

THRESHOLD = 0.4123
"""No overlap of boxes with small integer sides equals it, so that rounding decides nothing."""
NUM_GROUPS = 3


def make_rows(seed: int, count: int = 60, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted boxes with integer sides, which of them take part, and their groups."""
    generator = torch.Generator().manual_seed(seed)
    corners, sides = (torch.rand(batch, count, 2, generator=generator) * side for side in (60, 30))
    boxes = torch.cat([corners, corners + sides + 1], -1).round()
    valid = torch.rand(batch, count, generator=generator) > 0.2
    return boxes, valid, torch.randint(NUM_GROUPS, (batch, count), generator=generator)


def suppress_one_by_one(boxes: Tensor, valid: Tensor, groups: Tensor) -> list[int]:
    """The definition: from the strongest box on, drop what overlaps a kept box of the same group."""
    kept: list[int] = []
    for row in valid.nonzero()[:, 0].tolist():
        others = [other for other in kept if groups[other] == groups[row]]
        if not others or pairwise_iou(boxes[[row]], boxes[others]).max() <= THRESHOLD:
            kept.append(row)
    return kept


class Suppression(nn.Module):
    """The operator as a module that can be exported."""

    def forward(self, boxes: Tensor, valid: Tensor, groups: Tensor) -> dict[str, Tensor]:
        return {"keep": batched_nms(boxes, valid, THRESHOLD, groups, NUM_GROUPS)}


def trace() -> torch.export.ExportedProgram:
    rows = make_rows(0)
    batch = {0: torch.export.Dim("batch", min=1)}
    with symbolic_shapes.patch(backed_size_oblivious=True):
        return torch.export.export(Suppression(), rows, dynamic_shapes=(batch,) * 3, strict=False)


def test_examples__of_the_docstrings():
    assert doctest.testmod(nms).failed == 0


@pytest.mark.parametrize("seed", range(10))
def test_batched_nms__equals_the_sequential_definition(seed):
    boxes, valid, groups = make_rows(seed)
    kept = batched_nms(boxes, valid, THRESHOLD, groups, NUM_GROUPS)
    alone = batched_nms(boxes, valid, THRESHOLD)
    for row in range(2):
        assert kept[row].nonzero()[:, 0].tolist() == suppress_one_by_one(boxes[row], valid[row], groups[row])
        one_group = torch.zeros_like(groups[row])
        assert alone[row].nonzero()[:, 0].tolist() == suppress_one_by_one(boxes[row], valid[row], one_group)


def test_batched_nms__large_coordinates_and_many_groups():
    """Groups are kept apart without rounding small boxes far from the origin."""
    boxes, valid, _ = make_rows(3)
    groups = torch.arange(60).expand(2, -1) % 20
    kept = batched_nms(boxes, valid, THRESHOLD, groups, 1000)
    assert torch.equal(batched_nms(boxes + 8192, valid, THRESHOLD, groups, 1000), kept)
    assert torch.equal(suppress_flat(boxes + 8192, valid, THRESHOLD, groups, 1000), kept)


def test_batched_nms__without_candidates():
    assert not batched_nms(torch.rand(1, 5, 4), torch.zeros(1, 5, dtype=torch.bool), 0.5).any()


@pytest.mark.export
def test_exported_operators__keep_the_same_boxes(tmp_path):
    """ONNX's own operator under two runtimes, and torchvision's in a `torch.export` program."""
    runtime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    program, path = trace(), tmp_path / "nms.onnx"
    table = make_translation_table()
    torch.onnx.export(program, dynamo=True, custom_translation_table=table, verbose=False).save(path)
    with trace_torchvision_nms():
        flat = remove_assertions(trace()).module()
    session, compiled = runtime.InferenceSession(str(path)), openvino.Core().compile_model(str(path), "CPU")
    names = [value.name for value in session.get_inputs()]
    for seed, batch in enumerate((2, 3, 5)):
        rows = make_rows(100 + seed, batch=batch)
        if seed == 0:
            rows[1][:] = False  # nothing takes part
        expected = Suppression()(*rows)["keep"]
        feed = {name: tensor.numpy() for name, tensor in zip(names, rows)}
        assert session.run(None, feed)[0].tolist() == expected.tolist()
        assert compiled(feed)[0].tolist() == expected.tolist()
        assert torch.equal(flat(*rows)["keep"], expected)


def test_top_k__has_a_fixed_shape():
    best, rows = top_k(torch.tensor([[0.2, 0.9]]), 4)
    assert best.shape == rows.shape == (1, 4)
    assert rows[0, :2].tolist() == [1, 0] and (best[0, 2:] == -torch.inf).all()


def test_gather_rows__any_trailing_shape():
    values = torch.arange(24.0).view(2, 3, 2, 2)
    assert torch.equal(gather_rows(values, torch.tensor([[2], [0]])), torch.stack([values[0, 2:], values[1, :1]]))


@pytest.mark.parametrize("threshold", [1e-7, 0.05, 0.3, 0.9, 0.9999, 1.0])
def test_drop_weak_anchors__changes_no_detection(threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 400, 3, generator=generator) * 4
    logits[0, :3] = torch.tensor(threshold).clamp(max=0.999).logit()  # scores at the threshold itself
    corners = torch.rand(2, 400, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + 20], 2)
    outputs = {"logits": logits, "boxes": boxes, "anchors": torch.arange(400)}

    def select(outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return select_detections(
            outputs["logits"].sigmoid(), lambda rows: gather_rows(outputs["boxes"], rows), threshold, 0.5, 60, 500
        )

    dropped = drop_weak_anchors(outputs, logits.amax(2), threshold)
    assert len(dropped["anchors"]) < 400 or not 0.1 < threshold < 0.999
    expected, actual = select(outputs), select(dropped)
    valid = expected["valid"]
    assert torch.equal(actual["valid"], valid)
    for name, values in expected.items():
        torch.testing.assert_close(actual[name][valid], values[valid], rtol=1e-6, atol=0)


def test_drop_weak_anchors__keeps_one_where_all_are_weak() -> None:
    outputs = {"logits": torch.full((1, 5, 2), -9.0), "anchors": torch.arange(5)}
    dropped = drop_weak_anchors(outputs, outputs["logits"].amax(2), 0.5)
    assert dropped["logits"].shape == (1, 1, 2)
    assert not select_detections(
        dropped["logits"].sigmoid(), lambda rows: torch.zeros(1, len(rows[0]), 4), 0.5, 0.5, 4, 9
    )["valid"].any()
