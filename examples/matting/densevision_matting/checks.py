"""Checks of matting datasets. No torch here."""

from __future__ import annotations

from pathlib import Path

from densevision.datasets.checks.catalog import Check
from densevision.datasets.checks.context import CheckContext
from densevision.datasets.splits import parse_scene_splits
from densevision.errors import DataError
from densevision_matting.config import MattingConfig
from densevision_matting.dataset import FolderSamples, list_pairs

__all__ = ["CHECKS", "check"]

BROKEN = Check("matte-broken", "error", "a matte that cannot be read or has another size", "Export it again.")
UNIFORM = Check("matte-uniform", "note", "a matte that is the same everywhere", "Check whether it has a foreground.")
CHECKS = (BROKEN, UNIFORM)
"""Everything that `check` looks for."""


def check(config: MattingConfig, context: CheckContext) -> None:
    """Reads every pair of both splits.

    Raises:
        DataError: There is no such folder, or an image lacks its matte.
    """
    path = config.data.path or "scenes"
    if parse_scene_splits(path) is not None:
        return
    for split in ("train", "val"):
        pairs = list_pairs(Path(path), split)
        context.counts[split] = {"images": len(pairs)}
        samples = FolderSamples(pairs)
        for index, (_, matte_file) in enumerate(pairs):
            try:
                truth = samples[index].truth
            except DataError as error:
                context.add(BROKEN, str(matte_file), None, str(error))
                continue
            if truth is not None and truth.alpha.min() == truth.alpha.max():
                context.add(UNIFORM, str(matte_file))
