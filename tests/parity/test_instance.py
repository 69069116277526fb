"""Complete networks against torchvision's with the same random weights: detections, and losses of the same samples.

ResNet-18 instead of ResNet-50 keeps this fast; names, layers and thresholds are the same.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import KeypointRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d

from densevision.inference.loader import Collate
from densevision.nn.rcnn import torchvision_weights
from densevision.ops.masks import compute_areas, encode
from densevision.results import Instances
from densevision.run_config import PredictOptions
from densevision.sample import Sample, prepare_inputs
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.task import Instance
from densevision.tasks.instance.weights import infer_config

pytestmark = pytest.mark.parity

SIZES = ((60, 80), (96, 64), (48, 150))
CLASSES = 5
MAX_DETECTIONS = 12
"""Objects whose masks or keypoints are computed, unless a test needs more: those heads are the slowest."""
FEWER_PROPOSALS = {
    "rpn_pre_nms_top_n_test": 150,
    "rpn_post_nms_top_n_test": 150,
    "rpn_pre_nms_top_n_train": 200,
    "rpn_post_nms_top_n_train": 200,
    "box_batch_size_per_image": 64,
}
"""Arguments of both networks that take less time."""


def image(size: tuple[int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (size[0] // 8 + 2, size[1] // 8 + 2, 3)).astype(np.uint8)
    return cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)


def backbone(norm) -> nn.Module:
    return resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=norm, trainable_layers=5)


def mask_rcnn(norm=nn.BatchNorm2d, **rules) -> nn.Module:
    return MaskRCNN(backbone(norm), CLASSES, min_size=96, max_size=160, **rules)


def mask_rcnn_v2(**rules) -> nn.Module:
    body = backbone(nn.BatchNorm2d)
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    layers = {f"layer{i}": str(i - 1) for i in range(1, 5)}
    body = BackboneWithFPN(body.body, layers, [64, 128, 256, 512], 256, norm_layer=nn.BatchNorm2d)
    return MaskRCNN(
        body,
        CLASSES,
        min_size=96,
        max_size=160,
        rpn_head=RPNHead(256, 3, conv_depth=2),
        box_head=FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d),
        mask_head=MaskRCNNHeads(256, [256] * 4, 1, norm_layer=nn.BatchNorm2d),
        **rules,
    )


def keypoint_rcnn(norm=nn.BatchNorm2d, **rules) -> nn.Module:
    return KeypointRCNN(backbone(norm), 2, num_keypoints=5, min_size=96, max_size=160, **rules)


BUILDERS = {
    "v1": mask_rcnn,
    "v2": mask_rcnn_v2,
    "frozen": partial(mask_rcnn, FrozenBatchNorm2d),
    "keypoints": keypoint_rcnn,
}


def make_pair(
    kind: str, score_threshold: float, scale: float = 1.0, max_detections: int = MAX_DETECTIONS
) -> tuple[nn.Module, Instance, nn.Module]:
    """torchvision's network, our task and our network with the same weights."""
    torch.manual_seed(0)
    reference = BUILDERS[kind](
        box_score_thresh=score_threshold, box_detections_per_img=max_detections, **FEWER_PROPOSALS
    )
    with torch.no_grad():
        reference.roi_heads.box_predictor.cls_score.weight.mul_(scale)
        for name, tensor in reference.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                tensor.uniform_(-0.1, 0.1)
    state = reference.state_dict()
    config = infer_config(state)
    config["backbone"]["name"] = "resnet18"
    config["data"] = {"size": 96}
    config["decode"] = {**config.get("decode", {}), "max_detections": max_detections}
    config["model"] |= FEWER_PROPOSALS
    task = Instance(InstanceConfig.from_dict(config))
    model = task.build_model()
    file = Path("state.pth")
    tensors = torchvision_weights.convert_state_dict(model, state, kind, file, "", is_exact=False)
    model.load_state_dict(tensors)
    return reference, task, model


@pytest.mark.parametrize(
    "kind, score_threshold, scale", [("v1", 0.2, 1), ("v1", 0.0, 8), ("v2", 0.2, 1), ("frozen", 0.2, 1)]
)
def test_masks__of_a_mixed_batch_equal_torchvision(kind, score_threshold, scale):
    reference, task, model = make_pair(kind, score_threshold, scale, 100 if scale > 1 else MAX_DETECTIONS)
    expected, results = predict_both(reference, task, model, score_threshold)
    assert sum(len(one["boxes"]) for one in expected) > 0
    for reference_result, result in zip(expected, results):
        result = match_order(reference_result, result)
        masks = reference_result["masks"][:, 0].numpy() > 0.5
        unequal = (masks != result.dense()).sum()
        assert unequal <= 0.001 * masks.sum() + 1


