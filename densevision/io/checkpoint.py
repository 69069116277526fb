"""Checkpoints of other projects: read without running anything in them, unwrapped, renamed and checked.

Every task converts published weights through this module: rules in, a report of missing, unknown and misshapen tensors
out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from densevision.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Rules", "check_state_dict", "read_state_dict", "rename_state_dict"]

Rules = Sequence[tuple[str, "str | Callable[[re.Match[str]], str]"]]
"""Regular expressions and their replacements, applied one after the other to every name."""

WRAPPER_KEYS = (
    "params_ema",
    "params-ema",
    "ema_state_dict",
    "model_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "params",
    "network",
    "net",
    "module",
    "generator",
    "weights",
)
"""Keys under which training programs save a state dict; of several, the first: a moving average before the rest."""
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "_forward_module.")
"""Prefixes that DataParallel, torch.compile and DeepSpeed or Fabric add to every name."""
MAX_DEPTH = 4


def read_state_dict(file: Path, hint: str, stream: IO[bytes] | None = None) -> dict[str, Tensor]:
    """Reads the tensors of a checkpoint by name, whatever wraps them.

    Floats become float32, because half precision overflows when weights are scaled.

    Args:
        file: A file of `torch.save` or safetensors: a state dict, or a training checkpoint that holds one.
        hint: What to give instead, as a sentence.
        stream: The checkpoint's bytes, where they are only a part of the file.

    Raises:
        WeightsError: The file is missing, damaged, or holds something else.
    """
    if stream is None and not file.is_file():
        raise WeightsError("there is no such file", file=file, hint=hint)
    tensors = _unwrap(_load(file, hint, stream), file, hint)
    for name, tensor in tensors.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            problem = "a tensor claims more elements than the file holds"
            raise WeightsError(problem, file=file, field=name, value=tuple(tensor.shape), hint=hint)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def rename_state_dict(tensors: Mapping[str, Tensor], rules: Rules, ignore: str | None = None) -> dict[str, Tensor]:
    """Renames tensors by rules.

    Args:
        tensors: A state dict.
        rules: Applied in order to every name; a name that becomes empty is dropped.
        ignore: Regular expression of names, before renaming, that are dropped.

    Raises:
        WeightsError: Two tensors get the same name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if ignore is not None and re.search(ignore, name):
            continue
        new_name = name
        for pattern, replacement in rules:
            new_name = re.sub(pattern, replacement, new_name)
        if new_name in renamed:
            raise WeightsError("two tensors are renamed alike", field=name, value=new_name)
        if new_name:
            renamed[new_name] = tensor
    return renamed


def check_state_dict(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], label: str, file: Path, hint: str | None = None
) -> dict[str, Tensor]:
    """Checks that a converted state dict is exactly that of a model.

    Args:
        tensors: The converted state dict.
        expected: The model's own, for names and shapes; it may be on the meta device.
        label: Name of the published weights, for messages.
        file: The checkpoint.
        hint: What to give instead.

    Returns:
        The tensors in the model's order.

    Raises:
        WeightsError: Tensors are missing, unknown, or of another shape; the message counts and names them.
    """
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "unknown": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in expected
            if name in tensors and tensors[name].shape != expected[name].shape
        ],
    }
    report = "; ".join(f"{len(names)} {kind}, such as {names[0]}" for kind, names in problems.items() if names)
    if report:
        raise WeightsError(f"does not hold {label}: {report}", file=file, hint=hint)
    return {name: tensors[name] for name in expected}


def _load(file: Path, hint: str, stream: IO[bytes] | None) -> Any:
    import torch
    from safetensors.torch import load

    try:
        with open(file, "rb") if stream is None else stream as source:
            is_safetensors = source.read(9)[8:] == b"{"
            source.seek(0)
            return load(source.read()) if is_safetensors else torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged and foreign files fail in many ways
        # Only the first sentence: torch's further advice is to run whatever the file holds.
        reason = re.split(r"\n|\. |\.$", str(error).strip())[0] or type(error).__name__
        advice = f"{hint.rstrip('.')}; if it is that, the file is damaged: download it again."
        raise WeightsError(f"cannot be read as a checkpoint: {reason}", file=file, hint=advice) from None


def _unwrap(content: Any, file: Path, hint: str) -> dict[str, Tensor]:
    """The state dict within what was saved, without the prefixes of wrappers."""
    import torch

    for _ in range(MAX_DEPTH):
        if not isinstance(content, Mapping):
            break
        # A single entry is the state dict, whatever it is called.
        keys = WRAPPER_KEYS if len(content) != 1 else tuple(content)
        inner = next((content[key] for key in keys if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        value = list(content)[:3] if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError("holds no state dict, which maps names to tensors", file=file, value=value, hint=hint)
    while prefix := next((p for p in WRAPPER_PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
