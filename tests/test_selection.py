"""Images to label next, and similar images: planted duplicates and planted hard images are found."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import densevision
from densevision.cli.main import run
from densevision.datasets.scenes import Scenes
from densevision.errors import DenseVisionError, UsageError
from densevision.inference.disagreement import compare_results
from densevision.io.image import read_image, to_display, write_image
from densevision.ops.masks import encode
from densevision.published_weights import find_bundled_weights
from densevision.results import DepthMap, Detections, FlowField, Image, Instances, JointResult, SemanticMap

SIZE = (96, 128)
COUNT = 6
OPTIONS = {"device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, and of three of them copies: darker, of low quality, mirrored, and smaller without its edges."""
    if find_bundled_weights("semantic") is None:
        pytest.skip("the bundled weights are not part of this checkout")
    folder = tmp_path_factory.mktemp("images")
    scenes = [scene.image for scene in Scenes(COUNT, 11, SIZE)]
    for number, image in enumerate(scenes):
        write_image(folder / f"{number}.png", image)
    write_image(folder / "1_dark.png", (scenes[1] * 0.97).astype(np.uint8))
    write_image(folder / "3_dark.png", (scenes[3] * 0.95).astype(np.uint8))
    write_image(folder / "3_jpeg.jpg", scenes[3])
    write_image(folder / "4_mirrored.png", np.ascontiguousarray(scenes[4][:, ::-1]))
    write_image(folder / "5_small.png", cv2.resize(scenes[5][3:-3, 3:-3], None, fx=0.5, fy=0.5))
    return folder


def get_names(pairs: list) -> set[tuple[str, str]]:
    return {tuple(sorted((Path(pair.image).stem, Path(pair.similar).stem))) for pair in pairs}


DUPLICATES = {
    ("1", "1_dark"), ("3", "3_dark"), ("3", "3_jpeg"), ("3_dark", "3_jpeg"), ("4", "4_mirrored"), ("5", "5_small"),
}  # fmt: skip


