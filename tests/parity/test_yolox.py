"""YOLOX beside its publisher's code (pixeltable-yolox, which keeps Megvii's networks and losses)."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from densevision.tasks.detection.models import MODELS
from densevision.tasks.detection.models.yolox import YOLOX
from densevision.tasks.detection.models.yolox_loss import encode_boxes
from densevision.tasks.detection.models.yolox_weights import convert_state_dict, unfold_batch_norms

published = pytest.importorskip("yolox.config")
pytestmark = pytest.mark.parity

CLASSES = 80
LOSSES = {"box": "iou_loss", "objectness": "conf_loss", "class": "cls_loss", "l1": "l1_loss"}


def make_pair(name: str, legacy: bool = False) -> tuple[nn.Module, YOLOX]:
    """The publisher's network with random weights and norms that fit them, and ours with the same."""
    torch.manual_seed(0)
    reference = published.YoloxConfig.get_named_config(f"yolox_{name}").get_model()
    norms = [module for module in reference.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
        levels = reference.backbone(to_theirs(torch.rand(4, 3, 128, 128), legacy))
        for i, level in enumerate(levels):
            x = reference.head.stems[i](level)
            reference.head.cls_convs[i](x), reference.head.reg_convs[i](x)
        for norm in norms:
            norm.momentum = 0.03
            norm.running_var.clamp_(min=0.01)
    own = YOLOX(**{**MODELS[f"yolox_{name}"].arguments, "num_classes": CLASSES, "legacy": legacy})
    own.load_state_dict(convert_state_dict({"model": reference.state_dict()}))
    return reference, own


def to_theirs(image: Tensor, legacy: bool) -> Tensor:
    """An RGB image in [0, 1] as the publisher's transform hands it to the network."""
    if not legacy:
        return image.flip(1) * 255
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).to(image)[..., None, None]
    return (image - mean) / std


def raw_outputs(reference: nn.Module, image: Tensor, legacy: bool) -> Tensor:
    """(B, A, 4 + 1 + C): deltas, and sigmoids of objectness and classes."""
    reference.eval()
    reference.head.decode_in_inference = False
    with torch.no_grad():
        return reference(to_theirs(image, legacy))


def own_outputs(own: YOLOX, image: Tensor) -> Tensor:
    """Ours in the publisher's order."""
    with torch.no_grad():
        outputs = own.eval()(image=image)
    return torch.cat([outputs["box_deltas"], outputs["objectness"].sigmoid(), outputs["logits"].sigmoid()], 2)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["nano", "tiny", "s", *(pytest.param(name, marks=pytest.mark.slow) for name in "mlx")])
def test_outputs__equal_the_publishers(name, legacy):
    """To 1e-8 in double precision; in single precision, ours is as near to that as the publisher's own."""
    reference, own = make_pair(name, legacy)
    image = torch.rand(2, 3, 160, 96)
    theirs, ours = raw_outputs(reference, image, legacy), own_outputs(own, image)
    exact = raw_outputs(reference.double(), image.double(), legacy)
    assert exact[..., :4].std() > 0.1
    torch.testing.assert_close(own_outputs(own.double(), image.double()), exact, atol=1e-8, rtol=0)
    assert (ours - exact).abs().max() < 3 * (theirs - exact).abs().max() + 1e-5


