"""The complete two-stage network as one ONNX graph: the same objects as PyTorch's on images of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from densevision.datasets.scenes import Scenes
from densevision.exporting.export import export
from densevision.exporting.exported_predictor import load_exported
from densevision.inference.loader import Collate
from densevision.inference.predictor import TorchPredictor
from densevision.results import Instances
from densevision.tasks.instance.config import InstanceConfig
from densevision.tasks.instance.task import Instance
from densevision.training.train import make_card

pytestmark = [pytest.mark.export, pytest.mark.slow]

TINY = {
    "data.path": "scenes:8:0",
    "data.size": 96,
    "model.max_size": 192,
    "backbone.name": "mobilenetv2_050",
    "model.fpn_channels": 16,
    "model.encoder_strides": [8, 16, 32],
    "model.anchor_sizes": [16, 32, 64, 96],
    "model.rpn_pre_nms_top_n_test": 60,
    "model.rpn_post_nms_top_n_test": 40,
    "model.box_hidden": [32],
    "model.mask_channels": 16,
    "model.mask_convs": 1,
    "model.max_candidates": 60,
    "decode.max_detections": 12,
}
SIZES = ((96, 96), (61, 137), (150, 80), (33, 200), (24, 24))


@pytest.fixture(scope="module")
def model() -> TorchPredictor:
    """Random weights with norms that fit them, and last layers whose outputs differ between proposals."""
    torch.manual_seed(0)
    task = Instance(Instance.infer_from_data(InstanceConfig.resolve(None, TINY)))
    network, samples = task.build_model(), task.open_dataset("train")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(**Collate(task)([samples[index] for index in range(4)]).inputs)
        for layer in (network.head.box.cls_score, network.head.box.bbox_pred):
            layer.weight.mul_(100)
    return TorchPredictor(task, network.eval(), make_card(task.config, 1))


@pytest.fixture(scope="module")
def file(model, tmp_path_factory) -> Path:
    pytest.importorskip("onnxruntime")
    return export(model, tmp_path_factory.mktemp("exports") / "instance.onnx")


def assert_same(results: list[Instances], exported: list[Instances]) -> int:
    for one, other in zip(results, exported, strict=True):
        np.testing.assert_array_equal(other.labels, one.labels)
        np.testing.assert_allclose(other.boxes, one.boxes, atol=0.01)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)
        differing = (one.dense() != other.dense()).sum()
        assert differing <= 0.001 * one.dense().sum() + 1
    return sum(map(len, results))


def test_onnx__objects_equal_pytorchs_for_any_size(model, file):
    images = [Scenes(1, seed, size)[0].image for seed, size in enumerate(SIZES)]
    options = {"score_threshold": model.task.config.decode.eval_score_threshold}
    results = model.predict(images, **options, precision="float32")
    assert assert_same(results, load_exported(file, "instance").predict(images, **options)) > 10


def test_onnx__one_graph_with_free_batch_and_canvas(file):
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    axes = {value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in graph.input}  # fmt: skip
    assert axes["image"] == ["batch", 3, "height", "width"] and axes["size"] == ["batch", 2]
    assert {value.name for value in graph.output} == {"boxes", "scores", "labels", "valid", "masks"}
