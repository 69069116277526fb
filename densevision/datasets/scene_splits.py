"""`scenes[:COUNT[:SEED]]`: the procedural world as a dataset, for every task."""

from __future__ import annotations

import re
from dataclasses import dataclass

from densevision.errors import UsageError

HELD_OUT_SCENES = 1 << 30
"""Number of the first validation scene: training scenes never come near it."""


@dataclass(frozen=True)
class SceneSource:
    """Which scenes: `count` of the sequence `seed`, from number `first`."""

    count: int
    seed: int
    first: int = 0


def scene_splits(path: str) -> dict[str, SceneSource] | None:
    """The splits that `scenes[:COUNT[:SEED]]` names, or None where it names something else.

    A fifth as many scenes validate as train, at least 16 and at most 200. A folder that is called scenes is `./scenes`.

    >>> scene_splits("scenes:100:7")["val"].count
    20
    """
    if path.split(":")[0] != "scenes":
        return None
    numbers = re.fullmatch(r"scenes(?::(\d+))?(?::(\d+))?", path)
    count, seed = (int(numbers[1] or 1000), int(numbers[2] or 0)) if numbers else (0, 0)
    if count < 1:
        raise UsageError("scenes reads scenes[:COUNT[:SEED]]", field="data.path", value=path, hint="Try scenes:1000:0.")
    return {
        "train": SceneSource(count, seed),
        "val": SceneSource(min(200, max(16, count // 5)), seed, HELD_OUT_SCENES),
    }
