"""`score` of every task: files of other tools, what is left out counted and named, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from densevision.cli.main import run
from densevision.draw.colors import build_palette
from densevision.io.depth import write_depth
from densevision.io.flow import write_flow
from densevision.io.image import write_image
from densevision.io.masks import write_palette_png
from densevision.results import SemanticMap
from densevision.tasks import TASKS, get_metric_info

SIZE = (24, 32)
NAMES = ("a", "b", "only told", "broken")


def write(task: str, path: Path, seed: int) -> None:
    """One file of truth or prediction."""
    rng = np.random.default_rng(seed)
    if task == "semantic":
        write_image(path.with_suffix(".png"), rng.integers(0, 3, (*SIZE, 1)).astype(np.uint8))
    elif task == "depth":
        write_depth(path.with_suffix(".pfm"), rng.uniform(1, 9, SIZE).astype(np.float32))
    elif task == "flow":
        write_flow(path.with_suffix(".flo"), rng.normal(0, 9, (2, *SIZE)).astype(np.float32))
    else:
        write_image(path.with_suffix(".png"), rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))


@pytest.fixture(params=[task for task in TASKS if task not in ("detection", "instance", "joint")])
def folders(request, tmp_path: Path) -> tuple[str, Path, Path]:
    """Two pairs that fit; a truth and a prediction alone; and a pair whose prediction is cut short."""
    task = request.param
    for seed, name in enumerate(NAMES):
        write(task, tmp_path / "truth" / name, seed)
    for seed, name in enumerate(("a", "b", "only said", "broken")):
        write(task, tmp_path / "found" / name, seed + 9)
    broken = next((tmp_path / "found").glob("broken.*"))
    broken.write_bytes(broken.read_bytes()[:30])
    return task, tmp_path / "truth", tmp_path / "found"


def run_command(capsys, *arguments: str) -> tuple[int, str, str]:
    code = 0
    try:
        run(list(arguments))
    except SystemExit as ending:
        code = ending.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_folders__skipped_files_are_counted_and_named(folders, capsys) -> None:
    task, truth, found = folders
    command = (task, "score", "--truth", str(truth), "--predictions", str(found))
    code, _, err = run_command(capsys, *command)
    assert code == 3 and "broken" in err
    code, out, err = run_command(capsys, *command, "--on-error", "skip", "--json")
    report = json.loads(out)
    assert code == 0 and set(report) >= {"task", "metrics", "protocol", "counts", "named"}
    wanted = {
        "images without prediction": ["only told"],
        "predictions without truth": ["only said"],
        "broken files": ["broken"],
    }
    assert report["named"] == wanted and all(f"1 {kind}" in err for kind in wanted)
    assert report["counts"]["images"] == 2 and all(report["counts"][kind] == 1 for kind in wanted)
    code, out, _ = run_command(capsys, *command, "--on-error", "skip")
    assert code == 0 and "only told" in out and "protocol" in out


def test_folders__of_other_sizes_are_refused_by_name(folders, capsys) -> None:
    task, truth, found = folders
    for path in (*truth.glob("broken.*"), *found.glob("broken.*")):
        path.unlink()
    other = next(found.glob("b.*"))
    rng = np.random.default_rng(0)
    if task == "depth":
        write_depth(other, rng.uniform(1, 2, (4, 4)).astype(np.float32))
    elif task == "flow":
        write_flow(other, np.zeros((2, 4, 4), np.float32))
    else:
        write_image(other, np.zeros((4, 4, 1 if task == "semantic" else 3), np.uint8))
    code, _, err = run_command(capsys, task, "score", "--truth", str(truth), "--predictions", str(found))
    assert code == 3 and err.startswith("error: b")


def test_objects__without_predictions_or_objects_are_named(tmp_path: Path, capsys) -> None:
    images = [{"id": n, "width": 32, "height": 32, "file_name": f"{name}.jpg"} for n, name in enumerate("xyz", 1)]
    box = {"bbox": [1, 1, 9, 9], "category_id": 1}
    mask = {"segmentation": [[1, 1, 10, 1, 10, 10, 1, 10]]}
    target_records = [{"id": n, "image_id": n, "area": 81, "iscrowd": 0, **box, **mask} for n in (1, 2)]
    truth = {"images": images, "annotations": target_records, "categories": [{"id": 1, "name": "thing"}]}
    (tmp_path / "t.json").write_text(json.dumps(truth))
    (tmp_path / "p.json").write_text(json.dumps([{"image_id": 1, "score": 0.5, **box, **mask}]))
    for task in ("detection", "instance"):
        command = (task, "score", "--truth", str(tmp_path / "t.json"), "--predictions", str(tmp_path / "p.json"))
        report = json.loads(run_command(capsys, *command, "--json")[1])
        named = {"images without predictions": ["y.jpg", "z.jpg"], "images without objects": ["z.jpg"]}
        assert report["named"] == named and report["counts"]["images without predictions"] == 2
        assert run_command(capsys, *command, "--on-error", "skip")[0] == 2


@pytest.mark.parametrize("task", TASKS)
def test_score__needs_no_torch(task: str) -> None:
    code = (
        f"import sys; from densevision.tasks import load_score; load_score({task!r});"
        "import densevision.cli.verbs.score; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_names__every_metric_has_a_description(folders, capsys) -> None:
    task, truth, found = folders
    command = (task, "score", "--truth", str(truth), "--predictions", str(found), "--on-error", "skip", "--json")
    report = json.loads(run_command(capsys, *command)[1])
    assert not [name for name in report["metrics"] if not get_metric_info(task, name).text]


def test_depth__under_a_protocol_and_a_scale__custom(tmp_path: Path, capsys) -> None:
    """KITTI's files do not say their scale; Garg's crop and 80 m are counted by hand."""
    rng = np.random.default_rng(0)
    known = rng.random((48, 64)) < 0.8
    truth, answer = rng.uniform(1, 120, (48, 64)), rng.uniform(1, 120, (48, 64))
    for side, depth in (("truth", truth), ("found", answer)):
        (tmp_path / side).mkdir()
        write_image(tmp_path / side / "0.png", np.where(known, np.rint(256 * depth), 0).astype(np.uint16))
    command = ("depth", "score", "--truth", str(tmp_path / "truth"), "--predictions", str(tmp_path / "found"), "--json")
    code, _, err = run_command(capsys, *command)
    assert code == 3 and "data.scale" in err
    options = ("data.scale=256", "evaluation.crop=garg", "evaluation.max_depth=80")
    code, out, _ = run_command(capsys, *command, *(word for option in options for word in ("--set", option)))
    rows, columns = slice(int(0.40810811 * 48), int(0.99189189 * 48)), slice(int(0.03594771 * 64), int(0.96405229 * 64))
    t, a = (np.rint(256 * depth[rows, columns]) / 256 for depth in (truth, answer))
    counted = known[rows, columns] & (t <= 80)
    wanted = np.mean(np.abs(a[counted].clip(max=80) - t[counted]) / t[counted])
    assert code == 0 and json.loads(out)["metrics"]["AbsRel/garg/80m"] == pytest.approx(wanted, rel=1e-6)


def test_semantic__with_names_and_unknown_values__custom(tmp_path: Path, capsys) -> None:
    for side, value in (("truth", 0), ("found", 1)):
        mask = np.zeros((4, 4, 1), np.uint8)
        mask[:2], mask[3] = 1, (2, value)[side == "found"]
        write_image(tmp_path / side / "0.png", mask)
    command = ("semantic", "score", "--truth", str(tmp_path / "truth"), "--predictions", str(tmp_path / "found"))
    names = ("--set", "classes=[ground, thing]")
    code, out, _ = run_command(capsys, *command, *names, "--set", "data.unknown=[2]", "--json")
    assert code == 0 and json.loads(out)["metrics"]["mIoU"] == 1
    assert run_command(capsys, *command, *names)[0] == 3, "2 is no class"
    code, _, err = run_command(capsys, *command, "--set", "data.unknown=[2]")
    assert code == 2 and "Set classes" in err


@pytest.mark.parametrize("task", TASKS)
def test_options__without_effect_on_files_are_refused(task: str, capsys) -> None:
    code, _, err = run_command(capsys, task, "score", "--truth", "a", "--predictions", "b", "--set", "train.epochs=3")
    assert code == 2 and "train.epochs" in err


def score_semantic(capsys, root: Path, *settings: str) -> dict:
    command = [
        "semantic",
        "score",
        "--truth",
        str(root / "truth"),
        "--predictions",
        str(root / "predictions"),
        "--json",
    ]
    code, out, err = run_command(capsys, *command, *(word for setting in settings for word in ("--set", setting)))
    return json.loads(out) if code == 0 else {"error": err, "code": code}


LABELS = np.array([[0, 1, 2, 255], [2, 1, 0, 0]], np.uint8)
"""Three classes and an unknown pixel."""
CODES = {
    "colors": np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [9, 9, 9]], np.uint8),
    "values": np.array([700, 3, 40000, 255], np.uint16),
}
SETTINGS = {
    "colors": ("data.colors=[[200,0,0],[0,200,0],[0,0,200]]", "data.unknown_colors=[[9,9,9]]"),
    "values": ("data.values=[700,3,40000]",),
}


@pytest.mark.parametrize("written", ["as the truth", "as class numbers"])
@pytest.mark.parametrize("kind", CODES)
def test_semantic__truth_read_as_in_training(kind: str, written: str, tmp_path: Path, capsys) -> None:
    write_image(tmp_path / "truth/0.png", CODES[kind][np.minimum(LABELS, 3)])
    answer = np.where(LABELS == 255, 1, LABELS).astype(np.uint8)
    write_image(tmp_path / "predictions/0.png", CODES[kind][answer] if written == "as the truth" else answer)
    for names in (("classes=[a,b,c]",), ()):
        found = score_semantic(capsys, tmp_path, *SETTINGS[kind], *names)
        assert found["metrics"]["mIoU"] == 1 and found["counts"]["pixels"] == 7


def test_semantic__sets_of_classes(tmp_path: Path, capsys) -> None:
    write_image(tmp_path / "truth/0.png", np.array([[0, 1, 2, 3, 65535]], np.uint16))
    write_image(tmp_path / "predictions/0.png", np.array([[0, 1, 2, 1, 3]], np.uint16))
    found = score_semantic(capsys, tmp_path, "mode=multilabel", "classes=[a,b]")
    assert found["metrics"]["mIoU"] == pytest.approx((1 + 0.5) / 2)
    assert score_semantic(capsys, tmp_path, "mode=multilabel")["code"] == 2


def test_semantic__names_of_masks(tmp_path: Path, capsys) -> None:
    for name in ("a_mask", "b_L", "c"):
        write_image(tmp_path / f"truth/{name}.png", LABELS)
        write_image(tmp_path / f"predictions/{name[0]}.png", np.minimum(LABELS, 2))
    found = score_semantic(capsys, tmp_path)
    assert found["counts"]["images"] == 3 and found["metrics"]["mIoU"] == 1
    write_image(tmp_path / "truth/a_label.png", LABELS)
    assert "two files of one name" in score_semantic(capsys, tmp_path)["error"]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pfm"])
def test_depth__scale_is_that_of_integers_only(suffix: str, tmp_path: Path, capsys) -> None:
    """KITTI's truth in steps of 1/256 m, and a network's answers in meters."""
    meters = np.random.default_rng(0).uniform(1, 80, SIZE).round(1)
    write_depth(tmp_path / "truth/0.png", meters, scale=256)
    (tmp_path / "found").mkdir()
    write_depth(tmp_path / f"found/0{suffix}", 1.25 * meters)
    command = ("depth", "score", "--truth", str(tmp_path / "truth"), "--predictions", str(tmp_path / "found"), "--json")
    code, out, _ = run_command(capsys, *command, "--set", "data.scale=256")
    assert code == 0 and json.loads(out)["metrics"]["AbsRel"] == pytest.approx(0.25, abs=1e-3)


FOREGROUND = np.array([[0, 1, 1, 0], [1, 0, 0, 0]], np.uint8)


@pytest.mark.parametrize("settings", [(), ("mode=binary",), ("classes=[ground,thing]",)], ids=str)
def test_semantic__white_foreground_is_not_taken_for_unknown(settings: tuple[str, ...], tmp_path: Path, capsys) -> None:
    write_image(tmp_path / "truth/0.png", 255 * FOREGROUND)
    write_image(tmp_path / "predictions/0.png", FOREGROUND)
    refused = score_semantic(capsys, tmp_path, *settings)
    assert refused["code"] == 3 and "data.values=[0,255]" in refused["error"]
    assert score_semantic(capsys, tmp_path, *settings, "data.values=[0,255]")["metrics"]["mIoU"] == 1
    assert score_semantic(capsys, tmp_path, *settings, "data.values=[0,1]")["counts"]["unknown pixels"] == 3


@pytest.mark.parametrize("values", [(), ("data.values=[0,255]",)], ids=str)
def test_semantic__binary_predictions_may_be_white(values: tuple[str, ...], tmp_path: Path, capsys) -> None:
    write_image(tmp_path / "truth/0.png", (255 if values else 1) * FOREGROUND)
    for white in (1, 255):
        write_image(tmp_path / "predictions/0.png", white * FOREGROUND)
        assert score_semantic(capsys, tmp_path, "mode=binary", *values)["metrics"]["mIoU"] == 1


def test_semantic__predictions_that_fit_both_encodings(tmp_path: Path, capsys, caplog) -> None:
    labels = np.array([[1, 2, 1, 1]], np.uint8)
    write_image(tmp_path / "truth/0.png", labels + 1)
    write_image(tmp_path / "predictions/0.png", labels)
    assert score_semantic(capsys, tmp_path, "data.values=[1,2,3]")["metrics"]["aAcc"] == 0
    assert "class numbers" in caplog.text
    write_palette_png(tmp_path / "predictions/0.png", labels, build_palette(3))  # as ours are written
    assert score_semantic(capsys, tmp_path, "data.values=[1,2,3]")["metrics"]["aAcc"] == 1


@pytest.mark.parametrize("values", [[7, 8, 26, 7, 7], [0, 1, 13, 2, 2]], ids=["labelIds", "trainIds"])
def test_semantic__cityscapes(values: list[int], tmp_path: Path, capsys) -> None:
    write_image(tmp_path / "truth/ulm/ulm_1_gtFine_labelIds.png", np.array([[7, 8, 26, 0, 4]], np.uint8))
    write_image(tmp_path / "truth/ulm/ulm_1_gtFine_color.png", np.zeros((1, 5, 3), np.uint8))
    write_image(tmp_path / "predictions/ulm/ulm_1_leftImg8bit.png", np.array([values], np.uint8))
    found = score_semantic(capsys, tmp_path)
    assert found["metrics"]["mIoU"] == 1 and found["counts"]["pixels"] == 3 and not found.get("named")
    assert found["counts"]["images without prediction"] == 0 and "road" in found["tables"]["per class"]


@pytest.mark.parametrize("values", [(0, 1, 2), (0, 7, 9)])
def test_semantic__labels_beside_a_drawing(tmp_path: Path, capsys, values: tuple[int, ...]) -> None:
    """`predict --save png --save labels.png` writes both; the ground truth may encode its classes by other values."""
    labels = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    write_image(tmp_path / "truth/a.png", np.array(values, np.uint8)[labels][..., None])
    result = SemanticMap(labels=labels, names=("x", "y", "z"), size=labels.shape)
    result.save(tmp_path / "predictions/a.labels.png")
    result.save(tmp_path / "predictions/a.png")
    settings = ["--set", "classes=[x, y, z]", "--set", f"data.values={list(values)}"]
    command = ("semantic", "score", "--truth", str(tmp_path / "truth"), "--predictions", str(tmp_path / "predictions"))
    report = json.loads(run_command(capsys, *command, *settings, "--json")[1])
    assert report["metrics"]["mIoU"] == 1 and report["counts"]["images"] == 1


def test_analyze__conventions_of_tide(tmp_path: Path, capsys) -> None:
    """A class that is predicted without ground truth counts with AP 0 in tidecv, and not at all in COCO."""
    box = {"image_id": 1, "bbox": [1, 1, 9, 9]}
    truth = {
        "images": [{"id": 1, "width": 32, "height": 32, "file_name": "x.jpg"}],
        "annotations": [{"id": 1, "area": 81, "iscrowd": 0, "category_id": 1, **box}],
        "categories": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}],
    }
    predictions = [{"score": 0.9, "category_id": number, **box} for number in (1, 2)]
    for name, content in (("t.json", truth), ("p.json", predictions)):
        (tmp_path / name).write_text(json.dumps(content))
    command = ("analyze", str(tmp_path / "p.json"), "--truth", str(tmp_path / "t.json"), "--json")
    titles = [
        next(iter(json.loads(run_command(capsys, "detection", *command, *option)[1])["errors"]))
        for option in ((), ("--tide", "tidecv"))
    ]
    assert "AP50 is 1.0000" in titles[0] and "AP50 is 0.5000" in titles[1]
    assert run_command(capsys, "depth", *command, "--tide", "tidecv")[0] == 2
