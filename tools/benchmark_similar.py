"""Near-duplicates that `find_similar` finds: changed copies of images, among all pairs of different images.

    python tools/benchmark_similar.py FOLDER ... --out docs/results/similar.json

Recall is the fraction of images whose copy reaches the threshold. Pairs of originals count as false, unless --duplicate
names them.
"""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Callable
from importlib import metadata
from itertools import islice
from pathlib import Path

import click
import cv2
import numpy as np
from PIL import Image

from densevision.inference.image_features import build_encoder, extract_layouts, find_encoder, mirror_layouts
from densevision.io.image import read_image, to_display
from densevision.io.image_files import list_images
from densevision.io.json_writer import write_json
from densevision.loading import load
from densevision.sample import Sample
from densevision.selection import DUPLICATE_SIMILARITY

THRESHOLDS = (0.6, 0.65, DUPLICATE_SIMILARITY, 0.75, 0.8, 0.9)
SHOWN_PAIRS = 5
"""Most similar pairs of different images that are listed."""


def compress(image: np.ndarray) -> np.ndarray:
    """JPEG of quality 40."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=40)
    return np.asarray(Image.open(stream))


def halve(image: np.ndarray) -> np.ndarray:
    """Half the width and height."""
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def crop(image: np.ndarray) -> np.ndarray:
    """Without 2.5 % of the height and width at each edge."""
    top, left = (round(0.025 * side) for side in image.shape[:2])
    return np.ascontiguousarray(image[top:-top, left:-left])


def brighten(image: np.ndarray) -> np.ndarray:
    """1.25 times as bright."""
    return np.clip(image * 1.25, 0, 255).astype(np.uint8)


def mirror(image: np.ndarray) -> np.ndarray:
    """Left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1])


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half size": halve,
    "JPEG quality 40": compress,
    "half size, JPEG quality 40": lambda image: compress(halve(image)),
    "5 % cropped": crop,
    "1.25 times as bright": brighten,
    "mirrored": mirror,
}


@click.command(help=__doc__)
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=192, show_default=True, help="Images of each folder, the first by name.")
@click.option("--encoder", help="A timm model; the bundled encoder by default.")
@click.option("--encoder-weights", type=click.Path(exists=True), help="Its weights.")
@click.option("--duplicate", "duplicates", nargs=2, multiple=True, help="Two originals that are near-duplicates.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON with the numbers; those of other encoders are kept.")
def main(
    folders: tuple[Path, ...],
    count: int,
    encoder: str | None,
    encoder_weights: str | None,
    duplicates: tuple[tuple[str, str], ...],
    out: Path | None,
) -> None:
    network = build_encoder(encoder, encoder_weights) if encoder else find_encoder(load(None, "semantic"))
    files = [file for folder in folders for file in (folder / name for name in islice(list_images(folder), count))]
    names = [file.name for file in files]

    def extract(change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        samples = (Sample({"image": change(_read_rgb(file))}) for file in files)
        return np.stack(list(extract_layouts(network, samples, "cpu")))

    originals = extract(lambda image: image)
    pairs = _compare(originals, originals)
    upper = np.triu_indices(len(files), 1)
    known = {frozenset(pair) for pair in duplicates}
    different = [
        (float(pairs[row, column]), names[row], names[column])
        for row, column in zip(*upper)
        if {names[row], names[column]} not in known
    ]
    different.sort(reverse=True)
    values = np.array([pair[0] for pair in different])
    copies = {name: np.diagonal(_compare(originals, extract(change))) for name, change in CHANGES.items()}
    found = {f"{limit:g}": {name: round(float((each >= limit).mean()), 4) for name, each in copies.items()}
             for limit in THRESHOLDS}  # fmt: skip
    row = {
        "images": len(files),
        "different_pairs": len(different),
        "recall": found,
        "false_pairs": {f"{limit:g}": int((values >= limit).sum()) for limit in THRESHOLDS},
        "most_similar_different": [[round(value, 4), *pair] for value, *pair in different[:SHOWN_PAIRS]],
    }
    click.echo(json.dumps(row, indent=1))
    if out is not None:
        report = json.loads(out.read_text()) if out.exists() else {}
        encoders = report.get("encoders", {}) | {encoder or "bundled": row}
        command = "python tools/benchmark_similar.py FOLDER ... [--encoder NAME --encoder-weights FILE]"
        versions = {name: metadata.version(name) for name in ("torch", "timm", "opencv-python-headless", "pillow")}
        data = [f"{folder.parent.name}/{folder.name}, the first {count} images" for folder in folders]
        write_json(
            out,
            {
                "command": command,
                "data": data,
                "near_duplicates_among_originals": [list(pair) for pair in duplicates],
                "threshold": DUPLICATE_SIMILARITY,
                "versions": versions | {"python": platform.python_version()},
                "encoders": encoders,
            },
        )


def _read_rgb(file: Path) -> np.ndarray:
    return to_display(read_image(file))


def _compare(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) similarities, of the mirrored image where it is more similar."""
    plain, mirrored = (each.reshape(len(first), -1) for each in (first, mirror_layouts(first)))
    columns = second.reshape(len(second), -1).T
    return np.maximum(plain @ columns, mirrored @ columns)


if __name__ == "__main__":
    main()
