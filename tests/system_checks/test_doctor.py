"""densevision doctor finds planted faults, and nothing on a sound machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import cv2
import PIL.Image
import pytest
import torch

import densevision
from densevision.cli.main import root
from densevision.system_checks import bundled, devices, memory, threads
from densevision.system_checks.report import CHECKS

Patch = pytest.MonkeyPatch


def write_metadata(site: Path, name: str, version: str, lines: str = "") -> None:
    """Writes the metadata of an installed distribution that is found before the real one."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}")


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: Patch) -> Path:
    """A machine without faults; returns a folder whose packages are found first."""
    for name in ("cache", "work", "tmp", "site"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DENSEVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    # What differs between the machines that run the tests.
    monkeypatch.setattr(memory, "measure_available_bytes", lambda: 16 * 2**30)
    monkeypatch.setattr(memory, "SHARED_MEMORY", tmp_path / "no shared memory")
    monkeypatch.setattr(threads, "count_usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(devices, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr("densevision.system_checks.packages._check_duplicates", lambda: iter(()))
    return tmp_path


def test_doctor__is_silent_on_a_sound_machine(sound: Path) -> None:
    report = densevision.doctor(quick=True)
    assert not report.faults and not report.has_errors
    assert len(report.findings) >= len(CHECKS) - 1


def use_old_python(folder: Path, patch: Patch) -> None:
    write_metadata(folder / "site", "densevision", "0.1.0", "Requires-Python: >=3.99\n")


def use_old_package(folder: Path, patch: Patch) -> None:
    write_metadata(folder / "site", "timm", "0.4.12")


def remove_package(folder: Path, patch: Patch) -> None:
    write_metadata(folder / "site", "densevision", "0.1.0", "Requires-Dist: a-package-nobody-has>=1\n")


def hide_gpu(folder: Path, patch: Patch) -> None:
    patch.setattr(devices, "has_nvidia_driver", lambda: True)
    patch.setattr(torch.cuda, "is_available", lambda: False)
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def take_memory(folder: Path, patch: Patch) -> None:
    patch.setattr(memory, "measure_available_bytes", lambda: 300 * 2**20)


def shrink_shared_memory(folder: Path, patch: Patch) -> None:
    patch.setattr(memory, "SHARED_MEMORY", folder)
    patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=64 * 2**20, free=50 * 2**30))


def add_threads(folder: Path, patch: Patch) -> None:
    patch.setattr(torch, "get_num_threads", lambda: 64)


def break_codec(folder: Path, patch: Patch) -> None:
    PIL.Image.init()
    patch.delitem(PIL.Image.SAVE, "WEBP")


def remove_video(folder: Path, patch: Patch) -> None:
    patch.setattr(cv2.videoio_registry, "getBackends", lambda: [])


def block_cache(folder: Path, patch: Patch) -> None:
    (folder / "file").write_text("")
    patch.setenv("DENSEVISION_CACHE", str(folder / "file"))


def remove_temporary_folder(folder: Path, patch: Patch) -> None:
    patch.setenv("TMPDIR", str(folder / "missing"))


def lose_certificates(folder: Path, patch: Patch) -> None:
    patch.setenv("SSL_CERT_FILE", str(folder / "missing.pem"))


def mistype_proxy(folder: Path, patch: Patch) -> None:
    patch.setenv("HTTPS_PROXY", "proxy.example.org")


def enable_telemetry(folder: Path, patch: Patch) -> None:
    patch.setenv("ORT_DISABLE_TELEMETRY", "0")


def truncate_weights(folder: Path, patch: Patch) -> None:
    whole = bundled.find_bundled_weights("depth")
    (folder / "depth.safetensors").write_bytes(whole.read_bytes()[:100_000])
    patch.setattr(bundled, "find_bundled_weights", lambda task: folder / "depth.safetensors")


@pytest.mark.parametrize(
    ("plant", "name", "status"),
    [
        (use_old_python, "python", "error"),
        (use_old_package, "timm", "error"),
        (remove_package, "a-package-nobody-has", "error"),
        (hide_gpu, "cuda", "warning"),
        (take_memory, "memory", "error"),
        (shrink_shared_memory, "shared memory", "warning"),
        (add_threads, "threads", "warning"),
        (break_codec, "WebP", "error"),
        (remove_video, "video", "warning"),
        (block_cache, "cache folder", "error"),
        (remove_temporary_folder, "temporary folder", "error"),
        (lose_certificates, "SSL_CERT_FILE", "warning"),
        (mistype_proxy, "HTTPS_PROXY", "warning"),
        (enable_telemetry, "ORT_DISABLE_TELEMETRY", "warning"),
        (truncate_weights, "bundled weights", "error"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_doctor__finds_a_planted_fault(
    plant: Callable[[Path, Patch], None], name: str, status: str, sound: Path, monkeypatch: Patch
) -> None:
    plant(sound, monkeypatch)
    report = densevision.doctor(quick=True)
    assert {(fault.name, fault.status) for fault in report.faults} == {(name, status)}
    assert all(fault.hint for fault in report.faults)
    assert report.has_errors == (status == "error")


def test_doctor__a_check_that_raises_is_a_finding(sound: Path, monkeypatch: Patch) -> None:
    def fail() -> None:
        raise OSError("libtorch_cpu.so: undefined symbol")

    monkeypatch.setattr(import_module("densevision.system_checks.threads"), "check_threads", fail)
    (fault,) = densevision.doctor(quick=True).faults
    assert fault.name == "threads" and fault.status == "error" and "undefined symbol" in fault.message


def test_command__json_and_exit_code(sound: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    assert root.main(["doctor", "--quick", "--json"], standalone_mode=False) == 0
    assert {line["status"] for line in json.loads(capsys.readouterr().out)["findings"]} == {"ok"}
    mistype_proxy(sound, monkeypatch)
    assert root.main(["doctor", "--quick"], standalone_mode=False) == 0  # a warning
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("warning")]) == 1
    take_memory(sound, monkeypatch)
    assert root.main(["doctor", "--quick"], standalone_mode=False) == 1


def test_help__loads_no_torch() -> None:
    code = (
        "import sys\nfrom densevision.cli.main import run\n"
        "try:\n    run(['doctor', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_doctor__round_trip(sound: Path) -> None:
    (line,) = (finding for finding in densevision.doctor().findings if finding.name == "round trip")
    assert line.status == "ok", line.message
    assert "train, predict" in line.message
