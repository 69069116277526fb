"""Runs every metric beside the reference of its field and writes what comes out to docs/parity.md.

    python tools/certify.py [--out docs/parity.md]

The cases are those of tests/parity/certificates, which the tests run too. Exits with 1 when one does not hold.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = """# Parity

Every number that densevision prints, beside the reference tool or the definition of its field, on random data and on
the cases where tools are known to part. Written by `python tools/certify.py`; the tests run the same cases.

| task | numbers | reference | comparisons | largest difference | allowed | |
|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Writes the document; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "parity.md")
    out = parser.parse_args().out
    sys.path.insert(0, str(ROOT / "tests" / "parity"))
    from certificates import images, labels, maps, objects
    from certificates.certificate import outcome

    from densevision.io.atomic_write import write_text
    from densevision.version import __version__

    rows, cases, holds = [], [], True
    for part in (objects, labels, maps, images):
        for one in part.CERTIFICATES:
            shown = outcome(one.cases())
            right = shown.largest <= one.tolerance
            holds &= right
            verdict = "holds" if right else "**does not hold**"
            numbers = f"{shown.count} | {shown.largest:.1e} | {one.tolerance:.0e} | {verdict}"
            rows.append(f"| {one.task} | {one.metric} | {one.versioned} | {numbers} |")
            traps = "; ".join(f"{name} ({count})" for name, count in shown.names.items())
            cases.append(f"- **{one.metric}** ({one.task}, {one.versioned}): {traps}.")
            print(rows[-1])
    versions = f"\ndensevision {__version__}, Python {sys.version.split()[0]}.\n"
    write_text(out, HEAD + "\n".join(rows) + f"\n{versions}\n## Cases\n\n" + "\n".join(cases) + "\n")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
