"""Which pairs a dataset holds, how samples are cropped, and which images are refused."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision import api
from densevision.datasets.scenes import SEMANTIC_CLASSES, Scenes
from densevision.draw.colors import build_palette
from densevision.errors import DataError, UsageError
from densevision.io.image import write_image
from densevision.tasks import load_score
from densevision.tasks.translation.config import HELD_OUT, TranslationConfig
from densevision.tasks.translation.dataset import derive_input, infer_splits, open_split

score = load_score("translation")

SIDE = 40


def image(seed: int, height: int = SIDE, width: int = SIDE, kind: type = np.uint8) -> np.ndarray:
    coarse = np.random.default_rng(seed).random((5, 5, 3))
    return np.rint(cv2.resize(coarse, (width, height)).clip(0, 1) * np.iinfo(kind).max).astype(kind)


def join_halves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([a, b], 1)


def config(path: Path | str, **more) -> TranslationConfig:
    settings = {name.replace("__", "."): value for name, value in more.items()}
    return TranslationConfig.resolve(None, {"data.path": str(path), "data.size": 32, **settings})


def write_sides(root: Path, form: str, names: tuple[str, ...] = ("1.png", "2.png"), seed: int = 0) -> None:
    """Writes folders of A (even seeds) and B (odd seeds) below the root, by a pattern such as `train/{side}`."""
    for number, name in enumerate(names):
        for odd, side in enumerate("AB"):
            write_image(root / form.format(side=side) / name, image(seed + 2 * number + odd))


def test_side_by_side__both_directions(tmp_path: Path):
    for split in ("train", "val"):
        write_image(tmp_path / split / "1.png", join_halves(image(0), image(1)))
    for direction, (source, target) in {"AtoB": (0, 1), "BtoA": (1, 0)}.items():
        (sample,) = open_split(config(tmp_path, data__direction=direction), "val")
        np.testing.assert_array_equal(sample.images["image"], image(source))
        np.testing.assert_array_equal(sample.truth.image, image(target))
        assert sample.id == "1.png" and not sample.file  # the file holds more than the input


def test_names__of_several_folders_stay_apart(tmp_path: Path):
    for seed, place in enumerate(("night", "day")):
        write_image(tmp_path / "val" / place / "1.png", join_halves(image(seed), image(seed)))
    samples = open_split(config(tmp_path, data__layout="side-by-side"), "val")
    assert [samples[i].id for i in range(2)] == ["day/1.png", "night/1.png"]


@pytest.mark.parametrize(
    ("train", "val"),
    [("train{side}", "test{side}"), ("{side}/train", "{side}/val"), ("train/{side}", "val/{side}")],
)
def test_folders__every_layout(tmp_path: Path, train: str, val: str):
    write_sides(tmp_path, train)
    write_sides(tmp_path, val, ("9.png",), seed=50)
    chosen = infer_splits(config(tmp_path))
    assert chosen.data.val is None
    assert [len(open_split(chosen, split)) for split in ("train", "val")] == [2, 1]
    (sample,) = open_split(config(tmp_path, data__direction="BtoA"), "val")
    np.testing.assert_array_equal(sample.images["image"], image(51))
    np.testing.assert_array_equal(sample.truth.image, image(50))
    assert Path(sample.file) == tmp_path / val.format(side="B") / "9.png"


@pytest.mark.parametrize(
    ("train", "val"), [("train/{}", "val/{}"), ("{}/Train", "{}/Test"), ("train{}", "val{}"), ("{}", None)]
)
@pytest.mark.parametrize("sides", [("night", "day"), ("a", "b")])
def test_folders__other_names_and_cases(tmp_path: Path, sides: tuple[str, str], train: str, val: str | None):
    for split, form in enumerate((train, val) if val else (train,)):
        for seed, side in enumerate(sides):
            write_image(tmp_path / form.format(side) / f"1_{side}.png", image(10 * split + seed))
    named = {} if sides == ("a", "b") else {"data__sides": [side.upper() for side in sides]}
    chosen = infer_splits(config(tmp_path, **named))
    assert (chosen.data.val is None) == (val is not None)
    samples = open_split(config(tmp_path, **named), "val")
    assert len(samples) == 1 and samples.notes[0].startswith(f"val: A is read from {(val or train).format(sides[0])}")
    np.testing.assert_array_equal(samples[0].images["image"], image(10 if val else 0))
    np.testing.assert_array_equal(samples[0].truth.image, image(11 if val else 1))


def test_nested_folders__are_halves_only_if_stated(tmp_path: Path):
    for split, side in (("train", "night"), ("train", "day"), ("val", "night"), ("val", "day")):
        write_image(tmp_path / split / side / "1.png", image(0))
    with pytest.raises(DataError, match="got 'day, night'"):
        open_split(config(tmp_path), "train")
    with pytest.raises(DataError, match=r"data\.sides=\[day, night\].*data\.layout=side-by-side"):
        api.check("translation", tmp_path)
    samples = open_split(config(tmp_path, data__layout="side-by-side"), "train")
    assert len(samples) == 2 and samples.notes == ("train: A and B are the halves of each image of train",)
    with pytest.raises(DataError, match="no folders dusk and dawn for train"):
        open_split(config(tmp_path, data__sides=["dusk", "dawn"]), "train")


def test_folders__without_splits_hold_out_a_tenth(tmp_path: Path):
    write_sides(tmp_path, "{side}", tuple(f"{number}.png" for number in range(12)))
    assert len(open_split(config(tmp_path), "val")) == 12
    chosen = infer_splits(config(tmp_path))
    assert chosen.data.val == HELD_OUT
    ids = [{sample.id for sample in open_split(chosen, split)} for split in ("train", "val")]
    assert (len(ids[0]), len(ids[1])) == (10, 2) and not ids[0] & ids[1]


def test_folders__other_split_names(tmp_path: Path):
    write_sides(tmp_path, "{side}/spring")
    write_sides(tmp_path, "{side}/autumn", ("3.png",))
    chosen = config(tmp_path, data__train="spring", data__val="autumn")
    assert [len(open_split(chosen, split)) for split in ("train", "val")] == [2, 1]
    with pytest.raises(DataError, match="there is no such folder"):
        open_split(config(tmp_path, data__train="summer"), "train")


def test_folders__partners_by_name_and_size(tmp_path: Path):
    write_sides(tmp_path, "{side}")
    write_image(tmp_path / "A" / "3_A.jpg", image(7))
    write_image(tmp_path / "B" / "3_B.png", image(8))
    assert len(open_split(config(tmp_path), "val")) == 3
    write_image(tmp_path / "B" / "single.png", image(9))
    with pytest.raises(DataError, match=r"B/single\.png.*an image without its partner"):
        open_split(config(tmp_path), "val")
    (tmp_path / "B" / "single.png").unlink()
    write_image(tmp_path / "B" / "2.png", image(3, 20, 30))
    with pytest.raises(DataError, match=r"A/2\.png.*size differs from its partner \(got '40 x 40 and 30 x 20'\)"):
        open_split(config(tmp_path), "val")
    samples = open_split(config(tmp_path, data__on_error="skip"), "val")
    assert len(samples) == 2 and "whose size differs from its partner, skipped: 2.png" in samples.notes[-1]


def test_side_by_side__odd_width(tmp_path: Path):
    write_image(tmp_path / "train" / "1.png", image(0, 40, 81))
    with pytest.raises(DataError, match=r"1\.png.*odd width, which has no halves \(got '81 x 40'\)"):
        open_split(config(tmp_path), "train")
    with pytest.raises(DataError, match="no image for train"):
        open_split(config(tmp_path, data__on_error="skip"), "train")


def test_missing_data__lists_what_is_there(tmp_path: Path):
    with pytest.raises(UsageError, match="no data is given"):
        open_split(TranslationConfig(), "train")
    with pytest.raises(DataError, match="there is no such folder"):
        open_split(config(tmp_path / "absent"), "train")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="got 'images'"):
        open_split(config(tmp_path), "train")
    with pytest.raises(DataError, match="no folders A and B for train"):
        open_split(config(tmp_path, data__layout="folders"), "train")
    write_image(tmp_path / "train" / "1.png", join_halves(image(0), image(1)))
    with pytest.raises(DataError, match=r"there is no val split \(got 'train'\)"):
        open_split(config(tmp_path), "val")
    write_sides(tmp_path / "twice", "{side}", ("a.png", "a.jpg"))
    with pytest.raises(DataError, match=r"two images have the same name, a\.jpg and a\.png"):
        open_split(config(tmp_path / "twice"), "train")


def test_corrupt_image__is_reported_or_skipped(tmp_path: Path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1\.png"):
        open_split(config(tmp_path), "train")
    for name in ("2.png", "3.png"):
        write_image(tmp_path / "train" / name, join_halves(image(0), image(1)))
    (tmp_path / "train/2.png").write_bytes((tmp_path / "train/2.png").read_bytes()[:-100])
    samples = open_split(config(tmp_path, data__on_error="skip"), "train")
    assert [samples[i].id for i in range(len(samples))] == ["3.png"]
    assert all(name in " ".join(samples.notes) for name in ("1.png", "2.png"))


def test_derive__gray_and_edges(tmp_path: Path):
    write_image(tmp_path / "1.png", image(0))
    (sample,) = open_split(config(tmp_path, data__derive="gray", backbone__channels=1), "val")
    luma = image(0) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(sample.images["image"][..., 0], luma, atol=0.51)
    np.testing.assert_array_equal(sample.truth.image, image(0))
    disc = np.zeros((64, 64, 3), np.uint8)
    cv2.circle(disc, (32, 32), 20, (255, 255, 255), -1)
    edges = derive_input(disc, "edges")
    y, x = np.nonzero(edges[..., 0] == 0)
    assert edges.shape == (64, 64, 1) and set(np.unique(edges)) == {0, 255}
    assert len(y) > 2 * math.pi * 20 * 0.7 and np.abs(np.hypot(y - 32, x - 32) - 20).max() < 2


def test_derive__from_the_target_half(tmp_path: Path):
    write_image(tmp_path / "train" / "1.png", join_halves(image(0), np.zeros((SIDE, SIDE, 3), np.uint8)))
    chosen = config(tmp_path, data__layout="side-by-side", data__direction="BtoA", data__derive="gray")
    (sample,) = open_split(chosen, "train")
    np.testing.assert_array_equal(sample.truth.image, image(0))
    assert sample.images["image"].shape == (SIDE, SIDE, 3) and sample.images["image"].std() > 10


def test_derive__single_images_have_no_direction(tmp_path: Path):
    write_image(tmp_path / "1.png", image(0))
    with pytest.raises(UsageError, match=r"data\.direction: has no effect on single images.*'BtoA'"):
        open_split(config(tmp_path, data__derive="gray", data__direction="BtoA"), "val")


@pytest.mark.parametrize(
    ("direction", "side", "field"), [("AtoB", "B", "out_channels"), ("BtoA", "B", "backbone.channels")]
)
def test_channels__error_names_file_and_option(direction: str, side: str, field: str, tmp_path: Path):
    write_sides(tmp_path, "{side}", ("1.png",))
    write_image(tmp_path / side / "1.png", np.dstack([image(1), image(1)[..., :1]]))
    chosen = config(tmp_path, data__direction=direction, **{field.replace(".", "__"): 2})
    with pytest.raises(DataError, match=rf"{side}/1\.png: {field}: "):
        open_split(chosen, "val")[0]


def test_crop__follows_the_paper(tmp_path: Path):
    """Resized to 286 / 256 of the crop, cropped anywhere, flipped half of the time, in both images alike."""
    write_image(tmp_path / "train" / "1.png", join_halves(image(0, 72, 72), 255 - image(0, 72, 72)))
    samples = open_split(config(tmp_path), "train")
    assert config(tmp_path).data.resized_side == 36 and config(tmp_path, data__size=256).data.resized_side == 286
    whole = cv2.resize(image(0, 72, 72), (36, 36), interpolation=cv2.INTER_AREA)
    corners, flips = set(), 0
    for seed in range(60):
        sample = samples.crop(0, np.random.default_rng(seed))
        source, target = sample.images["image"].astype(int), sample.truth.image.astype(int)
        assert source.shape == target.shape == (32, 32, 3) and np.abs(source + target - 255).max() <= 1
        matches = [
            (top, left, flip)
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
            if np.array_equal(source[:, ::-1] if flip else source, whole[top : top + 32, left : left + 32])
        ]
        assert len(matches) == 1
        corners.add(matches[0][:2])
        flips += matches[0][2]
    assert len(corners) > 15 and 15 < flips < 45
    again = [samples.crop(0, np.random.default_rng(3)).images["image"] for _ in range(2)]
    assert np.array_equal(*again)


def test_16_bits__are_kept(tmp_path: Path):
    write_sides(tmp_path, "{side}")
    for side, seed in (("A", 0), ("B", 1)):
        write_image(tmp_path / side / "1.png", image(seed, kind=np.uint16))
    samples = open_split(config(tmp_path), "train")
    for sample in (samples[0], samples.crop(0, np.random.default_rng(0))):
        assert sample.images["image"].dtype == sample.truth.image.dtype == np.uint16
        assert len(np.unique(sample.truth.image)) > 256


def test_cache__reads_each_pair_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_sides(tmp_path, "{side}")
    samples = open_split(config(tmp_path), "train")
    read, calls = samples.reader.read, []
    monkeypatch.setattr(samples.reader, "read", lambda index: (calls.append(index), read(index))[1])
    for index in (0, 1, 0, 1):
        samples.crop(index, np.random.default_rng(index))
    assert calls == [0, 1]


def test_scenes__labels_in_colors_to_the_image():
    chosen = config("scenes:6:3")
    train, val = open_split(chosen, "train"), open_split(chosen, "val")
    assert len(train) == 6 and len(val) == 16 and infer_splits(chosen).data.val is None
    scene = Scenes(6, 3, (36, 36))[2]
    np.testing.assert_array_equal(train[2].images["image"], build_palette(len(SEMANTIC_CLASSES))[scene.semantic])
    np.testing.assert_array_equal(train[2].truth.image, scene.image)
    back = open_split(config("scenes:6:3", data__direction="BtoA"), "train")
    np.testing.assert_array_equal(back[2].truth.image, train[2].images["image"])


@pytest.mark.realdata
def test_facades__needs_only_its_path(real_data: Path):
    chosen = TranslationConfig.resolve(None, {"data.path": str(real_data / "data/facades"), "data.direction": "BtoA"})
    train, val = open_split(infer_splits(chosen), "train"), open_split(infer_splits(chosen), "val")
    assert (len(train), len(val)) == (240, 60)
    notes = (*train.notes, *val.notes)
    assert len(notes) == 2 and all("A and B are the halves of each image" in note for note in notes)
    sample = val[0]
    assert sample.images["image"].shape == sample.truth.image.shape == (256, 256, 3)
    # The drawing has a dozen flat colors: far more of its pixels equal their neighbor than of the photo's.
    flat = [
        float((np.diff(one.astype(int), axis=1) == 0).all(2).mean())
        for one in (sample.images["image"], sample.truth.image)
    ]
    assert flat[0] > 2 * flat[1]


def test_score__files_of_any_tool(tmp_path: Path):
    for number in range(2):
        write_image(tmp_path / "truth" / f"{number}.png", np.full((16, 16, 3), 100, np.uint8))
        write_image(tmp_path / "given" / f"{number}.bmp", np.full((16, 16, 3), 100 + 10 * number, np.uint8))
    report = score(tmp_path / "truth", tmp_path / "given")
    assert report["metrics"]["L1"] == pytest.approx(5 / 255) and report["counts"]["images"] == 2
    write_image(tmp_path / "given" / "1.bmp", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="differ in height or width"):
        score(tmp_path / "truth", tmp_path / "given")


def test_score__ignores_alpha_and_side_suffixes(tmp_path: Path):
    clear = np.concatenate([image(1), np.full((SIDE, SIDE, 1), 9, np.uint8)], 2)
    write_image(tmp_path / "truth" / "1_B.png", image(0)), write_image(tmp_path / "given" / "1_A.png", clear)
    write_image(tmp_path / "plain" / "1_B.png", image(1))
    report, expected = (score(tmp_path / "truth", tmp_path / name) for name in ("given", "plain"))
    assert report["metrics"] == expected["metrics"] and report["protocol"]["alpha"] == "left out"


def test_check__finds_planted_faults(tmp_path: Path):
    for number in range(4):
        write_image(tmp_path / "train" / f"{number}.png", join_halves(image(2 * number), image(2 * number + 1)))
    write_image(tmp_path / "val" / "9.png", join_halves(image(90), image(91)))
    planted = {
        "halves-odd": ["odd.png"],
        "image-broken": ["broken.png"],
        "leak": ["copy.png"],
        "pair-alike": ["alike.png"],
        "target-blank": ["blank.png"],
    }

    def list_findings() -> dict[str, list[str]]:
        findings = api.check("translation", tmp_path).findings
        return {finding.check.name: [Path(place.file).name for place in finding.locations] for finding in findings}

    assert not planted.keys() & list_findings().keys()
    write_image(tmp_path / "train" / "odd.png", image(20, 40, 81))
    write_image(tmp_path / "train" / "alike.png", join_halves(image(21), image(21)))
    write_image(tmp_path / "train" / "blank.png", join_halves(image(22), np.full((SIDE, SIDE, 3), 9, np.uint8)))
    (tmp_path / "train" / "broken.png").write_bytes(b"no image")
    (tmp_path / "val" / "copy.png").write_bytes((tmp_path / "train" / "0.png").read_bytes())
    assert list_findings().items() >= planted.items()
