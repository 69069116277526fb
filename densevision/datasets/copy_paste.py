"""Copy-paste augmentation: objects of one image pasted onto another.

Source: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, CVPR 2021.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from densevision.datasets.mosaic import match_dtypes
from densevision.ops.masks import compute_areas, compute_boxes, decode, encode
from densevision.results import Instances
from densevision.sample import Sample

__all__ = ["copy_paste"]

MIN_VISIBLE = 0.1
"""Objects with a smaller visible fraction are removed."""


def copy_paste(sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
    """Pastes a random half of the other sample's objects; the masks that they occlude are reduced.

    Args:
        sample: A sample with one image and masks.
        other: A sample on a canvas of the same size.
        rng: The source of randomness.
    """
    truth, source = sample.truth, other.truth
    assert isinstance(truth, Instances) and isinstance(source, Instances)
    source = source[~source.crowd]
    pasted = source[rng.random(len(source)) < 0.5]
    if not len(pasted):
        return sample
    occluder = np.logical_or.reduce(list(pasted.iterate_masks()))
    name = next(iter(sample.images))
    background, foreground = match_dtypes([sample.images[name], other.images[name]])
    image = np.where(occluder[..., None], foreground, background)
    joined = Instances.concatenate([_remove_occluded(truth, occluder), pasted])
    return replace(sample, images={name: image}, truth=joined)


def _remove_occluded(truth: Instances, occluder: np.ndarray) -> Instances:
    """Removes occluded pixels from masks, and objects that are hardly visible; crowd regions keep their boxes."""
    assert truth.masks is not None
    masks = tuple(encode(decode(mask) & ~occluder) for mask in truth.masks)
    before, after = compute_areas(truth.masks), compute_areas(masks)
    is_changed = (after < before) & ~truth.crowd
    new_boxes = np.where((is_changed & (after > 0))[:, None], compute_boxes(masks), truth.boxes).astype(np.float32)
    new_areas = truth.areas * np.where(is_changed, after / np.maximum(before, 1), 1)
    is_visible = (after > 0) & (after >= MIN_VISIBLE * before)
    return replace(truth, masks=masks, boxes=new_boxes, areas=new_areas)[is_visible]
