"""predict of videos and streams on the command line: files of tracks and counts, and streams that end badly."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from stream_server import serve_streams

from densevision.cli.main import run
from densevision.datasets.scenes import SceneVideo
from densevision.io.image import write_image
from densevision.io.video import VideoWriter, read_video
from densevision.metrics.mot_files import read_mot

pytest.importorskip("trackers")
WEAK = ["high_conf_det_threshold=0.3", "track_activation_threshold=0.3", "minimum_consecutive_frames=1"]
TRACK = ["--track", "bytetrack", *(part for option in WEAK for part in ("--track-option", option))]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with VideoWriter(path, 10) as writer:
        for sample in SceneVideo(6, seed=3, size=(160, 160)):
            writer.write(sample.images["image"])
    return path


def predict(*arguments: object) -> int:
    """The exit code of a prediction with the bundled detector."""
    try:
        run(["detection", "predict", *map(str, arguments)])
    except SystemExit as ending:
        return int(ending.code or 0)
    return 0


def test_video__tracks_counts_and_drawing(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    regions = ["--line", "80,0,80,160", "--zone", "0,0,160,0,160,160,0,160"]
    formats = ["--save", "mot", "--save", "cocovid", "--save", "mp4", "--save", "json"]
    assert predict(video, *TRACK, *regions, *formats, "--out", tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{number:06d}.json" for number in range(6)),
        *("clip.txt", "clip.json", "clip.mp4", "counts.csv"),
    }
    rows = read_mot(tmp_path / "clip.txt", is_truth=False)
    records = [json.loads((tmp_path / f"{number:06d}.json").read_text()) for number in range(6)]
    pairs = [
        (number + 1, own_id) for number, record in enumerate(records) for own_id in record["track_ids"] if own_id > 0
    ]
    assert sorted(zip(rows.frames.tolist(), rows.ids.tolist())) == sorted(pairs) and len(pairs) >= 6
    assert len(json.loads((tmp_path / "clip.json").read_text())["annotations"]) == len(pairs)
    with open(tmp_path / "counts.csv", newline="") as stream:
        counts = [row for row in csv.DictReader(stream) if row["frame"] == "6" and row["region"] == "zone 1"]
    assert sum(int(row["inside"]) for row in counts) == len(records[5]["boxes"])  # the zone is the image
    assert len(list(read_video(tmp_path / "clip.mp4"))) == 6
    assert "zone 1: " in capsys.readouterr().out


def test_folders__one_file_of_tracks_for_each_sequence(video: Path, tmp_path: Path) -> None:
    frames = list(read_video(video))
    for name in ("MOT-01/img1", "MOT-02/img1"):
        for number in range(3):
            write_image(tmp_path / "in" / name / f"{number + 1:06d}.png", frames[number])
    assert predict(tmp_path / "in", *TRACK, "--save", "mot", "--out", tmp_path / "out", "--quiet") == 0
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["MOT-01.txt", "MOT-02.txt"]
    texts = [(tmp_path / "out" / name).read_text() for name in files]
    assert texts[0] == texts[1] and texts[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--save", "mot"],
        ["--line", "80,0,80,160"],
        ["--zone", "1,2,three"],
        ["--track-option", "lost_track_buffer=3"],
        ["--json", "--zone", "0,0,9,0,9,9"],
        ["--timeout", "3"],
    ],
)
def test_options__without_effect(arguments: list[str], video: Path, tmp_path: Path) -> None:
    out = [] if "--json" in arguments else ["--out", tmp_path / "out"]
    assert predict(video, *arguments, *out) == 2
    assert not (tmp_path / "out").exists()


def test_tasks__without_objects_do_not_offer_it(capsys: pytest.CaptureFixture) -> None:
    run(["depth", "predict", "--help"])
    text = capsys.readouterr().out
    assert not any(word in text for word in ("--track", "--line", "cocovid")) and "--reconnect" in text


def test_stream__what_came_before_it_broke_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with serve_streams() as server:
        code = predict(server.address("/cut"), *TRACK, "--save", "mp4", "--save", "mot", "--out", tmp_path)
    assert code == 3 and "closed after frame" in capsys.readouterr().err
    (video,) = tmp_path.glob("*.mp4")
    assert video.with_suffix(".txt").exists() and 1 <= len(list(read_video(video))) <= 8


def test_stream__limit_of_frames(tmp_path: Path) -> None:
    with serve_streams() as server:
        assert predict(server.address("/live"), "--max-frames", 3, "--out", tmp_path, "--quiet") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.png", "000001.png", "000002.png"]
