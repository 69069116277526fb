"""Datasets: each layout as it lies on the disk, real ones by their configs alone, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from densevision.errors import DataError, UsageError
from densevision.io.depth import write_depth
from densevision.io.image import write_image
from densevision.results.depth_map import Camera, DepthMap
from densevision.run_config import PredictOptions
from densevision.tasks import load_score
from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.dataset import open_split
from densevision.tasks.depth.metrics import DepthMetric
from densevision.tasks.depth.task import Depth

score = load_score("depth")

SIZE = (24, 32)


def put(path: Path, value: float = 1000, size: tuple[int, int] = SIZE, kind: type = np.uint16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(size, value, kind))
    return path


def image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    return put(path, 90, size, np.uint8)


def opened(root: Path, split: str = "val", **settings):
    plain = {"data.path": str(root), **{name.replace("__", "."): value for name, value in settings.items()}}
    return open_split(DepthConfig.resolve(None, plain), split)


def test_plain__rgb_beside_depth_and_intrinsics_above(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            image(tmp_path / split / "rgb" / f"{number}.jpg")
            put(tmp_path / split / "depth" / f"{number}.png", 1500)
    (tmp_path / "intrinsics.txt").write_text("50 0 15.5\n0 50 11.5\n0 0 1\n")
    samples = opened(tmp_path, data__scale=1000.0)
    assert len(samples) == 2 and len(opened(tmp_path, "train", data__scale=1000.0)) == 3
    truth = samples[0].truth
    assert truth.depth[0, 0] == 1.5 and truth.camera.focal == 50 and truth.camera.principal == (16, 12)


def test_plain__several_scenes_of_rgb_and_depth(tmp_path: Path) -> None:
    """Names repeat from scene to scene; a scene is held out as a whole."""
    for scene in range(12):
        for number in range(3):
            image(tmp_path / f"scene_{scene:02}" / "rgb" / f"{number}.png")
            put(tmp_path / f"scene_{scene:02}" / "depth" / f"{number}.png", 1000 * (scene + 1))
    train, val = (opened(tmp_path, split, data__scale=1000.0) for split in ("train", "val"))
    assert len(train) + len(val) == 36 and len(val) % 3 == 0 and len(val)
    scenes = [{frame.image.parent.parent.name for frame in samples.frames} for samples in (train, val)]
    assert not scenes[0] & scenes[1]
    for samples in (train, val):
        for index, frame in enumerate(samples.frames):
            assert samples[index].truth.depth[0, 0] == int(frame.image.parent.parent.name[-2:]) + 1


def test_plain__suffixed_and_single_files(tmp_path: Path) -> None:
    image(tmp_path / "a" / "one.png")
    np.save(tmp_path / "a" / "one_depth.npy", np.full(SIZE, 2.0))
    image(tmp_path / "b" / "left.png")
    image(tmp_path / "b" / "right.png")
    put(tmp_path / "b" / "disp_left.png", 512)
    samples = opened(tmp_path, data__val=".", data__scale=256.0)
    kinds = {sample.truth.kind: sample.truth.depth[0, 0] for sample in (samples[0], samples[1])}
    assert kinds == {"metric": np.float32(2 / 256), "disparity": 2.0}


def test_one_sequence__a_tenth_of_its_images_validates(tmp_path: Path) -> None:
    for number in range(20):
        image(tmp_path / "rgb" / f"{number}.png")
        put(tmp_path / "depth" / f"{number}.png")
    train, val = (opened(tmp_path, split, data__scale=1000.0) for split in ("train", "val"))
    assert (len(train), len(val)) == (18, 2) and "held out" in val.notes[0]
    assert not {frame.image for frame in train.frames} & {frame.image for frame in val.frames}


def test_kitti_raw__annotated_depth_and_calibration(tmp_path: Path) -> None:
    drive = "2011_09_26_drive_0001_sync"
    for camera in ("02", "03"):
        image(tmp_path / "2011_09_26" / drive / f"image_{camera}" / "data" / "0000000005.png")
    put(tmp_path / "val" / drive / "proj_depth" / "groundtruth" / "image_02" / "0000000005.png", 2560)
    rows = {"P_rect_02": "720 0 610 36 0 720 172 0 0 0 1 0", "P_rect_03": "720 0 610 -324 0 720 172 0 0 0 1 0"}
    lines = [f"{name}: {numbers}" for name, numbers in rows.items()]
    (tmp_path / "2011_09_26" / "calib_cam_to_cam.txt").write_text("\n".join(lines))
    (frame,) = opened(tmp_path).frames
    assert frame.right is not None and frame.camera.baseline == pytest.approx(0.5)
    assert opened(tmp_path)[0].truth.depth[0, 0] == 10


def test_kitti_stereo__disparity(tmp_path: Path) -> None:
    for name in ("image_2", "image_3"):
        image(tmp_path / "training" / name / "000000_10.png")
    put(tmp_path / "training" / "disp_occ_0" / "000000_10.png", 256 * 7)
    truth = opened(tmp_path, data__val="training")[0].truth
    assert (truth.kind, truth.unit, truth.depth[0, 0]) == ("disparity", "px", 7)


def test_nyu__millimeters_and_its_own_split(tmp_path: Path) -> None:
    for part in ("train/kitchen", "test/bathroom"):
        image(tmp_path / part / "rgb_00045.jpg")
        put(tmp_path / part / "sync_depth_00045.png", 2500)
    assert [len(opened(tmp_path, split)) for split in ("train", "val")] == [1, 1]
    assert opened(tmp_path)[0].truth.depth[0, 0] == 2.5


def test_nyu__what_validates_is_said_only_or_not_at_all(tmp_path: Path) -> None:
    for part in ("kitchen", "office", "test/bathroom"):
        image(tmp_path / "a" / part / "rgb_00045.jpg")
        put(tmp_path / "a" / part / "sync_depth_00045.png", 2500)
    assert {frame.group for frame in opened(tmp_path / "a", "train").frames} == {"kitchen", "office"}
    assert [frame.group for frame in opened(tmp_path / "a").frames] == ["test/bathroom"]
    for number in range(20):
        image(tmp_path / "b/sync" / str(number) / "rgb_00045.jpg")
        put(tmp_path / "b/sync" / str(number) / "sync_depth_00045.png", 2500)
    train, val = (opened(tmp_path / "b", split) for split in ("train", "val"))
    assert len(train) + len(val) == 20 and len(val) and "held out" in val.notes[0]


def test_seven_scenes__its_own_lists(tmp_path: Path) -> None:
    for number, name in (("01", "TrainSplit.txt"), ("02", "TestSplit.txt")):
        image(tmp_path / "chess" / f"seq-{number}" / "frame-000000.color.png")
        depth = np.full(SIZE, 65535, np.uint16)
        depth[0, 0] = 2000
        write_image(tmp_path / "chess" / f"seq-{number}" / "frame-000000.depth.png", depth)
        (tmp_path / "chess" / name).write_text(f"sequence{int(number)}\n")
    (frame,) = opened(tmp_path).frames
    truth = opened(tmp_path)[0].truth
    assert frame.group == "chess/seq-02" and truth.valid.sum() == 1 and truth.depth[0, 0] == 2


def test_tum__depth_nearest_in_time(tmp_path: Path) -> None:
    folder = tmp_path / "freiburg1"
    image(folder / "rgb" / "1.00.png"), put(folder / "depth" / "1.01.png", 5000), put(folder / "depth" / "1.5.png", 9)
    (folder / "rgb.txt").write_text("# time file\n1.00 rgb/1.00.png\n3.0 rgb/none.png\n")
    (folder / "depth.txt").write_text("1.01 depth/1.01.png\n1.5 depth/1.5.png\n")
    (frame,) = opened(tmp_path, data__val="freiburg1").frames
    assert frame.truth.name == "1.01.png" and opened(tmp_path, data__val="freiburg1")[0].truth.depth[0, 0] == 1


def test_known_layouts__below_train_and_val(tmp_path: Path) -> None:
    for split, numbers in (("train", range(12)), ("val", range(12, 14))):
        for number in numbers:
            scene = tmp_path / split / f"scene{number}"
            image(scene / "im0.png"), image(scene / "im1.png")
            write_depth(scene / "disp0.pfm", np.full(SIZE, 30.0))
    for split, numbers in (("train", range(12)), ("val", range(12, 14))):
        assert {frame.group for frame in opened(tmp_path, split).frames} == {f"scene{number}" for number in numbers}


def test_middlebury__calibration_in_millimeters(tmp_path: Path) -> None:
    image(tmp_path / "Bike" / "im0.png"), image(tmp_path / "Bike" / "im1.png")
    write_depth(tmp_path / "Bike" / "disp0.pfm", np.full(SIZE, 30.0))
    calibration = tmp_path / "Bike" / "calib.txt"
    calibration.write_text("cam0=[900 0 15.5; 0 900 11.5; 0 0 1]\ndoffs=15.0\nbaseline=193.0\n")
    sample = opened(tmp_path, data__val=".", backbone__channels=1)[0]
    assert sample.truth.metric().depth[0, 0] == pytest.approx(900 * 0.193 / (30 + 15))


def test_list__of_eigens_form(tmp_path: Path) -> None:
    image(tmp_path / "a.png"), put(tmp_path / "sync_depth_a.png", 3000), image(tmp_path / "b.png")
    (tmp_path / "eigen.txt").write_text("/a.png /sync_depth_a.png 518.8\nb.png None 518.8\n")
    samples = opened(tmp_path, data__val="eigen.txt")
    assert len(samples) == 1 and samples[0].truth.depth[0, 0] == 3 and samples[0].truth.camera.focal == 518.8
    assert "no depth" in samples.notes[0]
    (tmp_path / "eigen.txt").write_text("a.png b.png c.png d.png\n")
    with pytest.raises(DataError, match="line 1"):
        opened(tmp_path, data__val="eigen.txt")


def rgbd(root: Path) -> Path:
    image(root / "val" / "rgb" / "0.png")
    put(root / "val" / "depth" / "0.png")
    return root


def test_size__differs(tmp_path: Path) -> None:
    put(rgbd(tmp_path) / "val" / "depth" / "0.png", size=(12, 32))
    with pytest.raises(DataError, match="size differs from its image"):
        opened(tmp_path, data__scale=1000.0)
    with pytest.raises(DataError, match="no image of val is left"):
        opened(tmp_path, data__scale=1000.0, data__on_error="skip")


def test_depth__in_8_bits(tmp_path: Path) -> None:
    put(rgbd(tmp_path) / "val" / "depth" / "0.png", 9, kind=np.uint8)
    with pytest.raises(DataError, match="8 bits"):
        opened(tmp_path, data__scale=1000.0)


def test_scale__missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.scale"):
        opened(rgbd(tmp_path))[0]


def test_nan__is_unknown(tmp_path: Path) -> None:
    root = rgbd(tmp_path)
    (root / "val" / "depth" / "0.png").unlink()
    np.save(root / "val" / "depth" / "0.npy", np.where(np.eye(*SIZE) > 0, np.nan, 1))
    np.testing.assert_array_equal(opened(root)[0].truth.valid, np.eye(*SIZE) == 0)


def test_pair__of_different_sizes(tmp_path: Path) -> None:
    image(tmp_path / "val" / "left" / "0.png"), image(tmp_path / "val" / "right" / "0.png", (24, 30))
    settings = {"loss__silog": 0.0, "loss__photometric": 1.0, "output": "disparity"}
    with pytest.raises(DataError, match="right image whose size differs"):
        opened(tmp_path, **settings)


LEARNED = {"data.path": "scenes", "data.scale": 1.0, "camera.focal": 230.4, "camera.baseline": 0.15}


def disparities(root: Path) -> None:
    for name in ("left/0.png", "right/0.png"):
        image(root / name)
    put(root / "disparity" / "0.png", 10)


def test_camera__of_the_config_is_not_that_of_other_data(tmp_path: Path) -> None:
    disparities(tmp_path)
    own = DepthConfig.resolve(None, {**LEARNED, "data.path": str(tmp_path), "data.val": "."})
    assert open_split(own, "val")[0].truth.camera == Camera(230.4, baseline=0.15)
    learned = DepthConfig.resolve(None, LEARNED)
    moved = learned.replace(data__path=str(tmp_path), data__val=".")
    assert moved.camera == learned.camera and open_split(moved, "val")[0].truth.camera is None
    known = moved.replace(camera__focal=700.0)
    assert open_split(known, "val")[0].truth.camera == Camera(700.0)
    known = learned.replace(data__path=str(tmp_path), data__val=".", camera__focal=700.0, camera__baseline=0.5)
    assert open_split(known, "val")[0].truth.camera == Camera(700.0, baseline=0.5)


def test_camera__of_the_config_is_that_of_the_canvas(tmp_path: Path) -> None:
    """Images are seen at half their size: what the config states of the canvas is twice as much of the image."""
    disparities(tmp_path)
    stated = {"camera.focal": 100.0, "camera.baseline": 0.5, "camera.offset": 3.0}
    shrunk = {"data.path": str(tmp_path), "data.train": ".", "data.val": ".", "data.scale": 1.0}
    shrunk |= {"data.shorter": SIZE[0] // 2, "data.size": SIZE[0] // 2}
    config = DepthConfig.resolve(None, {**shrunk, **stated})
    camera = open_split(config, "val")[0].truth.camera
    assert camera == Camera(200.0, baseline=0.5, offset=6.0)
    view = Depth(config).input_spec["image"].view(SIZE)
    assert camera.warp(view.matrix, SIZE).focal == 100


def test_camera__offset_of_a_pair_is_learned_and_predicted(tmp_path: Path) -> None:
    """Middlebury's doffs: meters of a network that learned from pairs are those of the truth's own calibration."""
    for eye in ("im0", "im1"):
        image(tmp_path / "Bike" / f"{eye}.png")
    write_depth(tmp_path / "Bike" / "disp0.pfm", np.full(SIZE, 5.0))
    (tmp_path / "Bike" / "calib.txt").write_text("cam0=[90 0 15.5; 0 90 11.5; 0 0 1]\ndoffs=4\nbaseline=200\n")
    pairs = {"loss.silog": 0.0, "loss.photometric": 1.0, "data.path": str(tmp_path), "data.train": ".", "data.val": "."}
    for shorter in ({}, {"data.shorter": 48, "data.size": 48}):
        config = Depth.infer_from_data(DepthConfig.resolve(None, {**pairs, **shorter}))
        task, zoom = Depth(config), 2 if shorter else 1
        assert config.camera.to_dict() == {"focal": 90.0 * zoom, "baseline": 0.2, "offset": 4.0 * zoom}
        view = task.input_spec["image"].view(SIZE)
        said = torch.full((1, 1, *view.size), 5.0 * zoom)
        (answer,) = task.to_results({"depth": said}, [view], PredictOptions())
        truth = task.open_dataset("val")[0].truth.metric()
        np.testing.assert_allclose(answer.depth, 90 * 0.2 / (5 + 4), rtol=1e-6)
        np.testing.assert_allclose(truth.depth, answer.depth, rtol=1e-6)


def test_camera__of_the_config_lends_no_baseline_to_other_data(tmp_path: Path) -> None:
    disparities(tmp_path)
    (tmp_path / "intrinsics.txt").write_text("50 0 15.5\n0 50 11.5\n0 0 1\n")
    moved = DepthConfig.resolve(None, LEARNED).replace(data__path=str(tmp_path), data__val=".")
    assert open_split(moved, "val")[0].truth.camera == Camera(50.0, (16, 12))


def test_camera__meters_are_not_compared_with_disparities_of_an_unknown_one(tmp_path: Path) -> None:
    disparities(tmp_path)
    moved = DepthConfig.resolve(None, LEARNED).replace(data__path=str(tmp_path), data__val=".")
    truth = open_split(moved, "val")[0].truth
    with pytest.raises(UsageError, match="calibration is missing"):
        DepthMetric().update(DepthMap.from_arrays(np.ones(SIZE)), truth, 0)


@pytest.mark.parametrize(
    "text", ["50 0 15.5 0 50 11.5 0 0 1", "50,0,15.5\n0,50,11.5\n0,0,1", "50 0 15.5 0\n0 50 11.5 0\n0 0 1 0\n0 0 0 1"]
)
def test_intrinsics__of_any_shape_after_a_byte_order_mark(text: str, tmp_path: Path) -> None:
    image(tmp_path / "rgb" / "0.png"), put(tmp_path / "depth" / "0.png")
    (tmp_path / "intrinsics.txt").write_bytes("\ufeff".encode() + text.encode())
    camera = opened(tmp_path, data__val=".", data__scale=1000.0)[0].truth.camera
    assert camera == Camera(50.0, (16, 12))


@pytest.mark.parametrize("text", ["", "50 50 15 11", "0 0 0 0 0 0 0 0 0", "nan 0 1 0 nan 1 0 0 1"])
def test_intrinsics__that_are_none_are_named(text: str, tmp_path: Path) -> None:
    image(tmp_path / "rgb" / "0.png"), put(tmp_path / "depth" / "0.png")
    (tmp_path / "intrinsics.txt").write_text(text)
    with pytest.raises(DataError, match=r"intrinsics\.txt"):
        opened(tmp_path, data__val=".", data__scale=1000.0)


def test_lists__of_other_editors(tmp_path: Path) -> None:
    """A byte order mark, Windows' ends of lines, and a comment that is no UTF-8 are no part of what is read."""
    image(tmp_path / "a" / "0.png"), put(tmp_path / "a" / "0_d.png")
    (tmp_path / "list.txt").write_bytes("\ufeffa/0.png a/0_d.png 50\r\n".encode())
    assert opened(tmp_path, data__val="list.txt", data__scale=1000.0)[0].truth.camera == Camera(50.0)
    for focal in ("0", "5.1.8", "-3"):
        (tmp_path / "list.txt").write_text(f"a/0.png a/0_d.png {focal}")
        with pytest.raises(DataError, match="line 1"):
            opened(tmp_path, data__val="list.txt", data__scale=1000.0)
    image(tmp_path / "tum/rgb/1.0.png"), put(tmp_path / "tum/depth/1.0.png", 5000)
    for name in ("rgb", "depth"):
        lines = f"\ufeff# {name}\r\n1.0 {name}/1.0.png\r\n"
        (tmp_path / f"tum/{name}.txt").write_bytes(lines.encode())
    assert opened(tmp_path / "tum", data__val=".")[0].truth.depth[0, 0] == 1
    image(tmp_path / "k/training/image_2/000000_10.png"), put(tmp_path / "k/training/disp_occ/000000_10.png")
    (tmp_path / "k/training/calib").mkdir()
    lines = b"made by Ren\xe9: yes\nP2: 700 0 46 10 0 700 35 0 0 0 1 0\n"
    (tmp_path / "k/training/calib/000000.txt").write_bytes(lines)
    assert opened(tmp_path / "k", data__val="training").frames[0].camera.focal == 700


