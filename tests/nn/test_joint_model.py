"""Joint models: equality with models of their own, levels, losses, splitting, projections of gradients."""

from __future__ import annotations

import copy
import io
import threading
from typing import Any

import numpy as np
import pytest
import torch
from small_models import TWO_STAGE
from torch import Tensor, nn

import densevision
from densevision.errors import UsageError
from densevision.nn.joint_gradients import accumulate_gradients
from densevision.nn.joint_model import JointModel, join_names
from densevision.nn.model import Model, Tensors

SIDE = 64
ARGUMENTS: dict[str, dict[str, Any]] = {
    "yolo_n": {"num_classes": 3, "image_size": SIDE, "width": 16, "depth": 1},
    "faster_rcnn": {"num_classes": 3, "image_size": SIDE, **TWO_STAGE},
    "unet": {"num_classes": 4, "decoder_options": {"decoder_channels": [16, 8, 8, 8, 8]}},
    "fcn32s": {"num_classes": 4, "width": 16},
    "pspnet": {"num_classes": 4, "decoder_options": {"out_channels": 16}},
    "depth_unet": {"width": 16},
    "depth_dpt": {"width": 16},
}
HEADS = {"detection": "yolo_n", "semantic": "unet", "depth": "depth_unet"}


def build(name: str, seed: int = 0, encoder: str = "test_resnet", **arguments: Any) -> Model:
    torch.manual_seed(seed)
    return densevision.create_model(name, encoder=encoder, **ARGUMENTS[name], **arguments)


def build_joint(heads: dict[str, str] = HEADS, **options: Any) -> JointModel:
    return densevision.create_joint_model(
        {head: build(name, i) for i, (head, name) in enumerate(heads.items())}, **options
    )


def make_inputs(model: Model, seed: int = 0) -> Tensors:
    image = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    size = torch.full((2, 2), float(SIDE))
    return {name: image if spec.kind == "image" else size for name, spec in model.input_spec.items()}


def make_targets(architecture: str, seed: int = 1) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    if architecture in ("yolo_n", "faster_rcnn"):
        corners = 4 + 16 * torch.rand(2, 2, 2, generator=generator)
        return {
            "boxes": torch.cat([corners, corners + 24], 2),
            "labels": torch.randint(0, 3, (2, 2), generator=generator),
            "valid": torch.ones(2, 2, dtype=torch.bool),
            "crowd": torch.zeros(2, 2, dtype=torch.bool),
        }
    if architecture.startswith("depth"):
        depth = 1 + torch.rand(2, 1, SIDE, SIDE, generator=generator)
        return {"depth": depth, "valid": torch.ones_like(depth, dtype=torch.bool)}
    return {"labels": torch.randint(0, 4, (2, SIDE, SIDE), generator=generator)}


def train(model: Model, targets: Tensors, steps: int = 3) -> list[Tensor]:
    """The total loss of each step."""
    torch.manual_seed(7)  # sampled proposals and dropout
    optimizer, history = torch.optim.AdamW(model.parameters(), 1e-2), []
    model.train()
    for step in range(steps):
        model.on_progress(step / steps)
        total = torch.stack(list(model.compute_losses(make_inputs(model, step), targets).values())).sum()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append(total.detach())
    return history


@pytest.mark.parametrize("name", ARGUMENTS)
def test_one_head__equals_the_model_of_its_own_bit_for_bit(name: str) -> None:
    alone, joint = build(name), JointModel({"only": build(name)})
    assert joint.input_spec == alone.input_spec
    targets = make_targets(name)
    losses, joint_losses = train(alone, targets), train(joint, join_names({"only": targets}))
    assert all(map(torch.equal, losses, joint_losses)) and not torch.equal(losses[0], losses[-1])
    weights, split_weights = alone.state_dict(), joint.split()["only"].state_dict()
    assert list(weights) == list(split_weights)
    assert [key for key in weights if not torch.equal(weights[key], split_weights[key])] == []


