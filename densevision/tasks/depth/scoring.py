"""Judges files of depth or disparity of any tool against files of truth. No torch here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import UsageError
from densevision.io.depth import SUFFIXES, kind_by_name, read_depth
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results.depth_map import PNG16, Camera, DepthMap
from densevision.tasks.depth.metrics import DepthMetric, Protocol

if TYPE_CHECKING:
    from densevision.tasks.depth.config import CameraConfig, DepthConfig

SUPPORTED_OPTIONS = ("evaluation", "data.scale", "camera")
"""Options of the config that bear on files."""


def score(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: DepthConfig | None = None
) -> dict[str, Any]:
    """The numbers of files against files: metrics, protocol, counts, named, tables; see `open_files`."""
    return open_files(truth, predictions, on_error, config).report()


def open_files(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: DepthConfig | None = None
) -> Scoring:
    """Pairs files of depth with files of truth.

    A file is disparity where it says so (`.npz`) or where its name, or that of a folder from the given one on, has the
    word "disp" or "disparity" in it, otherwise metric depth; the protocol says what was compared. Answers
    without a unit are aligned as their kind needs; the numbers' names then say so.

    Args:
        truth: A file, or a folder with files below it; see `io.depth.read_depth` for the formats. A 16-bit image says
            its scale by its name: `a.kitti.png` is 256 steps per unit, `a.depth.png` 1000.
        predictions: A file, or a folder with files of the same names, but for the suffixes.
        on_error: See `metrics.scoring.Scoring`.
        config: Gives the protocol; the scale of integers in files whose names say none, floats are in their unit; and
            the camera of all images, by which disparities in pixels are compared with meters.

    Raises:
        DataError: There is nothing to compare, or the first prediction cannot be read; where such are skipped, none.
        UsageError: A camera is given without its focal length and baseline, or where nothing is a disparity in pixels.
    """
    rules = {"align": "auto"} if config is None else config.evaluation.plain()
    scale = None if config is None else config.data.scale
    camera = None if config is None else _camera(config.camera)
    read_answer, read_truth = (partial(_read, root=root, scale=scale, camera=camera) for root in (predictions, truth))

    def metric(answer: Path, truth: Path) -> DepthMetric:
        first = read_answer(answer)
        if camera is not None and "px" not in (first.unit, read_truth(truth).unit):
            problem = "has no effect where neither truth nor predictions are disparities in pixels"
            raise UsageError(problem, field="camera", hint="Leave it out.")
        needed = "none" if first.unit else "median" if first.kind == "relative" else "lstsq"
        return DepthMetric(Protocol(**rules | {"align": needed if rules["align"] == "auto" else rules["align"]}))

    return score_folders(truth, predictions, SUFFIXES, (read_answer, read_truth), metric, on_error)


def _camera(stated: CameraConfig) -> Camera | None:
    """The camera that is stated, if any is."""
    if stated.focal is stated.baseline is stated.offset is None:
        return None
    if stated.focal is None or stated.baseline is None:
        problem = "disparities become meters by focal length and baseline"
        raise UsageError(problem, field="camera", value=stated.plain(), hint="Set camera.focal and camera.baseline.")
    return Camera(stated.focal, baseline=stated.baseline, offset=stated.offset or 0.0)


def _read(path: Path, root: Path, scale: float | None, camera: Camera | None) -> DepthMap:
    own = next((steps for ending, steps in PNG16.items() if path.name.lower().endswith(ending)), scale)
    found = read_depth(path, own, floats=False)
    folder = (root if root.is_dir() else root.parent).absolute()
    kind = found.kind or kind_by_name(path.absolute().relative_to(folder.parent))
    unit = found.unit if found.unit is not None else {"disparity": "px", "metric": "m"}.get(kind, "")
    known = camera if unit == "px" else None
    return DepthMap(depth=found.depth, valid=found.valid, kind=kind, unit=unit, camera=known, size=found.depth.shape)
