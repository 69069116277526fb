"""Models as a library: every architecture in a bare training loop, and the same model in its task."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
import torch
import torch.nn.functional as F
from torch import Tensor

import densevision
from densevision.datasets.scenes import Scenes
from densevision.errors import UsageError
from densevision.inference.predictor import TorchPredictor
from densevision.io.weights import Card, save_weights
from densevision.models import create_model, find_architectures
from densevision.nn.inference_form import make_inference_form
from densevision.nn.model import Model
from densevision.tasks import TASKS, load_config, load_task
from densevision.tasks.detection.models import MODELS
from densevision.tasks.registry import Architecture
from densevision.training.train import make_card

SIDE = 64
NUM_CLASSES = 3
BATCH = 2

DETECTOR = {"num_classes": NUM_CLASSES, "image_size": SIDE}
TWO_STAGE = {**DETECTOR, **small_models.TWO_STAGE, "encoder": "test_resnet"}
DFINE = {
    **DETECTOR,
    "encoder_width": 32,
    "encoder_feedforward": 32,
    "encoder_expansion": 0.25,
    "encoder_depth": 0.34,
    "width": 32,
    "feedforward": 32,
    "layers": 2,
    "heads": 4,
    "num_queries": 20,
    "num_denoising": 10,
}
EOMT = {**DETECTOR, "encoder": "test_vit", "num_queries": 8, "num_blocks": 2, "num_points": 32}
RAFT = {"training_iterations": 2, "iterations": 2}
RAFT_LARGE = {
    **RAFT,
    "encoder_channels": (16, 16, 24, 32, 64),
    **{"hidden_channels": 32, "context_channels": 32, "motion_channels": 32, "head_channels": 32},
    **{"correlation_channels": (32, 24), "flow_channels": (16, 8)},
}

SMALL: dict[str, dict[str, Any]] = {
    **{f"yolo_{size}": {**DETECTOR, "encoder": "test_resnet", "width": 16, "depth": 1} for size in "nsml"},
    **{
        f"yolox_{size}{suffix}": {**DETECTOR, "width_multiple": 0.125, "depth_multiple": 0.33}
        for size in ("nano", "tiny", "s", "m", "l", "x")
        for suffix in ("", "_legacy")
    },
    "dfine_n": {**DFINE, "points": (2, 2)},
    **{f"dfine_{size}": {**DFINE, "encoder": "hgnetv2_b0", "points": (2, 2, 2)} for size in "smlx"},
    "faster_rcnn": TWO_STAGE,
    "mask_rcnn": {**TWO_STAGE, "mask_channels": 16, "mask_convs": 1},
    "keypoint_rcnn": {**TWO_STAGE, "num_keypoints": 2, "keypoint_channels": 16, "keypoint_convs": 1},
    "mask_keypoint_rcnn": {
        **TWO_STAGE,
        **{"mask_channels": 16, "mask_convs": 1},
        **{"num_keypoints": 2, "keypoint_channels": 16, "keypoint_convs": 1},
    },
    **{f"eomt_{size}": EOMT for size in ("small", "base", "large", "giant")},
    **{f"eomt_instance_{size}": EOMT for size in ("small", "base", "large")},
    **{name: {"decoder_options": options} for name, options in small_models.DECODERS.items()},
    "depth_dpt": {"width": 16},
    "depth_unet": {"width": 16},
    **{
        f"depth_anything{size}": {
            "encoder": "test_vit",
            "width": 16,
            "reassemble_channels": (8, 8, 16, 16),
            "blocks": (1, 2, 3, 4),
            "image_size": SIDE,
            "max_depth": 10.0,
        }
        for size in ("", "_base", "_large")
    },
    **{f"raft_{size}": RAFT for size in ("tiny", "small", "timm", "timm_tiny", "timm_large")},
    "raft_large": RAFT_LARGE,
    **{f"sea_raft_{size}": {**RAFT, "encoder": "resnet18", "blocks": 1, "hidden_channels": 32} for size in "sml"},
    "smp": {"encoder": "resnet18", "decoder_options": {"decoder_channels": [16, 8, 8, 8, 8]}},
    "edsr_baseline": {"width": 8, "depth": 2},
    "edsr_large": {"width": 8, "depth": 2},
    "rrdb": {"scale": 2, "width": 8, "depth": 1},
    "spandrel": {"scale": 2, "options": {"num_feat": 8, "num_conv": 1, "upscale": 2}},
    "srvgg": {"width": 8, "depth": 2},
    "vdsr": {"width": 8, "depth": 3},
    "nafnet": {"width": 8, "depth": 1},
    "pix2pix_unet": {"width": 8, "image_size": SIDE},
    "pix2pix_resnet": {"width": 8, "depth": 1, "image_size": SIDE},
    "pix2pix_timm": {"width": 8, "image_size": SIDE},
}
"""Constructor arguments that make an architecture small."""

FURTHER_SIZES = {
    *("yolo_s", "yolo_m", "yolo_l"),
    *(f"yolox_{size}{suffix}" for size in ("tiny", "s", "m", "l", "x") for suffix in ("", "_legacy")),
    *("dfine_m", "dfine_l", "dfine_x"),
    *("eomt_base", "eomt_large", "eomt_giant", "eomt_instance_base", "eomt_instance_large"),
    *("depth_anything_base", "depth_anything_large"),
    *("raft_timm_large", "sea_raft_m", "sea_raft_l"),
}
"""Architectures that differ from a smaller one in numbers only; the smaller one is tested in the default run."""

EVERY_ARCHITECTURE = [
    pytest.param(name, marks=[pytest.mark.slow] if name in FURTHER_SIZES else []) for name in densevision.list_models()
]


def owner(name: str) -> str:
    return next(task for task in TASKS if name in find_architectures(task))


def small_arguments(name: str) -> dict[str, Any]:
    """The entry of `SMALL`, completed by 3 classes and a tiny encoder."""
    parameters = find_architectures()[name].parameters()
    arguments = {"num_classes": NUM_CLASSES} if "num_classes" in parameters else {}
    if find_architectures()[name].arguments.get("encoder") in ("mobilenetv2_100", "resnet50", "resnet34"):
        arguments["encoder"] = "test_resnet"
    return arguments | SMALL.get(name, {})


def make_small(name: str, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return densevision.create_model(name, **small_arguments(name))


def make_inputs(model: Model, seed: int = 0) -> dict[str, Tensor]:
    """Random images on a canvas that the model accepts."""
    generator = torch.Generator().manual_seed(seed)
    height, width = next(iter(model.input_spec.values())).view((SIDE, SIDE)).size
    return {
        name: torch.rand(BATCH, spec.channels, height, width, generator=generator)
        if spec.kind == "image"
        else torch.tensor([[height, width]] * BATCH)
        for name, spec in model.input_spec.items()
    }


def make_targets(task: str, model: Model, inputs: dict[str, Tensor], seed: int = 1) -> dict[str, Tensor]:
    """Random targets as `docs/models.md` describes them."""
    generator = torch.Generator().manual_seed(seed)
    height, width = next(iter(inputs.values())).shape[-2:]

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    if task in ("detection", "instance"):
        corners = 4 + rand(BATCH, 2, 2) * 16
        boxes = torch.cat([corners, corners + 12 + rand(BATCH, 2, 2) * 24], 2)
        targets = {
            "boxes": boxes,
            "labels": torch.randint(0, NUM_CLASSES, (BATCH, 2), generator=generator),
            "valid": torch.tensor([[True, True], [True, False]]),
            "crowd": torch.zeros(BATCH, 2, dtype=torch.bool),
        }
        if task == "instance":
            x, y = torch.arange(width), torch.arange(height)[:, None]
            left, top, right, bottom = boxes[..., None, None].unbind(2)
            targets["masks"] = (x >= left) & (x < right) & (y >= top) & (y < bottom)
            visible = torch.full((BATCH, 2, 2, 1), 2.0)
            points = boxes[..., None, :2] + rand(BATCH, 2, 2, 2) * (boxes[..., None, 2:] - boxes[..., None, :2])
            targets["keypoints"] = torch.cat([points, visible], 3)
        return targets
    if task == "semantic":
        return {"labels": torch.randint(0, NUM_CLASSES, (BATCH, height, width), generator=generator)}
    if task == "depth":
        depth = 1 + rand(BATCH, 1, height, width)
        return {"depth": depth, "valid": torch.ones_like(depth, dtype=torch.bool)}
    if task == "flow":
        mask = torch.ones(BATCH, height, width, dtype=torch.bool)
        occlusion = (rand(BATCH, height, width) > 0.8).float()
        flow = torch.ones(BATCH, 2, height, width) * torch.tensor([2.0, -1.0])[:, None, None]
        return {"flow": flow, "valid": mask, "occlusion": occlusion, "occlusion_valid": mask}
    scale = getattr(model, "scale", 1)
    image = 1 - F.interpolate(inputs["image"], scale_factor=scale)
    return {"image": image, "known": torch.ones(BATCH, 1, scale * height, scale * width, dtype=torch.bool)}


def take_step(model: Model, task: str, optimizer: torch.optim.Optimizer | None = None) -> float:
    inputs = make_inputs(model)
    torch.manual_seed(0)  # sampled proposals, points and denoising queries
    losses = model.compute_losses(inputs, make_targets(task, model, inputs))
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()
    return float(total.detach())


@pytest.mark.parametrize("name", EVERY_ARCHITECTURE)
def test_architecture__trains_without_config(name: str) -> None:
    model, task = make_small(name), owner(name)
    inputs = make_inputs(model)
    with torch.no_grad():
        outputs = [model.train(mode)(**inputs) for mode in (True, False)]
    kinds = [{key: (value.dtype, value.ndim) for key, value in each.items()} for each in outputs]
    assert kinds[0] == kinds[1]
    parameters = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    if not parameters:
        return
    assert torch.isfinite(torch.tensor(take_step(model.train(), task)))
    missing = [key for key, parameter in parameters.items() if parameter.grad is None]
    broken = [
        key for key, parameter in parameters.items() if key not in missing and not parameter.grad.isfinite().all()
    ]
    assert not missing and not broken


def task_overrides(task: str, name: str) -> dict[str, Any]:
    """Options of the task's config that describe the model of `small_arguments`."""
    arguments = small_arguments(name)
    overrides: dict[str, Any] = {"arch": name}
    if arguments.pop("num_classes", None) is not None:
        overrides["classes"] = [f"class {number}" for number in range(NUM_CLASSES)]
    if (keypoints := arguments.pop("num_keypoints", None)) is not None:
        overrides["keypoint_names"] = [f"point {number}" for number in range(keypoints)]
    if task == "depth" and "image_size" in arguments:
        overrides |= {"data.shorter": arguments["image_size"], "data.size": [arguments.pop("image_size")] * 2}
    options = {"image_size": "data.size", "encoder": "backbone.name", "scale": "scale", "max_depth": "max_depth"}
    for argument, option in options.items():
        if argument in arguments:
            overrides[option] = arguments.pop(argument)
    return overrides | {f"model.{argument}": value for argument, value in arguments.items()}


