"""Curves and matrices as PNG files; matplotlib is imported when one is asked for, and its global state left alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from densevision.draw.colors import class_color, shade
from densevision.io.atomic_write import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, VAL = "#0072B2", "#D55E00"
INK, FAINT = "#333333", "#DDDDDD"
PUBLISHED = 10
"""Curves beyond this number are drawn without their names."""
WRITTEN = 30
"""The cells of a confusion matrix of up to this many classes have their numbers written in them."""


def curves(path: str | os.PathLike[str], table: Mapping[str, Sequence[float]], x: str = "epoch") -> None:
    """Plots the columns of a training log, one small panel for each quantity, train and val in the same panel.

    Args:
        path: PNG file that is written.
        table: Column name -> numbers, one per row of the log; not-a-number where a row has none. Columns whose names
            differ only in a part `train` or `val` (`train/loss` and `val/loss`, `val_loss`) share a panel.
        x: Name of the column along the horizontal axis; the number of the row when there is none.
    """
    panels: dict[str, dict[str, np.ndarray]] = {}
    for column in table:
        if column != x:
            quantity, split = _split_of(column)
            panels.setdefault(quantity, {})[split] = np.asarray(table[column], float)
    rows = max(map(len, table.values()), default=0)
    steps = np.asarray(table[x] if x in table else range(rows), float)
    columns = min(4, max(1, math.ceil(len(panels) ** 0.5)))
    height = max(1, math.ceil(len(panels) / columns))
    with _figure(path, (3.6 * columns, 2.5 * height)) as figure:
        for at, (quantity, lines) in enumerate(panels.items()):
            axes = _panel(figure, (height, columns, at + 1), quantity, x)
            for split, numbers in lines.items():
                known = np.isfinite(numbers)
                style = {"color": VAL if split == "val" else TRAIN, "marker": "." if known.sum() < 40 else ""}
                axes.plot(steps[known], numbers[known], label=split or None, linewidth=1.5, **style)
            if any(lines):
                axes.legend(frameon=False, fontsize=8)


def pr_curves(path: str | os.PathLike[str], classes: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Plots precision over recall for each class, and their mean where all have the same recalls.

    Args:
        path: PNG file that is written.
        classes: Class name -> (recall, precision), each in [0, 1]; precision that is not a number is left out.
    """
    with _figure(path, (6.4, 4.8)) as figure:
        axes = _panel(figure, (1, 1, 1), "precision over recall", "recall", "precision")
        _class_lines(axes, classes)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))


