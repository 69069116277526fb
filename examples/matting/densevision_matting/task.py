"""The task matting: how much of every pixel belongs to the foreground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from densevision.datasets.augment import recolor
from densevision.datasets.geometry import warp_sample
from densevision.nn.model import Tensors
from densevision.ops.fields import resize_to_original
from densevision.ops.view import View
from densevision.run_config import PredictOptions
from densevision.sample import Sample, SampleSet
from densevision.tasks.base import Task
from densevision_matting import dataset as data
from densevision_matting.config import MattingConfig
from densevision_matting.metrics import MattingMetric
from densevision_matting.models import MODELS
from densevision_matting.result import Matte

__all__ = ["TASK", "Matting"]


class Matting(Task[MattingConfig, Matte]):
    """Estimates the opacity of the foreground."""

    name = "matting"
    Config = MattingConfig
    Result = Matte
    models = MODELS
    monitor = ("MAE", "min")
    best_possible_value = 0.0
    merge_strategy = "blend"

    def open_dataset(self, split: str) -> SampleSet:
        """The images of a split with their mattes."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A random crop that the image fills, perhaps mirrored, with random colors."""
        sample, side = dataset[index], self.config.data.size
        sides = np.array(sample.size[::-1], float)
        scale = max(1.0, side / sides.min())
        mirror = -1.0 if rng.random() < self.config.augment.flip else 1.0
        center = side / 2 + rng.uniform(-0.5, 0.5, 2) * (sides * scale - side)
        linear = scale * np.diag([mirror, 1.0])
        matrix = np.column_stack([linear, center - linear @ (sides / 2)])
        return recolor(self.config.augment, warp_sample(sample, matrix, (side, side), 0.0), rng)

    def remove_labels(self, sample: Sample) -> Sample:
        """The sample with every pixel unknown."""
        unknown = np.full(sample.size, np.nan, np.float32)
        return replace(sample, truth=Matte(size=sample.size, alpha=unknown))

    def collate_targets(self, target_records: Sequence[Matte | None]) -> Tensors:
        """ "alpha" and "known", (B, 1, H, W) each; padded to the largest record by unknown pixels."""
        records = [record for record in target_records if record is not None]
        if len(records) < len(target_records):
            raise ValueError("a sample has no matte")
        height, width = (max(record.size[axis] for record in records) for axis in (0, 1))
        alpha = torch.full((len(records), 1, height, width), torch.nan)
        for row, record in zip(alpha, records):
            row[0, : record.size[0], : record.size[1]] = torch.from_numpy(record.alpha)
        return {"alpha": alpha.nan_to_num(), "known": alpha.isfinite().float()}

    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[Matte]:
        """Mattes at the size of the original images."""
        results = []
        for row, view in zip(predictions["alpha"].float(), views):
            alpha = resize_to_original(row[None], view)[0, 0].clamp(0, 1)
            results.append(Matte(size=view.original, alpha=alpha.contiguous().numpy()))
        return results

    def build_metric(self) -> MattingMetric:
        """MAE and MSE."""
        return MattingMetric()


TASK = Matting
