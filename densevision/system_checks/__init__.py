"""Whether this machine can run densevision: one file per concern, one line per finding."""

from densevision.system_checks.report import SystemReport, doctor

__all__ = ["SystemReport", "doctor"]
