"""Exported files that predict: the same path as weights, with another runtime in the middle."""

from __future__ import annotations

import io
import json
import operator
import pickle
import sys
import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from densevision.errors import DenseVisionError, UsageError, WeightsError
from densevision.inference.predictor import Model
from densevision.io.weights import Card
from densevision.run_config import PredictOptions
from densevision.tasks import load_config, load_task
from densevision.tasks.base import Task, Tensors

CARD, STAMP = "densevision", "densevision_export"
"""Keys of an exported file's metadata: the card of the weights, and what the export did to them."""

DECODING = ("score_threshold", "max_detections", "iou_threshold", "class_agnostic", "classes", "iterations")
"""Options of `predict` that the network or its decoding reads, so that an export holds their values for good.

Without its decoding it holds only those that steer the network."""

CHANGEABLE = ("data.", "camera.", "decode.", "evaluation.", "quality.", "boundary")
"""Beginnings of the names of config options that say what to read and how to judge, not what the network is."""

_STRICTER = {"score_threshold": operator.gt, "max_detections": operator.lt}
"""Options whose stricter values can be had by leaving rows out afterwards."""

OUT = "_out"
"""What an output's name ends in where an input has the same one: in ONNX no two values share a name."""

_AGAIN = "Export the weights again."


@dataclass(frozen=True)
class ExportMetadata:
    """What an export did to the weights that its card describes.

    Attributes:
        decoded: The file holds `Task.answers`, not only the network.
        options: Value of each of `DECODING`.
        half: The network computes in float16; inputs, decoding and outputs stay float32.
        inputs: Name -> the input's size rule, for other tools that prepare images: float32 RGB in [0, 1], NCHW.
        images: Number of images on which the file was compared with PyTorch.
        differences: Output -> largest difference found there; see `engine.agreement`.
    """

    decoded: bool
    options: dict[str, Any]
    half: bool
    inputs: dict[str, dict[str, Any]]
    images: int = 0
    differences: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The stamp as JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str, file: Path) -> ExportMetadata:
        """Reads a stamp; fields that this version does not know are left aside.

        Raises:
            WeightsError: It is no stamp.
        """
        try:
            found = json.loads(text)
            found["options"] = {name: _as_option(found["options"].get(name)) for name in DECODING}
            return cls(**{item.name: found[item.name] for item in fields(cls)})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise WeightsError("the note of the export is damaged", file=file, field=STAMP, hint=_AGAIN) from None


class Exported(Model):
    """A network, with or without its decoding, in a file of another runtime."""

    def __init__(self, task: Task, card: Card, stamp: ExportMetadata):
        super().__init__(task, card)
        self.stamp = stamp

    @classmethod
    @abstractmethod
    def open(cls, path: Path) -> tuple[Any, dict[str, str]]:
        """Reads a file: what the constructor takes after the stamp, and the file's metadata.

        Raises:
            WeightsError: The file is damaged, or the runtime is not installed.
        """

    @abstractmethod
    def devices(self) -> list[str]:
        """Where the runtime can compute here, the fastest first."""

    @abstractmethod
    def run(self, inputs: Tensors, device: str) -> Tensors:
        """What the file itself answers to inputs on the network's canvas: tensors on the CPU, by name."""

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Replaces options of the config that are not the network's.

        Raises:
            UsageError: It is the network's, which the file holds as it was.
        """
        for name, value in settings.items():
            if not name.startswith(CHANGEABLE):
                hint = "Set it on the weights, and export them anew."
                raise UsageError("an exported file holds its network for good", field=name, value=value, hint=hint)
        super().configure(settings)

    def precision(self, options: PredictOptions) -> str:
        """The precision that the file computes in.

        Raises:
            UsageError: Another one is asked for.
        """
        own = "float16" if self.stamp.half else "float32"
        if options.precision not in ("auto", own):
            hint = "Leave it out, or export anew."
            raise UsageError(f"this export computes in {own}", field="precision", value=options.precision, hint=hint)
        return own

    def answers(self, inputs: Tensors, options: PredictOptions) -> Tensors:
        """Runs the file, and does that part of the decoding which it does not hold.

        Raises:
            UsageError: An option that the file cannot follow.
        """
        self.precision(options)
        device = self._device(options.device)
        asked, held = decoding(self.task, options), self.stamp.options
        for name in asked:
            self._check_held(name, asked[name], held[name], options)
        answers = self.run(inputs, device)
        return _narrowed(answers, asked, held) if self.stamp.decoded else self.task.answers(answers, options)

    def _check_held(self, name: str, asked: Any, held: Any, options: PredictOptions) -> None:
        """Refuses a value that cannot be had from what the file answers under the value it holds."""
        if asked == held:
            return
        if self.stamp.decoded:
            if name in _STRICTER and None not in (asked, held) and _STRICTER[name](asked, held):
                return
        elif self.task.forward_kwargs(options) == self.task.forward_kwargs(options.model_copy(update={name: held})):
            return
        hint = "Use the weights; or, if it concerns decoding, export without (decode=False, --raw)."
        raise UsageError(f"this export holds {name} = {held} for good", field=name, value=asked, hint=hint)

    def _device(self, name: str) -> str:
        there = self.devices()
        if name == "auto":
            return there[0]
        if name not in there:
            raise UsageError("this export cannot run there", field="device", value=name, hint=f"Use {there[0]}.")
        return name


class OnnxModel(Exported):
    """An ONNX file under ONNX Runtime."""

    def __init__(self, task: Task, card: Card, stamp: ExportMetadata, opened: tuple[Path, Any]):
        super().__init__(task, card, stamp)
        self._path, self._session = opened
        self._on = "cpu"

    @classmethod
    def open(cls, path: Path) -> tuple[tuple[Path, Any], dict[str, str]]:
        """The path with an `onnxruntime.InferenceSession`, and the model's metadata."""
        session = _onnx_session(path, "CPUExecutionProvider")
        return (path, session), dict(session.get_modelmeta().custom_metadata_map)

    def devices(self) -> list[str]:
        """A GPU where both PyTorch and ONNX Runtime are built for it, and the CPU."""
        providers = runtime("onnxruntime", WeightsError).get_available_providers()
        return ["cuda", "cpu"] if torch.cuda.is_available() and "CUDAExecutionProvider" in providers else ["cpu"]

    def run(self, inputs: Tensors, device: str) -> Tensors:
        """Runs a session on the device."""
        if device != self._on:
            provider = ("CUDAExecutionProvider", {"use_tf32": 0}) if device == "cuda" else "CPUExecutionProvider"
            self._session, self._on = _onnx_session(self._path, provider), device
        names = [output.name for output in self._session.get_outputs()]
        arrays = self._session.run(names, {name: tensor.numpy() for name, tensor in inputs.items()})
        return {_ours(name, inputs): torch.from_numpy(array) for name, array in zip(names, arrays)}


