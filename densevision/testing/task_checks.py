"""`check_task`: everything that a `Task` must do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from densevision.inference.seed import seed_everything
from densevision.run_config import TaskConfig
from densevision.tasks.base import Task
from densevision.testing import evaluation_checks, prediction_checks, training_checks
from densevision.testing.task_bench import TaskBench

__all__ = ["CHECKS", "check_task"]


CHECKS: tuple[Callable[[TaskBench], None], ...] = (
    training_checks.check_config_round_trip,
    training_checks.check_help,
    training_checks.check_same_types,
    training_checks.check_finite_losses,
    training_checks.check_gradients,
    prediction_checks.check_odd_sizes,
    prediction_checks.check_drawing,
    prediction_checks.check_tiles,
    prediction_checks.check_flips,
    evaluation_checks.check_decode_encode,
    evaluation_checks.check_metric_of_ground_truth,
    evaluation_checks.check_by_image,
    evaluation_checks.check_empty_truth,
    evaluation_checks.check_metric_info,
    evaluation_checks.check_score,
    evaluation_checks.check_dataset_checks,
    training_checks.check_overfit,
    training_checks.check_same_seed,
    prediction_checks.check_weights_round_trip,
    prediction_checks.check_export,
    evaluation_checks.check_command_line,
    training_checks.check_bfloat16,
)


def check_task(
    task_class: type[Task],
    config: TaskConfig,
    skip: Sequence[str] = (),
    files: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
) -> list[str]:
    """Runs all checks of a task, on the CPU.

    Args:
        task_class: The task. Its module lies in a package with the modules `scoring` and `checks`.
        config: A config of a small model, with `data.path` set to scenes.
        skip: Names of checks to leave out, e.g. ("overfit",).
        files: Ground truth and perfect predictions, as `score` takes them; without, only its errors are checked.

    Returns:
        The names of the checks that were run.

    Raises:
        AssertionError: A check failed; the message begins with the task and the name of the check.
    """
    ran = []
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        if name in skip:
            continue
        seed_everything(config.train.seed)
        try:
            check(TaskBench(task_class, config, files))
        except AssertionError as error:
            raise AssertionError(f"{task_class.name}: {name}: {error}") from error
        ran.append(name)
    return ran
