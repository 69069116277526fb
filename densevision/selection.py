"""Images to label next, and images that look alike: by what an encoder sees and where a model is unsure."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densevision.errors import UsageError
from densevision.io.atomic_write import write_text
from densevision.ops.k_center import choose_k_centers
from densevision.tasks import check_task_name

if TYPE_CHECKING:
    from densevision.api import PathLike
    from densevision.nn.backbone import Backbone
    from densevision.sample import Sample

__all__ = ["SelectedImage", "SimilarPair", "find_similar", "select"]

FEATURE_TASK = "semantic"
"""The task whose bundled weights hold the encoder that is used if none is named."""
MAX_ROWS = 2048
"""Images that are compared with as many others at a time."""
DUPLICATE_SIMILARITY = 0.7
"""Similarity of layouts from which images are near-duplicates: below that of copies, above that of different images."""
SHOWN_PAIRS = 200
"""Pairs that a page shows."""
THUMBNAIL_SIDE = 320
"""Longer side in pixels of the images on a page."""


Extract = Callable[["Backbone", "Iterable[Sample]", str], Iterable[np.ndarray]]


@dataclass(frozen=True)
class SelectedImage:
    """An image to label.

    Attributes:
        image: Path of the image.
        disagreement: How much the predictions for its views differ, see `inference.disagreement.compare_results`.
        distance: Distance of its features from those of the nearest image that is labeled or was selected before;
            None for the first one, and where features were not compared.
    """

    image: str
    disagreement: float
    distance: float | None


@dataclass(frozen=True)
class SimilarPair:
    """Two images and how similar they are.

    Attributes:
        image: Path of an image, or the query.
        similar: Path of the other image.
        similarity: Cosine of the angle between their features, at most 1.
        is_mirrored: Whether one is more similar to the mirrored other.
    """

    image: str
    similar: str
    similarity: float
    is_mirrored: bool = False


def select(
    source: Any,
    task: str,
    weights: Any = None,
    *,
    count: int,
    pool: float = 4.0,
    labeled: Any = None,
    encoder: str | None = None,
    encoder_weights: PathLike | None = None,
    out: PathLike | None = None,
    **options: Any,
) -> list[SelectedImage]:
    """Selects the images to label next: those where a model is unsure, and that differ from one another.

    The `pool` x `count` images whose predictions change most when the image is mirrored, scaled or turned are
    candidates. Among them, each selected image is the one whose features are farthest from all that were selected
    before (greedy k-center, see `ops.k_center`), the first one that with the largest disagreement.

    Args:
        source: Paths of images, folders or globs, as `predict` takes them.
        task: A name in `TASKS`.
        weights: A file, a name, or a predictor; the bundled demo weights by default.
        count: Number of images to select.
        pool: Candidates for each selected image. 1 selects by disagreement alone, a large number by features alone.
        labeled: Images that have labels already: selected ones differ from them, too.
        encoder: A timm model whose features are compared; by default the encoder of the weights.
        encoder_weights: Weights of `encoder`; by default those that timm has downloaded before.
        out: A CSV or JSON file to write.
        **options: Options of `predict`, such as `device`, `tile` or `on_error`; `tta` names the transforms.

    Returns:
        The images in the order in which they were selected.

    Raises:
        UsageError: There are fewer images, the weights have no encoder, or an option is wrong.
        DataError: An image cannot be read.
    """
    from densevision.inference.disagreement import choose_transforms, measure_disagreement
    from densevision.inference.image_features import extract_features
    from densevision.inference.predict import check_options
    from densevision.inference.sources import open_source
    from densevision.loading import copy_predictor

    _check_out(out, (".csv", ".json"))
    _check_count(count, pool)
    predictor = copy_predictor(weights, check_task_name(task))
    network = None if pool == 1 else _open_encoder(predictor, encoder, encoder_weights)
    checked = check_options(predictor, {"tta": choose_transforms(predictor), **options})
    names: list[str] = []
    scores: list[float] = []
    skips = checked.on_error == "skip"

    def measure(samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            names.append(sample.file or str(sample.id))
            scores.append(measure_disagreement(predictor, sample, checked))
            yield sample

    def open_samples(images: Any) -> Iterable[Sample]:
        return open_source(images, predictor.task.input_spec, checked.max_pixels, skips).samples

    samples = measure(open_samples(source))
    if network is None:
        features = np.zeros((sum(1 for _ in samples), 0), np.float32)
    else:
        features = _stack(extract_features(network, samples, checked.device))
    existing = None
    if network is not None and labeled is not None:
        existing = _stack(extract_features(network, open_samples(labeled), checked.device))
    selected = _select_rows(np.array(scores), features, count, pool, existing)
    rows = [SelectedImage(names[row], scores[row], distance) for row, distance in selected]
    if out is not None:
        _write_table(Path(out), SelectedImage, rows)
    return rows


def _check_count(count: int, pool: float) -> None:
    if count < 1:
        raise UsageError("must be at least 1", field="count", value=count)
    if not pool >= 1:
        raise UsageError("must be at least 1", field="pool", value=pool)


def _select_rows(
    scores: np.ndarray, features: np.ndarray, count: int, pool: float, existing: np.ndarray | None
) -> list[tuple[int, float | None]]:
    """Selects rows: (row, distance from the nearest one before)."""
    if count > len(scores):
        raise UsageError(f"is more than the {len(scores)} images", field="count", value=count, hint="Choose fewer.")
    order = np.argsort(-scores, kind="stable")[: max(count, math.ceil(min(pool * count, len(scores))))]
    if not features.shape[1]:
        return [(int(row), None) for row in order[:count]]
    chosen, distances = choose_k_centers(features[order], count, 0, existing)
    return [
        (int(order[index]), float(distance) if math.isfinite(distance) else None)
        for index, distance in zip(chosen, distances)
    ]


def find_similar(
    source: Any,
    query: Any = None,
    weights: Any = None,
    *,
    threshold: float = DUPLICATE_SIMILARITY,
    count: int = 10,
    encoder: str | None = None,
    encoder_weights: PathLike | None = None,
    out: PathLike | None = None,
    device: str = "auto",
    on_error: str = "fail",
) -> list[SimilarPair]:
    """Finds near-duplicates among images, or the images that are most similar to a query.

    Images are resized to a square. Near-duplicates are copies: of another size or compression, cut off at the edges,
    brighter, or mirrored. What is compared of them is where things are, see `image_features.extract_layouts`. For a
    query, features are averages of an encoder's deepest level over four parts of the image: an encoder that was
    trained on photographs of many classes finds similar content, the bundled one mostly similar layout and texture.
    The similarity is the cosine of the angle between the features.

    Args:
        source: Paths of images, folders or globs, as `predict` takes them.
        query: An image, or several: the `count` most similar images of the source are found for each. By default all
            pairs in the source with at least `threshold`.
        weights: densevision weights whose encoder is used: a file, a name or a predictor; the bundled ones of
            `semantic` by default.
        threshold: Smallest similarity of near-duplicates; without `query`.
        count: Images for each query; with `query`.
        encoder: A timm model instead of `weights`.
        encoder_weights: Weights of `encoder`; by default those that timm has downloaded before.
        out: A CSV, JSON or HTML file to write; the page shows the images side by side.
        device: Where to compute: auto, cpu, cuda, cuda:1 or mps.
        on_error: "fail" or "skip" images that cannot be read.

    Returns:
        The pairs, the most similar first; with `query`, query by query.

    Raises:
        UsageError: The weights have no encoder, or an option is wrong.
        DataError: An image cannot be read.
    """
    from densevision.inference.image_features import build_encoder, extract_features, extract_layouts, find_encoder
    from densevision.loading import load

    _check_out(out, (".csv", ".json", ".html"))
    if not -1 <= threshold <= 1:
        raise UsageError("is not a cosine, from -1 to 1", field="threshold", value=threshold)
    if count < 1:
        raise UsageError("must be at least 1", field="count", value=count)
    if encoder is None:
        _refuse_encoder_weights(encoder_weights)
        network = find_encoder(load(weights, FEATURE_TASK if weights is None else None))
    elif weights is not None:
        raise UsageError("has no effect with encoder", field="weights", hint="Give encoder_weights, or leave it out.")
    else:
        network = build_encoder(encoder, None if encoder_weights is None else os.fspath(encoder_weights))
    if query is None:
        pairs = _find_pairs(*_read_images(extract_layouts, network, source, device, on_error), threshold)
    else:
        names, features = _read_images(extract_features, network, source, device, on_error)
        queries = _read_images(extract_features, network, query, device, on_error)
        pairs = _find_neighbors(names, features, *queries, count)
    if out is not None:
        _write_pairs(Path(out), pairs)
    return pairs


def _open_encoder(predictor: Any, encoder: str | None, weights: PathLike | None) -> Backbone:
    from densevision.inference.image_features import build_encoder, find_encoder

    if encoder is not None:
        return build_encoder(encoder, None if weights is None else os.fspath(weights))
    _refuse_encoder_weights(weights)
    return find_encoder(predictor)


def _refuse_encoder_weights(weights: PathLike | None) -> None:
    if weights is not None:
        raise UsageError("has no effect without encoder", field="encoder_weights", hint="Name the timm model, too.")


def _read_images(
    extract: Extract, network: Backbone, source: Any, device: str, on_error: str
) -> tuple[list[str], np.ndarray]:
    """Names and features of all images of a source."""
    from densevision.inference.image_features import make_input_spec
    from densevision.inference.sources import open_source
    from densevision.run_config import PredictOptions

    options = PredictOptions.from_dict({"device": device, "on_error": on_error})
    names: list[str] = []

    def list_samples() -> Iterator[Sample]:
        specs = make_input_spec(network)
        for sample in open_source(source, specs, options.max_pixels, options.on_error == "skip").samples:
            names.append(sample.file or str(sample.id))
            yield sample

    return names, _stack(extract(network, list_samples(), device))


def _stack(vectors: Iterable[np.ndarray]) -> np.ndarray:
    rows = list(vectors)
    return np.stack(rows) if rows else np.zeros((0, 1), np.float32)


def _find_pairs(names: list[str], layouts: np.ndarray, threshold: float) -> list[SimilarPair]:
    """All pairs of at least a similarity, the most similar first.

    Args:
        names: Of the images.
        layouts: (N, rows, columns, C) of the images.
        threshold: The similarity.
    """
    from densevision.inference.image_features import mirror_layouts

    found = []
    starts = range(0, len(names), MAX_ROWS)
    for start in starts:
        rows = layouts[start : start + MAX_ROWS]
        plain, mirrored = (each.reshape(len(rows), -1) for each in (rows, mirror_layouts(rows)))
        for other in starts[start // MAX_ROWS :]:
            columns = layouts[other : other + MAX_ROWS]
            columns = columns.reshape(len(columns), -1).T
            similarity = np.stack([plain @ columns, mirrored @ columns])
            best, is_mirrored = similarity.max(0), similarity.argmax(0) == 1
            found += [
                (float(best[row, column]), start + row, other + column, bool(is_mirrored[row, column]))
                for row, column in np.argwhere(np.triu(best >= threshold, start - other + 1)).tolist()
            ]
    found.sort(key=lambda item: (-item[0], item[1], item[2]))
    return [SimilarPair(names[row], names[column], min(value, 1.0), mirror) for value, row, column, mirror in found]


def _find_neighbors(
    names: list[str], features: np.ndarray, queries: list[str], query_features: np.ndarray, count: int
) -> list[SimilarPair]:
    """The most similar images of each query, without the query itself."""
    pairs = []
    for query, vector in zip(queries, query_features):
        similarity = features @ vector
        order = [row for row in np.argsort(-similarity, kind="stable").tolist() if not _is_same(names[row], query)]
        pairs += [SimilarPair(query, names[row], min(float(similarity[row]), 1.0)) for row in order[:count]]
    return pairs


def _is_same(first: str, second: str) -> bool:
    return first == second or (os.path.isfile(first) and os.path.isfile(second) and os.path.samefile(first, second))


def _check_out(out: PathLike | None, suffixes: tuple[str, ...]) -> None:
    if out is not None and Path(out).suffix.lower() not in suffixes:
        hint = f"Choose: {', '.join(suffixes)}."
        raise UsageError("is not a format of this list", field="out", value=os.fspath(out), hint=hint)


def _write_table(path: Path, kind: type, rows: list[Any]) -> None:
    """Writes records as CSV or JSON."""
    entries = [asdict(row) for row in rows]
    if path.suffix.lower() == ".json":
        write_text(path, json.dumps(entries, ensure_ascii=False, indent=1) + "\n")
        return
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        writer.writerow({key: f"{value:.6f}" if isinstance(value, float) else value for key, value in entry.items()})
    write_text(path, stream.getvalue())


def _write_pairs(path: Path, pairs: list[SimilarPair]) -> None:
    if path.suffix.lower() != ".html":
        _write_table(path, SimilarPair, pairs)
        return
    from densevision.draw.html_page import HTMLPage

    shown = f" The first {SHOWN_PAIRS} are shown." if len(pairs) > SHOWN_PAIRS else ""
    page = HTMLPage("Similar images").add_text(f"{len(pairs)} pairs, the most similar first.{shown}")
    for pair in pairs[:SHOWN_PAIRS]:
        images = [_read_thumbnail(name) for name in (pair.image, pair.similar)]
        page.add_images(images, [f"{pair.image} ({pair.similarity:.4f})", pair.similar])
    page.write(path)


def _read_thumbnail(name: str) -> np.ndarray:
    """An image for display, reduced to `THUMBNAIL_SIDE`."""
    import cv2

    from densevision.io.image import load_image, to_display

    image = to_display(load_image(name))
    scale = THUMBNAIL_SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return image if scale >= 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
