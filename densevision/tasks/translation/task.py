"""Translation: an image of one kind as an image of another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from densevision.datasets.targets import fill_unknown_pixels, stack_image_targets
from densevision.nn.backbone import Backbone
from densevision.nn.model import Model, Tensors
from densevision.ops.view import Size, View
from densevision.results.image import Image
from densevision.run_config import BackboneConfig, PredictOptions
from densevision.sample import Batch, Sample, SampleSet
from densevision.tasks.base import Task
from densevision.tasks.image_task import ImageTask
from densevision.tasks.translation import dataset as data
from densevision.tasks.translation import postprocess
from densevision.tasks.translation.config import LossConfig, TranslationConfig
from densevision.tasks.translation.losses import (
    L1Criterion,
    average_discriminator_loss,
    average_generator_loss,
    feature_matching_loss,
)
from densevision.tasks.translation.metrics import ExtractFeatures, TranslationMetric
from densevision.tasks.translation.models import MODELS
from densevision.tasks.translation.models.translation_model import TranslationModel
from densevision.tasks.translation.training_modules import TrainingModules

__all__ = ["TASK", "Translation"]

PREDICTION = "prediction"
"""Key of the targets under which the prediction of a step is kept for the discriminator."""


class Translation(ImageTask[TranslationConfig]):
    """Predicts what an image would look like if it were of another kind."""

    name = "translation"
    Config = TranslationConfig
    models = MODELS
    tta_transforms = frozenset({"flip"})

    @property
    def monitor(self) -> tuple[str, str]:
        """The metric that the config selects."""
        name = self.config.quality.monitor
        return name, "max" if name in ("PSNR", "SSIM") else "min"

    @property
    def best_possible_value(self) -> float:
        """0 for L1 and FD."""
        return {"PSNR": float("inf"), "SSIM": 1.0}.get(self.config.quality.monitor, 0.0)

    @property
    def supported_options(self) -> frozenset[str]:
        """Tiles only where images keep their size."""
        return frozenset({"tta"} if self.config.inference.resize else {"tile", "overlap", "tta"})

    @property
    def max_untiled_pixels(self) -> int:  # type: ignore[override]
        """Unlimited where images are resized first."""
        return sys.maxsize if self.config.inference.resize else Task.max_untiled_pixels

    def model_arguments(self) -> dict[str, Any]:
        """Channels, norms, sizes, behavior in evaluation, and the L1 loss."""
        config = self.config
        return {
            "out_channels": config.out_channels,
            "norm": config.norm,
            "image_size": config.data.size,
            "resize": config.inference.resize,
            "use_batch_stats": config.inference.use_batch_stats,
            "noise_seed": config.noise_seed,
            "criterion": L1Criterion(config.loss.l1),
        }

    @property
    def loss_config(self) -> LossConfig:
        """The config's losses."""
        return self.config.loss

    def build_training_modules(self) -> TrainingModules | None:
        """Discriminators and perceptual network, where their losses have a weight."""
        return TrainingModules(self.config) if self.config.loss.has_training_modules else None

    @classmethod
    def infer_from_data(cls, config: TranslationConfig) -> TranslationConfig:
        """Records the depth of the network, and holds out a tenth of the pairs where there is no validation split.

        Raises:
            UsageError: A batch has too few values for the network's batch norms.
        """
        model = cast(TranslationModel, cls(config).meta_model)
        if config.train.batch in (1, "auto"):
            model.check_batch_size(1)
        depth = getattr(model, "depth", None)
        if depth is not None:
            config = config.replace(model={**config.model, "depth": depth})
        return data.infer_splits(config)

    def open_dataset(self, split: str) -> SampleSet:
        """The pairs of a split."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A pair, resized, cropped and perhaps flipped."""
        return cast(data.PairSet, dataset).crop(index, rng)

    def remove_labels(self, sample: Sample) -> Sample:
        """The sample with a target of unknown pixels."""
        unknown = np.full((*sample.size, self.config.out_channels), np.nan, np.float32)
        return replace(sample, truth=Image.from_source(unknown))

    def collate_targets(self, target_records: Sequence[Image | None]) -> Tensors:
        """ "image" and "known", see `stack_image_targets`."""
        return stack_image_targets(target_records, self.config.out_channels)

    def compute_model_losses(self, model: Model, batch: Batch, training_modules: nn.Module | None) -> Tensors:
        """L1, adversarial and feature losses.

        The generator's prediction is kept in the batch, so that the discriminator's step needs no second forward pass.
        """
        image = model(**batch.inputs)["image"]
        batch.targets[PREDICTION] = image.detach()
        losses = model.loss({"image": image}, batch.targets)
        modules = cast("TrainingModules | None", training_modules)
        return losses if modules is None else losses | self._compute_feature_losses(modules, batch, image)

    def compute_discriminator_loss(self, model: Model, batch: Batch, training_modules: nn.Module | None) -> Tensor:
        """The loss of the discriminators on the kept prediction, or a new one, and on targets."""
        prediction = batch.targets.get(PREDICTION)
        if prediction is None:
            with torch.no_grad():
                prediction = model(**batch.inputs)["image"]
        modules = cast(TrainingModules, training_modules)
        assert modules.discriminator is not None
        fake, real = fill_unknown_pixels(prediction.detach(), batch.targets)
        image = batch.inputs["image"]
        fake_input = modules.build_discriminator_input(image, fake)
        if modules.image_pool is not None:
            fake_input = modules.image_pool.exchange(fake_input)
        fake_features = modules.discriminator(fake_input)
        real_features = modules.discriminator(modules.build_discriminator_input(image, real))
        return average_discriminator_loss(fake_features, real_features, self.config.loss.adversarial.kind)

    def _compute_feature_losses(self, modules: TrainingModules, batch: Batch, prediction: Tensor) -> Tensors:
        """Perceptual, adversarial and feature matching loss."""
        weights, losses, image = self.config.loss, {}, batch.inputs["image"]
        fake, real = fill_unknown_pixels(prediction, batch.targets)
        if modules.perceptual is not None:
            losses["perceptual"] = weights.perceptual.weight * modules.perceptual(fake, real)
        if modules.discriminator is not None:
            features = modules.discriminator(modules.build_discriminator_input(image, fake))
            loss = average_generator_loss(features, weights.adversarial.kind)
            losses["adversarial"] = weights.adversarial.weight * loss
            if weights.feature_matching:
                with torch.no_grad():
                    real_features = modules.discriminator(modules.build_discriminator_input(image, real))
                losses["features"] = weights.feature_matching * feature_matching_loss(features, real_features)
        return losses

    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[Image]:
        """Images in [0, 1]."""
        return postprocess.to_results(predictions, views)

    def restore_metadata(self, result: Image, sample: Sample, corner: Size = (0, 0)) -> Image:
        """The number type and alpha of the input image."""
        return postprocess.restore_metadata(result, sample, corner)

    def build_metric(self) -> TranslationMetric:
        """L1, PSNR and SSIM, and the Frechet distance if the config enables it."""
        quality = self.config.quality
        if not quality.frechet:
            return TranslationMetric()
        extract_features = _build_feature_extractor(quality.features.model_dump_json())
        return TranslationMetric(extract_features, f"{quality.features.name}, {quality.features.pretrained}")


@lru_cache(maxsize=2)
def _build_feature_extractor(config: str) -> ExtractFeatures:
    """A function to the spatial mean of the deepest features of a timm model, which is built once."""
    options = BackboneConfig.model_validate_json(config)
    backbone = Backbone(options.name, options.channels, **options.to_options()).eval()

    def extract_features(image: np.ndarray) -> np.ndarray:
        """(H, W, C) float32 in [0, 1] to (D,) float64."""
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            return backbone(planes)[-1].mean((0, 2, 3)).double().numpy()

    return extract_features


TASK = Translation
