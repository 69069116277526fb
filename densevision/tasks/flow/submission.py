"""Submissions to the benchmarks of Sintel and KITTI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from densevision.errors import DataError
from densevision.results import FlowField

__all__ = ["submit_kitti", "submit_sintel"]


class FlowPredictor(Protocol):
    """A loaded model, as `densevision.load` returns it."""

    def predict(self, source: Any, **options: Any) -> Any: ...


def submit_sintel(model: FlowPredictor, root: Path, out: Path, **options: Any) -> Iterator[Path]:
    """Writes <pass>/<scene>/frame_0001.flo for every pair below test/<pass>/<scene>, for both passes.

    Each scene is one sequence, so `warm_start` applies.

    Args:
        model: The predictor.
        root: Sintel's folder, or its `test` folder.
        out: Root of the written tree, the input of Sintel's own `bundler`.
        **options: Fields of `PredictOptions`.

    Yields:
        The written files.

    Raises:
        DataError: There is no test scene.
    """
    base = root / "test" if (root / "test").is_dir() else root
    scenes = [scene for rendering in ("clean", "final") for scene in sorted((base / rendering).glob("*/"))]
    if not scenes:
        raise DataError("no scene of Sintel's test set", file=base, hint="It contains clean/ and final/.")
    for scene in scenes:
        frames = sorted(str(frame) for frame in scene.glob("frame_*.png"))
        folder = out / scene.parent.name / scene.name
        results: Iterator[FlowField] = model.predict(frames, stream=True, **options)
        for frame, result in zip(frames, results):
            yield result.save(folder / f"{Path(frame).stem}.flo")


def submit_kitti(model: FlowPredictor, root: Path, out: Path, **options: Any) -> Iterator[Path]:
    """Writes flow/000000_10.png, 16 bits, for every pair below testing/; submit a zip of the folder with `flow`.

    Args:
        model: The predictor.
        root: The folder of KITTI 2015 or 2012, or its `testing` folder.
        out: Where `flow` is written.
        **options: Fields of `PredictOptions`.

    Yields:
        The written files.

    Raises:
        DataError: There is no pair, or a second frame is missing.
    """
    base = root / "testing" if (root / "testing").is_dir() else root
    folder = next((base / name for name in ("image_2", "colored_0", "image_0") if (base / name).is_dir()), base)
    first_frames = sorted(folder.glob("*_10.png"))
    if not first_frames:
        hint = "It contains 000000_10.png, 000000_11.png, ..."
        raise DataError("no frame of KITTI's test set", file=folder, hint=hint)
    for first in first_frames:
        second = first.with_name(first.name.replace("_10.png", "_11.png"))
        result = model.predict((str(first), str(second)), **options)
        target = out / "flow" / first.name
        result.save_data(target)
        yield target
