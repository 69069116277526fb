"""Operators of the exported graph that ONNX expresses in its own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["keep_relu6_whole", "make_translation_table"]


@torch.library.custom_op("densevision::relu6", mutates_args=())
def relu6_operator(x: Tensor) -> Tensor:
    """ReLU6 as an operator that `torch.export` keeps whole."""
    return F.relu6(x)


@relu6_operator.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class _Relu6(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return relu6_operator(x)


def keep_relu6_whole(model: nn.Module) -> None:
    """Replaces the layers of class ReLU6 by ones that become a single node without detours, in place.

    PyTorch takes it apart into comparisons, whose shapes it reasons about with symbols: a third of the time of the
    export of a network that is built of them.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.ReLU6:
                setattr(parent, name, _Relu6())


def make_translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The translations for `torch.onnx.export`: operator -> function that builds its ONNX nodes. Needs onnxscript."""
    from onnxscript import opset18

    from densevision.ops.nms import nms_operator

    op: Any = opset18  # its annotations name the tensors of a run; here operators take and give nodes of a graph

    def nms(boxes, valid, iou_threshold: float, groups, num_groups: int):
        """ONNX's NonMaxSuppression with one of its classes per group: the boxes stay as they are."""
        shape = op.Shape(valid)
        count = op.Shape(valid, start=1, end=2)
        # Ranks are the scores, so that equal scores keep their order; a box has the score 0 in all other groups.
        ranks = op.Cast(op.Range(op.Squeeze(count), op.Constant(value_int=0), op.Constant(value_int=-1)), to=1)
        members = op.OneHot(groups, op.Constant(value_int=num_groups), op.Constant(value_floats=[0.0, 1.0]), axis=1)
        scores = op.Mul(members, op.Unsqueeze(op.Mul(op.Cast(valid, to=1), ranks), op.Constant(value_ints=[1])))
        threshold, zero = op.Constant(value_float=iou_threshold), op.Constant(value_float=0.0)
        # (M, 3) of image, group and box
        selected = op.NonMaxSuppression(op.Cast(boxes, to=1), scores, count, threshold, zero)
        positions = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
        ones = op.Expand(op.Constant(value_float=1.0), op.Shape(selected, start=0, end=1))
        kept = op.ScatterND(op.Expand(zero, shape), positions, ones)
        return op.Greater(kept, zero)

    def relu6(x):
        """ONNX's Clip, with limits of the type of the map."""
        zero, six = (op.CastLike(op.Constant(value_float=limit), x) for limit in (0.0, 6.0))
        return op.Clip(x, zero, six)

    return {nms_operator._opoverload: nms, relu6_operator._opoverload: relu6}
