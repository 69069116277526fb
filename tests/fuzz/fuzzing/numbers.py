"""Files of numbers: optical flow, depth and disparity, read by their size and by their content."""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from densevision.datasets.calibration import read_kitti_camera, read_middlebury_camera
from densevision.datasets.depth_layouts import read_file_list
from densevision.io.depth import read_depth, read_depth_size, write_depth
from densevision.io.flow import read_flow, read_flow_size, write_flow
from fuzzing.images import FILES
from fuzzing.mutations import mutate_npy, mutate_png, mutate_text, mutate_zip
from fuzzing.reader import Reader, write

HEIGHT, WIDTH = 12, 16
RAMP = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.float32) / 8 + 1
FLOW = np.stack([RAMP - 2, 1 - RAMP])


def make_flow(suffix: str) -> bytes:
    """A valid flow file."""
    with tempfile.TemporaryDirectory() as folder:
        write_flow(Path(folder) / f"a{suffix}", FLOW)
        return (Path(folder) / f"a{suffix}").read_bytes()


def make_depth(suffix: str) -> bytes:
    """A valid depth file."""
    with tempfile.TemporaryDirectory() as folder:
        write_depth(Path(folder) / f"a{suffix}", RAMP, RAMP > 1.5, scale=256.0)
        return (Path(folder) / f"a{suffix}").read_bytes()


def save_numpy(compressed: bool) -> bytes:
    stream = io.BytesIO()
    if compressed:
        np.savez(stream, depth=RAMP, valid=RAMP > 2)
    else:
        np.save(stream, RAMP)
    return stream.getvalue()


def read_flow_file(path: Path, rng: random.Random) -> Sequence[str]:
    size = read_flow_size(path) if rng.random() < 0.5 else None
    flow, valid = read_flow(path)
    assert flow.shape[0] == 2 and flow.shape[1:] == valid.shape == (size or valid.shape)
    assert np.isfinite(flow[:, valid]).all()
    return ()


def read_depth_file(path: Path, rng: random.Random) -> Sequence[str]:
    size = read_depth_size(path) if rng.random() < 0.5 else None
    file = read_depth(path, 256.0, rng.choice((0.0, 0.0, 1.0)), ignore_negative=rng.random() < 0.5, allow_8bit=True)
    assert file.depth.shape == file.valid.shape == (size or file.valid.shape)
    assert np.isfinite(file.depth[file.valid]).all()
    return ()


def opencv_refuses(path: Path) -> bool:
    """Whether OpenCV reads no image from a file that this package accepts."""
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is None


def numpy_refuses(path: Path) -> bool:
    """Whether NumPy cannot read an array or an archive without pickles."""
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.ndarray):
            for name in content.files:
                content[name]
    except Exception:
        return True
    return False


def flo_refuses(path: Path) -> bool:
    """Whether a .flo file is not exactly magic number, width, height and that many pairs of floats."""
    data = path.read_bytes()
    width, height = np.frombuffer(data[4:12], "<i4").tolist()
    return data[:4] != b"PIEH" or len(data) != 12 + 8 * width * height


def read_kitti(path: Path, rng: random.Random) -> Sequence[str]:
    read_kitti_camera.__wrapped__(path, rng.choice(("02", "03")))  # without the cache
    return ()


def read_middlebury(path: Path, rng: random.Random) -> Sequence[str]:
    read_middlebury_camera.__wrapped__(path)
    return ()


def read_list(path: Path, rng: random.Random) -> Sequence[str]:
    for frame in read_file_list(path, path.parent):
        assert path.parent in frame.image.resolve().parents or path.parent == frame.image.parent
    return ()


KITTI = b"""calib_time: 09-Jan-2012 14:00:15
P_rect_02: 7.2e+02 0.0 6.0e+02 4.4e+01 0.0 7.2e+02 1.7e+02 2.1e-01 0.0 0.0 1.0 2.7e-03
P_rect_03: 7.2e+02 0.0 6.0e+02 -3.3e+02 0.0 7.2e+02 1.7e+02 2.1e+00 0.0 0.0 1.0 2.7e-03
"""
MIDDLEBURY = b"""cam0=[994.978 0 311.193; 0 994.978 254.877; 0 0 1]
cam1=[994.978 0 342.279; 0 994.978 254.877; 0 0 1]
doffs=31.086
baseline=193.001
width=694
height=554
"""
READERS = [
    Reader("flo", {"a.flo": make_flow(".flo")}, read_flow_file, refuses=flo_refuses),
    Reader("flow-pfm", {"a.pfm": make_flow(".pfm")}, read_flow_file, mutate=mutate_text),
    Reader("flow-png16", {"a.png": make_flow(".png")}, read_flow_file, refuses=opencv_refuses, mutate=mutate_png),
    Reader("flow-npy", {"a.npy": make_flow(".npy")}, read_flow_file, refuses=numpy_refuses, mutate=mutate_npy),
    Reader("depth-png16", {"a.png": make_depth(".png")}, read_depth_file, refuses=opencv_refuses, mutate=mutate_png),
    Reader("depth-pfm", {"a.pfm": make_depth(".pfm")}, read_depth_file, mutate=mutate_text),
    Reader("depth-tif", {"a.tif": make_depth(".tif")}, read_depth_file),
    Reader("depth-pgm", {"a.pgm": FILES["deep.pgm"]}, read_depth_file, mutate=mutate_text),
    Reader("npy", {"a.npy": save_numpy(False)}, read_depth_file, refuses=numpy_refuses, mutate=mutate_npy),
    Reader("npz", {"a.npz": save_numpy(True)}, read_depth_file, refuses=numpy_refuses, mutate=mutate_zip),
    Reader("kitti-calibration", {"calib.txt": KITTI}, read_kitti, mutate=mutate_text),
    Reader("middlebury-calibration", {"calib.txt": MIDDLEBURY}, read_middlebury, mutate=mutate_text),
    Reader(
        "depth-list",
        {"list.txt": b"a.png d/a.png 721.5\nb.png d/b.png\n"},
        read_list,
        lambda folder: write(
            folder, {f"{place}{stem}.png": make_depth(".png") for place in ("", "d/") for stem in "ab"}
        ),
        mutate=mutate_text,
    ),
]
