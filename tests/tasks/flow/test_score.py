"""Files against the truth of Sintel and KITTI as it lies on the disk: the trees of answers, and what lies beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.io.flow import write_flow
from densevision.io.image import write_image
from densevision.metrics.scoring import MISSING_PREDICTIONS
from densevision.tasks import load_score

score = load_score("flow")

SIZE = (4, 6)
HIDDEN = np.indices(SIZE)[1] < 2
LOST = np.indices(SIZE)[0] < 1
NAMES = ("alley_1/frame_0001", "market_2/frame_0001")


def mask(path: Path, where: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, (255 * where[..., None]).astype(np.uint8))


def still(path: Path, error: float = 0.0, hidden: float = 0.0, known: np.ndarray | None = None) -> None:
    """No motion, but for an error to the right: one where all is seen, one where it is not."""
    write_flow(path, np.stack([np.where(HIDDEN, hidden, error), np.zeros(SIZE)]), known)


def sintel(root: Path) -> Path:
    for name in NAMES:
        still(root / f"training/flow/{name}.flo")
        mask(root / f"training/occlusions/{name}.png", HIDDEN)
        mask(root / f"training/invalid/{name}.png", LOST)
    return root / "training/flow"


def kitti(root: Path) -> Path:
    for number in (0, 1):
        still(root / f"training/flow_occ/00000{number}_10.png")
        still(root / f"training/flow_noc/00000{number}_10.png", known=~HIDDEN)
    return root / "training/flow_occ"


def test_sintel__both_passes_of_the_tree_prediction_the_truth(tmp_path):
    truth = sintel(tmp_path / "sintel")
    for rendering, error in (("clean", 1), ("final", 3)):
        for name in NAMES:
            still(tmp_path / f"sub/{rendering}/{name}.flo", error, 4 * error)
    report = score(truth, tmp_path / "sub")
    assert report["counts"]["images"] == 4 and report["counts"]["pixels"] == 4 * (~LOST).sum()
    assert report["metrics"]["EPE_noc"] == 2 and report["metrics"]["EPE_occ"] == 8
    assert set(report["tables"]["worst images"]) == {f"{part}/{name}" for part in ("clean", "final") for name in NAMES}
    (tmp_path / "sub/final/alley_1/frame_0001.flo").unlink()
    assert score(truth, tmp_path / "sub")["named"] == {MISSING_PREDICTIONS: ["final/alley_1/frame_0001"]}
    assert score(truth, tmp_path / "sub/clean")["metrics"]["EPE_noc"] == 1


def test_kitti__the_tree_predictions_the_truth_and_what_is_hidden_is_known(tmp_path):
    truth = kitti(tmp_path / "kitti")
    for number in (0, 1):
        still(tmp_path / f"sub/flow/00000{number}_10.png", 1, 4)
    for predictions in (tmp_path / "sub", tmp_path / "sub/flow"):
        report = score(truth, predictions)
        assert report["counts"]["images"] == 2
        assert report["metrics"]["EPE_noc"] == 1 and report["metrics"]["EPE_occ"] == 4


def test_occlusion__is_evaluated_where_it_lies_beside_the_predictions_too(tmp_path):
    truth = sintel(tmp_path / "sintel")
    for name in NAMES:
        still(tmp_path / f"sub/flow/{name}.flo")
        mask(tmp_path / f"sub/occlusions/{name}.png", np.indices(SIZE)[1] < 1)
    # Per row, one of two hidden pixels is found, and none is claimed in vain.
    assert score(truth, tmp_path / "sub")["metrics"]["F1_occ"] == pytest.approx(2 / 3)


def test_files_only__say_nothing_of_what_is_hidden(tmp_path):
    for folder in ("truth", "sub"):
        still(tmp_path / folder / "a.flo")
    numbers = score(tmp_path / "truth", tmp_path / "sub")["metrics"]
    assert numbers["EPE"] == 0 and all(np.isnan(numbers[name]) for name in ("EPE_occ", "EPE_noc", "F1_occ"))
