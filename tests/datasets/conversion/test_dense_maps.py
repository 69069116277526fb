"""Round trips of depth and optical flow between the layouts of public datasets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from convert_program import run_program

from densevision.datasets.conversion import ConversionReport, convert_dataset
from densevision.datasets.conversion.dense_maps import read_frames, read_pairs
from densevision.datasets.flow_targets import read_flow_field
from densevision.errors import DataError, UsageError
from densevision.io.depth import read_depth, write_depth
from densevision.io.flow import write_flow
from densevision.io.image import read_image, write_image


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    """Depth in multiples of 1/8 m, exact in steps of 1/256, 1/1000 and 1/5000 m, with unknown pixels."""
    root = tmp_path / "depth"
    for split, seeds in (("train", range(4)), ("val", range(4, 6))):
        for seed in seeds:
            rng = np.random.default_rng(seed)
            meters = rng.integers(1, 80, (20, 30)).astype(np.float32) / 8
            meters[:3] = 0
            write_image(root / split / "rgb" / f"{seed}.png", image(seed))
            (root / split / "depth").mkdir(parents=True, exist_ok=True)
            write_depth(root / split / "depth" / f"{seed}.npy", meters, meters > 0)
    (root / "intrinsics.txt").write_text("50 0 14.5\n0 50 9.5\n0 0 1\n")
    return root


def read_maps(path: Path) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Reads images and depth of each split, in order."""
    return {
        split: [(read_image(frame.image), read_depth(frame.truth, frame.scale).depth) for frame in frames]
        for split, frames in read_frames(str(path), None, ConversionReport()).items()
    }


@pytest.mark.parametrize("to", ["kitti-depth", "nyu", "tum"])
def test_depth__round_trip(to: str, depth, tmp_path) -> None:
    report = convert_dataset(depth, tmp_path / "there", to)
    before, after = read_maps(depth), read_maps(tmp_path / "there")
    assert before.keys() == after.keys()
    for split in before:
        assert len(before[split]) == len(after[split])
        for (image, meters), (image_after, meters_after) in zip(before[split], after[split]):
            np.testing.assert_array_equal(image, image_after)
            np.testing.assert_allclose(meters, meters_after, atol=1e-6)
    assert not any("rounded" in line or "clipped" in line for line in report.format_lines())
    camera = next(iter(read_frames(str(tmp_path / "there"), None, ConversionReport())["train"])).camera
    assert to == "tum" or (camera.focal, camera.principal) == (50, (15, 10))
    assert to != "tum" or report.counts["focal lengths"] == 6


@pytest.mark.parametrize("to", ["kitti-depth", "nyu"])
def test_depth__principal_point_defaults_to_the_center(to: str, tmp_path) -> None:
    folder = tmp_path / "a/chess/seq-01"
    write_image(folder / "frame-000000.color.png", image(0))
    write_depth(folder / "frame-000000.depth.png", np.full((20, 30), 4.0), scale=1000)
    convert_dataset(tmp_path / "a", tmp_path / "b", to)
    (frame,) = read_frames(str(tmp_path / "b"), None, ConversionReport())["train"]
    assert (frame.camera.focal, frame.camera.principal) == (585, (15, 10))


def test_depth__images_outside_the_test_folder_train(tmp_path) -> None:
    for number, scene in enumerate(("kitchen", "test/bath")):
        write_image(tmp_path / "a" / scene / "rgb_00000.png", image(number))
        write_depth(tmp_path / "a" / scene / "sync_depth_00000.png", np.full((20, 30), 4.0), scale=1000)
    convert_dataset(tmp_path / "a", tmp_path / "b", "tum")
    assert {split: len(rows) for split, rows in read_maps(tmp_path / "b").items()} == {"train": 1, "val": 1}


