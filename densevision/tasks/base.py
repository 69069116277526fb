"""The contract between a task and the rest of the package: Task. Read this first.

    Sample -> prepare_inputs -> Model -> outputs -> postprocess -> predictions -> Task.to_results -> [Result]
    (dataset)  (View)                             (tensors, exportable)          (original pixels, real units)

A `Model` (densevision.nn.model) is a network with its losses and its postprocessing. A `Task` declares everything else:
result type, dataset, targets, metric, supported options, how tiles and TTA views are merged.

Laws:
1. `Model.forward` never changes its return type between training and evaluation.
2. Ground truth and prediction are the same frozen result type.
3. Results are in pixels of the original image and in real units.
4. Evaluation runs the code path of prediction, then the metric.
5. Weights are identified by the card in their file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from torch import nn

from densevision.cached_property import cached_property
from densevision.errors import UsageError
from densevision.metrics.metric import Metric
from densevision.nn.model import Model, Tensors
from densevision.nn.skip_init import SkipInit
from densevision.ops.fields import resize_to_original
from densevision.ops.view import View
from densevision.results import Result
from densevision.run_config import COMMON_OPTIONS, PredictOptions, TaskConfig
from densevision.sample import Batch, InputSpec, Sample, SampleSet
from densevision.tasks.registry import Architecture, find_architecture

__all__ = ["Task"]

R = TypeVar("R", bound=Result)
C = TypeVar("C", bound=TaskConfig)


class Task(ABC, Generic[C, R]):
    """A kind of dense prediction. `Task(config)` only stores its config."""

    name: ClassVar[str]
    Config: ClassVar[type[TaskConfig]]
    Result: ClassVar[type[Result]]
    models: ClassVar[Mapping[str, Architecture]] = {}
    """The architectures by name; `config.arch` selects one."""
    tta_transforms: ClassVar[frozenset[str]] = frozenset({"flip", "scale"})
    """The supported kinds of test-time augmentation, where `tta` is supported."""
    merge_strategy: ClassVar[Literal["nms", "blend", "parts"]] = "nms"
    """How tiles and TTA views are merged: "nms" merges results by `merge_predictions`; "blend" averages maps; "parts"
    merges those of each of `parts` as that task does it.

    With "blend", predictions are (B, C, h, w) floats that may be averaged, `to_image_space` maps them to the pixels of
    the image, `to_results` also takes rectangles of them, and the result type names its arrays in `row_axes`.
    """
    max_untiled_pixels: ClassVar[int] = 4096 * 4096
    """With "blend": larger images, in pixels, are predicted in tiles even without `tile`."""
    tile_size: ClassVar[int] = 1024
    """Side of these tiles in pixels."""

    def __init__(self, config: C):
        self.config = config

    @property
    @abstractmethod
    def monitor(self) -> tuple[str, str]:
        """The metric that selects the best weights, and whether to "max" or "min" it."""

    @property
    def best_possible_value(self) -> float:
        """Value of the monitored metric when the prediction equals the ground truth."""
        return 1.0

    @property
    def supported_options(self) -> frozenset[str]:
        """Options of `predict` that this task supports besides those that every task supports."""
        return self.config.predict_options

    def select_options(self, options: PredictOptions) -> PredictOptions:
        """The options with the defaults in place of those that this task does not support."""
        supported = COMMON_OPTIONS | self.supported_options
        return options.model_copy(
            update={
                name: field.get_default()
                for name, field in PredictOptions.model_fields.items()
                if name not in supported
            }
        )

    @property
    def parts(self) -> Mapping[str, Task]:
        """The tasks that this task does at once, by name; empty for all others.

        The names of its outputs, targets and predictions begin with that of a part, such as "depth/valid".
        """
        return {}

    def iterate_parts(self, options: PredictOptions) -> Iterator[tuple[str, Task, PredictOptions]]:
        """The prefix of the names of each part, the part, and its options; without parts, the task and no prefix."""
        if not self.parts:
            yield "", self, options
        for name, part in self.parts.items():
            yield f"{name}/", part, part.select_options(options)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the model, which data workers do not need."""
        return {name: value for name, value in self.__dict__.items() if name != "meta_model"}

    # -- model -----------------------------------------------------------------------------------------------------

    @property
    def architecture(self) -> Architecture:
        """The architecture of the config."""
        return find_architecture(self.models, self.config.arch)

    def model_arguments(self) -> dict[str, Any]:
        """Constructor arguments that follow from the config, such as the number of classes.

        Those that the constructor of the architecture does not have are left out; `config.model` overrides them.
        """
        return {}

    def build_model(self) -> Model:
        """Builds the model that the config names.

        Raises:
            UsageError: The architecture has no such option.
        """
        backbone = self.config.backbone
        offered = {
            "encoder": backbone.name,
            "in_channels": backbone.channels,
            "encoder_options": backbone.to_options(),
            **self.model_arguments(),
        }
        return self.architecture.build(offered, self.config.model)

    @property
    def timm_backbone(self) -> str | None:
        """The timm model whose weights `backbone.pretrained: true` loads; None where the architecture has none."""
        has_encoder = "encoder" in self.architecture.parameters() and self.architecture.load_class().has_timm_encoder
        return self.config.backbone.name if has_encoder else None

    @cached_property
    def meta_model(self) -> Model:
        """The model without weights, which takes no memory: its input sizes, shapes and postprocessing."""
        blank_task = type(self)(self.config.replace(backbone__pretrained=False))
        with SkipInit():
            return blank_task.build_model()

    @property
    def input_spec(self) -> dict[str, InputSpec]:
        """Size rule of each input of the model, by name."""
        return self.meta_model.input_spec

    @property
    def auxiliary_images(self) -> dict[str, InputSpec]:
        """Images of a training sample that only the losses need: they are stacked into the targets."""
        return {}

    @property
    def receptive_field_radius(self) -> int | None:
        """Pixels of the image around an output pixel that influence it; None where it is unknown.

        Tiles that overlap by at least twice this value have no seams.
        """
        return None

    # -- data --------------------------------------------------------------------------------------------------------

    @classmethod
    def infer_from_data(cls, config: C) -> C:
        """Completes the config from the dataset, e.g. with class names; the card holds the completed config."""
        return config

    @abstractmethod
    def open_dataset(self, split: str) -> SampleSet:
        """Opens the samples of "train" or "val" as they are stored."""

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """Returns an augmented training sample of the model's input size; all randomness comes from `rng`."""
        return dataset[index]

    @abstractmethod
    def remove_labels(self, sample: Sample) -> Sample:
        """Returns the sample with an empty ground truth: without objects, or with every pixel unknown."""

    @abstractmethod
    def collate_targets(self, target_records: Sequence[R | None]) -> Tensors:
        """Stacks ground truths on the model's canvas into tensors for the losses."""

    # -- training ----------------------------------------------------------------------------------------------------

    def build_training_modules(self) -> nn.Module | None:
        """Builds modules that are only needed for training: discriminators, perceptual networks."""
        return None

    @property
    def optimizer_names(self) -> tuple[str, ...]:
        """The optimizers of a step, in order: "net" trains the model, all others the training modules."""
        return ("net",)

    @property
    def generator_warmup_epochs(self) -> int:
        """Number of first epochs in which only the model is trained, without the training modules."""
        return 0

    def compute_losses(
        self, model: Model, batch: Batch, training_modules: nn.Module | None, optimizer_name: str
    ) -> Tensors:
        """Computes named, weighted losses of one optimizer; finite without any ground truth."""
        return model.compute_losses(batch.inputs, batch.targets)

    def backward(
        self, model: Model, losses: Tensors, batches: int, backward: Callable[[], None], is_measured: bool
    ) -> dict[str, float]:
        """Adds the gradients of the losses of a batch to those of the parameters.

        Args:
            model: The model.
            losses: Of `compute_losses`, for `torch.autograd.grad`.
            batches: Number of batches of the optimizer step, by which the losses are divided.
            backward: Adds the gradients of the sum of the losses, divided by `batches`, in the precision of the run.
            is_measured: Whether this is the last batch of the epoch.

        Returns:
            Measurements for the log, by name.
        """
        backward()
        return {}

    # -- prediction --------------------------------------------------------------------------------------------------

    @property
    def needs_global_alignment(self) -> bool:
        """With "blend": predictions drift from tile to tile, so `align_to_reference` aligns them to the whole image."""
        return False

    def forward_kwargs(self, options: PredictOptions) -> dict[str, Any]:
        """Additional arguments of `Model.forward` under these options, such as a number of iterations."""
        return {}

    def warm_start_inputs(self, previous: R, view: View) -> Tensors:
        """Additional inputs of the model that initialize it with the previous result of a sequence.

        Args:
            previous: The previous result, in original pixels.
            view: The view of the next image.
        """
        return {}

    def thresholds(self, options: PredictOptions) -> dict[str, Any]:
        """Arguments of `Model.postprocess` under these options."""
        return {}

    @property
    def has_postprocess(self) -> bool:
        """Whether there is postprocessing that an export may leave out."""
        if type(self).postprocess is not Task.postprocess:
            return True
        return type(self.meta_model).postprocess is not Model.postprocess

    def postprocess(self, outputs: Tensors, options: PredictOptions) -> Tensors:
        """Runs the postprocessing, which consists of tensor operations and can be exported."""
        return self.meta_model.postprocess(outputs, **self.thresholds(options))

    def join_results(self, results: Mapping[str, Any], size: tuple[int, int]) -> R:
        """With `parts`: the results of all parts for one image of a (height, width) as one."""
        raise NotImplementedError

    @abstractmethod
    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[R]:
        """Converts predictions to results in original pixels and real units, one per view."""

    def decode(self, outputs: Tensors, views: Sequence[View], options: PredictOptions | None = None) -> list[R]:
        """Converts model outputs to results: `postprocess`, then `to_results`."""
        options = options or PredictOptions()
        return self.to_results(self.postprocess(outputs, options), views, options)

    def ideal_outputs(self, target_records: Sequence[R]) -> Tensors:
        """Computes the outputs of a perfect model for ground truths on its canvas: inverts `decode`."""
        height, width = target_records[0].size
        return self.meta_model.ideal_outputs(self.collate_targets(target_records), (height, width))

    def restore_metadata(self, result: R, sample: Sample, corner: tuple[int, int] = (0, 0)) -> R:
        """Adds to a result what the model does not see of the image, such as its dtype or alpha channel.

        Args:
            result: The result in original pixels; with "blend" possibly a rectangle of it.
            sample: The complete input image.
            corner: Top left corner of the rectangle, (row, column).
        """
        return result

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the result for an image of this size."""
        return size

    def merge_predictions(self, results: Sequence[R], options: PredictOptions) -> R:
        """With "nms": merges the results of tiles and TTA views, which are in pixels of the complete image."""
        raise UsageError(f"{self.name} cannot merge results", hint="Leave out tile and tta.")

    def to_image_space(self, predictions: Tensors, view: View, mirrored: bool = False) -> Tensors:
        """With "blend": maps predictions for one image to its pixels, to be averaged with those of other views.

        Override it where values depend on scale or direction: flow is divided by the scale of the view, and its x
        component changes sign in a mirror image.

        Args:
            predictions: (1, C, h, w) on the canvas.
            view: The view of the image, including the scale of a TTA view.
            mirrored: Left and right were exchanged before the view.

        Returns:
            (1, C, H, W) floats of the size `output_size`.
        """
        maps = {name: resize_to_original(prediction, view) for name, prediction in predictions.items()}
        return {name: each.flip(-1) for name, each in maps.items()} if mirrored else maps

    def align_to_reference(self, maps: Tensors, reference: Tensors) -> Tensors:
        """With `needs_global_alignment`: aligns the maps of a tile to those of the whole image."""
        return maps

    # -- evaluation --------------------------------------------------------------------------------------------------

    def evaluation_options(self) -> PredictOptions:
        """Options of the predictions for evaluation."""
        return PredictOptions()

    @abstractmethod
    def build_metric(self) -> Metric:
        """Builds an empty accumulator of the task's metrics."""

    def draw(self, image: np.ndarray, result: R) -> np.ndarray:
        """Draws a result on its image: (H, W, 3) uint8 RGB."""
        return result.draw(image)