def f1_curves(path: str | os.PathLike[str], classes: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Plots F1 over the lowest score that is kept for each class, and marks the score where their mean is best.

    Args:
        path: PNG file that is written.
        classes: Class name -> (score, F1), each in [0, 1]; F1 that is not a number is left out.
    """
    with _figure(path, (6.4, 4.8)) as figure:
        axes = _panel(figure, (1, 1, 1), "F1 over the lowest score kept", "lowest score", "F1")
        mean = _class_lines(axes, classes)
        if mean is not None:
            score, best = (float(row[np.nanargmax(mean[1])]) for row in mean)
            axes.axvline(score, color=INK, linewidth=0.8, linestyle=":")
            axes.plot([score], [best], "o", color=INK, markersize=4, label=f"best mean: {best:.3f} at {score:.2f}")
            axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        axes.set(xlim=(0, 1), ylim=(0, 1.02))


def histogram(path: str | os.PathLike[str], values: Sequence[float], x: str) -> None:
    """Plots how many values lie where, with a line at their median.

    Args:
        path: PNG file that is written.
        values: Finite numbers, one at least.
        x: What they are.
    """
    numbers = np.asarray(values, np.float64)
    with _figure(path, (6.4, 2.4)) as figure:
        axes = _panel(figure, (1, 1, 1), "images", x)
        axes.hist(numbers, bins=min(40, max(5, math.isqrt(len(numbers)) * 2)), color=TRAIN, rwidth=0.92)
        middle = float(np.median(numbers))
        axes.axvline(middle, color=INK, linewidth=1, linestyle=":", label=f"median {middle:.4g}")
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=8)


def bands(
    path: str | os.PathLike[str],
    points: Sequence[tuple[float, float, float, float]],
    x: str,
    y: str,
    title: str,
    level: float | None = None,
) -> None:
    """Plots numbers with their intervals over a quantity, and a level to compare them with.

    Args:
        path: PNG file that is written.
        points: (x, number, lower end, upper end) each, drawn in the order of x.
        x: What x is.
        y: What the number is.
        title: Of the plot.
        level: A number that holds for all x.
    """
    rows = np.array(sorted(points), np.float64).reshape(-1, 4)
    with _figure(path, (4.2, 2.8)) as figure:
        axes = _panel(figure, (1, 1, 1), title, x, y)
        axes.fill_between(rows[:, 0], rows[:, 2], rows[:, 3], color=TRAIN, alpha=0.15, linewidth=0)
        axes.plot(rows[:, 0], rows[:, 1], color=TRAIN, marker="o", markersize=4, linewidth=1.5)
        if level is not None and math.isfinite(level):
            axes.axhline(level, color=INK, linewidth=1, linestyle=":", label="clean")
            axes.legend(frameon=False, fontsize=8)


def bars(path: str | os.PathLike[str], values: Mapping[str, float], x: str) -> None:
    """Plots named values as bars from top to bottom.

    Args:
        path: PNG file that is written.
        values: Name -> number; not-a-number draws no bar.
        x: What they are.
    """
    with _figure(path, (6.4, 0.8 + 0.28 * max(1, len(values)))) as figure:
        axes = _panel(figure, (1, 1, 1), "", x)
        axes.grid(False, axis="y")
        axes.barh(range(len(values)), list(values.values()), color=TRAIN, height=0.7)
        axes.set_yticks(range(len(values)), [_plain(name) for name in values], fontsize=8)
        axes.invert_yaxis()


def confusion(path: str | os.PathLike[str], matrix: np.ndarray, names: Sequence[str]) -> None:
    """Plots a confusion matrix, each row as parts of its truth; rows without truth are gray.

    Args:
        path: PNG file that is written.
        matrix: (C, C) counts; rows are truth, columns are answers. Names may include background.
        names: The C names.
    """
    from matplotlib.colors import PowerNorm

    counts = np.asarray(matrix, np.float64)
    totals = counts.sum(1, keepdims=True)
    parts = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = min(16.0, max(4.0, 1.6 + 0.42 * len(names)))
    with _figure(path, (side + 0.8, side), "compressed") as figure:
        axes = _panel(figure, (1, 1, 1), "confusion: part of each true class", "answer", "truth")
        axes.grid(False)
        axes.set_facecolor(FAINT)
        # The root of the part sets the shade, so that rare confusions are seen at all.
        image = axes.imshow(parts, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=0, colors=INK)
        letters = min(8.0, max(3.0, 250 / max(len(names), 1)))
        short = [name if len(name) <= 24 else name[:23] + "…" for name in map(_plain, names)]
        axes.set_xticks(range(len(names)), short, rotation=90, fontsize=letters)
        axes.set_yticks(range(len(names)), short, fontsize=letters)
        if len(names) <= WRITTEN:
            for row, column in np.argwhere(np.nan_to_num(parts) >= 0.005):
                part = parts[row, column]
                ink = "white" if part > 0.3 else INK
                axes.text(column, row, f"{part:.2f}", ha="center", va="center", fontsize=letters - 1, color=ink)


@contextmanager
def _figure(path: str | os.PathLike[str], inches: tuple[float, float], layout: str = "constrained") -> Iterator[Figure]:
    """A figure that is written whole, as PNG, when the block ends."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, layout=layout)
    yield figure
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png", facecolor="white")


def _panel(figure: Figure, place: tuple[int, int, int], title: str, x: str, y: str = "") -> Axes:
    axes = figure.add_subplot(*place)
    axes.set_title(_plain(title), fontsize=10, loc="left", color=INK)
    axes.set_xlabel(_plain(x), fontsize=8, color=INK)
    axes.set_ylabel(_plain(y), fontsize=8, color=INK)
    axes.tick_params(labelsize=8, length=0, colors=INK)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return axes


def _class_lines(
    axes: Axes, classes: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray] | None:
    """One line per class; the mean line, which is returned, where the classes share their horizontal numbers."""
    lines = {name: (np.asarray(x, float), np.asarray(y, float)) for name, (x, y) in classes.items()}
    lines = {name: line for name, line in lines.items() if np.isfinite(line[1]).any()}
    many = len(lines) > PUBLISHED
    for index, name in enumerate(classes):
        if name in lines:
            # The palette is made for photos; on white paper it has to be darker.
            color = np.asarray(shade(class_color(index), 2)) / 255
            style: dict[str, Any] = {"alpha": 0.45, "linewidth": 0.8} if many else {"linewidth": 1.5}
            axes.plot(*lines[name], color=color, label=None if many else _plain(name), **style)
    mean = None
    first = next(iter(lines.values()), None)
    if len(lines) > 1 and all(np.array_equal(x, first[0]) for x, _ in lines.values()):
        mean = first[0], np.ma.masked_invalid([y for _, y in lines.values()]).mean(0).filled(np.nan)
        axes.plot(*mean, color=INK, linewidth=2.5, label=f"mean of {len(lines)} classes")
    elif len(lines) == 1:
        mean = first
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return mean


def _split_of(column: str) -> tuple[str, str]:
    """A column's quantity and split: `val/loss`, `loss/val` and `val_loss` are ("loss", "val")."""
    for separator in ("/", "_"):
        parts = column.split(separator)
        for split in ("train", "val"):
            if split in parts and len(parts) > 1:
                return separator.join(part for part in parts if part != split), split
    return column, ""


def _plain(text: str) -> str:
    """Text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")
