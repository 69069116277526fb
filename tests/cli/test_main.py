"""The command line: complete help, one JSON object, files where they were asked for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densevision.cli.main import COMMANDS, VERBS, run
from densevision.datasets.scenes import Scenes
from densevision.io.video import VideoWriter, read_video
from densevision.models import list_models
from densevision.tasks import TASKS, load_config


def printed(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ending:
        run(list(arguments))
        raise SystemExit(0)
    captured = capsys.readouterr()
    assert not ending.value.code, captured.err
    return captured.out


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("verb", VERBS)
def test_help__every_verb(task: str, verb: str, capsys) -> None:
    text = printed(capsys, task, verb, "--help")
    assert text.startswith(f"Usage: densevision {task} {verb}")


def test_help__names_tasks_and_commands(capsys) -> None:
    text = printed(capsys, "--help")
    assert all(name in text for name in (*TASKS, *COMMANDS))


@pytest.mark.parametrize("task", TASKS)
def test_help__train_names_every_option(task: str, capsys) -> None:
    text = printed(capsys, task, "train", "--help")
    assert all(f"{option.name}=" in text for option in load_config(task).iterate_options() if option.name != "task")


@pytest.mark.parametrize("task", TASKS)
def test_help__train_ends_no_text_in_the_middle(task: str, capsys) -> None:
    lines = printed(capsys, task, "train", "--help").splitlines()
    names = tuple(f"    {option.name}=" for option in load_config(task).iterate_options())
    broken = [line for line in lines if line.startswith(names) and "  " in line.strip() and line[-1] not in ".`:"]
    assert not broken


def test_score__json_equals_pycocotools(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 50, (20, 2)), rng.uniform(5, 40, (20, 2))], 1).tolist()
    images = [{"id": n, "width": 100, "height": 100, "file_name": f"{n}.jpg"} for n in (3, 7)]
    annotations = [
        {"id": n + 1, "image_id": (3, 7)[n % 2], "category_id": 5, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for n, box in enumerate(boxes)
    ]
    detections = [
        {"image_id": (3, 7)[n % 2], "category_id": 5, "bbox": [*(np.array(box) + 1)], "score": float(rng.random())}
        for n, box in enumerate(boxes)
    ]
    (tmp_path / "t.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "x"}]})
    )
    (tmp_path / "p.json").write_text(json.dumps(detections))
    command = ("detection", "score", "--truth", str(tmp_path / "t.json"), "--predictions", str(tmp_path / "p.json"))
    report = json.loads(printed(capsys, *command, "--json"))
    assert set(report) >= {"task", "metrics", "protocol", "counts"} and report["counts"]["predictions"] == 20
    truth = COCO(str(tmp_path / "t.json"))
    reference = COCOeval(truth, truth.loadRes(str(tmp_path / "p.json")), "bbox")
    reference.evaluate(), reference.accumulate(), reference.summarize()
    capsys.readouterr()
    numbers = [-1 if value is None else value for value in report["metrics"].values()]
    np.testing.assert_allclose(numbers, reference.stats, atol=1e-9)
    assert "protocol" in printed(capsys, *command)


def test_predict__files_and_json(tmp_path: Path, capsys) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    out = tmp_path / "out"
    command = ("detection", "predict", str(tmp_path / "a.png"), "--out", str(out))
    printed(capsys, *command, "--save", "jpg", "--save", "json")
    assert cv2.imread(str(out / "a.jpg")).shape == (64, 80, 3)
    assert json.loads((out / "a.json").read_text())["size"] == [64, 80]
    lines = printed(capsys, "detection", "predict", str(tmp_path / "a.png"), "--json").splitlines()
    assert json.loads(lines[-1])["source"].endswith("a.png")


def test_predict__zero_is_a_number(tmp_path: Path, capsys) -> None:
    images(tmp_path, "a.png")
    command = ("detection", "predict", str(tmp_path / "a.png"), "--json")
    (few, every) = (
        json.loads(printed(capsys, *command, *more).splitlines()[-1]) for more in ((), ("--score-threshold", "0"))
    )
    assert len(few["boxes"]) < len(every["boxes"]) == 300


def images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((32, 32, 3), 90, np.uint8))


def test_predict__files_keep_the_paths_of_their_images(tmp_path: Path, capsys) -> None:
    images(tmp_path, "a/1.png", "b/1.png", "b/c/2.png")
    out = tmp_path / "out"
    printed(capsys, "detection", "predict", f"{tmp_path}/**/*.png", "--save", "json", "--out", str(out))
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        "a/1.json",
        "b/1.json",
        "b/c/2.json",
    ]


def test_predict__never_overwrites_a_prediction(tmp_path: Path, capsys) -> None:
    images(tmp_path, "a/1.png", "a/1.jpg")
    with pytest.raises(SystemExit) as ending:
        run(["detection", "predict", str(tmp_path / "a"), "--save", "json", "--out", str(tmp_path / "out")])
    message = capsys.readouterr().err
    assert ending.value.code == 2 and "1.jpg" in message and "1.png" in message and "--out" in message


def test_predict__unknown_format_writes_nothing(tmp_path: Path, capsys) -> None:
    images(tmp_path, "1.png")
    with pytest.raises(SystemExit) as ending:
        run(
            ["detection", "predict", f"{tmp_path}/1.png", "--save", "json", "--save", "jsn", "--out", f"{tmp_path}/out"]
        )
    assert ending.value.code == 2 and ".json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_predict__files_stay_in_the_output_folder(tmp_path: Path, capsys, monkeypatch) -> None:
    images(tmp_path, "a/1.png", "work/2.png")
    monkeypatch.chdir(tmp_path / "work")
    printed(capsys, "detection", "predict", "2.png", "../a/1.png", "--save", "json", "--out", "out")
    assert sorted(path.name for path in (tmp_path / "work/out").iterdir()) == ["1.json", "2.json"]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Five frames of 96 x 128 at 10 per second."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10) as writer:
        for scene in Scenes(5, 1, (96, 128)):
            writer.write(scene.image)
    return path


@pytest.mark.parametrize(("task", "scale"), [("detection", 1), ("superres", 2)])
def test_predict__video_gives_a_video(task: str, scale: int, video: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    lines = printed(capsys, task, "predict", str(video), "--save", "mp4", "--save", "png", "--out", str(out))
    assert lines.splitlines()[-1] == str(out / "clip.mp4")
    written = read_video(out / "clip.mp4")
    assert written.fps == 10
    drawn = [cv2.imread(str(file))[..., ::-1].astype(int) for file in sorted(out.glob("*.png"))]
    assert len(drawn) == 5 and drawn[0].shape[:2] == (96 * scale, 128 * scale)
    for frame, image in zip(written, drawn, strict=True):
        assert np.abs(frame - image).mean() < 8  # the codec is lossy


def test_predict__video_of_something_else_is_refused(video: Path, tmp_path: Path, capsys) -> None:
    images(tmp_path, "a.png")
    before = video.read_bytes()
    for source, out, words in (
        (tmp_path / "a.png", tmp_path / "out", "mp4"),
        (video, tmp_path, "clip.mp4"),
    ):
        with pytest.raises(SystemExit) as ending:
            run(["detection", "predict", str(source), "--save", "mp4", "--out", str(out)])
        assert ending.value.code == 2 and words in capsys.readouterr().err
    assert video.read_bytes() == before and not (tmp_path / "out").exists()


def test_info__prints_the_card(capsys) -> None:
    card = json.loads(printed(capsys, "detection", "info", "--json"))
    assert card["task"] == "detection" and card["license"] and card["classes"]


def test_models__lists_weights_architectures_and_backbones(capsys) -> None:
    tables = json.loads(printed(capsys, "models", "--json"))
    assert {row["task"] for row in tables["bundled"]} == {task for task in TASKS if list_models(task)}
    assert {"yolo_n", "mask_rcnn", "raft_large"} <= {row["name"] for row in tables["architectures"]}
    assert all(row["license"] for row in tables["published"])
    assert "mobilenetv2_100" in printed(capsys, "models", "mobilenetv2*", "--backbones").split()


@pytest.mark.parametrize("columns", [80, 200])
def test_models__no_name_is_cut(columns: int, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = printed(capsys, "models")
    names = [row["name"] for row in json.loads(printed(capsys, "models", "--json"))["published"]]
    assert "…" not in text and all(name in text for name in names)


def test_check__clean_and_faulty(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        folder = tmp_path / "images" / split
        (tmp_path / "labels" / split).mkdir(parents=True)
        folder.mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 255, (32, 32, 3), np.uint8))
            (tmp_path / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [object]\n")
    printed(capsys, "detection", "check", str(tmp_path))
    (tmp_path / "labels" / "train" / "3.txt").write_text("0 0.5 0.5 2.0 0.2\n")
    with pytest.raises(SystemExit) as ending:
        run(["detection", "check", str(tmp_path), "--json"])
    assert ending.value.code == 3
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["name"] == "box-outside" and finding["examples"][0]["file"] == "labels/train/3.txt"


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_interrupted__leaves_nothing_half_written(name: str, code: int, tmp_path: Path) -> None:
    """A process that writes a file is stopped from outside: the file is not there, and the code says why."""
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what runs behind a shell ignores it
        "from densevision.cli import main\n"
        "from densevision.io.atomic_write import atomic_write\n"
        "def slow(*_, **__):\n"
        "    with atomic_write(sys.argv[1]) as temporary:\n"
        "        temporary.write_text('half')\n"
        "        print('writing', flush=True)\n"
        "        time.sleep(60)\n"
        "main.root.main = slow\n"
        "main.run()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out" / "a.txt")]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    writer.send_signal(getattr(signal, name))
    _, message = writer.communicate(timeout=60)
    assert writer.returncode == code and "Traceback" not in message
    assert list((tmp_path / "out").iterdir()) == []
