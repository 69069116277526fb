"""Options that follow from the weights that a run starts from: their architecture and their backbone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from densevision.inference.card_config import read_card_config
from densevision.io.weights import load_card
from densevision.run_config import TaskConfig

__all__ = ["list_inherited_options"]

BACKBONE = ("name", "mean", "std", "output_stride", "options")
"""Options of the backbone that its weights depend on; channels are adapted."""
FROM_DATA = ("task", "classes", "category_ids")
"""Options that do not follow from weights."""


def list_inherited_options(file: str | Path, config: TaskConfig, given: Collection[str]) -> dict[str, Any]:
    """Options of the weights that a run needs in order to load them, where the run does not set them itself.

    Weights of the same task give the architecture with its arguments, the size of the images, and what the model
    predicts, such as a factor of super-resolution. Weights of another task give the backbone.

    Args:
        file: A densevision weights file.
        config: The config of the run without these options.
        given: Dotted names of the options that the run sets. With `arch` among them, only that network is trained, and
            nothing is inherited; with `backbone.name`, no backbone.

    Raises:
        WeightsError: The file cannot be read.
    """
    card = load_card(file)
    source = read_card_config(card, file)
    is_same_task = source.task == config.task
    if "arch" in given or ("backbone.name" in given and not is_same_task):
        return {}
    options: dict[str, Any] = {}
    if is_same_task:
        values = source.to_dict()
        sections = {name for name, value in values.items() if isinstance(value, dict) and name != "model"}
        options |= {name: value for name, value in values.items() if name not in {*sections, *FROM_DATA}}
        if "size" in values["data"]:
            options["data.size"] = values["data"]["size"]
    options |= {f"backbone.{name}": getattr(source.backbone, name) for name in BACKBONE}
    return {
        name: value
        for name, value in options.items()
        if not any(name == other or other.startswith(f"{name}.") for other in given)
    }
