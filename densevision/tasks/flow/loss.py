"""What a flow network is trained on: the flow after every step, the later ones counting more, and the occlusion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.results import FlowField
from densevision.tasks.contract import Net
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.occlusion import unreturned
from densevision.tasks.flow.photometric import photometric_losses

Tensors = dict[str, Tensor]


def stack(truths: Sequence[FlowField | None]) -> Tensors:
    """Truths on the canvas, padded to one size.

    Args:
        truths: One record per pair; None where nothing is known.

    Returns:
        "flow" (B, 2, H, W), "valid" (B, H, W) bool, "occlusion" (B, H, W) in [0, 1], "told" (B, H, W) bool: where
        occlusion is known.
    """
    sizes = [truth.size for truth in truths if truth is not None] or [(1, 1)]
    height, width = (max(sides) for sides in zip(*sizes))
    shape = (len(truths), height, width)
    flow, occlusion = np.zeros((len(truths), 2, height, width), np.float32), np.zeros(shape, np.float32)
    valid, told = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, truth in enumerate(truths):
        if truth is None:
            continue
        place = row, slice(truth.size[0]), slice(truth.size[1])
        flow[row, :, place[1], place[2]], valid[place] = truth.flow, truth.valid
        if truth.occlusion is not None:
            occlusion[place], told[place] = truth.occlusion, truth.valid
    arrays = {"flow": flow, "valid": valid, "occlusion": occlusion, "told": told}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def supervised_losses(net: Net, inputs: Tensors, targets: Tensors, config: FlowConfig) -> Tensors:
    """Sums over the steps, each weighted by gamma to the number of steps that follow (RAFT, eq. 7).

    Args:
        net: The network; its head is asked for every step.
        inputs: Of the batch.
        targets: Of `stack`.
        config: The weights.

    Returns:
        "flow", and "occlusion" where it is predicted; finite for any truth, also none.
    """
    steps = [net.head.outputs(state) for state in net.head.steps(**net.features(**inputs), **_steps(config))]
    weights = [config.loss.gamma ** (len(steps) - 1 - number) for number in range(len(steps))]
    valid = targets["valid"] & (targets["flow"].norm(dim=1) < config.loss.largest)
    flows = [flow_distance(step["flow"], targets["flow"], valid, config.loss.kind) for step in steps]
    losses = {"flow": sum(weight * loss for weight, loss in zip(weights, flows))}
    if config.occlusion and config.loss.occlusion:
        hidden = [occlusion_distance(step["occlusion"], targets["occlusion"], targets["told"]) for step in steps]
        losses["occlusion"] = config.loss.occlusion * sum(weight * loss for weight, loss in zip(weights, hidden))
    return losses


def unsupervised_losses(net: Net, inputs: Tensors, config: FlowConfig) -> Tensors:
    """Photometric losses over the steps, weighted alike; what does not return from the last step's flow is left out.

    Where the occlusion is predicted, it learns what does not return.

    Args:
        net: The network; its head is asked for every step, in both directions.
        inputs: Of the batch.
        config: The weights.
    """
    features = net.features(**inputs)
    steps = [net.head.outputs(state) for state in net.head.steps(**features, **_steps(config))]
    with torch.no_grad():
        *_, back = net.head.steps(features["second"], features["first"], **_steps(config))
        lost = unreturned(steps[-1]["flow"], net.head.outputs(back)["flow"])
    totals: dict[str, Tensor] = {}
    for number, step in enumerate(steps):
        parts = photometric_losses(inputs["first"], inputs["second"], step["flow"], lost, config.loss.census)
        parts["smoothness"] = config.loss.smoothness * parts["smoothness"]
        if config.occlusion and config.loss.occlusion:
            cross_entropy = occlusion_distance(step["occlusion"], lost.float(), torch.ones_like(lost))
            parts["occlusion"] = config.loss.occlusion * cross_entropy
        for name, part in parts.items():
            weighted = config.loss.gamma ** (len(steps) - 1 - number) * part
            totals[name] = totals[name] + weighted if name in totals else weighted
    return totals


def flow_distance(flow: Tensor, truth: Tensor, valid: Tensor, kind: str) -> Tensor:
    """Mean over the valid pixels and both directions of the difference; 0 without any.

    Args:
        flow: (B, 2, H, W).
        truth: (B, 2, H, W).
        valid: (B, H, W) bool.
        kind: `l1`, or `robust`: (difference + 0.01)^0.4 (Sun et al., PWC-Net, CVPR 2018).
    """
    difference = (flow - truth).abs()
    if kind == "robust":
        difference = (difference + 0.01) ** 0.4
    return (difference * valid[:, None]).sum() / (2 * valid.sum()).clamp(min=1)


def occlusion_distance(logits: Tensor, occlusion: Tensor, told: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels of which it is known; all (B, H, W)."""
    loss = F.binary_cross_entropy_with_logits(logits, occlusion, reduction="none")
    return (loss * told).sum() / told.sum().clamp(min=1)


def _steps(config: FlowConfig) -> dict[str, int]:
    return {"iterations": config.train_iterations}