@pytest.mark.parametrize("name", EVERY_ARCHITECTURE)
def test_create_model__equals_the_model_of_the_task(name: str) -> None:
    task = owner(name)
    config = load_config(task).resolve(None, task_overrides(task, name))
    torch.manual_seed(0)
    of_task, model = load_task(task)(config).build_model().eval(), make_small(name).eval()
    assert model.input_spec == of_task.input_spec
    weights, weights_of_task = model.state_dict(), of_task.state_dict()
    assert list(weights) == list(weights_of_task)
    assert all(torch.equal(weights[key], weights_of_task[key]) for key in weights)
    inputs = make_inputs(model)
    with torch.no_grad():
        outputs, outputs_of_task = model(**inputs), of_task(**inputs)
    assert all(torch.equal(outputs[key], outputs_of_task[key]) for key in (*outputs, *outputs_of_task))


def list_networks() -> list[Any]:
    """Every network once; where several sizes share a class, those after the first are slow tests."""
    architectures = find_architectures()
    networks, classes, parameters = set(), set(), []
    for name in densevision.list_models():
        network = architectures[name].load_class(), repr(small_arguments(name))
        if network not in networks:
            marks = pytest.mark.slow if network[0] in classes else ()
            parameters.append(pytest.param(name, marks=marks))
        networks.add(network)
        classes.add(network[0])
    return parameters


