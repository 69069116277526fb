"""Comparison of the outputs of two runtimes, and the images on which they are compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from densevision.datasets.scenes import Scene, Scenes
from densevision.nn.model import Tensors
from densevision.sample import InputSpec, Sample

__all__ = ["OutputComparison", "PartComparison", "Tolerance", "make_trial_samples", "split_batches"]

TRIAL_SIZES = ((240, 320), (240, 320), (97, 131), (64, 33), (33, 200), (17, 350), (17, 13))
"""(height, width) of the images on which every export is verified: two that share a batch, then odd and small ones.

None is so small that its canvas becomes uniform: the order of equal scores would be arbitrary."""
MAX_TIED_FRACTION = 0.5
"""Maximum fraction of rows that may differ because of tied scores; in a wrong export nearly all rows differ."""
IOU_MARGIN = 0.01
"""Two overlaps that lie closer together than this may fall on different sides of the IoU threshold."""
ROUNDING = 1e-6
"""A difference that is always accepted."""
MATCH_COLUMNS = 4
"""Outputs with more values per row than this, such as masks, do not take part in matching rows."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Tolerance:
    """Accepted differences.

    Attributes:
        absolute: Accepted absolute difference.
        relative: Accepted difference as a fraction of the output's largest magnitude.
        largest_fraction: The absolute difference is at most this fraction of the output's largest magnitude: scores of
            a detector that was barely trained may all be small.
        score_tie: Scores that differ by less than this may change places.
        outlier_fraction: Fraction of the rows, the worst ones, that is ignored: rounding decides where a score or an
            overlap lies exactly on a threshold.
    """

    absolute: float = 1e-3
    relative: float = 1e-6
    largest_fraction: float = 0.01
    score_tie: float = 1e-4
    outlier_fraction: float = 0.005

    def compute_limit(self, magnitude: float) -> float:
        """The accepted difference of an output with this largest magnitude."""
        reduced = min(self.absolute, max(self.largest_fraction * magnitude, ROUNDING))
        return max(reduced, self.relative * magnitude)


def make_trial_samples(specs: Mapping[str, InputSpec]) -> list[Sample]:
    """Makes scenes of `TRIAL_SIZES`, with as many views of each as the model has image inputs."""
    return [_make_sample(Scenes(1, seed, size)[0], specs) for seed, size in enumerate(TRIAL_SIZES)]


