"""Translation: an image of one kind as an image of another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from densevision.datasets.image_targets import stack_images, where_known
from densevision.errors import UsageError
from densevision.nn.backbone import Backbone, ImageOnly
from densevision.ops.view import Size, View
from densevision.results import Image
from densevision.run_config import BackboneConfig, PredictOptions
from densevision.sample import Batch, InputSpec, Sample
from densevision.tasks.base import DenseModel, SampleSet, Task, Tensors
from densevision.tasks.translation import dataset as data
from densevision.tasks.translation import losses as loss
from densevision.tasks.translation import postprocess as decode
from densevision.tasks.translation.config import TranslationConfig
from densevision.tasks.translation.metrics import Features, TranslationMetric
from densevision.tasks.translation.models.translation_head import TranslationHead, build_head
from densevision.tasks.translation.training_modules import TrainingModules

LONGEST = 4
"""Longest side of an image that is brought to `data.size`, in those sizes."""
ANSWER = "answer"
"""The target under which the answer of a step is kept for the discriminator."""


class Translation(Task[TranslationConfig, Image]):
    """What the image would look like if it were of the other kind."""

    name = "translation"
    Config = TranslationConfig
    Result = Image
    tta_transforms = frozenset({"flip"})
    merge_strategy = "pixels"

    @property
    def monitor(self) -> tuple[str, str]:
        """The number that the config names."""
        name = self.config.quality.monitor
        return name, "max" if name in ("PSNR", "SSIM") else "min"

    @property
    def best_possible_value(self) -> float:
        """Of L1 and FD it is 0."""
        return {"PSNR": float("inf"), "SSIM": 1.0}.get(self.config.quality.monitor, 0.0)

    @property
    def supported_options(self) -> frozenset[str]:
        """Tiles only of images that are answered at their own size."""
        return frozenset({"tta"} if self.config.inference.resize else {"tile", "overlap", "tta"})

    @property
    def largest(self) -> int:
        """Images that are made smaller first are never too large."""
        return sys.maxsize if self.config.inference.resize else Task.largest

    @property
    def optimizer_names(self) -> tuple[str, ...]:
        """The network alone, or a discriminator after it."""
        return ("net", "discriminator") if self.config.loss.adversarial.weight else ("net",)

    @property
    def generator_warmup_epochs(self) -> int:
        """Epochs before the adversarial and perceptual losses join."""
        return self.config.loss.generator_warmup_epochs

    @property
    def inputs(self) -> dict[str, InputSpec]:
        """One image, at the size of training or at its own, continued to sides that can be halved often enough."""
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
        """The timm pyramid of a U-Net on it; the other generators see the image alone."""
        if self.config.arch == "timm":
            return Backbone(self.config.backbone)
        return ImageOnly(self.config.backbone.channels)

    def head(self, channels: Sequence[int], strides: Sequence[int]) -> TranslationHead:
        """The generator of the config's architecture."""
        return build_head(self.config, channels)

    def training_modules(self) -> TrainingModules | None:
        """Discriminators and perceptual network, where their losses have a weight."""
        weights = self.config.loss
        return TrainingModules(self.config) if weights.adversarial.weight or weights.perceptual.weight else None

    @classmethod
    def infer_from_data(cls, config: TranslationConfig) -> TranslationConfig:
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

    def unlabeled(self, sample: Sample) -> Sample:
        """The sample with a target of which no pixel is known."""
        nothing = np.full((*sample.size, self.config.channels), np.nan, np.float32)
        return replace(sample, truth=Image.of(nothing))

    def targets(self, ground_truths: Sequence[Image | None]) -> Tensors:
        """Images with what is known of them; see `stack_images`."""
        return stack_images(ground_truths, self.config.channels)

    def losses(self, net: DenseModel, batch: Batch, training_modules: nn.Module | None, optimizer_name: str) -> Tensors:
        """Differences of pixels; belief and features, where there is a critic; or the discriminator's own.

        The answer of phase "net" is kept in the batch, so that the discriminator judges the very same images and the
        network need not answer twice.
        """
        if optimizer_name != "net":
            answer = batch.targets.get(ANSWER)
            if answer is None:
                with torch.no_grad():
                    answer = net(**batch.inputs)["image"]
            return {"discriminator": self._told_apart(training_modules, batch, answer)}
        answer = net(**batch.inputs)["image"]
        batch.targets[ANSWER] = answer.detach()
        weights = self.config.loss
        losses = {"l1": weights.l1 * loss.l1(answer, batch.targets)} if weights.l1 or training_modules is None else {}
        return losses if training_modules is None else losses | self._guided(training_modules, batch, answer)

    def _told_apart(self, training_modules: TrainingModules, batch: Batch, answer: Tensor) -> Tensor:
        fake, real = where_known(answer.detach(), batch.targets)
        question = batch.inputs["image"]
        shown = training_modules.shown(question, fake)
        if training_modules.buffer is not None:
            shown = training_modules.buffer.exchange(shown)
        judge = training_modules.discriminator
        return loss.discriminator_loss_of(
            judge(shown), judge(training_modules.shown(question, real)), self.config.loss.adversarial.kind
        )

    def _guided(self, training_modules: TrainingModules, batch: Batch, answer: Tensor) -> Tensors:
        weights, losses, question = self.config.loss, {}, batch.inputs["image"]
        fake, real = where_known(answer, batch.targets)
        if training_modules.perceptual is not None:
            losses["perceptual"] = weights.perceptual.weight * training_modules.perceptual(fake, real)
        if training_modules.discriminator is not None:
            judged = training_modules.discriminator(training_modules.shown(question, fake))
            losses["adversarial"] = weights.adversarial.weight * loss.generator_loss_of(
                judged, weights.adversarial.kind
            )
            if weights.feature_matching:
                with torch.no_grad():
                    wanted = training_modules.discriminator(training_modules.shown(question, real))
                losses["features"] = weights.feature_matching * loss.feature_distance(judged, wanted)
        return losses

    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[Image]:
        """Images in [0, 1]."""
        return decode.results(answers, views)

    def finish(self, result: Image, sample: Sample, corner: Size = (0, 0)) -> Image:
        """The number type and alpha of the image that was asked about."""
        return decode.in_kind(result, sample, corner)

    def encode(self, ground_truths: Sequence[Image]) -> Tensors:
        """The images themselves."""
        return decode.encode(ground_truths)

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
        hint = f"Set data.size to more than {stride}, or train.batch to 2 or more."
        raise UsageError(problem, field="data.size", value=size, hint=hint)


@lru_cache(maxsize=2)
def _features(config: str) -> Features:
    """The mean over the image of the deepest features of a timm model, built once."""
    backbone = Backbone(BackboneConfig.model_validate_json(config)).eval()

    def features(image: np.ndarray) -> np.ndarray:
        """(H, W, C) float32 in [0, 1] to (D,) float64."""
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            return backbone(planes)[-1].mean((0, 2, 3)).double().numpy()

    return features


TASK = Translation
