"""LPIPS: a perceptual distance between images in the features of a pretrained network.

Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018, eq. 1, with
version 0.1 of the published linear layers, which torchmetrics ships.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from densevision.errors import WeightsError
from densevision.io.checkpoint import read_state_dict

__all__ = ["LPIPS", "load_lpips"]

TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Network -> the layers of torchvision's AlexNet and VGG-16 whose outputs are compared."""
NETWORK_BY_SHAPE: dict[tuple[int, ...], str] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
"""Shape of the first convolution -> the network."""
MIN_SIDE = {"alex": 64, "vgg": 16}
"""Minimum height and width of an image, in pixels."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and standard deviation, per channel, by which the authors normalize images in [-1, 1]."""
EPSILON = 1e-8


class LPIPS(nn.Module):
    """The weighted squared difference of normalized features, summed over layers; 0 for equal images.

    Args:
        features: torchvision's feature layers.
        taps: Indices of the layers whose outputs are compared.
        weights: (1, C, 1, 1) of each of these layers, at least 0.
        min_side: Minimum height and width of an image, in pixels.
    """

    def __init__(self, features: nn.Sequential, taps: tuple[int, ...], weights: list[Tensor], min_side: int):
        super().__init__()
        # In-place activations would overwrite the outputs that are compared.
        self.features = nn.Sequential(*(nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in features))
        self.taps, self.weights, self.min_side = taps, weights, min_side
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, batch_a: Tensor, batch_b: Tensor) -> Tensor:
        """Two batches (B, 3, H, W) in [0, 1] to (B,) distances."""
        pairs = zip(self._compute_features(batch_a), self._compute_features(batch_b))
        layers = [
            ((a - b).square() * weight).sum(1).mean((1, 2)) for (a, b), weight in zip(pairs, self.weights, strict=True)
        ]
        return torch.stack(layers).sum(0)

    def compare_images(self, image_a: np.ndarray, image_b: np.ndarray) -> float:
        """The distance of two (H, W, 1 or 3) images in [0, 1]; NaN if they are too small or have unknown pixels."""
        if min(image_a.shape[:2]) < self.min_side or not (np.isfinite(image_a).all() and np.isfinite(image_b).all()):
            return float("nan")
        batches = [
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))[None].expand(1, 3, -1, -1)
            for image in (image_a, image_b)
        ]
        return float(self(*batches))

    def _compute_features(self, image: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (SHIFT, SCALE))
        x, features = (image * 2 - 1 - shift) / scale, []
        for index, layer in enumerate(self.features[: self.taps[-1] + 1]):
            x = layer(x)
            if index in self.taps:
                features.append(x / (x.square().sum(1, keepdim=True) + EPSILON).sqrt())
        return features


@lru_cache(maxsize=2)
def load_lpips(path: str) -> LPIPS:
    """LPIPS on the features of a weights file: torchvision's AlexNet or VGG-16, `.pth` or `.safetensors`.

    Raises:
        WeightsError: The file is missing, unreadable, or holds another network.
    """
    from torchvision import models

    hint = "Give torchvision's alexnet-owt-7be5be79.pth or vgg16-397923af.pth as quality.lpips."
    tensors = read_state_dict(Path(path), hint)
    first_layer = tensors.get("features.0.weight")
    name = NETWORK_BY_SHAPE.get(tuple(first_layer.shape)) if first_layer is not None else None
    if name is None:
        raise WeightsError("holds neither AlexNet nor VGG-16", file=path, field="quality.lpips", hint=hint)
    network = {"alex": models.alexnet, "vgg": models.vgg16}[name](weights=None).features
    state = {key.removeprefix("features."): tensor for key, tensor in tensors.items() if key.startswith("features.")}
    try:
        network.load_state_dict(state)
    except RuntimeError as failure:
        problem = f"the layers do not match: {str(failure).splitlines()[-1].strip()}"
        raise WeightsError(problem, file=path, field="quality.lpips", hint=hint) from None
    published = resources.files("torchmetrics") / "functional" / "image" / "lpips_models" / f"{name}.pth"
    with resources.as_file(published) as file:
        linear = torch.load(file, map_location="cpu", weights_only=True)
    weights = [linear[f"lin{index}.model.1.weight"] for index in range(len(TAPS[name]))]
    return LPIPS(network, TAPS[name], weights, MIN_SIDE[name])
