"""Type checkers see the options that prediction takes."""

from __future__ import annotations

import inspect

import densevision
from densevision.inference.keywords import PredictKeywords
from densevision.run_config import PredictOptions


def test_keywords__are_the_options_of_predict() -> None:
    assert set(PredictKeywords.__annotations__) == {*PredictOptions.model_fields, "overrides", "engine"}
    assert set(PredictKeywords.__annotations__) <= set(inspect.signature(densevision.predict).parameters)
