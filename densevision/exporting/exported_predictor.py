"""Exported files that predict: the same path as weights, with another runtime in the middle."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from densevision.errors import DenseVisionError, UsageError, WeightsError
from densevision.exporting.metadata import CARD_KEY, DECODE_OPTIONS, EXPORT_KEY, ExportMetadata
from densevision.inference.card_config import read_card_config
from densevision.inference.predictor import Predictor
from densevision.io.onnx_file import check_onnx
from densevision.io.openvino_file import check_openvino
from densevision.io.torch_program import sanitize_archive
from densevision.io.weights import Card, check_task
from densevision.nn.model import Tensors
from densevision.run_config import PredictOptions
from densevision.tasks import load_task
from densevision.tasks.base import Task
from densevision.telemetry import disable_telemetry

__all__ = [
    "ExportedPredictor",
    "OnnxPredictor",
    "OpenVinoPredictor",
    "TorchProgramPredictor",
    "import_runtime",
    "load_exported",
    "resolve_decode_options",
]

EVALUATION_SECTIONS = ("data.", "camera.", "decode.", "evaluation.", "quality.", "boundary")
"""Prefixes of config options that concern data and evaluation, not the model."""

_IS_STRICTER = {"score_threshold": operator.gt, "max_detections": operator.lt}
"""Options whose stricter values can be applied afterwards by dropping rows."""

OUTPUT_SUFFIX = "_out"
"""Suffix of an output that has the name of an input: names in an ONNX graph are unique."""

_HINT = "Export the weights again."


class ExportedPredictor(Predictor):
    """A model, with or without its postprocessing, in a file of another runtime.

    Attributes:
        metadata: How the file was exported.
    """

    is_exported = True

    def __init__(self, task: Task, card: Card, metadata: ExportMetadata):
        super().__init__(task, card)
        self.metadata = metadata

    @classmethod
    @abstractmethod
    def open(cls, path: Path) -> tuple[Any, dict[str, str]]:
        """Opens a file: returns the constructor's last argument, and the file's metadata.

        Raises:
            WeightsError: The file is damaged, or the runtime is not installed.
        """

    @abstractmethod
    def list_devices(self) -> list[str]:
        """Devices on which the runtime can compute, the fastest first."""

    @abstractmethod
    def run(self, inputs: Tensors, device: str, precision: str) -> Tensors:
        """Runs the file on inputs of the network's canvas: outputs by name, on the CPU."""

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Replaces options of data and evaluation.

        Raises:
            UsageError: An option concerns the model, which the file fixes.
        """
        for name, value in settings.items():
            part, _, own_name = name.partition(".")
            if not (own_name if part in self.task.parts else name).startswith(EVALUATION_SECTIONS):
                hint = "Set it on the weights, and export them again."
                raise UsageError("cannot be changed in an exported file", field=name, value=value, hint=hint)
        super().configure(settings)

    def precision(self, options: PredictOptions) -> str:
        """The precision of the file.

        Raises:
            UsageError: The options ask for another one.
        """
        precision = self.metadata.precision
        if options.precision not in ("auto", precision):
            problem = f"this export computes in {precision}"
            raise UsageError(problem, field="precision", value=options.precision, hint="Leave it out, or export again.")
        return precision

    def predict_tensors(self, inputs: Tensors, options: PredictOptions) -> Tensors:
        """Runs the file, and the postprocessing where the file does not include it.

        Raises:
            UsageError: The file fixes another value of an option.
        """
        precision = self.precision(options)
        device = self._pick_device(options.device)
        values = [
            (prefix, resolve_decode_options(task, own), self._list_fixed(task, prefix))
            for prefix, task, own in self.task.iterate_parts(options)
        ]
        for _, requested, fixed in values:
            for name in DECODE_OPTIONS:
                self._check_option(name, requested[name], fixed[name], options)
        with self.lock:  # sessions and requests of the runtimes are not made for several threads
            outputs = self.run(inputs, device, precision)
        if not self.metadata.decoded:
            return self.task.postprocess(outputs, options)
        for prefix, requested, fixed in values:
            outputs = outputs | _apply_stricter_options(outputs, prefix, requested, fixed)
        return outputs

    def _list_fixed(self, task: Task, prefix: str) -> dict[str, Any]:
        """The values of `DECODE_OPTIONS` in the file, for the task or one of its parts."""
        if not prefix:
            return self.metadata.options
        given = {name: value for name, value in self.metadata.options.items() if value is not None}
        return resolve_decode_options(task, task.select_options(PredictOptions.from_dict(given)))

    def _check_option(self, name: str, requested: Any, fixed: Any, options: PredictOptions) -> None:
        """Refuses a value that cannot be derived from outputs under the fixed value."""
        if requested == fixed:
            return
        if self.metadata.decoded:
            if name in _IS_STRICTER and None not in (requested, fixed) and _IS_STRICTER[name](requested, fixed):
                return
        elif self.task.forward_kwargs(options) == self.task.forward_kwargs(options.model_copy(update={name: fixed})):
            return
        hint = "Use the weights; or, if it concerns postprocessing, export without it (decode=False, --raw)."
        raise UsageError(f"this export fixes {name} = {fixed}", field=name, value=requested, hint=hint)

    def _pick_device(self, name: str) -> str:
        devices = self.list_devices()
        if name == "auto":
            return devices[0]
        if name not in devices:
            raise UsageError("this export cannot run there", field="device", value=name, hint=f"Use {devices[0]}.")
        return name


class OnnxPredictor(ExportedPredictor):
    """An ONNX file under ONNX Runtime."""

    def __init__(self, task: Task, card: Card, metadata: ExportMetadata, opened: tuple[Path, Any]):
        super().__init__(task, card, metadata)
        self._path, self._session = opened
        self._session_device = "cpu"

    @classmethod
    def open(cls, path: Path) -> tuple[tuple[Path, Any], dict[str, str]]:
        """Opens an `onnxruntime.InferenceSession`."""
        check_onnx(path)
        session = _open_session(path, "CPUExecutionProvider")
        return (path, session), dict(session.get_modelmeta().custom_metadata_map)

    def list_devices(self) -> list[str]:
        """The GPU, where PyTorch and ONNX Runtime support it, and the CPU."""
        providers = import_runtime("onnxruntime", WeightsError).get_available_providers()
        return ["cuda", "cpu"] if torch.cuda.is_available() and "CUDAExecutionProvider" in providers else ["cpu"]

    def run(self, inputs: Tensors, device: str, precision: str) -> Tensors:
        """Runs the session on the device."""
        if device != self._session_device:
            provider = ("CUDAExecutionProvider", {"use_tf32": 0}) if device == "cuda" else "CPUExecutionProvider"
            self._session, self._session_device = _open_session(self._path, provider), device
        names = [output.name for output in self._session.get_outputs()]
        arrays = self._session.run(names, {name: tensor.numpy() for name, tensor in inputs.items()})
        return {_restore_name(name, inputs): torch.from_numpy(array) for name, array in zip(names, arrays)}


class OpenVinoPredictor(ExportedPredictor):
    """An OpenVINO file, an .xml with its .bin beside it, on the CPU."""

    def __init__(self, task: Task, card: Card, metadata: ExportMetadata, network: Any):
        super().__init__(task, card, metadata)
        self._core, self._network = import_runtime("openvino", WeightsError).Core(), network
        self._has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._compiled_precision = metadata.precision
        self._compiled = self._compile(self._compiled_precision)

    @classmethod
    def open(cls, path: Path) -> tuple[Any, dict[str, str]]:
        """Opens an `openvino.Model`, and reads the metadata from its runtime information."""
        try:
            weights = check_openvino(path)
            network = import_runtime("openvino", WeightsError).Core().read_model(str(path), str(weights))
        except RuntimeError as error:
            raise _make_damage_error(path, error) from None
        keys = [key for key in (CARD_KEY, EXPORT_KEY) if network.has_rt_info([CARD_KEY, key])]
        return network, {key: str(network.get_rt_info([CARD_KEY, key]).value) for key in keys}

    def list_devices(self) -> list[str]:
        """The CPU."""
        return ["cpu"]

    def _compile(self, precision: str) -> Any:
        # By default it computes in bfloat16 where the processor can, with other results than the weights.
        hints = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}  # int8: its float operations
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": hints[precision],
        }
        return self._core.compile_model(self._network, "CPU", settings)

    def precision(self, options: PredictOptions) -> str:
        """The precision of the file; float32 files also compute in bfloat16 on request, where the processor can.

        Raises:
            UsageError: The options ask for another one.
        """
        if options.precision == "bfloat16" and self.metadata.precision == "float32" and self._has_bfloat16:
            return "bfloat16"
        return super().precision(options)

    def run(self, inputs: Tensors, device: str, precision: str) -> Tensors:
        """Runs the model, compiled for this precision."""
        if precision != self._compiled_precision:
            self._compiled, self._compiled_precision = self._compile(precision), precision
        outputs = self._compiled({name: tensor.numpy() for name, tensor in inputs.items()})
        # The arrays are memory of the runtime, which the next run overwrites.
        return {
            _restore_name(output.any_name, inputs): torch.from_numpy(array.copy()) for output, array in outputs.items()
        }


class TorchProgramPredictor(ExportedPredictor):
    """A program of `torch.export`."""

    def __init__(self, task: Task, card: Card, metadata: ExportMetadata, program: torch.export.ExportedProgram):
        super().__init__(task, card, metadata)
        self._program, self._module, self._program_device = program, program.module(), "cpu"

    @classmethod
    def open(cls, path: Path) -> tuple[torch.export.ExportedProgram, dict[str, str]]:
        """Opens a `torch.export.ExportedProgram`."""
        archive = sanitize_archive(path)
        texts = {CARD_KEY: "", EXPORT_KEY: ""}
        try:
            program = torch.export.load(archive, extra_files=texts)
        except Exception as error:  # errors of zip, JSON and schema share no base class
            raise _make_damage_error(path, error) from None
        return program, {key: text for key, text in texts.items() if text}

    def list_devices(self) -> list[str]:
        """The devices of PyTorch."""
        return ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]

    def run(self, inputs: Tensors, device: str, precision: str) -> Tensors:
        """Runs the program, moved to the device."""
        if device != self._program_device:
            from torch.export.passes import move_to_device_pass

            self._program = move_to_device_pass(self._program, device)
            self._module, self._program_device = self._program.module(), device
        with torch.inference_mode():
            outputs = self._module({name: tensor.to(device) for name, tensor in inputs.items()})
        return {name: tensor.cpu() for name, tensor in outputs.items()}


PREDICTOR_BY_SUFFIX: dict[str, type[ExportedPredictor]] = {
    ".onnx": OnnxPredictor,
    ".xml": OpenVinoPredictor,
    ".pt2": TorchProgramPredictor,
}
"""Suffix of an exported file -> its predictor."""


def load_exported(path: str | Path, task: str | None = None) -> ExportedPredictor:
    """Loads a file that `export` wrote.

    Args:
        path: An .onnx, .xml (OpenVINO, with its .bin beside it) or .pt2 file.
        task: Refuse an export of any other task.

    Raises:
        WeightsError: The file is missing, truncated, of another origin, of a newer schema or another task, or its
            runtime is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError("no such file", file=path)
    if path.stat().st_size == 0:
        raise WeightsError("the file is empty (0 bytes)", file=path, hint=_HINT)
    predictor_class = PREDICTOR_BY_SUFFIX[path.suffix]
    opened, texts = predictor_class.open(path)
    if CARD_KEY not in texts or EXPORT_KEY not in texts:
        problem = "has no densevision card, so its preprocessing and outputs are unknown"
        raise WeightsError(problem, file=path, hint="Pass a file that `densevision TASK export` wrote.")
    card, metadata = Card.from_json(texts[CARD_KEY], path), ExportMetadata.from_json(texts[EXPORT_KEY], path)
    check_task(card, path, task)
    config = read_card_config(card, path)
    return predictor_class(load_task(card.task)(config), card, metadata, opened)  # type: ignore[call-arg]


