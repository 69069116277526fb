"""State dicts that other programs wrote, read without running anything that is in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from densevision.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor


def read_state(file: Path, hint: str, within: Sequence[str] = (), stream: IO[bytes] | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names; floats become float32, for half precision overflows when scaled.

    Args:
        file: What `torch.save` wrote of a `state_dict()`, or a safetensors file.
        fix: What to give instead, as a sentence.
        within: Keys under which the state dict may lie in what was saved; the first that is there is taken.
        stream: The checkpoint's bytes, where they are only a part of the file.

    Raises:
        WeightsError: The file is missing, damaged, or holds something else.
    """
    if stream is None and not file.is_file():
        raise WeightsError("there is no such file", file=file, hint=hint)
    import torch
    from safetensors.torch import load

    try:
        with open(file, "rb") if stream is None else stream as source:
            safe = source.read(9)[8:] == b"{"
            source.seek(0)
            found = load(source.read()) if safe else torch.load(source, map_location="cpu", weights_only=True)
    except Exception as failure:  # foreign bytes break in many ways
        # The first sentence alone: those that follow advise to run whatever the file holds.
        reason = re.split(r"\n|\. |\.$", str(failure).strip())[0] or type(failure).__name__
        again = f"{hint.rstrip('.')}; if it is that, the file is damaged: fetch it again."
        raise WeightsError(f"not a checkpoint that can be read: {reason}", file=file, hint=again) from None
    if isinstance(found, dict):
        found = next((found[key] for key in within if isinstance(found.get(key), dict)), found)
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        held = list(found)[:3] if isinstance(found, dict) else type(found).__name__
        raise WeightsError("is no state dict, which maps names to tensors", file=file, value=held, hint=hint)
    return {str(name): tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
