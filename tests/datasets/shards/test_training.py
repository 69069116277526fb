"""Training from shards and from remote storage equals training from the folder, bit for bit; so does resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from densevision import train
from densevision.datasets.conversion import convert_dataset
from densevision.run_folder import RunFolder
from tests.datasets.shards.conftest import make_yolo

pytest.importorskip("pyarrow")


def run(data: str | Path, out: Path, settings: dict[str, Any]) -> Path:
    return train("detection", data, overrides=settings, out=out, quiet=True)


def have_same_weights(first: Path, second: Path) -> bool:
    a, b = (load_file(each / "last.safetensors") for each in (first, second))
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


@pytest.fixture
def settings(tiny: dict[str, Any]) -> dict[str, Any]:
    return {**tiny, "train.epochs": 2, "data.workers": 0}


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_train__from_tar_parquet_and_memory_equals_the_folder(
    tmp_path: Path, upload: Callable[[Path], str], settings: dict[str, Any]
) -> None:
    make_yolo(tmp_path / "set")
    for kind in ("webdataset", "parquet"):
        convert_dataset(tmp_path / "set", tmp_path / kind, kind)
    folder = run(tmp_path / "set", tmp_path / "folder-run", settings)
    assert have_same_weights(folder, run(upload(tmp_path / "set"), tmp_path / "memory-run", settings))
    small_cache = {**settings, "data.cache_size": 1e-5}
    assert have_same_weights(folder, run(tmp_path / "parquet", tmp_path / "parquet-run", small_cache))
    # With a process that reads, and stopped and resumed after the first epoch.
    stopped = {**settings, "data.workers": 1, "train.max_time": 1e-9}
    cut = run(tmp_path / "webdataset", tmp_path / "cut", stopped)
    assert len(RunFolder(cut).read_rows()) == 1 and not have_same_weights(folder, cut)
    train(resume=cut, quiet=True)
    assert have_same_weights(folder, cut)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_train__storage_that_fails_for_one_image_counts_it_or_stops(
    tmp_path: Path, upload: Callable[[Path], str], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    from densevision.errors import DataError

    make_yolo(tmp_path / "set")
    address = upload(tmp_path / "set")
    one = {**settings, "train.epochs": 1, "augment.mosaic": 0.0, "data.cache_size": 1e-6}
    run(address, tmp_path / "first", one)  # the images are measured
    read = MemoryFileSystem.cat_file

    def fail(self: Any, path: str, *arguments: Any, **options: Any) -> bytes:
        if path.endswith("train/3.png"):
            raise TimeoutError("no response")
        content: bytes = read(self, path, *arguments, **options)
        return content

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    monkeypatch.setattr("densevision.io.remote.ATTEMPTS", 1)
    with pytest.raises(DataError, match=r"3\.png"):
        run(address, tmp_path / "stopped", one)
    skipping = run(address, tmp_path / "skipped", {**one, "data.on_error": "skip"})
    assert len(RunFolder(skipping).read_rows()) == 1 and "3.png" in caplog.text
