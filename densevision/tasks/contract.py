"""The contract between a task and the rest of the house: Net and Task. Read this first.

    Sample -> to_inputs -> Net -> outputs -> Task.answers -> answers -> Task.results -> [Result]
    (dataset)  (View)                        (tensors, exportable)       (original pixels, real units)

Five laws:
1. `Net.forward` never changes its return type between training and evaluation.
2. Truth and answer are the same frozen record.
3. Answers live in the pixels of the original picture and in real units.
4. Evaluation runs the very path that prediction runs, then the metric.
5. Identity lives in the card of the weights file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np
from torch import Tensor, nn

from densevision.errors import UsageError
from densevision.metrics.pictures import Pictures
from densevision.ops.fields import to_original
from densevision.ops.view import View
from densevision.recipe import PredictOptions, TaskConfig
from densevision.results import Result
from densevision.sample import Batch, InputSpec, Sample, SampleSet

R = TypeVar("R", bound=Result)
C = TypeVar("C", bound=TaskConfig)
Tensors = dict[str, Tensor]


class Metric(Protocol):
    """Numbers of one evaluation. Order of updates and of merges never changes them."""

    protocol: dict[str, Any]

    def update(self, result: Result, truth: Result, id: int | str) -> None:
        """Takes the answer and the truth of one picture."""

    def merge(self, other: Any) -> None:
        """Takes what another process gathered."""

    def counts(self) -> dict[str, int]:
        """How many truths, predictions and the like the numbers rest on."""

    def compute(self) -> dict[str, float]:
        """The headline numbers by name; NaN where nothing defines them."""

    def by_picture(self) -> Pictures:
        """What was kept of each picture, so that the numbers follow for any choice of them; see `metrics.pictures`.

        Numbers that no choice of pictures defines, such as distances between sets, may be left out.
        """

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """Numbers below the headline: table name -> row name -> column -> number, e.g. per class."""

    def plots(self, folder: Path) -> None:
        """Draws what the numbers hide (curves, confusion) as PNG files."""


class Net(nn.Module):
    """encoder -> features -> head -> dict of tensors.

    Every input of kind `image` passes through the encoder; the head is called with the features (or the plain
    tensor, for other kinds) under the input's name.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, specs: dict[str, InputSpec]):
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.pictures = tuple(name for name, spec in specs.items() if spec.kind == "image")

    def features(self, **inputs: Tensor) -> dict[str, Any]:
        """Name -> list of levels (level 0 is the picture itself), or the tensor where it is no picture."""
        return {name: self.encoder(x) if name in self.pictures else x for name, x in inputs.items()}

    def forward(self, **inputs: Tensor) -> Tensors:
        """(B, C, H, W) float RGB pictures in [0, 1] to a dict of tensors, in training and evaluation alike."""
        return self.head(**self.features(**inputs))


