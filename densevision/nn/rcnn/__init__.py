"""Parts of two-stage detectors: anchors, proposals, matching, pooling, heads, postprocessing, losses."""
