"""How well a segmenter of real images recognizes generated ones: the FCN score of labels-to-photo.

\b
    python tools/fcn_score.py --segmenter semantic.safetensors --data camvid --images generated/
    python tools/fcn_score.py --segmenter semantic.safetensors --data scenes:100:1 --generator translation.safetensors

The generated images have the names of the dataset's; or the generator makes them of the true labels, drawn in the
classes' colors as the scenes of `translation` are. Real images are judged beside them: what they reach is the most
that generated ones can.

Source: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, section 3.2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from densevision import api
from densevision.draw.colors import build_palette
from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.evaluation.evaluate import evaluate
from densevision.inference.predictor import Predictor
from densevision.io.image import read_image, to_rgb
from densevision.io.image_files import list_images
from densevision.sample import Sample, SampleSet

Paint = Callable[[Sample], np.ndarray]


class Repainted:
    """A dataset with other images for the same truth.

    Args:
        samples: The dataset.
        paint: A sample to its new image, (H, W, 3) of the same size.
    """

    def __init__(self, samples: SampleSet, paint: Paint):
        self.samples, self.paint, self.notes = samples, paint, samples.notes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        image = self.paint(sample)
        if image.shape[:2] != sample.size:
            value = f"{image.shape[1]} x {image.shape[0]} and {sample.size[1]} x {sample.size[0]}"
            raise DataError("a generated image of another size than its truth", file=str(sample.id), value=value)
        return replace(sample, images={"image": image}, file="")


def from_folder(folder: Path) -> Paint:
    """Images of a folder by the names of the dataset's images, whatever the suffixes.

    Raises:
        DataError: When a sample's image is not there.
    """
    named = {Path(name).stem: folder / name for name in list_images(folder)}

    def paint(sample: Sample) -> np.ndarray:
        path = named.get(Path(str(sample.id)).stem)
        if path is None:
            hint = f"There are {len(named)}, such as {next(iter(named), 'none')}."
            raise DataError("no generated image of this name", file=folder, value=str(sample.id), hint=hint)
        return to_rgb(read_image(path))

    return paint


def from_labels(generator: Predictor) -> Paint:
    """The generator's answer to the true labels, drawn in the classes' colors; unknown pixels are black."""

    def paint(sample: Sample) -> np.ndarray:
        truth = sample.truth
        drawing = build_palette(len(truth.names))[np.where(truth.known, truth.labels, 0)]
        return to_rgb(generator.predict(np.where(truth.known[..., None], drawing, 0).astype(np.uint8)).image)

    return paint


def fcn_score(segmenter: Predictor, data: str, split: str, paint: Paint) -> dict:
    """The segmenter's numbers on generated and on real images.

    Args:
        segmenter: A `semantic` model.
        data: A dataset of `semantic`.
        split: "train" or "val".
        paint: Gives the generated images.
    """
    segmenter.configure({"data.path": data, "data.train": None, "data.val": None})
    samples = segmenter.task.open_dataset(split)
    generated, real = (evaluate(segmenter, chosen).report for chosen in (Repainted(samples, paint), samples))
    protocol = {**generated.protocol, "FCN score": "the segmenter's numbers on generated images, beside real ones"}
    counts = {"images": generated.counts["images"]}
    return {"generated": generated.metrics, "real": real.metrics, "protocol": protocol, "counts": counts}


@click.command(help=__doc__)
@click.option("--segmenter", required=True, help="Weights of `semantic`: a file, or a name.")
@click.option("--data", required=True, help="Dataset of `semantic` with the truth, or scenes[:COUNT[:SEED]].")
@click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Generated images.")
@click.option("--generator", help="Weights of `translation` that make them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(segmenter: str, data: str, split: str, images: Path | None, generator: str | None, as_json: bool) -> None:
    try:
        if (images is None) == (generator is None):
            raise UsageError("which images?", hint="Give either --images or --generator.")
        paint = from_folder(images) if images else from_labels(api.load(generator, "translation"))
        found = fcn_score(api.load(segmenter, "semantic"), data, split, paint)
    except DenseVisionError as failure:
        click.echo(f"error: {failure}", err=True)
        sys.exit(failure.exit_code)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for name, value in found["generated"].items():
        click.echo(f"{name:12} generated {value:.4f}   real {found['real'][name]:.4f}")
    click.echo(f"{found['counts']['images']} images; protocol: {json.dumps(found['protocol'], ensure_ascii=False)}")


if __name__ == "__main__":
    main()
