"""LPIPS: how different two images look to a network that knows images.

Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018, eq. 1, version
0.1 of its published linear layers, which torchmetrics brings.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from densevision.errors import WeightsError
from densevision.io.checkpoint import read_state

TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Network -> the layers of torchvision's AlexNet and VGG-16 whose outputs are compared."""
FIRST = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
"""Shape of the first convolution -> the network."""
LEAST = {"alex": 64, "vgg": 16}
"""Side in pixels below which an image is too small for the network."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""What the authors take off images in [-1, 1], and divide them by, per channel."""
EPSILON = 1e-8


class LPIPS(nn.Module):
    """The weighted squared difference of unit features, summed over layers; 0 for equal images.

    Args:
        features: torchvision's feature layers.
        taps: The layers whose outputs are compared.
        weights: (1, C, 1, 1) of each, not negative.
        least: Side of the smallest image.
    """

    def __init__(self, features: nn.Sequential, taps: tuple[int, ...], weights: list[Tensor], least: int):
        super().__init__()
        # Later layers would write into what was kept.
        self.features = nn.Sequential(*(nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in features))
        self.taps, self.weights, self.least = taps, weights, least
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Two batches (B, 3, H, W) in [0, 1] to (B,) distances."""
        pairs = zip(self._unit_features(one), self._unit_features(other))
        layers = [
            ((a - b).square() * weight).sum(1).mean((1, 2)) for (a, b), weight in zip(pairs, self.weights, strict=True)
        ]
        return torch.stack(layers).sum(0)

    def of_images(self, one: np.ndarray, other: np.ndarray) -> float:
        """The distance of (H, W, 1 or 3) images in [0, 1]; NaN where they are too small or not known everywhere."""
        if min(one.shape[:2]) < self.least or not (np.isfinite(one).all() and np.isfinite(other).all()):
            return float("nan")
        batch = [
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32))[None].expand(1, 3, -1, -1)
            for image in (one, other)
        ]
        return float(self(*batch))

    def _unit_features(self, image: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (SHIFT, SCALE))
        x, found = (image * 2 - 1 - shift) / scale, []
        for number, layer in enumerate(self.features[: self.taps[-1] + 1]):
            x = layer(x)
            if number in self.taps:
                found.append(x / (x.square().sum(1, keepdim=True) + EPSILON).sqrt())
        return found


@lru_cache(maxsize=2)
def open_lpips(path: str) -> LPIPS:
    """LPIPS in the features of a weights file: torchvision's AlexNet or VGG-16, `.pth` or `.safetensors`.

    Raises:
        WeightsError: The file is missing, cannot be read, or is of another network.
    """
    from torchvision import models

    hint = "Give torchvision's alexnet-owt-7be5be79.pth or vgg16-397923af.pth as quality.lpips."
    tensors = read_state(Path(path), hint)
    first = tensors.get("features.0.weight")
    name = FIRST.get(tuple(first.shape)) if first is not None else None
    if name is None:
        raise WeightsError("neither AlexNet nor VGG-16", file=path, field="quality.lpips", hint=hint)
    network = {"alex": models.alexnet, "vgg": models.vgg16}[name](weights=None).features
    own = {key.removeprefix("features."): tensor for key, tensor in tensors.items() if key.startswith("features.")}
    try:
        network.load_state_dict(own)
    except RuntimeError as failure:
        problem = f"not all of its layers: {str(failure).splitlines()[-1].strip()}"
        raise WeightsError(problem, file=path, field="quality.lpips", hint=hint) from None
    published = resources.files("torchmetrics") / "functional" / "image" / "lpips_models" / f"{name}.pth"
    with resources.as_file(published) as file:
        linear = torch.load(file, map_location="cpu", weights_only=True)
    weights = [linear[f"lin{number}.model.1.weight"] for number in range(len(TAPS[name]))]
    return LPIPS(network, TAPS[name], weights, LEAST[name])