@pytest.mark.parametrize(("first", "second"), [("kitti-depth", "tum"), ("tum", "kitti-depth"), ("nyu", "tum")])
def test_depth__between_the_three(first: str, second: str, depth, tmp_path) -> None:
    convert_dataset(depth, tmp_path / "a", first)
    convert_dataset(tmp_path / "a", tmp_path / "b", second)
    convert_dataset(tmp_path / "b", tmp_path / "c", first)
    for rows, again in zip(read_maps(tmp_path / "a").values(), read_maps(tmp_path / "c").values()):
        for (_, meters), (_, meters_after) in zip(rows, again):
            np.testing.assert_allclose(meters, meters_after, atol=1e-6)


def test_depth__clipped_and_rounded_values(depth, tmp_path) -> None:
    """5000 steps per meter end at 13.1 m; thirds of a meter are rounded by less than a step."""
    meters = np.full((20, 30), 1 / 3, np.float32)
    meters[0] = 20
    write_depth(depth / "train" / "depth" / "0.npy", meters)
    report = convert_dataset(depth, tmp_path / "there", "tum")
    assert report.counts["pixels farther than 13.1 m, clipped"] == 30
    assert report.counts["pixels rounded to 1/5000 m"] == 19 * 30
    (_, after), *_ = read_maps(tmp_path / "there")["train"]
    np.testing.assert_allclose(after[1:], meters[1:], atol=0.5 / 5000)


def test_depth__disparity_without_calibration(tmp_path) -> None:
    for name in ("left", "right"):
        write_image(tmp_path / "a" / name / "0.png", image(0))
    (tmp_path / "a" / "disparity").mkdir()
    write_depth(tmp_path / "a" / "disparity" / "0.pfm", np.full((20, 30), 4.0))
    with pytest.raises(DataError, match="calibration"):
        convert_dataset(tmp_path / "a", tmp_path / "out", "tum")
    assert not (tmp_path / "out").exists()


def test_depth__middlebury_pairs_become_meters(tmp_path) -> None:
    scene = tmp_path / "a" / "scene"
    for name in ("im0.png", "im1.png"):
        write_image(scene / name, image(0))
    write_depth(scene / "disp0.pfm", np.full((20, 30), 4.0))
    (scene / "calib.txt").write_text("cam0=[50 0 14.5; 0 50 9.5; 0 0 1]\nbaseline=200\ndoffs=1\n")
    report = convert_dataset(tmp_path / "a", tmp_path / "kitti", "kitti-depth")
    (frame,) = read_frames(str(tmp_path / "kitti"), None, ConversionReport())["train"]
    np.testing.assert_allclose(read_depth(frame.truth, frame.scale).depth, 50 * 0.2 / (4 + 1), atol=0.5 / 256)
    assert frame.right is not None and frame.camera.baseline == pytest.approx(0.2)
    assert report.counts["disparity maps, converted to meters"] == 1


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    """Pairs with flow in steps of 1/64 pixel, some pixels unknown."""
    root = tmp_path / "flow"
    for seed in range(3):
        rng = np.random.default_rng(seed)
        folder = root / f"scene{seed}"
        write_image(folder / "frame10.png", image(seed))
        write_image(folder / "frame11.png", image(seed + 50))
        motion = rng.integers(-2000, 2000, (2, 20, 30)).astype(np.float32) / 64
        write_flow(folder / "flow10.flo", motion, rng.random((20, 30)) < 0.8)
    return root