def test_split__computes_what_the_heads_compute() -> None:
    heads = {**HEADS, "boxes": "faster_rcnn", "scene": "pspnet", "fine_depth": "depth_dpt"}
    joint = build_joint(heads)
    train(joint, join_names({head: make_targets(name) for head, name in heads.items()}))
    inputs = make_inputs(joint.eval())
    parts = joint.split()
    assert list(parts) == list(heads)
    with torch.inference_mode():
        outputs = joint(**inputs)
        for head, model in parts.items():
            assert not model.training and type(model) is type(build(heads[head]))
            alone = model(**{name: inputs[name] for name in model.input_spec})
            assert set(alone) == {name.partition("/")[2] for name in outputs if name.startswith(f"{head}/")}
            for name, value in alone.items():
                torch.testing.assert_close(value.float(), outputs[f"{head}/{name}"].float(), atol=1e-6, rtol=0)
    # pspnet ends at stride 8: the deeper stages are not in its file.
    assert len(parts["scene"].encoder.state_dict()) < len(joint.encoder.state_dict())
    assert all(parameter.requires_grad for model in parts.values() for parameter in model.parameters())
    with torch.no_grad():
        next(parts["depth"].parameters()).fill_(9)
    assert not (next(joint.encoder.parameters()) == 9).all()


def test_split__joins_again() -> None:
    joint = build_joint().eval()
    again = densevision.create_joint_model(joint.split()).eval()
    assert again.state_dict().keys() == joint.state_dict().keys()
    with torch.inference_mode():
        outputs, others = (model(image=make_inputs(model)["image"]) for model in (joint, again))
    assert all(torch.equal(outputs[name], others[name]) for name in outputs)


def test_encoder__runs_once_and_has_one_set_of_weights() -> None:
    joint, calls = build_joint(), []
    joint.encoder.register_forward_hook(lambda *_: calls.append(1))
    joint(**make_inputs(joint))
    assert len(calls) == 1
    heads = sum(parameter.numel() for parameter in joint.heads.parameters())
    assert heads + sum(p.numel() for p in joint.encoder.parameters()) == sum(p.numel() for p in joint.parameters())
    alone = build("yolo_n")
    expected = sum(p.numel() for p in alone.parameters()) - sum(p.numel() for p in alone.encoder.parameters())
    assert sum(parameter.numel() for parameter in joint.heads["detection"].parameters()) == expected


def test_encoder__starts_from_the_first_model() -> None:
    first = build("unet", 5)
    expected = copy.deepcopy(first.encoder.state_dict())
    joint = JointModel({"semantic": first, "depth": build("depth_unet", 6)})
    assert all(torch.equal(value, expected[name]) for name, value in joint.encoder.state_dict().items())


def test_plain_vit__shares_its_pyramid() -> None:
    models = {"semantic": build("fcn32s", encoder="test_vit"), "depth": build("depth_dpt", encoder="test_vit")}
    joint = JointModel(models).eval()
    image = make_inputs(joint)["image"]
    with torch.inference_mode():
        outputs, alone = joint(image=image), joint.split()["depth"](image=image)
    torch.testing.assert_close(outputs["depth/depth"], alone["depth"], atol=1e-6, rtol=0)


def test_losses__only_of_heads_with_targets() -> None:
    joint = build_joint().train()
    inputs, targets = make_inputs(joint), join_names({"depth": make_targets("depth_unet")})
    losses = joint.compute_losses(inputs, targets)
    assert {name.partition("/")[0] for name in losses} == {"depth"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad is None for parameter in joint.heads["detection"].parameters())
    assert all(parameter.grad is not None for parameter in joint.encoder.parameters())
    with pytest.raises(UsageError) as error:
        joint.compute_losses(inputs, {"labels": torch.zeros(2, SIDE, SIDE, dtype=torch.int64)})
    assert error.value.field == "targets"


