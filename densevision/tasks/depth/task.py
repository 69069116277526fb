"""Depth: how far away everything in an image is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from densevision.ops.view import View
from densevision.results.depth_map import DepthMap
from densevision.run_config import PredictOptions
from densevision.sample import Batch, InputSpec, Sample
from densevision.tasks.base import DenseModel, SampleSet, Task, Tensors
from densevision.tasks.depth import dataset as data
from densevision.tasks.depth import postprocess as decode
from densevision.tasks.depth.augment import augmented
from densevision.tasks.depth.config import DepthConfig
from densevision.tasks.depth.losses import supervised_losses
from densevision.tasks.depth.metrics import DepthMetric, Protocol
from densevision.tasks.depth.models.depth_head import DepthHead
from densevision.tasks.depth.models.vit import TokenMaps, patch_size
from densevision.tasks.depth.stereo import stereo_losses
from densevision.tasks.depth.units import stack

CELL = 32
"""Sides of the canvas are multiples of this, for pyramids."""


class Depth(Task[DepthConfig, DepthMap]):
    """How far away is what each pixel shows?"""

    name = "depth"
    Config = DepthConfig
    Result = DepthMap
    best_possible_value = 0.0
    supported_options = frozenset({"tile", "overlap", "tta", "focal_length"})
    merge_strategy = "pixels"

    @property
    def monitor(self) -> tuple[str, str]:
        """The relative error, under the config's protocol."""
        return f"AbsRel{self._protocol.suffix}", "min"

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """One image: as it is, or with its shorter side brought to the config's; for `dpt_vit` as its authors do."""
        channels, shorter = self.config.backbone.channels, self.config.data.shorter
        tokens = self.config.arch == "dpt_vit"
        cell = patch_size(self.config.backbone) if tokens else CELL
        if shorter is not None and tokens:
            return {"image": InputSpec(channels, "cover", shorter, multiple_of=cell, interpolation="cubic")}
        how = "pad" if shorter is None else "shortest"
        return {"image": InputSpec(channels, how, shorter, multiple_of=cell, minimum=2 * cell, fill="edge")}

    @property
    def auxiliary_images(self) -> dict[str, InputSpec]:
        """The right image of a pair."""
        return {"right": self.inputs["image"]} if self.config.stereo else {}

    @property
    def needs_global_alignment(self) -> bool:
        """Tiles keep to the whole image where numbers have no unit, or where the size of a look changes its zoom."""
        return not self.config.unit or self.config.data.shorter is not None or self.config.arch == "dpt_vit"

    def encoder(self) -> nn.Module:
        """A timm pyramid, or the token maps of a plain transformer."""
        config = self.config
        return TokenMaps(config.backbone, config.blocks) if config.arch == "dpt_vit" else super().encoder()

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> nn.Module:
        """The decoder and its last convolution."""
        return DepthHead(self.config, channels, strides)

    @classmethod
    def infer_from_data(cls, config: DepthConfig) -> DepthConfig:
        """Reads the camera from the data, when the config does not name it."""
        return data.with_camera(config)

    def dataset(self, split: str) -> SampleSet:
        """The images of a split with their depth."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A crop after one warp, with other colors; scenes never come twice."""
        sample = dataset.fresh(index, epoch) if isinstance(dataset, data.SceneDepth) else dataset[index]
        size, shorter = self.config.data.size, self.config.data.shorter
        crop = (size, size) if isinstance(size, int) else size
        return augmented(self.config.augment, sample, rng, crop, shorter)

    def unlabeled(self, sample: Sample) -> Sample:
        """The sample with every pixel unknown."""
        return data.unlabeled(sample)

    def targets(self, ground_truths: Sequence[DepthMap | None]) -> Tensors:
        """Depth in the network's terms and where it is known; see `units.stack`. Pairs need none."""
        return {} if self.config.stereo else stack(ground_truths, self.config)

    def losses(self, net: DenseModel, batch: Batch, training_modules: nn.Module | None, optimizer_name: str) -> Tensors:
        """Losses against the truth, or between the images of pairs."""
        image = batch.inputs["image"]
        if self.config.stereo:
            scales = net.head.scales(**net.features(**batch.inputs))
            return stereo_losses(scales, image, batch.targets["right"], self.config.loss)
        return supervised_losses(net(**batch.inputs)["depth"], image, batch.targets, self.config.loss)

    def fields(self, answers: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """Depth on the image's own pixels."""
        return decode.fields(answers, view, mirrored, self.config)

    def align(self, fields: Tensors, guide: Tensors) -> Tensors:
        """A tile's depth at the scale of the whole image's."""
        return decode.align(fields, guide, self.config)

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[DepthMap]:
        """Records in the unit that the config names."""
        return decode.results(answers, views, self.inputs["image"], options, self.config)

    def encode(self, ground_truths: Sequence[DepthMap]) -> Tensors:
        """Outputs that say the truths."""
        return {"depth": stack(ground_truths, self.config)["depth"]}

    def metric(self) -> DepthMetric:
        """Errors of depth and disparity under the config's protocol."""
        return DepthMetric(self._protocol)

    @property
    def _protocol(self) -> Protocol:
        rules = self.config.evaluation
        return Protocol(self.config.alignment, rules.crop, rules.nearest, rules.farthest)


TASK = Depth
