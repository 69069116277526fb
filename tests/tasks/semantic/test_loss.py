"""Losses equal torch, smp and analytic values; unknown pixels are ignored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from densevision.errors import UsageError
from densevision.results import SemanticMap
from densevision.tasks.semantic.config import LOSSES, LossConfig
from densevision.tasks.semantic.losses import (
    SegmentationCriterion,
    compute_enet_weights,
    compute_median_weights,
    cross_entropy,
    focal,
    ohem,
    stack_labels,
)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 6, 7))
    labels[:, 2:4] = 255
    return torch.randn(2, 4, 6, 7), labels


def criterion(name: str, mode: str = "multiclass") -> SegmentationCriterion:
    return SegmentationCriterion(mode, **{"cross_entropy": 0.0, name: 1.0})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5, 3.0])])
def test_cross_entropy__equals_torch(batch, weight: torch.Tensor | None, smoothing: float) -> None:
    expected = F.cross_entropy(*batch, weight, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(*batch, weight, smoothing), expected)


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
    if multilabel:
        sets = torch.randint(0, 16, labels.shape, dtype=torch.int32)
        targets = (sets[known][:, None] >> torch.arange(4) & 1).T[None]
        labels = torch.where(known, sets, 65535)
    else:
        labels[labels == 3] = 0  # a class without a pixel
        targets = labels[known][None]
    mode = "multilabel" if multilabel else "multiclass"
    reference = {
        "dice": smp.DiceLoss(mode),
        "jaccard": smp.JaccardLoss(mode),
        "tversky": smp.TverskyLoss(mode, alpha=0.3, beta=0.7),
    }[name]
    logits.requires_grad_()
    expected = reference(logits.movedim(1, -1)[known].T[None], targets)
    loss = criterion(name, mode)({"logits": logits}, {"labels": labels})[name]
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(each, logits)[0] for each in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_lovasz__of_hard_predictions_is_the_jaccard_distance(batch) -> None:
    """At the corners of the cube the extension is the set function itself (Berman et al., CVPR 2018, section 2.2)."""
    labels = batch[1]
    prediction = torch.randint(0, 4, labels.shape)
    logits = 80.0 * F.one_hot(prediction, 4).movedim(-1, 1)
    loss = criterion("lovasz")({"logits": logits}, {"labels": labels})["lovasz"]
    p, t = prediction[labels != 255], labels[labels != 255]
    distances = [1 - ((p == c) & (t == c)).sum() / ((p == c) | (t == c)).sum() for c in range(4)]
    torch.testing.assert_close(loss, torch.stack(distances).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_losses__unknown_pixels_change_nothing(batch, name: str) -> None:
    logits, labels = batch
    other = logits.clone()
    other[:, :, 2:4] = 50 * torch.randn(2, 4, 2, 7)
    first, second = (criterion(name)({"logits": x}, {"labels": labels})[name] for x in (logits, other))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses__zero_without_known_pixels_and_small_when_right(name: str, mode: str) -> None:
    if mode == "multilabel" and name == "ohem":
        with pytest.raises(ValueError, match="ohem"):
            criterion(name, mode)
        return
    multilabel = mode == "multilabel"
    outputs = {"logits": torch.randn(2, 3, 32, 32, requires_grad=True)}
    value = criterion(name, mode)(outputs, stack_labels([None, None], multilabel))[name]
    value.backward()
    assert value == 0 and outputs["logits"].grad is not None

    classes = np.random.default_rng(0).integers(0, 3, (32, 32))
    labels = (1 << classes).astype(np.uint16) if multilabel else classes.astype(np.uint8)
    truth = SemanticMap(labels=labels, names=("a", "b", "c"), multilabel=multilabel, size=(32, 32))
    right = (F.one_hot(torch.from_numpy(classes), 3).movedim(-1, 0)[None] * 2.0 - 1) * 15
    targets = stack_labels([truth], multilabel)
    wrong, good = (criterion(name, mode)({"logits": x}, targets)[name] for x in (-right, right))
    assert good < 1e-3 < 0.3 < wrong


def test_labels__smaller_than_the_logits_are_padded_with_unknown(batch) -> None:
    logits, labels = batch
    padded = F.pad(logits, (0, 5, 0, 3), value=7.0)
    losses = (SegmentationCriterion()({"logits": x}, {"labels": labels}) for x in (logits, padded))
    torch.testing.assert_close(*losses)


def test_auxiliary__is_weighted(batch) -> None:
    losses = SegmentationCriterion(auxiliary=0.4)({"logits": batch[0], "auxiliary": batch[0]}, {"labels": batch[1]})
    torch.testing.assert_close(losses["auxiliary_cross_entropy"], 0.4 * losses["cross_entropy"])


@pytest.mark.parametrize("class_weights", [None, (0.5, 2.0, 1.0, 0.0)])
def test_criterion__default_is_torchs_cross_entropy(batch, class_weights) -> None:
    loss = SegmentationCriterion(class_weights=class_weights)({"logits": batch[0]}, {"labels": batch[1]})
    weight = None if class_weights is None else torch.tensor(class_weights)
    assert list(loss) == ["cross_entropy"]
    torch.testing.assert_close(loss["cross_entropy"], F.cross_entropy(*batch, weight, ignore_index=255))


def test_class_weights__by_hand() -> None:
    pixels, present = np.array([60, 30, 10, 0]), np.array([100, 100, 50, 0])
    np.testing.assert_allclose(compute_median_weights(pixels, present), [0.5, 1.0, 1.5, 1.0])
    weights = compute_enet_weights(np.array([90, 10]))
    assert weights[1] / weights[0] == pytest.approx(np.log(1.92) / np.log(1.12)) and weights.mean() == pytest.approx(1)


def test_config__options_without_effect_are_refused() -> None:
    with pytest.raises(UsageError, match="tversky"):
        LossConfig.from_dict({"tversky_alpha": 0.5})
    with pytest.raises(UsageError, match="weight"):
        LossConfig.from_dict({"cross_entropy": 0.0})