class OpenVinoModel(Exported):
    """An OpenVINO file (.xml, with its .bin beside it) on the CPU."""

    def __init__(self, task: Task, card: Card, stamp: ExportMetadata, network: Any):
        super().__init__(task, card, stamp)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Left alone it computes in bfloat16 where the processor can, and its answers are not those of the weights.
            "INFERENCE_PRECISION_HINT": "f16" if stamp.half else "f32",
        }
        self._compiled = runtime("openvino", WeightsError).Core().compile_model(network, "CPU", settings)

    @classmethod
    def open(cls, path: Path) -> tuple[Any, dict[str, str]]:
        """An `openvino.Model`, and the texts under "densevision" in its runtime information."""
        try:
            network = runtime("openvino", WeightsError).Core().read_model(str(path))
        except RuntimeError as failure:
            raise _damaged(path, failure) from None
        keys = [key for key in (CARD, STAMP) if network.has_rt_info([CARD, key])]
        return network, {key: str(network.get_rt_info([CARD, key]).value) for key in keys}

    def devices(self) -> list[str]:
        """The CPU."""
        return ["cpu"]

    def run(self, inputs: Tensors, device: str) -> Tensors:
        """Runs the compiled model."""
        answers = self._compiled({name: tensor.numpy() for name, tensor in inputs.items()})
        # The arrays are the runtime's own memory, which its next run overwrites.
        return {_ours(output.any_name, inputs): torch.from_numpy(array.copy()) for output, array in answers.items()}


class TorchProgram(Exported):
    """A program of `torch.export`."""

    def __init__(self, task: Task, card: Card, stamp: ExportMetadata, program: torch.export.ExportedProgram):
        super().__init__(task, card, stamp)
        self._program, self._module, self._on = program, program.module(), "cpu"

    @classmethod
    def open(cls, path: Path) -> tuple[torch.export.ExportedProgram, dict[str, str]]:
        """A `torch.export.ExportedProgram`, and the texts saved with it."""
        _refuse_code(path)
        texts = {CARD: "", STAMP: ""}
        try:
            program = torch.export.load(path, extra_files=texts)
        except Exception as failure:  # errors of zip, JSON and schema share no base
            raise _damaged(path, failure) from None
        return program, {key: text for key, text in texts.items() if text}

    def devices(self) -> list[str]:
        """All of PyTorch's."""
        return ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]

    def run(self, inputs: Tensors, device: str) -> Tensors:
        """Runs the program, moved to the device."""
        if device != self._on:
            from torch.export.passes import move_to_device_pass

            self._program = move_to_device_pass(self._program, device)
            self._module, self._on = self._program.module(), device
        with torch.inference_mode():
            answers = self._module({name: tensor.to(device) for name, tensor in inputs.items()})
        return {name: tensor.cpu() for name, tensor in answers.items()}


