"""What densevision installs is free of GPL and AGPL, as far as the packages' metadata tell."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement

EXTRAS = ("", "app", "export", "community", "lpips", "track", "tune")
COPYLEFT = re.compile(r"\bA?GPL|(?<!Lesser )General Public License|Affero")


def list_installed(extras: tuple[str, ...] = EXTRAS) -> dict[str, metadata.Distribution]:
    """The distributions that densevision and its extras bring, directly or not, as far as they are installed."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [("densevision", extras)]
    while waiting:
        name, wanted = waiting.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for text in distribution.requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            is_needed = marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted)
            if is_needed and requirement.name not in found:
                found.setdefault(requirement.name, None)  # type: ignore[arg-type]
                waiting.append((requirement.name, ("", *requirement.extras)))
        if name != "densevision":
            found[name] = distribution
    return {name: distribution for name, distribution in found.items() if distribution is not None}


def read_license(distribution: metadata.Distribution) -> str:
    """The license as the metadata state it: expression, classifiers, or the first line of a text."""
    fields = distribution.metadata
    classifiers = [text for text in fields.get_all("Classifier", []) if text.startswith("License")]
    text = fields.get("License-Expression") or "; ".join(classifiers) or fields.get("License") or ""
    return text.strip().split("\n")[0]


def test_dependencies__have_no_copyleft_license() -> None:
    licenses = {name: read_license(each) for name, each in list_installed().items()}
    assert len(licenses) > 30 and licenses["torch"]
    assert {name: text for name, text in licenses.items() if is_copyleft(text)} == {}


def is_copyleft(text: str) -> bool:
    return COPYLEFT.search(text.replace("LGPL", "")) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AGPL-3.0-only", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("GNU Affero General Public License v3", True),
        ("LGPL-2.1-or-later", False),
        ("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", False),
        ("Apache-2.0", False),
    ],
)
def test_is_copyleft__examples(text: str, expected: bool) -> None:
    assert is_copyleft(text) == expected
