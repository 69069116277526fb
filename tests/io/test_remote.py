"""Files by address: reading, listing, writing, and stores that fail, stall or are full."""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.io import remote


@pytest.fixture
def store() -> Iterator[str]:
    """A folder in memory with three files."""
    system = fsspec.filesystem("memory")
    for name in ("a/2.jpg", "a/1.JPG", "notes.txt"):
        system.pipe_file(f"/remote/{name}", name.encode())
    yield "memory://remote"
    system.rm("/remote", recursive=True)


class FaultySystem(LocalFileSystem):
    """Local files behind a store whose next calls fail or stall."""

    protocol = "faulty"
    failures: list[Exception] = []  # noqa: RUF012  shared on purpose
    stall = threading.Event()
    calls = 0

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        type(self).calls += 1
        if self.failures:
            raise self.failures.pop(0)
        if self.stall.is_set():
            time.sleep(1.5)
        return super().cat_file(path, start, end, **options)

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        with open(self._strip_protocol(path), "wb") as stream:
            stream.write(value[: len(value) // 2])
            if self.failures:
                raise self.failures.pop(0)
            stream.write(value[len(value) // 2 :])


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[str]:
    fsspec.register_implementation("faulty", FaultySystem, clobber=True)
    (tmp_path / "a.bin").write_bytes(b"0123456789")
    FaultySystem.failures.clear()
    FaultySystem.stall.clear()
    FaultySystem.calls = 0
    yield f"faulty://{tmp_path}"
    FaultySystem.failures.clear()
    FaultySystem.stall.clear()


def test_list_files__by_suffix_and_depth(store: str) -> None:
    files = remote.list_files(store, (".jpg",))
    assert [(file.address, file.size) for file in files] == [
        ("memory:///remote/a/1.JPG", 7),
        ("memory:///remote/a/2.jpg", 7),
    ]
    assert len(remote.list_files(store)) == 3
    assert [file.address for file in remote.glob_files(f"{store}/*/2*")] == ["memory:///remote/a/2.jpg"]


def test_read_bytes__whole_and_range(store: str) -> None:
    assert remote.read_bytes(f"{store}/notes.txt") == b"notes.txt"
    assert remote.read_bytes(f"{store}/notes.txt", 1, 4) == b"ote"
    with remote.open_file(f"{store}/notes.txt") as stream:
        stream.seek(5)
        assert stream.read() == b".txt"
    assert remote.is_folder(f"{store}/a") and not remote.is_folder(f"{store}/notes.txt")
    assert remote.exists(f"{store}/notes.txt") and not remote.exists(f"{store}/other")


def test_read_bytes__missing_file_is_not_tried_again(faulty: str) -> None:
    with pytest.raises(DataError) as caught:
        remote.read_bytes(f"{faulty}/none.bin")
    assert caught.value.file == f"{faulty}/none.bin"
    assert FaultySystem.calls == 1


def test_read_bytes__passing_failures_are_tried_again(faulty: str) -> None:
    FaultySystem.failures += [OSError("reset"), ConnectionError("reset")]
    assert remote.read_bytes(f"{faulty}/a.bin") == b"0123456789"
    FaultySystem.failures += [OSError("reset")] * remote.ATTEMPTS
    with pytest.raises(DataError, match="reset"):
        remote.read_bytes(f"{faulty}/a.bin")
    assert not FaultySystem.failures


def test_read_bytes__stalled_store_ends_in_time(faulty: str) -> None:
    FaultySystem.stall.set()
    begin = time.monotonic()
    with pytest.raises(DataError) as caught:
        remote.read_bytes(f"{faulty}/a.bin", timeout=0.05)
    assert time.monotonic() - begin < 2.5
    assert caught.value.file == f"{faulty}/a.bin"
    assert FaultySystem.calls == remote.ATTEMPTS


def test_write_bytes__whole_or_not_at_all(faulty: str, tmp_path: Path) -> None:
    remote.write_bytes(f"{faulty}/deep/b.bin", b"first")
    FaultySystem.failures.append(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DenseVisionError, match="No space"):
        remote.write_bytes(f"{faulty}/deep/b.bin", b"second")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["b.bin"]
    assert (tmp_path / "deep" / "b.bin").read_bytes() == b"first"
    remote.write_bytes(f"{faulty}/deep/b.bin", b"second")
    assert (tmp_path / "deep" / "b.bin").read_bytes() == b"second"


def test_write_and_remove__memory(store: str) -> None:
    address = remote.join_address(store, "new.bin")
    remote.write_bytes(address, b"123")
    assert remote.read_bytes(address) == b"123"
    remote.remove_file(address)
    assert not remote.exists(address)


def test_connect__unknown_scheme_absent_package_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError):
        remote.read_bytes("nothing-known://a/b")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError):
        remote.read_bytes("s3://bucket/a.jpg")
    monkeypatch.setenv("DENSEVISION_OFFLINE", "1")
    with pytest.raises(UsageError):
        remote.read_bytes("https://127.0.0.1:9/a.jpg")


def test_copies__up_and_down_whole_or_not_at_all(faulty: str, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(b"x" * 1000)
    remote.upload_file(tmp_path / "big.bin", f"{faulty}/new/big.bin")
    remote.download_file(f"{faulty}/new/big.bin", tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == b"x" * 1000
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["big.bin"]


def test_list_files__version_changes_with_the_content(store: str) -> None:
    before = remote.list_files(store)[-1].version
    time.sleep(0.01)
    remote.write_bytes(f"{store}/notes.txt", b"other")
    assert before and remote.list_files(store)[-1].version != before


def test_read_bytes__status_of_http(faulty: str) -> None:
    refusal = RuntimeError("refused")
    refusal.status = 403  # type: ignore[attr-defined]  # as aiohttp's errors have it
    FaultySystem.failures[:] = [refusal]
    with pytest.raises(remote.RemoteError, match="access"):
        remote.read_bytes(f"{faulty}/a.bin")
    assert FaultySystem.calls == 1
