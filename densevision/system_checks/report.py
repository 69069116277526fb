"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from densevision.system_checks.finding import SystemFinding
from densevision.version import __version__

__all__ = ["CHECKS", "SystemReport", "doctor"]

CHECKS = {
    "python": "python_version:check_python",
    "packages": "packages:check_packages",
    "devices": "devices:check_devices",
    "memory": "memory:check_memory",
    "threads": "threads:check_threads",
    "codecs": "codecs:check_codecs",
    "folders": "folders:check_folders",
    "network": "network:check_network",
    "bundled weights": "bundled:check_bundled_weights",
    "round trip": "round_trip:check_round_trip",
}
"""Check -> module and function; imported when it runs, so that a broken package is a finding and not a traceback."""


@dataclass(frozen=True)
class SystemReport:
    """What all checks found.

    Attributes:
        findings: At least one per check, in their order.
    """

    findings: tuple[SystemFinding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether something keeps densevision from working."""
        return any(finding.status == "error" for finding in self.findings)

    @property
    def faults(self) -> tuple[SystemFinding, ...]:
        """Warnings and errors."""
        return tuple(finding for finding in self.findings if finding.status != "ok")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        return {"densevision": __version__, "findings": [asdict(finding) for finding in self.findings]}

    def __str__(self) -> str:
        return "\n".join(map(format_finding, self.findings))


def doctor(*, quick: bool = False, on_finding: Callable[[SystemFinding], Any] | None = None) -> SystemReport:
    """Checks whether this machine can run densevision.

    Python, packages and their bounds, devices, memory, threads, codecs, folders, network settings, the bundled weights,
    and a tiny loop of training, prediction and export. Opens no connection and changes nothing.

    Args:
        quick: Leave out the loop, which takes about a minute.
        on_finding: Called with each `SystemFinding` as soon as it is known.

    Returns:
        The report; `has_errors`, `faults`, and `print(report)` for one line per finding.

    Example:
        >>> densevision.doctor(quick=True).has_errors  # doctest: +SKIP
        False
    """
    findings = []
    for name in CHECKS:
        if name == "round trip" and quick:
            continue
        for finding in _run_check(name):
            findings.append(finding)
            if on_finding is not None:
                on_finding(finding)
    return SystemReport(tuple(findings))


def format_finding(finding: SystemFinding) -> str:
    """One line: status, name, message and hint."""
    text = f"{finding.status:<8} {finding.name}: {finding.message}"
    return f"{text}. {finding.hint}" if finding.hint else text


def _run_check(name: str) -> Iterator[SystemFinding]:
    module, function = CHECKS[name].split(":")
    try:
        yield from getattr(import_module(f"densevision.system_checks.{module}"), function)()
    except Exception as error:  # whatever fails here is what the user wants to know
        first_line = next(iter(str(error).splitlines()), "")
        message = f"the check failed: {type(error).__name__}: {first_line}"
        yield SystemFinding(name, "error", message, "Reinstall densevision and its packages.")
