"""Write training images for super-resolution that carry no restriction: photographs of scikit-image and scenes.

The photographs come from the installed wheel of scikit-image (nothing is downloaded). Only files that scikit-image
itself documents as CC0 or public domain are taken; LICENSES.md in the output folder names each of them.

    pip install scikit-image
    python tools/free_photos.py free_photos
    densevision superres train --config configs/superres/photos_x2.yaml --data free_photos
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import click
from PIL import Image

from densevision.datasets.scenes import Scenes

FACTORS = (1.0, 0.75, 0.5)
"""Sizes at which each photograph is written, relative to its own: details of several scales."""
JPEG_FACTOR = 0.5
"""Additional reduction of files that are stored as JPEG, which averages out the artifacts of their compression."""
SCENE_SIDE = 320
SUPERSAMPLING = 2
"""Scenes are rendered this many times larger than they are written, which gives them sharp, antialiased edges."""
VALIDATION_FIRST = 1_000_000
"""Number of the first validation scene, far from the training scenes."""


@dataclass(frozen=True)
class Photo:
    """A photograph of the scikit-image wheel.

    Attributes:
        file: Name in the folder `skimage/data`.
        sha256: First 16 hexadecimal digits of the file's hash, because the license belongs to this very file.
        license: "CC0-1.0" or "public domain", as documented in `skimage.data`.
        credit: Author and origin.
    """

    file: str
    sha256: str
    license: str
    credit: str


PHOTOS = (
    Photo("astronaut.png", "88431cd9653ccd53", "public domain", "NASA, Great Images database, flic.kr/p/r9qvLn"),
    Photo("brick.png", "7966caf324f6ba84", "CC0-1.0", "CC0Textures, Bricks25"),
    Photo("camera.png", "b0793d2adda0fa6a", "CC0-1.0", "Lav Varshney"),
    Photo("chelsea.png", "596aa1e7cb875eb7", "CC0-1.0", "Stefan van der Walt"),
    Photo("coffee.png", "cc02f8ca188b167c", "CC0-1.0", "Rachel Michetti, courtesy of Pikolo Espresso Bar"),
    Photo("grass.png", "b6b6022426b38936", "CC0-1.0", "linolafett (DeviantArt), Grass-01"),
    Photo("gravel.png", "c48615b451bf1e60", "CC0-1.0", "CC0Textures, Gravel04"),
    Photo("hubble_deep_field.jpg", "3a19c5dd8a927a93", "public domain", "NASA, HubbleSite, Hubble eXtreme Deep Field"),
    Photo("retina.jpg", "38a07f36f27f095e", "CC0-1.0", "Mikael Häggström, Wikimedia Commons"),
    Photo("rocket.jpg", "c2dd0de7c538df8d", "public domain", "SpaceX, DSCOVR launch, flickr.com/spacexphotos"),
    Photo("text.png", "bd84aa3a6e3c9887", "public domain", "Wikipedia, File:Corner.png"),
)


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--scenes", "count", default=64, show_default=True, help="Number of procedural training scenes.")
@click.option("--validation", default=8, show_default=True, help="Number of procedural validation scenes.")
def main(folder: Path, count: int, validation: int) -> None:
    write_photos(folder / "photos")
    write_scenes(folder / "scenes", count, first=0)
    write_scenes(folder / "scenes_val", validation, first=VALIDATION_FIRST)
    write_licenses(folder / "LICENSES.md", count + validation)
    click.echo(f"{folder}: {len(PHOTOS)} photographs in {len(FACTORS)} sizes, {count} + {validation} scenes")


def skimage_folder() -> Path:
    """Return the data folder of the installed scikit-image, without importing the package.

    Raises:
        click.ClickException: scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise click.ClickException("scikit-image is not installed (hint: pip install scikit-image)")
    return Path(spec.origin).parent / "data"


def write_photos(folder: Path) -> None:
    """Write each photograph as PNG in each of the sizes.

    Args:
        folder: Where to; it is created.

    Raises:
        click.ClickException: A file is missing, or is not the one whose license is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = skimage_folder()
    for photo in PHOTOS:
        path = source / photo.file
        if not path.is_file():
            raise click.ClickException(f"{path}: no such file (hint: use the scikit-image wheel of PyPI)")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if not digest.startswith(photo.sha256):
            hint = "another version of scikit-image replaced the file: check its license, then update PHOTOS"
            raise click.ClickException(f"{path}: sha256 is {digest[:16]}, expected {photo.sha256} (hint: {hint})")
        with Image.open(path) as image:
            write_sizes(image, folder, path)


def write_sizes(image: Image.Image, folder: Path, path: Path) -> None:
    """Write one image in the sizes of FACTORS, reduced with an antialiased bicubic filter."""
    for factor in FACTORS:
        total = factor * (JPEG_FACTOR if path.suffix == ".jpg" else 1.0)
        size = (round(image.width * total), round(image.height * total))
        reduced = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
        reduced.save(folder / f"{path.stem}_{round(100 * total)}.png", optimize=True)


def write_scenes(folder: Path, count: int, first: int) -> None:
    """Write clean procedural scenes, without blur and noise of a camera.

    Args:
        folder: Where to; it is created.
        count: How many.
        first: Number of the first scene of sequence 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    side = SCENE_SIDE * SUPERSAMPLING
    for number, scene in enumerate(Scenes(count, seed=0, size=(side, side), first=first)):
        image = Image.fromarray(scene.clean).resize((SCENE_SIDE, SCENE_SIDE), Image.Resampling.BICUBIC)
        image.save(folder / f"scene_{number:03}.png", optimize=True)


def write_licenses(path: Path, scenes: int) -> None:
    """Write a list of all files with their licenses and credits, in Markdown."""
    rows = [f"| {photo.file} | {photo.license} | {photo.credit} | {photo.sha256} |" for photo in PHOTOS]
    head = ["# Licenses of these images", "", "Photographs from scikit-image, as documented in `skimage.data`:", ""]
    table = ["| file | license | credit | sha256 |", "|---|---|---|---|", *rows]
    tail = ["", f"The {scenes} scenes are rendered by densevision (Apache-2.0) from no photograph.", ""]
    path.write_text("\n".join([*head, *table, *tail]), encoding="utf-8")


if __name__ == "__main__":
    main()
