"""Matching and losses of mask classification: perfect predictions, unknown pixels, and batches without segments."""

from __future__ import annotations

import pytest
import torch

from densevision.nn.mask_classification import (
    MaskClassificationLoss,
    MaskPrediction,
    MaskTargets,
    labels_to_targets,
    pad_targets,
    sample_points,
)


def make_labels() -> torch.Tensor:
    """Two images of four quarters; the first holds unknown pixels."""
    labels = torch.zeros(2, 32, 32, dtype=torch.int64)
    labels[:, :16, 16:], labels[:, 16:, :16], labels[:, 16:, 16:] = 1, 2, 3
    labels[0, :16, :16] = 255
    return labels


def make_exact(targets: MaskTargets, order: list[int], num_classes: int = 4) -> MaskPrediction:
    """Query `order[i]` shows segment i; the other queries show nothing."""
    batch, _, height, width = len(targets.masks), None, *targets.known.shape[1:]
    masks = torch.full((batch, len(order) + 1, height, width), -20.0)
    classes = torch.zeros(batch, len(order) + 1, num_classes + 1)
    classes[..., -1] = 20.0
    for image in range(batch):
        for segment, (mask, label) in enumerate(zip(targets.masks[image], targets.classes[image])):
            masks[image, order[segment]][mask] = 20.0
            classes[image, order[segment]] = 0
            classes[image, order[segment], label] = 20.0
    return MaskPrediction(masks.requires_grad_(), classes.requires_grad_())


@pytest.fixture
def criterion() -> MaskClassificationLoss:
    torch.manual_seed(0)
    return MaskClassificationLoss(num_points=256)


def test_labels_to_targets__one_segment_per_class():
    targets = labels_to_targets(make_labels())
    assert [classes.tolist() for classes in targets.classes] == [[1, 2, 3], [0, 1, 2, 3]]
    assert targets.masks[1].sum((1, 2)).tolist() == [256] * 4
    assert not targets.known[0, :16, :16].any() and targets.known.sum() == 2 * 32 * 32 - 256
    for masks, known in zip(targets.masks, targets.known):
        assert torch.equal(masks.sum(0) == 1, known)


def test_match__finds_the_permutation(criterion):
    targets = labels_to_targets(make_labels())
    order = [3, 1, 0, 2]
    for (queries, segments), count in zip(criterion.match(make_exact(targets, order), targets), (3, 4)):
        assert {int(s): int(q) for q, s in zip(queries, segments)} == dict(enumerate(order[:count]))


def test_losses__of_exact_predictions_are_zero(criterion):
    targets = labels_to_targets(make_labels())
    losses = criterion([make_exact(targets, [0, 1, 2, 3])] * 2, targets)
    assert losses["class"] < 1e-4
    # Points between two pixels of different segments are neither.
    assert losses["mask"] / 2 < 5 * 1.0 and losses["dice"] / 2 < 5 * 0.1
    blank = MaskPrediction(torch.full((2, 5, 32, 32), -20.0), torch.zeros(2, 5, 5))
    assert all(criterion([blank], targets)[name] > 3 * losses[name] for name in losses)


def test_unknown_pixels__have_no_gradient(criterion):
    labels = make_labels()
    labels[1, :, :20] = 255
    targets = labels_to_targets(labels)
    prediction = MaskPrediction(torch.randn(2, 6, 32, 32, requires_grad=True), torch.randn(2, 6, 5))
    sum(criterion([prediction], targets).values()).backward()
    gradient = prediction.mask_logits.grad.abs().sum(1)
    # A point reads the four pixels around it, so the border of the known area gets some.
    assert not gradient[0, :15, :15].any() and not gradient[1, :, :19].any()
    assert gradient[0, 16:].any() and gradient[1, :, 21:].any()


def test_image_of_unknown_pixels__counts_nowhere(criterion):
    labels = make_labels()
    labels[1] = 255
    targets = labels_to_targets(labels)
    prediction = MaskPrediction(torch.randn(2, 6, 32, 32, requires_grad=True), torch.randn(2, 6, 5, requires_grad=True))
    sum(criterion([prediction], targets).values()).backward()
    for tensor in prediction:
        assert tensor.grad[0].any() and not tensor.grad[1].any()


def test_batch_of_unknown_pixels__has_zero_losses(criterion):
    targets = labels_to_targets(torch.full((2, 32, 32), 255))
    prediction = MaskPrediction(torch.randn(2, 6, 32, 32, requires_grad=True), torch.randn(2, 6, 5, requires_grad=True))
    losses = criterion([prediction], targets)
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert all(not tensor.grad.any() for tensor in prediction)


def test_known_image_without_segments__teaches_no_object(criterion):
    targets = MaskTargets(
        [torch.zeros(0, 32, 32, dtype=torch.bool)],
        [torch.zeros(0, dtype=torch.int64)],
        torch.ones(1, 32, 32, dtype=torch.bool),
    )
    logits = torch.zeros(1, 6, 5, requires_grad=True)
    losses = criterion([MaskPrediction(torch.randn(1, 6, 8, 8), logits)], targets)
    sum(losses.values()).backward()
    assert losses["mask"] == losses["dice"] == 0 and losses["class"] > 0
    assert (logits.grad[..., -1] < 0).all() and (logits.grad[..., :-1] > 0).all()


def test_more_segments_than_queries__use_every_query(criterion):
    targets = labels_to_targets(make_labels())
    prediction = MaskPrediction(torch.randn(2, 2, 32, 32), torch.randn(2, 2, 5))
    assert [len(queries) for queries, _ in criterion.match(prediction, targets)] == [2, 2]
    assert all(loss.isfinite() for loss in criterion([prediction], targets).values())


def test_sample_points__at_pixel_centers_are_the_pixels():
    maps = torch.randn(2, 3, 4, 5)
    y, x = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(5) + 0.5) / 5, indexing="ij")
    points = torch.stack([x, y], -1).view(1, -1, 2).expand(2, -1, -1)
    for mode in ("bilinear", "nearest"):
        torch.testing.assert_close(sample_points(maps, points, mode), maps.flatten(2))
    torch.testing.assert_close(sample_points(maps[0], points[:1]), maps[0].flatten(1))


def test_pad_targets__adds_unknown_pixels():
    targets = pad_targets(labels_to_targets(make_labels()), (40, 48))
    assert targets.known.shape == (2, 40, 48) and targets.masks[1].shape == (4, 40, 48)
    assert not targets.known[:, 32:].any() and not targets.known[:, :, 32:].any()
