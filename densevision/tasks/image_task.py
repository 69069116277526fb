"""The base of the tasks whose results are images: a model that may be trained against a discriminator."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, TypeVar

from torch import Tensor, nn

from densevision.nn.model import Model, Tensors
from densevision.results.image import Image
from densevision.run_config import TaskConfig
from densevision.sample import Batch
from densevision.tasks.base import Task

__all__ = ["ImageTask"]

C = TypeVar("C", bound=TaskConfig)


class WeightedLoss(Protocol):
    """A loss with a weight."""

    @property
    def weight(self) -> float:
        """0 where the loss is not computed."""


class ImageLossConfig(Protocol):
    """The losses of a model and of its discriminator."""

    @property
    def adversarial(self) -> WeightedLoss:
        """The loss against the discriminator."""

    @property
    def generator_warmup_epochs(self) -> int:
        """First epochs with pixel losses only."""


class ImageTask(Task[C, Image]):
    """A task whose results are images."""

    Result = Image
    merge_strategy = "blend"

    @property
    @abstractmethod
    def loss_config(self) -> ImageLossConfig:
        """The config's losses."""

    @property
    def optimizer_names(self) -> tuple[str, ...]:
        """The model, and a discriminator after it where the adversarial loss has a weight."""
        return ("net", "discriminator") if self.loss_config.adversarial.weight else ("net",)

    @property
    def generator_warmup_epochs(self) -> int:
        """First epochs with pixel losses only."""
        return self.loss_config.generator_warmup_epochs

    def compute_losses(
        self, model: Model, batch: Batch, training_modules: nn.Module | None, optimizer_name: str
    ) -> Tensors:
        """The losses of the model, or the discriminator's loss."""
        if optimizer_name == "net":
            return self.compute_model_losses(model, batch, training_modules)
        return {"discriminator": self.compute_discriminator_loss(model, batch, training_modules)}

    @abstractmethod
    def compute_model_losses(self, model: Model, batch: Batch, training_modules: nn.Module | None) -> Tensors:
        """Computes pixel losses, and those of the training modules."""

    @abstractmethod
    def compute_discriminator_loss(self, model: Model, batch: Batch, training_modules: nn.Module | None) -> Tensor:
        """Computes the loss of the discriminator on predictions without gradient and on targets."""
