"""imresize compared with Keys' cubic computed by hand, with Pillow, and with itself mirrored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densevision.ops.imresize import _compute_phases, enlarge, imresize


def line(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def test_imresize__weights_of_halving_are_the_antialiased_cubic():
    """Keys' cubic, stretched to twice its width and sampled at half pixels, normalized."""
    impulse = torch.eye(32, dtype=torch.float64).reshape(32, 1, 1, 32)
    row = imresize(impulse, (1, 16))[:, 0, 0, 8]
    x = (torch.arange(32, dtype=torch.float64) - 16.5).abs() / 2
    keys = torch.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    keys = torch.where(x < 2, keys, 0.0)
    torch.testing.assert_close(row, keys / keys.sum(), atol=1e-12, rtol=0)
    expected = [-0.01171875, -0.03515625, 0.11328125, 0.43359375, 0.43359375, 0.11328125, -0.03515625, -0.01171875]
    np.testing.assert_allclose(row[13:21], expected, atol=1e-12)


def test_enlarge__edge_by_hand():
    """imresize([0 0 1 1], 2): the cubic at distances of 1/4, 3/4, 5/4 and 7/4, mirrored ends."""
    expected = [0, -0.0234375, -0.0703125, 0.203125, 0.796875, 1.0703125, 1.0234375, 1]
    np.testing.assert_allclose(enlarge(line(0, 0, 1, 1), 2)[0, 0, 0], expected, atol=1e-12)


@pytest.mark.parametrize("kernel", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_enlarge__equals_imresize(scale: int, kernel: str):
    image = torch.rand(2, 3, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = imresize(image, (9 * scale, 7 * scale), kernel)
    torch.testing.assert_close(enlarge(image, scale, kernel), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 1), (2, 3)])
def test_enlarge__tiny_images_are_padded_by_reflection(size: tuple[int, int]):
    image = torch.rand(1, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = imresize(image, (4 * size[0], 4 * size[1]))
    torch.testing.assert_close(enlarge(image, 4), expected, atol=1e-12, rtol=0)


def test_imresize__preserves_constants_and_commutes_with_mirroring():
    image = torch.rand(1, 2, 17, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    small = imresize(image, (6, 8))
    torch.testing.assert_close(imresize(image.flip(-1), (6, 8)).flip(-1), small)
    torch.testing.assert_close(imresize(torch.ones_like(image), (6, 8)), torch.ones_like(small))


def test_imresize__equals_pillow_inside():
    """Pillow's antialiased bicubic has the same kernel, but another treatment of edges."""
    from PIL import Image

    pixels = np.random.default_rng(0).random((48, 60), np.float32)
    pillow = np.asarray(Image.fromarray(pixels).resize((20, 16), Image.Resampling.BICUBIC))
    result = imresize(torch.from_numpy(pixels)[None, None], (16, 20))[0, 0].numpy()
    np.testing.assert_allclose(result[3:-3, 3:-3], pillow[3:-3, 3:-3], atol=1e-5)


def test_enlarge__exports_for_any_size():
    class Twice(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return enlarge(image, 2)

    _compute_phases.cache_clear()  # as in a new process
    auto = torch.export.Dim.AUTO
    program = torch.export.export(Twice(), (torch.rand(1, 3, 8, 9),), dynamic_shapes={"image": {2: auto, 3: auto}})
    for size in ((21, 5), (2, 3)):
        other = torch.rand(1, 3, *size)
        torch.testing.assert_close(program.module()(other), enlarge(other, 2))
