"""Matches classes by name when weights are loaded into a model with other classes, or the same in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["ClassRows", "match_classes"]


class ClassRows(NamedTuple):
    """How the rows (the first dimension) of a tensor belong to classes.

    Attributes:
        before: Other classes before the first one, such as background.
        after: Other classes after the last one, such as "no object".
        per_class: Consecutive rows of each class.
    """

    before: int = 0
    after: int = 0
    per_class: int = 1


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
    before, after, step = layout.before, layout.after, layout.per_class
    sizes = [before * step + count * step + after * step for count in (source, target)]
    if [len(weights), len(initial)] != sizes or weights.shape[1:] != initial.shape[1:]:
        return weights
    result = initial.to(weights.dtype).clone()
    result[: before * step] = weights[: before * step]
    result[len(result) - after * step :] = weights[len(weights) - after * step :]
    for new, old in pairs:
        start, origin = (before + new) * step, (before + old) * step
        result[start : start + step] = weights[origin : origin + step]
    return result


def _describe(source: Sequence[str], target: Sequence[str], common: Sequence[str]) -> str:
    if len(common) == len(source) == len(target):
        return f"the {len(target)} classes of the weights are in another order and were matched by name"
    names = ", ".join(common[:5]) + (", ..." if len(common) > 5 else "")
    known = f"{len(common)} of {len(target)} classes are known to the weights and were matched by name"
    return f"{known}: {names}" if common else "the weights know none of the classes; their head starts anew"
