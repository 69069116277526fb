"""Two-stage detectors, stage by stage: anchors, proposals, matching, pooling, heads, detections, losses."""
