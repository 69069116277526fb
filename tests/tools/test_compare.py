"""tools/compare.py: planted changes are found, of the right sign, and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densevision
from densevision.errors import UsageError
from densevision.inference.predictor import build_without_weights
from densevision.io.depth import write_depth
from densevision.io.flow import write_flow
from densevision.io.image import write_image

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


def test_files__changes_verdicts_and_images(folders: Path, tool) -> None:
    sides = [folders / "one", folders / "other"]
    code, out, _ = tool("compare", "flow", *sides, "--truth", folders / "truth", "--json")
    assert code == 0
    found = json.loads(out)
    epe = found["differences"]["EPE"]
    assert (epe["one"], epe["other"]) == pytest.approx((2, 1 + 8 / PAIRS), abs=1e-5)
    assert epe["change"] == pytest.approx(-0.6, abs=1e-5) and epe["low"] < epe["change"] < epe["high"]
    assert found["differences"]["1px"]["verdict"] == "better" and found["by"] == "EPE"
    assert next(iter(found["images"])) == "07" and found["images"]["07"] == pytest.approx(7, abs=1e-5)
    again = [folders / "other", folders / "one"]
    swapped = json.loads(tool("compare", "flow", *again, "--truth", folders / "truth", "--json")[1])
    assert swapped["differences"]["EPE"]["change"] == pytest.approx(0.6, abs=1e-5)


def test_files__page_and_table(folders: Path, tool) -> None:
    sides = [folders / "one", folders / "other"]
    code, out, _ = tool("compare", "flow", *sides, "--truth", folders / "truth", "--out", folders / "page")
    assert code == 0 and "EPE most worse: 07 (+7)" in out
    page = (folders / "page/index.html").read_text()
    assert page.index("Largest deteriorations") < page.index("07: EPE +7")
    assert json.loads((folders / "page/compare.json").read_text())["task"] == "flow"


def test_arguments__that_contradict_are_refused(folders: Path, tool) -> None:
    code, _, err = tool("compare", "flow", folders / "one", folders / "other")
    assert code == 2 and "--truth" in err
    (folders / "other" / "03.flo").unlink()
    code, _, err = tool("compare", "flow", folders / "one", folders / "other", "--truth", folders / "truth")
    assert code == 3 and "different images" in err and "03" in err
    common = (folders / "one", folders / "one", "--truth", folders / "truth")
    code, _, err = tool("compare", "flow", *common, "--split", "val")
    assert code == 2 and err.startswith("error: split")
    for option in (("--on-error", "skip"), ("--images", "somewhere")):
        code, _, err = tool("compare", "superres", "bicubic", "bicubic", "--data", "somewhere", *option)
        assert code == 2 and err.startswith(f"error: {option[0][2:].replace('-', '_')}")


def test_files__protocol_counts_and_draws_stand_with_the_numbers(folders: Path, tool) -> None:
    common = (folders / "one", folders / "other", "--truth", folders / "truth", "--draws", 50, "--seed", 3)
    found = json.loads(tool("compare", "flow", *common, "--json")[1])
    assert found["counts"]["one"]["images"] == PAIRS and found["protocol"]["one"] == found["protocol"]["other"]
    assert found["protocol"]["one"] and found["versions"]["densevision"]
    assert found["intervals"] == {"draws": 50, "seed": 3, "level": 0.95}
    printed = tool("compare", "flow", *common, "--out", folders / "page")[1]
    assert "protocol: {" in printed and f"counts: images {PAIRS}" in printed and "50 " in printed
    page = (folders / "page/index.html").read_text()
    assert "Protocol" in page and "Versions" in page and "seed 3" in page


def test_files__nothing_got_better(folders: Path, tool) -> None:
    common = ("compare", "flow", folders / "truth", folders / "one", "--truth", folders / "truth")
    code, out, _ = tool(*common, "--out", folders / "page")
    assert code == 0 and "EPE most better: none" in out and "EPE most worse: 00" in out
    page = (folders / "page/index.html").read_text()
    assert "none" in page[page.index("Largest improvements") :].partition("<h2>")[0]


def test_files__equal_images_are_endlessly_good(tmp_path: Path, tool) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "truth" / f"{name}.png", np.full((24, 32, 3), 90, np.uint8))
        write_image(tmp_path / "found" / f"{name}.png", np.full((24, 32, 3), 91, np.uint8))
    truth = tmp_path / "truth"
    code, out, err = tool("compare", "superres", truth, truth, "--truth", truth, "--out", tmp_path / "same")
    assert code == 0 and " inf " in out, err
    code, out, _ = tool("compare", "superres", tmp_path / "found", truth, "--truth", truth, "--out", tmp_path / "page")
    assert code == 0 and "most better: b (+inf), a (+inf)" in out


def test_files__options_and_skipping_as_in_score(tmp_path: Path, tool) -> None:
    truth = np.random.default_rng(0).uniform(1, 9, (24, 32)).astype(np.float32)
    for name in ("a", "b"):
        for folder, factor in (("truth", 1), ("one", 2), ("other", 1.1)):
            write_depth(tmp_path / folder / f"{name}.pfm", truth * np.float32(factor))
    (tmp_path / "truth/b.pfm").write_bytes(b"Pf")
    common = ("compare", "depth", tmp_path / "one", tmp_path / "other", "--truth", tmp_path / "truth", "--json")
    assert tool(*common)[0] == 3
    code, out, err = tool(*common, "--on-error", "skip", "--set", "evaluation.align=none")
    found = json.loads(out)
    assert code == 0 and "broken files" in err and list(found["images"]) == ["a"]
    assert found["differences"]["AbsRel"]["change"] == pytest.approx(0.1 - 1, abs=1e-4)


def test_files__that_one_side_lacks_are_named_and_not_compared(folders: Path, tool) -> None:
    """The numbers are those of a comparison of the other images alone."""
    (folders / "other/03.flo").unlink()
    (folders / "one/07.flo").write_bytes(b"")
    common = ("compare", "flow", folders / "one", folders / "other", "--truth", folders / "truth")
    code, out, err = tool(*common, "--on-error", "skip", "--out", folders / "page")
    assert code == 0 and "not compared, on one side only: 2 (03, 07)" in out, err
    assert "03, 07" in (folders / "page/index.html").read_text()
    found = json.loads((folders / "page/compare.json").read_text())
    assert found["judged on one side only"] == ["03", "07"] and not {"03", "07"} & set(found["images"])
    for folder in ("one", "other", "truth"):
        for name in ("03.flo", "07.flo"):
            (folders / folder / name).unlink(missing_ok=True)
    whole = json.loads(tool(*common, "--json")[1])["differences"]
    for name, row in found["differences"].items():
        assert row.pop("verdict") == whole[name].pop("verdict") and row == pytest.approx(whole[name], nan_ok=True)


def test_weights__are_reported_by_network_and_file(tmp_path: Path, tool) -> None:
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 255, (24, 24, 3)).astype(np.uint8)
        write_image(tmp_path / "data/val" / f"{number}.png", image)
        write_image(tmp_path / "data/train" / f"{number}.png", image)
    model = build_without_weights("superres", {"model.width": 8, "model.depth": 1, "scale": 2})
    for name in ("a", "b"):
        model.save(tmp_path / f"{name}.safetensors")
    sides = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    code, out, err = tool("compare", "superres", *sides, "--data", tmp_path / "data", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert "superres edsr" in found["one"] and "mobilenet" not in found["one"]
    assert str(sides[0]) in found["one"] and str(sides[1]) in found["other"]


def test_python__equals_the_command_line(folders: Path, tool) -> None:
    sides = [folders / "one", folders / "other"]
    _, out, _ = tool("compare", "flow", *sides, "--truth", folders / "truth", "--json")
    found = densevision.compare("flow", *sides, truth=folders / "truth", out=folders / "page", quiet=True)
    assert found.differences["EPE"].change == json.loads(out)["differences"]["EPE"]["change"]
    assert (folders / "page" / "compare.json").is_file()
    _, out, _ = tool("errors", "flow", sides[0], "--truth", folders / "truth", "--json")
    errors = densevision.analyze("flow", sides[0], truth=folders / "truth", quiet=True)
    assert errors.to_dict() == json.loads(out)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "truth, data"),
        ({"truth": "a", "data": "b"}, "truth, data"),
        ({"truth": "a", "split": "val"}, "split"),
        ({"data": "a", "images": "b"}, "images"),
        ({"data": "a", "on_error": "skip"}, "on_error"),
    ],
)
def test_python__options_of_the_other_kind_of_source(options: dict[str, Any], field: str) -> None:
    for call in (
        lambda: densevision.compare("flow", "x", "y", **options),
        lambda: densevision.analyze("flow", "x", **options),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.field == field


def test_python__robustness_equals_the_command_line(tool) -> None:
    code, out, _ = tool("robustness", "depth", "--data", "scenes:16:0", "--only", "darkness", "--limit", "2", "--json")
    found = densevision.measure_robustness("depth", "scenes:16:0", corruptions=["darkness"], limit=2, quiet=True)
    assert code == 0 and found.to_dict() == json.loads(out)
