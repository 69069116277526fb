"""Identities: exact on synthetic videos, aligned with the boxes, one tracker for each sequence; options and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import densevision
from densevision.datasets.scenes import SceneVideo
from densevision.errors import UsageError
from densevision.inference.tracking import TRACKERS, Tracker
from densevision.io.image import write_image
from densevision.io.video import VideoWriter
from densevision.metrics.tracking import TrackedFrame, TrackingCounts, compute_tracking_metrics, count_sequence
from densevision.results import Detections

pytest.importorskip("trackers")
SIZE = (96, 128)


@pytest.fixture(scope="module")
def truth_records() -> list[list[Detections]]:
    """The exact boxes and identities of two short videos."""
    return [[sample.truth for sample in SceneVideo(50, seed=3, number=number, size=SIZE)] for number in range(2)]


def compute_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    common = sides.clip(0).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, others)]
    return common / (areas[0][:, None] + areas[1] - common)


def score(truth: list[Detections], tracked: list[Detections]) -> TrackingCounts:
    frames = []
    for frame, result in zip(truth, tracked, strict=True):
        found = result[result.track_ids >= 0]
        frames.append(TrackedFrame(frame.track_ids, found.track_ids, compute_iou(frame.boxes, found.boxes)))
    return count_sequence(frames)


def remove_ids(result: Detections, order: np.ndarray | None = None) -> Detections:
    result = result if order is None else result[order]
    return Detections.from_arrays(result.boxes, result.labels, result.names, result.size, scores=result.scores)


@pytest.mark.parametrize("name", TRACKERS)
def test_tracker__exact_boxes_keep_their_identities(name: str, truth_records: list[list[Detections]]) -> None:
    total = TrackingCounts()
    for truth in truth_records:
        tracker = Tracker(name, {"enable_cmc": False} if name == "botsort" else None, frame_rate=25)
        total += score(truth, [tracker.update(remove_ids(result)) for result in truth])
    metrics = compute_tracking_metrics(total)
    assert metrics["IDF1"] >= 0.9 and metrics["IDSW"] <= 1


def test_tracker__rows_stay_aligned_in_any_order(truth_records: list[list[Detections]]) -> None:
    rng = np.random.default_rng(0)
    plain, shuffled = Tracker(), Tracker()
    for truth in truth_records[0]:
        order = rng.permutation(len(truth))
        expected, result = plain.update(remove_ids(truth)), shuffled.update(remove_ids(truth, order))
        np.testing.assert_array_equal(result.boxes, truth.boxes[order])
        assert result.track_ids.dtype == np.int64 and result.track_ids.shape == (len(truth),)
        if (expected.track_ids >= 0).all():
            pairs = set(zip(expected.track_ids[order].tolist(), result.track_ids.tolist()))
            assert len(pairs) == len(truth)


def make_boxes(x: float, score: float = 1.0) -> Detections:
    return Detections.from_arrays([[x, 10, x + 20, 40]], [0], ("a",), (60, 200), scores=[score])


def test_tracker__identity_from_the_second_frame_and_none_for_weak_objects() -> None:
    tracker = Tracker(options={"minimum_consecutive_frames": 2, "track_activation_threshold": 0.5})
    ids = [tracker.update(make_boxes(x)).track_ids.tolist() for x in (10, 12, 14)]
    assert ids == [[-1], [1], [1]]
    weak = Tracker()
    assert [weak.update(make_boxes(x, 0.2)).track_ids.tolist() for x in (10, 12, 14)] == [[-1]] * 3
    assert Tracker().update(make_boxes(0)[:0]).track_ids.shape == (0,)


def test_tracker__times_of_uneven_frames_decide_when_a_track_ends() -> None:
    """The default buffer is one second: after a longer gap the object is a new one."""
    for gap, is_same in ((0.5, True), (3.0, False)):
        tracker = Tracker(options={"minimum_consecutive_frames": 1})
        tracker.update(make_boxes(10), time=0.0)
        first = tracker.update(make_boxes(10), time=0.04).track_ids[0]
        again = [tracker.update(make_boxes(10), time=0.04 + gap + 0.04 * step).track_ids[0] for step in range(2)]
        assert first == 1 and bool(again[-1] == 1) == is_same


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"lost_track_bufer": 3}, "lost_track_bufer"),
        ({"lost_track_buffer": "long"}, "lost_track_buffer"),
        ({"lost_track_buffer": 1.5}, "lost_track_buffer"),
        ({"frame_rate": 5.0}, "frame_rate"),
        ({"lost_track_buffer": -1}, "lost_track_buffer"),
    ],
)
def test_tracker__bad_options(options: dict[str, object], field: str) -> None:
    with pytest.raises(UsageError, match=field):
        Tracker("bytetrack", options)
    with pytest.raises(UsageError, match="bytetrack"):
        Tracker("bytetrak")


def test_tracker__without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(UsageError, match=r"densevision\[track\]"):
        Tracker()


# predict


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return next(iter(SceneVideo(1, seed=3, size=(160, 160)))).images["image"]


@pytest.fixture(scope="module")
def folders(scene: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of the same still image."""
    root = tmp_path_factory.mktemp("frames")
    for name in ("a", "b"):
        for number in range(3):
            write_image(root / name / f"{number}.png", scene)
    return root


OPTIONS = {"track": "bytetrack", "track_options": {"minimum_consecutive_frames": 1, "track_activation_threshold": 0.3}}
OPTIONS["track_options"] |= {"high_conf_det_threshold": 0.3}


def test_predict__each_folder_has_its_own_identities(folders: Path) -> None:
    results = densevision.predict(folders, "detection", **OPTIONS)
    assert len(results) == 6 and all(len(result) and result.track_ids is not None for result in results)
    for first, second in zip(results[:3], results[3:]):
        np.testing.assert_array_equal(first.track_ids, second.track_ids)
    last = results[2].track_ids
    assert (last > 0).any() and len(set(last[last > 0])) == (last > 0).sum()
    plain = densevision.predict(folders, "detection")
    assert plain[0].track_ids is None and "track_ids" not in plain[0].to_dict()


def test_predict__video_and_limit_of_frames(scene: np.ndarray, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10) as video:
        for _ in range(5):
            video.write(scene)
    results = densevision.predict(tmp_path / "a.mp4", "detection", max_frames=3, stream=True, **OPTIONS)
    assert results.fps == 10 and not results.is_live
    tracked = list(results)
    assert len(tracked) == 3 and set(tracked[1].track_ids[tracked[1].track_ids > 0]) <= set(tracked[2].track_ids)
    assert (tracked[2].track_ids > 0).any()


@pytest.mark.parametrize(
    ("task", "options", "field"),
    [
        ("detection", {"track": "bytetrack"}, "track"),
        ("semantic", {"track": "bytetrack"}, "track"),
        ("detection", {"track_options": {"lost_track_buffer": 3}}, "track_options"),
        ("detection", {"track": "sorter"}, "track"),
        ("detection", {"max_frames": 3}, "max_frames"),
        ("detection", {"reconnect": 3}, "reconnect"),
        ("detection", {"timeout": 3}, "timeout"),
        ("detection", {"max_frames": 0}, "max_frames"),
    ],
)
def test_predict__options_without_effect(task: str, options: dict[str, object], field: str, scene: np.ndarray) -> None:
    with pytest.raises(UsageError, match=field):
        densevision.predict(scene, task, **options)
