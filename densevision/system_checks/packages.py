"""Packages: the bounds in the distribution's metadata, and installations that exclude each other."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from densevision.system_checks.finding import SystemFinding

__all__ = ["check_packages"]

EXTRAS = ("export", "community", "lpips", "track", "tune")
"""Extras that add features; the others are for development."""


def check_packages() -> Iterator[SystemFinding]:
    """Checks every required package, and those of the extras that are installed."""
    requirements = [Requirement(text) for text in metadata.requires("densevision") or ()]
    required = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    faults = [fault for each in required for fault in _check_requirement(each, "error")]
    yield from faults
    if not faults:
        yield SystemFinding("packages", "ok", f"{len(required)} packages within their bounds")
    yield from _check_extras([each for each in requirements if each not in required])
    yield from _check_duplicates()


def _check_extras(requirements: list[Requirement]) -> Iterator[SystemFinding]:
    absent = []
    for extra in EXTRAS:
        members = [each for each in requirements if each.marker is not None and each.marker.evaluate({"extra": extra})]
        if not members:
            continue
        if any(_find_version(each.name) is None for each in members):
            absent.append(extra)
        else:
            for each in members:
                yield from _check_requirement(each, "warning")
    installed = [extra for extra in EXTRAS if extra not in absent]
    message = f"installed: {', '.join(installed) or 'none'}"
    yield SystemFinding("extras", "ok", message + (f"; not installed: {', '.join(absent)}" if absent else ""))


def _check_requirement(requirement: Requirement, status: str) -> Iterator[SystemFinding]:
    version = _find_version(requirement.name)
    hint = f'Run: pip install "{requirement.name}{requirement.specifier}"'
    if version is None:
        yield SystemFinding(requirement.name, status, "is not installed", hint)  # type: ignore[arg-type]
    elif not requirement.specifier.contains(version, prereleases=True):
        message = f"version {version} is outside of {requirement.specifier}"
        yield SystemFinding(requirement.name, status, message, hint)  # type: ignore[arg-type]


def _check_duplicates() -> Iterator[SystemFinding]:
    """Variants of OpenCV install the same folder `cv2`: the last one overwrites the others."""
    variants = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless", "opencv-python-headless")
    versions = {name: version for name in variants if (version := _find_version(name)) is not None}
    if len(set(versions.values())) > 1:
        message = "several packages write the folder cv2: " + ", ".join(f"{name} {v}" for name, v in versions.items())
        hint = f"Run: pip uninstall {' '.join(versions)}, then: pip install opencv-python-headless"
        yield SystemFinding("opencv", "warning", message, hint)


def _find_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
