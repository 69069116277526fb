"""tools/compare.py: planted changes are found, of the right sign, and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from densevision.io.flow import write_flow

PAIRS = 20


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Flow that is off by 2 px; the other side by 1 px, but for one pair that is off by 9."""
    rng = np.random.default_rng(0)
    for number in range(PAIRS):
        truth = rng.normal(0, 5, (2, 20, 30)).astype(np.float32)
        name = f"{number:02}.flo"
        write_flow(tmp_path / "truth" / name, truth)
        write_flow(tmp_path / "one" / name, truth + np.float32([2, 0])[:, None, None])
        off = 9 if number == 7 else 1
        write_flow(tmp_path / "other" / name, truth + np.float32([0, off])[:, None, None])
    return tmp_path


def test_files__changes_verdicts_and_pictures(folders: Path, tool) -> None:
    sides = [folders / "one", folders / "other"]
    code, out, _ = tool("compare", "flow", *sides, "--truth", folders / "truth", "--json")
    assert code == 0
    found = json.loads(out)
    epe = found["differences"]["EPE"]
    assert (epe["one"], epe["other"]) == pytest.approx((2, 1 + 8 / PAIRS), abs=1e-5)
    assert epe["change"] == pytest.approx(-0.6, abs=1e-5) and epe["low"] < epe["change"] < epe["high"]
    assert found["differences"]["1px"]["verdict"] == "better" and found["by"] == "EPE"
    assert next(iter(found["pictures"])) == "07" and found["pictures"]["07"] == pytest.approx(7, abs=1e-5)
    again = [folders / "other", folders / "one"]
    swapped = json.loads(tool("compare", "flow", *again, "--truth", folders / "truth", "--json")[1])
    assert swapped["differences"]["EPE"]["change"] == pytest.approx(0.6, abs=1e-5)


def test_files__page_and_table(folders: Path, tool) -> None:
    sides = [folders / "one", folders / "other"]
    code, out, _ = tool("compare", "flow", *sides, "--truth", folders / "truth", "--out", folders / "page")
    assert code == 0 and "EPE most worse: 07 (+7)" in out
    page = (folders / "page/index.html").read_text()
    assert page.index("Changed most for the worse") < page.index("07: EPE +7") and "tools/compare.py" in page
    assert json.loads((folders / "page/compare.json").read_text())["task"] == "flow"


def test_arguments__that_contradict_are_refused(folders: Path, tool) -> None:
    code, _, err = tool("compare", "flow", folders / "one", folders / "other")
    assert code == 2 and "--truth" in err
    (folders / "other" / "03.flo").unlink()
    code, _, err = tool("compare", "flow", folders / "one", folders / "other", "--truth", folders / "truth")
    assert code == 3 and "different pictures" in err and "03" in err