def split_batches(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
    """Yields the first two samples together, then each of the others by itself."""
    yield list(samples[:2])
    yield from ([sample] for sample in samples[2:])


@dataclass
class OutputComparison:
    """Accumulates pairs of outputs for the same inputs, and computes the largest difference of each output.

    Floats differ by their largest absolute difference, integers and booleans by the fraction of unequal elements.

    Outputs with "valid" (B, K) are sets of up to K detections. Each valid row is matched to the most similar row of the
    other set, and differs by its largest absolute difference. Where scores are tied, rounding decides which of two
    boxes suppresses the other, or which one comes before the cut at K: such rows are not counted as differences as
    long as they are fewer than `MAX_TIED_FRACTION`. An unmatched row is tied if the other set contains, also unmatched,
    a box of the same class that suppresses it and has no lower score; or if its score is not above the lowest one of a
    full set.

    Attributes:
        tolerance: The accepted differences.
        iou_threshold: IoU threshold of the non-maximum suppression, if there is one.
        class_agnostic: Boxes of different classes suppress each other.
        magnitudes: Largest magnitude of each output.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    iou_threshold: float | None = None
    class_agnostic: bool = False
    magnitudes: dict[str, float] = field(default_factory=dict)
    _largest: dict[str, float] = field(default_factory=dict)
    _unequal: dict[str, tuple[int, int]] = field(default_factory=dict)
    _row_pairs: list[tuple[Arrays, Arrays, int]] = field(default_factory=list)

    def add(self, outputs: Tensors, other_outputs: Tensors) -> None:
        """Adds the outputs of both sides for one batch."""
        first, second = _to_arrays(outputs), _to_arrays(other_outputs)
        names = [name for name in first if "valid" in first and first[name].shape[:2] == first["valid"].shape]
        for name in first.keys() - set(names):
            self._add_elements(name, first[name], second[name])
        for index in range(len(first["valid"]) if names else 0):
            rows, other_rows = (
                {name: side[name][index][side["valid"][index]] for name in names if name != "valid"}
                for side in (first, second)
            )
            for name in rows:
                self._update_magnitude(name, rows[name])
            self._row_pairs.append((rows, other_rows, first["valid"].shape[1]))

    @property
    def is_empty(self) -> bool:
        """Whether the outputs were sets, all of them empty."""
        return bool(self._row_pairs) and not any(_count_rows(a) + _count_rows(b) for a, b, _ in self._row_pairs)

    def compute_differences(self) -> dict[str, float]:
        """The difference of each output over all batches, sorted by name."""
        unequal = {name: count / max(total, 1) for name, (count, total) in self._unequal.items()}
        return dict(sorted({**self._largest, **unequal, **self._compute_row_differences()}.items()))

    def _add_elements(self, name: str, values: np.ndarray, others: np.ndarray) -> None:
        if values.shape != others.shape:
            self._largest[name] = math.inf
        elif np.issubdtype(values.dtype, np.floating):
            self._update_magnitude(name, values)
            largest = float(_subtract(values, others).max(initial=0))
            self._largest[name] = max(self._largest.get(name, 0.0), largest)
        else:
            count, total = self._unequal.get(name, (0, 0))
            self._unequal[name] = count + int((values != others).sum()), total + values.size

    def _compute_row_differences(self) -> dict[str, float]:
        if not self._row_pairs:
            return {}
        differences: dict[str, list[np.ndarray]] = {name: [] for name in self._row_pairs[0][0]}
        ties = []
        for first, second, capacity in self._row_pairs:
            sides = [(first, second, _match_rows(first, second)), (second, first, _match_rows(second, first))]
            matched = [self._is_within_tolerance(each) for _, _, each in sides]
            for index, (rows, others, row_differences) in enumerate(sides):
                is_unmatched, is_other_unmatched = ~matched[index], ~matched[1 - index]
                ties.append(is_unmatched & self._find_ties(rows, others, is_other_unmatched, capacity))
                for name, values in row_differences.items():
                    differences[name].append(values)
        is_tied = np.concatenate(ties)
        if is_tied.mean() > MAX_TIED_FRACTION if len(is_tied) else False:
            is_tied[:] = False
        table = {name: np.concatenate(parts)[~is_tied] for name, parts in differences.items()}
        worst = np.max([values / max(1.0, self.magnitudes[name]) for name, values in table.items()], axis=0)
        keep = np.argsort(worst, kind="stable")[: len(worst) - int(self.tolerance.outlier_fraction * len(worst))]
        return {name: float(values[keep].max(initial=0)) for name, values in table.items()}

    def _is_within_tolerance(self, differences: Arrays) -> np.ndarray:
        limits = {name: self.tolerance.compute_limit(self.magnitudes[name]) for name in differences}
        return np.all([values <= limits[name] for name, values in differences.items()], axis=0)

    def _find_ties(self, rows: Arrays, others: Arrays, is_other_unmatched: np.ndarray, capacity: int) -> np.ndarray:
        """Rows that the other set may lack because of tied scores."""
        if "scores" not in rows or not _count_rows(others):
            return np.zeros(_count_rows(rows), bool)
        scores, other_scores = rows["scores"], others["scores"]
        is_cut_off = _count_rows(others) == capacity
        tie = self.tolerance.score_tie
        is_tied = np.full(len(scores), is_cut_off) & (scores <= other_scores.min() + tie)
        if self.iou_threshold is not None and "boxes" in rows:
            suppresses = _compute_iou(rows["boxes"], others["boxes"]) >= self.iou_threshold - IOU_MARGIN
            suppresses &= other_scores >= scores[:, None] - tie
            if "labels" in rows and not self.class_agnostic:
                suppresses &= rows["labels"][:, None] == others["labels"]
            is_tied |= (suppresses & is_other_unmatched).any(1)
        return is_tied

    def _update_magnitude(self, name: str, values: np.ndarray) -> None:
        finite = np.abs(values[np.isfinite(values)], dtype=np.float64)
        self.magnitudes[name] = max(self.magnitudes.get(name, 0.0), float(finite.max(initial=0)))


class PartComparison:
    """The comparisons of several parts of the outputs, told apart by the beginning of their names.

    Args:
        parts: Prefix of the names of a part -> its empty comparison.

    Attributes:
        tolerance: The accepted differences.
    """

    def __init__(self, parts: Mapping[str, OutputComparison]):
        self.parts = dict(parts)
        self.tolerance = next(iter(self.parts.values())).tolerance

    def add(self, outputs: Tensors, other_outputs: Tensors) -> None:
        """Adds the outputs of both sides for one batch."""
        for prefix, part in self.parts.items():
            part.add(*(_take_part(side, prefix) for side in (outputs, other_outputs)))

    @property
    def magnitudes(self) -> dict[str, float]:
        """Largest magnitude of each output."""
        return {
            f"{prefix}{name}": value for prefix, part in self.parts.items() for name, value in part.magnitudes.items()
        }

    @property
    def is_empty(self) -> bool:
        """Whether the outputs of a part were sets, all of them empty."""
        return any(part.is_empty for part in self.parts.values())

    def compute_differences(self) -> dict[str, float]:
        """The difference of each output over all batches."""
        return {
            f"{prefix}{name}": value
            for prefix, part in self.parts.items()
            for name, value in part.compute_differences().items()
        }


def _take_part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _make_sample(scene: Scene, specs: Mapping[str, InputSpec]) -> Sample:
    views = (scene.image, scene.next, scene.right)
    names = [name for name, spec in specs.items() if spec.kind == "image"]
    return Sample({name: _repeat_channels(views[i % 3], specs[name].channels) for i, name in enumerate(names)})


def _repeat_channels(image: np.ndarray, count: int) -> np.ndarray:
    return np.ascontiguousarray(image[..., np.arange(count) % image.shape[2]])


def _match_rows(rows: Arrays, others: Arrays) -> Arrays:
    """The difference of each row from the most similar row of the other set, for each output; infinite without any."""
    count, other_count = _count_rows(rows), _count_rows(others)
    if not other_count:
        return {name: np.full(count, np.inf) for name in rows}
    cost = np.zeros((count, other_count))
    for name, values in rows.items():
        flat, other_flat = _flatten(values), _flatten(others[name])
        if flat.shape[1] <= MATCH_COLUMNS:
            cost = np.maximum(cost, _subtract(flat[:, None], other_flat[None]).max(2))
    partners = cost.argmin(1)
    return {
        name: _flatten(_subtract(values, others[name][partners])).max(1, initial=0) for name, values in rows.items()
    }


def _compute_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of (N, 4) and (M, 4) xyxy boxes: (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = (high - low).clip(0).prod(2)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).clip(0).prod(1) for each in (boxes, others))
    return intersection / np.maximum(areas[:, None] + other_areas - intersection, 1e-9)


def _count_rows(rows: Arrays) -> int:
    return len(next(iter(rows.values())))


def _flatten(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def _subtract(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Absolute differences; 0 where both are the same, infinite or NaN included; infinite where only one is."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(values.astype(np.float64) - others.astype(np.float64))
    is_same = values == others
    if values.dtype.kind == "f":
        is_same |= np.isnan(values) & np.isnan(others)
    return np.where(is_same, 0.0, np.nan_to_num(difference, nan=np.inf, posinf=np.inf))


def _to_arrays(tensors: Tensors) -> Arrays:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}
