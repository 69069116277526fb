"""Faster R-CNN against torchvision's with the same random weights, from the state dict to the detections."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import detection, get_model_weights, mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _mobilenet_extractor
from torchvision.ops import FrozenBatchNorm2d

import densevision
from densevision.errors import WeightsError
from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchPredictor
from densevision.published_weights import convert_weights
from densevision.results import Detections
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks.detection.weights import PUBLISHED

pytestmark = pytest.mark.parity

SIZES = ((60, 80), (96, 64), (48, 150))
CLASSES = 5
SMALL = {"min_size": 96, "max_size": 160}
SETTINGS = {"data.size": 96, "model.max_size": 160}


def mobile(norm=nn.BatchNorm2d, **rules) -> nn.Module:
    """torchvision's detector on MobileNetV3, with norms as its published weights have them or as new ones do."""
    body = _mobilenet_extractor(mobilenet_v3_large(weights=None, norm_layer=norm), True, 6)
    anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
    return detection.FasterRCNN(body, CLASSES, rpn_anchor_generator=anchors, rpn_score_thresh=0.05, **rules)


def resnet(build, **rules) -> nn.Module:
    return build(weights=None, weights_backbone=None, num_classes=CLASSES, **rules)


BUILDERS = {
    "fasterrcnn_mobilenet_v3_large_fpn": mobile,
    "fasterrcnn_mobilenet_v3_large_320_fpn": partial(resnet, detection.fasterrcnn_mobilenet_v3_large_320_fpn),
    "frozen": partial(mobile, FrozenBatchNorm2d),
    "fasterrcnn_resnet50_fpn": partial(resnet, detection.fasterrcnn_resnet50_fpn),
    "fasterrcnn_resnet50_fpn_v2": partial(resnet, detection.fasterrcnn_resnet50_fpn_v2),
}
HEAVY = [pytest.param(name, marks=pytest.mark.slow) for name in list(BUILDERS)[3:]]
MOBILE = next(iter(BUILDERS))
SCALES = {"fasterrcnn_resnet50_fpn": 0.03, "fasterrcnn_resnet50_fpn_v2": 0.05}
"""Factors of the last layers of networks whose random weights give saturated scores."""


def make_pair(kind: str, folder: Path, scale: float = 10.0) -> tuple[nn.Module, TorchPredictor]:
    """torchvision's network, and ours after its state dict went through a file."""
    torch.manual_seed(0)
    reference = calibrate(BUILDERS[MOBILE if kind == "frozen" else kind](**SMALL), SCALES.get(kind, scale))
    if kind == "frozen":
        state = {name: value for name, value in reference.state_dict().items() if "num_batches" not in name}
        reference = BUILDERS[kind](**SMALL).eval()
        reference.load_state_dict(state)
    torch.save(reference.state_dict(), folder / "torchvision.pth")
    convert_weights(
        f"torchvision/{kind if kind in NAMES else MOBILE}", folder / "torchvision.pth", folder / "ours.safetensors"
    )
    model = densevision.load(folder / "ours.safetensors")
    model.configure(SETTINGS)
    return reference, model


