"""Metrics of tracks: hand-computed sequences, numbers of TrackEval, and files of MOTChallenge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_tracks import Row, make_random_sequence, write_rows

import densevision
from densevision.errors import DataError, UsageError
from densevision.metrics.mot_files import MotRows, pair_frames, read_mot
from densevision.metrics.tracking import TrackingCounts, compute_tracking_metrics, count_sequence


def score(truth: list[Row], rows: list[Row]) -> dict[str, float]:
    return compute_tracking_metrics(count_sequence(pair_frames(MotRows.of(truth), MotRows.of(rows))))


def move(track_id: int, frames: range, x: float = 0.0) -> list[Row]:
    """A box of 10 x 10 that moves to the right."""
    return [(frame, track_id, x + 3.0 * frame, 5.0, 10.0, 10.0) for frame in frames]


def test_metrics__truth_is_perfect() -> None:
    truth = move(1, range(1, 11)) + move(2, range(3, 8), 200)
    metrics = score(truth, [(frame, track_id + 6, *box) for frame, track_id, *box in truth])
    perfect = {name: metrics[name] for name in ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1", "IDP", "IDR")}
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0))
    assert (metrics["IDSW"], metrics["FP"], metrics["FN"], metrics["Frag"], metrics["MT"]) == (0, 0, 0, 0, 2)


def test_metrics__one_switch_in_the_middle() -> None:
    """Ten frames, five by each identity: every match has association 5 / 10."""
    metrics = score(move(1, range(1, 11)), move(4, range(1, 6)) + move(9, range(6, 11)))
    assert metrics["IDSW"] == 1 and metrics["MOTA"] == pytest.approx(1 - 1 / 10)
    assert metrics["IDF1"] == pytest.approx(0.5) and metrics["DetA"] == pytest.approx(1)
    assert metrics["AssA"] == pytest.approx(0.5) and metrics["HOTA"] == pytest.approx(0.5**0.5)


def test_metrics__gap_and_false_track() -> None:
    """Three of ten frames of the first object are missed in the middle; a false track of two frames lies elsewhere."""
    second = move(2, range(1, 11), 200)
    found = move(1, range(1, 5)) + move(1, range(8, 11)) + move(3, range(1, 3), 500) + second
    metrics = score(move(1, range(1, 11)) + second, found)
    assert (metrics["FN"], metrics["FP"], metrics["IDSW"], metrics["Frag"], metrics["PT"]) == (3, 2, 0, 1, 1)
    assert metrics["MOTA"] == pytest.approx(1 - 5 / 20)
    assert (metrics["IDR"], metrics["IDP"]) == (pytest.approx(17 / 20), pytest.approx(17 / 19))
    assert metrics["DetA"] == pytest.approx(17 / 22) and metrics["AssA"] == pytest.approx((7 * 0.7 + 10) / 17)


def test_metrics__nothing_predicted_or_nothing_there() -> None:
    missed, invented = score(move(1, range(1, 4)), []), score([], move(1, range(1, 4)))
    assert (missed["HOTA"], missed["IDF1"], missed["MOTA"], missed["FN"], missed["ML"]) == (0, 0, 0, 3, 1)
    assert (invented["HOTA"], invented["IDF1"], invented["FP"]) == (0, 0, 3)
    empty = compute_tracking_metrics(TrackingCounts())
    assert np.isnan([empty["HOTA"], empty["MOTA"], empty["IDF1"], empty["MOTP"]]).all()


TRACKEVAL = {
    **{"HOTA": 0.444266667, "DetA": 0.518725269, "AssA": 0.381917666, "LocA": 0.746225845},
    **{"MOTA": 0.593220339, "MOTP": 0.691481778, "IDSW": 17, "Frag": 52, "MT": 7, "PT": 9, "ML": 0, "FP": 47, "FN": 80},
    **{"IDF1": 0.601481481, "IDP": 0.632398754, "IDR": 0.573446328},
}
"""Of TrackEval 1.3.0 for the random sequences 0 and 1 together; tests/parity compares afresh."""


def test_score__equals_what_trackeval_gave(tmp_path: Path) -> None:
    for name, seed in (("A", 0), ("B", 1)):
        truth, found = make_random_sequence(seed)
        write_rows(tmp_path / "truth" / name / "gt" / "gt.txt", truth, "1,1,1")
        write_rows(tmp_path / "mine" / f"{name}.txt", found, "0.9,-1,-1,-1")
    report = densevision.score("detection", tmp_path / "truth", tmp_path / "mine")
    assert report.metrics == pytest.approx(TRACKEVAL, abs=1e-9) and set(report.tables["per sequence"]) == {"A", "B"}


# Files


def test_score__of_two_files_and_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from densevision.cli.main import run

    truth = write_rows(tmp_path / "gt.txt", move(1, range(1, 11)), "1,1,1")
    file = write_rows(tmp_path / "mine.txt", move(4, range(1, 6)) + move(9, range(6, 11)), "1,-1,-1,-1")
    run(["detection", "score", "--truth", str(truth), "--predictions", str(file)])
    printed = capsys.readouterr().out
    assert "IDF1" in printed and "0.5000" in printed and "TrackEval" in printed


def test_score__sequences_without_partner(tmp_path: Path) -> None:
    for name in ("A", "B"):
        write_rows(tmp_path / "truth" / f"{name}.txt", move(1, range(1, 4)), "1,1,1")
    for name in ("A", "C"):
        write_rows(tmp_path / "mine" / f"{name}.txt", move(1, range(1, 4)), "1,-1,-1,-1")
    with pytest.raises(DataError, match="B"):
        densevision.score("detection", tmp_path / "truth", tmp_path / "mine")
    (tmp_path / "mine" / "B.txt").write_text("")
    report = densevision.score("detection", tmp_path / "truth", tmp_path / "mine")
    assert report.metrics["MOTA"] == pytest.approx(0.5) and report.named == {"predictions without truth": ["C"]}


@pytest.mark.parametrize(
    "text",
    [
        "1,1,5,5,10",
        "1,1,5,5,10,ten,1",
        "0,1,5,5,10,10,1",
        "1,-1,5,5,10,10,1",
        "1,1,5,nan,10,10,1",
        "1,1,5,5,-2,10,1",
        "1,1,0,0,9,9,1\n1,1,50,0,9,9,1",
    ],
)
def test_read_mot__broken_rows_are_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text + "\n")
    with pytest.raises(DataError, match=r"a\.txt: (line|frame) 1"):
        read_mot(tmp_path / "a.txt", is_truth=False)


def test_read_mot__blanks_and_short_rows(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeff2 3 1.5 2 10 20\n\n1, 3, 0, 0, 10, 20, 0, 7\n", encoding="utf-8")
    rows = read_mot(tmp_path / "a.txt", is_truth=True)
    assert rows.frames.tolist() == [2, 1] and rows.boxes[0].tolist() == [1.5, 2, 10, 20]
    assert rows.flags.tolist() == [1, 0] and rows.labels.tolist() == [1, 7]


@pytest.mark.parametrize(
    ("option", "value"), [("evaluation.max_detections", 300), ("evaluation.mot_benchmark", "MOT17")]
)
def test_score__options_of_the_other_kind_of_files_are_refused(option: str, value: object, tmp_path: Path) -> None:
    truth = write_rows(tmp_path / "gt.txt", move(1, range(1, 3)), "1,1,1")
    coco = tmp_path / "gt.json"
    coco.write_text('{"images": [], "annotations": [], "categories": []}')
    source = truth if option == "evaluation.max_detections" else coco
    with pytest.raises(UsageError, match=option):
        densevision.score("detection", source, source, overrides={option: value})
