"""Published names from an image file's pixels to the result, against the whole pipeline of their publisher.

Random weights in the publisher's own class and layout go through `convert`; the publisher's preprocessing and
postprocessing are those of the library that serves the weights. Depth Anything, torchvision's detectors, RAFT and
spandrel have such tests in their own files.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dfine_case import reference_model
from random_norms import randomize_norms
from torch import nn
from torchvision.models import segmentation
from torchvision.transforms._presets import SemanticSegmentation

from densevision.inference.predictor import TorchPredictor, load_torch
from densevision.published_weights import convert_weights
from densevision.run_config import PredictOptions
from densevision.sample import Sample, prepare_inputs
from densevision.tasks.detection.models import MODELS
from densevision.tasks.detection.models.yolox import YOLOX

pytestmark = pytest.mark.parity

OPTIONS = {"precision": "float32", "device": "cpu"}


def make_image(height: int, width: int) -> np.ndarray:
    """Smooth and sharp structures, whose resized pixels depend on the interpolation."""
    rng = np.random.default_rng(0)
    y, x = np.indices((height, width))
    image = 127 + 60 * np.sin(x / 7)[..., None] + 60 * np.cos(y / 5)[..., None] + rng.normal(0, 30, (height, width, 3))
    image[height // 3 : height // 2, width // 4 : width // 2] = (220, 40, 90)
    return image.clip(0, 255).astype(np.uint8)


def convert(name: str, network: nn.Module, folder: Path) -> Path:
    """A file of densevision from the publisher's network."""
    torch.save(network.state_dict(), folder / "published.pth")
    convert_weights(name, folder / "published.pth", folder / "converted.safetensors")
    return folder / "converted.safetensors"


def randomize(network: nn.Module) -> nn.Module:
    """Norm statistics and weights that keep a spread of outputs."""
    torch.manual_seed(0)
    return randomize_norms(network)


@pytest.mark.parametrize("size", [(90, 150), (200, 130)])
def test_dfine__equals_transformers_image_processor_and_model(size: tuple[int, int], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    network = reference_model("nano", MODELS["dfine_n"].arguments["encoder"], num_labels=80, num_queries=300)
    predictor = load_torch(convert("dfine/nano", network, tmp_path))
    predictor.configure({"data.size": 320})
    image = make_image(*size)
    processor = transformers.RTDetrImageProcessor(size={"height": 320, "width": 320})
    with torch.inference_mode():
        outputs = network(**processor(image, return_tensors="pt"))
    (expected,) = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[size])
    result = predictor.predict(image, score_threshold=0.0, max_detections=300, **OPTIONS)
    count = 50  # the last of 300 depend on the order of nearly equal scores
    assert expected["scores"].std() > 1e-3
    np.testing.assert_allclose(result.scores[:count], expected["scores"][:count].numpy(), atol=1e-4)
    boxes = expected["boxes"].numpy().clip(0, (*size[::-1], *size[::-1]))[:count]
    np.testing.assert_allclose(result.boxes[:count], boxes, atol=0.02)


@pytest.mark.parametrize("size", [(90, 150), (700, 500), (416, 416), (37, 411)])
def test_yolox__canvas_equals_its_preprocessing(size: tuple[int, int]) -> None:
    """The network and its losses are compared in test_yolox.py."""
    data_augment = pytest.importorskip("yolox.data.data_augment")
    image = make_image(*size)
    expected, ratio = data_augment.preproc(image[..., ::-1], (416, 416))
    spec = YOLOX(**{**MODELS["yolox_nano"].arguments, "image_size": 416}).input_spec
    inputs, (view,) = prepare_inputs([Sample({"image": image})], spec)
    np.testing.assert_allclose(inputs["image"][0].flip(0).numpy() * 255, expected, atol=1e-4)
    np.testing.assert_allclose(view.scale, ratio, atol=1 / min(size))


@pytest.mark.parametrize("size", [(120, 170), (600, 540)])
def test_torchvision_segmentation__equals_its_transform_and_model(size: tuple[int, int], tmp_path: Path) -> None:
    """Images keep their size unless the option asks for the side of torchvision's evaluation."""
    network = randomize(segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None))
    predictor = load_torch(convert("torchvision/lraspp_mobilenet_v3_large", network, tmp_path))
    image = make_image(*size)
    with torch.inference_mode():
        expected = network(SemanticSegmentation(resize_size=None)(torch.from_numpy(image).permute(2, 0, 1))[None])
    compare_maps(predictor, image, expected["out"].softmax(1))
    predictor.configure({"model.shorter_side": 520})
    inputs = SemanticSegmentation(resize_size=520)(torch.from_numpy(image).permute(2, 0, 1))
    with torch.inference_mode():
        expected = network(inputs[None])["out"].softmax(1)
    compare_maps(predictor, image, expected)


def test_smp__equals_albumentations_and_model(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    options = {"decoder_segmentation_channels": 256, "classes": 150, "encoder_weights": None}
    network = smp.Segformer("mit_b0", **options).eval()
    predictor = load_torch(convert("smp-hub/segformer-b0-512x512-ade-160k", network, tmp_path))
    image = make_image(300, 700)
    # albumentations' Resize is OpenCV's, its Normalize that of ImageNet.
    resized = cv2.resize(image, (512, 512), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    inputs = (resized - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    with torch.inference_mode():
        expected = network(torch.from_numpy(inputs.astype(np.float32)).permute(2, 0, 1)[None]).softmax(1)
    compare_maps(predictor, image, expected)


def compare_maps(predictor: TorchPredictor, image: np.ndarray, expected: torch.Tensor) -> None:
    """Compares probabilities on the canvas, and the classes of the image's pixels after linear interpolation."""
    inputs, _ = prepare_inputs([Sample({"image": image})], predictor.task.input_spec)
    options = PredictOptions(**OPTIONS)
    probabilities = predictor.predict_tensors(inputs, options)["probabilities"]
    assert expected.std() > 1e-4 and probabilities.shape == expected.shape
    assert (probabilities - expected).abs().max() < 1e-3
    height, width = image.shape[:2]
    is_shrunk = height < expected.shape[-2]
    resized = F.interpolate(expected, (height, width), mode="bilinear", align_corners=False, antialias=is_shrunk)
    labels = predictor.predict(image, **OPTIONS).labels
    assert (labels == resized[0].argmax(0).numpy()).mean() > 0.999