def test_losses__images_without_labels_do_not_count() -> None:
    """An image whose labels are unknown changes the loss of a dense head only through batch statistics."""
    joint = build_joint({"semantic": "unet", "depth": "depth_unet"}).eval()
    image = make_inputs(joint)["image"]
    targets = {name: make_targets(name) for name in ("unet", "depth_unet")}
    partial = copy.deepcopy(targets)
    partial["unet"]["labels"][1], partial["depth_unet"]["valid"][1] = 255, False
    losses = joint.compute_losses({"image": image}, _prefix(partial))
    first = {name: {key: value[:1] for key, value in each.items()} for name, each in targets.items()}
    expected = joint.compute_losses({"image": image[:1]}, _prefix(first))
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


def _prefix(targets: dict[str, Tensors]) -> Tensors:
    return join_names({"semantic": targets["unet"], "depth": targets["depth_unet"]})


def test_loss_weights__are_factors() -> None:
    plain, weighted = build_joint(), build_joint(loss_weights={"depth": 2.5})
    targets = join_names({head: make_targets(name) for head, name in HEADS.items()})
    losses, others = (model.eval().compute_losses(make_inputs(model), targets) for model in (plain, weighted))
    for name, value in losses.items():
        torch.testing.assert_close(others[name], value * (2.5 if name.startswith("depth/") else 1))
    with pytest.raises(UsageError) as error:
        build_joint(loss_weights={"dept": 1.0})
    assert error.value.field == "loss_weights"


def test_uncertainty_weights__converge_to_the_optimum() -> None:
    """For constant losses L, exp(-s) L + s / 2 is least at s = log(2 L)."""
    joint = build_joint(uncertainty_weights=True).eval()
    targets = join_names({head: make_targets(name) for head, name in HEADS.items()})
    with torch.no_grad():
        plain = joint.compute_losses(make_inputs(joint), targets)
    assert float(plain["log_variance"]) == 0
    totals = {head: sum(float(v) for k, v in plain.items() if k.startswith(f"{head}/")) for head in HEADS}
    for head, total in totals.items():
        joint.log_variances[head].data.fill_(np.log(2 * total))
    losses = joint.compute_losses(make_inputs(joint), targets)
    assert float(sum(v for k, v in losses.items() if k.startswith("depth/"))) == pytest.approx(0.5, rel=1e-5)
    torch.stack(list(losses.values())).sum().backward()
    for head in HEADS:
        assert joint.log_variances[head].grad.item() == pytest.approx(0, abs=1e-4)


