"""The contract between a task and the rest of the house: Net and Task. Read this first.

    Sample -> to_inputs -> Net -> outputs -> Task.answers -> answers -> Task.results -> [Result]
    (dataset)  (View)                        (tensors, exportable)       (original pixels, real units)

Five laws:
1. `DenseModel.forward` never changes its return type between training and evaluation.
2. Truth and answer are the same frozen record.
3. Answers live in the pixels of the original image and in real units.
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
from densevision.metrics.per_image import PerImageStats
from densevision.ops.fields import to_original
from densevision.ops.view import View
from densevision.results import Result
from densevision.run_config import PredictOptions, TaskConfig
from densevision.sample import Batch, InputSpec, Sample, SampleSet

R = TypeVar("R", bound=Result)
C = TypeVar("C", bound=TaskConfig)
Tensors = dict[str, Tensor]


class Metric(Protocol):
    """Numbers of one evaluation. Order of updates and of merges never changes them."""

    protocol: dict[str, Any]

    def update(self, result: Result, truth: Result, id: int | str) -> None:
        """Takes the answer and the truth of one image."""

    def merge(self, other: Any) -> None:
        """Takes what another process gathered."""

    def counts(self) -> dict[str, int]:
        """How many truths, predictions and the like the numbers rest on."""

    def compute(self) -> dict[str, float]:
        """The headline numbers by name; NaN where nothing defines them."""

    def per_image(self) -> PerImageStats:
        """What was kept of each image, so that the numbers follow for any choice of them; see `metrics.images`.

        Numbers that no choice of images defines, such as distances between sets, may be left out.
        """

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """Numbers below the headline: table name -> row name -> column -> number, e.g. per class."""

    def plots(self, folder: Path) -> None:
        """Draws what the numbers hide (curves, confusion) as PNG files."""


class DenseModel(nn.Module):
    """encoder -> features -> head -> dict of tensors.

    Every input of kind `image` passes through the encoder; the head is called with the features (or the plain
    tensor, for other kinds) under the input's name.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, specs: dict[str, InputSpec]):
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.images = tuple(name for name, spec in specs.items() if spec.kind == "image")

    def features(self, **inputs: Tensor) -> dict[str, Any]:
        """Name -> list of levels (level 0 is the image itself), or the tensor where it is no image."""
        return {name: self.encoder(x) if name in self.images else x for name, x in inputs.items()}

    def forward(self, **inputs: Tensor) -> Tensors:
        """(B, C, H, W) float RGB images in [0, 1] to a dict of tensors, in training and evaluation alike."""
        return self.head(**self.features(**inputs))


