"""Simulates bulk prediction on clusters that cannot be tried here: chunks, a shared store, machines that die.

    python tools/simulate_bulk.py --images 100000000 --machines 1 --machines 10 --machines 100

Each machine reads its chunks through its own network link and a share of the store, decodes and predicts on its cores
or GPUs, which work in parallel, and writes a shard when it has enough rows. A machine dies after a random time; the
chunk that it had not written is computed again, and another machine takes its place. The speeds are those of `--decode`
and `--predict`.
"""

from __future__ import annotations

import heapq
import json
import random
from dataclasses import dataclass
from typing import Any

import click

CHUNK = 512
"""Images that are scheduled together: as many as a shard has rows."""


@dataclass(frozen=True)
class Cluster:
    """Speeds.

    Attributes:
        machines: Number of machines.
        predict: Images per second that a machine predicts.
        decode: Images per second that a machine reads and decodes.
        link: Bytes per second of a machine's network.
        store: Bytes per second of the store, which all machines share.
        image_bytes: Size of an image file.
        row_bytes: Size of a prediction.
        lifetime: Mean seconds until a machine dies.
        absence: Seconds until another one takes its place.
    """

    machines: int
    predict: float
    decode: float
    link: float
    store: float
    image_bytes: float
    row_bytes: float
    lifetime: float
    absence: float

    @property
    def speed(self) -> float:
        """Images per second of a machine: its slowest stage, as the stages overlap."""
        network = min(self.link, self.store / self.machines) / (self.image_bytes + self.row_bytes)
        return min(self.predict, self.decode, network)

    @property
    def bottleneck(self) -> str:
        """The slowest stage."""
        size = self.image_bytes + self.row_bytes
        stages = {
            "model": self.predict,
            "decoding": self.decode,
            "network": self.link / size,
            "store": self.store / self.machines / size,
        }
        return min(stages, key=lambda name: stages[name])


def simulate(cluster: Cluster, images: int, start: float, listing: float, seed: int) -> dict[str, Any]:
    """Runs the chunks through the machines.

    Args:
        cluster: The speeds.
        images: Number of images.
        start: Seconds until a machine has loaded the model.
        listing: Images per second that are listed, before anything else starts.
        seed: Seed of the deaths.

    Returns:
        Hours, images per second, deaths, and the fraction of images that were computed again.
    """
    rng = random.Random(seed)
    begin = images / listing
    waiting = -(-images // CHUNK)
    events = [(begin + start, machine) for machine in range(cluster.machines)]
    heapq.heapify(events)
    deaths = {machine: begin + rng.expovariate(1 / cluster.lifetime) for machine in range(cluster.machines)}
    end, died, repeated = begin, 0, 0
    while waiting:
        now, machine = heapq.heappop(events)
        finished = now + min(CHUNK, images) / cluster.speed
        if finished > deaths[machine]:  # what was not written is lost
            died, repeated = died + 1, repeated + 1
            back = deaths[machine] + cluster.absence
            deaths[machine] = back + rng.expovariate(1 / cluster.lifetime)
            heapq.heappush(events, (back + start, machine))
            continue
        waiting, end = waiting - 1, max(end, finished)
        heapq.heappush(events, (finished, machine))
    return {
        "machines": cluster.machines,
        "hours": round(end / 3600, 2),
        "images_per_second": round(images / end),
        "bottleneck": cluster.bottleneck,
        "deaths": died,
        "repeated": round(repeated * CHUNK / images, 5),
    }


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--images", default=100_000_000, show_default=True)
@click.option("--machines", multiple=True, type=int, default=(1, 3, 10, 30, 100), show_default=True)
@click.option("--cores", default=16, show_default=True, help="Cores of a machine.")
@click.option("--predict", default=10.0, show_default=True, help="Images per second that a core or GPU predicts.")
@click.option("--predictors", type=int, help="Cores or GPUs that predict. [default: all cores but a quarter]")
@click.option("--decode", default=100.0, show_default=True, help="Images per second that a core reads and decodes.")
@click.option("--image-kb", default=100.0, show_default=True, help="Size of an image file.")
@click.option("--row-kb", default=2.0, show_default=True, help="Size of a prediction.")
@click.option("--link", default=10.0, show_default=True, help="Network of a machine in Gbit/s.")
@click.option("--store", default=100.0, show_default=True, help="Bandwidth of the store in Gbit/s.")
@click.option("--listing", default=5000.0, show_default=True, help="Images per second that are listed.")
@click.option("--lifetime", default=24.0, show_default=True, help="Mean hours until a machine dies.")
@click.option("--seed", default=0, show_default=True)
def main(
    images: int, machines: tuple[int, ...], cores: int, predictors: int | None, seed: int, **speeds: float
) -> None:
    """Prints a JSON line for each number of machines."""
    readers = max(1.0, cores / 4)
    count = cores - readers if predictors is None else predictors
    for number in machines:
        cluster = Cluster(
            machines=number,
            predict=speeds["predict"] * count,
            decode=speeds["decode"] * (cores - count if predictors is None else cores),
            link=speeds["link"] * 1e9 / 8,
            store=speeds["store"] * 1e9 / 8,
            image_bytes=speeds["image_kb"] * 1e3,
            row_bytes=speeds["row_kb"] * 1e3,
            lifetime=speeds["lifetime"] * 3600,
            absence=300.0,
        )
        click.echo(json.dumps(simulate(cluster, images, 60.0, speeds["listing"], seed)))


if __name__ == "__main__":
    main()
