"""Downloads against a local server with planted faults: the right file or a clear error, nothing half-written."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from densevision.io import download as module

SPEC = importlib.util.spec_from_file_location(
    "download_faults", Path(__file__).parents[2] / "tools" / "download_faults.py"
)
faults = importlib.util.module_from_spec(SPEC)
sys.modules["download_faults"] = faults
SPEC.loader.exec_module(faults)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with faults.serve_faults() as address:
        yield address


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*module.OFFLINE_VARIABLES, "http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize("fault", [*faults.RIGHT_FILE, *faults.ERRORS])
def test_download__right_file_or_error(
    fault: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault in faults.ERRORS:
        monkeypatch.setattr(module, "ATTEMPTS", 2)
    result = faults.run_case(fault, server, tmp_path)
    assert result["as_expected"], result


def test_download__resumes_where_it_broke(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    send = faults.FaultyServer._send

    def record(self: faults.FaultyServer, *arguments: object, **options: object) -> None:
        asked.append(self.headers.get("Range"))
        send(self, *arguments, **options)

    monkeypatch.setattr(faults.FaultyServer, "_send", record)
    assert module.download(f"{server}/breaks-and-resumes/counted", tmp_path / "file", faults.SHA256) == faults.SHA256
    assert asked == [None, f"bytes={faults.HALF}-"]


@pytest.mark.parametrize("name", module.OFFLINE_VARIABLES)
def test_download__offline_sends_no_request(
    name: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(faults.WeightsError):
        module.download(f"{server}/good/offline", tmp_path / "file", faults.SHA256)
    assert "/good/offline" not in faults.FaultyServer.requests
