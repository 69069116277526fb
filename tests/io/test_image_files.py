"""Listing of image files: hidden files, frames, and file names of other systems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densevision.io.box_table import StringArray
from densevision.io.foreign_names import localize_name
from densevision.io.image_files import count_frames, is_inside, list_files, list_images, measure_images
from densevision.io.label_issues import IssueKind, LabelIssues


def write(path: Path, frames: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [Image.fromarray(np.full((4, 6), 40 * number, np.uint8)) for number in range(frames)]
    options = {"save_all": True, "append_images": images[1:]} if frames > 1 else {}
    images[0].save(path, **options)
    return path


def test_list_images__skips_hidden_and_system_files(tmp_path: Path) -> None:
    names = ["a.png", "sub/b.png"]
    hidden = ["._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/sub/._b.png", "sub/.cache/deep/c.png"]
    for name in (*names, *hidden):
        write(tmp_path / name)
    issues = LabelIssues("fail")
    assert list_images(tmp_path, issues) == names
    assert issues.counts == {(IssueKind.FILE_HIDDEN, "skipped"): len(hidden)}
    assert [path.name for path in list_files(tmp_path, "*.png")] == ["a.png"]


def test_list_images__a_hidden_dataset_folder_is_listed(tmp_path: Path) -> None:
    write(tmp_path / ".data" / "a.png")
    assert list_images(tmp_path / ".data") == ["a.png"]


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".webp"])
def test_measure_images__several_frames_are_counted(suffix: str, tmp_path: Path) -> None:
    assert count_frames(write(tmp_path / f"many{suffix}", 3)) == 3
    assert count_frames(write(tmp_path / f"one{suffix}")) == 1
    issues, files = LabelIssues("fail"), StringArray.of([f"many{suffix}", f"one{suffix}"])
    sizes = measure_images(files, tmp_path, np.ones(2, bool), issues, 10**6, lambda row: ("list", "field"))
    assert sizes.tolist() == [[4, 6], [4, 6]]
    assert issues.counts == {(IssueKind.IMAGE_FRAMES, "kept"): 1} and issues.examples[0].value == "3 frames"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub/a.png", "sub/a.png"),
        ("sub\\a.png", "sub/a.png"),
        (".\\sub\\a.png", "sub/a.png"),
        ("C:\\data\\set\\sub\\a.png", "sub/a.png"),
        ("C:/data/set/sub/a.png", "sub/a.png"),
        ("/data/set/sub/a.png", "sub/a.png"),
        ("missing\\b.png", "missing/b.png"),
        ("C:\\data\\b.png", "C:\\data\\b.png"),
        ("back\\slash.png", "back\\slash.png"),
        ("..\\..\\etc\\a.png", "../../etc/a.png"),
        ("https://example.org/data/sub/a.png?size=2", "sub/a.png"),
        ("https://example.org/b.png", "https://example.org/b.png"),
        ("SUB/A.PNG", "sub/a.png"),
        ("C:\\Data\\Sub\\A.png", "sub/a.png"),
        ("sub/cafe\u0301.png", "sub/caf\u00e9.png"),
        ("my%20image.png", "my image.png"),
        ("twin.PNG", "twin.PNG"),
        ("../SUB/A.PNG", "../SUB/A.PNG"),
    ],
)
def test_localize_name__finds_files_below_the_folder(name: str, expected: str, tmp_path: Path) -> None:
    write(tmp_path / "sub" / "a.png")
    write(tmp_path / "back\\slash.png")
    write(tmp_path / "sub" / "caf\u00e9.png")
    write(tmp_path / "my image.png")
    write(tmp_path / "twin.png")
    write(tmp_path / "Twin.png")
    assert localize_name(name, tmp_path) == expected


def test_localize_name__existing_absolute_path_stays_refused(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside.png")
    (tmp_path / "set").mkdir()
    name = localize_name(str(outside), tmp_path / "set")
    assert name == str(outside) and not is_inside(name)
