"""Network outputs to records, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from densevision.ops.fields import to_original
from densevision.ops.view import View
from densevision.results import FlowField
from densevision.tasks.flow.models.raft import CERTAIN

Tensors = dict[str, Tensor]


def answers(outputs: Tensors) -> Tensors:
    """Flow, and occlusion as a probability.

    Args:
        outputs: Of the head.

    Returns:
        "flow" (B, 2, H, W) in pixels of the canvas, and "occlusion" (B, 1, H, W) where there is one.
    """
    if "occlusion" not in outputs:
        return {"flow": outputs["flow"]}
    return {"flow": outputs["flow"], "occlusion": outputs["occlusion"].sigmoid()[:, None]}


def fields(answers: Tensors, view: View, mirrored: bool = False) -> Tensors:
    """Answers on the image's own pixels: motion shrinks with the image, and turns round in a mirror.

    Args:
        answers: Of one image or several that were seen alike.
        view: How the network saw the image.
        mirrored: Left and right were exchanged before.
    """
    found = {name: to_original(answer, view) for name, answer in answers.items()}
    found["flow"] = found["flow"] / found["flow"].new_tensor(view.scale).view(2, 1, 1)
    if mirrored:
        found = {name: field.flip(-1) for name, field in found.items()}
        found["flow"] = found["flow"] * found["flow"].new_tensor([-1.0, 1.0]).view(2, 1, 1)
    return found


def results(answers: Tensors, views: Sequence[View]) -> list[FlowField]:
    """Records in pixels of the original images.

    Args:
        answers: Of `answers`, on the CPU.
        views: How the network saw each pair.
    """
    records = []
    for row, view in enumerate(views):
        own = fields({name: answer[row : row + 1] for name, answer in answers.items()}, view)
        occlusion = own["occlusion"][0, 0].numpy() if "occlusion" in own else None
        records.append(FlowField.of(own["flow"][0].numpy(), occlusion=occlusion))
    return records


def encode(ground_truths: Sequence[FlowField]) -> Tensors:
    """The outputs from which `answers` and `results` read these truths again, for canvases of one size."""
    flow = torch.from_numpy(np.stack([truth.flow for truth in ground_truths]))
    if any(truth.occlusion is None for truth in ground_truths):
        return {"flow": flow}
    hidden = torch.from_numpy(np.stack([np.asarray(truth.occlusion, np.float32) for truth in ground_truths]))
    return {"flow": flow, "occlusion": hidden.logit(torch.sigmoid(torch.tensor(-CERTAIN)).item())}