BROKEN = {
    "image": lambda root: (root / "depth/3.png").write_bytes(b"broken"),
    "cut image": lambda root: cut(root / "left/3.png"),
    "cut right image": lambda root: cut(root / "right/3.png"),
    "cut depth": lambda root: cut(put(root / "depth/3.png")),
    "right image": lambda root: (root / "right/3.png").write_bytes(b"broken"),
    "array": lambda root: (root / "depth/3.npy").write_bytes(b"broken"),
    "cut array": lambda root: cut(array(root / "depth/3.npy", SIZE)),
    "array of another size": lambda root: array(root / "depth/3.npy", (12, 32)),
    "archive": lambda root: (root / "depth/3.npz").write_bytes(b"PK\x03\x04broken"),
    "archive of another size": lambda root: write_depth(root / "depth/3.npz", np.ones((12, 32))),
    "floats": lambda root: (root / "depth/3.pfm").write_bytes(b"Pf\n32 24\n-1\nbroken"),
}


def array(path: Path, size: tuple[int, int]) -> Path:
    np.save(path, np.ones(size))
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize("fault", BROKEN)
def test_on_error__what_cannot_be_read_is_left_out(fault: str, tmp_path: Path) -> None:
    for number in range(4):
        image(tmp_path / "left" / f"{number}.png")
        image(tmp_path / "right" / f"{number}.png")
        put(tmp_path / "depth" / f"{number}.png")
    if fault not in ("right image", "cut image", "cut right image"):
        (tmp_path / "depth/3.png").unlink()
    BROKEN[fault](tmp_path)
    settings = {"data__train": ".", "data__scale": 1000.0}
    with pytest.raises(DataError, match=r"3\..*data\.on_error"):
        opened(tmp_path, "train", **settings)
    for policy in ("skip", "fix"):
        samples = opened(tmp_path, "train", data__on_error=policy, **settings)
        assert len(samples) == 3 and any("skipped: 3." in note for note in samples.notes)
        assert all(sample.truth.valid.all() for sample in map(samples.__getitem__, range(3)))


