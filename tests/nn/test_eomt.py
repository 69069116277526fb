"""The network of EoMT: unusual sizes, gradients, masked attention and export."""

from __future__ import annotations

import pytest
import timm
import torch

from densevision.errors import UsageError
from densevision.nn.eomt import EomtNetwork
from densevision.nn.mask_classification import MaskClassificationLoss, labels_to_targets, pad_targets


def build(**options) -> EomtNetwork:
    torch.manual_seed(0)
    small = {"embed_dim": 32, "depth": 3, "num_heads": 2}
    return EomtNetwork(
        4,
        "vit_small_patch14_reg4_dinov2",
        64,
        num_queries=5,
        num_blocks=2,
        encoder_options={"options": small},
        **options,
    )


@pytest.mark.parametrize("shape", [(64, 64), (33, 90), (1, 1)])
def test_forward__any_size_is_padded_to_whole_patches(shape):
    network = build()
    height, width = (-(-side // 16) * 4 for side in shape)
    for mode, count in ((True, 3), (False, 3)):
        predictions = network.train(mode)(torch.rand(2, 3, *shape))
        assert len(predictions) == count
        for masks, classes in predictions:
            assert masks.shape == (2, 5, height, width) and classes.shape == (2, 5, 5)
            assert masks.isfinite().all()


def test_forward__padding_changes_nothing_for_whole_patches():
    network = build().eval()
    network.anneal_masks(1.0)
    image = torch.rand(1, 3, 60, 64)
    mean = network.mean.expand(1, 3, 4, 64)
    (padded,), (plain,) = network(torch.cat([image, mean], 2)), network(image)
    torch.testing.assert_close(plain.mask_logits, padded.mask_logits)


def test_losses__reach_every_parameter():
    network = build().train()
    targets = pad_targets(labels_to_targets(torch.randint(0, 4, (2, 60, 64))), (64, 64))
    losses = MaskClassificationLoss(num_points=64)(network(torch.rand(2, 3, 60, 64)), targets)
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_anneal_masks__block_by_block():
    network = build()
    assert network.mask_probabilities.tolist() == [1, 1]
    network.anneal_masks(1 / 6)
    assert network.mask_probabilities.tolist() == [1, 1]
    network.anneal_masks(1 / 4)
    torch.testing.assert_close(network.mask_probabilities, torch.tensor([0.5**0.9, 1.0]))
    network.anneal_masks(4 / 6)
    torch.testing.assert_close(network.mask_probabilities, torch.tensor([0.0, 1.0]))
    network.anneal_masks(5 / 6)
    assert network.mask_probabilities.tolist() == [0, 0]
    assert len(network.eval()(torch.rand(1, 3, 64, 64))) == 1
    assert len(network.train()(torch.rand(1, 3, 64, 64))) == 3


def test_masked_attention__of_probability_0_is_full_attention():
    network = build().train()
    image = torch.rand(1, 3, 64, 64)
    network.anneal_masks(1.0)
    training = network(image)[-1]
    evaluation = network.eval()(image)[-1]
    torch.testing.assert_close(training.mask_logits, evaluation.mask_logits)
    network.anneal_masks(0.0)
    assert not torch.allclose(network(image)[-1].mask_logits, evaluation.mask_logits)


def test_export__knows_the_loaded_mask_probabilities():
    annealed = build()
    annealed.anneal_masks(1.0)
    network = build().eval()
    network.load_state_dict(annealed.state_dict())
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (torch.rand(2, 3, 64, 64),), dynamic_shapes=batch)
    image = torch.rand(3, 3, 64, 64)
    (exported,) = program.module()(image)
    torch.testing.assert_close(exported.mask_logits, network(image)[0].mask_logits)


def test_patch_size_and_channels__of_other_encoders():
    network = EomtNetwork(
        2,
        "vit_tiny_patch16_224",  # its position embeddings include the class token
        32,
        patch_size=8,
        num_queries=3,
        num_blocks=1,
        in_channels=4,
        encoder_options={"options": {"depth": 2}},
    ).eval()
    masks, _ = network(torch.rand(1, 4, 32, 48))[-1]
    assert masks.shape == (1, 3, 8, 12) and network.mask_stride == 4
    with pytest.raises(UsageError, match="num_blocks"):
        EomtNetwork(2, "vit_tiny_patch16_224", 32, num_blocks=3, encoder_options={"options": {"depth": 2}})


def test_encoder__must_be_a_plain_vit_and_options_must_be_allowed():
    for name in ("resnet18", "swin_tiny_patch4_window7_224"):
        with pytest.raises(UsageError, match=r"backbone\.name"):
            EomtNetwork(2, name, 64)
    with pytest.raises(UsageError, match="pretrained_cfg_overlay"):
        options = {"pretrained_cfg_overlay": {"url": "file:///etc/passwd"}}
        EomtNetwork(2, "vit_tiny_patch16_224", 64, encoder_options={"options": options})
    with pytest.raises(UsageError, match=r"backbone\.freeze"):
        EomtNetwork(2, "vit_tiny_patch16_224", 64, encoder_options={"freeze": 2})


def test_pretrained_file__fills_the_encoder(tmp_path):
    torch.manual_seed(1)
    source = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=64, num_classes=7)
    torch.save(source.state_dict(), tmp_path / "vit.pth")
    options = {"pretrained": str(tmp_path / "vit.pth"), "options": {"depth": 2}}
    network = EomtNetwork(3, "vit_tiny_patch16_224", 64, num_blocks=1, encoder_options=options)
    assert torch.equal(network.encoder.blocks[1].attn.qkv.weight, source.blocks[1].attn.qkv.weight)
    assert not any(name.startswith("encoder.head") for name in network.state_dict())