class Task(ABC, Generic[C, R]):
    """One kind of question about a picture. `Task(config)` only stores its config."""

    name: ClassVar[str]
    Config: ClassVar[type[TaskConfig]]
    Result: ClassVar[type[Result]]
    watch: ClassVar[tuple[str, str]]
    """The metric that picks the best weights, and whether it should be "max" or "min"."""
    perfect: ClassVar[float] = 1.0
    """Value of the watched metric when the answer is the truth."""
    heeds: ClassVar[frozenset[str]] = frozenset()
    """Options of `predict` that this task heeds besides device, precision, batch and max_pixels."""
    looks: ClassVar[frozenset[str]] = frozenset({"flip", "scale"})
    """The kinds of test-time augmentation that make sense here, where `tta` is heeded."""
    tiling: ClassVar[Literal["objects", "pixels"]] = "objects"
    """How tiles and looks become one answer: "objects" are records that `merge` joins; "pixels" are averaged as fields.

    With "pixels", `answers` gives (B, C, h, w) floats whose weighted mean makes sense, `fields` brings them to the
    picture's pixels, `results` makes records of rectangles of them, and the record names its arrays in `rows`.
    """
    largest: ClassVar[int] = 4096 * 4096
    """With "pixels": pictures of more pixels are answered in windows even when no `tile` is asked for."""
    window: ClassVar[int] = 1024
    """Side of those windows."""

    def __init__(self, config: C):
        self.config = config

    # -- network ---------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def inputs(self) -> dict[str, InputSpec]:
        """The named inputs of the network with their size rules."""

    @property
    def witnesses(self) -> dict[str, InputSpec]:
        """Pictures of a training sample that the losses see and the network does not: stacked into the targets."""
        return {}

    def encoder(self) -> nn.Module:
        """Builds the timm pyramid that the config names; has `channels` and `strides`, level 0 the picture."""
        from densevision.nn.backbone import Backbone

        return Backbone(self.config.backbone)

    @abstractmethod
    def head(self, channels: Sequence[int], strides: Sequence[int]) -> nn.Module:
        """Builds the module from features (one argument per input, by name) to a dict of tensors."""

    def critic(self) -> nn.Module | None:
        """Builds what exists only for training: discriminators, perceptual networks."""
        return None

    @property
    def phases(self) -> tuple[str, ...]:
        """Optimisation phases of a step; the phase "net" trains the network, any other the critic."""
        return ("net",)

    @property
    def alone(self) -> int:
        """First epochs in which the network learns alone: only phase "net" runs, and it sees no critic."""
        return 0

    @property
    def reach(self) -> int | None:
        """How far around it, in pixels of the picture, a pixel of the answer looks; None where nobody can say.

        Tiles whose overlap covers twice this are joined without a trace.
        """
        return None

    def net(self) -> Net:
        """Builds the whole network."""
        encoder = self.encoder()
        return Net(encoder, self.head(encoder.channels, encoder.strides), self.inputs)

    # -- data --------------------------------------------------------------------------------------------------------

    @classmethod
    def complete(cls, config: C) -> C:
        """Fills what only the data can tell, such as class names. The card carries the completed config."""
        return config

    @abstractmethod
    def dataset(self, split: str) -> SampleSet:
        """The samples of "train" or "val" as they are on disk."""

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A training sample on a canvas of the network's size; all its chance comes from `rng`."""
        return dataset[index]

    @abstractmethod
    def without_truth(self, sample: Sample) -> Sample:
        """The sample with a truth that says nothing: no objects, or every pixel unknown."""

    @abstractmethod
    def targets(self, truths: Sequence[R]) -> Tensors:
        """Truths on the network's canvas as stacked tensors for the losses."""

    # -- learning ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def losses(self, net: Net, batch: Batch, critic: nn.Module | None, phase: str) -> Tensors:
        """Named losses of one phase, already weighted; their sum is minimised.

        May call named parts of its own head. Finite for batches without any truth.
        """

    # -- answers -----------------------------------------------------------------------------------------------------

    @property
    def guided(self) -> bool:
        """With "pixels": answers float from tile to tile, so `align` fits each to an answer to the whole picture."""
        return False

    def steering(self, options: PredictOptions) -> dict[str, Any]:
        """Further arguments of the head that the options ask for, such as a number of iterations."""
        return {}

    def continued(self, previous: R, view: View) -> Tensors:
        """Further inputs of the head by which the answer to a picture of a sequence helps the next one.

        Args:
            previous: The answer, in original pixels.
            view: How the network sees the next picture.
        """
        return {}

    @property
    def decodes(self) -> bool:
        """Whether `answers` does anything, so that an export may stop before it."""
        return type(self).answers is not Task.answers

    def answers(self, outputs: Tensors, options: PredictOptions) -> Tensors:
        """The part of decoding that is tensor arithmetic, so that an export can hold it too."""
        return outputs

    @abstractmethod
    def results(self, answers: Tensors, views: Sequence[View], options: PredictOptions) -> list[R]:
        """Records in original pixels and real units, one per view."""

    def decode(self, outputs: Tensors, views: Sequence[View], options: PredictOptions | None = None) -> list[R]:
        """Network outputs to records: `answers`, then `results`."""
        options = options or PredictOptions()
        return self.results(self.answers(outputs, options), views, options)

    @abstractmethod
    def encode(self, truths: Sequence[R]) -> Tensors:
        """The outputs of a perfect network for truths on its canvas: the inverse of `decode`."""

    def finish(self, result: R, sample: Sample, corner: tuple[int, int] = (0, 0)) -> R:
        """Gives an answer what the network never saw of its picture, such as the type of its numbers or its alpha.

        Args:
            result: In original pixels; with "pixels" perhaps a rectangle of the answer.
            sample: The whole picture that was asked about.
            corner: Where in it the rectangle begins, (row, column).
        """
        return result

    def answer_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the answer to a picture of this size; its own, unless the answer is scaled."""
        return size

    def merge(self, results: Sequence[R], options: PredictOptions) -> R:
        """Objects: one answer from several about the same picture, such as tiles, mirrored or scaled views.

        All are already in the pixels of the whole picture.
        """
        raise UsageError(f"{self.name} has no merging of answers", mend="Leave out tile and tta.")

    def fields(self, answers: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """Pixels: the answers to one picture on its own pixels, ready to be averaged with those of other looks.

        Override where numbers depend on size or direction: motion is divided by the view's scale, and its x changes
        sign in a mirror; enlarged answers stay enlarged.

        Args:
            answers: (1, C, h, w) on the canvas.
            view: How the network saw the picture; where a look is scaled, its scale is included.
            mirrored: Left and right were exchanged before the view.

        Returns:
            (1, C, H, W) floats, H and W as in `answer_size`.
        """
        fields = {name: to_original(answer, view) for name, answer in answers.items()}
        return {name: field.flip(-1) for name, field in fields.items()} if mirrored else fields

    def align(self, fields: Tensors, guide: Tensors) -> Tensors:
        """Pixels, `guided`: the fields of a tile, fitted to what the answer to the whole picture says there."""
        return fields

    # -- judgement ---------------------------------------------------------------------------------------------------

    def evaluation_options(self) -> PredictOptions:
        """How to predict when the numbers are wanted, where that differs from when the picture is."""
        return PredictOptions()

    @abstractmethod
    def metric(self) -> Metric:
        """A fresh accumulator of this task's numbers."""

    def draw(self, image: np.ndarray, result: R) -> np.ndarray:
        """The picture a person wants to see: (H, W, 3) uint8 RGB."""
        return result.draw(image)
