"""Plots as PNG files. matplotlib is imported on demand, and its global state is not changed."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from densevision.draw.colors import get_class_color, vary_shade
from densevision.draw.text import find_fonts
from densevision.io.atomic_write import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_bars",
    "plot_confusion_matrix",
    "plot_f1_curves",
    "plot_histogram",
    "plot_intervals",
    "plot_pr_curves",
    "plot_training_curves",
]

TRAIN_COLOR, VAL_COLOR = "#0072B2", "#D55E00"
TEXT_COLOR, GRID_COLOR = "#333333", "#DDDDDD"
MAX_LEGEND_ENTRIES = 10
"""Number of curves up to which they are named in a legend."""
MAX_ANNOTATED_CLASSES = 30
"""Number of classes up to which the cells of a confusion matrix show their values."""
MAX_NAME_LENGTH = 24
"""Length in characters to which class names are shortened along the axes of a confusion matrix."""

Curve = tuple[np.ndarray, np.ndarray]
"""Horizontal and vertical coordinates."""


def plot_training_curves(path: str | os.PathLike[str], table: Mapping[str, Sequence[float]], x: str = "epoch") -> None:
    """Plots the columns of a training log, one small panel per quantity, with train and val in the same panel.

    Args:
        path: PNG file to write.
        table: Column name -> numbers, one per row of the log; NaN where a row has none. Columns whose names differ only
            in a part `train` or `val` (`train/loss` and `val/loss`, `val_loss`) share a panel.
        x: Name of the column on the horizontal axis; the row number if there is no such column.
    """
    panels: dict[str, dict[str, np.ndarray]] = {}
    for column in table:
        if column != x:
            quantity, split = _parse_column(column)
            panels.setdefault(quantity, {})[split] = np.asarray(table[column], float)
    rows = max(map(len, table.values()), default=0)
    steps = np.asarray(table[x] if x in table else range(rows), float)
    columns = min(4, max(1, math.ceil(len(panels) ** 0.5)))
    height = max(1, math.ceil(len(panels) / columns))
    # Margins of a fixed size: matplotlib's layout takes longer than the drawing, and every run draws its curves.
    with _open_figure(path, (3.6 * columns, 2.5 * height), panels, layout=None) as figure:
        figure.subplots_adjust(
            left=0.6 / (3.6 * columns),
            right=1 - 0.15 / (3.6 * columns),
            bottom=0.45 / (2.5 * height),
            top=1 - 0.45 / (2.5 * height),
            wspace=0.6 / 2.85,
            hspace=0.9 / 1.6,
        )
        for index, (quantity, curves) in enumerate(panels.items()):
            axes = _add_panel(figure, (height, columns, index + 1), quantity, x)
            for split, values in curves.items():
                is_known = np.isfinite(values)
                color, marker = VAL_COLOR if split == "val" else TRAIN_COLOR, "." if is_known.sum() < 40 else ""
                label = split or None
                axes.plot(steps[is_known], values[is_known], color=color, marker=marker, label=label, linewidth=1.5)
            if any(curves):
                axes.legend(frameon=False, fontsize=8)


def plot_pr_curves(path: str | os.PathLike[str], classes: Mapping[str, Curve]) -> None:
    """Plots precision over recall for each class, and their mean where all classes have the same recall values.

    Args:
        path: PNG file to write.
        classes: Class name -> (recall, precision), each in [0, 1]; NaN precision is skipped.
    """
    with _open_figure(path, (6.4, 4.8), classes) as figure:
        axes = _add_panel(figure, (1, 1, 1), "precision over recall", "recall", "precision")
        _plot_class_curves(axes, classes)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))


def plot_f1_curves(path: str | os.PathLike[str], classes: Mapping[str, Curve]) -> None:
    """Plots F1 over the score threshold for each class, and marks the threshold with the best mean.

    Args:
        path: PNG file to write.
        classes: Class name -> (score threshold, F1), each in [0, 1]; NaN F1 is skipped.
    """
    with _open_figure(path, (6.4, 4.8), classes) as figure:
        axes = _add_panel(figure, (1, 1, 1), "F1 over score threshold", "score threshold", "F1")
        mean = _plot_class_curves(axes, classes)
        if mean is not None:
            threshold, best = (float(values[np.nanargmax(mean[1])]) for values in mean)
            axes.axvline(threshold, color=TEXT_COLOR, linewidth=0.8, linestyle=":")
            label = f"best mean: {best:.3f} at {threshold:.2f}"
            axes.plot([threshold], [best], "o", color=TEXT_COLOR, markersize=4, label=label)
            _add_side_legend(axes, classes)
        axes.set(xlim=(0, 1), ylim=(0, 1.02))


def plot_histogram(path: str | os.PathLike[str], values: Sequence[float], x: str) -> None:
    """Plots a histogram of values, with a line at their median.

    Args:
        path: PNG file to write.
        values: Finite numbers, at least one.
        x: Name of the quantity.
    """
    from matplotlib.ticker import MaxNLocator

    numbers = np.asarray(values, np.float64)
    with _open_figure(path, (6.4, 2.4)) as figure:
        axes = _add_panel(figure, (1, 1, 1), "images", x)
        axes.hist(numbers, bins=min(40, max(5, math.isqrt(len(numbers)) * 2)), color=TRAIN_COLOR, rwidth=0.92)
        median = float(np.median(numbers))
        axes.axvline(median, color=TEXT_COLOR, linewidth=1, linestyle=":", label=f"median {median:.4g}")
        axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
        axes.legend(frameon=False, fontsize=8)


def plot_intervals(
    path: str | os.PathLike[str],
    points: Sequence[tuple[float, float, float, float]],
    x: str,
    y: str,
    title: str,
    level: float | None = None,
) -> None:
    """Plots values with their confidence intervals over a quantity, and a reference level.

    Args:
        path: PNG file to write.
        points: (x, value, lower end, upper end) each, plotted in the order of x.
        x: Name of the quantity.
        y: Name of the value.
        title: Title of the plot.
        level: Reference value.
    """
    rows = np.array(sorted(points), np.float64).reshape(-1, 4)
    with _open_figure(path, (4.2, 2.8)) as figure:
        axes = _add_panel(figure, (1, 1, 1), title, x, y)
        axes.fill_between(rows[:, 0], rows[:, 2], rows[:, 3], color=TRAIN_COLOR, alpha=0.15, linewidth=0)
        axes.plot(rows[:, 0], rows[:, 1], color=TRAIN_COLOR, marker="o", markersize=4, linewidth=1.5)
        if level is not None and math.isfinite(level):
            axes.axhline(level, color=TEXT_COLOR, linewidth=1, linestyle=":", label="clean")
            axes.legend(frameon=False, fontsize=8)


def plot_bars(path: str | os.PathLike[str], values: Mapping[str, float], x: str) -> None:
    """Plots named values as horizontal bars.

    Args:
        path: PNG file to write.
        values: Name -> value, from top to bottom; NaN draws no bar.
        x: Name of the quantity.
    """
    with _open_figure(path, (6.4, 0.8 + 0.28 * max(1, len(values))), values) as figure:
        axes = _add_panel(figure, (1, 1, 1), "", x)
        axes.grid(False, axis="y")
        axes.barh(range(len(values)), list(values.values()), color=TRAIN_COLOR, height=0.7)
        axes.set_yticks(range(len(values)), [_escape_math(name) for name in values], fontsize=8)
        axes.invert_yaxis()


def plot_confusion_matrix(path: str | os.PathLike[str], matrix: np.ndarray, names: Sequence[str]) -> None:
    """Plots a confusion matrix with rows normalized to fractions of the ground truth; rows without any are gray.

    Args:
        path: PNG file to write.
        matrix: (C, C) counts; rows are ground truth, columns are predictions.
        names: The C class names, which may include the background.
    """
    from matplotlib.colors import PowerNorm

    counts = np.asarray(matrix, np.float64)
    totals = counts.sum(1, keepdims=True)
    fractions = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = min(16.0, max(4.0, 1.6 + 0.42 * len(names)))
    with _open_figure(path, (side + 0.8, side), names, "compressed") as figure:
        axes = _add_panel(figure, (1, 1, 1), "confusion: fraction of each true class", "prediction", "ground truth")
        axes.grid(False)
        axes.set_facecolor(GRID_COLOR)
        # Shades follow the square root of the fraction, so that rare confusions are visible.
        image = axes.imshow(fractions, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
        bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=0, colors=TEXT_COLOR)
        font_size = min(8.0, max(3.0, 250 / max(len(names), 1)))
        ticks = [_escape_math(_shorten_name(name)) for name in names]
        axes.set_xticks(range(len(names)), ticks, rotation=90, fontsize=font_size)
        axes.set_yticks(range(len(names)), ticks, fontsize=font_size)
        if len(names) <= MAX_ANNOTATED_CLASSES:
            for row, column in np.argwhere(np.nan_to_num(fractions) >= 0.005):
                value = fractions[row, column]
                color = "white" if value > 0.3 else TEXT_COLOR
                text = f"{value:.2f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=font_size - 1, color=color)


@contextmanager
def _open_figure(
    path: str | os.PathLike[str],
    inches: tuple[float, float],
    names: Iterable[str] = (),
    layout: Literal["constrained", "compressed"] | None = "constrained",
) -> Iterator[Figure]:
    """Yields a figure that is written as PNG, atomically, when the block succeeds; with fonts for the names in it."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.family": _register_fonts(names)}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # `find_fonts` has named the characters
        figure = Figure(figsize=inches, dpi=120, facecolor="white", layout=layout)
        yield figure
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # `savefig` would draw twice
        with atomic_write(path) as temporary:
            Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(temporary, "PNG")


