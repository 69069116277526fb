"""Translation: a picture of one kind as a picture of another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from densevision.data.picture_targets import stack_pictures, where_known
from densevision.errors import UsageError
from densevision.nn.backbone import Backbone, ImageOnly
from densevision.ops.view import Size, View
from densevision.recipe import BackboneConfig, PredictOptions
from densevision.results import Picture
from densevision.sample import Batch, InputSpec, Sample
from densevision.tasks.contract import Net, SampleSet, Task, Tensors
from densevision.tasks.translation import data, decode, loss
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.critic import Critic
from densevision.tasks.translation.head import TranslationHead, build_head
from densevision.tasks.translation.metric import Features, TranslationMetric

LONGEST = 4
"""Longest side of a picture that is brought to `data.size`, in those sizes."""
ANSWER = "answer"
"""The target under which the answer of a step is kept for the discriminator."""


class Translation(Task[TranslationConfig, Picture]):
    """What the picture would look like if it were of the other kind."""

    name = "translation"
    Config = TranslationConfig
    Result = Picture
    looks = frozenset({"flip"})
    tiling = "pixels"

    @property
    def watch(self) -> tuple[str, str]:
        """The number that the config names."""
        name = self.config.quality.watch
        return name, "max" if name in ("PSNR", "SSIM") else "min"

    @property
    def perfect(self) -> float:
        """Of L1 and FD it is 0."""
        return {"PSNR": float("inf"), "SSIM": 1.0}.get(self.config.quality.watch, 0.0)

    @property
    def heeds(self) -> frozenset[str]:
        """Tiles only of pictures that are answered at their own size."""
        return frozenset({"tta"} if self.config.inference.resize else {"tile", "overlap", "tta"})

    @property
    def largest(self) -> int:
        """Pictures that are made smaller first are never too large."""
        return sys.maxsize if self.config.inference.resize else Task.largest

    @property
    def phases(self) -> tuple[str, ...]:
        """The network alone, or a discriminator after it."""
        return ("net", "discriminator") if self.config.loss.adversarial.weight else ("net",)

    @property
    def alone(self) -> int:
        """Epochs before the adversarial and perceptual losses join."""
        return self.config.loss.alone

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """One picture, at the size of training or at its own, continued to sides that can be halved often enough."""
        config = self.config
        multiple, least = config.multiple, max(config.multiple, 8)
        if not config.inference.resize:
            return {"image": InputSpec(config.backbone.channels, multiple_of=multiple, minimum=least, fill="edge")}
        side = config.data.size
        return {
            "image": InputSpec(
                config.backbone.channels,
                how="shortest",
                size=side,
                longest=LONGEST * side,
                multiple_of=multiple,
                minimum=least,
                fill="edge",
            )
        }

    def encoder(self) -> nn.Module:
        """The timm pyramid of a U-Net on it; the other generators see the picture alone."""
        if self.config.arch == "timm":
            return Backbone(self.config.backbone)
        return ImageOnly(self.config.backbone.channels)

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> TranslationHead:
        """The generator of the config's architecture."""
        return build_head(self.config, channels)

    def critic(self) -> Critic | None:
        """Discriminators and perceptual network, where their losses have a weight."""
        weights = self.config.loss
        return Critic(self.config) if weights.adversarial.weight or weights.perceptual.weight else None

    @classmethod
    def complete(cls, config: TranslationConfig) -> TranslationConfig:
        """Says how deep the network is, and holds out a tenth of the pairs where the data has no validation split.

        Raises:
            UsageError: A training sample is a single cell to the encoder's batch norms.
        """
        if config.arch == "timm" and config.train.batch in (1, "auto"):
            _check_cells(config)
        return data.completed(config)

    def dataset(self, split: str) -> SampleSet:
        """The pairs of a split."""
        return data.open_split(self.config, split)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A pair resized, cut, perhaps mirrored."""
        return dataset.crop(index, rng)

    def without_truth(self, sample: Sample) -> Sample:
        """The sample with a target of which no pixel is known."""
        nothing = np.full((*sample.size, self.config.channels), np.nan, np.float32)
        return replace(sample, truth=Picture.of(nothing))

    def targets(self, truths: Sequence[Picture | None]) -> Tensors:
        """Pictures with what is known of them; see `stack_pictures`."""
        return stack_pictures(truths, self.config.channels)

    def losses(self, net: Net, batch: Batch, critic: nn.Module | None, phase: str) -> Tensors:
        """Differences of pixels; belief and features, where there is a critic; or the discriminator's own.

        The answer of phase "net" is kept in the batch, so that the discriminator judges the very same pictures and the
        network need not answer twice.
        """
        if phase != "net":
            answer = batch.targets.get(ANSWER)
            if answer is None:
                with torch.no_grad():
                    answer = net(**batch.inputs)["image"]
            return {"discriminator": self._told_apart(critic, batch, answer)}
        answer = net(**batch.inputs)["image"]
        batch.targets[ANSWER] = answer.detach()
        weights = self.config.loss
        losses = {"l1": weights.l1 * loss.l1(answer, batch.targets)} if weights.l1 or critic is None else {}
        return losses if critic is None else losses | self._guided(critic, batch, answer)

    def _told_apart(self, critic: Critic, batch: Batch, answer: Tensor) -> Tensor:
        fake, real = where_known(answer.detach(), batch.targets)
        question = batch.inputs["image"]
        shown = critic.shown(question, fake)
        if critic.buffer is not None:
            shown = critic.buffer.exchange(shown)
        judge = critic.discriminator
        return loss.told_apart(judge(shown), judge(critic.shown(question, real)), self.config.loss.adversarial.kind)

    def _guided(self, critic: Critic, batch: Batch, answer: Tensor) -> Tensors:
        weights, losses, question = self.config.loss, {}, batch.inputs["image"]
        fake, real = where_known(answer, batch.targets)
        if critic.perceptual is not None:
            losses["perceptual"] = weights.perceptual.weight * critic.perceptual(fake, real)
        if critic.discriminator is not None:
            judged = critic.discriminator(critic.shown(question, fake))
            losses["adversarial"] = weights.adversarial.weight * loss.believed(judged, weights.adversarial.kind)
            if weights.feature_matching:
                with torch.no_grad():
                    wanted = critic.discriminator(critic.shown(question, real))
                losses["features"] = weights.feature_matching * loss.feature_distance(judged, wanted)
        return losses

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[Picture]:
        """Pictures in [0, 1]."""
        return decode.results(answers, views)

    def finish(self, result: Picture, sample: Sample, corner: Size = (0, 0)) -> Picture:
        """The number type and alpha of the picture that was asked about."""
        return decode.in_kind(result, sample, corner)

    def encode(self, truths: Sequence[Picture]) -> Tensors:
        """The pictures themselves."""
        return decode.encode(truths)

    def metric(self) -> TranslationMetric:
        """L1, PSNR and SSIM, and the Frechet distance if the config asks for it."""
        quality = self.config.quality
        if not quality.frechet:
            return TranslationMetric()
        features = _features(quality.features.model_dump_json())
        return TranslationMetric(features, f"{quality.features.name}, {quality.features.pretrained}")


def _check_cells(config: TranslationConfig) -> None:
    """Refuses batches of one sample that is a single cell at the deepest level: batch norms need two values."""
    with torch.device("meta"):
        encoder = Backbone(config.backbone.changed(pretrained=False))
    size, stride = config.data.size, encoder.strides[-1]
    if size <= stride and any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules()):
        problem = f"a sample is a single cell at the encoder's stride {stride}, and batch norms need two"
        mend = f"Set data.size to more than {stride}, or train.batch to 2 or more."
        raise UsageError(problem, field="data.size", value=size, mend=mend)


@lru_cache(maxsize=2)
def _features(config: str) -> Features:
    """The mean over the picture of the deepest features of a timm model, built once."""
    backbone = Backbone(BackboneConfig.model_validate_json(config)).eval()

    def features(picture: np.ndarray) -> np.ndarray:
        """(H, W, C) float32 in [0, 1] to (D,) float64."""
        planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            return backbone(planes)[-1].mean((0, 2, 3)).double().numpy()

    return features


TASK = Translation