def resolve_decode_options(task: Task, options: PredictOptions) -> dict[str, Any]:
    """The value of each of `DECODE_OPTIONS`, with the defaults of the config or the architecture."""
    values = {name: getattr(options, name) for name in DECODE_OPTIONS}
    defaults = {**task.thresholds(options), **task.forward_kwargs(options)}
    return {name: defaults.get(name) if value is None else value for name, value in values.items()}


def import_runtime(name: str, error_class: type[DenseVisionError]) -> ModuleType:
    """Imports a module of the extras export or int8, with its telemetry disabled.

    Raises:
        DenseVisionError: The module is not installed; an error of `error_class`.
    """
    disable_telemetry()
    try:
        module = import_module(name)
    except ImportError as error:
        hint = f'Install it: pip install "densevision[{"int8" if name == "nncf" else "export"}]".'
        raise error_class(f"needs {name}, which cannot be imported: {error}", hint=hint) from None
    if name == "onnxruntime":
        module.disable_telemetry_events()  # on other systems than Linux
    return module


def _restore_name(name: str, inputs: Tensors) -> str:
    """The task's name of an output of a file."""
    stripped = name.removesuffix(OUTPUT_SUFFIX)
    return stripped if stripped in inputs else name


def _open_session(path: Path, provider: Any) -> Any:
    onnxruntime = import_runtime("onnxruntime", WeightsError)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = torch.get_num_threads()  # its own default ignores the limits of a container
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=[provider])
    except Exception as error:  # the errors of the runtime share no base class
        raise _make_damage_error(path, error) from None
    name = provider if isinstance(provider, str) else provider[0]
    if name not in session.get_providers():
        raise UsageError("ONNX Runtime cannot use the GPU", field="device", hint="Use --device cpu.")
    return session


def _apply_stricter_options(outputs: Tensors, prefix: str, requested: dict[str, Any], fixed: dict[str, Any]) -> Tensors:
    """Drops rows under stricter options: exact, because rows are sorted by score and do not depend on weaker ones.

    Args:
        outputs: Of the file.
        prefix: That of the names of one part; only its outputs are returned.
        requested: The options of the prediction.
        fixed: Those of the file.
    """
    own = {name: tensor for name, tensor in outputs.items() if name.startswith(prefix)}
    valid, scores = f"{prefix}valid", f"{prefix}scores"
    if valid not in own:
        return own
    shape, count = own[valid].shape, requested["max_detections"]
    rows = {name: tensor[:, :count] if tensor.shape[:2] == shape else tensor for name, tensor in own.items()}
    if requested["score_threshold"] != fixed["score_threshold"]:
        rows[valid] = rows[valid] & (rows[scores] >= requested["score_threshold"])
    return rows


def _make_damage_error(path: Path, error: Exception) -> WeightsError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    return WeightsError(f"the file is damaged or not an export of densevision: {reason}", file=path, hint=_HINT)
