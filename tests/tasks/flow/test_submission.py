"""The submission trees of Sintel and KITTI: the names that their servers expect, and numbers that read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.errors import DataError
from densevision.io.flow import read_flow
from densevision.io.image import write_image
from densevision.results import FlowField
from densevision.tasks.flow.submission import submit_kitti, submit_sintel

SIZE = (4, 6)


class Constant:
    """Says that everything moves by (1, -2), and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def predict(self, source, stream=False, **options):
        self.asked.append((source, options))
        record = FlowField.from_arrays(np.stack([np.full(SIZE, 1.0), np.full(SIZE, -2.0)]))
        return iter([record] * (len(source) - 1)) if stream else record


def frames(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        write_image(folder / name, np.zeros((*SIZE, 3), np.uint8))


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_sintel__every_frame_but_the_last_of_each_scene_and_pass(tmp_path):
    for rendering in ("clean", "final"):
        frames(tmp_path / f"test/{rendering}/cave_3", "frame_0001.png", "frame_0002.png", "frame_0003.png")
    model = Constant()
    written = list(submit_sintel(model, tmp_path, tmp_path / "out", warm_start=True))
    wanted = [f"{rendering}/cave_3/frame_000{number}.flo" for rendering in ("clean", "final") for number in (1, 2)]
    assert below(tmp_path / "out") == wanted and len(written) == 4
    assert read_flow(written[0])[0][:, 0, 0].tolist() == [1, -2]
    assert all(options == {"warm_start": True} for _, options in model.asked)


def test_kitti__sixteen_bits_under_the_first_frames_name(tmp_path):
    frames(tmp_path / "testing/image_2", "000000_10.png", "000000_11.png", "000001_10.png", "000001_11.png")
    written = list(submit_kitti(Constant(), tmp_path, tmp_path / "out"))
    assert below(tmp_path / "out") == ["flow/000000_10.png", "flow/000001_10.png"]
    flow, valid = read_flow(written[1])
    assert flow[:, 0, 0].tolist() == [1, -2] and valid.all()


def test_nothing_to_submit__is_reported(tmp_path):
    for submit in (submit_sintel, submit_kitti):
        with pytest.raises(DataError, match="test set"):
            list(submit(Constant(), tmp_path, tmp_path / "out"))
