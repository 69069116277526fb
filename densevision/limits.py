"""Limits of a config: sizes, and the options of backbones by name and type. Imports no torch.

A config may come from an untrusted weights file or exported model. It is therefore bounded before anything is built:
sizes by `LIMITS`, options of `timm.create_model` by an allow-list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from densevision.errors import UsageError, did_you_mean

__all__ = ["LIMITS", "MAX_LIST_LENGTH", "OptionType", "check_backbone_options", "check_decoder_options", "check_limits"]

MAX_SIDE = 8192
"""Maximum side in pixels of a network's canvas: three channels of float32 take 805 MB."""
MAX_LIST_LENGTH = 65_535
"""Maximum number of entries of a list: as many classes as a 16-bit mask can hold."""
MAX_TEXT_LENGTH = 4096
"""Maximum number of characters of a string."""

LIMITS: dict[str, int] = {
    "channels": 1024,
    "in_channels": 1024,
    "out_channels": 1024,
    "scale": 64,
    "width": 8192,
    "mapping_width": 8192,
    "depth": 512,
    "bins": 1024,
    "hidden": 65_536,
    "convolutions": 64,
    "resolution": 256,
    "layers": 16,
    "scales": 16,
    "strides": 1024,
    "reassemble_channels": 8192,
    "blocks": 1024,
    "iterations": 1000,
    "training_iterations": 1000,
    "encoder_channels": 8192,
    "hidden_channels": 8192,
    "context_channels": 8192,
    "correlation_channels": 8192,
    "flow_channels": 8192,
    "motion_channels": 8192,
    "correlation_levels": 6,
    "correlation_radius": 16,
    "size": MAX_SIDE,
    "longest": 2 * MAX_SIDE,
    "shorter": MAX_SIDE,
    "canvas": MAX_SIDE,
    "resize": 2 * MAX_SIDE,
    "crop": MAX_SIDE,
    "workers": 1024,
    "buffer": 10_000,
    "max_detections": 1_000_000,
    "max_candidates": 1_000_000,
    "num_classes": MAX_LIST_LENGTH,
    "head_channels": 8192,
    "atrous_rates": 1024,
    "num_queries": 10_000,
    "num_blocks": 512,
    "num_points": 1_000_000,
    "patch_size": 256,
    "image_size": MAX_SIDE,
    "input_size": MAX_SIDE,
    "shorter_side": MAX_SIDE,
    "max_size": 2 * MAX_SIDE,
    "reg_max": 1024,
    "topk": 10_000,
    "depth_multiple": 16,
    "width_multiple": 16,
    "encoder_depth": 16,
    "encoder_expansion": 16,
    "encoder_width": 8192,
    "encoder_feedforward": 65_536,
    "feedforward": 65_536,
    "heads": 1024,
    "points": 1024,
    "num_denoising": 10_000,
    "num_keypoints": 1024,
    "encoder_strides": 1024,
    "fpn_channels": 8192,
    "rpn_depth": 64,
    **dict.fromkeys(
        (f"rpn_{stage}_nms_top_n_{mode}" for stage in ("pre", "post") for mode in ("train", "test")), 1_000_000
    ),
    **dict.fromkeys((f"{stage}_batch_size_per_image" for stage in ("rpn", "box")), 1_000_000),
    **dict.fromkeys((f"{head}_resolution" for head in ("box", "mask", "keypoint")), 256),
    **dict.fromkeys((f"{head}_convs" for head in ("box", "mask", "keypoint")), 64),
    **dict.fromkeys((f"{head}_channels" for head in ("mask", "keypoint")), 8192),
    "box_hidden": 65_536,
}
"""Option name, in any section -> maximum number in it."""
UNLIMITED = ("data.scale",)
"""Options that share a name with a limited one but are no size: steps per unit in depth files."""
LIST_LENGTHS: dict[str, int] = {
    "keypoint_names": 1024, "skeleton_edges": 4096, "sigmas": 1024, "mean": 1024, "std": 1024, "hidden": 16,
    "strides": 16, "levels": 16, "sizes": 64, "ratios": 64, "points": 16, "box_hidden": 16, "encoder_strides": 16,
    "encoder_modules": 16, "anchor_sizes": 64, "aspect_ratios": 64,
}  # fmt: skip
"""Option name -> maximum length of its list; `MAX_LIST_LENGTH` for all others."""


