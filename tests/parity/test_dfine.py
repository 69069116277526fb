"""D-FINE beside transformers' with the same weights, and beside losses that the authors' code gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from dfine_case import case, reference_model
from safetensors.torch import load_file
from torch import Tensor, nn

from densevision.tasks.detection.models import MODELS
from densevision.tasks.detection.models.dfine import DFine
from densevision.tasks.detection.models.dfine_loss import (
    WEIGHTS,
    Assignment,
    LayerOutputs,
    LayerPrediction,
    Prediction,
    box_losses,
    class_loss,
    distillation_balance,
    distillation_loss,
    edge_scale,
    localization_loss,
    match,
    set_losses,
)
from densevision.tasks.detection.models.dfine_targets import BoxTargets
from densevision.tasks.detection.models.dfine_weights import arguments_of, convert_state_dict

pytestmark = pytest.mark.parity
transformers = pytest.importorskip("transformers")

CLASSES = 6
SIDE = 128
SLOW = [pytest.param(size, marks=pytest.mark.slow) for size in ("small", "medium", "large", "xlarge")]
LOSS_NAMES = {"vfl": "loss_vfl", "l1": "loss_bbox", "giou": "loss_giou", "fgl": "loss_fgl", "ddf": "loss_ddf"}


def reference(size: str = "nano", **changes: Any) -> nn.Module:
    """transformers' network of a size."""
    changes = {"num_labels": CLASSES, "num_queries": 50, **changes}
    return reference_model(size, MODELS[f"dfine_{size[0]}"].arguments["encoder"], **changes)


def converted(model: nn.Module, size: str = "nano", **changes: Any) -> DFine:
    """Ours with the weights of transformers' network."""
    ours = DFine(**{"num_classes": CLASSES, "num_queries": 50, **MODELS[f"dfine_{size[0]}"].arguments, **changes})
    ours.load_state_dict(convert_state_dict(model.state_dict(), ours))
    return ours.eval()


@pytest.fixture(scope="module")
def nano() -> nn.Module:
    return reference()


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))


def difference(theirs: nn.Module, ours: DFine, image: Tensor) -> float:
    """Largest difference of logits and boxes."""
    with torch.no_grad():
        expected, outputs = theirs(pixel_values=image), ours(image=image)
    assert float(expected.logits.std()) > 0.1  # the outputs vary, so the comparison means something
    logits, boxes = (expected.logits - outputs["logits"]).abs(), (expected.pred_boxes - outputs["boxes"]).abs()
    return max(float(logits.max()), float(boxes.max()))


@pytest.mark.parametrize("size", ["nano", *SLOW])
def test_outputs__every_size(size: str, image: Tensor):
    theirs = reference(size)
    assert difference(theirs, converted(theirs, size), image) < 1e-4


def test_outputs__canvas_that_is_not_square(nano: nn.Module):
    assert difference(nano, converted(nano), torch.rand(1, 3, 96, 192)) < 1e-4


def test_outputs__scale_and_points_come_with_the_weights(image: Tensor):
    theirs = reference(reg_scale=8.0, up=0.4, decoder_n_points=[3, 9])
    ours = converted(theirs)
    assert difference(theirs, ours, image) < 1e-4


