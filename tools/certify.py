"""Runs every metric against the reference of its field and writes the result to docs/parity.md.

    python tools/certify.py [--out docs/parity.md]

The cases are those of tests/parity/certificates, which the tests run too. The section about pipelines of published
weights, whose numbers come from tests, is kept as it is. Exits with 1 if a certificate fails.
`pip install tidecv` brings the reference that no extra installs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# Parity

The metrics of densevision against the reference tool or the definition of their field, on random data and on special
cases in which tools are known to differ. Written by `python tools/certify.py`; the tests run the same cases.

| task | metrics | reference | comparisons | largest difference | tolerance | |
|---|---|---|---|---|---|---|
"""
PIPELINES = "## Pipelines of published weights"


def main() -> int:
    """Writes the document; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "parity.md")
    out = parser.parse_args().out
    sys.path.insert(0, str(ROOT / "tests" / "parity"))
    from certificates import images, labels, maps, objects, tide
    from certificates.certificate import evaluate_cases

    from densevision.io.atomic_write import write_text
    from densevision.version import __version__

    rows, cases, all_pass = [], [], True
    for module in (objects, tide, labels, maps, images):
        for certificate in module.CERTIFICATES:
            result = evaluate_cases(certificate.cases())
            is_equal = result.largest <= certificate.tolerance
            all_pass &= is_equal
            verdict = "equal" if is_equal else "**different**"
            numbers = f"{result.count} | {result.largest:.1e} | {certificate.tolerance:.0e} | {verdict}"
            rows.append(f"| {certificate.task} | {certificate.metric} | {certificate.versioned} | {numbers} |")
            names = "; ".join(f"{name} ({count})" for name, count in result.names.items())
            cases.append(f"- **{certificate.metric}** ({certificate.task}, {certificate.versioned}): {names}.")
            print(rows[-1])
    versions = f"\ndensevision {__version__}, Python {sys.version.split()[0]}.\n"
    text = out.read_text(encoding="utf-8") if out.exists() else ""
    pipelines = f"\n{text[text.index(PIPELINES) :]}" if PIPELINES in text else ""
    write_text(out, HEAD + "\n".join(rows) + f"\n{versions}\n## Cases\n\n" + "\n".join(cases) + f"\n{pipelines}")
    return 0 if all_pass else 1


if __name__ == "__main__":
    sys.exit(main())
