"""Losses: beside torch and by hand; unknown pixels count in none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from densevision.errors import UsageError
from densevision.results import SemanticMap
from densevision.tasks.semantic.config import LOSSES, LossConfig
from densevision.tasks.semantic.losses import (
    cross_entropy,
    enet_weights,
    focal,
    median_weights,
    ohem,
    semantic_losses,
    stack,
)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 6, 7))
    labels[:, 2:4] = 255
    return torch.randn(2, 4, 6, 7), labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5, 3.0])])
def test_cross_entropy__equals_torch(batch, weight: torch.Tensor | None, smoothing: float) -> None:
    wanted = F.cross_entropy(*batch, weight, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(*batch, weight, smoothing), wanted)


def test_focal__is_cross_entropy_without_gamma(batch) -> None:
    torch.testing.assert_close(focal(*batch, 0.0), cross_entropy(*batch))
    p = batch[0].softmax(1).gather(1, batch[1].where(batch[1] < 4, 0)[:, None])[:, 0][batch[1] < 4]
    torch.testing.assert_close(focal(*batch, 2.0), (-((1 - p) ** 2) * p.log()).mean())


def test_ohem__is_the_mean_of_the_hardest(batch) -> None:
    each = F.cross_entropy(*batch, reduction="none", ignore_index=255)[batch[1] < 4]
    hardest = each.sort(descending=True).values[: int(0.25 * each.numel())]
    torch.testing.assert_close(ohem(*batch, None, 0.25), hardest.mean())


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
def test_overlap__equals_smp_on_the_known_pixels(batch, name: str, multilabel: bool) -> None:
    from segmentation_models_pytorch import losses as smp

    logits, labels = batch
    known = labels != 255
    config = LossConfig.checked({"cross_entropy": 0.0, name: 1.0})
    if multilabel:
        sets = torch.randint(0, 16, labels.shape, dtype=torch.int32)
        told = (sets[known][:, None] >> torch.arange(4) & 1).T[None]
        labels = torch.where(known, sets, 65535)
    else:
        labels[labels == 3] = 0  # a class that no pixel is of
        told = labels[known][None]
    mode = "multilabel" if multilabel else "multiclass"
    theirs = {
        "dice": smp.DiceLoss(mode),
        "jaccard": smp.JaccardLoss(mode),
        "tversky": smp.TverskyLoss(mode, alpha=0.3, beta=0.7),
    }[name]
    logits.requires_grad_()
    wanted = theirs(logits.movedim(1, -1)[known].T[None], told)
    found = semantic_losses({"logits": logits}, {"labels": labels}, config, multilabel)[name]
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_lovasz__hard_answers_cost_their_jaccard_distance(batch) -> None:
    """At the corners of the cube the extension is the set function itself (Berman et al., CVPR 2018, section 2.2)."""
    labels = batch[1]
    answer = torch.randint(0, 4, labels.shape)
    logits = 80.0 * F.one_hot(answer, 4).movedim(-1, 1)
    config = LossConfig.checked({"cross_entropy": 0.0, "lovasz": 1.0})
    found = semantic_losses({"logits": logits}, {"labels": labels}, config, False)["lovasz"]
    said, told = answer[labels != 255], labels[labels != 255]
    distances = [1 - ((said == c) & (told == c)).sum() / ((said == c) | (told == c)).sum() for c in range(4)]
    torch.testing.assert_close(found, torch.stack(distances).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_losses__unknown_pixels_change_nothing(batch, name: str) -> None:
    logits, labels = batch
    config = LossConfig.checked({"cross_entropy": 0.0, name: 1.0})
    other = logits.clone()
    other[:, :, 2:4] = 50 * torch.randn(2, 4, 2, 7)
    first, second = (semantic_losses({"logits": x}, {"labels": labels}, config, False)[name] for x in (logits, other))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_losses__finite_without_truth_and_small_when_right(name: str, multilabel: bool) -> None:
    if multilabel and name == "ohem":
        return
    config = LossConfig.checked({"cross_entropy": 0.0, name: 1.0})
    blank = stack([None, None], multilabel)
    outputs = {"logits": torch.randn(2, 3, 32, 32, requires_grad=True)}
    value = semantic_losses(outputs, blank, config, multilabel)[name]
    value.backward()
    assert value == 0 and outputs["logits"].grad is not None

    classes = np.random.default_rng(0).integers(0, 3, (32, 32))
    labels = (1 << classes).astype(np.uint16) if multilabel else classes.astype(np.uint8)
    truth = SemanticMap(labels=labels, names=("a", "b", "c"), multilabel=multilabel, size=(32, 32))
    right = (F.one_hot(torch.from_numpy(classes), 3).movedim(-1, 0)[None] * 2.0 - 1) * 15
    wrong, good = (
        semantic_losses({"logits": x}, stack([truth], multilabel), config, multilabel)[name] for x in (-right, right)
    )
    assert good < 1e-3 < 0.3 < wrong


def test_auxiliary__is_weighted(batch) -> None:
    config = LossConfig(auxiliary=0.4)
    found = semantic_losses({"logits": batch[0], "auxiliary": batch[0]}, {"labels": batch[1]}, config, False)
    torch.testing.assert_close(found["auxiliary_cross_entropy"], 0.4 * found["cross_entropy"])


def test_weights__by_hand() -> None:
    pixels, present = np.array([60, 30, 10, 0]), np.array([100, 100, 50, 0])
    np.testing.assert_allclose(median_weights(pixels, present), [0.5, 1.0, 1.5, 1.0])
    found = enet_weights(np.array([90, 10]))
    assert found[1] / found[0] == pytest.approx(np.log(1.92) / np.log(1.12)) and found.mean() == pytest.approx(1)


def test_config__options_without_effect_are_refused() -> None:
    with pytest.raises(UsageError, match="no effect without tversky"):
        LossConfig.checked({"tversky_alpha": 0.5})
    with pytest.raises(UsageError, match="weight 0"):
        LossConfig.checked({"cross_entropy": 0.0})
