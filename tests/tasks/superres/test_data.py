"""Which images a dataset holds, how inputs are generated, and which images are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from densevision import api
from densevision.datasets import degradations
from densevision.errors import DataError, UsageError
from densevision.io.image import write_image
from densevision.tasks import load_score
from densevision.tasks.superres.config import HELD_OUT, SuperresConfig
from densevision.tasks.superres.dataset import infer_splits, open_split

score = load_score("superres")


def image(height: int = 40, width: int = 48, seed: int = 0, kind: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.random((5, 6, 3))
    smooth = degradations.resize_bicubic(coarse, (height, width))
    return np.rint(smooth * np.iinfo(kind).max).astype(kind)


def folder(root: Path, *names: str, size: tuple[int, int] = (40, 48), kind: type = np.uint8) -> Path:
    for seed, name in enumerate(names):
        write_image(root / name, image(*size, seed=seed, kind=kind))
    return root


def config(path: Path | str, **more) -> SuperresConfig:
    settings = {
        "data.path": str(path),
        "data.crop": 8,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return SuperresConfig.resolve(None, settings)


def test_flat_folder__is_split_for_training_only(tmp_path: Path):
    folder(tmp_path, *(f"{number}.png" for number in range(12)))
    assert len(open_split(config(tmp_path), "val")) == 12
    trained = infer_splits(config(tmp_path))
    assert trained.data.val == HELD_OUT
    splits = {split: {open_split(trained, split)[i].id for i in range(len(open_split(trained, split)))}
              for split in ("train", "val")}  # fmt: skip
    assert len(splits["val"]) == 2 and not splits["train"] & splits["val"] and len(splits["train"]) == 10


def test_folders__by_option_and_by_convention(tmp_path: Path):
    for name in ("T91", "more", "Set5"):
        folder(tmp_path / name, "a.png", "b.png")
    named = config(tmp_path, data__train=("T91", "more"), data__val="Set5")
    assert (len(open_split(named, "train")), len(open_split(named, "val"))) == (4, 2)
    with pytest.raises(DataError, match=r"this folder itself contains no image.*Set5, T91, more"):
        open_split(config(tmp_path), "train")
    with pytest.raises(DataError, match="Did you mean 'Set5'"):
        open_split(config(tmp_path, data__val="Set6"), "val")


def test_div2k__pairs_by_scale(tmp_path: Path):
    folder(tmp_path / "DIV2K_train_HR", "0001.png", "0002.png")
    folder(tmp_path / "DIV2K_valid_HR", "0801.png")
    for scale in (2, 4):
        size = (40 // scale, 48 // scale)
        folder(tmp_path / f"DIV2K_train_LR_bicubic/X{scale}", f"0001x{scale}.png", f"0002x{scale}.png", size=size)
        folder(tmp_path / f"DIV2K_valid_LR_bicubic/X{scale}", f"0801x{scale}.png", size=size)
    for scale in (2, 4):
        samples = open_split(config(tmp_path, scale=scale), "train")
        assert [Path(samples[i].file).name for i in range(2)] == [f"0001x{scale}.png", f"0002x{scale}.png"]
        assert samples[0].images["image"].shape == (40 // scale, 48 // scale, 3)
        assert "not generated" in samples.notes[0]
    assert infer_splits(config(tmp_path)).data.val is None
    with pytest.raises(DataError, match="no inputs of this scale"):
        open_split(config(tmp_path, scale=3), "train")


def test_pairs__partners_and_sizes(tmp_path: Path):
    folder(tmp_path / "HR", "a_HR.png", "b_HR.png", "c_HR.png")
    folder(tmp_path / "LR", "a_LR.png", "b_LR.png", size=(20, 24))
    with pytest.raises(DataError, match=r"c_HR.png.*an image without its partner"):
        open_split(config(tmp_path), "val")
    samples = open_split(config(tmp_path, data__on_error="skip"), "val")
    assert len(samples) == 2 and "without its partner, skipped: c_HR.png" in samples.notes[-1]
    (tmp_path / "HR" / "c_HR.png").unlink()
    with pytest.raises(DataError, match="24 x 20 to 48 x 40 at scale 4"):
        open_split(config(tmp_path, scale=4), "val")


def test_names__endings_like_scales_and_roles(tmp_path: Path):
    names = ("box1.png", "box2.png", "x1.png", "x3.png", "blur_sharp.png", "sharp.png")
    assert len(open_split(config(folder(tmp_path / "targets", *names)), "val")) == len(names)
    folder(tmp_path / "pairs/HR", "box1.png", "box2.png", "fox3_HR.png")
    folder(tmp_path / "pairs/LR", "box1.png", "box2x2.png", "fox3_LR.png", size=(20, 24))
    samples = open_split(config(tmp_path / "pairs"), "val")
    partners = {samples[i].id: Path(samples[i].file).name for i in range(len(samples))}
    assert partners == {"box1.png": "box1.png", "box2.png": "box2x2.png", "fox3_HR.png": "fox3_LR.png"}
    folder(tmp_path / "pairs/LR", "box1.jpg", size=(20, 24))
    with pytest.raises(DataError, match=r"LR: two images have the same name, box1"):
        open_split(config(tmp_path / "pairs"), "val")


def test_names__of_several_folders_stay_apart(tmp_path: Path):
    for seed, name in enumerate(("Set5", "Set14")):
        write_image(tmp_path / name / "1.png", image(seed=seed))
    report = api.evaluate("superres", str(tmp_path), "bicubic", overrides={"data.val": ["Set5", "Set14"]})
    assert sorted(report.tables["per image"]) == ["Set14/1.png", "Set5/1.png"]
    assert report.counts["images"] == 2


def test_pairs__need_no_degradation(tmp_path: Path):
    folder(tmp_path / "sharp", "a.png", "b.png")
    folder(tmp_path / "blur", "a.png", "b.png")
    assert open_split(config(tmp_path, scale=1), "val")[0].images["image"].shape == (40, 48, 3)
    trained = config(tmp_path, scale=1, degrade__motion=(3.0, 5.0))
    with pytest.raises(UsageError, match="degrade: has no effect: the data contains the inputs"):
        infer_splits(trained)
    samples = open_split(trained, "val")  # weights trained on generated inputs can be evaluated on predictions ones
    assert "not generated" in samples.notes[0] and np.array_equal(samples[0].images["image"], image())


def test_generated_inputs__are_described(tmp_path: Path):
    folder(tmp_path, "a.png")
    notes = open_split(config(tmp_path, degrade__blur=(0.5, 2.0), degrade__jpeg=(30, 90)), "val").notes
    assert notes == ("val: inputs are generated from the images: blur 0.5 to 2, jpeg 30 to 90",)
    assert "real-esrgan" in open_split(config(tmp_path, degrade__chain="real-esrgan"), "val").notes[0]
    assert open_split(config(tmp_path), "val").notes == ()


def test_corrupt_images__are_reported_or_skipped(tmp_path: Path):
    folder(tmp_path / "HR", "a.png", "b.png", "c.png", "d.png")
    folder(tmp_path / "LR", "a.png", "b.png", "c.png", "d.png", size=(20, 24))
    (tmp_path / "HR/b.png").write_bytes(b"")
    (tmp_path / "HR/c.png").write_bytes((tmp_path / "HR/c.png").read_bytes()[:-100])
    (tmp_path / "LR/d.png").write_text("no image")
    with pytest.raises(DataError, match=r"HR/b\.png: the file is empty"):
        open_split(config(tmp_path), "val")
    samples = open_split(config(tmp_path, data__on_error="skip"), "val")
    assert [samples[i].id for i in range(len(samples))] == ["a.png"]
    assert all(name in " ".join(samples.notes) for name in ("b.png", "c.png", "d.png"))


def test_gray__stays_in_evaluation_and_is_converted_in_training(tmp_path: Path):
    write_image(tmp_path / "gray.png", image()[..., :1])
    samples = open_split(config(tmp_path), "train")
    whole, part = samples[0], samples.crop(0, np.random.default_rng(0))
    assert whole.images["image"].shape[2] == whole.truth.image.shape[2] == 1
    assert part.images["image"].shape == (8, 8, 3) and part.truth.image.shape == (16, 16, 3)
    write_image(tmp_path / "HR/a.png", image()[..., :1])
    write_image(tmp_path / "LR/a.png", image(20, 24))
    sample = open_split(config(tmp_path), "val")[0]
    assert sample.images["image"].shape[2] == sample.truth.image.shape[2] == 3


def test_crop__larger_than_an_image(tmp_path: Path):
    folder(tmp_path, "small.png", size=(20, 30))
    with pytest.raises(DataError, match="30 x 20, at least 32 needed"):
        open_split(config(tmp_path, data__crop=16), "train")
    grown = open_split(config(tmp_path, data__crop=16, data__on_error="fix"), "train")
    assert grown.crop(0, np.random.default_rng(0)).truth.size == (32, 32)


def test_rescale__downscales_before_cropping(tmp_path: Path):
    """A ramp of 2 levels a pixel is one of 4 at half the size, and its input is still made of what is shown."""
    ramp = np.broadcast_to(2 * np.arange(96)[None, :, None], (80, 96, 3)).astype(np.uint8)
    write_image(tmp_path / "train" / "ramp.png", ramp), write_image(tmp_path / "val" / "ramp.png", ramp)
    halved = open_split(config(tmp_path, data__rescale=[0.5, 0.5], data__flip_and_rotate=False), "train")
    for seed in range(4):
        sample = halved.crop(0, np.random.default_rng(seed))
        steps = np.diff(sample.truth.image[4:12, 4:12, 0].astype(int), axis=1)
        assert sample.truth.image.shape == (16, 16, 3) and (steps == 4).all()
        expected = degradations.resize_bicubic(sample.truth.image, (8, 8))[2:6, 2:6].astype(int)
        assert np.abs(sample.images["image"][2:6, 2:6] - expected).max() <= 1
    mixed = open_split(config(tmp_path, data__rescale=[0.5, 1.0], data__flip_and_rotate=False), "train")
    slopes = {int(np.diff(mixed.crop(0, np.random.default_rng(seed)).truth.image[8, 4:12, 0].astype(int)).sum())
              for seed in range(8)}  # fmt: skip
    assert len(slopes) > 3 and min(slopes) >= 14 and max(slopes) <= 28


def test_rescale__has_no_effect_on_pairs(tmp_path: Path):
    folder(tmp_path / "train" / "HR", "a.png"), folder(tmp_path / "train" / "LR", "a.png", size=(20, 24))
    with pytest.raises(UsageError, match=r"data.rescale"):
        infer_splits(config(tmp_path, data__rescale=[0.5, 1.0], data__val="train"))
    assert len(open_split(config(tmp_path, data__rescale=[0.5, 1.0]), "train")) == 1
    with pytest.raises(UsageError, match="smallest, largest"):
        config(tmp_path, data__rescale=[1.0, 0.5])


def test_nothing_to_restore__is_an_error(tmp_path: Path):
    folder(tmp_path, "a.png")
    for nothing in ({}, {"degrade__blur": [0.0, 0.0]}, {"degrade__noise": [0.0, 0.0]}):
        with pytest.raises(UsageError, match="there is nothing to restore at scale 1"):
            open_split(config(tmp_path, scale=1, **nothing), "val")


def test_crop__matches_in_input_and_target(tmp_path: Path):
    folder(tmp_path, "a.png", size=(96, 80))
    samples = open_split(config(tmp_path, data__crop=24), "train")
    seen = set()
    for seed in range(40):
        sample = samples.crop(0, np.random.default_rng(seed))
        small, truth = sample.images["image"], sample.truth.image
        assert small.shape == (24, 24, 3) and truth.shape == (48, 48, 3)
        reduced = degradations.resize_bicubic(truth, (24, 24))[3:-3, 3:-3].astype(int)
        assert np.abs(reduced - small[3:-3, 3:-3]).max() <= 1
        seen.add(truth.tobytes())
    assert len(seen) > 30


def test_degrade__depends_on_the_seed_only(tmp_path: Path):
    folder(tmp_path, "a.png", size=(96, 80))
    samples = open_split(config(tmp_path, degrade__chain="real-esrgan"), "train")
    one, again = (samples.crop(0, np.random.default_rng(5)).images["image"] for _ in range(2))
    other = samples.crop(0, np.random.default_rng(6)).images["image"]
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert np.array_equal(samples[0].images["image"], samples[0].images["image"])


def test_16_bits__are_kept(tmp_path: Path):
    folder(tmp_path, "a.png", kind=np.uint16)
    sample = open_split(config(tmp_path, degrade__noise=(0.01, 0.02)), "val")[0]
    assert sample.images["image"].dtype == sample.truth.image.dtype == np.uint16
    assert len(np.unique(sample.images["image"])) > 256


def test_cache__reads_each_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder(tmp_path, "a.png", "b.png")
    samples = open_split(config(tmp_path, data__repeat=3), "train")
    read = samples.reader.read
    calls: list[int] = []
    monkeypatch.setattr(samples.reader, "read", lambda index: (calls.append(index), read(index))[1])
    for index in range(len(samples)):
        samples.crop(index, np.random.default_rng(index))
    assert len(samples) == 6 and sorted(calls) == [0, 1]


def test_scenes__have_two_splits():
    chosen = config("scenes:10:3")
    train, val = open_split(chosen, "train"), open_split(chosen, "val")
    assert len(train) == 10 and len(val) == 16
    assert not np.array_equal(train[0].truth.image, val[0].truth.image)
    assert infer_splits(chosen) == chosen


def test_score__images_of_any_tool(tmp_path: Path):
    folder(tmp_path / "truth", "a.png", "b.png")
    for name, seed in (("a", 0), ("b", 1)):
        write_image(
            tmp_path / "predictions" / f"{name}.bmp", np.clip(image(seed=seed).astype(int) + 2, 0, 255).astype(np.uint8)
        )
    report = score(tmp_path / "truth", tmp_path / "predictions")
    assert 41 < report["metrics"]["PSNR_RGB_crop0"] < 43 and report["counts"]["images"] == 2
    assert "PSNR_Y_crop2" in report["metrics"]
    (tmp_path / "predictions" / "b.bmp").unlink()
    report = score(tmp_path / "truth", tmp_path / "predictions")
    assert report["counts"]["images"] == 1 and report["named"] == {"images without prediction": ["b"]}


def test_score__ground_truth_is_cropped_like_in_evaluation(tmp_path: Path):
    predictions, truth = (
        folder(tmp_path / "predictions", "a.png", size=(39, 45)),
        folder(tmp_path / "truth", "a.png", size=(41, 47)),
    )
    report = score(truth, predictions)
    same = folder(tmp_path / "same", "a.png")
    write_image(same / "a.png", image(41, 47)[:39, :45])
    expected = score(same, predictions)
    assert report["metrics"] == expected["metrics"] and report["counts"]["cropped truths"] == 1
    assert "size" in report["protocol"] and "cropped truths" not in expected["counts"]
    for size in ((38, 45), (39, 44), (20, 23), (42, 48)):  # of no divisor; of two; a half; larger
        folder(predictions, "a.png", size=size)
        with pytest.raises(DataError, match="differ in height or width"):
            score(truth, predictions)


def test_score__matches_names_like_datasets(tmp_path: Path):
    truth = folder(tmp_path / "truth", "0801.png", "b_HR.png", "c.png")
    predictions = folder(tmp_path / "predictions", "0801x2.png", "b_LR.png", "c.png", "c_LR.png")
    report = score(truth, predictions)
    assert report["counts"]["images"] == 3 and len(report["named"]["predictions without truth"]) == 1
    assert report["metrics"]["PSNR_RGB_crop0"] == float("inf")


def test_score__no_luma_for_many_channels(tmp_path: Path):
    for name in ("truth", "predictions"):
        (tmp_path / name).mkdir()
        tifffile.imwrite(
            tmp_path / name / "a.tif", np.zeros((20, 20, 5), np.uint8), photometric="minisblack", planarconfig="contig"
        )
    assert set(score(tmp_path / "truth", tmp_path / "predictions")["metrics"]) == {"PSNR_RGB_crop0", "SSIM_RGB_crop0"}
