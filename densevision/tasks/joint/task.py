"""The task joint: several tasks by one model, their heads on one encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from densevision.cached_property import cached_property
from densevision.errors import UsageError
from densevision.metrics.metric import Metric
from densevision.nn.joint_gradients import accumulate_gradients, measure_gradients
from densevision.nn.joint_model import ROWS, JointModel, join_names, split_names
from densevision.nn.model import Model, Tensors
from densevision.ops.view import View
from densevision.results import JointResult
from densevision.run_config import PredictOptions
from densevision.sample import Batch, Sample, SampleSet
from densevision.tasks import load_task
from densevision.tasks.base import Task
from densevision.tasks.joint.config import JointConfig
from densevision.tasks.joint.dataset import JointSet, augment_sample
from densevision.tasks.joint.metrics import MEAN, JointMetric
from densevision.tasks.joint.models import MODELS

__all__ = ["TASK", "Joint"]


IN_PARTS = frozenset({"tile", "overlap", "tta"})
"""Options that all parts must support."""


class Joint(Task[JointConfig, JointResult]):
    """Several answers for each image, by one pass of one encoder."""

    name = "joint"
    Config = JointConfig
    Result = JointResult
    models = MODELS
    monitor = (MEAN, "max")
    merge_strategy = "parts"

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the models; the parts are made again from the config."""
        return {name: value for name, value in super().__getstate__().items() if name != "parts"}

    @cached_property
    def parts(self) -> Mapping[str, Task]:
        """The tasks by the names of their heads. They prepare inputs and outputs for the joint model's canvas."""
        parts = _make_tasks(self.config)
        for name, head in cast(JointModel, self.meta_model).iterate_heads():
            head.input_spec = self.input_spec
            parts[name].__dict__["meta_model"] = head
        return parts

    @property
    def supported_options(self) -> frozenset[str]:
        """The options of any part; tiles and test-time augmentation only where all parts support them."""
        supported = [part.supported_options for part in self.parts.values()]
        in_all = frozenset.intersection(*supported)
        return self.config.predict_options & (frozenset.union(*supported) - (IN_PARTS - in_all))

    @property
    def tta_transforms(self) -> frozenset[str]:  # type: ignore[override]
        """The transforms that all parts support."""
        return frozenset.intersection(*(part.tta_transforms for part in self.parts.values()))

    # -- model -----------------------------------------------------------------------------------------------------

    def build_model(self) -> JointModel:
        """Builds the model of each part and joins them.

        Raises:
            UsageError: A part cannot share its encoder, or needs more than it for training.
        """
        models = {}
        for name, part in _make_tasks(self.config).items():
            if len(part.optimizer_names) > 1 or part.auxiliary_images:
                problem = "cannot be trained jointly: its losses need further images or networks"
                raise UsageError(problem, field="tasks", value=name, hint="Switch these losses off, or train it alone.")
            models[name] = part.build_model()
        balance = self.config.balance
        return JointModel(models, balance.weights, balance.method == "uncertainty")

    @property
    def timm_backbone(self) -> str:
        """The timm model of the encoder."""
        return self.config.backbone.name

    # -- data --------------------------------------------------------------------------------------------------------

    @classmethod
    def infer_from_data(cls, config: JointConfig) -> JointConfig:
        """Completes the config of each part from its dataset."""
        for name in config.tasks:
            part = config.heads[name]
            inferred = load_task(part.task).infer_from_data(part)
            config = config.replace_section(name, inferred, config.own_dataset(name))
        return config

    def open_dataset(self, split: str) -> JointSet:
        """The images of all parts; those that several have, once."""
        samples = {name: part.open_dataset(split) for name, part in self.parts.items()}
        return JointSet(samples, self.config.data.proportions if split == "train" else None)

    def augment(self, dataset: SampleSet, index: int, rng: np.random.Generator, epoch: int) -> Sample:
        """As the part does it; an image with labels for several parts by one warp for all of them."""
        assert isinstance(dataset, JointSet)
        numbers = dataset.locate(index, epoch)
        if len(numbers) > 1:
            return augment_sample(self.config.augment, dataset.read(numbers), rng, self._canvas)
        ((name, number),) = numbers.items()
        sample = self.parts[name].augment(dataset.parts[name], number, rng, epoch)
        return dataset.join(sample, {} if sample.truth is None else {name: sample.truth}, numbers)

    def remove_labels(self, sample: Sample) -> Sample:
        """The sample with an empty ground truth for each part."""
        target_records = {name: part.remove_labels(sample).truth for name, part in self.parts.items()}
        results = {name: truth for name, truth in target_records.items() if truth is not None}
        return replace(sample, truth=JointResult(size=sample.size, results=results))

    def collate_targets(self, target_records: Sequence[JointResult | None]) -> Tensors:
        """The targets of each part as "part/target", for the images with its labels: "part/rows" counts them up.

        Parts without labels have no targets; where all images have labels, there are no "rows".
        """
        targets: dict[str, Tensors] = {}
        for name, part in self.parts.items():
            rows = [row for row, record in enumerate(target_records) if record is not None and name in record]
            if not rows:
                continue
            targets[name] = part.collate_targets([target_records[row][name] for row in rows])  # type: ignore[index]
            if len(rows) < len(target_records):
                targets[name][ROWS] = torch.tensor(rows)
        return join_names(targets)

    # -- training ----------------------------------------------------------------------------------------------------

    def compute_losses(
        self, model: Model, batch: Batch, training_modules: nn.Module | None, optimizer_name: str
    ) -> Tensors:
        """The losses of each part that has labels in the batch, as the part computes them."""

        def compute(name: str, head: Model, inputs: Tensors, targets: Tensors, rows: Sequence[int]) -> Tensors:
            joint_records = cast("list[JointResult | None]", batch.target_records)
            records = [None if record is None else record.results.get(name) for record in joint_records]
            part_batch = Batch(
                inputs,
                [batch.views[row] for row in rows],
                targets,
                [records[row] for row in rows],
                [batch.ids[row] for row in rows],
            )
            return self.parts[name].compute_losses(head, part_batch, None, optimizer_name)

        return cast(JointModel, model).compute_losses(batch.inputs, batch.targets, compute)

    def backward(
        self, model: Model, losses: Tensors, batches: int, backward: Callable[[], None], is_measured: bool
    ) -> dict[str, float]:
        """As `balance.method` says; measures the norms of the parts' gradients on the encoder, and their cosines."""
        joint = cast(JointModel, model)
        if self.config.balance.method == "pcgrad":
            return _name(accumulate_gradients(joint, {name: loss / batches for name, loss in losses.items()}))
        measurements = measure_gradients(joint, losses) if is_measured and len(self.parts) > 1 else {}
        return _name(measurements) | super().backward(model, losses, batches, backward, is_measured)

    # -- prediction --------------------------------------------------------------------------------------------------

    def forward_kwargs(self, options: PredictOptions) -> dict[str, Any]:
        """The arguments of each head that has some."""
        arguments = {name: part.forward_kwargs(each) for name, part, each in self._select_options(options)}
        arguments = {name: each for name, each in arguments.items() if each}
        return {"arguments": arguments} if arguments else {}

    def thresholds(self, options: PredictOptions) -> dict[str, Any]:
        """The thresholds of each part."""
        return {name: part.thresholds(each) for name, part, each in self._select_options(options)}

    @property
    def has_postprocess(self) -> bool:
        """Whether a part has postprocessing."""
        return any(part.has_postprocess for part in self.parts.values())

    def postprocess(self, outputs: Tensors, options: PredictOptions) -> Tensors:
        """The predictions of each part, as "part/prediction"."""
        outputs_by_part = split_names(outputs)
        return join_names(
            {name: part.postprocess(outputs_by_part[name], each) for name, part, each in self._select_options(options)}
        )

    def to_results(self, predictions: Tensors, views: Sequence[View], options: PredictOptions) -> list[JointResult]:
        """The results of each part."""
        predictions_by_part = split_names(predictions)
        results = {
            name: part.to_results(predictions_by_part[name], views, each)
            for name, part, each in self._select_options(options)
        }
        return [
            self.join_results({name: each[row] for name, each in results.items()}, view.original)
            for row, view in enumerate(views)
        ]

    def join_results(self, results: Mapping[str, Any], size: tuple[int, int]) -> JointResult:
        """The results of the parts as one."""
        return JointResult(size=size, results=dict(results))

    def ideal_outputs(self, target_records: Sequence[JointResult]) -> Tensors:
        """The outputs of perfect heads."""
        return join_names(
            {name: part.ideal_outputs([each[name] for each in target_records]) for name, part in self.parts.items()}
        )

    def restore_metadata(self, result: JointResult, sample: Sample, corner: tuple[int, int] = (0, 0)) -> JointResult:
        """What each part restores."""
        restored = {name: self.parts[name].restore_metadata(result[name], sample, corner) for name in result}
        return replace(result, results=restored)

    # -- evaluation --------------------------------------------------------------------------------------------------

    def evaluation_options(self) -> PredictOptions:
        """The options of all parts: the lowest score threshold and the most detections of any."""
        options = PredictOptions()
        for part in self.parts.values():
            for name, value in part.evaluation_options():
                current, default = getattr(options, name), getattr(PredictOptions(), name)
                if value == default:
                    continue
                if current != default and current != value:
                    value = min(current, value) if name == "score_threshold" else max(current, value)
                options = options.model_copy(update={name: value})
        return options

    def build_metric(self) -> JointMetric:
        """The metrics of all parts."""
        metrics: dict[str, Metric] = {name: part.build_metric() for name, part in self.parts.items()}
        return JointMetric(metrics, {name: part.monitor for name, part in self.parts.items()})

    @property
    def _canvas(self) -> tuple[int, int]:
        """(height, width) of the canvas of images with labels of several parts."""
        size, multiple = self.config.data.size, self.input_spec["image"].multiple_of
        height, width = (size, size) if isinstance(size, int) else cast(tuple[int, int], size)
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def _select_options(self, options: PredictOptions) -> list[tuple[str, Task, PredictOptions]]:
        return [(prefix[:-1], part, own) for prefix, part, own in self.iterate_parts(options)]


def _name(measurements: Mapping[str, float]) -> dict[str, float]:
    return {f"gradient/{name}": value for name, value in measurements.items()}


def _make_tasks(config: JointConfig) -> dict[str, Task]:
    return {name: load_task(head.task)(head) for name, head in config.heads.items()}


TASK = Joint
