"""Reads mutated files of every format and counts the outcomes; any fault fails.

    python tools/fuzz.py --count 20000 --out docs/results/fuzz.json
    python tools/fuzz.py png coco --count 1000
    python tools/fuzz.py png --replay 17 --out corrupt.png

A mutation may be refused with an error of this package, or read. Faults are: another exception, a crash, more than
1 GiB of memory, more than 5 s, and content where the reference decoder (Pillow, json, PyYAML, NumPy)
refuses the file. Readers and mutations are those of tests/fuzz, of which the tests run a few. Needs Linux.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("densevision", "numpy", "opencv-python-headless", "pillow", "PyYAML", "safetensors", "tifffile", "torch")


@click.command(help=(__doc__ or "").splitlines()[0])
@click.argument("readers", nargs=-1)
@click.option("--count", default=20_000, show_default=True, help="Mutations per reader.")
@click.option("--seed", default=20, show_default=True, help="Seed of the mutations.")
@click.option("--replay", type=int, help="Write this mutation of the one given reader to --out and read it here.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON with the counts; readers that it holds are updated.")
def main(readers: tuple[str, ...], count: int, seed: int, replay: int | None, out: Path | None) -> None:
    """Runs the command."""
    sys.path.insert(0, str(ROOT / "tests" / "fuzz"))
    from fuzzing import READERS, campaign

    unknown = set(readers) - READERS.keys()
    if unknown:
        raise click.UsageError(f"no such reader: {', '.join(sorted(unknown))}. There are: {', '.join(READERS)}.")
    if replay is not None:
        _replay(READERS[readers[0]], replay, seed, out)
        return
    report = json.loads(out.read_text()) if out is not None and out.exists() else {}
    rows, environments = report.get("readers", {}), report.get("versions", [])
    versions = {name: version(name) for name in LIBRARIES} | {"python": sys.version.split()[0]}
    environments += [versions] if versions not in environments else []
    for name in readers or READERS:
        start = time.monotonic()
        result = campaign.run_campaign(name, count, seed)
        rows[name] = {
            "mutations": count,
            "versions": environments.index(versions),
            "outcomes": dict(sorted(result.counts.items())),
            "faults": [list(fault) for fault in result.faults],
            "peak_memory_growth_mb": round(result.peak_megabytes, 1),
            "seconds": round(time.monotonic() - start, 1),
        }
        click.echo(f"{name}: {json.dumps(rows[name])}")
        if out is not None:
            _write(out, rows, environments, seed)
    sys.exit(1 if any(row["faults"] for row in rows.values()) else 0)


def _write(out: Path, rows: dict[str, dict], environments: list[dict[str, str]], seed: int) -> None:
    """Writes the rows of all readers, which may be of several runs: with other counts, or other versions of libraries.

    `versions` of a row is its place in the list of `versions`.
    """
    from densevision.io.atomic_write import write_text

    report = {
        "command": f"python tools/fuzz.py READER --count MUTATIONS --seed {seed} --out {out}",
        "limits": {"memory_growth_mb": 1024, "seconds": 5},
        "versions": environments,
        "seed": seed,
        "readers": dict(sorted(rows.items())),
    }
    write_text(out, json.dumps(report, indent=1) + "\n")


def _replay(reader, index: int, seed: int, out: Path | None) -> None:
    """Reads one mutation without a guard, for the debugger."""
    import tempfile

    from fuzzing.reader import mutate, prepare

    name, content, rng = mutate(reader, index, seed)
    if out is not None:
        out.write_bytes(content)
    with tempfile.TemporaryDirectory() as folder:
        prepare(reader, Path(folder))
        path = Path(folder) / name
        path.write_bytes(content)
        click.echo(f"{name}: read, notes {list(reader.read(path, rng))}")


if __name__ == "__main__":
    main()
