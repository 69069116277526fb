"""Flow files: each format there and back, beside independent readers, and what is wrong with them."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.errors import DataError, UsageError
from densevision.io.flow import read_flow, read_flow_size, write_flow


def some_flow(height: int = 5, width: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Whole 64ths of pixels, which every format can hold, with unknown pixels at 0."""
    rng = np.random.default_rng(0)
    known = rng.random((height, width)) < 0.8
    flow = rng.integers(-(2**14), 2**14, (2, height, width)) / 64
    return (flow * known).astype(np.float32), known


@pytest.mark.parametrize("suffix", [".flo", ".png", ".pfm", ".npy"])
def test_write_then_read__is_the_same(tmp_path, suffix):
    flow, known = some_flow()
    write_flow(tmp_path / f"a{suffix}", flow, known)
    again, valid = read_flow(tmp_path / f"a{suffix}")
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, flow)
    np.testing.assert_array_equal(valid, known)


@pytest.mark.parametrize("suffix", [".flo", ".png", ".pfm", ".npy"])
def test_one_pixel__is_a_image(tmp_path, suffix):
    write_flow(tmp_path / f"a{suffix}", np.array([[[1.5]], [[-2.0]]]))
    flow, valid = read_flow(tmp_path / f"a{suffix}")
    assert flow.tolist() == [[[1.5]], [[-2.0]]] and valid.all()


def test_flo__as_opencv_reads_and_writes_it(tmp_path):
    flow, _ = some_flow()
    write_flow(tmp_path / "ours.flo", flow)
    theirs = cv2.readOpticalFlow(str(tmp_path / "ours.flo"))
    np.testing.assert_array_equal(theirs.transpose(2, 0, 1), flow)
    cv2.writeOpticalFlow(str(tmp_path / "theirs.flo"), np.ascontiguousarray(flow.transpose(1, 2, 0)))
    assert (tmp_path / "theirs.flo").read_bytes() == (tmp_path / "ours.flo").read_bytes()


def test_kitti__by_its_devkits_formula(tmp_path):
    flow, known = some_flow()
    write_flow(tmp_path / "a.png", flow, known)
    blue, green, red = cv2.split(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED))
    assert red.dtype == np.uint16
    np.testing.assert_array_equal((red.astype(float) - 2**15)[known] / 64, flow[0][known])
    np.testing.assert_array_equal((green.astype(float) - 2**15)[known] / 64, flow[1][known])
    np.testing.assert_array_equal(blue > 0, known)


def test_kitti__clips_what_it_cannot_hold(tmp_path):
    write_flow(tmp_path / "a.png", np.array([[[9999.0]], [[-9999.0]]]))
    assert read_flow(tmp_path / "a.png")[0].ravel().tolist() == [(2**16 - 1 - 2**15) / 64, -512.0]


def test_pfm__as_opencv_reads_it(tmp_path):
    flow, _ = some_flow()
    write_flow(tmp_path / "a.pfm", flow)
    theirs = cv2.imread(str(tmp_path / "a.pfm"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(theirs[..., ::-1][..., :2].transpose(2, 0, 1), flow)


def test_pfm__of_the_other_byte_order(tmp_path):
    values = np.arange(18, dtype=">f4").reshape(2, 3, 3)
    (tmp_path / "a.pfm").write_bytes(b"PF\n3 2\n1.0\n" + values[::-1].tobytes())
    np.testing.assert_array_equal(read_flow(tmp_path / "a.pfm")[0], values[..., :2].transpose(2, 0, 1))


def test_pfm__with_either_end_of_line(tmp_path):
    """The first number begins with the byte of a line feed, which is no part of the header."""
    values = np.full((2, 3, 3), np.frombuffer(b"\n\n\n?", "<f4")[0])
    for end in (b"\n", b"\r\n"):
        (tmp_path / "a.pfm").write_bytes(end.join([b"PF", b"3 2", b"-1.0", b""]) + values.tobytes())
        np.testing.assert_array_equal(read_flow(tmp_path / "a.pfm")[0], values[..., :2].transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", [".flo", ".png", ".pfm", ".npy"])
def test_size__is_that_of_what_is_read(tmp_path, suffix):
    write_flow(tmp_path / f"a{suffix}", some_flow(5, 7)[0])
    assert read_flow_size(tmp_path / f"a{suffix}") == read_flow(tmp_path / f"a{suffix}")[0].shape[1:] == (5, 7)


def test_npy__whatever_is_wrong_with_it_is_said_in_plain_words(tmp_path):
    """Damaged bytes of the header, an archive, objects: never a traceback, nor advice to load it all the same."""
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 2), np.float32))
    whole, rng = (tmp_path / "a.npy").read_bytes(), np.random.default_rng(0)
    wrong = [b"PK" + whole[2:], whole[:-1], b""]
    for place in range(10, 80):
        wrong.append(whole[:place] + rng.bytes(1) + whole[place + 1 :])
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    wrong.append((tmp_path / "objects.npy").read_bytes())
    told = set()
    for data in wrong:
        (tmp_path / "a.npy").write_bytes(data)
        for look in (read_flow, read_flow_size):
            try:
                look(tmp_path / "a.npy")
            except DataError as failure:
                told.add(failure.problem)
    assert any("truncated" in words for words in told) and not any("pickle" in words for words in told)


