"""Results as files, in every format that they can be saved in."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from densevision.app.predictions import Prediction, filter_objects
from densevision.errors import UsageError, did_you_mean
from densevision.io.atomic_write import atomic_write
from densevision.results import DepthMap, FlowField, JointResult, Result
from densevision.results.depth_map import PNG16
from densevision.serving.responses import list_formats

__all__ = ["list_result_formats", "save_predictions"]

NUMBERS_AS_PNG: dict[type[Result], tuple[str, ...]] = {
    DepthMap: tuple(ending[1:] for ending in PNG16),
    FlowField: ("kitti.png",),
}
"""Formats that are selected by two endings, so that no suffix tells of them."""


def list_result_formats(result: Result) -> list[str]:
    """The formats in which a result can be saved, as `predict --save` names them."""
    results = result.results.values() if isinstance(result, JointResult) else [result]
    names = list_formats(type(result))
    for each in results:
        names += [*list_formats(type(each)), *NUMBERS_AS_PNG.get(type(each), ())]
    return [name for name in dict.fromkeys(names) if _is_supported(result, name)]


def save_predictions(predictions: Sequence[Prediction], threshold: float, name: str, folder: Path) -> Path:
    """Saves predictions: one as a file, several as files of a ZIP archive.

    Args:
        predictions: At least one.
        threshold: Score from which objects are saved.
        name: The format.
        folder: Where the file goes.

    Returns:
        The file.

    Raises:
        UsageError: The result cannot be saved in this format.
    """
    known = list_result_formats(predictions[0].result)
    if name not in known:
        raise UsageError("the result has no such format", field="format", value=name, hint=did_you_mean(name, known))
    files: dict[str, Path] = {}
    for number, prediction in enumerate(predictions):
        stem = Path(prediction.name).stem
        file = f"{stem}.{name}" if f"{stem}.{name}" not in files else f"{stem}-{number}.{name}"
        files[file] = filter_objects(prediction.result, threshold).save(folder / file)
    if len(files) == 1:
        return next(iter(files.values()))
    archive = folder / f"{name.replace('.', '-')}.zip"
    with atomic_write(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as stream:
        for file, path in files.items():
            stream.write(path, file)
    return archive


def _is_supported(result: Result, name: str) -> bool:
    """Whether there is a writer: one of a joint result has none if several of its tasks have the format."""
    try:
        result.get_writer(Path(f"result.{name}"))
    except UsageError:
        return False
    return True