def check_limits(values: Any, path: str = "") -> None:
    """Refuses sizes in plain data that no network has.

    Args:
        values: Mappings, sequences, numbers and strings, as in a config file.
        path: Dotted name of `values`.

    Raises:
        UsageError: A number, list or string is above its limit; the error names the option.
    """
    name = path.rpartition(".")[2]
    if isinstance(values, Mapping):
        for key, value in values.items():
            check_limits(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, str):
        if len(values) > MAX_TEXT_LENGTH:
            raise _limit_error(path, f"{len(values)} characters", MAX_TEXT_LENGTH)
    elif isinstance(values, Sequence):
        limit = LIST_LENGTHS.get(name, MAX_LIST_LENGTH)
        if len(values) > limit:
            raise _limit_error(path, f"{len(values)} entries", limit)
        for value in values:
            check_limits(value, path)
    elif isinstance(values, (int, float)) and name in LIMITS and values > LIMITS[name] and not _is_unlimited(path):
        raise _limit_error(path, values, LIMITS[name])


def _is_unlimited(path: str) -> bool:
    """Whether an option, possibly of a task's section of a joint config, is no size."""
    return any(f".{path}".endswith(f".{option}") for option in UNLIMITED)


def _limit_error(path: str, value: Any, limit: int) -> UsageError:
    return UsageError(f"is above the limit of {limit:,}", field=path, value=value, hint="Use a smaller value.")


# -- options of timm.create_model --------------------------------------------------------------------------------------


class OptionType(NamedTuple):
    """Type of a backbone option: a description for messages, and a test of a value."""

    description: str
    accepts: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _integer(maximum: int, max_length: int = 0) -> OptionType:
    def is_valid(value: Any) -> bool:
        return type(value) is int and 0 <= value <= maximum

    def accepts(value: Any) -> bool:
        if max_length and isinstance(value, (list, tuple)):
            return 1 <= len(value) <= max_length and all(map(is_valid, value))
        return is_valid(value)

    alternative = f", or a list of up to {max_length}" if max_length else ""
    return OptionType(f"an integer from 0 to {maximum}{alternative}", accepts)


def _number(maximum: float) -> OptionType:
    return OptionType(f"a number from 0 to {maximum:g}", lambda value: _is_number(value) and 0 <= value <= maximum)


def _choice(*names: str) -> OptionType:
    return OptionType(f"one of {', '.join(map(repr, names))}", lambda value: isinstance(value, str) and value in names)


