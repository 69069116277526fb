"""What a flow network is trained on: the flow after every step, the later ones counting more, and the occlusion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.ops.warp import neighbors, pixel_grid
from densevision.results import FlowField
from densevision.tasks.base import DenseModel
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.models.occlusion import forward_backward_inconsistent
from densevision.tasks.flow.photometric import photometric_losses

Tensors = dict[str, Tensor]


def stack(ground_truths: Sequence[FlowField | None]) -> Tensors:
    """Truths on the canvas, padded to one size.

    Args:
        truths: One record per pair; None where nothing is known.

    Returns:
        "flow" (B, 2, H, W), "valid" (B, H, W) bool, "occlusion" (B, H, W) in [0, 1], "told" (B, H, W) bool: where
        occlusion is known.
    """
    sizes = [truth.size for truth in ground_truths if truth is not None] or [(1, 1)]
    height, width = (max(sides) for sides in zip(*sizes))
    shape = (len(ground_truths), height, width)
    flow, occlusion = np.zeros((len(ground_truths), 2, height, width), np.float32), np.zeros(shape, np.float32)
    valid, told = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, truth in enumerate(ground_truths):
        if truth is None:
            continue
        place = row, slice(truth.size[0]), slice(truth.size[1])
        flow[row, :, place[1], place[2]], valid[place] = truth.flow, truth.valid
        if truth.occlusion is not None:
            occlusion[place], told[place] = truth.occlusion, truth.valid
    arrays = {"flow": flow, "valid": valid, "occlusion": occlusion, "told": told}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def supervised_losses(net: DenseModel, inputs: Tensors, targets: Tensors, config: FlowConfig) -> Tensors:
    """Sums over the steps, each weighted by gamma to the number of steps that follow (RAFT, eq. 7).

    Args:
        net: The network; its head is asked for every step.
        inputs: Of the batch.
        targets: Of `stack`.
        config: The weights.

    Returns:
        "flow"; "occlusion" of the steps and "visibility" of the pixels, where they are predicted; "matching", where it
        has a weight. Finite for any truth, also none.
    """
    features = net.features(**inputs)
    steps = [net.head.outputs(state) for state in net.head.steps(**features, **_steps(config))]
    weights = [config.loss.gamma ** (len(steps) - 1 - number) for number in range(len(steps))]
    valid = targets["valid"] & (targets["flow"].norm(dim=1) < config.loss.largest)
    flows = [flow_distance(step["flow"], targets["flow"], valid, config.loss.kind) for step in steps]
    losses = {"flow": sum(weight * loss for weight, loss in zip(weights, flows))}
    if config.occlusion and config.loss.occlusion:
        hidden = [occlusion_distance(step["occlusion"], targets["occlusion"], targets["told"]) for step in steps]
        losses["occlusion"] = config.loss.occlusion * sum(weight * loss for weight, loss in zip(weights, hidden))
        last = net.head.refined(steps[-1], features["first"][0], features["second"][0])
        apart = visibility_distance(last["occlusion"], targets["occlusion"], targets["told"])
        losses["visibility"] = config.loss.occlusion * apart
    if config.loss.matching:
        seen = targets["valid"] & ~(targets["told"] & (targets["occlusion"] > 0.5))
        compared = net.head.compared(**features)
        losses["matching"] = config.loss.matching * matching_distance(*compared, targets["flow"], seen)
    return losses


def unsupervised_losses(net: DenseModel, inputs: Tensors, config: FlowConfig) -> Tensors:
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
        lost = forward_backward_inconsistent(steps[-1]["flow"], net.head.outputs(back)["flow"])
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
    if config.occlusion and config.loss.occlusion:
        last = net.head.refined(steps[-1], features["first"][0], features["second"][0])
        apart = visibility_distance(last["occlusion"], lost.float(), torch.ones_like(lost))
        totals["visibility"] = config.loss.occlusion * apart
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


def visibility_distance(logits: Tensor, occlusion: Tensor, told: Tensor) -> Tensor:
    """Cross-entropy, and the Dice loss of all pixels of which it is known; all (B, H, W).

    Few pixels are hidden: cross-entropy alone would rather miss one than call another hidden, and F1 suffers. Dice is
    F1 with probabilities for decisions (Milletari et al., V-Net, 3DV 2016, eq. 3).
    """
    probability, wanted = logits.sigmoid() * told, occlusion * told
    dice = (2 * (probability * wanted).sum() + 1) / (probability.sum() + wanted.sum() + 1)
    return occlusion_distance(logits, occlusion, told) + 1 - dice


def matching_distance(here: Tensor, there: Tensor, flow: Tensor, seen: Tensor) -> Tensor:
    """Mean cross-entropy of where each cell is found, its alikeness to all cells being the logits; 0 without any cell.

    The truth lies between four cells, which share the probability as in bilinear interpolation. The steps of refinement
    can only learn to read a correlation that says something: this makes it do so from the first hundred batches on.

    Source: the classification over all matches of Sun et al., LoFTR, CVPR 2021, section 3.5.

    Args:
        here: (B, D, H, W) features of the first image.
        there: (B, D, H, W) features of the second one.
        flow: (B, 2, s H, s W) the truth, in pixels.
        seen: (B, s H, s W) bool: where it is known and the second image shows it. Cells count that are seen whole.
    """
    height, width = here.shape[2:]
    stride = flow.shape[2] // height
    motion = F.avg_pool2d(flow, stride) / stride
    match = motion + pixel_grid(height, width, motion)
    x, y = match.floor().unbind(1)
    whole = F.avg_pool2d(seen.to(flow.dtype)[:, None], stride)[:, 0] == 1
    whole &= (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    logits = here.flatten(2).transpose(1, 2).float() @ there.flatten(2).float() / math.sqrt(here.shape[1])
    log_probability = logits.log_softmax(2)
    loss = flow.new_zeros(())
    for column, row, share in neighbors(match):
        place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long()
        found = log_probability.gather(2, place.flatten(1)[..., None])[..., 0].unflatten(1, (height, width))
        loss = loss - (found * share * whole).sum()
    return loss / whole.sum().clamp(min=1)


def _steps(config: FlowConfig) -> dict[str, int]:
    return {"iterations": config.train_iterations}