def test_training__continues_exactly_from_a_state_dict() -> None:
    targets = join_names({head: make_targets(name) for head, name in HEADS.items()})

    def steps(model: JointModel, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        model.train()
        for number in numbers:
            generator = torch.Generator().manual_seed(number)
            optimizer.zero_grad()
            accumulate_gradients(model, model.compute_losses(make_inputs(model, number), targets), generator=generator)
            optimizer.step()

    def begin() -> tuple[JointModel, torch.optim.Optimizer]:
        model = build_joint(uncertainty_weights=True)
        return model, torch.optim.AdamW(model.parameters(), 1e-3)

    whole, optimizer = begin()
    steps(whole, optimizer, range(4))
    stopped, optimizer = begin()
    steps(stopped, optimizer, range(2))
    file = io.BytesIO()
    torch.save([stopped.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    resumed, optimizer = begin()
    for each, state in zip((resumed, optimizer), torch.load(file, weights_only=True)):
        each.load_state_dict(state)
    steps(resumed, optimizer, range(2, 4))
    expected = whole.state_dict()
    assert [name for name, value in resumed.state_dict().items() if not torch.equal(value, expected[name])] == []
    assert not torch.equal(expected["log_variances.depth"], torch.zeros(()))


def test_accumulate_gradients__without_projection_is_backward() -> None:
    first, second = (build_joint(uncertainty_weights=True).eval() for _ in range(2))
    targets = join_names({head: make_targets(name) for head, name in HEADS.items()})
    torch.stack(list(first.compute_losses(make_inputs(first), targets).values())).sum().backward()
    measured = accumulate_gradients(second, second.compute_losses(make_inputs(second), targets), project=False)
    for (name, weight), other in zip(first.named_parameters(), second.parameters()):
        torch.testing.assert_close(other.grad, weight.grad, atol=1e-5, rtol=1e-4, msg=name)
    assert measured.keys() == {
        *(f"norm/{head}" for head in HEADS),
        *("cosine/detection/semantic", "cosine/detection/depth", "cosine/semantic/depth"),
    }
    assert all(abs(value) <= 1.0001 for name, value in measured.items() if name.startswith("cosine/"))
    # Gradients accumulate over batches, as those of backward do.
    accumulate_gradients(second, second.compute_losses(make_inputs(second), targets), project=False)
    for weight, other in zip(first.parameters(), second.parameters()):
        torch.testing.assert_close(other.grad, 2 * weight.grad, atol=2e-5, rtol=1e-4)


def make_losses(joint: JointModel, directions: dict[str, Tensor]) -> Tensors:
    """Losses whose gradients on the first weights of the encoder are these vectors."""
    weight = next(joint.encoder.parameters()).flatten()
    return {f"{head}/loss": (weight[: len(vector)] * vector).sum() for head, vector in directions.items()}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Each loses its component along the other: (1, 0) - (-1/2) (-1, 1), and (-1, 1) - (-1) (1, 0).
        ((1.0, 0.0), (-1.0, 1.0), (0.5, 1.5)),
        ((1.0, 0.0), (1.0, 1.0), (2.0, 1.0)),
        ((1.0, 0.0), (0.0, 0.0), (1.0, 0.0)),
        ((1.0, 2.0), (-1.0, -2.0), (0.0, 0.0)),
    ],
)
def test_accumulate_gradients__projects_conflicts(
    first: tuple[float, ...], second: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    joint = build_joint({"semantic": "unet", "depth": "depth_unet"})
    losses = make_losses(joint, {"semantic": torch.tensor(first), "depth": torch.tensor(second)})
    measured = accumulate_gradients(joint, losses)
    gradient = next(joint.encoder.parameters()).grad
    assert gradient is not None
    torch.testing.assert_close(gradient.flatten()[:2], torch.tensor(expected))
    assert not gradient.flatten()[2:].any()
    norms = np.linalg.norm(first), np.linalg.norm(second)
    cosine = np.dot(first, second) / norms[0] / norms[1] if all(norms) else 0
    assert measured["norm/depth"] == pytest.approx(norms[1]) and measured["cosine/semantic/depth"] == pytest.approx(
        cosine
    )


@pytest.mark.parametrize(
    "change", [{"encoder": "test_efficientnet"}, {"encoder_options": {"mean": (0.4, 0.4, 0.4)}}, {"in_channels": 4}]
)
def test_encoders__that_differ_are_refused(change: dict[str, Any]) -> None:
    models = {"semantic": build("unet"), "depth": build("depth_unet", **change)}
    with pytest.raises(UsageError) as error:
        JointModel(models)
    assert error.value.field in ("models.semantic", "models.depth")


def test_models__that_cannot_be_heads_are_refused() -> None:
    for models in ({}, {"a/b": build("unet")}, {"image": densevision.create_model("edsr_baseline", width=8, depth=2)}):
        with pytest.raises(UsageError):
            JointModel(models)


def test_threads__do_not_see_each_others_levels() -> None:
    joint = build_joint().eval()
    images = [make_inputs(joint, seed)["image"] for seed in range(4)]
    with torch.no_grad():
        expected = [joint(image=image)["depth/depth"] for image in images]
    found: dict[int, bool] = {}

    def run(index: int) -> None:
        with torch.no_grad():
            found[index] = all(
                torch.equal(joint(image=images[index])["depth/depth"], expected[index]) for _ in range(5)
            )

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)


def test_postprocess__takes_the_thresholds_of_each_head() -> None:
    joint = build_joint().eval()
    with torch.inference_mode():
        outputs = joint(**make_inputs(joint))
        predictions = joint.postprocess(outputs, detection={"max_detections": 4, "score_threshold": 0.0})
    assert predictions["detection/boxes"].shape == (2, 4, 4)
    assert predictions["semantic/probabilities"].shape == (2, 4, SIDE, SIDE)
