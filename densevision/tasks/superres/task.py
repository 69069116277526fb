"""Superres: images made larger, or better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from densevision.datasets.image_targets import stack_images, where_known
from densevision.errors import UsageError
from densevision.metrics.image_quality import quality_names
from densevision.nn.adversarial import discriminator_loss, generator_loss
from densevision.nn.backbone import Backbone, ImageOnly
from densevision.ops.fields import to_original
from densevision.ops.view import Size, View
from densevision.results import Image
from densevision.run_config import PredictOptions
from densevision.sample import Batch, InputSpec, Sample
from densevision.tasks.base import DenseModel, SampleSet, Task, Tensors
from densevision.tasks.superres import dataset as data
from densevision.tasks.superres import postprocess as decode
from densevision.tasks.superres.config import INTERPOLATIONS, SuperresConfig
from densevision.tasks.superres.losses import pixel_losses
from densevision.tasks.superres.metrics import SuperresMetric
from densevision.tasks.superres.models.superres_head import ImageHead, build_head, cell
from densevision.tasks.superres.training_modules import TrainingModules


class Superres(Task[SuperresConfig, Image]):
    """What the image would look like with more pixels, or without its flaws."""

    name = "superres"
    Config = SuperresConfig
    Result = Image
    best_possible_value = float("inf")
    supported_options = frozenset({"tile", "overlap", "tta"})
    tta_transforms = frozenset({"flip", "rotate"})
    merge_strategy = "pixels"
    largest = 1024 * 1024
    window = 384

    @property
    def monitor(self) -> tuple[str, str]:
        """PSNR, under the name that tells its protocol."""
        return quality_names(self.config.quality.color, self.config.crop)[0], "max"

    @property
    def optimizer_names(self) -> tuple[str, ...]:
        """The network alone, or a discriminator after it."""
        return ("net", "discriminator") if self.config.loss.adversarial.weight else ("net",)

    @property
    def generator_warmup_epochs(self) -> int:
        """Epochs before the perceptual and adversarial losses join."""
        return self.config.loss.generator_warmup_epochs

    @property
    def receptive_field_radius(self) -> int | None:
        """Of the network; None on a timm encoder."""
        if self.config.arch in ("unet", "community"):
            return None
        with torch.device("meta"):
            return build_head(self.config, [self.config.backbone.channels]).receptive_field_radius

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """One image as it is, continued to the multiple that networks need which fold or halve it."""
        return {"image": InputSpec(self.config.backbone.channels, multiple_of=cell(self.config), fill="edge")}

    def encoder(self) -> nn.Module:
        """The timm pyramid of a U-Net; the others see the image alone."""
        if self.config.arch == "unet":
            return Backbone(self.config.backbone)
        return ImageOnly(self.config.backbone.channels)

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> ImageHead:
        """The network of the config's architecture."""
        return build_head(self.config, channels)

    def training_modules(self) -> TrainingModules | None:
        """Discriminator and perceptual network, where their losses have a weight."""
        loss = self.config.loss
        needs_global_alignment = loss.adversarial.weight or loss.perceptual.weight
        return TrainingModules(loss, self.config.backbone.channels) if needs_global_alignment else None

    @classmethod
    def infer_from_data(cls, config: SuperresConfig) -> SuperresConfig:
        """Holds out a tenth of the images, where the data has no validation split.

        Raises:
            UsageError: The architecture has nothing to learn, or cannot.
        """
        if config.arch in INTERPOLATIONS:
            raise UsageError("interpolation has nothing to learn", field="arch", value=config.arch)
        if config.arch == "community":
            problem = "is of files that are answered as they are, and cannot be trained"
            raise UsageError(problem, field="arch", value=config.arch, hint="Take another arch.")
        return data.completed(config)

    def dataset(self, split: str) -> SampleSet:
        """The images of a split with what they should become."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A random crop, perhaps mirrored and turned; degraded anew each time where chance degrades."""
        return dataset.crop(index, rng)

    def unlabeled(self, sample: Sample) -> Sample:
        """The sample with a target of which no pixel is known."""
        height, width = self.output_size(sample.size)
        nothing = np.full((height, width, self.config.backbone.channels), np.nan, np.float32)
        return replace(sample, truth=Image.of(nothing, self.config.scale))

    def targets(self, ground_truths: Sequence[Image | None]) -> Tensors:
        """Images with what is known of them; see `stack_images`."""
        return stack_images(ground_truths, self.config.backbone.channels, self.config.scale)

    def losses(self, net: DenseModel, batch: Batch, training_modules: nn.Module | None, optimizer_name: str) -> Tensors:
        """Differences of pixels; of features and of belief, where there is a critic; or the discriminator's own."""
        loss = self.config.loss
        if optimizer_name != "net":
            with torch.no_grad():
                fake, real = where_known(net(**batch.inputs)["image"], batch.targets)
            judge = training_modules.discriminator
            return {"discriminator": discriminator_loss(judge(fake), judge(real), loss.adversarial.kind)}
        answer = net(**batch.inputs)["image"]
        losses = pixel_losses(answer, batch.targets, loss)
        if training_modules is not None:
            losses |= self._guided(training_modules, *where_known(answer, batch.targets))
        return losses

    def _guided(self, training_modules: TrainingModules, fake: Tensor, real: Tensor) -> Tensors:
        loss, losses = self.config.loss, {}
        if training_modules.perceptual is not None:
            losses["perceptual"] = loss.perceptual.weight * training_modules.perceptual(fake, real)
        if training_modules.discriminator is not None:
            judge, kind = training_modules.discriminator, loss.adversarial.kind
            generator_loss_of = generator_loss(judge(fake), judge(real) if kind == "relativistic" else None, kind)
            losses["adversarial"] = loss.adversarial.weight * generator_loss_of
        return losses

    def fields(self, answers: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """The answer at its own size, which is `scale` times the image's."""
        image = to_original(answers["image"], view, self.config.scale)
        return {"image": image.flip(-1) if mirrored else image}

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[Image]:
        """Images in [0, 1]."""
        return decode.results(answers, views, self.config.scale)

    def finish(self, result: Image, sample: Sample, corner: Size = (0, 0)) -> Image:
        """The number type, gray and alpha of the image that was asked about."""
        return decode.in_kind(result, sample, corner)

    def encode(self, ground_truths: Sequence[Image]) -> Tensors:
        """The images themselves."""
        return decode.encode(ground_truths)

    def output_size(self, size: Size) -> Size:
        """`scale` times the image's."""
        return size[0] * self.config.scale, size[1] * self.config.scale

    def metric(self) -> SuperresMetric:
        """PSNR and SSIM under the config's protocol, and LPIPS where its weights are given."""
        return SuperresMetric(self.config.quality, self.config.crop)


TASK = Superres
