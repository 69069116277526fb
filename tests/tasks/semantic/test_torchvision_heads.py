"""DeepLabV3 and LR-ASPP on unusual input, their gradients and their encoder."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from densevision.errors import UsageError
from densevision.tasks.semantic.models.dilated_encoder import DilatedEncoder, set_norm_eps
from densevision.tasks.semantic.models.torchvision_heads import LRASPP, DeepLabV3


def build(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if name == "lraspp":
        return LRASPP(4, head_channels=16)
    encoder = {"deeplab_resnet": "resnet18", "deeplab_mobilenet": "mobilenetv3_large_100"}[name]
    return DeepLabV3(4, encoder, auxiliary=True, head_channels=16)


@pytest.fixture(scope="module", params=["lraspp", "deeplab_resnet", "deeplab_mobilenet"])
def model(request) -> torch.nn.Module:
    return build(request.param)


@pytest.mark.parametrize("shape", [(64, 64), (33, 57), (1, 1)])
@pytest.mark.parametrize("batch", [1, 2])
def test_forward__any_size_has_the_same_outputs_in_training(model, shape, batch):
    model = copy.deepcopy(model)
    if shape == (1, 1):
        model.eval()  # batch norm needs more than one value per channel
    else:
        model.train()
    image = torch.rand(batch, 3, *shape)
    outputs = model(image)
    expected = {"logits", "auxiliary"} if isinstance(model, DeepLabV3) else {"logits"}
    assert set(outputs) == set(model.eval()(image)) == expected
    for tensor in outputs.values():
        assert tensor.shape == (batch, 4, *shape) and tensor.isfinite().all()
    torch.testing.assert_close(model.postprocess(outputs)["probabilities"].sum(1), torch.ones(batch, *shape))


def test_compute_losses__reach_every_parameter(model):
    model = copy.deepcopy(model).train()
    image, labels = torch.rand(2, 3, 65, 97), torch.randint(0, 4, (2, 65, 97))
    losses = model.compute_losses({"image": image}, {"labels": labels})
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_compute_losses__without_known_pixels_are_zero(model):
    model = copy.deepcopy(model).train()
    labels = torch.full((2, 64, 64), 255)
    losses = model.compute_losses({"image": torch.rand(2, 3, 64, 64)}, {"labels": labels})
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values())
    assert all(not p.grad.any() for p in model.parameters())


def test_criterion__can_be_replaced():
    model = build("deeplab_resnet")
    model.criterion = lambda outputs, targets: {"mean": outputs["logits"].mean() - targets["labels"].float().mean()}
    losses = model.compute_losses({"image": torch.rand(2, 3, 64, 64)}, {"labels": torch.zeros(2, 64, 64).long()})
    assert list(losses) == ["mean"]


def test_batch_of_one__pools_with_the_running_statistics():
    model = build("deeplab_resnet").train()
    before = {name: tensor.clone() for name, tensor in model.head.pooling.state_dict().items()}
    model(torch.rand(1, 3, 64, 64))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.head.pooling.state_dict().items())
    model(torch.rand(2, 3, 64, 64))
    assert not torch.equal(model.head.pooling[1].running_mean, before["1.running_mean"])


def test_input_spec__stretches_to_a_size_where_one_is_given():
    spec = DeepLabV3(2, "resnet18", input_size=513).input_spec["image"]
    assert (spec.mode, spec.size) == ("stretch", (513, 513))
    assert LRASPP(2).input_spec["image"].mode == "pad"


def test_in_channels__of_any_number():
    model = DeepLabV3(3, "resnet18", in_channels=5).eval()
    assert model(torch.rand(1, 5, 40, 40))["logits"].shape == (1, 3, 40, 40)
    with pytest.raises(UsageError, match="mean"):
        DeepLabV3(3, "resnet18", in_channels=5, encoder_options={"mean": (0.5, 0.5, 0.5)})


def test_encoder__stride_and_shallow_stage():
    """The maps of a dilated ResNet: stages 3 and 4 at stride 8."""
    encoder = DilatedEncoder("resnet50", output_stride=8).eval()
    shallow, deep = encoder(torch.rand(1, 3, 64, 72))
    assert shallow.shape == (1, 1024, 8, 9) and deep.shape == (1, 2048, 8, 9)
    assert (encoder.shallow_channels, encoder.deep_channels) == (1024, 2048)


def test_set_norm_eps__keeps_outputs():
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv3_small_050", num_classes=3).double().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(1e-4, 1e-2)
    image = torch.rand(1, 3, 64, 64).double()
    expected = network(image)
    set_norm_eps(network, 1e-3)
    torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize(
    "name",
    ["deeplab_resnet", *(pytest.param(slow, marks=pytest.mark.slow) for slow in ("deeplab_mobilenet", "lraspp"))],
)
def test_export__holds_for_other_batches_and_sizes(name):
    from torch.fx.experimental import _config as symbols

    model = build(name).eval()
    shape = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    with torch.no_grad(), symbols.patch(backed_size_oblivious=True):
        program = torch.export.export(model, (), {"image": torch.rand(2, 3, 64, 96)}, dynamic_shapes={"image": shape})
    image = torch.rand(3, 3, 70, 65)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(image=image), model(image), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("stride", "size"), [(16, 4), (8, 8)])
def test_encoder__mobilenetv3_is_dilated(stride, size):
    encoder = DilatedEncoder("mobilenetv3_large_100", options={"output_stride": stride}).eval()
    shallow, deep = encoder(torch.rand(1, 3, 64, 64))
    assert shallow.shape[-1] == 8 and deep.shape == (1, encoder.deep_channels, size, size)


def test_encoder__options_are_those_of_every_backbone():
    with pytest.raises(UsageError, match="pretrained_cfg_overlay"):
        DeepLabV3(2, "resnet18", encoder_options={"options": {"pretrained_cfg_overlay": {"url": "file:///etc/passwd"}}})
    model = DeepLabV3(2, "resnet18", encoder_options={"freeze": 1})
    assert not model.encoder.network.conv1.weight.requires_grad
    with pytest.raises(UsageError, match=r"backbone\.output_stride"):
        DeepLabV3(2, "vit_tiny_patch16_224")
