"""Report pages: self-contained, complete, and rendered by a browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.cli.main import run
from densevision.errors import UsageError
from densevision.evaluation.report_page import format_command
from densevision.evaluation.score import score
from densevision.io.depth import write_depth
from densevision.io.image import write_image

COUNT = 12
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Depth maps whose error grows with the number in the name, with images; and their report."""
    root = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        truth = rng.uniform(1, 9, (48, 64)).astype(np.float32)
        name = f"{number:02}"
        write_depth(root / f"truth/{name}.pfm", truth)
        write_depth(root / f"predictions/{name}.pfm", truth * (1 + 0.02 * number))
        write_image(root / f"images/{name}.png", rng.integers(0, 256, (48, 64, 3)).astype(np.uint8))
    write_depth(root / "truth/<b>single.pfm", truth)
    with pytest.raises(SystemExit) as ending:
        arguments = ["depth", "score", "--truth", str(root / "truth"), "--predictions", str(root / "predictions")]
        run([*arguments, "--images", str(root / "images"), "--report", str(root / "page"), "--json"])
        raise SystemExit(0)
    assert not ending.value.code
    return root


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "page/index.html").read_text(encoding="utf-8")


def test_page__loads_nothing_from_outside(page: str) -> None:
    sources = re.findall(r"""(?:src|href|url|action|data)\s*[=(]\s*["']?([^"'\s>)]+)""", page)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"<(script|link|iframe|object|embed|form|base)\b|@import|https?://", page)


def test_page__sections(page: str) -> None:
    for part in ("Metrics", "Images", "Tables", "by distance", "Plots", "Protocol", "Versions", "Reproduce"):
        assert part in page, part
    assert "densevision depth score --truth" in page and "images without prediction: &lt;b&gt;single" in page
    worst, best = page.index("11: AbsRel 0.22"), page.index("00: AbsRel 0")
    assert page.index("Worst by AbsRel") < worst < page.index("Best by AbsRel") < best


def test_report__data_beside_the_page(folder: Path) -> None:
    report = json.loads((folder / "page/report.json").read_text())
    low, high = report["intervals"]["AbsRel"]
    assert low < report["metrics"]["AbsRel"] < high and report["metrics"]["AbsRel"] == pytest.approx(0.11, abs=1e-6)
    rows = list(csv.DictReader((folder / "page/images.csv").open()))
    assert [row["image"] for row in rows] == [f"{number:02}" for number in range(COUNT)]
    assert [float(row["AbsRel"]) for row in rows] == pytest.approx([0.02 * number for number in range(COUNT)], abs=1e-5)


def test_page__one_image(folder: Path, tmp_path: Path) -> None:
    score("depth", folder / "truth/03.pfm", folder / "predictions/03.pfm", report=tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["intervals"]["AbsRel"] == [None, None] and "Worst" in (tmp_path / "index.html").read_text()


def test_score__images_without_report(folder: Path) -> None:
    with pytest.raises(UsageError, match="images"):
        score("depth", folder / "truth", folder / "predictions", images=folder / "images")


def test_format_command__quoting() -> None:
    options = {"weights": None, "data": "my data", "set": ["a=1", "b=2"], "tta": ("flip", "scale"), "quiet": True}
    expected = "densevision depth evaluate --data 'my data' --set a=1 --set b=2 --tta flip --tta scale --quiet"
    assert format_command("depth", "evaluate", options) == expected


def test_page__in_a_browser(folder: Path, tmp_path: Path) -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser: {', '.join(BROWSERS)}")
    shot = tmp_path / "page.png"
    command = [
        *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *("--window-size=1200,3200", f"--screenshot={shot}", (folder / "page/index.html").as_uri()),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    image = cv2.imread(str(shot))
    assert image.shape == (3200, 1200, 3)
    # Only the drawn depth maps and the plots are colored.
    is_colored = np.ptp(image.astype(int), axis=2) > 80
    assert is_colored.mean() > 0.03 and is_colored[900:].any(1).mean() > 0.3
