"""Conversion between dataset formats, with a report of what the target format cannot represent."""

from densevision.datasets.conversion.convert import TARGET_FORMATS, convert_dataset
from densevision.datasets.conversion.report import ConversionReport

__all__ = ["TARGET_FORMATS", "ConversionReport", "convert_dataset"]