def test_find_similar__planted_duplicates(images: Path, tmp_path: Path) -> None:
    pairs = densevision.find_similar(images, out=tmp_path / "pairs.csv", device="cpu")
    assert get_names(pairs) == DUPLICATES
    assert {Path(pair.similar).stem for pair in pairs if pair.is_mirrored} == {"4_mirrored"}
    similarities = [pair.similarity for pair in pairs]
    assert similarities == sorted(similarities, reverse=True) and max(similarities) <= 1
    with open(tmp_path / "pairs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [pair.image for pair in pairs]
    page = densevision.find_similar(images, out=tmp_path / "pairs.html", device="cpu")
    assert page == pairs and (tmp_path / "pairs.html").read_text().count("<img") == 2 * len(pairs)


@pytest.mark.realdata
def test_find_similar__copies_of_photographs(real_data: Path, tmp_path: Path) -> None:
    """Street scenes and cells, which resemble one another: copies are found, and nothing else."""
    if find_bundled_weights("semantic") is None:
        pytest.skip("the bundled weights are not part of this checkout")
    expected = set()
    for folder in ("coco128/images/val2017", "bccd/images"):
        for number, file in enumerate(sorted((real_data / "data" / folder).glob("*.jpg"))[:6]):
            image = to_display(read_image(file))
            small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            top, left = (round(side / 40) for side in image.shape[:2])
            cropped = np.ascontiguousarray(image[top:-top, left:-left])
            copy = (small, cropped, np.ascontiguousarray(image[:, ::-1]))[number % 3]
            write_image(tmp_path / f"{file.stem}.png", image)
            write_image(tmp_path / f"{file.stem}-copy.jpg", copy)
            expected.add((file.stem, f"{file.stem}-copy"))
    assert get_names(densevision.find_similar(tmp_path, device="cpu")) == expected


def test_find_similar__nearest_of_a_query(images: Path, capsys: pytest.CaptureFixture) -> None:
    run(["similar", str(images), "--query", str(images / "3.png"), "--count", "3", "--json", "--device", "cpu"])
    pairs = json.loads(capsys.readouterr().out)
    assert {Path(pair["similar"]).stem for pair in pairs[:2]} == {"3_dark", "3_jpeg"} and len(pairs) == 3
    assert all(Path(pair["image"]).stem == "3" != Path(pair["similar"]).stem for pair in pairs)


def test_find_similar__a_timm_encoder_from_a_file(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder has the weights of the file: others give other similarities; without a file nothing is downloaded."""
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        file = tmp_path / f"{seed}.safetensors"
        save_file(timm.create_model("test_resnet").state_dict(), file)
        pairs = densevision.find_similar(
            images, threshold=-1, encoder="test_resnet", encoder_weights=file, device="cpu"
        )
        assert len(pairs) == 11 * 10 / 2
        found.append({(pair.image, pair.similar): pair.similarity for pair in pairs})
    assert found[0].keys() == found[1].keys() and found[0] != found[1]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    with pytest.raises(DenseVisionError) as caught:
        densevision.find_similar(images, encoder="convnext_atto.d2_in1k")
    assert caught.value.field == "encoder"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"threshold": 2}, "threshold"),
        ({"out": "list.txt"}, "out"),
        ({"encoder_weights": "x.safetensors"}, "encoder_weights"),
        ({"encoder": "test_resnet", "weights": "x"}, "weights"),
        ({"query": "q.png", "count": 0}, "count"),
    ],
)
def test_find_similar__wrong_arguments(options: dict, field: str, images: Path) -> None:
    with pytest.raises(UsageError) as caught:
        densevision.find_similar(images, **options)
    assert caught.value.field == field


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Easy images, of one color each, and hard ones: noise that looks like every class."""
    folder, rng = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    for number in range(4):
        write_image(folder / f"easy{number}.png", np.full((*SIZE, 3), 60 + 40 * number, np.uint8))
    for number in range(3):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        write_image(folder / f"hard{number}.png", cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.mark.parametrize("task", ["semantic", "detection"])
def test_select__planted_hard_images_come_first(task: str, mixed: Path, tmp_path: Path) -> None:
    if find_bundled_weights(task) is None:
        pytest.skip("the bundled weights are not part of this checkout")
    threshold = {"score_threshold": 0.05} if task == "detection" else {}
    rows = densevision.select(mixed, task, count=7, pool=1, out=tmp_path / "list.csv", **threshold, **OPTIONS)
    names = [Path(row.image).stem for row in rows]
    assert {name[:4] for name in names[:3]} == {"hard"} and rows[2].disagreement > rows[3].disagreement
    with open(tmp_path / "list.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["image"] for row in written] == [row.image for row in rows] and written[0]["distance"] == ""


def test_select__differs_from_what_is_labeled_and_selected(images: Path) -> None:
    """Of three copies one is selected, and none if it is labeled; mirrored and cropped images are something new."""
    sources = [file for file in sorted(images.iterdir()) if file.stem not in ("4_mirrored", "5_small")]
    rows = densevision.select(sources, "semantic", count=COUNT, pool=100, **OPTIONS)
    stems = {Path(row.image).stem[0] for row in rows}
    assert stems == {str(number) for number in range(COUNT)} and rows[0].distance is None
    assert all(row.distance > 0 for row in rows[1:])
    rows = densevision.select(sources, "semantic", count=COUNT - 1, pool=100, labeled=images / "3.png", **OPTIONS)
    assert {Path(row.image).stem[0] for row in rows} == stems - {"3"}


def test_select__command_line(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "next.json"
    run(["semantic", "select", str(images), "--count", "2", "--out", str(out), "--json", "--device", "cpu"])
    rows = json.loads(capsys.readouterr().out)
    assert json.loads(out.read_text()) == rows and len(rows) == 2
    for arguments in (["--count", "0"], ["--count", "99"], ["--count", "2", "--encoder-weights", "x.safetensors"]):
        with pytest.raises(SystemExit) as ending:
            run(["semantic", "select", str(images), *arguments])
        assert ending.value.code == 2


def test_compare_results__analytic_values() -> None:
    """A quarter of the pixels differ; depth 1 against 3 is 2/4; an offset of 3, 4 of a flow of length 5 and 0."""
    labels = np.zeros((4, 4), np.uint8)
    other = labels.copy()
    other[:2, :2] = 1
    maps = [SemanticMap(labels=each, names=("a", "b"), size=(4, 4)) for each in (labels, other)]
    assert compare_results(*maps) == 0.25
    depths = [
        DepthMap(depth=np.full((4, 4), value, np.float32), valid=np.ones((4, 4), bool), kind="metric", size=(4, 4))
        for value in (1, 3)
    ]
    assert compare_results(*depths) == 0.5
    flows = [
        FlowField(
            flow=np.broadcast_to(np.float32(vector)[:, None, None], (2, 4, 4)), valid=np.ones((4, 4), bool), size=(4, 4)
        )
        for vector in ((3, 4), (0, 0))
    ]
    assert compare_results(*flows) == pytest.approx(5 / 3.5)
    pictures = [Image(image=np.full((4, 4, 3), value, np.float32), size=(4, 4)) for value in (0.25, 0.75)]
    assert compare_results(*pictures) == 0.5
    joint = [JointResult(size=(4, 4), results={"semantic": a, "depth": b}) for a, b in zip(maps, depths)]
    assert compare_results(*joint) == pytest.approx(0.375)
    for pair in (maps, depths, flows, pictures, joint):
        assert compare_results(pair[0], pair[0]) == 0 and compare_results(*pair[::-1]) == compare_results(*pair)


def make_objects(*boxes: tuple[float, ...], label: int = 0, masks: list[np.ndarray] | None = None) -> Detections:
    common = {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.full(len(boxes), label),
        "scores": np.full(len(boxes), 0.5, np.float32), "names": ("a", "b"), "size": (20, 20),
    }  # fmt: skip
    return Detections(**common) if masks is None else Instances(**common, masks=tuple(encode(mask) for mask in masks))


def test_compare_results__objects() -> None:
    one, half = make_objects((0, 0, 10, 10)), make_objects((0, 0, 10, 5))
    assert compare_results(one, half) == pytest.approx(0.5) == compare_results(half, one)
    assert compare_results(one, make_objects((0, 0, 10, 10), label=1)) == 1
    assert compare_results(one, make_objects()) == 1 and compare_results(make_objects(), make_objects()) == 0
    assert compare_results(one, make_objects((0, 0, 10, 10), (0, 0, 10, 10))) == pytest.approx(1 / 3)
    mask = np.zeros((20, 20), bool)
    mask[:10, :10] = True
    ring = mask.copy()
    ring[:5] = False
    first, second = (make_objects((0, 0, 10, 10), masks=[each]) for each in (mask, ring))
    assert compare_results(first, second) == pytest.approx(0.5)