def calibrate(network: nn.Module, scale: float) -> nn.Module:
    """The network with norms that fit its random weights, and last layers whose outputs differ between proposals."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.backbone.train()(torch.rand(2, 3, 128, 128))
        for norm in norms:
            norm.running_var.clamp_(min=0.01)  # of channels that are constant
        for layer in (network.roi_heads.box_predictor.cls_score, network.rpn.head.cls_logits):
            layer.weight.mul_(scale)
        for layer in (network.roi_heads.box_predictor.bbox_pred, network.rpn.head.bbox_pred):
            layer.weight.mul_(min(scale, 1.0))
    return network.eval()


NAMES = {weights.name.split("/")[1] for weights in PUBLISHED if weights.name.startswith("torchvision/")}


def image(size: tuple[int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (size[0] // 8 + 2, size[1] // 8 + 2, 3)).astype(np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


IMAGES = [image(size, seed) for seed, size in enumerate(SIZES)]


def predict_torchvision(reference: nn.Module, score_threshold: float) -> list[dict]:
    reference.roi_heads.score_thresh = score_threshold
    with torch.inference_mode():
        return reference([torch.from_numpy(one).permute(2, 0, 1).float() / 255 for one in IMAGES])


def predict_ours(model: TorchPredictor, score_threshold: float) -> list[Detections]:
    options = PredictOptions(score_threshold=score_threshold, precision="float32", batch=len(IMAGES))
    return model.predict_batch([Sample({"image": one}) for one in IMAGES], options)


def assert_same(reference: dict, result: Detections, max_differing: int = 0) -> None:
    """Same boxes, scores and labels; detections whose scores are equal up to rounding may be swapped.

    Args:
        reference: torchvision's detections.
        result: Ours.
        max_differing: How many may differ: of many weak boxes, rounding decides which one suppresses which.
    """
    assert len(result) == len(reference["boxes"])
    is_free = np.ones(len(result), bool)
    missing = []
    for box, score, label in zip(*(reference[name].numpy() for name in ("boxes", "scores", "labels"))):
        is_near = (np.abs(result.boxes - box).max(1) < 0.01) & (np.abs(result.scores - score) < 1e-4)
        is_same = is_free & is_near & (result.labels + 1 == label)
        missing += [] if is_same.any() else [f"{label} at {box}, {score}"]
        is_free[is_same.argmax()] &= not is_same.any()
    assert len(missing) <= max_differing, missing


def find_gap(detections: list[dict]) -> float:
    """A score that no detection has, nor nearly: the middle of the widest gap among the stronger ones."""
    scores = np.sort(np.concatenate([one["scores"].numpy() for one in detections]))[::-1][10:60]
    widest = int(np.argmin(np.diff(scores)))
    return float(scores[widest : widest + 2].mean())


@pytest.mark.parametrize("kind", [*list(BUILDERS)[:3], *HEAVY])
def test_detections__of_a_mixed_batch_equal_torchvision(kind, tmp_path):
    reference, model = make_pair(kind, tmp_path)
    complete = predict_torchvision(reference, 0.0)
    threshold = find_gap(complete)
    expected, results = predict_torchvision(reference, threshold), predict_ours(model, threshold)
    assert 10 < sum(len(one["boxes"]) for one in expected) < sum(len(one["boxes"]) for one in complete)
    for reference_result, result in zip(expected, results):
        assert_same(reference_result, result)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_detections__none_one_and_a_hundred(count, tmp_path):
    reference, model = make_pair(MOBILE, tmp_path)
    scores = np.sort(np.concatenate([one["scores"].numpy() for one in predict_torchvision(reference, 0.0)]))[::-1]
    threshold = {0: float(scores[0] + 1) / 2, 1: float(scores[:2].mean()), 100: 0.0}[count]
    expected, results = predict_torchvision(reference, threshold), predict_ours(model, threshold)
    for reference_result, result in zip(expected, results):
        assert_same(reference_result, result, max_differing=5 if count == 100 else 0)
    assert sum(map(len, results)) == count if count < 100 else max(map(len, results)) == count


@pytest.mark.parametrize("kind", [MOBILE, *HEAVY])
def test_losses__of_the_same_samples_equal_torchvision(kind, tmp_path):
    reference, model = make_pair(kind, tmp_path, scale=1.0)
    rng = np.random.default_rng(0)
    samples, images, targets = [], [], []
    for seed, size in enumerate(SIZES[:2]):
        corner = rng.random((3, 2)) * 0.5 * size[::-1]
        boxes = np.concatenate([corner, corner + 8 + rng.random((3, 2)) * 0.4 * size[::-1]], 1).astype(np.float32)
        labels = rng.integers(0, CLASSES - 1, 3)
        truth = Detections.from_arrays(boxes, labels, model.task.config.classes, size)
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
    losses = model.task.compute_losses(model.model.train(), batch, None, "net")
    names = {"objectness": "objectness", "rpn_box": "rpn_box_reg", "class": "classifier", "box": "box_reg"}
    assert losses.keys() == names.keys()
    for name, value in losses.items():
        assert torch.isclose(value, expected[f"loss_{names[name]}"], rtol=1e-3, atol=1e-5), name


def test_convert__refuses_another_network(tmp_path):
    torch.save(mobilenet_v3_large(weights=None).state_dict(), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="two-stage detector"):
        convert_weights(f"torchvision/{MOBILE}", tmp_path / "a.pth", tmp_path / "a.safetensors")
    state = mobile(**SMALL).state_dict()
    del state["rpn.head.conv.0.0.bias"]
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="1 missing"):
        convert_weights(f"torchvision/{MOBILE}", tmp_path / "b.pth", tmp_path / "b.safetensors")


def test_published__addresses_are_torchvisions():
    published = {entry.url for name in NAMES for entry in get_model_weights(name)}
    entries = [weights for weights in PUBLISHED if weights.name.startswith("torchvision/")]
    assert {weights.address for weights in entries} == published
    assert all(f"-{weights.sha256}.pth" in weights.address for weights in entries)