def _register_fonts(names: Iterable[str]) -> list[str]:
    """Families of the fonts that have the characters of the names, the default font first."""
    from matplotlib.font_manager import fontManager, get_font

    families = ["DejaVu Sans"]
    for file in find_fonts(names)[1:]:
        family = get_font(file).family_name
        if family not in {font.name for font in fontManager.ttflist}:
            fontManager.addfont(file)
        families.append(family)
    return families


def _add_panel(figure: Figure, position: tuple[int, int, int], title: str, x: str, y: str = "") -> Axes:
    axes = figure.add_subplot(*position)
    axes.set_title(_escape_math(title), fontsize=10, loc="left", color=TEXT_COLOR)
    axes.set_xlabel(_escape_math(x), fontsize=8, color=TEXT_COLOR)
    axes.set_ylabel(_escape_math(y), fontsize=8, color=TEXT_COLOR)
    axes.tick_params(labelsize=8, length=0, colors=TEXT_COLOR)
    axes.grid(color=GRID_COLOR, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return axes


def _plot_class_curves(axes: Axes, classes: Mapping[str, Curve]) -> Curve | None:
    """Plots one curve per class, and their mean, which is returned, where they share the horizontal coordinates."""
    arrays = {name: (np.asarray(x, float), np.asarray(y, float)) for name, (x, y) in classes.items()}
    curves = {name: curve for name, curve in arrays.items() if np.isfinite(curve[1]).any()}
    is_crowded = len(curves) > MAX_LEGEND_ENTRIES
    for index, name in enumerate(classes):
        if name in curves:
            # The palette is made for photos; on a white background it has to be darker.
            color = np.asarray(vary_shade(get_class_color(index), 2)) / 255
            style: dict[str, Any] = {"alpha": 0.45, "linewidth": 0.8} if is_crowded else {"linewidth": 1.5}
            axes.plot(*curves[name], color=color, label=None if is_crowded else _get_label(index), **style)
    mean = None
    all_curves = list(curves.values())
    if len(all_curves) > 1 and all(np.array_equal(x, all_curves[0][0]) for x, _ in all_curves):
        mean_y = np.ma.masked_invalid([y for _, y in all_curves]).mean(0).filled(np.nan)
        mean = all_curves[0][0], mean_y
        axes.plot(*mean, color=TEXT_COLOR, linewidth=2.5, label=f"mean of {len(all_curves)} classes")
    elif len(all_curves) == 1:
        mean = all_curves[0]
    _add_side_legend(axes, classes)
    return mean


def _get_label(index: int) -> str:
    """Label of a curve until the legend shows its name: matplotlib omits names that begin with an underscore."""
    return f"class {index}"


def _add_side_legend(axes: Axes, classes: Iterable[str]) -> None:
    """Adds a legend at the right of the plot, if there is anything to name."""
    if not axes.get_legend_handles_labels()[1]:
        return
    names = {_get_label(index): _escape_math(name) for index, name in enumerate(classes)}
    legend = axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    for text in legend.get_texts():
        text.set_text(names.get(text.get_text(), text.get_text()))


def _parse_column(column: str) -> tuple[str, str]:
    """Quantity and split of a column: `val/loss`, `loss/val` and `val_loss` are ("loss", "val")."""
    for separator in ("/", "_"):
        parts = column.split(separator)
        for split in ("train", "val"):
            if split in parts and len(parts) > 1:
                return separator.join(part for part in parts if part != split), split
    return column, ""


def _shorten_name(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else name[: MAX_NAME_LENGTH - 1] + "…"


def _escape_math(text: str) -> str:
    """Escapes dollar signs, which begin formulas in matplotlib."""
    return text.replace("$", r"\$")
