"""Random sequences of tracks as files of MOTChallenge."""

from __future__ import annotations

from pathlib import Path

import numpy as np

Row = tuple[int, int, float, float, float, float]
"""Frame, identity, left, top, width, height."""


def make_random_sequence(seed: int) -> tuple[list[Row], list[Row]]:
    """Objects on random paths, and a tracker that misses, invents, shifts and confuses them."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for track_id in range(1, 9):
        start, step = rng.uniform(0, 150, 2), rng.normal(0, 3, 2)
        own_id, first = int(rng.integers(1, 30)) * 10 + track_id, int(rng.integers(1, 12))
        for frame in range(first, first + int(rng.integers(5, 40))):
            corner = start + frame * step
            truth.append((frame, track_id, *corner.tolist(), 30.0, 40.0))
            own_id += 1000 * int(rng.random() < 0.08)
            if rng.random() < 0.85:
                shift = rng.normal(0, 4, 4)
                found.append((frame, own_id, *(corner + shift[:2]).tolist(), 30 + shift[2], 40 + shift[3]))
        found += [(int(rng.integers(1, 45)), own_id + 500_000, *rng.uniform(0, 200, 2).tolist(), 25.0, 35.0)]
    return truth, found


def write_rows(path: Path, rows: list[Row], tail: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{','.join(map(str, row))},{tail}\n" for row in rows))
    return path
