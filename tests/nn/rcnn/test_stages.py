"""Each stage against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import _utils as torchvision_utils
from torchvision.models.detection import anchor_utils
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import keypoints_to_heatmap, project_masks_on_boxes
from torchvision.ops import MultiScaleRoIAlign, box_iou, roi_align

from densevision.nn.rcnn.anchors import AnchorGenerator
from densevision.nn.rcnn.box_coder import BOX_CODER
from densevision.nn.rcnn.losses import keypoint_targets, mask_targets
from densevision.nn.rcnn.matcher import (
    BACKGROUND,
    IGNORED,
    GroundTruth,
    Matcher,
    ProposalSampler,
    Samples,
    sample_balanced,
)
from densevision.nn.rcnn.pooling import pool, roi_align_cpu

pytestmark = pytest.mark.parity


def boxes(count: int, side: float = 200, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * side], 1)


def truth(count: int, crowd: int = 0, is_labeled: bool = True, seed: int = 1) -> GroundTruth:
    return GroundTruth(boxes(count, seed=seed), torch.arange(count) % 3, boxes(crowd, seed=seed + 1), is_labeled)


@pytest.mark.parametrize("canvas", [(64, 96), (800, 1216), (96, 64)])
def test_anchors__equal_torchvision(canvas):
    sizes = [(32,), (64,), (128,)]
    levels = [torch.zeros(1, 1, -(-canvas[0] // stride), -(-canvas[1] // stride)) for stride in (8, 32, 64)]
    ours = torch.cat(AnchorGenerator(sizes, (0.5, 1.0, 2.0))(levels, canvas))
    image = ImageList(torch.zeros(1, 3, *canvas), [canvas])
    (reference,) = anchor_utils.AnchorGenerator(tuple(sizes), ((0.5, 1.0, 2.0),) * 3)(image, levels)
    assert torch.equal(ours, reference)


def test_box_coder__equals_torchvision_and_inverts():
    reference = torchvision_utils.BoxCoder(BOX_CODER.weights)
    first, second = boxes(50), boxes(50, seed=3)
    deltas = BOX_CODER.encode(first, second)
    assert torch.allclose(deltas, reference.encode_single(first, second), atol=1e-5)
    assert torch.allclose(BOX_CODER.decode(deltas, second), first, atol=1e-3)
    extreme = torch.randn(50, 4) * 30
    assert torch.allclose(BOX_CODER.decode(extreme, second), reference.decode_single(extreme, second), rtol=1e-5)


@pytest.mark.parametrize("allow_low_quality_matches", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_matcher__equals_torchvision(seed, allow_low_quality_matches):
    anchors, objects = boxes(300, seed=seed), truth(6, seed=seed + 9)
    ours, reference = (
        cls(0.6, 0.3, allow_low_quality_matches=allow_low_quality_matches)
        for cls in (Matcher, torchvision_utils.Matcher)
    )
    assert torch.equal(ours(anchors, objects), reference(box_iou(objects.boxes, anchors)))


def test_matcher__without_objects_background_and_unlabeled_ignored():
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    assert (matcher(boxes(9), truth(0)) == BACKGROUND).all()
    assert (matcher(boxes(9), truth(0, is_labeled=False)) == IGNORED).all()


def test_matcher__crowd_region_is_not_background():
    crowd = GroundTruth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.tensor([[0.0, 0, 50, 50]]))
    matches = Matcher(0.5, 0.5)(torch.tensor([[10.0, 10, 20, 20], [40, 40, 90, 90]]), crowd)
    assert matches.tolist() == [IGNORED, BACKGROUND]


@pytest.mark.parametrize("seed", range(4))
def test_sample_balanced__equals_torchvision(seed):
    rows = torch.randint(-2, 3, (200,), generator=torch.Generator().manual_seed(seed))
    labels = torch.where(rows >= 0, 1, torch.where(rows == BACKGROUND, 0, -1))
    torch.manual_seed(seed)
    objects, background = sample_balanced(rows, 64, 0.25)
    torch.manual_seed(seed)
    (positive,), (negative,) = torchvision_utils.BalancedPositiveNegativeSampler(64, 0.25)([labels])
    assert torch.equal(objects, positive.nonzero().flatten())
    assert torch.equal(background, negative.nonzero().flatten())


def test_proposal_sampler__true_boxes_are_candidates():
    target_records = [truth(3), truth(0)]
    sampler = ProposalSampler(0.5, 512, 0.25)
    samples = sampler(torch.zeros(2, 5, 4), torch.zeros(2, 5, dtype=torch.bool), target_records)
    assert samples.labels.tolist() == [1, 2, 3]
    assert torch.equal(samples.gather([each.boxes for each in target_records]), truth(3).boxes)


@pytest.mark.parametrize("seed", range(3))
def test_pool__equals_torchvision(seed):
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.rand(2, 4, 256 // stride, 320 // stride, generator=generator) for stride in (4, 8, 16, 32)]
    per_image = [boxes(20, 160, seed), boxes(7, 100, seed + 1)]
    rois = torch.cat([torch.cat([torch.full((len(part), 1), float(i)), part], 1) for i, part in enumerate(per_image)])
    reference = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    named = {str(i): level for i, level in enumerate(levels)}
    expected = reference(named, per_image, [(256, 320)] * 2)
    assert torch.allclose(pool(levels, (4, 8, 16, 32), rois, 7), expected, atol=1e-6)
    assert pool(levels, (4, 8, 16, 32), rois[:0], 7).shape == (0, 4, 7, 7)


@pytest.mark.parametrize("size", [(12, 20), (1, 3)])
def test_roi_align_cpu__equals_torchvisions_operator_and_gradient(size):
    generator = torch.Generator().manual_seed(0)
    level = torch.randn(2, 5, *size, generator=generator, requires_grad=True)
    inside, around = boxes(20, 60), boxes(20, 160) - 90  # some reach over the borders, some lie outside
    own = torch.cat([inside, around, inside[:1] * 0])
    rois = torch.cat([(torch.arange(len(own)) % 2)[:, None].float(), own], 1)
    ours, reference = roi_align_cpu(level, rois, 8, 7), roi_align(level, rois, 7, 1 / 8, 2)
    assert torch.allclose(ours, reference, atol=1e-5)
    weights = torch.randn(ours.shape, generator=generator)
    first, second = (torch.autograd.grad((one * weights).sum(), level)[0] for one in (ours, reference))
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
