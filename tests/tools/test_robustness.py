"""Robustness of an interpolation, which must degrade as its input images do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from densevision.evaluation.report import Report
from densevision.evaluation.result import EvaluationResult
from densevision.evaluation.robustness import Robustness, Step
from densevision.io.image import write_image
from densevision.metrics.bootstrap import Interval


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A super-resolution dataset: smooth images, small ones made of them."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(3):
            coarse = rng.integers(40, 200, (12, 12, 3)).astype(np.uint8)
            write_image(tmp_path / split / f"{number}.png", np.kron(coarse, np.ones((4, 4, 1), np.uint8)))
    return tmp_path


def test_interpolation__loses_by_noise_and_darkness(images: Path, tool, tmp_path: Path) -> None:
    command = ("robustness", "superres", "--weights", "bicubic", "--data", images, "--limit", 2)
    only = ("--only", "noise", "--only", "darkness", "--only", "rotation")
    code, out, err = tool(*command, *only, "--out", tmp_path / "page", "--json")
    assert code == 0, err
    found = json.loads(out)
    monitored, clean = found["watched"], found["clean"]["metrics"][found["watched"]]
    for name in ("noise", "darkness"):
        values = [step["metrics"][monitored] for step in found["corruptions"][name]]
        assert clean > values[0] and values == sorted(values, reverse=True)
    # The ground truth is rotated as well, so the remaining image is predicted nearly as well as before.
    assert (
        found["corruptions"]["rotation"][0]["metrics"][monitored]
        > found["corruptions"]["darkness"][0]["metrics"][monitored]
    )
    page = (tmp_path / "page/index.html").read_text()
    assert all(word in page for word in ("noise", "One image", "robustness"))
    assert json.loads((tmp_path / "page/robustness.json").read_text()) == found
    assert found["counts"]["images"] == 2 and found["protocol"]["prediction"] and found["intervals"]["draws"] == 200
    assert "Protocol" in page and found["model"].startswith("superres bicubic (no weights)")


def test_names__unknown_corruptions_are_refused(images: Path, tool) -> None:
    code, _, err = tool("robustness", "superres", "--weights", "bicubic", "--data", images, "--only", "nose")
    assert code == 2 and "noise" in err


def test_names__given_twice_are_measured_once(images: Path, tool) -> None:
    command = ("robustness", "superres", "--weights", "bicubic", "--data", images, "--limit", 1, "--json")
    code, out, err = tool(*command, "--only", "darkness", "--only", "darkness")
    assert code == 0, err
    assert [step["strength"] for step in json.loads(out)["corruptions"]["darkness"]] == [0.5, 0.25, 0.1]


@pytest.mark.parametrize("program", [("robustness", "superres", "--weights"), ("compare", "superres", "bicubic")])
def test_seed__below_0_is_a_wrong_use(program: tuple[str, ...], images: Path, tool) -> None:
    code, _, err = tool(*program, "bicubic", "--data", images, "--seed", -1)
    assert code == 2 and "--seed" in err and "Traceback" not in err


def test_kept__errors_in_pixels_of_scaled_images_are_as_large_as_they_were() -> None:
    def step(strength: float, epe: float) -> Step:
        return Step(strength, {"EPE": epe}, Interval(epe, epe))

    evaluation = EvaluationResult(Report("flow", {}, {}, {}), None, lambda ids: [], "a model")
    found = Robustness(evaluation, "EPE", step(1, 2.0), steps={"scale": [step(0.5, 1.0)], "noise": [step(5, 4.0)]})
    assert found.retention("scale", step(0.5, 1.0)) == 1 and found.retention("scale", step(1.5, 6.0)) == 0.5
    assert found.retention("noise", step(5, 4.0)) == 0.5 and "pixels" in found.note()


def test_table__stands_with_its_protocol(images: Path, tool) -> None:
    command = (
        "robustness",
        "superres",
        "--weights",
        "bicubic",
        "--data",
        images,
        "--limit",
        1,
        "--only",
        "darkness",
        "--quiet",
    )
    code, out, err = tool(*command)
    assert code == 0 and "200 resamples" in out and "protocol: {" in out and "counts: images 1" in out and not err
