"""Conversion between dataset formats, with a report of what the target format cannot represent."""

from densevision.datasets.conversion.convert import OBJECT_WRITERS, TARGET_FORMATS, convert_dataset
from densevision.datasets.conversion.objects import ObjectSplit
from densevision.datasets.conversion.report import ConversionReport

__all__ = ["OBJECT_WRITERS", "TARGET_FORMATS", "ConversionReport", "ObjectSplit", "convert_dataset"]