class Task(ABC, Generic[C, R]):
    """One kind of question about an image. `Task(config)` only stores its config."""

    name: ClassVar[str]
    Config: ClassVar[type[TaskConfig]]
    Result: ClassVar[type[Result]]
    monitor: ClassVar[tuple[str, str]]
    """The metric that picks the best weights, and whether it should be "max" or "min"."""
    best_possible_value: ClassVar[float] = 1.0
    """Value of the watched metric when the answer is the truth."""
    supported_options: ClassVar[frozenset[str]] = frozenset()
    """Options of `predict` that this task supports besides device, precision, batch and max_pixels."""
    tta_transforms: ClassVar[frozenset[str]] = frozenset({"flip", "scale"})
    """The kinds of test-time augmentation that make sense here, where `tta` is supported."""
    merge_strategy: ClassVar[Literal["objects", "pixels"]] = "objects"
    """How tiles and looks become one answer: "objects" are records that `merge` joins; "pixels" are averaged as fields.

    With "pixels", `answers` gives (B, C, h, w) floats whose weighted mean makes sense, `fields` brings them to the
    image's pixels, `results` makes records of rectangles of them, and the record names its arrays in `rows`.
    """
    largest: ClassVar[int] = 4096 * 4096
    """With "pixels": images of more pixels are answered in windows even when no `tile` is asked for."""
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
    def auxiliary_images(self) -> dict[str, InputSpec]:
        """Images of a training sample that the losses see and the network does not: stacked into the targets."""
        return {}

    def encoder(self) -> nn.Module:
        """Builds the timm pyramid that the config names; has `channels` and `strides`, level 0 the image."""
        from densevision.nn.backbone import Backbone

        return Backbone(self.config.backbone)

    @abstractmethod
    def head(self, channels: Sequence[int], strides: Sequence[int]) -> nn.Module:
        """Builds the module from features (one argument per input, by name) to a dict of tensors."""

    def training_modules(self) -> nn.Module | None:
        """Builds what exists only for training: discriminators, perceptual networks."""
        return None

    @property
    def optimizer_names(self) -> tuple[str, ...]:
        """Optimization phases of a step; the phase "net" trains the network, any other the critic."""
        return ("net",)

    @property
    def generator_warmup_epochs(self) -> int:
        """First epochs in which the network learns alone: only phase "net" runs, and it sees no critic."""
        return 0

    @property
    def receptive_field_radius(self) -> int | None:
        """How far around it, in pixels of the image, a pixel of the answer looks; None where nobody can say.

        Tiles whose overlap covers twice this are joined without a trace.
        """
        return None

    def net(self) -> DenseModel:
        """Builds the whole network."""
        encoder = self.encoder()
        return DenseModel(encoder, self.head(encoder.channels, encoder.strides), self.inputs)

    # -- data --------------------------------------------------------------------------------------------------------

    @classmethod
    def infer_from_data(cls, config: C) -> C:
        """Fills what only the data can tell, such as class names. The card carries the completed config."""
        return config

    @abstractmethod
    def dataset(self, split: str) -> SampleSet:
        """The samples of "train" or "val" as they are on disk."""

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """A training sample on a canvas of the network's size; all its chance comes from `rng`."""
        return dataset[index]

    @abstractmethod
    def unlabeled(self, sample: Sample) -> Sample:
        """The sample with a truth that says nothing: no objects, or every pixel unknown."""

    @abstractmethod
    def targets(self, ground_truths: Sequence[R]) -> Tensors:
        """Truths on the network's canvas as stacked tensors for the losses."""

    # -- learning ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def losses(self, net: DenseModel, batch: Batch, training_modules: nn.Module | None, optimizer_name: str) -> Tensors:
        """Named losses of one phase, already weighted; their sum is minimized.

        May call named parts of its own head. Finite for batches without any truth.
        """

    # -- answers -----------------------------------------------------------------------------------------------------

    @property
    def needs_global_alignment(self) -> bool:
        """With "pixels": answers float from tile to tile, so `align` fits each to an answer to the whole image."""
        return False

    def forward_kwargs(self, options: PredictOptions) -> dict[str, Any]:
        """Further arguments of the head that the options ask for, such as a number of iterations."""
        return {}

    def warm_start_inputs(self, previous: R, view: View) -> Tensors:
        """Further inputs of the head by which the answer to an image of a sequence helps the next one.

        Args:
            previous: The answer, in original pixels.
            view: How the network sees the next image.
        """
        return {}

    @property
    def has_postprocess(self) -> bool:
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
    def encode(self, ground_truths: Sequence[R]) -> Tensors:
        """The outputs of a perfect network for truths on its canvas: the inverse of `decode`."""

    def finish(self, result: R, sample: Sample, corner: tuple[int, int] = (0, 0)) -> R:
        """Gives an answer what the network never saw of its image, such as the type of its numbers or its alpha.

        Args:
            result: In original pixels; with "pixels" perhaps a rectangle of the answer.
            sample: The whole image that was asked about.
            corner: Where in it the rectangle begins, (row, column).
        """
        return result

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the answer to an image of this size; its own, unless the answer is scaled."""
        return size

    def merge(self, results: Sequence[R], options: PredictOptions) -> R:
        """Objects: one answer from several about the same image, such as tiles, mirrored or scaled views.

        All are already in the pixels of the whole image.
        """
        raise UsageError(f"{self.name} has no merging of answers", hint="Leave out tile and tta.")

    def fields(self, answers: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """Pixels: the answers to one image on its own pixels, ready to be averaged with those of other looks.

        Override where numbers depend on size or direction: motion is divided by the view's scale, and its x changes
        sign in a mirror; enlarged answers stay enlarged.

        Args:
            answers: (1, C, h, w) on the canvas.
            view: How the network saw the image; where a look is scaled, its scale is included.
            mirrored: Left and right were exchanged before the view.

        Returns:
            (1, C, H, W) floats, H and W as in `output_size`.
        """
        fields = {name: to_original(answer, view) for name, answer in answers.items()}
        return {name: field.flip(-1) for name, field in fields.items()} if mirrored else fields

    def align(self, fields: Tensors, guide: Tensors) -> Tensors:
        """Pixels, `needs_global_alignment`: the fields of a tile, fitted to what the answer to the whole image says there."""
        return fields

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def evaluation_options(self) -> PredictOptions:
        """How to predict when the numbers are wanted, where that differs from when the image is."""
        return PredictOptions()

    @abstractmethod
    def metric(self) -> Metric:
        """A fresh accumulator of this task's numbers."""

    def draw(self, image: np.ndarray, result: R) -> np.ndarray:
        """The image a person wants to see: (H, W, 3) uint8 RGB."""
        return result.draw(image)
