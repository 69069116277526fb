"""Predictions, views and downloads of the page, without gradio and without a browser."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import densevision
from densevision.app import AppOptions
from densevision.app.comparison import compare_results, count_common_objects, draw_difference
from densevision.app.downloads import list_result_formats, save_predictions
from densevision.app.examples import write_examples
from densevision.app.legends import build_legend, build_table
from densevision.app.predictions import (
    LOWEST_THRESHOLD,
    Prediction,
    check_files,
    filter_objects,
    find_threshold,
    list_samples,
    predict_files,
)
from densevision.app.videos import predict_video
from densevision.app.views import VIEW_SIDE, draw_thumbnail, draw_view, list_views
from densevision.app.weights import BUNDLED, WeightsShelf, describe_card
from densevision.errors import DataError, UsageError
from densevision.inference.predictor import Predictor
from densevision.io.image import read_image, write_image
from densevision.io.video import VideoWriter, read_video
from densevision.results import DepthMap, Detections, FlowField, Image, JointResult, Result, SemanticMap

OPTIONS = AppOptions(device="cpu", precision="float32")
SIZE = (40, 60)
NAMES = ("cup", "<b>spoon</b>")


@pytest.fixture(scope="module")
def detector() -> Predictor:
    return WeightsShelf([], OPTIONS).load("detection", BUNDLED)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples("detection", 1, tmp_path_factory.mktemp("scenes"))[0]


def make_results() -> dict[str, Result]:
    """One small result of every kind."""
    rng = np.random.default_rng(0)
    boxes = [[2, 3, 20, 30], [25, 5, 50, 35], [2, 4, 20, 30]]
    halves = np.repeat(np.array([0, 1], np.uint8), 20)[:, None].repeat(60, 1)
    ramp = np.broadcast_to(np.linspace(1, 5, SIZE[1], dtype=np.float32), SIZE)
    return {
        "detection": Detections.from_arrays(boxes, [0, 1, 1], NAMES, SIZE, scores=[0.9, 0.5, 0.1]),
        "semantic": SemanticMap(labels=halves, names=NAMES, size=SIZE),
        "depth": DepthMap.from_arrays(ramp),
        "flow": FlowField.from_arrays(np.stack([ramp, -ramp])),
        "superres": Image.from_source(rng.integers(0, 256, (80, 120, 3), np.uint8), scale=2),
    }


def wrap(result: Result, name: str = "a.png") -> Prediction:
    image = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    return Prediction(name, (image, image), result, 0.1)


# -- thresholds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.6])
def test_filter_objects__equals_predicting_with_the_threshold(
    detector: Predictor, scene: Path, threshold: float
) -> None:
    (prediction,) = predict_files(detector, [scene], OPTIONS)
    filtered = filter_objects(prediction.result, threshold)
    expected = detector.predict(scene, score_threshold=threshold)
    assert 0 < len(expected) <= len(prediction.result)
    np.testing.assert_array_equal(filtered.boxes, expected.boxes)
    np.testing.assert_array_equal(filtered.scores, expected.scores)
    np.testing.assert_array_equal(filtered.labels, expected.labels)


def test_find_threshold__is_that_of_predict(detector: Predictor, scene: Path) -> None:
    threshold = find_threshold(detector.task)
    scores = detector.predict(scene).scores
    assert threshold is not None and LOWEST_THRESHOLD <= threshold <= scores.min()
    below = detector.predict(scene, score_threshold=threshold / 2).scores
    assert len(below) > len(scores) and below[len(scores) :].max() < threshold


def test_filter_objects__parts_of_joint_results() -> None:
    results = make_results()
    joint = JointResult(size=SIZE, results={"detection": results["detection"], "depth": results["depth"]})
    filtered = filter_objects(joint, 0.4)
    assert len(filtered["detection"]) == 2 and filtered["depth"] is results["depth"]


# -- limits ------------------------------------------------------------------------------------------------------------


def test_check_files__limits(tmp_path: Path) -> None:
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.png")
        write_image(files[-1], np.zeros((10, 20, 3), np.uint8))
    check_files(files, AppOptions(max_pixels=600, max_images=3))
    with pytest.raises(DataError, match="600 pixels"):
        check_files(files, AppOptions(max_pixels=599))
    with pytest.raises(DataError, match="3 images"):
        check_files(files, AppOptions(max_images=2))
    with pytest.raises(UsageError):
        check_files([], OPTIONS)
    with pytest.raises(UsageError):
        check_files([*files, tmp_path / "clip.mp4"], OPTIONS)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError):
        check_files([tmp_path / "text.png"], OPTIONS)


def test_list_samples__pairs_of_a_sequence() -> None:
    flow = WeightsShelf([], OPTIONS).load("flow", BUNDLED).task
    first, second, third = (Path(f"{number}.png") for number in range(3))
    assert list_samples(flow, [first, second, third]) == [(first, second), (second, third)]
    with pytest.raises(UsageError, match="needs 2 images"):
        list_samples(flow, [first])


# -- weights -----------------------------------------------------------------------------------------------------------


def test_weights__typed_only_where_the_page_is_ours(tmp_path: Path) -> None:
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(densevision.load(task="superres").file.read_bytes())
    assert WeightsShelf([], OPTIONS).load("superres", str(copy)).task.name == "superres"
    guarded = AppOptions(device="cpu", token="t" * 16)
    with pytest.raises(UsageError, match="does not offer"):
        WeightsShelf([], guarded).load("superres", str(copy))
    offering = WeightsShelf([copy], guarded)
    assert offering.list_names("superres")[0] == BUNDLED and str(copy) in offering.list_names("superres")
    assert offering.load("superres", str(copy)) is offering.load("superres", str(copy))
    assert "Apache-2.0" in describe_card(offering.load("superres", str(copy)), str(copy))


@pytest.mark.parametrize(
    ("options", "is_allowed"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"token": "t" * 16}, False),
        ({"host": "0.0.0.0", "token": "t" * 16}, False),
    ],
)
def test_options__who_may_type_paths(options: dict[str, str], is_allowed: bool) -> None:
    assert AppOptions(**options).allows_paths is is_allowed


# -- views and legends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", make_results())
def test_views__every_drawing(task: str) -> None:
    prediction = wrap(make_results()[task])
    for name in list_views(prediction.result):
        view = draw_view(prediction, prediction.result, name)
        assert view.after.dtype == np.uint8 and view.after.shape[2] == 3 and view.after.std() > 5
        if view.before is not None:
            assert view.before.shape == view.after.shape and (view.before != view.after).any()
        if not view.is_surface:
            assert VIEW_SIDE / 2 < max(view.after.shape) <= VIEW_SIDE
    assert max(draw_thumbnail(prediction, prediction.result).shape) == 240


def test_views__boxes_lie_where_they_are_in_the_enlarged_image() -> None:
    box = Detections.from_arrays([[15, 10, 45, 30]], [0], ("a",), SIZE)
    black = Prediction("a", (np.zeros((*SIZE, 3), np.uint8),), box, 0)
    drawing = draw_view(black, box, "Objects").after
    scale = drawing.shape[1] / SIZE[1]
    assert scale == 16
    columns = np.flatnonzero(drawing[int(20 * scale)].any(1)) / scale
    assert columns.min() == pytest.approx(15, abs=0.5) and columns.max() == pytest.approx(45, abs=0.5)


def test_views__joint_results_name_their_tasks() -> None:
    results = make_results()
    joint = JointResult(size=SIZE, results={"detection": results["detection"], "depth": results["depth"]})
    assert list_views(joint) == ["detection: Objects", "depth: Depth", "depth: 3-D"]
    alone = draw_view(wrap(results["depth"]), results["depth"], "Depth").after
    np.testing.assert_array_equal(draw_view(wrap(joint), joint, "depth: Depth").after, alone)


def test_legends__say_what_is_shown() -> None:
    results = make_results()
    objects = build_legend(results["detection"])
    assert "3 objects" in objects and "0.90" in objects and "<b>spoon" not in objects and "&lt;b&gt;spoon" in objects
    assert "50.0%" in build_legend(results["semantic"])
    depth = build_legend(results["depth"])
    assert "1.07 m" in depth and "4.93 m" in depth  # the 2nd and 98th percentile of 60 columns
    assert f"{5 * 2**0.5:.3g} px" in build_legend(results["flow"])
    assert "120 x 80 pixels, 2 times" in build_legend(results["superres"])
    assert "No object" in build_legend(filter_objects(results["detection"], 0.95))
    assert "<script>" not in build_table("a", ("<script>",), [("<script>",)])


# -- downloads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", make_results())
def test_downloads__every_format_is_written(task: str, tmp_path: Path) -> None:
    prediction = wrap(make_results()[task])
    names = list_result_formats(prediction.result)
    methods = {suffix[1:] for suffix in type(prediction.result).save_methods}
    assert methods <= set(names) and {"json", "png", "npz", "jpg"} <= set(names)
    for name in names:
        if name == "ply":  # needs a camera
            with pytest.raises(UsageError, match="focal"):
                save_predictions([prediction], 0.0, name, tmp_path)
            continue
        if name == "flo5":
            pytest.importorskip("h5py")
        file = save_predictions([prediction], 0.0, name, tmp_path)
        assert file.name == f"a.{name}" and file.stat().st_size > 0


def test_downloads__hold_what_is_shown(tmp_path: Path) -> None:
    results = make_results()
    file = save_predictions([wrap(results["detection"])], 0.4, "json", tmp_path)
    assert json.loads(file.read_text())["scores"] == pytest.approx([0.9, 0.5])
    depth = save_predictions([wrap(results["depth"])], 0.4, "depth.png", tmp_path)
    np.testing.assert_allclose(read_image(depth)[..., 0] / 1000, results["depth"].depth, atol=6e-4)
    with pytest.raises(UsageError, match="no such format"):
        save_predictions([wrap(results["depth"])], 0.4, "txt", tmp_path)


def test_downloads__several_results_as_an_archive(tmp_path: Path) -> None:
    predictions = [wrap(make_results()["detection"], name) for name in ("a.png", "b.png", "a.jpg")]
    archive = save_predictions(predictions, 0.4, "txt", tmp_path)
    with zipfile.ZipFile(archive) as stream:
        assert sorted(stream.namelist()) == ["a-2.txt", "a.txt", "b.txt"]
        assert len(stream.read("b.txt").splitlines()) == 2


def test_downloads__formats_of_joint_results() -> None:
    results = make_results()
    joint = JointResult(size=SIZE, results={"detection": results["detection"], "depth": results["depth"]})
    names = list_result_formats(joint)
    assert {"json", "txt", "pfm", "depth.png"} <= set(names)


# -- comparison --------------------------------------------------------------------------------------------------------


def test_comparison__objects_of_both() -> None:
    first = Detections.from_arrays([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0], ("a", "b"), SIZE)
    # The same boxes under other indices of the classes: one moved by a tenth, one of another class.
    second = Detections.from_arrays([[1, 0, 11, 10], [20, 20, 30, 30]], [1, 0], ("b", "a"), SIZE)
    assert count_common_objects(first, second) == 1
    assert count_common_objects(first, first) == 2
    assert count_common_objects(first, first[:0]) == 0
    rows = {name: values for name, *values in compare_results(wrap(first), wrap(second), 0.0)}
    assert rows["objects"] == ["2", "2"] and rows["found by one only"] == ["1", "1"]
    assert rows["a"] == ["2", "1"] and rows["b"] == ["0", "1"]


def test_comparison__difference_of_dense_results() -> None:
    results = make_results()
    labels = results["semantic"].labels.copy()
    labels[:, :15] ^= 1
    other = SemanticMap(labels=labels, names=NAMES, size=SIZE)
    rows = {row[0]: row[1] for row in compare_results(wrap(other), wrap(results["semantic"]), 0.0)}
    assert rows["pixels of the same class"] == "75.0%"
    drawn = draw_difference(other, results["semantic"])
    assert drawn is not None
    is_dark = drawn[0].astype(int).sum(2) < 400
    assert is_dark.mean() == pytest.approx(0.25) and is_dark[:, : is_dark.shape[1] // 4].all()
    shifted = FlowField.from_arrays(results["flow"].flow + np.float32([[[3]], [[4]]]))
    rows = {row[0]: row[1] for row in compare_results(wrap(shifted), wrap(results["flow"]), 0.0)}
    assert rows["mean end-point difference"] == "5"
    assert draw_difference(results["detection"], results["detection"]) is None


# -- videos ------------------------------------------------------------------------------------------------------------


def test_video__first_frames_with_drawn_objects(detector: Predictor, scene: Path, tmp_path: Path) -> None:
    image = read_image(scene)
    with VideoWriter(tmp_path / "clip.mp4", 10) as video:
        for shift in range(6):
            video.write(np.roll(image, shift, 1))
    options = AppOptions(device="cpu", precision="float32", max_frames=4)
    steps: list[float] = []
    result = predict_video(detector, tmp_path / "clip.mp4", tmp_path, options, 0.25, lambda part, _: steps.append(part))
    assert (result.frames, result.total) == (4, 6) and steps == [0.25, 0.5, 0.75, 1.0]
    for file in result.files:
        video_reader = read_video(file)
        assert video_reader.count == 4 and video_reader.fps == 10
        frame = next(video_reader)
        drawn = detector.predict(next(read_video(tmp_path / "clip.mp4")), score_threshold=0.25).draw()
        assert np.abs(frame.astype(int) - drawn).mean() < 12 < np.abs(frame.astype(int) - image).mean() + 6
        video_reader.close()
    with pytest.raises(DataError, match="limit"):
        predict_video(detector, tmp_path / "clip.mp4", tmp_path, AppOptions(max_pixels=100))
