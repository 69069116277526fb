"""Which operations are quantized: the rule on small graphs drawn by hand."""

from __future__ import annotations

import pytest

from densevision.errors import ExportError, UsageError
from densevision.quantization.layers import Operation, select_operations


def layer(name: str, *sources: str, is_depthwise: bool = False) -> Operation:
    return Operation(name, "layer", sources, f"model.{name}.weight", is_depthwise)


def feature_map(name: str, *sources: str) -> Operation:
    return Operation(name, "map", sources)


def other(name: str, *sources: str) -> Operation:
    return Operation(name, "other", sources)


CHAIN = [
    other("normalize"),
    layer("stem", "normalize"),
    feature_map("relu", "stem"),
    layer("body.0", "relu"),
    feature_map("relu_1", "body.0"),
    layer("body.1", "relu_1", is_depthwise=True),
    layer("body.2", "body.1"),
    feature_map("add", "body.2", "relu_1"),
    layer("body.3", "add"),
    feature_map("pool", "body.3"),
    layer("head.0", "pool"),
    layer("head.1", "head.0"),
    feature_map("scores", "head.1"),
    feature_map("sum", "scores", "body.3"),
]


def test_select__first_last_and_depthwise_layers_stay_in_float():
    selection = select_operations(CHAIN)
    assert set(selection.kept) == {"stem", "body.1", "head.1"}
    assert selection.layers == 4
    # relu reads a layer in float; scores and sum come after the last layer
    assert selection.quantized == {"body.0", "relu_1", "body.2", "add", "body.3", "pool", "head.0"}


def test_select__named_parts_stay_in_float():
    selection = select_operations(CHAIN, ["head", "body.2"])
    assert set(selection.kept) == {"stem", "body.1", "body.2", "head.0", "head.1"}
    # add reads body.2; pool leads to no quantized layer
    assert selection.quantized == {"body.0", "body.3"}


@pytest.mark.parametrize("part", ["heads", "he", "body.2.conv"])
def test_select__unknown_part(part):
    with pytest.raises(UsageError) as error:
        select_operations(CHAIN, [part])
    assert error.value.field == "keep_float" and error.value.value == part


def test_select__arithmetic_of_boxes_between_layers_stays_in_float():
    """As in two-stage detectors: proposals are computed from the outputs of one head and read by another."""
    operations = [
        layer("stem"),
        layer("trunk", "stem"),
        layer("proposals", "trunk"),
        other("top_k"),  # a choice: its inputs are not listed
        other("exp", "proposals", "top_k"),
        feature_map("scale", "exp"),
        other("crop", "trunk"),
        layer("box_head", "crop"),
        layer("boxes", "box_head"),
        feature_map("decoded", "boxes", "scale"),
    ]
    selection = select_operations(operations)
    assert set(selection.kept) == {"stem", "proposals", "boxes"}
    assert selection.quantized == {"trunk", "box_head"}


def test_select__network_without_layers_to_quantize():
    with pytest.raises(ExportError):
        select_operations([layer("only")])
    with pytest.raises(ExportError):
        select_operations([other("resize")])
