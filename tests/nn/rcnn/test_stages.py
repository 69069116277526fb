"""Each stage beside torchvision's of the same name."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import _utils as theirs
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import keypoints_to_heatmap, project_masks_on_boxes
from torchvision.ops import MultiScaleRoIAlign, box_iou, roi_align

from densevision.nn.rcnn.anchors import Anchors
from densevision.nn.rcnn.box_coder import BOX_SCALES, decode, encode
from densevision.nn.rcnn.losses import keypoint_targets, mask_targets
from densevision.nn.rcnn.matcher import BACKGROUND, IGNORED, Samples, Truth, match, sample, sample_proposals
from densevision.nn.rcnn.nms import strongest
from densevision.nn.rcnn.pooling import pool, summed

pytestmark = pytest.mark.parity


def boxes(count: int, side: float = 200, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * side], 1)


def truth(count: int, crowd: int = 0, known: bool = True, seed: int = 1) -> Truth:
    return Truth(boxes(count, seed=seed), torch.arange(count) % 3, boxes(crowd, seed=seed + 1), known)


@pytest.mark.parametrize("canvas", [(64, 96), (800, 1216), (96, 64)])
def test_anchors__equal_torchvision(canvas):
    sizes = [(32,), (64,), (128,)]
    levels = [torch.zeros(1, 1, -(-canvas[0] // stride), -(-canvas[1] // stride)) for stride in (8, 32, 64)]
    ours = torch.cat(Anchors(sizes, (0.5, 1.0, 2.0))(levels, canvas))
    image = ImageList(torch.zeros(1, 3, *canvas), [canvas])
    (reference,) = AnchorGenerator(tuple(sizes), ((0.5, 1.0, 2.0),) * 3)(image, levels)
    assert torch.equal(ours, reference)


def test_coding__equals_torchvision_and_inverts():
    coder = theirs.BoxCoder(BOX_SCALES)
    first, second = boxes(50), boxes(50, seed=3)
    offsets = encode(first, second, BOX_SCALES)
    assert torch.allclose(offsets, coder.encode_single(first, second), atol=1e-5)
    assert torch.allclose(decode(offsets, second, BOX_SCALES), first, atol=1e-3)
    wild = torch.randn(50, 4) * 30
    assert torch.allclose(decode(wild, second, BOX_SCALES), coder.decode_single(wild, second), rtol=1e-5)


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_match__equals_torchvision(seed, forced):
    anchors, objects = boxes(300, seed=seed), truth(6, seed=seed + 9)
    matcher = theirs.Matcher(0.6, 0.3, allow_low_quality_matches=forced)
    assert torch.equal(match(anchors, objects, 0.6, 0.3, forced), matcher(box_iou(objects.boxes, anchors)))


def test_match__without_objects_is_background_and_without_truth_ignored():
    assert (match(boxes(9), truth(0), 0.7, 0.3, True) == BACKGROUND).all()
    assert (match(boxes(9), truth(0, known=False), 0.7, 0.3, True) == IGNORED).all()


def test_match__a_crowd_is_no_background():
    crowd = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.tensor([[0.0, 0, 50, 50]]), True)
    found = match(torch.tensor([[10.0, 10, 20, 20], [40, 40, 90, 90]]), crowd, 0.5, 0.5)
    assert found.tolist() == [IGNORED, BACKGROUND]


@pytest.mark.parametrize("seed", range(4))
def test_sample__chooses_what_torchvision_chooses(seed):
    rows = torch.randint(-2, 3, (200,), generator=torch.Generator().manual_seed(seed))
    labels = torch.where(rows >= 0, 1, torch.where(rows == BACKGROUND, 0, -1))
    torch.manual_seed(seed)
    objects, background = sample(rows, 64, 0.25)
    torch.manual_seed(seed)
    (positive,), (negative,) = theirs.BalancedPositiveNegativeSampler(64, 0.25)([labels])
    assert torch.equal(objects, positive.nonzero().flatten())
    assert torch.equal(background, negative.nonzero().flatten())


def test_sample_proposals__true_boxes_are_among_them():
    proposals = torch.zeros(2, 5, 4)
    found = sample_proposals(proposals, torch.zeros(2, 5, dtype=torch.bool), [truth(3), truth(0)], 0.5, 512, 0.25)
    assert found.labels.tolist() == [1, 2, 3]
    assert torch.equal(found.gathered([truth(3).boxes, truth(0).boxes]), truth(3).boxes)


@pytest.mark.parametrize("seed", range(3))
def test_pool__equals_torchvision(seed):
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.rand(2, 4, 256 // stride, 320 // stride, generator=generator) for stride in (4, 8, 16, 32)]
    own = [boxes(20, 160, seed), boxes(7, 100, seed + 1)]
    rois = torch.cat([torch.cat([torch.full((len(part), 1), float(i)), part], 1) for i, part in enumerate(own)])
    reference = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    named = {str(i): level for i, level in enumerate(levels)}
    expected = reference(named, own, [(256, 320)] * 2)
    assert torch.allclose(pool(levels, (4, 8, 16, 32), rois, 7), expected, atol=1e-6)
    assert pool(levels, (4, 8, 16, 32), rois[:0], 7).shape == (0, 4, 7, 7)


@pytest.mark.parametrize("size", [(12, 20), (1, 3)])
def test_summed__equals_torchvisions_operator_and_its_gradient(size):
    generator = torch.Generator().manual_seed(0)
    level = torch.randn(2, 5, *size, generator=generator, requires_grad=True)
    inside, around = boxes(20, 60), boxes(20, 160) - 90  # some reach over the borders, some lie outside
    own = torch.cat([inside, around, inside[:1] * 0])
    rois = torch.cat([(torch.arange(len(own)) % 2)[:, None].float(), own], 1)
    ours, theirs_ = summed(level, rois, 8, 7), roi_align(level, rois, 7, 1 / 8, 2)
    assert torch.allclose(ours, theirs_, atol=1e-5)
    weights = torch.randn(ours.shape, generator=generator)
    first, second = (torch.autograd.grad((one * weights).sum(), level)[0] for one in (ours, theirs_))
    assert torch.allclose(first, second, atol=1e-4)


def test_mask_targets__equal_torchvision():
    masks = torch.rand(3, 64, 64) > 0.5
    rois, rows = boxes(8, 30), torch.randint(0, 3, (8,))
    objects = Samples(torch.cat([torch.zeros(8, 1), rois], 1), torch.ones(8, dtype=torch.long), rows)
    expected = project_masks_on_boxes(masks.to(torch.uint8), rois, rows, 28)
    assert torch.allclose(mask_targets(objects, [masks], 28), expected)


def test_keypoint_targets__equal_torchvision():
    points = torch.cat([torch.rand(9, 5, 2) * 200, torch.randint(0, 3, (9, 5, 1)).float()], 2)
    rois = boxes(9, 100)
    points[0, 0, :2], points[0, 0, 2] = rois[0, 2:], 2  # on the border
    cells, counted = keypoint_targets(points, rois, 56)
    expected_cells, expected = keypoints_to_heatmap(points.clone(), rois, 56)
    assert torch.equal(cells, expected_cells) and torch.equal(counted, expected.bool())


def test_strongest__has_a_fixed_form():
    best, rows = strongest(torch.tensor([[0.2, 0.9]]), 4)
    assert best.shape == rows.shape == (1, 4)
    assert rows[0, :2].tolist() == [1, 0] and (best[0, 2:] == -torch.inf).all()
