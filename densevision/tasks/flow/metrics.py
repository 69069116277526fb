"""A flow's numbers: end-point error and angular error, outliers, by speed and by visibility; and occlusion.

Errors are counted over all pixels whose truth is valid. Sums are kept per image and added up exactly, so that neither
the order of the images nor that of the processes changes a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from densevision.errors import DataError
from densevision.metrics.per_image import Columns, Sums, blank_mean, means, ratio, split_mean
from densevision.results import FlowField

OUTLIER, SHARE = 3.0, 0.05
"""KITTI counts a pixel as wrong whose error is more than 3 pixels and more than 5 % of the motion."""
SPEEDS = {"s0-10": (0.0, 10.0), "s10-40": (10.0, 40.0), "s40+": (40.0, math.inf)}
"""Ranges of the true speed in pixels per frame, the upper end excluded (Sintel's)."""
SIGHTS = ("EPE_noc", "EPE_occ")
"""What both images show, and what the second does not."""
SUMS = (
    *("pixels", "open", "error", "angle", "Fl", "1px", "3px", "5px", "told", "hits", "claims", "hidden"),
    *(f"{prefix}{part}" for part in (*SPEEDS, *SIGHTS) for prefix in ("", "Fl ", "pixels ")),
)
"""What is summed over the pixels of each pair."""
LIMITS = np.array([0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50])
"""Errors, in pixels, beyond which the plot counts."""
CHUNK = 1 << 14
"""Pixels whose angles are computed at once: as many as fit into a core's own memory."""
WORST = 20
"""Images in the table."""


class FlowMetric:
    """Mergeable sums over the valid pixels."""

    protocol: ClassVar[dict[str, Any]] = {
        "average": "over all valid pixels of all images; EPE_images over the images' means",
        "1px 3px 5px": "share of pixels with an end-point error above",
        "Fl": "share of pixels with an end-point error above 3 px and above 5 % of the true motion",
        "AAE": "mean angle in degrees between (u, v, 1) and its truth",
        "speeds": "true motion in pixels: s0-10, s10-40, s40+",
        "F1_occ": "of occluded pixels, probability at least 0.5",
    }

    def __init__(self) -> None:
        self.images: dict[str, dict[str, float]] = {}
        self.beyond = np.zeros(len(LIMITS), np.int64)

    def update(self, result: FlowField, truth: FlowField, id: int | str) -> None:
        """Takes the answer and the truth of one pair.

        Raises:
            DataError: They are of different sizes.
        """
        if result.flow.shape != truth.flow.shape:
            problem = f"the flow is not of the truth's size, {truth.size}"
            raise DataError(problem, file=str(id), value=result.size, hint="Answer in the size of the image.")
        known = np.flatnonzero(truth.valid)
        flow, wanted = (one.flow.reshape(2, -1).take(known, 1).astype(np.float64) for one in (result, truth))
        error, speed = end_point_error(flow, wanted), length_of(wanted)
        outliers = (error > OUTLIER) & (error > SHARE * speed)
        self.images[str(id)] = {
            "open": float((truth.valid & ~result.valid).sum()),
            "angle": float(angular_error(flow, wanted).sum()),
            **_flow_sums(error, speed, outliers),
            **_visibility_sums(error, outliers, truth),
            **_occlusion_sums(result, truth),
        }
        self.beyond += np.array([np.count_nonzero(error > limit) for limit in LIMITS])

    def merge(self, other: FlowMetric) -> None:
        """Takes what another process gathered."""
        self.images.update(other.images)
        self.beyond = self.beyond + other.beyond

    def counts(self) -> dict[str, int]:
        """Pixels with truth, those of them that the answers left open, and those whose occlusion is known."""
        names = {"pixels": "pixels", "pixels left open": "open", "pixels of known occlusion": "told"}
        return {name: int(self._total(key)) for name, key in names.items()}

    def compute(self) -> dict[str, float]:
        """EPE EPE_images 1px 3px 5px Fl AAE, EPE by speed and visibility, F1_occ; NaN where no pixel is of the kind.

        Pixels that an answer leaves open are judged as standing still.
        """
        return self.per_image().compute()

    def per_image(self) -> Sums:
        """The sums of each pair, from which the numbers of any choice of pairs follow."""
        rows = {id: {**sums, **split_mean(_of_image(sums))} for id, sums in self.images.items()}
        return Sums(rows, {**dict.fromkeys(SUMS, 0.0), **blank_mean(["EPE_images"])}, _numbers)

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """The errors by speed and by visibility, and the pairs with the largest."""
        tables = {"by speed [px]": self._rows(SPEEDS), "by visibility": self._rows(SIGHTS)}
        rows = {id: _image(sums) for id, sums in sorted(self.images.items()) if sums["pixels"]}
        worst = sorted(rows, key=lambda id: -rows[id]["EPE"])[:WORST]
        return {
            **{title: table for title, table in tables.items() if table},
            "worst images": {id: rows[id] for id in worst},
        }

    def _rows(self, parts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """The numbers of parts of the pixels, those parts left out that have none."""
        rows = {}
        for part in parts:
            error, outliers, pixels = (self._total(f"{name}{part}") for name in ("", "Fl ", "pixels "))
            if pixels:
                rows[part.removeprefix("EPE_")] = {"EPE": error / pixels, "Fl": outliers / pixels, "pixels": pixels}
        return rows

    def plots(self, folder: Path) -> None:
        """The share of pixels whose error is above a limit, over the limit."""
        from densevision.draw.plots import curves

        pixels = max(1.0, self._total("pixels"))
        table = {"error above [px]": LIMITS.tolist(), "share of pixels": (self.beyond / pixels).tolist()}
        curves(folder / "errors.png", table, x="error above [px]")

    def _total(self, name: str) -> float:
        return math.fsum(sums.get(name, 0.0) for sums in self.images.values())


def length_of(vectors: np.ndarray) -> np.ndarray:
    """Lengths of vectors (2, ...): (...) float64."""
    across, down = (axis.astype(np.float64, copy=False) for axis in vectors)
    return np.sqrt(across * across + down * down)


def end_point_error(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Length of the difference of two flows (2, ...): (...) float64 pixels.

    Source: Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 2011, section 4.1.
    """
    return length_of(np.subtract(flow, truth, dtype=np.float64))


def angular_error(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Angle between (u, v, 1) and its truth, for flows (2, N): (N,) float64 degrees.

    Source: Barron, Fleet and Beauchemin, Performance of Optical Flow Techniques, IJCV 1994, section 3.3. By the cross
    product, which is exact for small angles where the arc cosine is not.
    """
    found = np.empty(flow.shape[1])
    for start in range(0, len(found), CHUNK):
        part = slice(start, start + CHUNK)
        (u, v), (s, t) = (motion[:, part].astype(np.float64, copy=False) for motion in (flow, truth))
        turn, right, down = u * t - v * s, u - s, v - t
        sine, cosine = np.sqrt(right * right + down * down + turn * turn), u * s + v * t + 1
        with np.errstate(divide="ignore"):
            angle = np.arctan(sine / cosine)  # several times faster than with two arguments
        found[part] = np.where(cosine < 0, angle + math.pi, angle)
    return np.degrees(found)


def _flow_sums(error: np.ndarray, speed: np.ndarray, outliers: np.ndarray) -> dict[str, float]:
    sums = {"pixels": float(error.size), "error": float(error.sum()), "Fl": float(np.count_nonzero(outliers))}
    sums |= {f"{limit}px": float(np.count_nonzero(error > limit)) for limit in (1, 3, 5)}
    within = [(speed >= low) & (speed < high) for low, high in SPEEDS.values()]
    return sums | _parts(SPEEDS, within, error, outliers)


def _visibility_sums(error: np.ndarray, outliers: np.ndarray, truth: FlowField) -> dict[str, float]:
    if truth.hidden is None:
        return {}
    hidden = truth.hidden[truth.valid]
    return _parts(SIGHTS, [~hidden, hidden], error, outliers)


def _parts(
    names: Iterable[str], within: Iterable[np.ndarray], error: np.ndarray, outliers: np.ndarray
) -> dict[str, float]:
    """Sums by part: errors under the part's name, outliers and pixels; (N,) each, `within` bool for each name."""
    sums = {}
    for name, part in zip(names, within):
        sums[name] = float(error.sum(where=part))
        sums[f"Fl {name}"] = float(np.count_nonzero(outliers & part))
        sums[f"pixels {name}"] = float(np.count_nonzero(part))
    return sums


def _occlusion_sums(result: FlowField, truth: FlowField) -> dict[str, float]:
    if truth.hidden is None or result.hidden is None:
        return dict.fromkeys(("told", "hits", "claims", "hidden"), 0.0)
    claimed, hidden = result.hidden & truth.valid, truth.hidden & truth.valid
    counts = {"told": truth.valid, "hits": claimed & hidden, "claims": claimed, "hidden": hidden}
    return {name: float(mask.sum()) for name, mask in counts.items()}


def _image(sums: dict[str, float]) -> dict[str, float]:
    return {"EPE": sums["error"] / sums["pixels"], "Fl": sums["Fl"] / sums["pixels"], "pixels": sums["pixels"]}


def _of_image(sums: dict[str, float]) -> dict[str, float]:
    return {"EPE_images": sums["error"] / sums["pixels"] if sums["pixels"] else math.nan}


def _numbers(sums: Columns) -> Columns:
    pixels = sums["pixels"]
    numbers = {"EPE": ratio(sums["error"], pixels), **means(sums, ["EPE_images"])}
    numbers |= {name: ratio(sums[name], pixels) for name in ("1px", "3px", "5px", "Fl")}
    numbers["AAE"] = ratio(sums["angle"], pixels)
    numbers |= {name: ratio(sums[name], sums[f"pixels {name}"]) for name in (*SPEEDS, "EPE_occ", "EPE_noc")}
    return {**numbers, "F1_occ": ratio(2 * sums["hits"], sums["claims"] + sums["hidden"])}
