"""Validation of .pt2 archives of `torch.export`: tensors, and a graph of operators of PyTorch and torchvision.

PyTorch's reader trusts its files: it unpickles objects, looks up functions by any name below `torch`, evaluates
symbolic sizes and guards as Python, and imports modules of enumerations. Here all of this is refused or removed first,
and the reader gets a copy in memory that contains only what was checked.
"""

from __future__ import annotations

import ast
import io
import json
import operator
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from densevision.errors import WeightsError

__all__ = ["sanitize_archive"]

_MEMBERS = re.compile(
    r"(archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/(weights|constants)/(model_(weights|constants)_config\.json|(weight|tensor)_\d+)"
    r"|data/sample_inputs/model\.pt|extra/\w+)"
)
"""Names of the members below the folder of the archive."""
_MAX_GRAPH_BYTES = 512 << 20
_OPERATORS = re.compile(r"torch\.ops\.(aten|torchvision)\.(\w+)\.(\w+)")
_STRING_ARGUMENTS = {
    "rounding_mode",
    "approximate",
    "indexing",
    "reduce",
    "mode",
    "padding",
    "ord",
    "side",
    "UPLO",
    "equation",
}
"""String arguments that operators may have; others, such as file names, are refused."""
_ARITHMETIC = {
    "add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "neg", "pos", "abs", "eq", "ne", "lt", "le", "gt", "ge",
    "and_", "or_", "not_", "getitem", "index",
}  # fmt: skip
"""Functions of Python's `operator` module that a graph may call on sizes."""
_ROUNDING = {"math.ceil", "math.floor", "math.trunc", "torch.sym_int", "torch.sym_float", "torch.sym_max",
             "torch.sym_min", "torch.sym_not", "torch.sym_ite", "torch._sym_sqrt"}  # fmt: skip
_SYMPY = {
    "Integer", "Float", "Rational", "Symbol", "Add", "Mul", "Max", "Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
    "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or", "Not",
    "FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv",
    "IntTrueDiv", "FloatTrueDiv", "TruncToInt", "TruncToFloat", "RoundToInt", "ToFloat",
}  # fmt: skip
"""Functions that a symbolic size may call: arithmetic of bounded growth."""
_SYMBOL = re.compile(r"[a-z]{1,4}\d{1,6}")
_NODES = (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub, ast.BinOp,
          ast.Add, ast.Sub, ast.Mult)  # fmt: skip
_IDENTIFIER = re.compile(r"[\w.:+\-]{0,1000}")
"""Names of nodes and tensors: PyTorch inserts them into generated Python code."""
_CONTAINER_KEY = re.compile(r"[\w.:+\-/]{0,1000}")
"""Names of inputs and outputs; those of joint models have the name of a task in front, "depth/depth"."""
_STRING_VALUE = re.compile(r"[\w,.\-> ]{0,200}")
_CHECKED_KEYS = ("expr_str", "in_spec", "out_spec", "as_string", "target")
"""Keys whose strings have a check of their own."""
_REFUSED_KEYS = ("as_operator", "as_custom_obj", "as_graph")
"""Kinds of arguments that no export contains: functions, objects, called graphs."""
_CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_HINT = "Export the weights again."


