"""Plots: valid PNG files with content, for any table, without changes to global state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from densevision.draw import text
from densevision.draw.plots import (
    _parse_column,
    plot_bars,
    plot_confusion_matrix,
    plot_f1_curves,
    plot_pr_curves,
    plot_training_curves,
)

X = np.linspace(0, 1, 101)


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        image.load()
        return np.asarray(image.convert("RGB"))


def _measure_ink(path: Path) -> float:
    return float((_read(path) != 255).any(2).mean())


@pytest.mark.parametrize(
    ("column", "quantity", "split"),
    [
        ("val/loss", "loss", "val"),
        ("loss/train", "loss", "train"),
        ("train_loss", "loss", "train"),
        ("train/box/left", "box/left", "train"),
        ("validation", "validation", ""),
        ("train", "train", ""),
        ("AP50", "AP50", ""),
    ],
)
def test_parse_column__quantity_and_split(column, quantity, split):
    assert _parse_column(column) == (quantity, split)


def test_plot_training_curves__train_and_val_share_a_panel(tmp_path):
    single = {"epoch": [0, 1, 2], "train/loss": [3.0, 2, 1], "val/loss": [3.0, 2.5, 2]}
    plot_training_curves(tmp_path / "single.png", single)
    plot_training_curves(tmp_path / "two.png", single | {"AP": [np.nan, 0.2, 0.4]})
    assert _read(tmp_path / "two.png").shape[1] > 1.5 * _read(tmp_path / "single.png").shape[1]
    pixels = {tuple(pixel) for pixel in _read(tmp_path / "single.png").reshape(-1, 3).tolist()}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= pixels


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"epoch": [0], "loss": [1.0]},
        {"epoch": [0, 1], "loss": [np.nan, np.nan]},
        {"loss": [1.0, np.inf, 2.0]},
        {"epoch": [], "loss": []},
    ],
)
def test_plot_training_curves__unusual_tables(tmp_path, table):
    plot_training_curves(tmp_path / "deep" / "curves.png", table)
    assert _read(tmp_path / "deep" / "curves.png").size


@pytest.mark.parametrize("plot", [plot_pr_curves, plot_f1_curves])
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_plot_class_curves__any_number_of_classes(tmp_path, plot, count):
    plot(tmp_path / "plot.png", {f"class {index} $x_{index}": (X, X ** (index + 1)) for index in range(count)})
    assert _measure_ink(tmp_path / "plot.png") > 0.01


def test_plot_pr_curves__class_without_values_and_different_lengths(tmp_path):
    plot_pr_curves(tmp_path / "plot.png", {"none": (X, np.full(101, np.nan)), "a": (X, 1 - X), "b": (X[:7], X[:7])})
    assert _measure_ink(tmp_path / "plot.png") > 0.01


def test_plot_f1_curves__thresholds_without_predictions(tmp_path):
    unreached = np.where(X < 0.5, X, np.nan)
    plot_f1_curves(tmp_path / "plot.png", {"a": (X, unreached), "b": (X, unreached / 2)})
    assert _measure_ink(tmp_path / "plot.png") > 0.01


def test_plot_confusion_matrix__rows_are_normalized(tmp_path):
    plot_confusion_matrix(tmp_path / "right.png", np.diag([5, 90]), ["few", "many"])
    plot_confusion_matrix(tmp_path / "wrong.png", np.diag([5, 90])[::-1], ["few", "many"])
    right, wrong = _read(tmp_path / "right.png").astype(int), _read(tmp_path / "wrong.png").astype(int)
    dark = right.sum(2) < 200
    height, width = dark.shape
    assert dark[: height // 3, : width // 2].sum() > 1000, "the first class is dark at the top left"
    assert np.abs(right - wrong).max() > 200


@pytest.mark.parametrize("count", [1, 31, 60])
def test_plot_confusion_matrix__any_number_of_classes(tmp_path, count):
    matrix = np.random.default_rng(0).integers(0, 9, (count, count))
    matrix[0] = 0
    plot_confusion_matrix(tmp_path / "plot.png", matrix, [f"a name of some length {index} $" for index in range(count)])
    assert _measure_ink(tmp_path / "plot.png") > 0.01


def _read_legend(monkeypatch, plot, path, classes) -> list[str]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    texts = []
    draw = FigureCanvasAgg.draw

    def draw_and_read(canvas):
        draw(canvas)
        texts.extend(text.get_text() for text in canvas.figure.axes[0].get_legend().get_texts())

    monkeypatch.setattr(FigureCanvasAgg, "draw", draw_and_read)
    plot(path, classes)
    return texts


@pytest.mark.parametrize("plot", [plot_pr_curves, plot_f1_curves])
def test_plot_class_curves__legend_shows_names_with_underscore(plot, tmp_path, monkeypatch):
    names = ["_background_", "class 0", "$5", "人"]
    legend = _read_legend(monkeypatch, plot, tmp_path / "plot.png", dict.fromkeys(names, (X, X)))
    assert legend[:4] == ["_background_", "class 0", r"\$5", "人"]


def _has_solid_block(path: Path) -> bool:
    """Whether there is a dark square of 6 x 6 pixels, as in the glyph of the test font, but in no other character."""
    is_dark = (_read(path).max(2) < 0x40).astype(np.uint8)
    return bool(cv2.erode(is_dark, np.ones((6, 6), np.uint8)).any())


@pytest.mark.usefixtures("clear_font_caches")
@pytest.mark.parametrize("plot", [plot_bars, plot_pr_curves, plot_confusion_matrix])
def test_plots__font_with_the_missing_characters_is_used(plot, tmp_path, monkeypatch, caplog, make_font):
    draw = {
        plot_bars: lambda path: plot_bars(path, {"人人": 1.0}, "x"),
        plot_pr_curves: lambda path: plot_pr_curves(path, {"人人": (X, X)}),
        plot_confusion_matrix: lambda path: plot_confusion_matrix(path, np.eye(1), ["人人"]),
    }[plot]
    monkeypatch.setattr(text, "FALLBACK_FONTS", ())
    draw(tmp_path / "missing.png")
    assert "人" in caplog.text
    caplog.clear()
    monkeypatch.setattr(text, "FALLBACK_FONTS", (make_font(tmp_path / "block.ttf", "人"),))
    text._select_font.cache_clear()
    draw(tmp_path / "plot.png")
    assert not caplog.text
    assert _has_solid_block(tmp_path / "plot.png") and not _has_solid_block(tmp_path / "missing.png")


def test_plots__failures_leave_no_file(tmp_path):
    with pytest.raises(ValueError):
        plot_pr_curves(tmp_path / "plot.png", {"a": (X, X[:5])})
    assert not list(tmp_path.iterdir())


def test_plots__pyplot_and_settings_are_unchanged(tmp_path):
    code = (
        "import sys, matplotlib\n"
        # Reading the backend would import pyplot.
        "settings = lambda: {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != 'backend'}\n"
        "before = settings()\n"
        "from densevision.draw.plots import plot_training_curves\n"
        f"plot_training_curves({str(tmp_path / 'plot.png')!r}, {{'loss': [1.0, 2.0]}})\n"
        "assert 'matplotlib.pyplot' not in sys.modules and settings() == before"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