@pytest.mark.parametrize("name", list_networks())
def test_inference_form__equals_the_model(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "densevision.nn.inference_form")  # it says where it is the network as it was
    model = make_small(name).eval()
    generator = torch.Generator().manual_seed(1)
    for norm in (module for module in model.modules() if getattr(module, "running_var", None) is not None):
        norm.running_mean.copy_(torch.randn(norm.running_mean.shape, generator=generator) * 0.1)
        norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) + 0.5)
    inputs = make_inputs(model)
    form = make_inference_form(model, inputs)
    with torch.inference_mode():
        outputs, of_form = model(**inputs), form(**inputs)
    for key, output in outputs.items():
        scale = float(output.abs().amax().nan_to_num(0, 0, 0)) if output.is_floating_point() else 0.0
        torch.testing.assert_close(of_form[key], output, rtol=0, atol=1e-5 * scale)
    with torch.inference_mode():
        make_inference_form(model, inputs, dtype=torch.bfloat16)
    assert not caplog.records


LEARNERS = {
    "detection": "yolo_n",
    "semantic": "unet",
    "instance": "mask_rcnn",
    "depth": "depth_unet",
    "flow": "raft_tiny",
    "superres": "edsr_baseline",
    "translation": "pix2pix_unet",
}
"""One architecture per task that is trained for a few steps."""


