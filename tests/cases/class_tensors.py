"""What every model with classes says of its tensors."""

from __future__ import annotations

import torch

from densevision.tasks.registry import Architecture


def assert_class_tensors(architecture: Architecture) -> None:
    """`class_tensors` are the tensors whose shapes depend on the number of classes, with as many rows as it says."""
    with torch.device("meta"):
        model, other = (architecture.build({"num_classes": count}) for count in (5, 6))
    shapes, other_shapes = ({name: x.shape for name, x in each.state_dict().items()} for each in (model, other))
    assert set(model.class_tensors) == {name for name in shapes if shapes[name] != other_shapes[name]}
    for name, rows in model.class_tensors.items():
        assert shapes[name][0] == (rows.before + 5 + rows.after) * rows.per_class
