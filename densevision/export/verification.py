"""How far the answers of two runtimes lie apart, and the images on which that is found out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from densevision.datasets.scenes import Scenes
from densevision.sample import InputSpec, Sample
from densevision.tasks.base import Tensors

SIZES = ((240, 320), (240, 320), (97, 131), (64, 33), (33, 200), (17, 350), (17, 13))
"""(height, width) of the images that every export is tried on: two that share a batch, then odd and small ones.

None is so small that its canvas becomes uniform: what is best among equals is chance."""

Arrays = dict[str, np.ndarray]


def trial_samples(specs: dict[str, InputSpec]) -> list[Sample]:
    """Scenes of `SIZES`, as many views of each as the network takes images."""
    return [_sample(Scenes(1, seed, size)[0], specs) for seed, size in enumerate(SIZES)]


def batches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """The first two together, then each of the others alone."""
    yield list(samples[:2])
    yield from ([sample] for sample in samples[2:])


class Comparison:
    """Gathers pairs of answers to the same inputs, and tells the largest difference of each output.

    Floats differ by the largest absolute difference of two elements, integers and booleans by the share of elements
    that are unequal. Answers with "valid" (B, K) are sets of up to K rows, whose order is chance where scores are
    equal: each valid row differs by its largest absolute difference from the nearest row of the other side.

    Args:
        strays: Share of the rows, the worst, that are left out: where a score or an overlap lies on a threshold, or
            two boxes compete, rounding decides which row there is, and either answer is right.
    """

    def __init__(self, strays: float):
        self.strays = strays
        self.magnitudes: dict[str, float] = {}
        self._largest: dict[str, float] = {}
        self._unequal: dict[str, tuple[int, int]] = {}
        self._apart: dict[str, list[np.ndarray]] = {}

    def add(self, ours: Tensors, theirs: Tensors) -> None:
        """Takes the answers of both sides to one batch."""
        first, second = _arrays(ours), _arrays(theirs)
        rows = [name for name in first if "valid" in first and first[name].shape[:2] == first["valid"].shape]
        for name in first.keys() - set(rows):
            self._add_elements(name, first[name], second[name])
        for item in range(len(first["valid"]) if rows else 0):
            one, other = (
                {name: side[name][item][side["valid"][item]] for name in rows if name != "valid"}
                for side in (first, second)
            )
            self._add_rows(one, other)

    @property
    def empty(self) -> bool:
        """Whether the answers were sets without a single row."""
        return bool(self._apart) and not any(len(part) for parts in self._apart.values() for part in parts)

    def differences(self) -> dict[str, float]:
        """Output -> its difference over all that was added, in the order of the names."""
        unequal = {name: count / max(total, 1) for name, (count, total) in self._unequal.items()}
        return dict(sorted({**self._largest, **unequal, **self._row_differences()}.items()))

    def _add_elements(self, name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        if ours.shape != theirs.shape:
            self._largest[name] = np.inf
        elif np.issubdtype(ours.dtype, np.floating):
            self._see(name, ours)
            self._largest[name] = max(self._largest.get(name, 0.0), float(_apart(ours, theirs).max(initial=0)))
        else:
            count, total = self._unequal.get(name, (0, 0))
            self._unequal[name] = count + int((ours != theirs).sum()), total + ours.size

    def _add_rows(self, ours: Arrays, theirs: Arrays) -> None:
        for one, other in ((ours, theirs), (theirs, ours)):
            partners = _nearest(one, other)
            for name, values in one.items():
                self._see(name, values)
                apart = np.full(len(values), np.inf)
                if partners is not None:
                    apart = _flat(_apart(values, other[name][partners])).max(1, initial=0)
                self._apart.setdefault(name, []).append(apart)

    def _row_differences(self) -> dict[str, float]:
        if not self._apart:
            return {}
        table = {name: np.concatenate(parts) for name, parts in self._apart.items()}
        worst = np.max([apart / max(1.0, self.magnitudes[name]) for name, apart in table.items()], axis=0)
        kept = np.argsort(worst, kind="stable")[: len(worst) - int(self.strays * len(worst))]
        return {name: float(apart[kept].max(initial=0)) for name, apart in table.items()}

    def _see(self, name: str, values: np.ndarray) -> None:
        finite = np.abs(values[np.isfinite(values)], dtype=np.float64)
        self.magnitudes[name] = max(self.magnitudes.get(name, 0.0), float(finite.max(initial=0)))


def _sample(scene, specs: dict[str, InputSpec]) -> Sample:
    views = (scene.image, scene.next, scene.right)
    names = [name for name, spec in specs.items() if spec.kind == "image"]
    return Sample({name: _with_channels(views[i % 3], specs[name].channels) for i, name in enumerate(names)})


def _with_channels(image: np.ndarray, count: int) -> np.ndarray:
    return np.ascontiguousarray(image[..., np.arange(count) % image.shape[2]])


def _nearest(ours: Arrays, theirs: Arrays) -> np.ndarray | None:
    """For each row on our side the row on theirs that is most like it in all small outputs; None without any."""
    if not len(next(iter(theirs.values()))):
        return None
    cost = np.zeros((len(next(iter(ours.values()))), len(next(iter(theirs.values())))))
    for name, values in ours.items():
        one, other = _flat(values), _flat(theirs[name])
        if one.shape[1] <= 4:
            cost = np.maximum(cost, _apart(one[:, None], other[None]).max(2))
    return cost.argmin(1)


def _flat(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def _apart(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Absolute differences; 0 where both are the same, infinite or not a number included."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs)) if ours.dtype.kind == "f" else ours == theirs
    return np.where(same, 0.0, np.nan_to_num(apart, nan=np.inf, posinf=np.inf))


def _arrays(tensors: Tensors) -> Arrays:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
