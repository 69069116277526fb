"""Logits to class maps, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.ops.fields import to_original
from densevision.ops.view import View
from densevision.results import SemanticMap
from densevision.results.semantic_map import UNKNOWN
from densevision.run_config import PredictOptions
from densevision.tasks.semantic.config import SemanticConfig

Tensors = dict[str, Tensor]
CERTAIN = 20.0
"""Logit of a class that is there, above that of the others."""
PRESENT = 0.5
"""Probability above which a pixel is of a class, where it may be of several."""


def answers(outputs: Tensors, config: SemanticConfig) -> Tensors:
    """The probability of each class: "probabilities" (B, C, H, W) on the canvas, float32."""
    logits = outputs["logits"].float()
    return {"probabilities": logits.sigmoid() if config.mode == "multilabel" else logits.softmax(1)}


def results(
    answers: Tensors, views: Sequence[View], names: tuple[str, ...], config: SemanticConfig, options: PredictOptions
) -> list[SemanticMap]:
    """The most probable class of each pixel of the original images, or all that are more probable than not."""
    records = []
    multilabel = config.mode == "multilabel"
    for view, canvas in zip(views, answers["probabilities"]):
        field = to_original(canvas[None], view)[0]
        kept = field.numpy().astype(np.float16) if options.probabilities else None
        labels = _sets(field) if multilabel else field.argmax(0).numpy().astype(np.uint8)
        records.append(
            SemanticMap(labels=labels, names=names, probabilities=kept, multilabel=multilabel, size=view.original)
        )
    return records


def encode(ground_truths: Sequence[SemanticMap], classes: int, multilabel: bool) -> Tensors:
    """Outputs of a perfect network: certain where the class is known, indifferent elsewhere."""
    rows = []
    for truth in ground_truths:
        if multilabel:
            masks = np.stack([truth.mask(index) for index in range(classes)])
            logits = (torch.from_numpy(masks).float() * 2 - 1) * CERTAIN
        else:
            labels = torch.from_numpy(truth.labels.astype(np.int64))
            logits = F.one_hot(labels.where(labels != UNKNOWN, 0), classes).movedim(-1, 0) * CERTAIN
        rows.append(logits * torch.from_numpy(truth.known))
    return {"logits": torch.stack(rows).float()}


def _sets(field: Tensor) -> np.ndarray:
    """(C, H, W) probabilities to (H, W) uint16 sets of classes."""
    labels = np.zeros(field.shape[1:], np.uint16)
    for index, present in enumerate((field > PRESENT).numpy()):
        labels |= present.astype(np.uint16) << np.uint16(index)
    return labels
