"""Matches classes by name when weights are loaded into a model with other classes, or the same in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["ClassRows", "match_classes"]


class ClassRows(NamedTuple):
    """How the rows (the first dimension) of a tensor belong to classes.

    Attributes:
        before: Other classes before the first one, such as background.
        after: Other classes after the last one, such as "no object".
        per_class: Consecutive rows of each class.
        has_columns: The second dimension belongs to the classes in the same way.
    """

    before: int = 0
    after: int = 0
    per_class: int = 1
    has_columns: bool = False

    def count(self, classes: int) -> int:
        """Number of rows for so many classes."""
        return (self.before + classes + self.after) * self.per_class

    def pair_rows(self, pairs: Sequence[tuple[int, int]], source: int, target: int) -> tuple[list[int], list[int]]:
        """Rows in the model and in the weights that belong together.

        Args:
            pairs: Class of the model, and class of the weights.
            source: Number of classes of the weights.
            target: Number of classes of the model.
        """
        others = [(row, row) for row in range(-self.before, 0)]
        others += [(target + row, source + row) for row in range(self.after)]
        groups = [(self.before + new, self.before + old) for new, old in (*others, *pairs)]
        steps = range(self.per_class)
        return tuple([group[side] * self.per_class + step for group in groups for step in steps] for side in (0, 1))  # type: ignore[return-value]


def match_classes(
    model: nn.Module, tensors: Mapping[str, Tensor], source: Sequence[str], target: Sequence[str]
) -> tuple[dict[str, Tensor], str | None]:
    """Moves the rows of classes in a state dict to the places that a model has for them.

    A model declares the tensors that have rows for classes as `class_tensors`, a mapping of their names to `ClassRows`.
    Classes that the weights do not know keep the rows of the model.

    Args:
        model: The model that the tensors are for, of the target's classes.
        tensors: State dict of a model of the source's classes.
        source: Names of the classes of the tensors, in order.
        target: Names of the classes of the model, in order.

    Returns:
        The state dict, changed where it has rows for classes, and a sentence on what was matched; None if the classes
        are the same in the same order, or the model declares no such tensors. Without a common name, those tensors
        are left out.
    """
    declared: Mapping[str, ClassRows] = getattr(model, "class_tensors", {})
    matched = dict(tensors)
    if tuple(source) == tuple(target) or not declared:
        return matched, None
    rows = {name: row for row, name in enumerate(source)}
    pairs = [(row, rows[name]) for row, name in enumerate(target) if name in rows]
    state = model.state_dict()
    for name in declared.keys() & matched.keys():
        if not pairs:
            del matched[name]
        else:
            matched[name] = _move_rows(matched[name], state[name], declared[name], pairs, len(source), len(target))
    return matched, _describe(source, target, [target[new] for new, _ in pairs])


def _move_rows(
    weights: Tensor, initial: Tensor, layout: ClassRows, pairs: Sequence[tuple[int, int]], source: int, target: int
) -> Tensor:
    """The model's tensor with the rows of the weights, where they have them; the weights where they do not fit."""
    dims = 2 if layout.has_columns else 1
    expected = [(layout.count(classes),) * dims for classes in (source, target)]
    if [weights.shape[:dims], initial.shape[:dims]] != expected or weights.shape[dims:] != initial.shape[dims:]:
        return weights
    new, old = (torch.tensor(rows, device=weights.device) for rows in layout.pair_rows(pairs, source, target))
    result = initial.to(weights).clone()
    if layout.has_columns:
        result[new[:, None], new] = weights[old[:, None], old]
    else:
        result[new] = weights[old]
    return result


def _describe(source: Sequence[str], target: Sequence[str], common: Sequence[str]) -> str:
    if len(common) == len(source) == len(target):
        return f"the {len(target)} classes of the weights are in another order and were matched by name"
    names = ", ".join(common[:5]) + (", ..." if len(common) > 5 else "")
    known = f"{len(common)} of {len(target)} classes are known to the weights and were matched by name"
    return f"{known}: {names}" if common else "the weights know none of the classes; their head starts anew"
