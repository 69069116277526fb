"""PFM headers of all programs, read alike as depth and as flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.io.depth import read_depth, read_depth_size
from densevision.io.flow import read_flow, read_flow_size
from densevision.io.pfm import read_pfm, write_pfm

NUMBERS = np.arange(1, 16, dtype=np.float32).reshape(3, 5)
HEADERS = {
    "plain": "{}\n5 3\n-1.0\n",
    "big-endian": "{}\n5 3\n1.0\n",
    "CR LF": "{}\r\n5 3\r\n-1.0\r\n",
    "trailing blanks": "{}\n5 3 \n-1.0 \n",
    "Photoshop": "{}\n5\n3\n-1.0\n",
    "fraction": "{}\n5 3\n-0.0625\n",
    "comment": "{}\n# by x\n5 3\n-1.0\n",
    "comment after the size": "{}\n5 3\n# scale\n-1.0\n",
    "exponent": "{}\n5 3\n-1e0\n",
    "integer": "{}\n5 3\n-1\n",
    "one line": "{} 5 3 -1.0\n",
    "six digits": "{}\n5 3\n-1.000000\n",
}


def write(path: Path, name: str, array: np.ndarray) -> Path:
    kind = "Pf" if array.ndim == 2 else "PF"
    order = ">f4" if name == "big-endian" else "<f4"
    path.write_bytes(HEADERS[name].format(kind).encode() + array[::-1].astype(order).tobytes())
    return path


@pytest.mark.parametrize("name", HEADERS)
def test_headers__are_read_alike_as_depth_and_flow(name: str, tmp_path: Path) -> None:
    file = write(tmp_path / "depth.pfm", name, NUMBERS)
    np.testing.assert_array_equal(read_depth(file).depth, NUMBERS)
    assert read_depth_size(file) == (3, 5)
    file = write(tmp_path / "flow.pfm", name, np.dstack([NUMBERS, -NUMBERS, 0 * NUMBERS]))
    flow, valid = read_flow(file)
    np.testing.assert_array_equal(flow, [NUMBERS, -NUMBERS])
    assert valid.all() and read_flow_size(file) == (3, 5)


def test_channels__that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 channels"):
        read_depth(write(tmp_path / "a.pfm", "plain", np.dstack([NUMBERS] * 3)))
    with pytest.raises(DataError, match="1 channel"):
        read_flow(write(tmp_path / "b.pfm", "plain", NUMBERS))


@pytest.mark.parametrize(
    "data", [b"", b"Pf\n", b"P5\n5 3\n255\n", b"Pf\n5 3\n0\n" + bytes(60), b"Pf\n5 -3\n-1\n" + bytes(60)]
)
def test_other_files__are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pfm").write_bytes(data)
    with pytest.raises(DataError, match=r"not a \.pfm"):
        read_pfm(tmp_path / "a.pfm", 1)


@pytest.mark.parametrize("change", [-1, 1])
def test_length__must_be_that_of_the_header(change: int, tmp_path: Path) -> None:
    file = tmp_path / "a.pfm"
    write_pfm(file, NUMBERS)
    data = file.read_bytes()
    file.write_bytes(data[:change] if change < 0 else data + b"x")
    with pytest.raises(DataError, match="body"):
        read_depth_size(file)
