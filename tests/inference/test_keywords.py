"""Type checkers see the options that prediction takes."""

from __future__ import annotations

import inspect

import densevision
from densevision.inference.keywords import PredictKeywords
from densevision.run_config import PredictOptions
from densevision.sequence_options import SequenceOptions


def test_keywords__are_the_options_of_predict() -> None:
    options = {*PredictOptions.model_fields, *SequenceOptions.model_fields}
    assert set(PredictKeywords.__annotations__) == {*options, "overrides", "engine"}
    assert set(PredictKeywords.__annotations__) <= set(inspect.signature(densevision.predict).parameters)