_SWITCH = OptionType("true or false", lambda value: isinstance(value, bool))
_RATE = OptionType("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
_SIZE = _integer(MAX_SIDE, 2)
_ACTIVATION = _choice(
    "relu", "relu6", "silu", "swish", "mish", "leaky_relu", "elu", "prelu", "celu", "selu", "gelu", "gelu_tanh",
    "quick_gelu", "sigmoid", "tanh", "hard_sigmoid", "hard_swish", "hard_mish", "identity",
)  # fmt: skip
_NORM = _choice(
    "frozenbatchnorm2d", "batchnorm", "batchnorm2d", "groupnorm", "groupnorm1", "layernorm", "layernorm2d", "rmsnorm",
    "rmsnorm2d", "instancenorm2d",
)  # fmt: skip
_BLUR = _choice("", "avg", "avgpool", "blur", "blurpool", "blurpc")

BACKBONE_OPTIONS: dict[str, OptionType] = {
    **dict.fromkeys(
        (
            "drop_rate", "drop_path_rate", "drop_block_rate", "proj_drop_rate", "attn_drop_rate", "pos_drop_rate",
            "patch_drop_rate", "bn_momentum",
        ),
        _RATE,
    ),
    **dict.fromkeys(
        (
            "dynamic_img_size", "strict_img_size", "dynamic_img_pad", "always_partition", "qkv_bias", "qk_norm",
            "class_token", "no_embed_class", "pre_norm", "final_norm", "fc_norm", "avg_down", "use_rel_pos",
            "use_rot_pos_emb", "use_abs_pos_emb", "conv_mlp", "use_grn", "head_norm_first", "antialias",
        ),
        _SWITCH,
    ),
    "pad_type": _choice("", "same", "valid", "symmetric"),
    "act_layer": _ACTIVATION,
    "norm_layer": _NORM,
    "aa_layer": _BLUR,
    "stem_type": _choice("", "deep", "deep_tiered", "deep_tiered_narrow", "patch", "overlap", "overlap_tiered"),
    "global_pool": _choice("", "avg", "max", "avgmax", "catavgmax", "token", "map"),
    "img_size": _SIZE,
    "patch_size": _integer(256, 2),
    "window_size": _integer(256, 2),
    "depth": _integer(256),
    "depths": _integer(256, 8),
    "dims": _integer(LIMITS["width"], 8),
    "embed_dim": _integer(LIMITS["width"], 8),
    "num_heads": _integer(256, 8),
    "reg_tokens": _integer(256),
    "base_width": _integer(1024),
    "stem_width": _integer(1024),
    "stem_size": _integer(1024),
    "cardinality": _integer(1024),
    "kernel_sizes": _integer(31, 8),
    "bn_eps": _RATE,
    "mlp_ratio": _number(16),
    "init_values": _number(100),
    "ls_init_value": _number(100),
}  # fmt: skip
"""Option of `timm.create_model` that changes the architecture and nothing else -> its type."""
RENAMED_OPTIONS = {
    "in_chans": "Set backbone.channels instead.",
    "output_stride": "Set backbone.output_stride instead.",
    "pretrained": "Set backbone.pretrained instead.",
    "checkpoint_path": "Set backbone.pretrained to the file instead.",
    "pretrained_cfg": "Set backbone.pretrained, mean and std instead.",
    "pretrained_cfg_overlay": "Set backbone.pretrained, mean and std instead.",
    "features_only": "Leave it out: backbones always return features.",
    "out_indices": "Leave it out: the head selects its levels.",
    "num_classes": "Leave it out: a backbone has no classifier.",
}
"""Options of `timm.create_model` that are set elsewhere -> where."""


def check_backbone_options(options: Mapping[str, Any], field: str = "backbone.options") -> None:
    """Refuses backbone options that are not on the allow-list or have a wrong type.

    Raises:
        UsageError: The first such option; the error names it.
    """
    for name, value in options.items():
        path = f"{field}.{name}"
        if name in RENAMED_OPTIONS:
            raise UsageError("cannot be set here", field=path, value=value, hint=RENAMED_OPTIONS[name])
        if name not in BACKBONE_OPTIONS:
            hint = did_you_mean(str(name), BACKBONE_OPTIONS)
            raise UsageError("is not an allowed backbone option", field=path, value=value, hint=hint)
        if not BACKBONE_OPTIONS[name].accepts(value):
            raise UsageError(f"must be {BACKBONE_OPTIONS[name].description}", field=path, value=value)


def check_decoder_options(options: Mapping[str, Any], field: str = "options") -> None:
    """Refuses decoder options that are not booleans, names, bounded numbers, or short lists of these.

    Raises:
        UsageError: The first such option; the error names it.
    """
    for name, value in options.items():
        items = value if isinstance(value, (list, tuple)) else (value,)
        is_plain = all(
            item is None or isinstance(item, (bool, str)) or (_is_number(item) and abs(item) <= LIMITS["width"])
            for item in items
        )
        if len(items) > 16 or not is_plain:
            problem = f"must be a boolean, a name, a number up to {LIMITS['width']}, or a list of up to 16 of these"
            raise UsageError(problem, field=f"{field}.{name}", value=value)
