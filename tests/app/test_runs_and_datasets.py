"""Run folders and datasets of the page, without gradio and without a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import densevision
from densevision.app import AppOptions
from densevision.app.datasets import PAGE_SIZE, SCENES, DatasetShelf, draw_page, list_findings, make_prediction
from densevision.app.runs import list_images, open_run, rank_images
from densevision.errors import DataError, UsageError
from densevision.io.image import write_image

GUARDED = AppOptions(token="t" * 16)


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images with one box each; one box has no width, and one image no label."""
    folder = tmp_path_factory.mktemp("data")
    for number in range(30):
        image = np.full((40, 60, 3), number, np.uint8)
        write_image(folder / f"images/train/{number:02}.png", image)
        (folder / "labels/train").mkdir(parents=True, exist_ok=True)
        width = 0 if number == 7 else 0.5
        if number != 9:
            (folder / f"labels/train/{number:02}.txt").write_text(f"0 0.5 0.5 {width} 0.5\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [cup]\n")
    return folder


def test_run__log_and_images(run: Path) -> None:
    opened = open_run(run)
    assert opened.summary["finished_epochs"] == 2 and opened.summary["task"] == "superres"
    assert [row[opened.columns.index("epoch")] for row in opened.rows] == ["2", "1"]
    captions = [caption for _, caption in list_images(run)]
    assert captions[:2] == ["Curves", "Training batch 1"] and len(set(captions)) == len(captions)
    assert all(image.ndim == 3 and image.shape[2] == 3 for image, _ in list_images(run))
    with pytest.raises(DataError):
        open_run(run / "plots")


def test_run__worst_images_are_worse_than_the_best(run: Path) -> None:
    steps: list[float] = []
    metric, worst, best = rank_images(run, 6, lambda part, _: steps.append(part))
    report = densevision.evaluate("superres", "scenes:8:1", run, quiet=True)
    assert metric in report.metrics and len(worst) == len(best) == 3 and steps == sorted(steps) and len(steps) == 6
    values = [float(caption.split()[-1]) for _, caption in [*worst, *best[::-1]]]
    assert values == sorted(values)  # a higher PSNR is better
    names = {caption.split(":")[0] for _, caption in [*worst, *best]}
    assert len(names) == 6 and all(image.std() > 5 for image, _ in [*worst, *best])


def test_dataset__pages(yolo: Path) -> None:
    shelf = DatasetShelf([yolo], GUARDED)
    dataset = shelf.open("detection", str(yolo), "train")
    first, second = draw_page(dataset, 1), draw_page(dataset, 2)
    assert (len(first), len(second)) == (PAGE_SIZE, len(dataset) - PAGE_SIZE)
    captions = [caption for _, caption in first + second]
    assert len(set(captions)) == len(dataset)
    assert shelf.open("detection", str(yolo), "train") is dataset
    prediction = make_prediction(dataset[0])
    assert (prediction is not None and prediction.result is dataset[0].truth) or len(prediction.result) == 1


def test_dataset__findings(yolo: Path) -> None:
    shelf = DatasetShelf([yolo], GUARDED)
    report = shelf.check("detection", str(yolo))
    rows = list_findings(report)
    assert [row[1] for row in rows] == [finding.check.name for finding in report.findings]
    assert any("07.txt" in row[4] for row in rows)


def test_dataset__only_those_that_are_offered(yolo: Path) -> None:
    guarded = DatasetShelf([], GUARDED)
    assert guarded.names == [SCENES]
    with pytest.raises(UsageError, match="does not offer"):
        guarded.open("detection", str(yolo), "train")
    with pytest.raises(UsageError, match="does not offer"):
        guarded.check("detection", str(yolo))
    assert len(DatasetShelf([], AppOptions()).open("detection", str(yolo), "train")) > 25
