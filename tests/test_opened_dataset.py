"""Datasets to look at: samples by index, and a preview with labels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import densevision
from densevision.datasets.scenes import CLASSES, Scenes
from densevision.tasks import TASKS


@pytest.mark.parametrize("task", TASKS)
def test_preview__differs_from_the_images_by_the_labels(task: str) -> None:
    dataset = densevision.open_dataset(task, "scenes:6:3")
    sheet = dataset.preview(2, columns=2, width=400)
    assert sheet.shape[1:] == (400, 3) and sheet.std() > 10
    decoded = cv2.imdecode(np.frombuffer(dataset._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape[1] == 1200


def test_dataset__samples_by_index() -> None:
    dataset = densevision.open_dataset("detection", "scenes:6:3")
    assert len(dataset) == 6 and len(list(dataset)) == 6 and dataset.classes == tuple(CLASSES)
    scene = next(iter(Scenes(6, 3)))
    np.testing.assert_array_equal(dataset[0].images["image"], scene.image)
    assert dataset[-1].id == dataset[5].id
    with pytest.raises(IndexError):
        dataset[6]


def test_dataset__labels_that_were_fixed_are_noted(tmp_path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.full((40, 60, 3), 90, np.uint8))
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n0 0.9 0.5 0.5 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [cup]\n")
    with pytest.raises(densevision.DataError):
        densevision.open_dataset("detection", tmp_path)
    dataset = densevision.open_dataset("detection", tmp_path, overrides={"data.on_error": "fix"})
    assert len(dataset.notes) == 1 and len(dataset[0].truth.boxes) == 2
