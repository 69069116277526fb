"""Scores depth or disparity files of any tool against ground-truth files. No torch here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from densevision.errors import UsageError
from densevision.io.depth import SUFFIXES, infer_kind, permits_8bit, read_depth
from densevision.metrics.scoring import OnError, Scoring, score_folders
from densevision.results.depth_map import PNG16, Camera, DepthMap
from densevision.tasks.depth.metrics import DepthMetric, Protocol

if TYPE_CHECKING:
    from densevision.tasks.depth.config import CameraConfig, DepthConfig

__all__ = ["open_files"]

SUPPORTED_OPTIONS = ("evaluation", "data.scale", "data.offset", "camera")
"""Options of the config that apply to files."""


def open_files(
    truth: Path, predictions: Path, on_error: OnError = "fail", config: DepthConfig | None = None
) -> Scoring:
    """Pairs prediction files with ground-truth files.

    A file is disparity if it says so (`.npz`), or if its name or that of a folder, from the given one on, has the word
    "disp" or "disparity" in it; otherwise metric depth. The protocol states what was compared. Predictions without a
    unit are aligned as their kind needs, and the metrics' names then say so.

    Args:
        truth: A file, or a folder with files below it; see `io.depth.read_depth` for the formats. 16-bit images can
            state their scale by name: `a.kitti.png` has 256 steps per unit, `a.depth.png` 1000.
        predictions: A file, or a folder with files of the same names, apart from suffixes.
        on_error: See `metrics.scoring.Scoring`.
        config: The protocol; scale and offset of files of integers whose names state none (a scale below 256 also
            permits 8-bit files; floats are in their unit); and the camera of all images, to compare disparities with
            meters.

    Raises:
        DataError: There is nothing to compare, or the first prediction cannot be read; with "skip", if none can.
        UsageError: The camera has no focal length or baseline, or nothing is a disparity in pixels.
    """
    rules = {"align": "auto"} if config is None else config.evaluation.to_dict()
    scale, offset = (None, 0.0) if config is None else (config.data.scale, config.data.offset)
    camera = None if config is None else _make_camera(config.camera)
    read_prediction, read_truth = (
        partial(_read, root=root, scale=scale, offset=offset, camera=camera) for root in (predictions, truth)
    )

    def make_metric(prediction_file: Path, truth_file: Path) -> DepthMetric:
        first = read_prediction(prediction_file)
        if camera is not None and "px" not in (first.unit, read_truth(truth_file).unit):
            problem = "has no effect if neither ground truth nor predictions are disparities in pixels"
            raise UsageError(problem, field="camera", hint="Leave it out.")
        default = "none" if first.unit else "median" if first.kind == "relative" else "lstsq"
        return DepthMetric(Protocol(**rules | {"align": default if rules["align"] == "auto" else rules["align"]}))

    return score_folders(truth, predictions, SUFFIXES, (read_prediction, read_truth), make_metric, on_error)


def _make_camera(config: CameraConfig) -> Camera | None:
    """The camera that the config states, if any."""
    if config.focal is config.baseline is config.offset is None:
        return None
    if config.focal is None or config.baseline is None:
        problem = "disparities are converted to meters by focal length and baseline"
        raise UsageError(problem, field="camera", value=config.to_dict(), hint="Set camera.focal and camera.baseline.")
    return Camera(config.focal, baseline=config.baseline, offset=config.offset or 0.0)


def _read(path: Path, root: Path, scale: float | None, offset: float, camera: Camera | None) -> DepthMap:
    steps = next((steps for ending, steps in PNG16.items() if path.name.lower().endswith(ending)), None)
    if steps is not None:
        scale, offset = steps, 0.0
    file = read_depth(path, scale, offset, scale_floats=False, allow_8bit=permits_8bit(scale))
    folder = (root if root.is_dir() else root.parent).absolute()
    named = file.kind or infer_kind(path.absolute().relative_to(folder.parent))
    kind = cast(Literal["metric", "relative", "disparity"], named)
    unit = file.unit if file.unit is not None else {"disparity": "px", "metric": "m"}.get(kind, "")
    return DepthMap(
        depth=file.depth,
        valid=file.valid,
        kind=kind,
        unit=unit,
        camera=camera if unit == "px" else None,
        size=file.depth.shape,
    )