def test_npy__of_either_axis_order(tmp_path):
    flow, _ = some_flow()
    np.save(tmp_path / "last.npy", flow.transpose(1, 2, 0))
    np.save(tmp_path / "first.npy", flow)
    for name in ("last", "first"):
        np.testing.assert_array_equal(read_flow(tmp_path / f"{name}.npy")[0], flow)


def test_flo5__through_h5py_or_a_word_about_it(tmp_path):
    try:
        import h5py  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(UsageError, match="h5py"):
            read_flow(tmp_path / "a.flo5")
        return
    flow, known = some_flow()
    write_flow(tmp_path / "a.flo5", flow, known)
    np.testing.assert_array_equal(read_flow(tmp_path / "a.flo5")[0], flow)


def broken(folder: Path, name: str) -> Path:
    """A file with one fault, by name."""
    flow = np.zeros((2, 3, 4), np.float32)
    path = folder / f"broken.{name.rsplit(' ', 1)[1]}"
    if name.endswith(("flo", "pfm")):
        write_flow(path, flow)
        data = path.read_bytes()
        path.write_bytes(
            {
                "wrong magic flo": b"PIEX" + data[4:],
                "short body flo": data[:-4],
                "long body flo": data + b"0000",
                "absurd size flo": data[:4] + struct.pack("<ii", -1, 4) + data[12:],
                "only a magic flo": data[:4],
                "wrong magic pfm": b"P6" + data[2:],
                "short body pfm": data[:-1],
            }[name]
        )
    elif name.endswith("png"):
        cv2.imwrite(
            str(path), np.zeros((3, 4, 3), np.uint8 if "8-bit" in name else np.uint16)[..., : 3 - ("gray" in name) * 2]
        )
    elif name == "no flow npy":
        np.save(path, np.zeros((3, 4)))
    else:
        path.write_bytes(b"\x93NUMPY nothing")
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong magic flo", "magic"),
        ("short body flo", "body is too short"),
        ("long body flo", "body is too long"),
        ("absurd size flo", "size"),
        ("only a magic flo", "size"),
        ("wrong magic pfm", "header"),
        ("short body pfm", "body is too short"),
        ("8-bit png", "16 bits"),
        ("gray png", "three channels"),
        ("no flow npy", r"\(H, W, 2\)"),
        ("damaged npy", "NumPy"),
    ],
)
def test_broken_file__is_named_with_its_fault(tmp_path, name, message):
    path = broken(tmp_path, name)
    for look in (read_flow, read_flow_size):
        with pytest.raises(DataError, match=message) as failure:
            look(path)
        assert str(path) in str(failure.value)


def test_missing_file__is_named(tmp_path):
    for suffix in (".flo", ".png", ".pfm", ".npy"):
        with pytest.raises(DataError, match=f"absent{suffix}"):
            read_flow(tmp_path / f"absent{suffix}")


def test_flo__unknown_from_a_billion_on(tmp_path):
    """OpenCV's readers take fabs(u) < 1e9 for known, and some writers fill with 1e9 itself."""
    flow = np.array([[[1e9, 2.0, -1e9], [9e8, 1e10, np.nan]]] * 2, np.float32)
    header = np.float32(202021.25).tobytes() + np.array([3, 2], "<i4").tobytes()
    (tmp_path / "a.flo").write_bytes(header + flow.transpose(1, 2, 0).astype("<f4").tobytes())
    np.testing.assert_array_equal(read_flow(tmp_path / "a.flo")[1], [[False, True, False], [True, False, False]])


def test_unknown_suffix__offers_the_known(tmp_path):
    with pytest.raises(UsageError, match="flo"):
        read_flow(tmp_path / "a.fl")


@pytest.mark.realdata
def test_middlebury__unknown_shares_and_speeds_as_published(real_data):
    folder = real_data / "data/flow_middlebury"
    published = {
        "train/RubberWhale": (1.6, 5),
        "train/Grove2": (0.0, 5),
        "val/Hydrangea": (6.6, 11),
        "train/Urban2": (0.0, 22),
    }
    for scene, (unknown, fastest) in published.items():
        flow, valid = read_flow(folder / scene / "flow10.flo")
        assert 100 * (1 - valid.mean()) == pytest.approx(unknown, abs=0.06)
        assert np.hypot(*flow).max() == pytest.approx(fastest, abs=0.8)


@pytest.mark.realdata
def test_kitti__of_the_devkit(real_data):
    flow, valid = read_flow(real_data / "data/flow_kitti_sample/flow_gt.png")
    assert flow.shape == (2, 375, 1242) and 100 * valid.mean() == pytest.approx(16.2, abs=0.05)
    assert (flow[0].min(), flow[0].max()) == pytest.approx((-184.3, 74.6), abs=0.06)
