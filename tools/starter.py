"""Makes starter weights of a run: half precision, judged anew as they ship, with their terms in the card.

python tools/starter.py runs/detection/scenes/best.safetensors
"""

from __future__ import annotations

from pathlib import Path

import click

from densevision import api
from densevision.errors import WeightsError
from densevision.inference.predictor import TorchPredictor, load_torch

LARGEST = 6_000_000
"""Bytes that a task may add to the package."""
FOLDER = Path(__file__).parent.parent / "densevision" / "bundled_weights"


@click.command(help=__doc__)
@click.argument("weights", type=click.Path(exists=True, dir_okay=False))
@click.option("--license", default="Apache-2.0", show_default=True, help="Terms of these weights and of their data.")
@click.option("--source", help="What they learned from, in words; needed where it is not the procedural world.")
def main(weights: str, license: str, source: str | None) -> None:
    trained = load_torch(weights)
    path = FOLDER / f"{trained.task.name}.safetensors"
    trained.save(path, half=True)
    shipped = load_torch(path)
    report = api.evaluate(shipped, quiet=False)
    card = trained.card.replace(license=license, metrics={"metrics": report.metrics, "protocol": report.protocol})
    if source is not None:  # folders of one machine mean nothing on others
        shipped.task.config = shipped.task.config.replace(data__path=None, data__train=None, data__val=None)
        card = card.replace(data={"source": source}, config=shipped.task.config.to_dict())
    TorchPredictor(shipped.task, shipped.model, card).save(path, half=True)
    if path.stat().st_size > LARGEST:
        path.unlink()
        raise WeightsError("larger than starter weights may be", file=path, value=path.stat().st_size)
    click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {report.metrics}")


if __name__ == "__main__":
    main()