@pytest.mark.slow
def test_outputs__defaults_of_transformers_are_large(tmp_path: Path):
    torch.manual_seed(0)
    theirs = transformers.DFineForObjectDetection(transformers.DFineConfig(num_labels=80)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            spread = parameter.std() if parameter.numel() > 1 else torch.tensor(0.0)
            parameter.add_(torch.randn_like(parameter) * spread.clamp_min(1e-3) * 0.1)
    theirs.save_pretrained(tmp_path)
    state = convert_state_dict(load_file(tmp_path / "model.safetensors"))
    ours = DFine(**MODELS["dfine_l"].arguments, **arguments_of(state)).eval()
    ours.load_state_dict(state)
    image = torch.rand(1, 3, 640, 640)
    with torch.no_grad():
        expected, outputs = theirs(pixel_values=image), ours(image=image)
    assert torch.allclose(expected.logits.sort(1).values, outputs["logits"].sort(1).values, rtol=0, atol=1e-3)
    assert torch.allclose(expected.pred_boxes.sort(1).values, outputs["boxes"].sort(1).values, rtol=0, atol=1e-4)


def test_postprocess__as_the_image_processor(nano: nn.Module, image: Tensor):
    processor = transformers.RTDetrImageProcessor()
    ours = converted(nano)
    with torch.no_grad():
        detections = ours.postprocess(ours(image=image), score_threshold=0.3, max_detections=50)
        results = processor.post_process_object_detection(
            nano(pixel_values=image), threshold=0.3, target_sizes=[(SIDE, SIDE)] * 2
        )
    for row, expected in enumerate(results):
        valid = detections["valid"][row]
        assert int(valid.sum()) == len(expected["scores"]) > 0
        torch.testing.assert_close(detections["scores"][row][valid], expected["scores"], rtol=0, atol=1e-5)
        torch.testing.assert_close(detections["labels"][row][valid], expected["labels"])
        boxes = expected["boxes"].clamp(0, SIDE)
        torch.testing.assert_close(detections["boxes"][row][valid], boxes, rtol=0, atol=1e-2)


def test_convert__file_that_transformers_saved(nano: nn.Module, image: Tensor, tmp_path: Path):
    nano.save_pretrained(tmp_path)
    ours = DFine(num_classes=CLASSES, num_queries=50, **MODELS["dfine_n"].arguments).eval()
    ours.load_state_dict(convert_state_dict(load_file(tmp_path / "model.safetensors"), ours))
    assert difference(nano, ours, image) < 1e-4


AUTHORS_NAMES = (
    (r"^model\.backbone\.model\.embedder\.", "backbone.stem."),
    (r"^model\.backbone\.model\.encoder\.stages", "backbone.stages"),
    (r"\.convolution\.", ".conv."),
    (r"\.normalization\.", ".bn."),
    (r"^model\.encoder_input_proj\.(\d+)\.0\.", r"encoder.input_proj.\1.conv."),
    (r"^model\.encoder_input_proj\.(\d+)\.1\.", r"encoder.input_proj.\1.norm."),
    (r"^model\.encoder\.aifi\.", "encoder.encoder."),
    (r"^model\.encoder\.downsample_convs\.(\d+)\.conv", r"encoder.downsample_convs.\1.0.cv"),
    (r"^model\.encoder\.(\w+)_blocks\.(\d+)\.csp_rep1\.", r"encoder.\1_blocks.\2.cv2.0."),
    (r"^model\.encoder\.(\w+)_blocks\.(\d+)\.csp_rep2\.", r"encoder.\1_blocks.\2.cv3.0."),
    (r"^model\.encoder\.(\w+)_blocks\.(\d+)\.conv([23])\.", r"encoder.\1_blocks.\2.cv\3.1."),
    (r"^model\.encoder\.(\w+)_blocks\.(\d+)\.conv([14])\.", r"encoder.\1_blocks.\2.cv\3."),
    (r"^model\.encoder\.", "encoder."),
    (r"^model\.decoder\.(up|reg_scale)$", r"decoder.\1"),
    (r"^model\.decoder\.(layers|lqe_layers)\.", r"decoder.decoder.\1."),
    (r"^model\.decoder\.class_embed\.", "decoder.dec_score_head."),
    (r"^model\.decoder\.bbox_embed\.", "decoder.dec_bbox_head."),
    (r"^model\.enc_output\.0\.", "decoder.enc_output.proj."),
    (r"^model\.enc_output\.1\.", "decoder.enc_output.norm."),
    (r"^model\.(?:decoder\.)?", "decoder."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.mlp\.layers\.0\.", ".linear1."),
    (r"\.mlp\.layers\.1\.", ".linear2."),
)
"""From transformers' names to the authors', as transformers' conversion script pairs them."""


def authors_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of transformers in the layout of the authors' repository."""
    renamed = {}
    for name, tensor in state.items():
        if not name.startswith("model."):
            continue  # the heads once more
        for pattern, new in AUTHORS_NAMES:
            name = re.sub(pattern, new, name)
        norm = "norm2" if name.startswith("encoder.") else "norm3"
        renamed[name.replace(".final_layer_norm.", f".{norm}.")] = tensor
    for name in [name for name in renamed if ".q_proj." in name]:
        joint = name.replace("q_proj.", "in_proj_")
        renamed[joint] = torch.cat([renamed.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"])
    renamed["decoder.anchors"], renamed["decoder.valid_mask"] = torch.zeros(1, 8, 4), torch.ones(1, 8, 1)
    return renamed


def test_convert__layout_of_the_authors(nano: nn.Module):
    expected = convert_state_dict(nano.state_dict())
    state = authors_state(nano.state_dict())
    assert "decoder.decoder.layers.0.self_attn.in_proj_weight" in state
    result = convert_state_dict(state)
    assert set(result) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(result[name], tensor)


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "classes"])
def test_convert__state_that_does_not_fit(nano: nn.Module, fault: str):
    state = dict(nano.state_dict())
    ours = DFine(num_classes=CLASSES + (fault == "classes"), num_queries=50, **MODELS["dfine_n"].arguments)
    name = "model.enc_output.0.weight"
    if fault == "missing":
        state.pop(name)
    elif fault == "unknown":
        state["model.extra.weight"] = torch.zeros(1)
    elif fault == "shape":
        state[name] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="score" if fault == "classes" else "extra|selection.project"):
        convert_state_dict(state, ours)


def test_convert__state_of_another_network():
    with pytest.raises(ValueError, match="conv1"):
        convert_state_dict({"conv1.weight": torch.zeros(1)})


def test_arguments_of__classes_and_channels(nano: nn.Module):
    assert arguments_of(convert_state_dict(nano.state_dict())) == {"num_classes": CLASSES, "in_channels": 3}


TARGETS = {
    "boxes": torch.tensor(
        [[[10.0, 20, 60, 90], [40, 30, 110, 120], [5, 5, 30, 20]], [[50, 15, 100, 50], [0, 0, 0, 0], [0, 0, 0, 0]]]
    ),
    "labels": torch.tensor([[1, 3, 1], [5, 0, 0]]),
    "valid": torch.tensor([[True, True, True], [True, False, False]]),
}


def transformers_targets() -> list[dict[str, Tensor]]:
    """The same ground truth as transformers takes it."""
    rows = []
    for boxes, labels, valid in zip(*TARGETS.values()):
        left_top, right_bottom = (boxes[valid] / SIDE).chunk(2, 1)
        centers = torch.cat([(left_top + right_bottom) / 2, right_bottom - left_top], 1)
        rows.append({"class_labels": labels[valid], "boxes": centers})
    return rows


def layer_losses(
    prediction: Prediction,
    targets: BoxTargets,
    assignment: Assignment,
    normalizer: float,
    scale: Any = None,
    teacher: Prediction | None = None,
) -> dict[str, Tensor]:
    """The losses of one layer whose boxes follow its own matching, as transformers has them."""
    images, queries = prediction.logits.shape[:2]
    losses = {"vfl": class_loss(prediction, targets, assignment, normalizer)}
    losses |= box_losses(prediction, targets, assignment, normalizer)
    if teacher is not None:
        balance = distillation_balance(assignment, images, queries)
        losses["fgl"] = localization_loss(prediction, targets, assignment, scale, normalizer)
        losses["ddf"] = distillation_loss(prediction, teacher, targets, assignment, balance)
    return losses


def shifted_pairs(outputs: LayerOutputs) -> list[LayerPrediction]:
    """transformers pairs the distributions of a layer with the classes and boxes of the layer before."""
    before = [outputs.initial, *outputs.layers[:-1]]
    return [
        LayerPrediction(earlier.logits, earlier.boxes.clamp(0, 1), layer.corners)
        for earlier, layer in zip(before, outputs.layers)
    ]


def losses_in_the_manner_of_transformers(model: DFine, image: Tensor) -> dict[str, Tensor]:
    """Our terms, put together as transformers puts its own together."""
    outputs = model.training_outputs(image, TARGETS)
    targets, objects = outputs.targets, float(TARGETS["valid"].sum())
    last = outputs.matched.layers[-1]
    final = Prediction(last.logits, last.boxes.clamp(0, 1))
    groups = {"": (final, None), "_aux_2": (outputs.encoder, None)}
    for index, prediction in enumerate(shifted_pairs(outputs.matched)[:-1]):
        groups[f"_aux_{index}"] = (prediction, last)
    losses = {}
    for ending, (prediction, teacher) in groups.items():
        (assignment,) = match([prediction], targets)
        scale = outputs.matched.scale
        for kind, loss in layer_losses(prediction, targets, assignment, objects, scale, teacher).items():
            losses[LOSS_NAMES[kind] + ending] = loss * WEIGHTS[kind]
    if outputs.noised is None:
        return losses
    assignment, normalizer = outputs.noised_queries.assignment, objects * outputs.noised_queries.groups
    for index, prediction in enumerate(shifted_pairs(outputs.noised)):
        scale, teacher = outputs.noised.scale, outputs.noised.layers[-1]
        for kind, loss in layer_losses(prediction, targets, assignment, normalizer, scale, teacher).items():
            losses[f"{LOSS_NAMES[kind]}_dn_{index}"] = loss * WEIGHTS[kind]
    return losses


@pytest.mark.parametrize("num_denoising", [0, 20])
def test_training_losses__every_term_of_transformers(num_denoising: int, image: Tensor):
    # Less noise than usual: transformers lets strongly displaced edges change places, which the authors correct.
    theirs = reference(num_denoising=20, box_noise_scale=0.4)
    theirs.config.num_denoising = num_denoising
    ours = converted(theirs, num_denoising=num_denoising, box_noise=0.4, freeze_norm=True)
    theirs.train()
    ours.train()
    torch.manual_seed(3)
    expected = theirs(pixel_values=image, labels=transformers_targets()).loss_dict
    torch.manual_seed(3)
    losses = losses_in_the_manner_of_transformers(ours, image)
    assert set(losses) == set(expected)
    for name, loss in expected.items():
        assert losses[name].item() == pytest.approx(loss.item(), rel=1e-3, abs=1e-5), name


AUTHORS_LOSSES = {
    "vfl": 3.497218,
    "l1": 0.437196,
    "giou": 1.041953,
    "fgl": 3.351957,
    "vfl_aux_0": 4.310324,
    "l1_aux_0": 0.436765,
    "giou_aux_0": 1.045199,
    "fgl_aux_0": 3.295387,
    "ddf_aux_0": 1.56019,
    "vfl_aux_1": 3.169121,
    "l1_aux_1": 0.439053,
    "giou_aux_1": 1.047773,
    "fgl_aux_1": 3.558445,
    "ddf_aux_1": 1.574808,
    "vfl_pre": 4.51001,
    "l1_pre": 0.435936,
    "giou_pre": 1.044755,
    "vfl_enc": 3.999274,
    "l1_enc": 0.625636,
    "giou_enc": 1.217289,
}
"""What `DFINECriterion` of Peterande/D-FINE (commit 4a1f73a) gives for the outputs of `dfine_case.case`."""


def test_training_losses__numbers_of_the_authors():
    fixed = case()
    boxes, labels, valid = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3).bool()
    for row, (own_boxes, own_labels) in enumerate(zip(fixed["boxes"], fixed["labels"])):
        boxes[row, : len(own_boxes)], labels[row, : len(own_labels)] = own_boxes, own_labels
        valid[row, : len(own_boxes)] = True
    targets = BoxTargets(boxes, labels, valid, torch.zeros(2, 0, 4))
    scale = edge_scale(fixed["reference"], 32, torch.tensor([0.5]), torch.tensor([4.0]))
    outputs = LayerOutputs([LayerPrediction(*layer) for layer in fixed["layers"]], Prediction(*fixed["initial"]), scale)
    losses, _ = set_losses(outputs, Prediction(*fixed["encoder"]), targets, 4.0)
    assert {name: round(float(loss), 6) for name, loss in losses.items()} == pytest.approx(AUTHORS_LOSSES, rel=1e-4)
