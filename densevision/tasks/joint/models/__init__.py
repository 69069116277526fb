"""No architectures: a joint model is made of those of its tasks."""

from __future__ import annotations

from densevision.tasks.registry import Architecture

__all__ = ["MODELS"]

MODELS: dict[str, Architecture] = {}
