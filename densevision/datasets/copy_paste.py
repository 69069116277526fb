"""Objects of one image pasted over another.

Source: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, CVPR 2021.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from densevision.datasets.mosaic import alike
from densevision.ops.masks import areas, boxes, decode, encode
from densevision.results import Instances
from densevision.sample import Sample

LEFT = 0.1
"""An object of which less than this part is left uncovered is gone."""


def copy_paste(sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
    """The sample with a random choice of the other's objects over it; what they cover is taken from its masks.

    Args:
        sample: With one image and masks.
        other: On a canvas of the same size.
        rng: All the chance.
    """
    source: Instances = other.truth[~other.truth.crowd]
    chosen = source[rng.random(len(source)) < 0.5]
    if not len(chosen):
        return sample
    covered = np.logical_or.reduce(list(chosen.each_mask()))
    name = next(iter(sample.images))
    below, above = alike([sample.images[name], other.images[name]])
    image = np.where(covered[..., None], above, below)
    truth = Instances.joined([_uncovered(sample.truth, covered), chosen])
    return replace(sample, images={name: image}, truth=truth)


def _uncovered(truth: Instances, covered: np.ndarray) -> Instances:
    """Those of the objects that can still be seen, without what is covered; crowd regions keep their boxes."""
    masks = tuple(encode(decode(mask) & ~covered) for mask in truth.masks)
    before, after = areas(truth.masks), areas(masks)
    changed = (after < before) & ~truth.crowd
    fitted = np.where((changed & (after > 0))[:, None], boxes(masks), truth.boxes).astype(np.float32)
    seen = truth.areas * np.where(changed, after / np.maximum(before, 1), 1)
    return replace(truth, masks=masks, boxes=fitted, areas=seen)[(after > 0) & (after >= LEFT * before)]
