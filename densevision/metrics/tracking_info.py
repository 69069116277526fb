"""What the metrics of tracks measure."""

from __future__ import annotations

from densevision.metrics.metric_info import MetricInfo

__all__ = ["TRACKING_INFO"]

TRACKING_INFO = {
    "HOTA": MetricInfo("higher-order tracking accuracy, IoU 0.05 to 0.95"),
    "DetA": MetricInfo("detection part of HOTA"),
    "AssA": MetricInfo("association part of HOTA"),
    "LocA": MetricInfo("mean IoU of HOTA's matches"),
    "MOTA": MetricInfo("1 - (misses + false positives + identity switches) / boxes, IoU 0.50"),
    "MOTP": MetricInfo("mean IoU of the matches, IoU from 0.50"),
    "IDF1": MetricInfo("F1 of boxes with the right identity, IoU 0.50"),
    "IDP": MetricInfo("precision of identities"),
    "IDR": MetricInfo("recall of identities"),
    "IDSW": MetricInfo("identity switches", False),
    "FP": MetricInfo("false positives", False),
    "FN": MetricInfo("misses", False),
    "Frag": MetricInfo("interruptions of tracks", False),
    "MT": MetricInfo("identities tracked for more than 80 % of their frames"),
    "PT": MetricInfo("identities tracked for 20 to 80 %"),
    "ML": MetricInfo("identities tracked for less than 20 %", False),
}
"""Metrics of tracks."""
