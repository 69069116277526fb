"""Evaluation on a Ray cluster: workers evaluate ranges of a dataset, whose metrics are merged in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from densevision.bulk.cluster import Resources, connect_to_ray
from densevision.bulk.ray_predictor import PackedWeights, open_predictor, pack_weights
from densevision.evaluation.evaluate import Shard, add_examples, divide_rows, evaluate_rows, merge_shards
from densevision.evaluation.result import EvaluationResult
from densevision.inference.predictor import Predictor
from densevision.inference.progress import Progress, hide_progress
from densevision.run_config import PredictOptions
from densevision.sample import SampleSet
from densevision.tasks.base import Task

__all__ = ["evaluate_on_ray"]


class _Evaluator:
    """A worker: the model and the dataset."""

    def __init__(self, weights: PackedWeights, task: Task, samples: SampleSet, options: PredictOptions):
        self.predictor = open_predictor(task.name, weights)
        self.predictor.task = task
        self.samples, self.options = samples, options

    def evaluate(self, rows: Sequence[int]) -> Shard:
        """The share of these samples; what a worker that dies did of them is computed again."""
        return evaluate_rows(self.predictor, self.samples, self.options, rows)


def evaluate_on_ray(
    model: Predictor,
    samples: SampleSet,
    options: PredictOptions,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    progress: Progress = hide_progress,
) -> EvaluationResult:
    """Evaluates a model on a Ray cluster (extra `ray`): the same numbers as `evaluate_model` in one process.

    Args:
        model: The model.
        samples: The dataset, whose files all nodes must see.
        options: How to predict.
        workers: Copies of the model; by default one per GPU share, or per core without GPUs.
        gpus_per_worker: GPUs of each, also a fraction; by default 1 where the cluster has any, else 0.
        progress: Draws a bar over ranges of samples.

    Raises:
        UsageError: Ray is not installed, or the cluster has not as many GPUs or cores.
        DataError: A sample cannot be read.
    """
    ray: Any = connect_to_ray()
    import ray.util as ray_util

    resources = Resources(ray, workers, gpus_per_worker)
    evaluator = ray.remote(
        num_cpus=resources.worker_cpus, num_gpus=resources.gpus, max_restarts=-1, max_task_retries=-1
    )(_Evaluator)
    weights = PackedWeights(ray.put(pack_weights(model).files))
    shared = ray.put(samples)
    actors = [evaluator.remote(weights, model.task, shared, options) for _ in range(resources.workers)]
    try:
        pool = ray_util.ActorPool(actors)
        shards = pool.map(lambda actor, rows: actor.evaluate.remote(rows), divide_rows(len(samples), options))
        evaluation = merge_shards(model, samples, options, list(progress(shards, "evaluating")))
    finally:
        for actor in actors:
            ray.kill(actor)
    return add_examples(model, samples, options, evaluation)
