"""Dataset layouts, splits, sparse truth, and frames that do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from densevision.datasets.flow_layouts import detect_flow_layout
from densevision.errors import DataError, UsageError
from densevision.io.flow import write_flow
from densevision.io.image import write_image
from densevision.tasks.flow.config import FlowConfig
from densevision.tasks.flow.dataset import SceneFlow, list_pairs, open_split
from densevision.tasks.flow.task import Flow

SIZE = (6, 8)


def frame(path: Path, value: int = 0, size: tuple[int, int] = SIZE) -> None:
    """An image of one color, which tells the frames apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".ppm":
        height, width = size
        path.write_bytes(b"P6\n%d %d\n255\n" % (width, height) + bytes([value]) * (height * width * 3))
    else:
        write_image(path, np.full((*size, 3), value, np.uint8))


def motion(path: Path, value: float = 1.0, size: tuple[int, int] = SIZE, valid: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_flow(path, np.full((2, *size), value), valid)


def mask(path: Path, where: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, (255 * where[..., None]).astype(np.uint8))


def config(path: Path, **more) -> FlowConfig:
    return FlowConfig.resolve(None, {"data.path": str(path), **more})


def chairs(root: Path) -> None:
    for number in (1, 2):
        frame(root / f"data/0000{number}_img1.ppm", 1)
        frame(root / f"data/0000{number}_img2.ppm", 2)
        motion(root / f"data/0000{number}_flow.flo")
    (root / "FlyingChairs_train_val.txt").write_text("1\n2\n")


def things(root: Path) -> None:
    for part in ("TRAIN", "TEST"):
        for number in (6, 7):
            frame(root / f"frames_cleanpass/{part}/A/0000/left/{number:04d}.png", number - 5)
        folder = root / f"optical_flow/{part}/A/0000"
        motion(folder / "into_future/left/OpticalFlowIntoFuture_0006_L.pfm")
        motion(folder / "into_future/left/OpticalFlowIntoFuture_0007_L.pfm")


def sintel(root: Path) -> None:
    for scene in ("alley_1", "market_2"):
        for rendering in ("clean", "final"):
            for number in (1, 2):
                frame(root / f"training/{rendering}/{scene}/frame_000{number}.png", number)
        motion(root / f"training/flow/{scene}/frame_0001.flo")
        mask(root / f"training/occlusions/{scene}/frame_0001.png", np.indices(SIZE)[1] < 2)
        mask(root / f"training/invalid/{scene}/frame_0001.png", np.indices(SIZE)[0] < 1)


def kitti(root: Path, images: str) -> None:
    for number in (0, 1):
        frame(root / f"training/{images}/00000{number}_10.png", 1)
        frame(root / f"training/{images}/00000{number}_11.png", 2)
        motion(root / f"training/flow_occ/00000{number}_10.png")
        motion(root / f"training/flow_noc/00000{number}_10.png", valid=np.indices(SIZE)[1] >= 2)


def hd1k(root: Path) -> None:
    for sequence in (0, 1):
        for number in (10, 11):
            frame(root / f"hd1k_input/image_2/00000{sequence}_00{number}.png", number - 9)
            motion(root / f"hd1k_flow_gt/flow_occ/00000{sequence}_00{number}.png")


def middlebury(root: Path) -> None:
    for scene in ("Grove2", "Urban2"):
        frame(root / f"other-data/{scene}/frame10.png", 1)
        frame(root / f"other-data/{scene}/frame11.png", 2)
        motion(root / f"other-gt-flow/{scene}/flow10.flo")


def tartanair(root: Path) -> None:
    for name in ("P000", "P001"):
        sequence = root / f"abandonedfactory/Easy/{name}"
        frame(sequence / "image_left/000000_left.png", 1)
        frame(sequence / "image_left/000001_left.png", 2)
        motion(sequence / "flow/000000_000001_flow.npy")
        np.save(sequence / "flow/000000_000001_mask.npy", (np.indices(SIZE)[1] < 2).astype(np.uint8))


LAYOUTS = {
    "FlyingChairs": (chairs, 1),
    "FlyingThings3D": (things, 1),
    "Sintel": (sintel, 2),
    "KITTI 2015": (lambda root: kitti(root, "image_2"), 1),
    "KITTI 2012": (lambda root: kitti(root, "colored_0"), 1),
    "HD1K": (hd1k, 1),
    "Middlebury": (middlebury, 1),
    "TartanAir": (tartanair, 1),
}
OCCLUDED = ("Sintel", "KITTI 2015", "KITTI 2012", "TartanAir")


def test_things__what_only_trains_is_divided_by_scenes(tmp_path):
    """Both directions and cameras of a scene show the same images: none may train where another validates."""
    things(tmp_path)
    for part in ("optical_flow", "frames_cleanpass"):
        shutil.rmtree(tmp_path / part / "TEST")
        first = tmp_path / part / "TRAIN/A/0000"
        for scene in range(1, 8):
            shutil.copytree(first, first.with_name(f"{scene:04d}"))
    for scene in range(8):
        for way in ("into_future/left", "into_past/left"):
            motion(tmp_path / f"optical_flow/TRAIN/A/{scene:04d}/{way}/OpticalFlow_0006_L.pfm")
        frame(tmp_path / f"frames_cleanpass/TRAIN/A/{scene:04d}/left/0005.png")
    train, val = (open_split(config(tmp_path), split) for split in ("train", "val"))
    assert len(train) and len(val) and "1 of 8 sequences are held out" in val.notes[0]
    assert not {pair.first for pair in train.pairs} & {pair.first for pair in val.pairs}


def test_spring__one_scene_trains_or_validates(tmp_path):
    for scene in range(8):
        for camera in ("left", "right"):
            for number in (1, 2):
                frame(tmp_path / f"train/{scene:04d}/frame_{camera}/frame_{camera}_{number:04d}.png")
            for way, number in (("FW", 1), ("BW", 2)):
                name = f"flow_{way}_{camera}"
                (tmp_path / f"train/{scene:04d}/{name}").mkdir()
                (tmp_path / f"train/{scene:04d}/{name}/{name}_{number:04d}.flo5").touch()
    train, val = ({pair.group[:4] for pair in list_pairs(config(tmp_path), split)[0]} for split in ("train", "val"))
    assert len(val) == 1 and len(train) == 7 and not train & val


def test_tartanair__below_train_and_val(tmp_path):
    for split in ("train", "val"):
        tartanair(tmp_path / split)
    for split in ("train", "val"):
        samples = open_split(config(tmp_path), split)
        assert len(samples) == 2 and all(split in pair.first.parts for pair in samples.pairs)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout__gives_pairs_with_truth_for_both_splits(tmp_path, name):
    build, count = LAYOUTS[name]
    build(tmp_path)
    assert name.startswith(detect_flow_layout(tmp_path).name)
    ids = []
    for split in ("train", "val"):
        samples = open_split(config(tmp_path), split)
        assert len(samples) == count
        for sample in (samples[index] for index in range(count)):
            assert (sample.images["first"] == 1).all() and (sample.images["second"] == 2).all()
            assert (sample.truth.flow[:, sample.truth.valid] == 1).all() and sample.truth.valid.any()
            if name in OCCLUDED:
                np.testing.assert_array_equal(sample.truth.occluded, np.indices(SIZE)[1] < 2)
            ids.append(sample.id)
    assert len(set(ids)) == 2 * count


def test_sintel__invalid_pixels_are_not_valid_and_a_scene_stays_in_one_split(tmp_path):
    sintel(tmp_path)
    train, val = (open_split(config(tmp_path), split) for split in ("train", "val"))
    assert not train[0].truth.valid[0].any() and train[0].truth.valid[1:].all()
    scenes = [{sample.id.split("/")[1] for sample in map(split.__getitem__, range(2))} for split in (train, val)]
    assert len(scenes[0]) == len(scenes[1]) == 1 and scenes[0] != scenes[1]
    assert "held out" in train.notes[0]


def test_passes__are_chosen(tmp_path):
    sintel(tmp_path)
    assert len(open_split(config(tmp_path, **{"data.passes": ["final"]}), "train")) == 1


def test_plain_folders__by_numbers_or_because_there_are_only_two_frames(tmp_path):
    for number in (10, 11, 12):
        frame(tmp_path / f"train/a/frame{number}.png", number - 9)
    motion(tmp_path / "train/a/flow11.flo")
    frame(tmp_path / "val/b/left.png", 1)
    frame(tmp_path / "val/b/right.png", 2)
    motion(tmp_path / "val/b/flow_gt.png")
    train, val = (open_split(config(tmp_path), split) for split in ("train", "val"))
    assert (train[0].images["first"] == 2).all() and (train[0].images["second"] == 3).all()
    assert (val[0].images["second"] == 2).all()
    assert len(open_split(config(tmp_path, **{"data.val": "."}), "val")) == 2


def numbers_of(samples) -> list[tuple[int, int]]:
    """The colors of the frames of each pair."""
    pairs = (samples[index] for index in range(len(samples)))
    return sorted(tuple(int(pair.images[name][0, 0, 0]) for name in ("first", "second")) for pair in pairs)


def test_plain_folders__frames_follow_each_other_by_number_and_not_by_spelling(tmp_path):
    for number in range(12):
        frame(tmp_path / f"frame{number}.png", number)
    for number in (0, 1, 9, 11):
        motion(tmp_path / f"flow{number}.flo")
    assert numbers_of(open_split(config(tmp_path), "train")) == [(0, 1), (1, 2), (9, 10)]


def test_plain_folders__a_missing_frame_is_not_replaced_by_the_one_after(tmp_path):
    for number in (0, 2, 4, 5):
        frame(tmp_path / f"{number:02d}.png", number)
        motion(tmp_path / f"{number:02d}.flo")
    assert numbers_of(open_split(config(tmp_path), "train")) == [(4, 5)]


def test_plain_folders__sequences_in_one_folder_are_reported_apart_by_their_names(tmp_path):
    for place, name in enumerate(("scene1", "scene2")):
        for number in (0, 1):
            frame(tmp_path / f"{name}_{number}.png", 10 * place + number)
        motion(tmp_path / f"{name}_0.flo")
    assert numbers_of(open_split(config(tmp_path), "train")) == [(0, 1), (10, 11)]


@pytest.mark.parametrize("name", ["soccer", "flower", "invalidenstrasse", "Overflow", "masked"])
def test_plain_folders__words_within_words_make_no_truth_of_a_frame(tmp_path, name):
    for number in (0, 1):
        frame(tmp_path / f"{name}_{number:02d}.png", number)
    motion(tmp_path / f"{name}_00.flo")
    assert numbers_of(open_split(config(tmp_path), "train")) == [(0, 1)]


@pytest.mark.parametrize("name", ["occ_00.png", "mask_00.png", "Occlusions00.png", "valid.png"])
def test_plain_folders__masks_are_no_frames(tmp_path, name):
    for stem in ("a", "b"):
        frame(tmp_path / f"{stem}.png")
    motion(tmp_path / "truth.flo")
    frame(tmp_path / name)
    assert len(open_split(config(tmp_path), "train")) == 1


@pytest.mark.parametrize("data", ["KITTI", "scenes"])
def test_passes__of_data_that_has_none_are_refused(tmp_path, data):
    kitti(tmp_path, "image_2")
    path = tmp_path if data == "KITTI" else Path("scenes:2:0")
    with pytest.raises(UsageError, match=rf"data\.passes: has no effect on {data}"):
        open_split(config(path, **{"data.passes": ["final"]}), "train")
    assert len(open_split(config(path, **{"data.passes": ["clean", "final"]}), "train")) > 0


@pytest.mark.parametrize("name", ["flow1.flo", "flow1.pfm", "flow1.npy", "flow1.png", "flow1.flo5"])
def test_plain_folders__take_truth_of_every_form(tmp_path, name):
    if name.endswith("flo5"):
        pytest.importorskip("h5py")
    frame(tmp_path / "walk/1.png", 1)
    frame(tmp_path / "walk/2.png", 2)
    motion(tmp_path / "walk" / name, value=-2.5)
    sample = open_split(config(tmp_path), "val")[0]
    assert (sample.truth.flow == -2.5).all() and sample.truth.valid.all() and sample.truth.occlusion is None
    assert (sample.images["first"] == 1).all() and (sample.images["second"] == 2).all()


def test_one_pair__trains_and_validates_and_says_so(tmp_path):
    frame(tmp_path / "a.png")
    frame(tmp_path / "b.png")
    motion(tmp_path / "flow.flo")
    for split in ("train", "val"):
        samples = open_split(config(tmp_path), split)
        assert len(samples) == 1 and "only one sequence" in samples.notes[0]


def test_sizes_that_differ__are_named(tmp_path):
    frame(tmp_path / "a/1.png")
    frame(tmp_path / "a/2.png", size=(6, 9))
    motion(tmp_path / "a/flow1.flo")
    with pytest.raises(DataError, match=r"2.png: a second frame whose size differs from the first \(got \(6, 9\)\)"):
        open_split(config(tmp_path), "val")
    frame(tmp_path / "a/2.png")
    motion(tmp_path / "a/flow1.flo", size=(7, 8))
    with pytest.raises(DataError, match=r"flow1.flo: a flow field whose size differs from its frames \(got \(7, 8\)"):
        open_split(config(tmp_path), "val")


def test_bad_pairs__are_counted_and_named_where_that_is_requested_for(tmp_path):
    for folder in "abc":
        frame(tmp_path / f"train/{folder}/1.png")
        frame(tmp_path / f"train/{folder}/2.png")
        motion(tmp_path / f"train/{folder}/flow1.flo")
    frame(tmp_path / "train/b/2.png", size=(6, 9))
    (tmp_path / "train/c/2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="second frame"):
        open_split(config(tmp_path), "train")
    samples = open_split(config(tmp_path, **{"data.on_error": "skip"}), "train")
    assert len(samples) == 1 and len(samples.notes) == 2 and "skipped: 2.png" in samples.notes[0]


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def shrink(path: Path) -> None:
    path.unlink()
    if path.suffix == ".npy" and "mask" in path.name:
        np.save(path, np.zeros((3, 3), np.uint8))
    elif path.suffix == ".png" and "flow" not in path.parent.name:
        mask(path, np.zeros((3, 3), bool))
    else:
        motion(path, size=(3, 3))


@pytest.mark.parametrize(
    ("build", "pattern"),
    [
        (sintel, "training/flow/*/*.flo"),
        (sintel, "training/clean/*/frame_0001.png"),
        (sintel, "training/invalid/*/*.png"),
        (sintel, "training/occlusions/*/*.png"),
        (lambda root: kitti(root, "image_2"), "training/flow_occ/*.png"),
        (lambda root: kitti(root, "image_2"), "training/flow_noc/*.png"),
        (things, "optical_flow/TRAIN/A/0000/into_future/left/*0006*.pfm"),
        (tartanair, "**/*_flow.npy"),
        (tartanair, "**/*_mask.npy"),
    ],
)
@pytest.mark.parametrize("fault", [spoil, shrink])
def test_bad_truth__leaves_its_pair_out_where_that_is_requested_for(tmp_path, build, pattern, fault):
    """Files cut short and files of another size, of motion and of what goes with it."""
    build(tmp_path)
    everything = config(tmp_path, **{"data.on_error": "skip", "data.train": "."})
    whole = len(open_split(everything, "train"))
    first = min(tmp_path.glob(pattern))
    fault(first)
    with pytest.raises(DataError, match=r"frame_000[12].png" if "clean" in pattern else first.name):
        open_split(config(tmp_path, **{"data.train": "."}), "train")
    samples = open_split(everything, "train")
    passes = 2 if build is sintel and "clean" not in pattern else 1
    assert len(samples) == whole - passes and len(samples.notes) == 1
    assert all(samples[index].truth.valid.any() for index in range(len(samples)))


def test_spring__pairs_run_forwards_and_backwards(tmp_path):
    for number in (1, 2, 3):
        frame(tmp_path / f"train/0001/frame_left/frame_left_000{number}.png", number)
    for kind, numbers in (("FW", (1, 2)), ("BW", (2, 3))):
        for number in numbers:
            path = tmp_path / f"train/0001/flow_{kind}_left/flow_{kind}_left_000{number}.flo5"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    layout = detect_flow_layout(tmp_path)
    steps = [(int(pair.first.stem[-1]), int(pair.second.stem[-1])) for pair in layout.pairs(tmp_path, ())]
    assert layout.name == "Spring" and sorted(steps) == [(1, 2), (2, 1), (2, 3), (3, 2)]


def test_nothing_there__is_reported(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        open_split(config(tmp_path / "absent"), "train")
    with pytest.raises(DataError, match="no pair of frames"):
        open_split(config(tmp_path), "train")
    with pytest.raises(UsageError, match=r"data\.path"):
        open_split(FlowConfig(), "train")


def test_scenes__are_new_in_every_epoch_and_the_same_again():
    chosen = FlowConfig.resolve(None, {"data.path": "scenes:2:0", "data.size": [128, 128]})
    task, samples = Flow(chosen), Flow(chosen).open_dataset("train")
    assert isinstance(samples, SceneFlow)
    seen = [task.augment(samples, 0, np.random.default_rng(0), epoch).images["first"].tobytes() for epoch in (0, 1, 1)]
    assert seen[0] != seen[1] and seen[1] == seen[2]


def test_augmented_pair__still_fits_its_truth():
    """The second image, fetched back by the warped flow, is the first, but for what is occluded."""
    from densevision.results.flow_field import warp_back

    chosen = FlowConfig.resolve(
        None,
        {
            "data.path": "scenes:4:0",
            "data.size": [128, 160],
            "augment.rotate": 20,
            "augment.erase": 0,
            "augment.asymmetric": 0,
        },
    )
    task, samples = Flow(chosen), Flow(chosen).open_dataset("train")
    for index in range(4):
        sample = task.augment(samples, index, np.random.default_rng(index), 0)
        assert sample.size == (128, 160) == sample.truth.size
        seen = sample.truth.valid & ~sample.truth.occluded
        apart = [
            np.abs(warp_back(sample.images["second"], flow).astype(float) - sample.images["first"])[seen].mean()
            for flow in (sample.truth.flow, np.zeros_like(sample.truth.flow))
        ]
        assert apart[0] < 0.5 * apart[1] or apart[0] < 4


@pytest.mark.realdata
def test_real_data__by_config_only(real_data):
    middlebury = config(real_data / "data/flow_middlebury")
    assert [len(open_split(middlebury, split)) for split in ("train", "val")] == [4, 1]
    assert open_split(middlebury, "val")[0].truth.size == (388, 584)
    sample = open_split(config(real_data / "data/flow_kitti_sample"), "val")[0]
    assert sample.size == (375, 1242) and sample.truth.valid.mean() == pytest.approx(0.162, abs=1e-3)