def make_objects(count: int, size: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Targets of two images, the second with fewer objects, and the same as the publisher takes them."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(2, count, 2, generator=generator) * size
    sides = 8 + torch.rand(2, count, 2, generator=generator) * size / 2
    labels = torch.randint(1, CLASSES, (2, count), generator=generator)
    valid = torch.arange(count) < torch.tensor([[count], [count // 2]])
    rows = torch.cat([labels[..., None], center, sides], 2) * valid[..., None]
    boxes = torch.cat([center - sides / 2, center + sides / 2], 2)
    return {"boxes": boxes, "labels": labels, "valid": valid, "crowd": torch.zeros_like(valid)}, rows


@pytest.mark.parametrize("use_l1", [False, True])
@pytest.mark.parametrize("name", ["nano", "s"])
def test_losses__and_their_gradients_equal_the_publishers(name, use_l1):
    reference, own = make_pair(name)
    reference.train()
    reference.head.use_l1 = own.train().use_l1 = use_l1
    image = torch.rand(2, 3, 128, 128)
    targets, rows = make_objects(6, 128, seed=1)
    expected = reference(to_theirs(image, False), rows)
    losses = own.compute_losses({"image": image}, targets)
    assert set(losses) == set(LOSSES) - (set() if use_l1 else {"l1"})
    for key, value in losses.items():
        torch.testing.assert_close(value, expected[LOSSES[key]], rtol=1e-3, atol=1e-5)
    expected["total_loss"].backward()
    sum(losses.values()).backward()
    gradients = convert_state_dict({key: parameter.grad for key, parameter in reference.named_parameters()})
    for key, parameter in own.named_parameters():
        scale = gradients[key].abs().max().item()
        torch.testing.assert_close(parameter.grad, gradients[key], rtol=0, atol=1e-2 * scale + 1e-5, msg=key)


@pytest.mark.parametrize("seed", range(6))
def test_losses__of_good_predictions_equal_the_publishers(seed):
    """Outputs near the objects: many anchor points per object, and objects that compete for them."""
    size, count = 256, 12
    targets, rows = make_objects(count, size, seed)
    torch.manual_seed(seed)
    head = published.YoloxConfig(name="head", num_classes=CLASSES, width=0.25).get_model().head
    head.use_l1 = True
    own = YOLOX(num_classes=CLASSES, use_l1=True)
    cells = [torch.zeros(1, 1, size // stride, size // stride) for stride in head.strides]
    grids = [torch.stack(torch.meshgrid(*(torch.arange(s) for s in c.shape[:1:-1]), indexing="xy"), -1) for c in cells]
    grid = torch.cat([part.flatten(0, 1) for part in grids]).float()
    strides = torch.cat([torch.full((c.numel(), 1), float(s)) for c, s in zip(cells, head.strides)])
    anchors = torch.cat([(grid + 0.5) * strides, strides], 1)
    # What each anchor point predicts: the object with the nearest center, more or less exactly.
    centers = (targets["boxes"][..., :2] + targets["boxes"][..., 2:]) / 2
    nearest = (torch.cdist(anchors[None, :, :2], centers) + ~targets["valid"][:, None] * 1e6).argmin(2)
    wanted = targets["boxes"].gather(1, nearest[..., None].expand(-1, -1, 4))
    deltas = encode_boxes(wanted, anchors) + torch.randn(2, len(anchors), 4) * torch.tensor([0.3, 0.3, 0.1, 0.1])
    logits = torch.randn(2, len(anchors), CLASSES) - 3
    logits.scatter_add_(2, targets["labels"].gather(1, nearest)[..., None], torch.full((2, len(anchors), 1), 4.0))
    objectness = torch.randn(2, len(anchors), 1)
    decoded = torch.cat([(deltas[..., :2] + grid) * strides, deltas[..., 2:].exp() * strides], 2)
    _, *expected, per_object = head.get_losses(
        None,
        [grid[None, :, 0]],
        [grid[None, :, 1]],
        [strides[None, :, 0]],
        rows,
        torch.cat([decoded, objectness, logits], 2),
        [deltas],
        torch.float32,
    )
    assert per_object > 2  # anchor points per object
    outputs = {"logits": logits, "objectness": objectness, "box_deltas": deltas, "anchors": anchors}
    losses = own.loss(outputs, targets)
    for key, value in zip(("box", "objectness", "class", "l1"), expected):
        torch.testing.assert_close(losses[key], value, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def checkpoint(real_data) -> Path:
    """Megvii's YOLOX-Nano of release 0.1.0, with folded norms."""
    path = real_data / "weights" / "yolox_nano_megvii.pth"
    if not path.is_file():
        pytest.skip(f"no weights at {path}")
    return path


def load_pair(checkpoint: Path) -> tuple[nn.Module, YOLOX]:
    state = torch.load(checkpoint, weights_only=True)
    reference = published.YoloxConfig.get_named_config("yolox_nano").get_model()
    reference.load_state_dict(state["model"])
    own = YOLOX(**MODELS["yolox_nano_legacy"].arguments)
    own.load_state_dict(convert_state_dict(state))
    return reference.eval(), own.eval()


def letterbox(file: Path, size: int = 416) -> tuple[Tensor, float]:
    """An RGB photograph at the top left of a gray canvas, and its scale."""
    image = cv2.imread(str(file))[..., ::-1]
    scale = min(size / side for side in image.shape[:2])
    height, width = (int(side * scale) for side in image.shape[:2])
    canvas = np.full((size, size, 3), 114, np.uint8)
    canvas[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(canvas).permute(2, 0, 1).float() / 255, scale


def find_photographs(real_data: Path) -> dict[str, Path]:
    return {file.name: file for file in sorted((real_data / "data" / "coco128" / "images").rglob("*.jpg"))}


@pytest.mark.realdata
def test_published_weights__give_the_publishers_outputs_on_photographs(checkpoint, real_data):
    reference, own = load_pair(checkpoint)
    photographs = list(find_photographs(real_data).values())[:4]
    image = torch.stack([letterbox(file)[0] for file in photographs])
    # Both in double precision: this network amplifies the rounding of single precision to 7e-4.
    expected = raw_outputs(reference.double(), image.double(), legacy=True)
    torch.testing.assert_close(own_outputs(own.double(), image.double()), expected, atol=1e-6, rtol=0)


@pytest.mark.realdata
def test_published_weights__unfolded_norms_keep_the_outputs(checkpoint, real_data):
    _, own = load_pair(checkpoint)
    own.double()
    photographs = list(find_photographs(real_data).values())[:4]
    image = torch.stack([letterbox(file)[0] for file in photographs]).double()
    with torch.no_grad():
        before = own(image=image)
        unfold_batch_norms(own, image)
        after, trained = own(image=image), own.train()(image=image)
    for name in ("logits", "objectness", "box_deltas"):
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)
        torch.testing.assert_close(trained[name], before[name], atol=1e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.realdata
def test_published_weights__reach_the_publishers_precision(checkpoint, real_data, tmp_path):
    _, own = load_pair(checkpoint)
    ground_truth = COCO(real_data / "data" / "coco128" / "annotations" / "instances_val.json")
    photographs, categories, rows = find_photographs(real_data), sorted(ground_truth.getCatIds()), []
    for image_id in ground_truth.getImgIds():
        image, scale = letterbox(photographs[Path(ground_truth.loadImgs(image_id)[0]["file_name"]).name])
        with torch.inference_mode():
            found = own.postprocess(own(image=image[None]), score_threshold=0.01)
        for box, score, label, valid in zip(*(found[name][0] for name in ("boxes", "scores", "labels", "valid"))):
            left, top, right, bottom = (box / scale).tolist()
            row = {"bbox": [left, top, right - left, bottom - top], "score": score.item(), "image_id": image_id}
            rows += [{**row, "category_id": categories[label]}] if valid else []
    (tmp_path / "found.json").write_text(json.dumps(rows))
    evaluation = COCOeval(ground_truth, ground_truth.loadRes(str(tmp_path / "found.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(0.3464, abs=0.002)
    assert evaluation.stats[1] == pytest.approx(0.5034, abs=0.002)