def test_negative_disparity__fix_is_counted_and_nothing_known_is_an_error(tmp_path: Path) -> None:
    """DispNet's convention stores disparity with the other sign."""
    for number in range(3):
        image(tmp_path / "left" / f"{number}.png"), image(tmp_path / "right" / f"{number}.png")
        disparity = np.full(SIZE, -5.0)
        write_depth(tmp_path / "disparity" / f"{number}.pfm", disparity)
    settings = {"data__train": ".", "data__val": "."}
    with pytest.raises(DataError, match="768 negative numbers"):
        opened(tmp_path, "train", **settings)
    with pytest.raises(DataError, match="no depth map of train has a known pixel"):
        opened(tmp_path, "train", data__on_error="fix", **settings)
    write_depth(tmp_path / "disparity" / "1.pfm", np.full(SIZE, 5.0))
    samples = opened(tmp_path, "train", data__on_error="fix", **settings)
    assert any(
        "2 depth maps with negative numbers, those pixels set to unknown: 0.pfm, 2.pfm" in note
        for note in samples.notes
    )
    assert [bool(samples[index].truth.valid.any()) for index in range(3)] == [False, True, False]


def test_zero_everywhere__is_an_error(tmp_path: Path) -> None:
    for number in range(2):
        image(tmp_path / "rgb" / f"{number}.png"), put(tmp_path / "depth" / f"{number}.png", 0)
    with pytest.raises(DataError, match="known pixel"):
        opened(tmp_path, "train", data__train=".", data__scale=1000.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
@pytest.mark.parametrize("suffix", [".npy", ".pfm", ".tif"])
def test_score__every_mark_of_unknown_depth(value: float, suffix: str, tmp_path: Path) -> None:
    """ROS REP 118: NaN is not measured, +inf too far, -inf too near."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 10, (40, 60)).astype(np.float32)
    prediction = truth * rng.uniform(0.9, 1.1, truth.shape).astype(np.float32)
    expected = np.mean(np.abs(prediction - truth)[5:] / truth[5:])
    truth[:5] = value
    for name, array in (("truth", truth), ("predictions", prediction)):
        (tmp_path / name).mkdir()
        file = tmp_path / name / f"a{suffix}"
        if suffix == ".npy":
            np.save(file, array)
        elif suffix == ".tif":
            tifffile.imwrite(file, array)
        else:
            file.write_bytes(b"Pf\n60 40\n-1.0\n" + array[::-1].astype("<f4").tobytes())
    report = score(tmp_path / "truth", tmp_path / "predictions")
    assert report["metrics"]["AbsRel"] == pytest.approx(expected, rel=1e-5)
    assert report["counts"]["pixels of unknown depth"] == 300


@pytest.mark.parametrize("suffix", [".png", ".pgm"])
def test_score__8_bit_disparity_with_a_stated_scale(suffix: str, tmp_path: Path) -> None:
    """Middlebury 2003: 8 bits, disparity x 4, 0 is unknown."""
    steps = np.random.default_rng(0).integers(20, 240, (30, 40)).astype(np.uint8)
    steps[:3] = 0
    (tmp_path / "truth/disp").mkdir(parents=True), (tmp_path / "predictions/disp").mkdir(parents=True)
    Image.fromarray(steps).save(tmp_path / f"truth/disp/cones{suffix}")
    np.save(tmp_path / "predictions/disp/cones.npy", np.maximum(steps / 4 + 0.3, 0.3).astype(np.float32))
    folders = tmp_path / "truth", tmp_path / "predictions"
    with pytest.raises(DataError, match=r"data\.scale"):
        score(*folders)
    report = score(*folders, config=DepthConfig.resolve(None, {"data.scale": 4.0}))
    assert report["metrics"]["EPE"] == pytest.approx(0.3, rel=1e-5)
    assert report["counts"]["pixels"] == 27 * 40


def test_offset__cityscapes_disparity(tmp_path: Path) -> None:
    """d = (p - 1) / 256 with 0 for unknown pixels; in scoring and in a dataset."""
    disparity = np.random.default_rng(0).uniform(1, 100, SIZE)
    steps = np.rint(disparity * 256) + 1
    steps[:3] = 0
    expected = np.where(steps > 0, (steps - 1) / 256, 1).astype(np.float32)
    for root in ("data/val/disparity", "truth/disparity", "predictions/disparity"):
        (tmp_path / root).mkdir(parents=True)
    for root in ("data/val/disparity", "truth/disparity"):
        Image.fromarray(steps.astype(np.uint16)).save(tmp_path / root / "a.png")
    np.save(tmp_path / "predictions/disparity/a.npy", expected)
    encoding = {"data.scale": 256.0, "data.offset": 1.0}
    report = score(tmp_path / "truth", tmp_path / "predictions", config=DepthConfig.resolve(None, encoding))
    assert report["metrics"]["EPE"] == pytest.approx(0, abs=1e-6) and report["counts"]["pixels"] == 21 * 32
    image(tmp_path / "data/val/left/a.png")
    truth = opened(tmp_path / "data", data__scale=256.0, data__offset=1.0)[0].truth
    np.testing.assert_array_equal(truth.depth, np.where(steps > 0, expected, 0))


def test_range__minimum_is_less_than_maximum() -> None:
    with pytest.raises(UsageError, match="min_depth=5"):
        DepthConfig.resolve(None, {"evaluation.min_depth": 5.0, "evaluation.max_depth": 1.0})


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        opened(tmp_path / "absent")
    image(tmp_path / "val" / "rgb" / "0.png")
    with pytest.raises(DataError, match="no image with depth"):
        opened(tmp_path)


def test_score__files_of_any_form(tmp_path: Path) -> None:
    put(tmp_path / "truth" / "a.kitti.png", 256 * 4), put(tmp_path / "answers" / "a.depth.png", 5000)
    found = score(tmp_path / "truth", tmp_path / "answers")
    assert found["metrics"]["AbsRel"] == pytest.approx(0.25) and found["counts"]["images"] == 1
    (tmp_path / "answers" / "a.depth.png").unlink()
    with pytest.raises(DataError, match="no prediction"):
        score(tmp_path / "truth", tmp_path / "answers")


def test_score__kind_by_whole_words_below_the_root(tmp_path: Path) -> None:
    for folder in ("dispnet/display", "x/disp/left", "disparity"):
        (tmp_path / folder).mkdir(parents=True)
        np.save(tmp_path / folder / "0.npy", np.full(SIZE, 4.0))
    kinds = {}
    for root, under in (("dispnet", "display"), ("x", "disp/left"), ("disparity", "")):
        protocol = score(tmp_path / root, tmp_path / root)["protocol"]
        assert protocol["prediction"] == protocol["truth"]
        kinds[root] = protocol["truth"]
        assert under == "" or (tmp_path / root / under).is_dir()
    assert kinds == {"dispnet": "metric in m", "x": "disparity in px", "disparity": "disparity in px"}


def test_score__skips_the_first_as_any_other(tmp_path: Path) -> None:
    wrong = np.full(SIZE, -1.0)
    for side in ("truth", "answers"):
        (tmp_path / side).mkdir()
        for number in range(3):
            np.save(tmp_path / side / f"{number}.npy", wrong if side == "answers" and number == 0 else np.ones(SIZE))
    folders = tmp_path / "truth", tmp_path / "answers"
    with pytest.raises(DataError, match=r"0\.npy.*negative"):
        score(*folders)
    found = score(*folders, on_error="skip")
    assert found["counts"]["images"] == 2 and found["named"]["broken files"] == ["0"]
    for number in (1, 2):
        np.save(tmp_path / "answers" / f"{number}.npy", wrong)
    with pytest.raises(DataError, match="no prediction can be read"):
        score(*folders, on_error="skip")
    for number in range(3):
        np.save(tmp_path / "answers" / f"{number}.npy", np.ones((3, 3)))
    with pytest.raises(DataError, match="no pair can be read or compared"):
        score(*folders, on_error="skip")


def test_score__disparity_as_meters_by_the_stated_camera(tmp_path: Path) -> None:
    (tmp_path / "disp").mkdir(), (tmp_path / "meters").mkdir()
    disparity = np.random.default_rng(0).uniform(4, 40, SIZE)
    np.save(tmp_path / "disp/0.npy", disparity)
    np.save(tmp_path / "meters/0.npy", 700 * 0.5 / (disparity + 3) * 1.1)
    stated = {"camera.focal": 700.0, "camera.baseline": 0.5, "camera.offset": 3.0}
    config = DepthConfig.resolve(None, stated)
    for folders, error in ((("disp", "meters"), 0.1), (("meters", "disp"), 1 - 1 / 1.1)):
        truth, answers = (tmp_path / name for name in folders)
        with pytest.raises(UsageError, match=r"Set camera\.focal and camera\.baseline"):
            score(truth, answers)
        assert score(truth, answers, config=config)["metrics"]["AbsRel"] == pytest.approx(error, rel=1e-6)
    with pytest.raises(UsageError, match="no effect"):
        score(tmp_path / "meters", tmp_path / "meters", config=config)
    with pytest.raises(UsageError, match="baseline"):
        score(tmp_path / "disp", tmp_path / "meters", config=DepthConfig.resolve(None, {"camera.focal": 700.0}))


@pytest.mark.realdata
def test_real_data__by_the_configs_only(real_data: Path) -> None:
    root = Path(__file__).parents[3] / "configs" / "depth"
    rooms = DepthConfig.resolve(root / "7scenes.yaml", {"data.path": str(real_data / "data/depth_7scenes")})
    train, val = (open_split(rooms, split) for split in ("train", "val"))
    truth = val[0].truth
    assert (len(train), len(val)) == (220, 33) and truth.camera.focal == 292.5
    assert truth.depth[truth.valid].min() >= 0.8 and truth.depth.max() < 3.7 and 0.8 < truth.valid.mean() < 0.95
    streets = DepthConfig.resolve(
        root / "kitti_stereo.yaml", {"data.path": str(real_data / "data/stereo_kitti_odometry")}
    )
    train, val = (open_split(streets, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (71, 20) and train[0].truth is None
    truth = val[0].truth
    assert truth.valid.mean() > 0.5 and 4 < np.median(truth.depth[truth.valid]) < 9


@pytest.mark.realdata
def test_middlebury__matching_agrees_with_the_truth(real_data: Path) -> None:
    from densevision.io.image import read_image
    from densevision.tasks.depth.sgbm import match_stereo

    samples = opened(real_data / "data/stereo_middlebury", data__val=".", data__scale=256.0)
    assert len(samples) == 2
    truth = samples[1].truth
    frame = samples.frames[1]
    found = match_stereo(*(read_image(path) for path in (frame.image, frame.right)), 64)
    both = found.valid & truth.valid
    assert both.mean() > 0.5 and np.median(np.abs(found.depth - truth.depth)[both]) < 1