@pytest.mark.parametrize("task", LEARNERS)
def test_training__loss_decreases(task: str) -> None:
    model = make_small(LEARNERS[task]).train()
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], 3e-3)
    history = [take_step(model, task, optimizer) for _ in range(15)]
    assert max(history[-3:]) < 0.9 * history[0]


def test_names__unique_over_all_tasks() -> None:
    names = [name for task in TASKS for name in densevision.list_models(task)]
    assert len(names) == len(set(names)) and sorted(names) == densevision.list_models()


def test_create_model__unknown_name() -> None:
    with pytest.raises(UsageError) as error:
        densevision.create_model("yolo_nn")
    assert error.value.value == "yolo_nn" and "yolo_n" in str(error.value.hint)


def test_create_model__unknown_argument() -> None:
    with pytest.raises(UsageError) as error:
        densevision.create_model("yolo_n", num_class=3)
    assert error.value.field == "model.num_class" and "num_classes" in str(error.value.hint)


def test_create_model__argument_of_a_wrong_type() -> None:
    with pytest.raises(UsageError) as error:
        densevision.create_model("yolo_n", width="wide")
    assert error.value.field == "model.width" and error.value.value == "wide"


def test_list_models__unknown_task() -> None:
    with pytest.raises(UsageError):
        densevision.list_models("detektion")


