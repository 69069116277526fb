"""Superres: larger and restored images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from densevision.datasets.targets import fill_unknown_pixels, stack_image_targets
from densevision.errors import UsageError
from densevision.metrics.image_quality import quality_metric_names
from densevision.nn.adversarial import discriminator_loss, generator_loss
from densevision.nn.model import Model, Tensors
from densevision.ops.fields import resize_to_original
from densevision.ops.view import Size, View
from densevision.results.image import Image
from densevision.run_config import PredictOptions
from densevision.sample import Batch, Sample, SampleSet
from densevision.tasks.image_task import ImageTask
from densevision.tasks.superres import dataset as data
from densevision.tasks.superres import postprocess
from densevision.tasks.superres.config import LossConfig, SuperresConfig
from densevision.tasks.superres.losses import PixelCriterion
from densevision.tasks.superres.metrics import SuperresMetric
from densevision.tasks.superres.models import MODELS
from densevision.tasks.superres.models.superres_model import SuperresModel
from densevision.tasks.superres.training_modules import TrainingModules

__all__ = ["TASK", "Superres"]


class Superres(ImageTask[SuperresConfig]):
    """Enlarges or restores an image."""

    name = "superres"
    Config = SuperresConfig
    models = MODELS
    best_possible_value = float("inf")
    tta_transforms = frozenset({"flip", "rotate"})
    max_untiled_pixels = 1024 * 1024
    tile_size = 384

    @property
    def monitor(self) -> tuple[str, str]:
        """PSNR under the config's protocol."""
        quality = self.config.quality
        return quality_metric_names(quality.color, self.config.crop, quality.luma)[0], "max"

    def model_arguments(self) -> dict[str, Any]:
        """The scale, and the pixel losses."""
        return {"scale": self.config.scale, "criterion": PixelCriterion(**self.config.loss.pixel_weights)}

    @property
    def receptive_field_radius(self) -> int | None:
        """As the architecture states it."""
        return cast(SuperresModel, self.meta_model).receptive_field_radius

    @property
    def loss_config(self) -> LossConfig:
        """The config's losses."""
        return self.config.loss

    def build_training_modules(self) -> TrainingModules | None:
        """Discriminator and perceptual network, where their losses have a weight."""
        loss = self.config.loss
        return TrainingModules(loss, self.config.backbone.channels) if loss.has_training_modules else None

    @classmethod
    def infer_from_data(cls, config: SuperresConfig) -> SuperresConfig:
        """Holds out a tenth of the images, where the data has no validation split.

        Raises:
            UsageError: The architecture has no weights to train.
        """
        if not any(True for _ in cls(config).meta_model.parameters()):
            raise UsageError("the architecture has no weights to train", field="arch", value=config.arch)
        return data.infer_splits(config)

    def open_dataset(self, split: str) -> SampleSet:
        """The images of a split with their targets."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A random crop, flipped and rotated, with a new random degradation."""
        return cast(data.RestorationSet, dataset).crop(index, rng)

    def remove_labels(self, sample: Sample) -> Sample:
        """The sample with a target of unknown pixels."""
        height, width = self.output_size(sample.size)
        unknown = np.full((height, width, self.config.backbone.channels), np.nan, np.float32)
        return replace(sample, truth=Image.from_source(unknown, self.config.scale))

    def collate_targets(self, target_records: Sequence[Image | None]) -> Tensors:
        """ "image" and "known", see `stack_image_targets`."""
        return stack_image_targets(target_records, self.config.backbone.channels, self.config.scale)

    def compute_model_losses(self, model: Model, batch: Batch, training_modules: nn.Module | None) -> Tensors:
        """Pixel, perceptual and adversarial losses."""
        outputs = model(**batch.inputs)
        losses = model.loss(outputs, batch.targets)
        modules = cast("TrainingModules | None", training_modules)
        if modules is not None:
            losses |= self._compute_feature_losses(modules, *fill_unknown_pixels(outputs["image"], batch.targets))
        return losses

    def compute_discriminator_loss(self, model: Model, batch: Batch, training_modules: nn.Module | None) -> Tensor:
        """The loss of the discriminator on new predictions and on targets."""
        with torch.no_grad():
            fake, real = fill_unknown_pixels(model(**batch.inputs)["image"], batch.targets)
        discriminator = cast(TrainingModules, training_modules).discriminator
        assert discriminator is not None
        return discriminator_loss(discriminator(fake), discriminator(real), self.config.loss.adversarial.kind)

    def _compute_feature_losses(self, modules: TrainingModules, fake: Tensor, real: Tensor) -> Tensors:
        """Perceptual and adversarial loss of predictions (B, C, H, W) with targets of the same shape."""
        loss, losses = self.config.loss, {}
        if modules.perceptual is not None:
            losses["perceptual"] = loss.perceptual.weight * modules.perceptual(fake, real)
        if modules.discriminator is not None:
            kind = loss.adversarial.kind
            real_logits = modules.discriminator(real) if kind == "relativistic" else None
            losses["adversarial"] = loss.adversarial.weight * generator_loss(
                modules.discriminator(fake), real_logits, kind
            )
        return losses

    def to_image_space(self, predictions: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """The prediction at its own size, `scale` times the image's."""
        image = resize_to_original(predictions["image"], view, self.config.scale)
        return {"image": image.flip(-1) if mirrored else image}

    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[Image]:
        """Images in [0, 1]."""
        return postprocess.to_results(predictions, views, self.config.scale)

    def restore_metadata(self, result: Image, sample: Sample, corner: Size = (0, 0)) -> Image:
        """The number type, gray, alpha and color profile of the input image."""
        return postprocess.restore_metadata(result, sample, corner)

    def output_size(self, size: Size) -> Size:
        """`scale` times the image's size."""
        return size[0] * self.config.scale, size[1] * self.config.scale

    def build_metric(self) -> SuperresMetric:
        """PSNR and SSIM under the config's protocol, and LPIPS where its weights are given."""
        return SuperresMetric(self.config.quality, self.config.crop)


TASK = Superres
