"""Validation of OpenVINO files: an .xml that describes a network, and its weights in a .bin of the same name."""

from __future__ import annotations

import re
from pathlib import Path

from densevision.errors import WeightsError

__all__ = ["check_openvino"]

_HINT = "Pass the .xml that `densevision TASK export` wrote, with its .bin beside it."
_MAX_BYTES = 256 << 20
_OPERATOR_SETS = re.compile(r"opset\d{1,2}|experimental")
_REFERENCES = re.compile(rb"<!(DOCTYPE|ENTITY)|xi:include|\bweights_path\b|\bbin_path\b", re.IGNORECASE)


def check_openvino(path: Path) -> Path:
    """Checks that the .xml refers to no other file and only to OpenVINO's operators; returns the path of the weights.

    Raises:
        WeightsError: The file is not an OpenVINO network, refers to files, entities or other operators, or has no
            weights beside it.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise WeightsError("is too large for the description of a network", file=path, hint=_HINT)
    data = path.read_bytes()
    if not re.match(rb"\s*(<\?xml[^>]*\?>)?\s*<net\b", data):
        raise WeightsError("the file is damaged or not an OpenVINO network", file=path, hint=_HINT)
    reference = _REFERENCES.search(data)
    if reference:
        value = reference[0].decode("ascii", "replace")
        raise WeightsError("refers to something outside of itself", file=path, field="xml", value=value, hint=_HINT)
    for version in set(re.findall(rb"<layer\b[^>]*\bversion\s*=\s*[\"']([^\"']*)[\"']", data)):
        name = version.decode("utf-8", "replace")
        if not _OPERATOR_SETS.fullmatch(name):
            raise WeightsError("an operator is not OpenVINO's own", file=path, field="version", value=name, hint=_HINT)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise WeightsError("the .bin with its weights is missing", file=path, value=weights.name, hint=_HINT)
    return weights
