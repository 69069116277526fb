"""The results of several tasks for one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from densevision.errors import UsageError
from densevision.results.base import Result

__all__ = ["JointResult"]

WHOLE_FORMATS = (".json", ".npz")
"""Formats that hold the results of all tasks, although a task may have its own file of that suffix."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class JointResult(Result):
    """Predictions or ground target_records of several tasks for one image, by the names of the tasks.

    Read it as a mapping: `result["depth"].depth`, `for name in result`. A ground truth has the tasks for which there
    are labels.

    Attributes:
        results: Name of the task -> its result, all of the same image.
    """

    results: Mapping[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.source is not None:
            own = {
                name: replace(each, source=self.source) if each.source is None else each
                for name, each in self.results.items()
            }
            object.__setattr__(self, "results", own)

    def __getitem__(self, name: str) -> Result:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __contains__(self, name: object) -> bool:
        return name in self.results

    def warp(self, matrix: np.ndarray, size: tuple[int, int]) -> JointResult:
        """Warps every result."""
        warped = {name: result.warp(matrix, size) for name, result in self.results.items()}
        return JointResult(size=size, source=self.source, results=warped)

    def overlay(self, image: np.ndarray) -> np.ndarray:
        """A sheet of panels of the image's size, one per task, in rows: (rows * H, columns * W, 3) uint8 RGB."""
        return _arrange([result.overlay(image) for result in self.results.values()] or [image])

    def overlay_for_comparison(self, ground_truth: Result, image: np.ndarray) -> np.ndarray:
        """The same sheet, with each prediction drawn like the ground truth beside it."""
        target_records = ground_truth.results if isinstance(ground_truth, JointResult) else {}
        panels = [
            result.overlay_for_comparison(target_records[name], image)
            if name in target_records
            else result.overlay(image)
            for name, result in self.results.items()
        ]
        return _arrange(panels or [image])

    def numpy(self) -> dict[str, np.ndarray]:
        """The arrays of all results, as "task.array"."""
        return {
            f"{name}.{key}": array for name, result in self.results.items() for key, array in result.numpy().items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: "size", and "results" by task."""
        return {"size": list(self.size), "results": {name: each.to_dict() for name, each in self.results.items()}}

    def get_writer(self, path: Path) -> Callable[[Path], None]:
        """The function that writes the results to such a path; nothing is written yet.

        A format of a single task, such as depth's `.pfm`, holds that task's result alone.

        Raises:
            UsageError: The suffix is supported by no task, or by several.
        """
        name = path.name.lower()
        if path.suffix.lower() in WHOLE_FORMATS:
            return super().get_writer(path)
        owners = [task for task, result in self.results.items() if name.endswith(tuple(result.save_methods))]
        if len(owners) == 1:
            return self.results[owners[0]].get_writer(path)
        if owners:
            problem, hint = "several tasks have this format", f"Save one of them: result[{owners[0]!r}].save(...)."
            raise UsageError(problem, file=path, value=owners, hint=hint)
        return super().get_writer(path)

    def _summarize(self) -> str:
        return ", ".join(f"{name}: {result!r}" for name, result in self.results.items())


def _arrange(panels: list[np.ndarray]) -> np.ndarray:
    """Panels of one size in rows and columns; the free places of the last row are white."""
    columns = math.ceil(math.sqrt(len(panels))) if len(panels) > 3 else len(panels)
    panels = panels + [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    rows = [np.concatenate(panels[start : start + columns], 1) for start in range(0, len(panels), columns)]
    return np.concatenate(rows)
