"""EoMT for instance segmentation: decoding, crowd regions and batches without objects."""

from __future__ import annotations

import pytest
import torch

from densevision.tasks.instance.models.eomt import InstanceEomt


@pytest.fixture(scope="module")
def model() -> InstanceEomt:
    torch.manual_seed(0)
    small = {"embed_dim": 32, "depth": 3, "num_heads": 2}
    return InstanceEomt(
        3,
        64,
        6,
        encoder="vit_small_patch14_reg4_dinov2",
        num_blocks=2,
        num_points=128,
        encoder_options={"options": small},
    )


def make_outputs() -> dict[str, torch.Tensor]:
    """Query 1 is an object of class 2, query 4 a weaker one of class 0; the others show nothing."""
    masks, classes = torch.full((1, 6, 16, 16), -30.0), torch.zeros(1, 6, 4)
    classes[..., 3] = 30.0
    masks[0, 1, 2:6, 3:11] = 30.0
    classes[0, 1] = torch.tensor([0.0, 0.0, 30.0, 0.0])
    masks[0, 4, 8:, :] = 30.0
    classes[0, 4] = torch.tensor([1.0, -30.0, -30.0, 0.0])
    return {"mask_logits": masks, "class_logits": classes}


def test_postprocess__gives_scores_labels_masks_and_their_boxes(model):
    result = model.postprocess(make_outputs(), score_threshold=0.1, max_detections=5)
    assert {name: tuple(tensor.shape) for name, tensor in result.items()} == {
        "boxes": (1, 5, 4),
        "scores": (1, 5),
        "labels": (1, 5),
        "valid": (1, 5),
        "canvas_masks": (1, 5, 64, 64),
    }
    assert result["valid"].tolist() == [[True, True, False, False, False]]
    assert result["labels"][0, :2].tolist() == [2, 0]
    expected = torch.tensor([1.0, torch.tensor([1.0, 0.0]).softmax(0)[0]])
    torch.testing.assert_close(result["scores"][0, :2], expected, atol=0.02, rtol=0)
    assert result["boxes"][0, :2].tolist() == [[12, 8, 44, 24], [0, 32, 64, 64]]
    for mask, (left, top, right, bottom) in zip(result["canvas_masks"][0, :2] > 0.5, result["boxes"][0, :2].int()):
        assert mask[top:bottom, left:right].any(0).all() and mask.sum() == mask[top:bottom, left:right].sum()


def test_postprocess__class_mask_and_empty_masks(model):
    only_first = model.postprocess(make_outputs(), score_threshold=0.1, class_mask=torch.tensor([True, False, False]))
    assert only_first["labels"][only_first["valid"]].tolist() == [0]
    nothing = {"mask_logits": torch.full((2, 6, 16, 16), -9.0), "class_logits": torch.randn(2, 6, 4)}
    result = model.postprocess(nothing)
    assert not result["valid"].any() and not result["boxes"].any() and result["canvas_masks"].isfinite().all()


@pytest.mark.parametrize("count", [0, 3])
def test_compute_losses__reach_every_parameter(model, count):
    model.train().zero_grad()
    targets = {
        "masks": torch.rand(2, count, 64, 64) > 0.5,
        "labels": torch.randint(0, 3, (2, count)),
        "valid": torch.ones(2, count, dtype=torch.bool),
        "crowd": torch.zeros(2, count, dtype=torch.bool),
    }
    losses = model.compute_losses({"image": torch.rand(2, 3, 64, 64)}, targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert (losses["mask"] > 0) == (count > 0)


def test_loss__crowd_regions_are_neither_object_nor_background(model):
    masks = torch.zeros(1, 2, 64, 64, dtype=torch.bool)
    masks[0, 0, :, 40:] = masks[0, 1, :20, :20] = True
    targets = {
        "masks": masks,
        "labels": torch.tensor([[0, 1]]),
        "valid": torch.ones(1, 2, dtype=torch.bool),
        "crowd": torch.tensor([[True, False]]),
    }
    outputs = {"mask_logits": torch.randn(1, 6, 16, 16, requires_grad=True), "class_logits": torch.zeros(1, 6, 4)}
    outputs["class_logits"][0, 2, 1] = 9.0
    sum(model.loss(outputs, targets).values()).backward()
    gradient = outputs["mask_logits"].grad[0].abs().sum((1, 2))
    assert gradient.nonzero().flatten().tolist() == [2]  # one object, the query that names its class
    assert not outputs["mask_logits"].grad[0, 2, :, 12:].any()


def test_on_progress__anneals_the_masked_attention(model):
    before = model.network.mask_probabilities.clone()
    model.on_progress(1.0)
    assert before.tolist() == [1, 1] and model.network.mask_probabilities.tolist() == [0, 0]
    model.on_progress(0.0)
    assert model.network.mask_probabilities.tolist() == [1, 1]