def sanitize_archive(path: Path) -> io.BytesIO:
    """Copies an archive into memory, so that `torch.export.load` can read it without executing anything from it.

    Raises:
        WeightsError: The archive is damaged, or contains more than tensors and a graph of known operators.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: archive.read(info) for info in _list_members(archive, path)}
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise WeightsError(
            f"the file is damaged or not an export of densevision: {error}", file=path, hint=_HINT
        ) from None
    try:
        for name, data in members.items():
            members[name] = _sanitize_member(name.partition("/")[2], data, path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"the file is damaged or not an export of densevision: {type(error).__name__}"
        raise WeightsError(problem, file=path, hint=_HINT) from None
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    copy.seek(0)
    return copy


def _list_members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if len({info.filename for info in members}) != len(members):
        raise _make_refusal(path, "member", "duplicate names")
    roots = {info.filename.partition("/")[0] for info in members}
    for info in members:
        if info.compress_type != zipfile.ZIP_STORED or len(roots) != 1:
            raise _make_refusal(path, "member", info.filename)
        if not _MEMBERS.fullmatch(info.filename.partition("/")[2]):
            raise _make_refusal(path, "member", info.filename)
    return members


def _sanitize_member(name: str, data: bytes, path: Path) -> bytes:
    if name.endswith("_config.json"):
        for key, entry in json.loads(data)["config"].items():
            if entry["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                raise _make_refusal(path, key, "a pickled object")
    elif name == "data/sample_inputs/model.pt":
        try:
            torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise _make_refusal(path, name, "a pickled object") from None
        except Exception as error:  # a damaged pickle raises whatever its stack machine meets
            raise ValueError(str(error)) from None
    elif name == "models/model.json":
        return _sanitize_graph(data, path)
    return data


def _sanitize_graph(data: bytes, path: Path) -> bytes:
    """Removes debugging information and guards, which PyTorch would execute as Python."""
    if len(data) > _MAX_GRAPH_BYTES:
        raise _make_refusal(path, "models/model.json", f"{len(data):,} bytes")
    program = json.loads(data)
    program["guards_code"] = []
    ranges = program.pop("range_constraints")
    for name, limits in ranges.items():
        if len(name) > 2000 or not all(limits[end] is None or type(limits[end]) is int for end in limits):
            raise _make_refusal(path, "range_constraints", name)
    _check_values(program, path)
    program["range_constraints"] = ranges
    return json.dumps(program).encode()


def _check_values(value: Any, path: Path) -> None:
    if isinstance(value, list):
        for part in value:
            if isinstance(part, str) and not _IDENTIFIER.fullmatch(part):
                raise _make_refusal(path, "list", part)
            _check_values(part, path)
    elif isinstance(value, dict):
        if isinstance(value.get("target"), str) and "inputs" in value:
            _check_operator(value, path)
            value["metadata"] = {}
        for key, part in value.items():
            if key in _REFUSED_KEYS or not _IDENTIFIER.fullmatch(key):
                raise _make_refusal(path, "argument", key)
            pattern = _STRING_VALUE if key == "as_string" else _IDENTIFIER
            if (
                isinstance(part, str)
                and (key not in _CHECKED_KEYS or key == "as_string")
                and not pattern.fullmatch(part)
            ):
                raise _make_refusal(path, key, part)
        if isinstance(value.get("expr_str"), str):
            _check_expression(value["expr_str"], path)
        for key in ("in_spec", "out_spec"):
            if isinstance(value.get(key), str) and value[key]:
                _check_containers(json.loads(value[key]), path)
        for part in value.values():
            _check_values(part, path)


def _check_operator(node: dict[str, Any], path: Path) -> None:
    target = node["target"]
    module, _, name = target.rpartition(".")
    if (module == "_operator" and name in _ARITHMETIC and hasattr(operator, name)) or target in _ROUNDING:
        return
    match = _OPERATORS.fullmatch(target)
    if match is None:
        raise _make_refusal(path, "operator", target)
    namespace = getattr(torch.ops, match[1])
    overload = getattr(getattr(namespace, match[2], None), match[3], None)
    if not isinstance(overload, torch._ops.OpOverload):
        raise _make_refusal(path, "operator", target)
    for argument in overload._schema.arguments:
        if "str" in str(argument.type) and argument.name not in _STRING_ARGUMENTS:
            raise _make_refusal(path, "operator", target)


def _check_expression(text: str, path: Path) -> None:
    """Checks a symbolic size, which PyTorch passes to sympy, which evaluates it as Python."""
    try:
        tree = ast.parse(text, mode="eval") if len(text) <= 20_000 else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None:
        raise _make_refusal(path, "expression", text)
    for node in ast.walk(tree):
        is_allowed = isinstance(node, _NODES)
        if isinstance(node, ast.Call):
            is_allowed = isinstance(node.func, ast.Name) and (node.func.id in _SYMPY or _is_small_power(node))
        elif isinstance(node, ast.Name):
            is_allowed = node.id in (*_SYMPY, "Pow") or _SYMBOL.fullmatch(node.id) is not None
        elif isinstance(node, ast.Constant):
            value = node.value
            is_name = isinstance(value, str) and (_SYMBOL.fullmatch(value) or _NUMBER.fullmatch(value))
            is_allowed = bool(is_name) or (isinstance(value, (int, float)) and abs(value) < 1 << 63)
        if not is_allowed:
            raise _make_refusal(path, "expression", text)


def _is_small_power(call: ast.Call) -> bool:
    """Whether a call is `Pow(x, Integer(n))` with a small n and no power within x, so that numbers stay small."""
    if not (isinstance(call.func, ast.Name) and call.func.id == "Pow" and len(call.args) == 2):
        return False
    base, exponent = call.args
    if any(isinstance(node, ast.Name) and node.id == "Pow" for node in ast.walk(base)):
        return False
    if not (isinstance(exponent, ast.Call) and isinstance(exponent.func, ast.Name) and exponent.func.id == "Integer"):
        return False
    try:
        return abs(int(ast.literal_eval(exponent.args[0]))) <= MAX_EXPONENT
    except (ValueError, IndexError, TypeError, SyntaxError):
        return False


MAX_EXPONENT = 4
"""Largest power of a symbolic size."""

_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?(e[+-]?\d{1,3})?")


def _check_containers(spec: Any, path: Path) -> None:
    """Checks that nested inputs and outputs are Python containers with plain keys."""
    _, tree = spec
    stack = [tree]
    while stack:
        part = stack.pop()
        if part["type"] not in _CONTAINERS:
            raise _make_refusal(path, "container", part["type"])
        context = part["context"]
        keys = json.loads(context) if isinstance(context, str) else context
        is_list = isinstance(keys, list)
        is_plain = is_list and all(isinstance(key, str) and _CONTAINER_KEY.fullmatch(key) for key in keys)
        if keys is not None and not is_plain:
            raise _make_refusal(path, "container", context)
        stack += part["children_spec"]


def _make_refusal(path: Path, field: str, value: Any) -> WeightsError:
    problem = "contains more than tensors and known operators, which could be harmful code"
    return WeightsError(problem, file=path, field=field, value=value, hint=_HINT)
