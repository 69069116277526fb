"""Detectors with two stages beside torchvision's with the same random weights, from the state dict to the answer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import detection as theirs
from torchvision.models import get_model_weights, mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor
from torchvision.ops import FrozenBatchNorm2d

import densevision
from densevision.errors import WeightsError
from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchModel
from densevision.published_weights import convert
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks.detection.weights import PUBLISHED

pytestmark = pytest.mark.parity

SIZES = ((60, 80), (96, 64), (48, 150))
CLASSES = 5
SMALL = {"min_size": 96, "max_size": 160}
SETTINGS = {"data.size": 96, "data.longest": 160}


def mobile(norm=nn.BatchNorm2d, **rules) -> nn.Module:
    """torchvision's detector on MobileNetV3, with norms as its published weights have them or as new ones do."""
    body = _mobilenet_extractor(mobilenet_v3_large(weights=None, norm_layer=norm), True, 6)
    anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
    return theirs.FasterRCNN(body, CLASSES, rpn_anchor_generator=anchors, rpn_score_thresh=0.05, **rules)


def resnet(build, **rules) -> nn.Module:
    return build(weights=None, weights_backbone=None, num_classes=CLASSES, **rules)


BUILDERS = {
    "fasterrcnn_mobilenet_v3_large_fpn": mobile,
    "fasterrcnn_mobilenet_v3_large_320_fpn": partial(resnet, theirs.fasterrcnn_mobilenet_v3_large_320_fpn),
    "frozen": partial(mobile, FrozenBatchNorm2d),
    "fasterrcnn_resnet50_fpn": partial(resnet, theirs.fasterrcnn_resnet50_fpn),
    "fasterrcnn_resnet50_fpn_v2": partial(resnet, theirs.fasterrcnn_resnet50_fpn_v2),
}
HEAVY = [pytest.param(name, marks=pytest.mark.slow) for name in list(BUILDERS)[3:]]
MOBILE = next(iter(BUILDERS))
CALM = {"fasterrcnn_resnet50_fpn": 0.03, "fasterrcnn_resnet50_fpn_v2": 0.05}
"""What the last layers of networks are multiplied by whose random weights are certain of everything."""


def pair(kind: str, folder: Path, scale: float = 10.0) -> tuple[nn.Module, TorchModel]:
    """torchvision's network, and ours after its state dict went through a file."""
    torch.manual_seed(0)
    reference = lively(BUILDERS[MOBILE if kind == "frozen" else kind](**SMALL), CALM.get(kind, scale))
    if kind == "frozen":
        state = {name: value for name, value in reference.state_dict().items() if "num_batches" not in name}
        reference = BUILDERS[kind](**SMALL).eval()
        reference.load_state_dict(state)
    torch.save(reference.state_dict(), folder / "theirs.pth")
    convert(f"torchvision/{kind if kind in NAMES else MOBILE}", folder / "theirs.pth", folder / "ours.safetensors")
    model = densevision.load(folder / "ours.safetensors")
    model.configure(SETTINGS)
    return reference, model


