"""EoMT for semantic segmentation: probabilities, losses, and that it learns."""

from __future__ import annotations

import pytest
import torch

from densevision.tasks.semantic.models import MODELS
from densevision.tasks.semantic.models.eomt import SemanticEomt

SMALL = {"embed_dim": 48, "depth": 3, "num_heads": 3, "init_values": 1.0}


def build(num_classes: int = 4) -> SemanticEomt:
    torch.manual_seed(0)
    return SemanticEomt(
        num_classes,
        64,
        8,
        encoder="vit_small_patch14_reg4_dinov2",
        num_blocks=2,
        num_points=256,
        encoder_options={"options": SMALL},
    )


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("eomt")])
def test_sizes__can_be_built(name):
    with torch.device("meta"):
        model = MODELS[name].build({"num_classes": 3, "image_size": (64, 96)})
    assert len(model.network.mask_probabilities) == MODELS[name].arguments["num_blocks"]
    assert model.input_spec["image"].size == 64


def test_ideal_outputs__are_decoded_to_the_labels():
    model = build()
    labels = torch.zeros(2, 32, 48, dtype=torch.int64)
    labels[0, :16], labels[1, :, 24:], labels[1, :8, :8] = 1, 2, 255
    probabilities = model.postprocess(model.ideal_outputs({"labels": labels}, (32, 48)))["probabilities"]
    is_inside = torch.ones_like(labels, dtype=torch.bool)  # away from boundaries, where the coarse masks are blurred
    is_inside[0, 13:19], is_inside[1, :, 21:27], is_inside[1, :11, :11] = False, False, False
    assert (probabilities.argmax(1) == labels)[is_inside].all()


def test_on_progress__anneals_the_masked_attention():
    model = build()
    model.on_progress(1.0)
    assert model.network.mask_probabilities.tolist() == [0, 0]


def test_postprocess__is_the_mean_of_masks_under_their_classes():
    model = build(num_classes=2)
    masks, classes = torch.full((1, 3, 4, 4), -50.0), torch.full((1, 3, 3), -50.0)
    masks[0, 0, :, :2] = masks[0, 1, :, 2:] = 50.0
    masks[0, 2] = 50.0
    classes[0, 0, 1] = classes[0, 1, 0] = classes[0, 2, 2] = 50.0  # the third query shows no object
    probabilities = model.postprocess({"mask_logits": masks, "class_logits": classes})["probabilities"]
    assert probabilities.shape == (1, 2, 16, 16)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, 16, 16))
    assert (probabilities[0, 1, :, :6] > 0.99).all() and (probabilities[0, 0, :, 10:] > 0.99).all()


@pytest.mark.parametrize("shape", [(64, 64), (50, 81)])
def test_forward__has_the_same_outputs_in_training(shape):
    model = build()
    for mode in (True, False):
        outputs = model.train(mode)(image=torch.rand(2, 3, *shape))
        assert set(outputs) == {"mask_logits", "class_logits"}
        probabilities = model.postprocess(outputs)["probabilities"]
        assert probabilities.shape == (2, 4, *(-(-side // 16) * 16 for side in shape))
        assert probabilities.isfinite().all()


def test_compute_losses__without_known_pixels_are_zero():
    model = build().train()
    labels = torch.full((2, 50, 81), 255)
    losses = model.compute_losses({"image": torch.rand(2, 3, 50, 81)}, {"labels": labels})
    sum(losses.values()).backward()
    assert set(losses) == {"class", "mask", "dice"} and all(loss == 0 for loss in losses.values())
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_training__learns_two_images():
    model = build().train()
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[0, :, 32:], labels[1, 32:] = 1, 2
    colors = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])
    image = colors[labels].permute(0, 3, 1, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(80):
        model.on_progress(step / 80)
        optimizer.zero_grad()
        sum(model.compute_losses({"image": image}, {"labels": labels}).values()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        predicted = model.postprocess(model(image=image))["probabilities"].argmax(1)
    assert (predicted == labels).float().mean() > 0.95
