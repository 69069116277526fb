"""Bicubic baselines on Set5 as papers state them: they depend on the downscaling, the interpolation and the metric."""

from __future__ import annotations

from pathlib import Path

import pytest

from densevision import api

pytestmark = [pytest.mark.parity, pytest.mark.realdata]


@pytest.mark.parametrize(("scale", "psnr", "ssim"), [(2, 33.66, 0.9299), (3, 30.39, 0.8682), (4, 28.42, 0.8104)])
def test_bicubic__reaches_the_published_baselines(scale: int, psnr: float, ssim: float, real_data: Path):
    """Source: Kim et al., VDSR, CVPR 2016, table 3."""
    report = api.evaluate("superres", real_data / "data/sr/Set5", "bicubic", overrides={"scale": scale})
    assert report.metrics[f"PSNR_Y_crop{scale}"] == pytest.approx(psnr, abs=0.02)
    assert report.metrics[f"SSIM_Y_crop{scale}"] == pytest.approx(ssim, abs=0.003)
