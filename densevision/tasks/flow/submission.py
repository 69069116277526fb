"""The trees of files that Sintel and KITTI take as an answer to their test sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from densevision.errors import DataError
from densevision.results import FlowField


class Predicts(Protocol):
    """Whatever `densevision.load` gives."""

    def predict(self, source: Any, **options: Any) -> Any: ...


def submit_sintel(model: Predicts, root: Path, out: Path, **options: Any) -> Iterator[Path]:
    """Writes <pass>/<scene>/frame_0001.flo for every pair below test/<pass>/<scene>, both passes.

    Each scene is one sequence, so that `warm_start` is of use.

    Args:
        model: What answers.
        root: Sintel's folder, or its `test` folder.
        out: Where the tree is written; hand it to Sintel's own `bundler`.
        **options: Fields of `PredictOptions`.

    Raises:
        DataError: There is no test scene.
    """
    base = root / "test" if (root / "test").is_dir() else root
    scenes = [scene for rendering in ("clean", "final") for scene in sorted((base / rendering).glob("*/"))]
    if not scenes:
        raise DataError("no scene of Sintel's test set", file=base, hint="It holds clean/ and final/.")
    for scene in scenes:
        frames = sorted(str(frame) for frame in scene.glob("frame_*.png"))
        folder = out / scene.parent.name / scene.name
        results: Iterator[FlowField] = model.predict(frames, stream=True, **options)
        for frame, result in zip(frames, results):
            yield result.save(folder / f"{Path(frame).stem}.flo")


def submit_kitti(model: Predicts, root: Path, out: Path, **options: Any) -> Iterator[Path]:
    """Writes flow/000000_10.png, 16 bits, for every pair below testing/; zip the folder that holds `flow`.

    Args:
        model: What answers.
        root: The folder of KITTI 2015 or 2012, or its `testing` folder.
        out: Where `flow` is written.
        **options: Fields of `PredictOptions`.

    Raises:
        DataError: There is no pair, or a second frame is missing.
    """
    base = root / "testing" if (root / "testing").is_dir() else root
    folder = next((base / name for name in ("image_2", "colored_0", "image_0") if (base / name).is_dir()), base)
    firsts = sorted(folder.glob("*_10.png"))
    if not firsts:
        raise DataError("no frame of KITTI's test set", file=folder, hint="It holds 000000_10.png, 000000_11.png, ...")
    for first in firsts:
        second = first.with_name(first.name.replace("_10.png", "_11.png"))
        result = model.predict((str(first), str(second)), **options)
        target = out / "flow" / first.name
        result.save_data(target)
        yield target
