"""Arguments and settings that make architectures small."""

from __future__ import annotations

from typing import Any

DECODERS: dict[str, dict[str, Any]] = {
    "unet": {"decoder_channels": [16, 8, 8, 8, 8]},
    "unetplusplus": {"decoder_channels": [16, 16, 8, 8, 8]},
    "manet": {"decoder_channels": [16, 16, 8, 8, 8], "pab_channels": 8},
    "fpn": {"pyramid_channels": 16, "segmentation_channels": 32},
    "pspnet": {"out_channels": 16},
    "deeplabv3": {"out_channels": 16, "atrous_rates": [1, 2, 3]},
    "deeplabv3plus": {"out_channels": 16, "atrous_rates": [1, 2, 3]},
    "upernet": {"decoder_channels": 16},
    "segformer": {"segmentation_channels": 16},
    "dpt": {"fusion_channels": 16, "intermediate_channels": [8, 8, 8, 8]},
}
"""`decoder_options` of the decoders of segmentation_models_pytorch."""

TWO_STAGE: dict[str, Any] = {
    "fpn_channels": 16,
    "box_hidden": (16,),
    "anchor_sizes": (8, 16, 32, 48, 64),
    "max_detections": 5,
    "rpn_post_nms_top_n_train": 50,
    "rpn_post_nms_top_n_test": 20,
}
"""Arguments of Faster, Mask and Keypoint R-CNN on images of 64 pixels."""

TWO_STAGE_RUN: dict[str, Any] = {
    "data.path": "scenes:8:0",
    "data.size": 128,
    "backbone.name": "mobilenetv2_050",
    "model.fpn_channels": 16,
    "model.encoder_strides": [8, 16, 32],
    "model.anchor_sizes": [24, 48, 96, 128],
    "model.rpn_pre_nms_top_n_test": 100,
    "model.rpn_post_nms_top_n_test": 50,
    "model.rpn_pre_nms_top_n_train": 100,
    "model.rpn_post_nms_top_n_train": 100,
    "model.box_hidden": [64],
    "model.box_batch_size_per_image": 32,
    "model.max_candidates": 100,
    "decode.max_detections": 20,
}
"""Settings of their runs on 8 scenes of 128 pixels."""