def read_flows(path: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    (pairs,) = read_pairs(str(path), ConversionReport()).values()
    target_records = [(pair, read_flow_field(pair, (20, 30))) for pair in pairs]
    return [(read_image(pair.first), truth.flow * truth.valid, truth.valid) for pair, truth in target_records]


@pytest.mark.parametrize("to", ["sintel", "kitti-flow", "middlebury"])
def test_flow__round_trip(to: str, flow, tmp_path) -> None:
    report = convert_dataset(flow, tmp_path / "there", to)
    before, after = read_flows(flow), read_flows(tmp_path / "there")
    assert len(before) == len(after) == 3
    for rows in zip(before, after):
        for array, array_after in zip(*rows):
            np.testing.assert_array_equal(array, array_after)
    assert report.counts == ({"scene names": 3} if to == "kitti-flow" else {})


def test_flow__occlusion_through_kitti_and_sintel(flow, tmp_path) -> None:
    convert_dataset(flow, tmp_path / "sintel", "sintel")
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9] = 255
    write_image(tmp_path / "sintel/training/occlusions/scene1/frame_0001.png", mask)
    convert_dataset(tmp_path / "sintel", tmp_path / "kitti", "kitti-flow")
    convert_dataset(tmp_path / "kitti", tmp_path / "again", "sintel")
    (pairs,) = read_pairs(str(tmp_path / "again"), ConversionReport()).values()
    occluded = [read_flow_field(pair, (20, 30)) for pair in pairs]
    field = next(truth for truth in occluded if truth.occlusion is not None)
    np.testing.assert_array_equal((field.occlusion & field.valid), (mask > 0) & field.valid)
    report = convert_dataset(tmp_path / "sintel", tmp_path / "middlebury", "middlebury")
    assert report.counts["occluded pixels"] == 4 * 30


def test_flow__clipped_and_rounded_by_kitti(flow, tmp_path) -> None:
    motion = np.full((2, 20, 30), 1 / 3, np.float32)
    motion[0, 0] = 600
    write_flow(flow / "scene1" / "flow10.flo", motion)
    counts = convert_dataset(flow, tmp_path / "there", "kitti-flow").counts
    assert counts["pixels with flow above 512, clipped"] == 30
    assert counts["pixels rounded to 1/64"] == 600


def test_flow__splits_become_folders(flow, tmp_path) -> None:
    (tmp_path / "both").mkdir()
    for split in ("train", "val"):
        convert_dataset(flow, tmp_path / "both" / split, "middlebury")
    report = convert_dataset(tmp_path / "both", tmp_path / "there", "sintel")
    assert {split: len(pairs) for split, pairs in read_pairs(str(tmp_path / "there"), ConversionReport()).items()} == {
        "train": 3,
        "val": 3,
    }
    assert any("data.train" in note for note in report.notes)


@pytest.mark.parametrize("scale", [0, -5, float("inf"), float("nan")])
def test_scale__invalid(scale: float, depth, tmp_path) -> None:
    with pytest.raises(UsageError) as failure:
        convert_dataset(depth, tmp_path / "out", "tum", scale=scale)
    assert failure.value.field == "scale"
    assert run_program(depth, tmp_path / "out", "--to", "tum", "--scale", scale).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_options__of_objects_are_refused(depth, tmp_path) -> None:
    with pytest.raises(UsageError) as failure:
        convert_dataset(depth, tmp_path / "out", "tum", on_error="skip")
    assert failure.value.field == "on_error"


def test_failure__leaves_no_folder_behind(depth, tmp_path) -> None:
    next((depth / "val" / "depth").glob("*.npy")).write_bytes(b"no array")
    with pytest.raises(DataError):
        convert_dataset(depth, tmp_path / "far" / "away" / "out", "tum")
    assert not (tmp_path / "far").exists() and depth.exists()


def test_depth__missing_depth_and_test_splits_are_counted(depth, tmp_path) -> None:
    sorted(depth.glob("*/depth/*.npy"))[0].unlink()
    shutil.copytree(depth / "val", depth / "test")
    report = convert_dataset(depth, tmp_path / "tum", "tum")
    assert report.counts["images without depth"] == 1 and report.counts["test splits"] == 1


def test_depth__integers_need_a_scale(tmp_path) -> None:
    write_image(tmp_path / "depth/rgb/a.png", image(0))
    write_image(tmp_path / "depth/depth/a.png", np.full((20, 30), 1500, np.uint16))
    result = run_program(tmp_path / "depth", tmp_path / "tum", "--to", "tum")
    assert result.exit_code == 3 and "data.scale" not in result.output
    assert run_program(tmp_path / "depth", tmp_path / "tum", "--to", "tum", "--scale", 1000).exit_code == 0
