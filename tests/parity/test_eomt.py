"""EoMT beside transformers': converted weights give the same masks and classes, and the same training losses."""

from __future__ import annotations

import pytest
import torch

from densevision.nn.eomt import EomtNetwork, convert_state_dict
from densevision.nn.mask_classification import MaskClassificationLoss, MaskTargets

pytestmark = pytest.mark.parity
transformers = pytest.importorskip("transformers")

SMALL = {"embed_dim": 32, "depth": 4, "num_heads": 2}


def build_reference(**options) -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.EomtConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        num_blocks=3,
        num_queries=6,
        num_labels=5,
        train_num_points=200,
        **options,
    )
    network = transformers.EomtForUniversalSegmentation(config)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


def build(reference: torch.nn.Module, encoder: str = "vit_small_patch14_reg4_dinov2", **options) -> EomtNetwork:
    network = EomtNetwork(
        5, encoder, 64, num_queries=6, num_blocks=3, encoder_options={"options": {**SMALL, **options}}
    )
    network.load_state_dict(convert_state_dict(reference.state_dict()), strict=True)
    return network.eval()


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [0, 1], and as transformers' processor normalizes them."""
    torch.manual_seed(1)
    image = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return image, (image - mean) / std


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_outputs__equal_transformers(probability):
    """Without masked attention, as published networks infer, and with it."""
    reference = build_reference()
    reference.attn_mask_probs.fill_(probability)
    network = build(reference)
    image, normalized = make_batch()
    with torch.inference_mode():
        expected, predictions = reference(normalized), network(image)
    assert len(predictions) == (1 if probability == 0 else 4)
    assert expected.masks_queries_logits.std() > 0.1
    torch.testing.assert_close(predictions[-1].mask_logits, expected.masks_queries_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predictions[-1].class_logits, expected.class_queries_logits, atol=1e-4, rtol=1e-4)


def test_gated_mlp__of_the_giant_encoder_equals_transformers():
    reference = build_reference(use_swiglu_ffn=True)
    hidden = reference.layers[0].mlp.down_proj.in_features
    network = build(reference, "vit_giant_patch14_reg4_dinov2", mlp_ratio=2 * hidden / 32)
    image, normalized = make_batch()
    with torch.inference_mode():
        expected = reference(normalized).masks_queries_logits
        torch.testing.assert_close(network(image)[-1].mask_logits, expected, atol=1e-4, rtol=1e-4)


def test_losses_and_gradients__equal_transformers():
    reference = build_reference()
    network = build(reference)
    image, normalized = make_batch()
    masks = [torch.rand(3, 64, 64) > 0.6, torch.rand(2, 64, 64) > 0.4]
    classes = [torch.tensor([0, 3, 4]), torch.tensor([2, 2])]
    targets = MaskTargets(masks, classes, torch.ones(2, 64, 64, dtype=torch.bool))
    torch.manual_seed(2)  # both draw the same points
    expected = reference(normalized, mask_labels=[each.float() for each in masks], class_labels=classes).loss
    torch.manual_seed(2)
    losses = MaskClassificationLoss(num_points=200)(network(image), targets)
    torch.testing.assert_close(sum(losses.values()), expected, atol=1e-3, rtol=1e-5)
    expected.backward()
    sum(losses.values()).backward()
    gradients = convert_state_dict({name: parameter.grad for name, parameter in reference.named_parameters()})
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-4, rtol=1e-3, msg=name)


def test_authors_layout__is_the_same_network():
    network = build(build_reference())
    published = {}
    for name, tensor in network.state_dict().items():
        name = name.replace("queries.", "q.").replace("mask_probabilities", "attn_mask_probs")
        name = f"encoder.backbone.{name.removeprefix('encoder.')}" if name.startswith("encoder.") else name
        published[f"network.{name}"] = tensor
    published |= {"network.encoder.pixel_mean": torch.zeros(1, 3, 1, 1), "criterion.empty_weight": torch.ones(6)}
    converted = convert_state_dict(published)
    expected = network.state_dict()
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)
