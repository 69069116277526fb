"""Every metric against the reference of its field: the cases that tools/certify.py writes to docs/parity.md."""

from __future__ import annotations

import pytest
from certificates import images, labels, maps, objects, tide
from certificates.certificate import Case, Certificate, evaluate_cases

pytestmark = pytest.mark.parity

ALL = (*objects.CERTIFICATES, *tide.CERTIFICATES, *labels.CERTIFICATES, *maps.CERTIFICATES, *images.CERTIFICATES)


def _get_id(certificate: Certificate) -> str:
    return f"{certificate.cases.__module__.split('.')[-1]}.{certificate.cases.__name__}"


@pytest.mark.parametrize("certificate", ALL, ids=_get_id)
def test_certificate__holds(certificate: Certificate) -> None:
    if certificate in tide.CERTIFICATES:
        pytest.importorskip("tidecv")
    shown = evaluate_cases(certificate.cases())
    assert shown.count and shown.largest <= certificate.tolerance, shown


def test_boxes__all_kinds_of_cases() -> None:
    names = evaluate_cases(objects.compare_boxes()).names
    assert len(names) == 5, names


def test_evaluate_cases__number_of_one_side_only() -> None:
    assert evaluate_cases([Case("x", float("nan"), 1.0)]).largest == float("inf")
    assert evaluate_cases([Case("x", float("nan"), float("nan")), Case("x", float("inf"), float("inf"))]).largest == 0