@pytest.mark.parametrize("task", LEARNERS)
def test_weights__round_trip(task: str, tmp_path: Path) -> None:
    name = LEARNERS[task]
    config = load_config(task).resolve(None, task_overrides(task, name))
    model = make_small(name).eval()
    TorchPredictor(load_task(task)(config), model, make_card(config, 0)).save(tmp_path / "weights.safetensors")
    predictor = densevision.load(tmp_path / "weights.safetensors", task)
    restored = predictor.model.state_dict()
    assert all(torch.equal(weight, restored[key]) for key, weight in model.state_dict().items())
    inputs = make_inputs(model)
    with torch.no_grad():
        outputs, again = model(**inputs), predictor.model.eval()(**inputs)
    assert all(torch.equal(output, again[key]) for key, output in outputs.items())
    pretrained = densevision.create_model(
        name, **small_arguments(name), pretrained=str(tmp_path / "weights.safetensors")
    )
    assert all(torch.equal(weight, pretrained.state_dict()[key]) for key, weight in model.state_dict().items())


def test_pretrained__other_classes_keep_a_new_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config("detection").resolve(None, task_overrides("detection", "yolo_n"))
    weights = make_small("yolo_n", seed=1)
    path = tmp_path / "weights.safetensors"
    TorchPredictor(load_task("detection")(config), weights, make_card(config, 0)).save(path)
    with caplog.at_level("WARNING", "densevision"):
        model = densevision.create_model("yolo_n", **{**small_arguments("yolo_n"), "num_classes": 7}, pretrained=path)
    loaded, source = model.state_dict(), weights.state_dict()
    different = {name for name in loaded if loaded[name].shape != source[name].shape}
    assert different == {"head.classify.predict.weight", "head.classify.predict.bias"}
    assert all(torch.equal(loaded[name], source[name]) for name in loaded if name not in different)
    assert all(name in caplog.text for name in different)


def test_new_architecture__one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setitem(MODELS, "toy", Architecture("toy_detector:ToyDetector", "three convolutions"))
    assert "toy" in densevision.list_models("detection")
    assert len(densevision.create_model("toy", num_classes=2, width=8).layers[0].weight) == 8

    overrides = {
        "arch": "toy",
        "model.width": 24,
        "data.size": 64,
        "data.workers": 0,
        "train.epochs": 4,
        "train.lr": 5e-3,
        "train.precision": "float32",
    }
    run = densevision.train("detection", "scenes:24:0", overrides=overrides, out=tmp_path / "run", quiet=True)
    weights = run / "last.safetensors"
    with open(run / "metrics.csv") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 4 and losses[-1] < 0.8 * losses[0]

    report = densevision.evaluate("detection", "scenes:4:1", weights, quiet=True)
    assert 0 <= report.metrics["AP"] <= 1
    image = Scenes(1, 2, (60, 90))[0].image
    expected = densevision.predict(image, "detection", weights, precision="float32", score_threshold=0.02)
    assert expected.size == (60, 90) and len(expected)

    exported = densevision.export("detection", weights, out=tmp_path / "toy.pt2", export_format="torch")
    result = densevision.predict(image, "detection", exported, precision="float32", score_threshold=0.02)
    np.testing.assert_allclose(result.boxes, expected.boxes, atol=1e-3)


def test_create_model__matches_pretrained_classes_by_name(tmp_path: Path) -> None:
    names, reordered = ("cat", "dog", "bird"), ("bird", "cow", "cat", "dog")
    model = create_model("yolo_n", class_names=names, encoder="resnet10t")
    save_weights(tmp_path / "a.safetensors", model.state_dict(), Card("detection", {}, classes=names))
    path = tmp_path / "a.safetensors"
    other = create_model("yolo_n", class_names=reordered, encoder="resnet10t", pretrained=path)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = (each.eval()(image=image)["logits"] for each in (model, other))
    assert after.shape[-1] == 4
    torch.testing.assert_close(after[..., [reordered.index(name) for name in names]], before)
    with pytest.raises(UsageError):
        create_model("yolo_n", class_names=names, num_classes=4)


def test_create_model__refused_arguments_are_usage_errors() -> None:
    with pytest.raises(UsageError):
        create_model("sea_raft_s", encoder="vgg16")
    with pytest.raises(UsageError):
        create_model("fcn32s", mode="binary", num_classes=3)