KINDS: dict[str, type[Exported]] = {".onnx": OnnxModel, ".xml": OpenVinoModel, ".pt2": TorchProgram}
"""Suffix of an exported file -> what runs it."""


def load_exported(path: str | Path, task: str | None = None) -> Exported:
    """Reads a file that `export` wrote into something that predicts.

    Args:
        path: An .onnx, .xml (OpenVINO, with its .bin beside it) or .pt2 file.
        task: Refuse an export of any other task.

    Raises:
        WeightsError: The file is missing, truncated, foreign, of a newer schema or another task, or its runtime is
            not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError("no such file", file=path)
    if path.stat().st_size == 0:
        raise WeightsError("the file is empty (0 bytes)", file=path, hint=_AGAIN)
    kind = KINDS[path.suffix]
    opened, texts = kind.open(path)
    if CARD not in texts or STAMP not in texts:
        problem = "has no densevision card, so how to prepare images and read its answers is unknown"
        raise WeightsError(problem, file=path, hint="Give a file that `densevision TASK export` wrote.")
    card, stamp = Card.from_json(texts[CARD], path), ExportMetadata.from_json(texts[STAMP], path)
    if task is not None and card.task != task:
        hint = f"Give an export of {task}, or use this one with `densevision {card.task}`."
        raise WeightsError("an export of another task", file=path, field="task", value=card.task, hint=hint)
    config = load_config(card.task).checked(card.config, path)
    return kind(load_task(card.task)(config), card, stamp, opened)


def decoding(task: Task, options: PredictOptions) -> dict[str, Any]:
    """The values that decoding goes by: those asked for, and where none is, those of the task's config."""
    own = getattr(task.config, "decode", None)
    asked = {name: getattr(options, name) for name in DECODING}
    return {name: getattr(own, name, None) if value is None else value for name, value in asked.items()}


def runtime(name: str, error: type[DenseVisionError]) -> ModuleType:
    """Imports a module of the export extra, after it was told not to phone home.

    Raises:
        error: It is not installed.
    """
    # When it is imported, openvino reports to its makers through this package; without it, a mute stand-in serves.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        module = import_module(name)
    except ImportError as failure:
        hint = 'Install it: pip install "densevision[export]".'
        raise error(f"needs {name}, which cannot be imported: {failure}", hint=hint) from None
    if name == "onnxruntime":
        module.disable_telemetry_events()
    return module


def _ours(name: str, inputs: Tensors) -> str:
    """The task's name of a file's output."""
    bare = name.removesuffix(OUT)
    return bare if bare in inputs else name


def _onnx_session(path: Path, provider: Any) -> Any:
    onnxruntime = runtime("onnxruntime", WeightsError)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = torch.get_num_threads()  # its own count overlooks the limits of a container
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=[provider])
    except Exception as failure:  # the runtime's errors share no base
        raise _damaged(path, failure) from None
    name = provider if isinstance(provider, str) else provider[0]
    if name not in session.get_providers():
        raise UsageError("ONNX Runtime cannot use the GPU here", field="device", hint="Use device cpu.")
    return session


def _narrowed(answers: Tensors, asked: dict[str, Any], held: dict[str, Any]) -> Tensors:
    """Rows under stricter options: exact, because rows stand strongest first and none depends on a weaker one."""
    if "valid" not in answers:
        return answers
    rows = answers["valid"].shape
    count = asked["max_detections"]
    narrowed = {name: tensor[:, :count] if tensor.shape[:2] == rows else tensor for name, tensor in answers.items()}
    if asked["score_threshold"] != held["score_threshold"]:
        narrowed["valid"] = narrowed["valid"] & (narrowed["scores"] >= asked["score_threshold"])
    return narrowed


def _refuse_code(path: Path) -> None:
    """Refuses an archive that would make PyTorch unpickle objects or load compiled code: exports hold tensors only."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            unsafe = [name for name in names if "_obj_" in name or "/aotinductor/" in name]
            for name in names:
                if name.endswith("_config.json") and '"use_pickle": true' in archive.read(name).decode():
                    unsafe.append(name)
                if name.endswith(".pt"):
                    torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        unsafe = [name]
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError) as failure:
        raise _damaged(path, failure) from None
    if unsafe:
        raise WeightsError("holds more than tensors, which could be harmful code", file=path, value=unsafe[0])


def _as_option(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _damaged(path: Path, failure: Exception) -> WeightsError:
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(failure).__name__
    return WeightsError(f"the file is damaged or no such export: {reason}", file=path, hint=_AGAIN)
