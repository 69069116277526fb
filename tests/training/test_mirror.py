"""A run is copied to remote storage, and continued from there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from densevision import train
from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.run_folder import RunFolder
from densevision.training.mirror import RunMirror, fetch_run

fsspec = pytest.importorskip("fsspec")
ADDRESS = "memory://mirrors/run-7"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    system = fsspec.filesystem("memory")
    yield system
    if system.exists("/mirrors"):
        system.rm("/mirrors", recursive=True)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "local")
    (folder.path / "plots").mkdir(parents=True)
    folder.config.write_text(f"task: detection\ntrain: {{mirror: '{ADDRESS}'}}\n")
    folder.checkpoint.write_bytes(b"one")
    folder.add_row({"epoch": 1, "train/loss": 2.0})
    (folder.plots / "curves.png").write_bytes(b"png")
    return folder


def test_mirror__copies_what_has_changed_and_is_fetched(run: RunFolder, storage: Any) -> None:
    mirror = RunMirror(run, ADDRESS)
    assert mirror.copy()
    names = {name.removeprefix("/mirrors/run-7/") for name in storage.find("/mirrors/run-7")}
    assert names == {"config.yaml", "last.ckpt", "metrics.csv", "plots/curves.png"}
    storage.pipe_file("/mirrors/run-7/plots/curves.png", b"kept")
    run.checkpoint.write_bytes(b"two, longer")
    assert mirror.copy()
    assert storage.cat_file("/mirrors/run-7/plots/curves.png") == b"kept"
    fetched = RunFolder(fetch_run(ADDRESS))
    assert fetched.path == Path("runs/run-7") and fetched.checkpoint.read_bytes() == b"two, longer"
    assert fetched.read_rows() == run.read_rows()


def test_fetch__keeps_a_run_that_went_on_here_and_takes_one_that_went_on_elsewhere(run: RunFolder) -> None:
    RunMirror(run, ADDRESS).copy()
    here = RunFolder(fetch_run(ADDRESS))
    here.checkpoint.write_bytes(b"further")
    here.add_row({"epoch": 2, "train/loss": 1.0})
    assert RunFolder(fetch_run(ADDRESS)).checkpoint.read_bytes() == b"further"
    for epoch in (2, 3):
        run.add_row({"epoch": epoch, "train/loss": 1.0})
    run.checkpoint.write_bytes(b"furthest")
    RunMirror(run, ADDRESS).copy()
    assert RunFolder(fetch_run(ADDRESS)).checkpoint.read_bytes() == b"furthest"


def test_fetch__refuses_another_run_and_an_empty_address(run: RunFolder, storage: Any) -> None:
    RunMirror(run, ADDRESS).copy()
    Path("runs/run-7").mkdir(parents=True)
    Path("runs/run-7/config.yaml").write_text("task: detection\ntrain: {epochs: 3}\n")
    with pytest.raises(DataError):
        fetch_run(ADDRESS)
    with pytest.raises(DataError):
        fetch_run("memory://mirrors/absent")


def test_copy__that_fails_is_logged_and_made_up_for(
    run: RunFolder, storage: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("denied")

    mirror = RunMirror(run, ADDRESS)
    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "put_file", refuse)
        with caplog.at_level(logging.WARNING):
            assert not mirror.copy()
    assert "denied" in caplog.text
    assert mirror.copy() and storage.exists("/mirrors/run-7/last.ckpt")


def test_train__mirror_must_be_an_address(tiny: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        train("detection", "scenes:4:7", overrides={**tiny, "train.mirror": "folder"}, out="run", quiet=True)
    assert error.value.field == "train.mirror"


@pytest.mark.slow
def test_resume__from_the_copy_equals_never_having_stopped(tiny: dict[str, Any], monkeypatch) -> None:
    whole = RunFolder(train("detection", "scenes:8:7", overrides=tiny, out="whole", quiet=True))
    cut = {**tiny, "train.mirror": ADDRESS, "train.max_time": 1e-9}
    train("detection", "scenes:8:7", overrides=cut, out="cut", quiet=True)
    resumed = RunFolder(train(resume=ADDRESS, quiet=True))
    assert resumed.path == Path("runs/run-7") and len(resumed.read_rows()) == 2
    a, b = load_file(whole.last), load_file(resumed.last)
    assert a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)
    assert fsspec.filesystem("memory").cat_file("/mirrors/run-7/last.ckpt") == resumed.checkpoint.read_bytes()


@pytest.mark.slow
def test_train__whose_last_copy_fails_says_so(tiny: dict[str, Any], storage: Any, monkeypatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("denied")

    monkeypatch.setattr(type(storage), "put_file", refuse)
    settings = {**tiny, "train.mirror": ADDRESS, "train.epochs": 1}
    with pytest.raises(DenseVisionError):
        train("detection", "scenes:4:7", overrides=settings, out="run", quiet=True)
    assert RunFolder(Path("run")).checkpoint.exists()
