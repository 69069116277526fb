"""The bundled weights: present, and undamaged as far as their cards and tensors tell."""

from __future__ import annotations

from collections.abc import Iterator

from densevision.errors import WeightsError
from densevision.published_weights import find_bundled_weights
from densevision.system_checks.finding import SystemFinding
from densevision.tasks import TASKS, load_config

__all__ = ["check_bundled_weights"]

HINT = "Reinstall densevision."


def check_bundled_weights() -> Iterator[SystemFinding]:
    """Reads the card and the table of tensors of every file."""
    from safetensors import SafetensorError, safe_open

    from densevision.io.weights import load_card

    faults = []
    tasks = [task for task in TASKS if load_config(task).models]  # joint models are made of those of other tasks
    for task in tasks:
        file = find_bundled_weights(task)
        if file is None:
            faults.append(SystemFinding("bundled weights", "error", f"those of {task} are missing", HINT))
            continue
        try:
            load_card(file)
            with safe_open(file, "np") as tensors:
                list(tensors.keys())
        except (WeightsError, SafetensorError, OSError) as error:
            faults.append(SystemFinding("bundled weights", "error", f"{task}: {error}", HINT))
    yield from faults
    if not faults:
        yield SystemFinding("bundled weights", "ok", f"{len(tasks)} files")
