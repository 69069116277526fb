"""Faster R-CNN on a feature pyramid.

Source: Ren et al., Faster R-CNN, NeurIPS 2015; Lin et al., Feature Pyramid Networks, CVPR 2017.
"""

from __future__ import annotations

from densevision.nn.rcnn.two_stage import TwoStageDetector

__all__ = ["FasterRCNN"]


class FasterRCNN(TwoStageDetector):
    """Region proposals, and a second stage that classifies and refines them."""
