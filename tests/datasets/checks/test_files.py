"""Checks of image files, tested by planting one fault at a time in a YOLO dataset."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from densevision.cli.main import run
from densevision.datasets.checks.catalog import FILE_CHECKS
from densevision.datasets.checks.image_scanner import scan_image
from densevision.datasets.checks.near_duplicates import (
    MAX_DISTANCE,
    MIN_CORRELATION,
    Fingerprint,
    compute_fingerprint,
    find_leaks,
    find_near_duplicates,
)
from densevision.datasets.checks.report import check_dataset
from densevision.tasks import load_check, load_config


@pytest.fixture
def dataset(tmp_path: Path, texture) -> Path:
    """A YOLO dataset of twelve training and four validation images."""
    root = tmp_path / "data"
    for split, seeds in (("train", range(12)), ("val", range(20, 24))):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for seed in seeds:
            cv2.imwrite(str(root / "images" / split / f"{seed}.png"), texture(seed))
            (root / "labels" / split / f"{seed}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    return root


def add_image(root: Path, name: str) -> Path:
    """Adds a label, and returns the path of its image."""
    path = root / "images" / name
    label = (root / "labels" / name).with_suffix(".txt")
    label.write_text("0 0.5 0.5 0.4 0.4\n")
    return path


def list_missing_image(root: Path) -> None:
    (root / "train.txt").write_text("images/train/0.png\nimages/train/absent.png\n")
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [thing]\n")


def set_orientation(root: Path) -> None:
    path = root / "images" / "train" / "0.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)


def add_similar(root: Path, target: str) -> None:
    image = cv2.imread(str(root / "images" / "train" / "0.png"))
    larger = cv2.resize(image, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(add_image(root, target)), larger, [cv2.IMWRITE_JPEG_QUALITY, 90])


def add_copy(root: Path, target: str) -> None:
    shutil.copy(root / "images" / "train" / "0.png", add_image(root, target))


def rename_jpeg(root: Path) -> None:
    data = cv2.imencode(".jpg", cv2.imread(str(root / "images" / "train" / "0.png")))[1]
    (root / "images" / "train" / "0.png").write_bytes(data.tobytes())


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "image-missing": (list_missing_image, "images/train/absent.png"),
    "image-broken": (lambda root: (root / "images/train/0.png").write_bytes(b"no image"), "0.png"),
    "image-truncated": (
        lambda root: (root / "images/train/0.png").write_bytes((root / "images/train/0.png").read_bytes()[:-300]),
        "0.png",
    ),
    "image-suffix": (rename_jpeg, "0.png"),
    "image-mode": (
        lambda root: cv2.imwrite(str(root / "images/train/0.png"), cv2.imread(str(root / "images/train/0.png"), 0)),
        "0.png",
    ),
    "image-orientation": (set_orientation, "0.png"),
    "name-case": (lambda root: add_similar(root, "train/0.PNG"), "0.PNG"),
    "image-duplicate": (lambda root: add_copy(root, "train/copy.png"), "copy.png"),
    "image-near-duplicate": (lambda root: add_similar(root, "train/like.jpg"), "like.jpg"),
    "leak": (lambda root: add_copy(root, "val/copy.png"), "copy.png"),
    "leak-near": (lambda root: add_similar(root, "val/like.jpg"), "like.jpg"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_files__planted_fault(name: str, dataset, check) -> None:
    plant, file = FAULTS[name]
    plant(dataset)
    findings = {finding.check.name: finding for finding in check("detection", dataset).findings}
    assert name in findings, findings
    assert findings[name].count == 1
    assert file in str(findings[name].locations[0])


def test_files__no_findings_in_clean_data(dataset, check) -> None:
    report = check("detection", dataset)
    assert report.findings == [] and not report.has_errors
    assert report.counts["train"] == {"images": 12, "boxes": 12}


def test_files__tests_every_check() -> None:
    assert set(FAULTS) | {"split-missing"} == {check.name for check in FILE_CHECKS}


def test_files__different_bits_are_a_different_mode(dataset, check) -> None:
    path = dataset / "images" / "train" / "3.png"
    cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)
    findings = {finding.check.name: finding for finding in check("detection", dataset).findings}
    assert "16 bits" in str(findings["image-mode"].locations[0])


def test_fix__copy_is_clean_and_the_dataset_unchanged(dataset, check, tmp_path) -> None:
    for plant, _ in (FAULTS["image-truncated"], FAULTS["leak"], FAULTS["image-duplicate"]):
        plant(dataset)
    add_copy(dataset, "train/second.png")
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    report = check("detection", dataset, fix=tmp_path / "clean")
    assert report.has_errors and report.changes
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
    again = check("detection", tmp_path / "clean")
    assert not again.has_errors, again.findings
    assert all(finding.check.name not in ("leak", "image-duplicate") for finding in again.findings)
    remaining = {path.name for path in (tmp_path / "clean" / "images" / "train").iterdir()}
    assert remaining == {f"{seed}.png" for seed in range(1, 12)}
    assert {path.stem for path in (tmp_path / "clean" / "labels" / "train").iterdir()} == {
        str(seed) for seed in range(1, 12)
    }


def test_fix__writes_neither_in_place_nor_a_partial_copy(dataset, check, tmp_path, monkeypatch) -> None:
    from densevision.errors import DenseVisionError, UsageError

    for folder in (dataset, dataset / "clean", tmp_path):
        with pytest.raises(UsageError):
            check("detection", dataset, fix=folder)

    def raise_disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", raise_disk_full)
    with pytest.raises(DenseVisionError, match="No space left"):
        check("detection", dataset, fix=tmp_path / "clean")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_cli__table_json_and_exit_code(dataset, tmp_path, capsys) -> None:
    run(["detection", "check", str(dataset), "--quiet"])
    assert "no problems found" in capsys.readouterr().out
    FAULTS["leak"][0](dataset)
    with pytest.raises(SystemExit) as ending:
        run(["detection", "check", str(dataset), "--json", "--quiet", "--fix", str(tmp_path / "clean")])
    assert ending.value.code == 3
    report = json.loads(capsys.readouterr().out)
    assert report["kinds"] == {"error": 1, "warning": 0, "note": 0}
    (finding,) = report["findings"]
    assert finding["name"] == "leak" and finding["count"] == 1 and finding["hint"]
    assert finding["examples"][0]["file"] == "images/val/copy.png"
    assert any("images/train/0.png" in change for change in report["changes"])


def test_progress__covers_every_image(dataset) -> None:
    bars = []

    def bar(items, title):
        bars.append((title, len(items)))
        return items

    config = load_config("detection").resolve(None, {"data.path": str(dataset)})
    check_dataset("detection", config, load_check("detection").check, None, bar)
    assert bars == [("train: images", 12), ("val: images", 4)]


def fingerprint(name: str, image: np.ndarray) -> Fingerprint:
    return compute_fingerprint(name.encode(), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def test_find_near_duplicates__as_comparing_all_pairs(texture) -> None:
    """The bands miss no similar pair: reference compares every pair bit by bit."""
    rng = np.random.default_rng(0)
    base = [texture(seed) for seed in range(60)]
    noisy = [np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8) for image in base[:30]]
    images = [fingerprint(str(number), image) for number, image in enumerate([*base, *noisy])]
    expected = set()
    for later, second in enumerate(images):
        for first in images[:later]:
            is_near = bin(first.dhash ^ second.dhash).count("1") <= MAX_DISTANCE
            if is_near and np.corrcoef(first.thumbnail, second.thumbnail)[0, 1] >= MIN_CORRELATION:
                expected.add(later)
    assert {index for _, index in find_near_duplicates(images)} == expected
    assert len(expected) >= 15
    leaks = find_leaks(images[:60], images[60:])
    assert {60 + index for _, index, _ in leaks} == expected and not any(is_identical for _, _, is_identical in leaks)
    assert find_leaks(images[:3], images[2:3]) == [(2, 0, True)]


def test_find_near_duplicates__ignores_flat_images() -> None:
    flat = [fingerprint(str(gray), np.full((32, 32, 3), gray, np.uint8)) for gray in (0, 128, 255)]
    assert find_near_duplicates(flat) == []


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_scan_image__formats(suffix: str, tmp_path, texture) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(texture(0)).save(path)
    info = scan_image(path)
    assert info.fault is None and info.size == (48, 64)
    assert info.fingerprint.digest == scan_image(path).fingerprint.digest != b""


def test_scan_image__jpeg_with_trailing_bytes_is_complete(tmp_path, texture) -> None:
    data = io.BytesIO()
    Image.fromarray(texture(0)).save(data, "JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(data.getvalue() + b"\0" * 10000)
    assert scan_image(path).fault is None


def test_leak__file_in_both_splits_is_not_fixed(dataset, check, tmp_path) -> None:
    (dataset / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [thing]\n")
    report = check("detection", dataset, tmp_path / "clean")
    assert [(finding.check.name, finding.count) for finding in report.findings] == [("leak", 12)]
    assert len(list((tmp_path / "clean/images/train").iterdir())) == 12
    assert any("12 images are listed in both splits" in note for note in report.notes)


def test_python__same_report_as_the_command_line(dataset, tmp_path, capsys) -> None:
    import densevision

    FAULTS["leak"][0](dataset)
    report = densevision.check("detection", dataset, fix=tmp_path / "clean")
    with pytest.raises(SystemExit):
        run(["detection", "check", str(dataset), "--json", "--quiet"])
    printed = json.loads(capsys.readouterr().out)
    assert {key: value for key, value in report.to_dict().items() if key != "changes"} == printed
    assert densevision.check("detection", tmp_path / "clean").findings == []


@pytest.mark.parametrize("name", ["name", "absent"])
def test_cli__invalid_dataset(name: str, tmp_path, capsys) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(SystemExit) as ending:
        run(["detection", "check", str(tmp_path / name)])
    assert ending.value.code == 3 and capsys.readouterr().err.startswith("error: ")