def lively(network: nn.Module, scale: float) -> nn.Module:
    """The network with norms that fit its random weights, and with last layers that tell one proposal from another."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.backbone.train()(torch.rand(2, 3, 128, 128))
        for norm in norms:
            norm.running_var.clamp_(min=0.01)  # of channels that are silent
        for layer in (network.roi_heads.box_predictor.cls_score, network.rpn.head.cls_logits):
            layer.weight.mul_(scale)
        for layer in (network.roi_heads.box_predictor.bbox_pred, network.rpn.head.bbox_pred):
            layer.weight.mul_(min(scale, 1.0))
    return network.eval()


NAMES = {weights.name.split("/")[1] for weights in PUBLISHED}


def image(size: tuple[int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (size[0] // 8 + 2, size[1] // 8 + 2, 3)).astype(np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


IMAGES = [image(size, seed) for seed, size in enumerate(SIZES)]


def theirs_of(reference: nn.Module, score_threshold: float) -> list[dict]:
    reference.roi_heads.score_thresh = score_threshold
    with torch.inference_mode():
        return reference([torch.from_numpy(one).permute(2, 0, 1).float() / 255 for one in IMAGES])


def ours_of(model: TorchModel, score_threshold: float) -> list[Detections]:
    options = PredictOptions(score_threshold=score_threshold, precision="float32", batch=len(IMAGES))
    return model.infer([Sample({"image": one}) for one in IMAGES], options)


def assert_alike(want: dict, own: Detections, others: int = 0) -> None:
    """The same boxes, scores and labels; where scores are equal up to rounding, they may have changed places.

    Args:
        want: torchvision's answer.
        own: Ours.
        others: How many may be others: of the weak and many, rounding decides which suppresses which.
    """
    assert len(own) == len(want["boxes"])
    free = np.ones(len(own), bool)
    strange = []
    for box, score, label in zip(want["boxes"].numpy(), want["scores"].numpy(), want["labels"].numpy()):
        near = (np.abs(own.boxes - box).max(1) < 0.01) & (np.abs(own.scores - score) < 1e-4)
        same = free & near & (own.labels + 1 == label)
        strange += [] if same.any() else [f"{label} at {box}, {score}"]
        free[same.argmax()] &= not same.any()
    assert len(strange) <= others, strange


def gap(found: list[dict]) -> float:
    """A score that no detection has, nor nearly: the middle of the widest gap among the stronger ones."""
    scores = np.sort(np.concatenate([one["scores"].numpy() for one in found]))[::-1][10:60]
    widest = int(np.argmin(np.diff(scores)))
    return float(scores[widest : widest + 2].mean())


@pytest.mark.parametrize("kind", [*list(BUILDERS)[:3], *HEAVY])
def test_answers__of_a_mixed_batch_equal_torchvision(kind, tmp_path):
    reference, model = pair(kind, tmp_path)
    everything = theirs_of(reference, 0.0)
    least = gap(everything)
    expected, found = theirs_of(reference, least), ours_of(model, least)
    assert 10 < sum(len(one["boxes"]) for one in expected) < sum(len(one["boxes"]) for one in everything)
    for want, own in zip(expected, found):
        assert_alike(want, own)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_answers__of_none_of_one_and_of_a_hundred(count, tmp_path):
    reference, model = pair(MOBILE, tmp_path)
    scores = np.sort(np.concatenate([one["scores"].numpy() for one in theirs_of(reference, 0.0)]))[::-1]
    least = {0: float(scores[0] + 1) / 2, 1: float(scores[:2].mean()), 100: 0.0}[count]
    expected, found = theirs_of(reference, least), ours_of(model, least)
    for want, own in zip(expected, found):
        assert_alike(want, own, others=5 if count == 100 else 0)
    assert sum(map(len, found)) == count if count < 100 else max(map(len, found)) == count


@pytest.mark.parametrize("kind", [MOBILE, *HEAVY])
def test_losses__of_the_same_samples_equal_torchvision(kind, tmp_path):
    reference, model = pair(kind, tmp_path, scale=1.0)
    rng = np.random.default_rng(0)
    samples, images, targets = [], [], []
    for seed, size in enumerate(SIZES[:2]):
        corner = rng.random((3, 2)) * 0.5 * size[::-1]
        boxes = np.concatenate([corner, corner + 8 + rng.random((3, 2)) * 0.4 * size[::-1]], 1).astype(np.float32)
        labels = rng.integers(0, CLASSES - 1, 3)
        truth = Detections.of(boxes, labels, model.task.config.classes, size)
        samples.append(Sample({"image": image(size, seed)}, truth))
    batch = Collate(model.task)(samples)
    for row, (height, width) in enumerate(batch.inputs["size"].long().tolist()):
        images.append(batch.inputs["image"][row, :, :height, :width])
        targets.append({"boxes": batch.targets["boxes"][row], "labels": batch.targets["labels"][row] + 1})
    reference.train()
    reference.transform._skip_resize = True
    torch.manual_seed(3)
    expected = reference(images, targets)
    torch.manual_seed(3)
    found = model.task.losses(model.net.train(), batch, None, "net")
    names = {"objectness": "objectness", "proposal": "rpn_box_reg", "class": "classifier", "box": "box_reg"}
    assert found.keys() == names.keys()
    for name, value in found.items():
        assert torch.isclose(value, expected[f"loss_{names[name]}"], rtol=1e-3, atol=1e-5), name


def test_convert__refuses_another_network(tmp_path):
    torch.save(mobilenet_v3_large(weights=None).state_dict(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="not the state dict of a two-stage detector"):
        convert(f"torchvision/{MOBILE}", tmp_path / "a.pth", tmp_path / "a.safetensors")
    state = mobile(**SMALL).state_dict()
    del state["rpn.head.conv.0.0.bias"]
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="lacks 1 tensors"):
        convert(f"torchvision/{MOBILE}", tmp_path / "b.pth", tmp_path / "b.safetensors")


def test_names__are_those_that_torchvision_publishes():
    published = {entry.url for name in NAMES for entry in get_model_weights(name)}
    assert {weights.address for weights in PUBLISHED} == published
    assert all(f"-{weights.sha256}.pth" in weights.address for weights in PUBLISHED)
