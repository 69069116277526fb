"""Checks of the contracts that every model and every task must meet; use them on models and tasks of your own."""

from densevision.testing.model_checks import MODEL_CHECKS, check_model
from densevision.testing.task_checks import CHECKS, check_task

__all__ = ["CHECKS", "MODEL_CHECKS", "check_model", "check_task"]
