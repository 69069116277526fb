"""Superres: pictures made larger, or better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from densevision.data.picture_targets import stack_pictures, where_known
from densevision.errors import UsageError
from densevision.metrics.picture import quality_names
from densevision.nn.adversarial import discriminator_loss, generator_loss
from densevision.nn.backbone import Backbone, ImageOnly
from densevision.ops.fields import to_original
from densevision.ops.view import Size, View
from densevision.recipe import PredictOptions
from densevision.results import Picture
from densevision.sample import Batch, InputSpec, Sample
from densevision.tasks.contract import Net, SampleSet, Task, Tensors
from densevision.tasks.superres import data, decode
from densevision.tasks.superres.config import INTERPOLATIONS, SuperresConfig
from densevision.tasks.superres.critic import Critic
from densevision.tasks.superres.head import PictureHead, build_head, cell
from densevision.tasks.superres.loss import pixel_losses
from densevision.tasks.superres.metric import SuperresMetric


class Superres(Task[SuperresConfig, Picture]):
    """What the picture would look like with more pixels, or without its flaws."""

    name = "superres"
    Config = SuperresConfig
    Result = Picture
    perfect = float("inf")
    heeds = frozenset({"tile", "overlap", "tta"})
    looks = frozenset({"flip", "rotate"})
    tiling = "pixels"
    largest = 1024 * 1024
    window = 384

    @property
    def watch(self) -> tuple[str, str]:
        """PSNR, under the name that tells its protocol."""
        return quality_names(self.config.quality.colour, self.config.crop)[0], "max"

    @property
    def phases(self) -> tuple[str, ...]:
        """The network alone, or a discriminator after it."""
        return ("net", "discriminator") if self.config.loss.adversarial.weight else ("net",)

    @property
    def alone(self) -> int:
        """Epochs before the perceptual and adversarial losses join."""
        return self.config.loss.alone

    @property
    def reach(self) -> int | None:
        """Of the network; None on a timm encoder."""
        if self.config.arch in ("unet", "community"):
            return None
        with torch.device("meta"):
            return build_head(self.config, [self.config.backbone.channels]).reach

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """One picture as it is, continued to the multiple that networks need which fold or halve it."""
        return {"image": InputSpec(self.config.backbone.channels, multiple_of=cell(self.config), fill="edge")}

    def encoder(self) -> nn.Module:
        """The timm pyramid of a U-Net; the others see the picture alone."""
        if self.config.arch == "unet":
            return Backbone(self.config.backbone)
        return ImageOnly(self.config.backbone.channels)

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> PictureHead:
        """The network of the config's architecture."""
        return build_head(self.config, channels)

    def critic(self) -> Critic | None:
        """Discriminator and perceptual network, where their losses have a weight."""
        loss = self.config.loss
        guided = loss.adversarial.weight or loss.perceptual.weight
        return Critic(loss, self.config.backbone.channels) if guided else None

    @classmethod
    def complete(cls, config: SuperresConfig) -> SuperresConfig:
        """Holds out a tenth of the pictures, where the data has no validation split.

        Raises:
            UsageError: The architecture has nothing to learn, or cannot.
        """
        if config.arch in INTERPOLATIONS:
            raise UsageError("interpolation has nothing to learn", field="arch", value=config.arch)
        if config.arch == "community":
            problem = "is of files that are answered as they are, and cannot be trained"
            raise UsageError(problem, field="arch", value=config.arch, mend="Take another arch.")
        return data.completed(config)

    def dataset(self, split: str) -> SampleSet:
        """The pictures of a split with what they should become."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A random crop, perhaps mirrored and turned; degraded anew each time where chance degrades."""
        return dataset.crop(index, rng)

    def without_truth(self, sample: Sample) -> Sample:
        """The sample with a target of which no pixel is known."""
        height, width = self.answer_size(sample.size)
        nothing = np.full((height, width, self.config.backbone.channels), np.nan, np.float32)
        return replace(sample, truth=Picture.of(nothing, self.config.scale))

    def targets(self, truths: Sequence[Picture | None]) -> Tensors:
        """Pictures with what is known of them; see `stack_pictures`."""
        return stack_pictures(truths, self.config.backbone.channels, self.config.scale)

    def losses(self, net: Net, batch: Batch, critic: nn.Module | None, phase: str) -> Tensors:
        """Differences of pixels; of features and of belief, where there is a critic; or the discriminator's own."""
        loss = self.config.loss
        if phase != "net":
            with torch.no_grad():
                fake, real = where_known(net(**batch.inputs)["image"], batch.targets)
            judge = critic.discriminator
            return {"discriminator": discriminator_loss(judge(fake), judge(real), loss.adversarial.kind)}
        answer = net(**batch.inputs)["image"]
        losses = pixel_losses(answer, batch.targets, loss)
        if critic is not None:
            losses |= self._guided(critic, *where_known(answer, batch.targets))
        return losses

    def _guided(self, critic: Critic, fake: Tensor, real: Tensor) -> Tensors:
        loss, losses = self.config.loss, {}
        if critic.perceptual is not None:
            losses["perceptual"] = loss.perceptual.weight * critic.perceptual(fake, real)
        if critic.discriminator is not None:
            judge, kind = critic.discriminator, loss.adversarial.kind
            believed = generator_loss(judge(fake), judge(real) if kind == "relativistic" else None, kind)
            losses["adversarial"] = loss.adversarial.weight * believed
        return losses

    def fields(self, answers: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """The answer at its own size, which is `scale` times the picture's."""
        image = to_original(answers["image"], view, self.config.scale)
        return {"image": image.flip(-1) if mirrored else image}

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[Picture]:
        """Pictures in [0, 1]."""
        return decode.results(answers, views, self.config.scale)

    def finish(self, result: Picture, sample: Sample, corner: Size = (0, 0)) -> Picture:
        """The number type, grey and alpha of the picture that was asked about."""
        return decode.in_kind(result, sample, corner)

    def encode(self, truths: Sequence[Picture]) -> Tensors:
        """The pictures themselves."""
        return decode.encode(truths)

    def answer_size(self, size: Size) -> Size:
        """`scale` times the picture's."""
        return size[0] * self.config.scale, size[1] * self.config.scale

    def metric(self) -> SuperresMetric:
        """PSNR and SSIM under the config's protocol, and LPIPS where its weights are given."""
        return SuperresMetric(self.config.quality, self.config.crop)


TASK = Superres
