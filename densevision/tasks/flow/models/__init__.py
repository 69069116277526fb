"""Optical-flow architectures by name. No torch here."""

from __future__ import annotations

from typing import Any

from densevision.tasks.registry import Architecture

__all__ = ["MODELS"]

_RAFT = "densevision.tasks.flow.models.raft:RAFT"
_SEA_RAFT = "densevision.tasks.flow.models.sea_raft:SeaRaft"

_TINY: dict[str, Any] = {
    "encoder_channels": (32, 32, 48, 64, 64),
    "bottleneck": False,
    "hidden_channels": 48,
    "context_channels": 48,
    "correlation_channels": (64,),
    "flow_channels": (32, 16),
    "motion_channels": 48,
    "head_channels": 64,
    "convex_upsampling": True,
    "stride": 4,
    "shared_encoder": True,
}
_LARGE: dict[str, Any] = {
    "encoder_channels": (64, 64, 96, 128, 256),
    "bottleneck": False,
    "context_norm": True,
    "hidden_channels": 128,
    "context_channels": 128,
    "correlation_radius": 4,
    "correlation_channels": (256, 192),
    "flow_channels": (128, 64),
    "motion_channels": 128,
    "separable_gru": True,
    "head_channels": 256,
    "convex_upsampling": True,
}

MODELS: dict[str, Architecture] = {
    "raft_tiny": Architecture(_RAFT, "RAFT with cells of 4 pixels and one encoder; trains in an hour on a CPU", _TINY),
    "raft_small": Architecture(_RAFT, "RAFT-small, 1.0 M parameters"),
    "raft_large": Architecture(_RAFT, "RAFT, 5.3 M parameters", _LARGE),
    "raft_timm": Architecture(
        _RAFT,
        "RAFT-small's update block on the stride-8 level of any timm backbone",
        {"encoder": "mobilenetv2_100", "shared_encoder": True},
    ),
    "raft_timm_tiny": Architecture(
        _RAFT,
        "RAFT-tiny's update block on the stride-8 level of any timm backbone",
        {**_TINY, "encoder": "mobilenetv2_100", "stride": 8},
    ),
    "raft_timm_large": Architecture(
        _RAFT,
        "RAFT's update block on the stride-8 level of any timm backbone",
        {**_LARGE, "context_norm": False, "encoder": "mobilenetv2_100", "shared_encoder": True},
    ),
    "sea_raft_s": Architecture(_SEA_RAFT, "SEA-RAFT S: ResNet-18, 4 iterations", {"encoder": "resnet18"}),
    "sea_raft_m": Architecture(_SEA_RAFT, "SEA-RAFT M: ResNet-34, 4 iterations", {"encoder": "resnet34"}),
    "sea_raft_l": Architecture(
        _SEA_RAFT, "SEA-RAFT L: M with 12 iterations", {"encoder": "resnet34", "iterations": 12}
    ),
}
"""Name -> architecture; `config.arch` picks one."""
