"""Every metric beside the reference of its field: the cases that tools/certify.py writes down in docs/parity.md."""

from __future__ import annotations

import pytest
from certificates import images, labels, maps, objects
from certificates.certificate import Case, Certificate, outcome

pytestmark = pytest.mark.parity

ALL = (*objects.CERTIFICATES, *labels.CERTIFICATES, *maps.CERTIFICATES, *images.CERTIFICATES)


def _name(certificate: Certificate) -> str:
    return f"{certificate.cases.__module__.split('.')[-1]}.{certificate.cases.__name__}"


@pytest.mark.parametrize("certificate", ALL, ids=_name)
def test_certificate__holds(certificate: Certificate) -> None:
    shown = outcome(certificate.cases())
    assert shown.count and shown.largest <= certificate.tolerance, shown


def test_boxes__every_trap_is_there() -> None:
    names = outcome(objects.boxes()).names
    assert len(names) == 5, names


def test_outcome__sees_a_number_that_only_one_side_defines() -> None:
    assert outcome([Case("x", float("nan"), 1.0)]).largest == float("inf")
    assert outcome([Case("x", float("nan"), float("nan")), Case("x", float("inf"), float("inf"))]).largest == 0
