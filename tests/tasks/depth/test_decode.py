"""From the network's numbers to the image's: cameras, sizes, mirrors and tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densevision.errors import DataError, UsageError
from densevision.ops.view import View
from densevision.results import DepthMap
from densevision.results.depth_map import Camera
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks.depth import postprocess
from densevision.tasks.depth.augment import augment_sample
from densevision.tasks.depth.config import DepthAugment, DepthConfig
from densevision.tasks.depth.task import Depth
from densevision.tasks.depth.units import collate_targets, convert_to_target

PLAIN = DepthAugment(hue=0.0, saturation=0.0, value=0.0, blur=0.0, gray=0.0, flip=0.0)
PAIRS = {"loss.silog": 0.0, "loss.photometric": 1.0, "camera.focal": 200.0, "camera.baseline": 0.5, "max_depth": 64.0}


def config(**settings) -> DepthConfig:
    return DepthConfig.resolve(None, {name.replace("__", "."): value for name, value in settings.items()})


def predicted(task: Depth, depth: torch.Tensor, size: tuple[int, int], **options) -> DepthMap:
    view = task.input_spec["image"].view(size)
    chosen = PredictOptions(**options)
    (record,) = task.to_results({"depth": depth.expand(1, 1, *view.size)}, [view], chosen)
    return record


def test_zoom__halves_what_the_network_says_of_meters() -> None:
    truth = DepthMap.from_arrays(np.full((40, 40), 4.0), camera=Camera(100.0))
    wanted = config(camera__focal=100.0)
    zoomed = truth.warp(np.array([[2.0, 0, 0], [0, 2, 0]]), (80, 80))
    np.testing.assert_allclose(convert_to_target(zoomed, wanted)[0], 2.0)
    sample = Sample({"image": np.zeros((40, 40, 3), np.uint8)}, truth)
    crop = augment_sample(replace_scale(1.6), sample, np.random.default_rng(0), (32, 32)).truth
    np.testing.assert_allclose(convert_to_target(crop, wanted)[0][crop.valid], 4 / 1.6, rtol=1e-5)


def replace_scale(scale: float) -> DepthAugment:
    return PLAIN.replace(scale=(scale, scale))


def test_focal__of_another_camera_scales_meters_back() -> None:
    task = Depth(config(camera__focal=100.0))
    record = predicted(task, torch.tensor(2.0), (64, 64), focal_length=200.0)
    np.testing.assert_allclose(record.depth, 4.0)
    assert record.camera.focal == 200 and record.max == 20
    assert predicted(task, torch.tensor(2.0), (64, 64)).depth[0, 0] == 2


def test_shorter__predictions_in_the_images_own_size_and_pixels() -> None:
    task = Depth(config(output="disparity", data__shorter=64, data__size=64, camera__focal=50.0))
    record = predicted(task, torch.tensor(8.0), (128, 160))
    assert record.size == (128, 160) and record.unit == "px"
    np.testing.assert_allclose(record.depth, 16.0)
    assert record.camera.focal == pytest.approx(100.0)


def test_pairs__metric_predictions_use_focal_length_and_baseline() -> None:
    task = Depth(config(**{**{name.replace(".", "__"): value for name, value in PAIRS.items()}}))
    record = predicted(task, torch.tensor(10.0), (64, 96))
    assert (record.kind, record.unit) == ("metric", "m")
    np.testing.assert_allclose(record.depth, 200 * 0.5 / 10, rtol=1e-5)
    np.testing.assert_allclose(predicted(task, torch.tensor(10.0), (64, 96), focal_length=400.0).depth, 20, rtol=1e-5)


def test_pairs__missing_calibration_is_named(tmp_path) -> None:
    import cv2

    for eye in ("left", "right"):
        (tmp_path / "train" / eye).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "train" / eye / "0.png"), np.zeros((32, 48), np.uint8))
    settings = {"loss.silog": 0.0, "loss.photometric": 1.0, "data.path": str(tmp_path)}
    with pytest.raises(DataError, match=r"camera\.focal"):
        Depth.infer_from_data(DepthConfig.resolve(None, settings))


def test_mirror__each_view_counts_where_it_knows_better() -> None:
    pairs = config(output="disparity", **{name.replace(".", "__"): value for name, value in PAIRS.items()})
    view = View((8, 100), (8, 100))
    ramp = torch.arange(100.0).expand(1, 1, 8, 100)
    direct = postprocess.to_image_space({"depth": ramp}, view, False, pairs)
    mirror = postprocess.to_image_space({"depth": ramp.flip(-1) + 40}, view, True, pairs)
    torch.testing.assert_close(direct["weight"] + mirror["weight"], torch.ones_like(ramp))
    blend = {name: (direct[name] + mirror[name]) / 2 for name in direct}
    (record,) = postprocess.to_results(blend, [view], Depth(pairs).input_spec["image"], PredictOptions(), pairs)
    np.testing.assert_allclose(record.depth[0, 50], 70)
    # The left rim is the mirrored look's, the right rim the direct one's.
    np.testing.assert_allclose(record.depth[0, [0, 99]], [40, 99], atol=0.1)


def test_align__brings_a_tile_back_to_the_whole_image() -> None:
    free = config(output="disparity", loss__silog=0.0, loss__ssi=1.0)
    guide = {"depth": torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0)) + 1}
    tile = {"depth": 0.2 * guide["depth"] + 3}
    torch.testing.assert_close(
        postprocess.align_to_reference(tile, guide, free)["depth"], guide["depth"], atol=1e-4, rtol=0
    )
    flat = {"depth": torch.full((1, 1, 9, 9), 4.0)}
    assert postprocess.align_to_reference(flat, guide, free)["depth"].mean() == pytest.approx(
        float(guide["depth"].mean()), rel=1e-4
    )
    relative = config(output="relative", loss__silog_variance=1.0)
    torch.testing.assert_close(
        postprocess.align_to_reference({"depth": 7 * guide["depth"]}, guide, relative)["depth"], guide["depth"]
    )


def test_truth_in_disparity__needs_calibration_for_meters() -> None:
    disparity = DepthMap.from_arrays(np.full((2, 2), 5.0), kind="disparity", unit="px")
    with pytest.raises(DataError, match="baseline"):
        convert_to_target(disparity, config())
    known = replace(disparity, camera=Camera(100.0, baseline=0.5))
    np.testing.assert_allclose(convert_to_target(known, config())[0], 10.0)


def test_stack__sizes_and_absent_target_records() -> None:
    target_records = [DepthMap.from_arrays(np.full((2, 3), 4.0)), None, DepthMap.from_arrays(np.full((4, 1), 5.0))]
    found = collate_targets(target_records, config())
    assert found["depth"].shape == (3, 1, 4, 3) and found["valid"].sum() == 10 and not found["valid"][1].any()


def test_focal__with_tiles_of_resized_windows_is_refused() -> None:
    task = Depth(config(camera__focal=100.0, data__shorter=64, data__size=64))
    with pytest.raises(UsageError, match="zoom"):
        predicted(task, torch.tensor(2.0), (64, 64), focal_length=200.0, tile=64)