def test_keypoints__equal_torchvision():
    reference, task, model = make_pair("keypoints", 0.3)
    expected, results = predict_both(reference, task, model, 0.3)
    assert sum(len(one["boxes"]) for one in expected) > 0
    for reference_result, result in zip(expected, results):
        result = match_order(reference_result, result)
        # If two cells of a heatmap are equal up to rounding, either may be its peak.
        distance = np.abs(result.keypoints[..., :2] - reference_result["keypoints"][..., :2].numpy()).max(-1, initial=0)
        assert np.mean(distance < 0.02) > 0.97 if distance.size else True
        assert np.allclose(result.keypoint_scores, reference_result["keypoints_scores"].numpy(), atol=1e-3)


def test_masks__without_detections():
    reference, task, model = make_pair("v1", 0.999)
    expected, results = predict_both(reference, task, model, 0.999)
    assert [len(one["boxes"]) for one in expected] == [len(one) for one in results] == [0, 0, 0]


def predict_both(reference: nn.Module, task: Instance, model: nn.Module, score_threshold: float):
    images = [image(size, seed) for seed, size in enumerate(SIZES)]
    with torch.inference_mode():
        expected = reference.eval()([torch.from_numpy(one).permute(2, 0, 1).float() / 255 for one in images])
        options = PredictOptions(score_threshold=score_threshold)
        inputs, views = prepare_inputs([Sample({"image": one}) for one in images], task.input_spec)
        outputs = model.eval()(**inputs, **task.forward_kwargs(options))
    return expected, task.decode(outputs, views, options)


def match_order(reference: dict, result: Instances) -> Instances:
    """Our objects in torchvision's order: objects whose scores are equal up to rounding may be swapped."""
    assert len(result) == len(reference["boxes"])
    rows = []
    for box, score, label in zip(*(reference[name].numpy() for name in ("boxes", "scores", "labels"))):
        same = (
            (np.abs(result.boxes - box).max(1) < 0.01)
            & (np.abs(result.scores - score) < 1e-4)
            & (result.labels + 1 == label)
        )
        same[rows] = False
        assert same.any(), f"no counterpart of {label} at {box}, {score}"
        rows.append(int(same.argmax()))
    return result[np.array(rows, int)]


@pytest.mark.parametrize("kind", ["v1", "v2", "keypoints"])
def test_losses__of_the_same_samples_equal_torchvision(kind):
    reference, task, model = make_pair(kind, 0.05)
    samples = [Sample({"image": image(size, seed)}, truth(task, size, seed)) for seed, size in enumerate(SIZES[:2])]
    batch = Collate(task)(samples)
    # Laid out as torchvision does it: proposals of random weights are so alike that rounding decides which are drawn.
    batch = replace(batch, inputs={name: tensor.contiguous() for name, tensor in batch.inputs.items()})
    reference.train()
    reference.transform._skip_resize = True
    images, targets = to_torchvision(task, batch)
    torch.manual_seed(3)
    expected = reference(images, targets)
    torch.manual_seed(3)
    losses = task.compute_losses(model.train(), batch, None, "net")
    names = {
        "objectness": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "class": "loss_classifier",
        "box": "loss_box_reg",
        "mask": "loss_mask",
        "keypoint": "loss_keypoint",
    }
    assert {names[name] for name in losses} == expected.keys()
    for name, value in losses.items():
        assert torch.isclose(value, expected[names[name]], rtol=1e-3, atol=1e-5), name


def truth(task: Instance, size: tuple[int, int], seed: int) -> Instances:
    rng = np.random.default_rng(seed)
    corner = rng.random((3, 2)) * 0.5 * size[::-1]
    boxes = np.concatenate([corner, corner + 8 + rng.random((3, 2)) * 0.4 * size[::-1]], 1).round()
    names = task.config.classes
    fields = {}
    if task.config.has_masks:
        masks = np.zeros((3, *size), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int)):
            mask[y1:y2, x1:x2] = rng.random((y2 - y1, x2 - x1))[: size[0] - y1, : size[1] - x1] > 0.3
        fields = {"masks": tuple(encode(mask) for mask in masks)}
        fields["areas"] = compute_areas(fields["masks"])
    if task.config.has_keypoints:
        points = boxes[:, None, :2] + rng.random((3, 5, 2)) * (boxes[:, None, 2:] - boxes[:, None, :2])
        fields["keypoints"] = np.dstack([points, rng.integers(0, 3, (3, 5))]).astype(np.float32)
    return Instances.from_arrays(boxes, rng.integers(0, len(names), 3), names, size, **fields)


def to_torchvision(task: Instance, batch) -> tuple[list, list]:
    """The same images and ground truths on the same canvas, in torchvision's format."""
    images, targets = [], []
    for row, (image, size) in enumerate(zip(batch.inputs["image"], batch.inputs["size"].long().tolist())):
        images.append(image[:, : size[0], : size[1]])
        count = int(batch.targets["valid"][row].sum())
        target = {"boxes": batch.targets["boxes"][row, :count], "labels": batch.targets["labels"][row, :count] + 1}
        if task.config.has_masks:
            target["masks"] = batch.targets["masks"][row, :count].to(torch.uint8)
        if task.config.has_keypoints:
            target["keypoints"] = batch.targets["keypoints"][row, :count]
        targets.append(target)
    return images, targets
