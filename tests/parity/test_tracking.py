"""The metrics of tracks equal TrackEval's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_tracks import make_random_sequence, write_rows

import densevision

pytestmark = pytest.mark.parity
trackeval = pytest.importorskip("trackeval")


def run_trackeval(folder: Path, names: list[str], frames: int, benchmark: str, preprocess: bool) -> dict[str, float]:
    quiet = {"PRINT_CONFIG": False}
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(folder / "truth"),
            "TRACKERS_FOLDER": str(folder / "trackers"),
            "TRACKERS_TO_EVAL": ["mine"],
            "SEQ_INFO": dict.fromkeys(names, frames),
            "SKIP_SPLIT_FOL": True,
            "BENCHMARK": benchmark,
            "DO_PREPROC": preprocess,
            **quiet,
        }
    )
    metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(quiet), trackeval.metrics.Identity(quiet)]
    options = {"PRINT_RESULTS": False, "OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False, "PLOT_CURVES": False}
    evaluator = trackeval.Evaluator({**quiet, **options, "TIME_PROGRESS": False, "BREAK_ON_ERROR": True})
    results, _ = evaluator.evaluate([dataset], metrics)
    parts = results["MotChallenge2DBox"]["mine"]["COMBINED_SEQ"]["pedestrian"]
    hota = {name: float(np.mean(parts["HOTA"][name])) for name in ("HOTA", "DetA", "AssA", "LocA")}
    clear = {name: float(parts["CLEAR"][name]) for name in ("MOTA", "MOTP", "IDSW", "Frag", "MT", "PT", "ML")}
    errors = {"FP": float(parts["CLEAR"]["CLR_FP"]), "FN": float(parts["CLEAR"]["CLR_FN"])}
    identity = {name: float(parts["Identity"][name]) for name in ("IDF1", "IDP", "IDR")}
    return {**hota, **clear, **errors, **identity}


@pytest.mark.parametrize("seed", range(4))
def test_score__equals_trackeval(seed: int, tmp_path: Path) -> None:
    for name, number in (("A", 2 * seed), ("B", 2 * seed + 1)):
        truth, found = make_random_sequence(number)
        write_rows(tmp_path / "truth" / name / "gt" / "gt.txt", truth, "1,1,1")
        write_rows(tmp_path / "trackers" / "mine" / "data" / f"{name}.txt", found, "0.9,-1,-1,-1")
    expected = run_trackeval(tmp_path, ["A", "B"], 60, "MOT17", preprocess=False)
    report = densevision.score("detection", tmp_path / "truth", tmp_path / "trackers" / "mine" / "data")
    assert report.metrics == pytest.approx(expected, abs=1e-9)
    assert (
        0.2 < report.metrics["HOTA"] < 0.9
        and report.metrics["IDSW"] > 0
        and set(report.tables["per sequence"])
        == {
            "A",
            "B",
        }
    )


@pytest.mark.parametrize("benchmark", ["MOT16", "MOT17", "MOT20"])
def test_score__benchmark_rules_equal_trackeval(benchmark: str, tmp_path: Path) -> None:
    """Classes 1 to 13 and flags 0: distractors take predictions with them."""
    truth, found = make_random_sequence(11)
    classes = (1, 7, 1, 6, 1, 12, 1, 2)
    lines = [f"{','.join(map(str, row))},{int(row[0] % 5 > 0)},{classes[row[1] - 1]},1\n" for row in truth]
    write_rows(tmp_path / "truth" / "A" / "gt" / "gt.txt", [], "").write_text("".join(lines))
    file = write_rows(tmp_path / "trackers" / "mine" / "data" / "A.txt", found, "0.9,-1,-1,-1")
    expected = run_trackeval(tmp_path, ["A"], 60, benchmark, preprocess=True)
    overrides = {"evaluation.mot_benchmark": benchmark}
    report = densevision.score("detection", tmp_path / "truth", file.parent, overrides=overrides)
    assert report.metrics == pytest.approx(expected, abs=1e-9)
    plain = densevision.score("detection", tmp_path / "truth", file.parent)
    assert plain.metrics["FN"] != report.metrics["FN"] and report.protocol["benchmark"] == benchmark
