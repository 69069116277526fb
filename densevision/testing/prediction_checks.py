"""Checks of a task's predictions, weights files and exports."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from densevision.errors import DenseVisionError
from densevision.exporting.export import export
from densevision.inference.predict import predict
from densevision.inference.predictor import TorchPredictor, load_torch
from densevision.results import Result
from densevision.run_config import PredictOptions
from densevision.sample import Sample
from densevision.tasks import TASKS
from densevision.testing.task_bench import TaskBench, assert_exit_code

__all__ = ["check_drawing", "check_export", "check_flips", "check_odd_sizes", "check_tiles", "check_weights_round_trip"]

ODD_SIZES = ((97, 131), (64, 33), (1, 1))
"""(height, width) of images that no stride divides."""
FLOAT32 = PredictOptions(precision="float32")


def check_odd_sizes(bench: TaskBench) -> None:
    """Images of any size give results of the expected size."""
    predictor = bench.build_predictor()
    for size in ODD_SIZES:
        (result,) = predictor.predict_batch([bench.make_noise(size)], FLOAT32)
        assert tuple(result.size) == bench.task.output_size(size), f"an image of {size} gives a result of {result.size}"
        assert isinstance(result, bench.task_class.Result), f"the result is {type(result).__name__}"


def check_drawing(bench: TaskBench) -> None:
    """Ground truth and predictions can be drawn, and written as JSON."""
    predictor, sample = bench.build_predictor(), bench.task.open_dataset("val")[0]
    (result,) = predictor.predict_batch([sample], FLOAT32)
    image = next(iter(sample.images.values()))
    assert sample.truth is not None, "the sample has no ground truth"
    for record in (result, sample.truth):
        drawing = bench.task.draw(image, record)
        is_rgb = drawing.dtype == np.uint8 and drawing.ndim == 3 and drawing.shape[2] == 3
        assert is_rgb, f"the drawing is {drawing.dtype} of shape {drawing.shape}"
        json.dumps(record.to_dict(), allow_nan=False)


def check_tiles(bench: TaskBench) -> None:
    """Tiled prediction gives results of the same form; a tile as large as the image changes nothing."""
    if "tile" not in bench.task.supported_options:
        return
    predictor, size = bench.build_predictor(), (96, 128)
    source = _to_source(bench.make_noise(size))
    whole, large, small = (_predict(predictor, source, **tile) for tile in ({}, {"tile": 128}, {"tile": 64}))
    _assert_same_form(whole, small)
    if bench.task.merge_strategy == "blend":
        assert whole.row_axes, f"{type(whole).__name__}.row_axes names no array"
        _assert_same_values(whole, large, "a tile of the size of the image")


def check_flips(bench: TaskBench) -> None:
    """With every kind of test-time augmentation, results have the same form; flips commute with mirrored images."""
    if "tta" not in bench.task.supported_options:
        return
    predictor, size = bench.build_predictor(), (64, 64)
    sample = bench.make_noise(size)
    source = _to_source(sample)
    whole = _predict(predictor, source)
    for transform in sorted(bench.task.tta_transforms):
        _assert_same_form(whole, _predict(predictor, source, tta=(transform,)))
    if "flip" in bench.task.tta_transforms and bench.task.merge_strategy == "blend":
        mirrored = {name: np.ascontiguousarray(image[:, ::-1]) for name, image in sample.images.items()}
        result, other = (_predict(predictor, each, tta=("flip",)) for each in (source, _to_source(Sample(mirrored))))
        restored = other.warp(np.array([[-1.0, 0, size[1]], [0, 1, 0]]), size)
        # Both are means of the same two predictions, so that even a nearly constant untrained model shows a difference.
        _assert_same_values(result.warp(np.eye(2, 3), size), restored, "flip of a mirrored image", 0.0, 1e-5)


def check_weights_round_trip(bench: TaskBench) -> None:
    """Saved and loaded weights give the same tensors, predictions and config."""
    if bench.task.name not in TASKS:  # loading looks the task up by its name
        return
    predictor, sample = bench.build_predictor(), bench.task.open_dataset("val")[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        predictor.save(path)
        loaded = load_torch(path, bench.task_class.name)
    assert loaded.task.config == bench.config, "the config of the card differs"
    # Asking for the networks also makes both predict on these, instead of on forms that round differently.
    tensors, loaded_tensors = predictor.model.state_dict(), loaded.model.state_dict()
    assert tensors.keys() == loaded_tensors.keys(), "tensors are missing after loading"
    for name, tensor in tensors.items():
        assert torch.equal(tensor, loaded_tensors[name]), f"the tensor {name} differs after loading"
    (result,), (other,) = (each.predict_batch([sample], FLOAT32) for each in (predictor, loaded))
    for name, values in result.numpy().items():
        is_equal = np.array_equal(values, other.numpy()[name], equal_nan=np.issubdtype(values.dtype, np.floating))
        assert is_equal, f"{name} differs after loading"


def check_export(bench: TaskBench) -> None:
    """The model can be exported, and the file gives the same outputs; by the command line for listed tasks."""
    with tempfile.TemporaryDirectory() as name:
        weights, out = Path(name) / "weights.safetensors", Path(name) / "model.pt2"
        predictor = bench.build_predictor()
        if bench.task.name in TASKS:
            predictor.save(weights)
            command = ["export", "--weights", str(weights), "--format", "torch", "--out", str(out)]
            assert_exit_code(0, [bench.task.name, *command])
            return
        try:
            export(predictor, out, "torch")
        except DenseVisionError as error:
            raise AssertionError(str(error)) from error


def _to_source(sample: Sample) -> Any:
    images = tuple(sample.images.values())
    return images if len(images) > 1 else images[0]


def _predict(predictor: TorchPredictor, source: Any, **options: Any) -> Result:
    return predict(predictor, source, precision="float32", **options)


def _assert_same_form(result: Result, other: Result) -> None:
    assert type(result) is type(other) and result.size == other.size, f"{result.size} became {other.size}"
    for name in result.row_axes:
        values, others = getattr(result, name), getattr(other, name)
        if values is None:
            assert others is None, f"{name} appears"
            continue
        assert others is not None and values.dtype == others.dtype, f"{name} changes its type"
        assert values.shape == others.shape, f"{name} of shape {values.shape} became {others.shape}"


def _assert_same_values(
    result: Result, other: Result, title: str, relative: float = 1e-2, absolute: float = 1e-3
) -> None:
    """Nearly all values are equal, up to a hundredth of their spread: rounding may decide the class of a few pixels."""
    _assert_same_form(result, other)
    for name in result.row_axes:
        values, others = getattr(result, name), getattr(other, name)
        if values is None:
            continue
        values, others = (np.asarray(each, np.float64) for each in (values, others))
        spread = np.ptp(values[np.isfinite(values)]) if np.isfinite(values).any() else 0.0
        is_close = np.isclose(values, others, rtol=relative, atol=1e-2 * spread + absolute, equal_nan=True)
        assert is_close.mean() > 0.95, f"{name} differs in {1 - is_close.mean():.0%} of its values: {title}"
