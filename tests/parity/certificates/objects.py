"""Boxes, masks, boundaries and keypoints against pycocotools."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from certificates.certificate import Case, Certificate, pair_numbers
from certificates.coco_objects import KEYPOINT_METRICS, METRICS, BoundaryEval, evaluate, evaluate_reference, make_pairs
from certificates.coco_world import World, evaluate_arrays, evaluate_pycocotools, summarize
from densevision.results import Instances


def compare_boxes() -> Iterator[Case]:
    """Random datasets; each is named after the special case that it contains."""
    for seed in range(60):
        world = World(seed)
        stats = evaluate_pycocotools(world.truth(), world.predictions).stats
        expected = dict(zip(METRICS, np.where(stats == -1, np.nan, stats)))
        yield from pair_numbers(_name_case(world), evaluate_arrays(world).compute(), expected)


def compare_max_detections() -> Iterator[Case]:
    """More and fewer predictions per class and image than COCO's 100, on the datasets that have more."""
    worlds = [world for world in map(World, range(60)) if _name_case(world).startswith("more than 100")]
    for world in worlds[:6]:
        for limit in (20, 300):
            reference = summarize(evaluate_pycocotools(world.truth(), world.predictions, max_detections=limit))
            ours = evaluate_arrays(world, max_detections=limit).compute()
            yield from pair_numbers(f"maxDets [1, 10, {limit}]", ours, reference)


def _name_case(world: World) -> str:
    per_class: dict[tuple[int, int], int] = {}
    for entry in world.predictions:
        key = entry["image_id"], entry["category_id"]
        per_class[key] = per_class.get(key, 0) + 1
    if not world.target_records or not world.predictions:
        return "no truth, or no prediction"
    if max(per_class.values()) > 100:
        return "more than 100 predictions of a class, equal scores"
    if {entry["category_id"] for entry in world.target_records} != set(world.category_ids):
        return "classes without truth"
    if any(entry["iscrowd"] for entry in world.target_records):
        return "crowd regions"
    return "areas at and beside 32² and 96²"


def _compare(kind: str, names: tuple[str, ...], seeds: range, evaluation: type | None = None) -> Iterator[Case]:
    for seed in seeds:
        pairs = make_pairs(seed)
        stats = evaluate_reference(pairs, "segm", evaluation) if evaluation else evaluate_reference(pairs, kind)
        yield from pair_numbers("random objects, crowds", evaluate(pairs, kind).compute(), dict(zip(names, stats)))


def compare_masks() -> Iterator[Case]:
    """Ellipses that are shifted by a few pixels, and false positives."""
    yield from _compare("segm", METRICS, range(4))


def compare_boundaries() -> Iterator[Case]:
    """The same, matched by the smaller of mask IoU and boundary IoU."""
    yield from _compare("boundary", METRICS, range(2), BoundaryEval)


def compare_keypoints() -> Iterator[Case]:
    """Visibilities of 0, 1 and 2, and objects without labeled keypoints."""
    yield from _compare("keypoints", KEYPOINT_METRICS, range(4))
    for seed in range(2):
        pairs = [(prediction, _remove_labels(truth, seed)) for prediction, truth in make_pairs(seed)]
        stats = dict(zip(KEYPOINT_METRICS, evaluate_reference(pairs, "keypoints")))
        yield from pair_numbers("objects without a labeled point", evaluate(pairs, "keypoints").compute(), stats)


def compare_sigmas() -> Iterator[Case]:
    """`kpt_oks_sigmas` of one's own: another constant for each keypoint."""
    for seed in range(3):
        pairs, sigmas = make_pairs(seed), np.random.default_rng(seed).uniform(0.01, 0.2, 17).tolist()
        stats = dict(zip(KEYPOINT_METRICS, evaluate_reference(pairs, "keypoints", sigmas=sigmas)))
        yield from pair_numbers("sigmas of 0.01 to 0.2", evaluate(pairs, "keypoints", sigmas).compute(), stats)


def _remove_labels(truth: Instances, seed: int) -> Instances:
    """Removes all labels of every other object, and half of the others'."""
    points = truth.keypoints.copy()
    points[seed % 2 :: 2] = 0
    points[:, ::2, 2] = 0
    rows = {name: getattr(truth, name) for name in ("areas", "crowd", "masks")}
    return Instances.from_arrays(truth.boxes, truth.labels, truth.names, truth.size, keypoints=points, **rows)


CERTIFICATES = (
    Certificate("detection, instance", "bbox: AP AP50 AP75 APs APm APl AR1 … ARl", "pycocotools", compare_boxes),
    Certificate("instance", "segm: AP … ARl", "pycocotools", compare_masks, 1e-6),
    Certificate("instance", "boundary: AP … ARl", "pycocotools, IoU as in Cheng et al. 2021", compare_boundaries, 1e-6),
    Certificate("detection, instance", "bbox: max_detections 20 and 300", "pycocotools", compare_max_detections),
    Certificate("instance", "keypoints: AP AP50 AP75 APm APl AR … ARl", "pycocotools", compare_keypoints, 1e-6),
    Certificate("instance", "keypoints: sigmas", "pycocotools, kpt_oks_sigmas", compare_sigmas, 1e-6),
)
