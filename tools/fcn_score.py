"""Computes the FCN score of labels-to-photo translation: how well a model of real images segments generated ones.

\b
    python tools/fcn_score.py --segmenter semantic.safetensors --data camvid --images generated/
    python tools/fcn_score.py --segmenter semantic.safetensors --data scenes:100:1 --generator translation.safetensors

Generated images have the names of the dataset's images; or a generator makes them from the ground-truth labels, drawn
in the classes' colors like the scenes of `translation`. The score of the real images is the upper bound.

Source: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, section 3.2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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

Generate = Callable[[Sample], np.ndarray]


class GeneratedSet:
    """A dataset with generated images for the same ground truth.

    Args:
        samples: The dataset.
        generate: A sample to its generated image, (H, W, 3) of the same size.
    """

    def __init__(self, samples: SampleSet, generate: Generate):
        self.samples, self.generate, self.notes = samples, generate, samples.notes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        image = self.generate(sample)
        if image.shape[:2] != sample.size:
            value = f"{image.shape[1]} x {image.shape[0]} and {sample.size[1]} x {sample.size[0]}"
            raise DataError("the generated image and the ground truth differ in size", file=str(sample.id), value=value)
        return replace(sample, images={"image": image}, file="")


def read_generated(folder: Path) -> Generate:
    """Reads generated images from a folder, by the names of the dataset's images without suffixes.

    Raises:
        DataError: On use: a sample has no generated image.
    """
    paths = {Path(name).stem: folder / name for name in list_images(folder)}

    def generate(sample: Sample) -> np.ndarray:
        path = paths.get(Path(str(sample.id)).stem)
        if path is None:
            hint = f"There are {len(paths)}, such as {next(iter(paths), 'none')}."
            raise DataError("there is no generated image of this name", file=folder, value=str(sample.id), hint=hint)
        return to_rgb(read_image(path))

    return generate


def generate_from_labels(generator: Predictor) -> Generate:
    """Generates images from the ground-truth labels, drawn in the classes' colors; unknown pixels are black."""

    def generate(sample: Sample) -> np.ndarray:
        truth = sample.truth
        drawing = build_palette(len(truth.names))[np.where(truth.known, truth.labels, 0)]
        return to_rgb(generator.predict(np.where(truth.known[..., None], drawing, 0).astype(np.uint8)).image)

    return generate


def compute_fcn_score(segmenter: Predictor, data: str, split: str, generate: Generate) -> dict[str, Any]:
    """Metrics of a segmentation model on generated and on real images.

    Args:
        segmenter: A `semantic` model.
        data: A dataset of `semantic`.
        split: "train" or "val".
        generate: Returns the generated image of a sample.
    """
    segmenter.configure({"data.path": data, "data.train": None, "data.val": None})
    samples = segmenter.task.open_dataset(split)
    generated, real = (evaluate(segmenter, each).report for each in (GeneratedSet(samples, generate), samples))
    protocol = {**generated.protocol, "FCN score": "metrics of the segmentation model on generated and on real images"}
    counts = {"images": generated.counts["images"]}
    return {"generated": generated.metrics, "real": real.metrics, "protocol": protocol, "counts": counts}


@click.command(help=__doc__)
@click.option("--segmenter", required=True, help="Weights of `semantic`: a file, or a name.")
@click.option("--data", required=True, help="Dataset of `semantic`, or scenes[:COUNT[:SEED]].")
@click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Generated images.")
@click.option("--generator", help="Weights of `translation` that generate them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(segmenter: str, data: str, split: str, images: Path | None, generator: str | None, as_json: bool) -> None:
    try:
        if (images is None) == (generator is None):
            raise UsageError(
                "exactly one source of generated images is needed", hint="Give either --images or --generator."
            )
        generate = read_generated(images) if images else generate_from_labels(api.load(generator, "translation"))
        result = compute_fcn_score(api.load(segmenter, "semantic"), data, split, generate)
    except DenseVisionError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    for name, value in result["generated"].items():
        click.echo(f"{name:12} generated {value:.4f}   real {result['real'][name]:.4f}")
    click.echo(f"{result['counts']['images']} images; protocol: {json.dumps(result['protocol'], ensure_ascii=False)}")


if __name__ == "__main__":
    main()
