"""Boxes, masks, boundaries and keypoints beside pycocotools."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from certificates.certificate import Case, Certificate, side_by_side
from certificates.coco_objects import NUMBERS, POINT_NUMBERS, Paper, ours, pairs
from certificates.coco_objects import reference as judged
from certificates.coco_world import World, from_arrays, reference
from densevision.results import Instances


def boxes() -> Iterator[Case]:
    """Random datasets; each is counted under the trap that it holds, if there is one."""
    for seed in range(60):
        world = World(seed)
        stats = reference(world.truth(), world.predictions).stats
        expected = dict(zip(NUMBERS, np.where(stats == -1, np.nan, stats)))
        yield from side_by_side(_trap(world), from_arrays(world).compute(), expected)


def _trap(world: World) -> str:
    per_class: dict[tuple[int, int], int] = {}
    for entry in world.predictions:
        key = entry["image_id"], entry["category_id"]
        per_class[key] = per_class.get(key, 0) + 1
    if not world.ground_truths or not world.predictions:
        return "no truth, or no prediction"
    if max(per_class.values()) > 100:
        return "more than 100 predictions of a class, equal scores"
    if {entry["category_id"] for entry in world.ground_truths} != set(world.category_ids):
        return "classes without truth"
    if any(entry["iscrowd"] for entry in world.ground_truths):
        return "crowd regions"
    return "areas at and beside 32² and 96²"


def _compared(kind: str, names: tuple[str, ...], seeds: range, judge: type | None = None) -> Iterator[Case]:
    for seed in seeds:
        found = pairs(seed)
        stats = judged(found, "segm", judge) if judge else judged(found, kind)
        yield from side_by_side("random objects, crowds", ours(found, kind).compute(), dict(zip(names, stats)))


def masks() -> Iterator[Case]:
    """Ellipses that are moved a little, and some more."""
    yield from _compared("segm", NUMBERS, range(4))


def boundaries() -> Iterator[Case]:
    """The same, matched by the smaller of both IoUs."""
    yield from _compared("boundary", NUMBERS, range(2), Paper)


def keypoints() -> Iterator[Case]:
    """Visibilities of 0, 1 and 2, objects of which nothing is labeled, and images of nothing else."""
    yield from _compared("keypoints", POINT_NUMBERS, range(4))
    for seed in range(2):
        found = [(answer, _unlabeled(truth, seed)) for answer, truth in pairs(seed)]
        stats = dict(zip(POINT_NUMBERS, judged(found, "keypoints")))
        yield from side_by_side("objects without a labeled point", ours(found, "keypoints").compute(), stats)


def _unlabeled(truth: Instances, seed: int) -> Instances:
    """Every other object loses all its labels, the others half of them."""
    points = truth.keypoints.copy()
    points[seed % 2 :: 2] = 0
    points[:, ::2, 2] = 0
    rows = {name: getattr(truth, name) for name in ("areas", "crowd", "masks")}
    return Instances.of(truth.boxes, truth.labels, truth.names, truth.size, keypoints=points, **rows)


CERTIFICATES = (
    Certificate("detection, instance", "bbox: AP AP50 AP75 APs APm APl AR1 … ARl", "pycocotools", boxes),
    Certificate("instance", "segm: AP … ARl", "pycocotools", masks, 1e-6),
    Certificate("instance", "boundary: AP … ARl", "pycocotools, IoU as in Cheng et al. 2021", boundaries, 1e-6),
    Certificate("instance", "keypoints: AP AP50 AP75 APm APl AR … ARl", "pycocotools", keypoints, 1e-6),
)
