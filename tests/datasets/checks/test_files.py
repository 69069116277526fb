"""Faults of files, which every task looks for: planted one by one in a dataset of boxes."""

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
from densevision.datasets.checks.catalog import SHARED
from densevision.datasets.checks.image_scanner import ImageInfo, look
from densevision.datasets.checks.near_duplicates import DISTANCE, leaks, nearly_twice, prints
from densevision.datasets.checks.report import examine
from densevision.tasks import load_check, load_config


@pytest.fixture
def dataset(tmp_path: Path, texture) -> Path:
    """Twelve images to train on and four to validate, as YOLO txt."""
    root = tmp_path / "data"
    for split, seeds in (("train", range(12)), ("val", range(20, 24))):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for seed in seeds:
            cv2.imwrite(str(root / "images" / split / f"{seed}.png"), texture(seed))
            (root / "labels" / split / f"{seed}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    return root


def also(root: Path, name: str) -> Path:
    """A new image's place, with a label beside it."""
    path = root / "images" / name
    label = (root / "labels" / name).with_suffix(".txt")
    label.write_text("0 0.5 0.5 0.4 0.4\n")
    return path


def listed_but_missing(root: Path) -> None:
    (root / "train.txt").write_text("images/train/0.png\nimages/train/absent.png\n")
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [thing]\n")


def turned(root: Path) -> None:
    path = root / "images" / "train" / "0.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)


def looks_the_same(root: Path, target: str) -> None:
    image = cv2.imread(str(root / "images" / "train" / "0.png"))
    larger = cv2.resize(image, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(also(root, target)), larger, [cv2.IMWRITE_JPEG_QUALITY, 90])


def copied(root: Path, target: str) -> None:
    shutil.copy(root / "images" / "train" / "0.png", also(root, target))


def renamed(root: Path) -> None:
    data = cv2.imencode(".jpg", cv2.imread(str(root / "images" / "train" / "0.png")))[1]
    (root / "images" / "train" / "0.png").write_bytes(data.tobytes())


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "image-missing": (listed_but_missing, "images/train/absent.png"),
    "image-broken": (lambda root: (root / "images/train/0.png").write_bytes(b"no image"), "0.png"),
    "image-truncated": (
        lambda root: (root / "images/train/0.png").write_bytes((root / "images/train/0.png").read_bytes()[:-300]),
        "0.png",
    ),
    "image-suffix": (renamed, "0.png"),
    "image-mode": (
        lambda root: cv2.imwrite(str(root / "images/train/0.png"), cv2.imread(str(root / "images/train/0.png"), 0)),
        "0.png",
    ),
    "image-orientation": (turned, "0.png"),
    "name-case": (lambda root: looks_the_same(root, "train/0.PNG"), "0.PNG"),
    "image-twice": (lambda root: copied(root, "train/copy.png"), "copy.png"),
    "image-nearly-twice": (lambda root: looks_the_same(root, "train/like.jpg"), "like.jpg"),
    "leak": (lambda root: copied(root, "val/copy.png"), "copy.png"),
    "leak-near": (lambda root: looks_the_same(root, "val/like.jpg"), "like.jpg"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_files__planted_fault(name: str, dataset, check) -> None:
    plant, file = FAULTS[name]
    plant(dataset)
    found = {finding.check.name: finding for finding in check("detection", dataset).findings}
    assert name in found, found
    assert found[name].count == 1
    assert file in str(found[name].places[0])


def test_files__clean_data_is_silent(dataset, check) -> None:
    report = check("detection", dataset)
    assert report.findings == [] and not report.failed
    assert report.counts["train"] == {"images": 12, "boxes": 12}


def test_files__every_check_is_planted() -> None:
    assert set(FAULTS) | {"split-missing"} == {one.name for one in SHARED}


def test_files__bits_count_as_a_mode(dataset, check) -> None:
    path = dataset / "images" / "train" / "3.png"
    cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)
    found = {finding.check.name: finding for finding in check("detection", dataset).findings}
    assert "16 bits" in str(found["image-mode"].places[0])


def test_fix__copy_is_clean_and_the_original_stays(dataset, check, tmp_path) -> None:
    for plant, _ in (FAULTS["image-truncated"], FAULTS["leak"], FAULTS["image-twice"]):
        plant(dataset)
    copied(dataset, "train/second.png")
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    report = check("detection", dataset, fix=tmp_path / "clean")
    assert report.failed and report.changes
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
    again = check("detection", tmp_path / "clean")
    assert not again.failed, again.findings
    assert all(finding.check.name not in ("leak", "image-twice") for finding in again.findings)
    left = {path.name for path in (tmp_path / "clean" / "images" / "train").iterdir()}
    assert left == {f"{seed}.png" for seed in range(1, 12)}
    assert {path.stem for path in (tmp_path / "clean" / "labels" / "train").iterdir()} == {
        str(seed) for seed in range(1, 12)
    }


def test_fix__never_in_place_and_never_half(dataset, check, tmp_path, monkeypatch) -> None:
    from densevision.errors import DenseVisionError, UsageError

    for place in (dataset, dataset / "clean", tmp_path):
        with pytest.raises(UsageError, match=r"is there already|lies in the dataset"):
            check("detection", dataset, fix=place)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(DenseVisionError, match="No space left"):
        check("detection", dataset, fix=tmp_path / "clean")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_cli__table_json_and_exit_code(dataset, tmp_path, capsys) -> None:
    run(["detection", "check", str(dataset), "--quiet"])
    assert "nothing was found" in capsys.readouterr().out
    FAULTS["leak"][0](dataset)
    with pytest.raises(SystemExit) as ending:
        run(["detection", "check", str(dataset), "--json", "--quiet", "--fix", str(tmp_path / "clean")])
    assert ending.value.code == 3
    report = json.loads(capsys.readouterr().out)
    assert report["kinds"] == {"error": 1, "warning": 0, "note": 0}
    (found,) = report["findings"]
    assert found["name"] == "leak" and found["count"] == 1 and found["hint"]
    assert found["examples"][0]["file"] == "images/val/copy.png"
    assert any("images/train/0.png" in change for change in report["changes"])


def test_progress__a_bar_over_every_image(dataset) -> None:
    bars = []

    def bar(items, title):
        bars.append((title, len(items)))
        return items

    config = load_config("detection").resolve(None, {"data.path": str(dataset)})
    examine("detection", config, load_check("detection").check, None, bar)
    assert bars == [("train: images", 12), ("val: images", 4)]


def facts(name: str, image: np.ndarray) -> ImageInfo:
    dhash, thumbnail = prints(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    return ImageInfo(name, digest=name.encode(), dhash=dhash, thumbnail=thumbnail)


def test_likeness__agrees_with_comparing_all_pairs(texture) -> None:
    """The bands lose no pair that is near: against every pair compared bit by bit."""
    rng = np.random.default_rng(0)
    base = [texture(seed) for seed in range(60)]
    noisy = [np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8) for image in base[:30]]
    images = [facts(str(number), image) for number, image in enumerate([*base, *noisy])]
    expected = set()
    for later, second in enumerate(images):
        for first in images[:later]:
            near = bin(first.dhash ^ second.dhash).count("1") <= DISTANCE
            if near and np.corrcoef(first.thumbnail, second.thumbnail)[0, 1] >= 0.985:
                expected.add(second.file)
    assert {later.file for _, later in nearly_twice(images)} == expected
    assert len(expected) >= 15
    assert {theirs.file for _, theirs, _ in leaks(images[:60], images[60:])} == expected


def test_likeness__flat_images_are_not_alike() -> None:
    flat = [facts(str(gray), np.full((32, 32, 3), gray, np.uint8)) for gray in (0, 128, 255)]
    assert list(nearly_twice(flat)) == []


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_look__size_and_mode_of_each_format(suffix: str, tmp_path, texture) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(texture(0)).save(path)
    found = look(path)
    assert found.fault is None and found.size == (48, 64)
    assert found.digest == look(path).digest != b""


def test_look__jpeg_with_a_tail_is_whole(tmp_path, texture) -> None:
    data = io.BytesIO()
    Image.fromarray(texture(0)).save(data, "JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(data.getvalue() + b"\0" * 10000)
    assert look(path).fault is None


def test_leak__a_file_of_both_splits_is_left_to_the_person(dataset, check, tmp_path) -> None:
    (dataset / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [thing]\n")
    report = check("detection", dataset, tmp_path / "clean")
    assert [(found.check.name, found.count) for found in report.findings] == [("leak", 12)]
    assert len(list((tmp_path / "clean/images/train").iterdir())) == 12
    assert any("12 images are listed in both splits" in note for note in report.notes)


def test_python__says_what_the_command_line_says(dataset, tmp_path, capsys) -> None:
    import densevision

    FAULTS["leak"][0](dataset)
    report = densevision.check("detection", dataset, fix=tmp_path / "clean")
    with pytest.raises(SystemExit):
        run(["detection", "check", str(dataset), "--json", "--quiet"])
    printed = json.loads(capsys.readouterr().out)
    assert {key: value for key, value in report.to_dict().items() if key != "changes"} == printed
    assert densevision.check("detection", tmp_path / "clean").findings == []


@pytest.mark.parametrize("name", ["name", "absent"])
def test_cli__what_is_no_dataset_is_an_error_of_data(name: str, tmp_path, capsys) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(SystemExit) as ending:
        run(["detection", "check", str(tmp_path / name)])
    assert ending.value.code == 3 and capsys.readouterr().err.startswith("error: ")
