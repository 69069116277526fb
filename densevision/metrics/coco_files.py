"""Scores prediction files of any tool against COCO ground truth, at about the cost of reading the files.

hotcoco reads the files. It accepts many faults that would distort the metrics, so cheap checks look for signs of every
fault in what it read. Only when one shows are the files read again in plain Python, to report the fault exactly.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import DataError, UsageError, convert_error, did_you_mean
from densevision.metrics.coco_protocol import (
    MAX_DETECTIONS,
    compute_coco_scores,
    describe_protocol,
    list_max_detections,
)
from densevision.metrics.coco_reader import load_coco_files
from densevision.metrics.coco_text_ids import number_text_ids
from densevision.metrics.coco_validation import GEOMETRY, read_bytes, validate_predictions, validate_truth
from densevision.ops.skeleton import get_default_sigmas

if TYPE_CHECKING:
    from hotcoco import COCO

__all__ = ["choose_sigmas", "detect_iou_types", "get_class_name", "get_image_name", "score_files"]

TRUTH_SIGNS = {
    "missing_geometry",
    "orphan_image_id",
    "orphan_category_id",
    "duplicate_image_id",
    "duplicate_ann_id",
    "duplicate_category_id",
}
"""Codes of hotcoco's health check that are faults."""
VALID_AREAS = (0.0, 1e300)
"""Range of areas that excludes entries without an area and those with one negative side."""
CHUNK = 1 << 16
"""Bytes of predictions scanned at a time; larger pieces leave the processor's cache and take several times longer."""
NEGATIVE_SIDE = re.compile(rb"-[0-9.]+(?:[eE][-+]?[0-9]+)?\s*(?:,[^],]*)?\]")
"""A negative number in the last two places of a list: if the list is a box, its width or height."""


def score_files(
    truth: str | os.PathLike[str],
    predictions: str | os.PathLike[str],
    iou_type: str = "bbox",
    sigmas: Sequence[float] = (),
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, Any]:
    """COCO's metrics of a predictions file, equal to those of pycocotools.

    Args:
        truth: COCO json: images, categories, and annotations with id, image_id, category_id, area and the geometry;
            iscrowd is 0 where absent. Image ids may be text in both files.
        predictions: COCO results: a json list, maybe empty, of {image_id, category_id, score, and the geometry}.
        iou_type: Boxes ("bbox", the geometry is bbox), masks ("segm", it is segmentation) or keypoints.
        sigmas: OKS constant of each keypoint; those of `get_default_sigmas` by default.
        max_detections: See `metrics.coco_protocol.list_max_detections`.

    Returns:
        metrics (name -> value, NaN where undefined), protocol, counts, named (images without objects, and without
        predictions), and tables (metrics per class).

    Raises:
        DataError: A file is missing or broken, or an entry has an absent, unknown, repeated or impossible value.
        UsageError: There is not one of `sigmas` for each keypoint.
    """
    if iou_type not in GEOMETRY:
        raise UsageError("no such IoU type", field="iou_type", value=iou_type, hint=did_you_mean(iou_type, GEOMETRY))
    truth, predictions = Path(truth), Path(predictions)
    try:
        return _score(truth, predictions, iou_type, sigmas, max_detections)
    except DataError as failure:
        with number_text_ids(truth, predictions) as copies:
            if copies is None:
                raise
            originals = dict(zip(map(str, copies), (truth, predictions)))
            try:
                return _score(*copies, iou_type, sigmas, max_detections)
            except DataError as other:
                # A message about a copy names its original; one about the ids as they were is as good.
                if str(other.file) not in originals:
                    raise failure from None
                raise convert_error(other, DataError, originals[str(other.file)]) from None


def _score(
    truth: Path, predictions: Path, iou_type: str, sigmas: Sequence[float], max_detections: int
) -> dict[str, Any]:
    objects, results = load_coco_files(truth, predictions, iou_type)
    sigmas = choose_sigmas(_count_keypoints(objects), sigmas) if iou_type == "keypoints" else ()
    limit = list_max_detections(iou_type, max_detections)[-1]
    # Matching releases the GIL, so the checks beside it take hardly any time.
    with ThreadPoolExecutor(max_workers=1) as pool:
        names = _list_class_names(objects)
        scoring = pool.submit(compute_coco_scores, objects, results, names, iou_type, sigmas, limit)
        health = objects.healthcheck()
        # Invalid masks and keypoints show no sign: they silently match nothing. They are always read a second time.
        is_box = iou_type == "bbox"
        counts, named = _count(objects, results, health, VALID_AREAS if is_box else None, limit)
        if is_box and _is_truth_suspect(objects, truth, health):
            validate_truth(truth, iou_type)
        if not is_box or _are_predictions_suspect(results, predictions, counts["predictions"]):
            validate_predictions(predictions, truth, iou_type)
        scores = scoring.result()
    return {
        "metrics": scores.summary(),
        "protocol": describe_protocol(iou_type, sigmas, limit) | _list_deviations(objects),
        "counts": counts,
        "named": named,
        "tables": {"per class": scores.per_class()},
    }


def _list_class_names(objects: COCO) -> list[str]:
    """Class names in the order of the ids; a name that several classes share is followed by the id."""
    categories = objects.load_cats(objects.get_cat_ids())
    categories.sort(key=lambda category: category["id"])
    return get_unique_names(categories, [category["name"] for category in categories])


def get_unique_names(entries: list[dict[str, Any]], names: list[str]) -> list[str]:
    """The names of entries, each that several entries share followed by the entry's id."""
    uses = Counter(names)
    return [f"{name} ({entry['id']})" if uses[name] > 1 else name for entry, name in zip(entries, names)]


def _count_keypoints(objects: COCO) -> int:
    """The number of keypoints of the classes, or of the objects if no class names them."""
    named = [len(category.get("keypoints") or ()) for category in objects.load_cats(objects.get_cat_ids())]
    count = max(named, default=0)
    if not count:
        entries = objects.load_anns(objects.get_ann_ids())
        count = max((len(entry.get("keypoints") or ()) // 3 for entry in entries), default=0)
    return count


def choose_sigmas(count: int, sigmas: Sequence[float] = ()) -> tuple[float, ...]:
    """The OKS constant of each of `count` keypoints: those given, or `get_default_sigmas`.

    Raises:
        UsageError: There is not one for each keypoint.
    """
    if not sigmas:
        return get_default_sigmas(count) if count else ()
    if len(sigmas) != count:
        problem, hint = f"{len(sigmas)} values for {count} keypoints", "Give one for each keypoint, in their order."
        raise UsageError(problem, field="sigmas", value=list(sigmas), hint=hint)
    return tuple(sigmas)


def get_image_name(entry: dict[str, Any]) -> str:
    """The file name of an entry of `images`, or its id."""
    return str(entry.get("file_name") or entry["id"])


def get_class_name(entry: dict[str, Any]) -> str:
    """The name of an entry of `categories`, or hotcoco's replacement for it."""
    return str(entry.get("name") or f"cat_{entry['id']}")


def _count(
    objects: COCO, results: COCO, health: dict[str, Any], areas: tuple[float, float] | None, limit: int
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Counts, of predictions within a range of areas, and the images without objects or predictions by name."""
    images = objects.get_img_ids()
    counts = [len(results.get_ann_ids(img_ids=image, area_rng=areas)) for image in images]
    missing = {"images without predictions": [image for image, count in zip(images, counts) if not count]}
    if health["summary"]["images_without_annotations"]:
        missing["images without objects"] = [image for image in images if not objects.get_ann_ids(img_ids=image)]
    named = {kind: [get_image_name(entry) for entry in objects.load_imgs(ids)] for kind, ids in missing.items() if ids}
    crowded = [image for image, count in zip(images, counts) if count > limit]
    beyond = sum(_count_beyond(results, image, limit) for image in crowded)
    return {
        "images": len(images),
        "truths": health["summary"]["num_annotations"],
        "crowd": len(objects.get_ann_ids(iscrowd=True)),
        "predictions": sum(counts),
        "images without objects": health["summary"]["images_without_annotations"],
        "images without predictions": counts.count(0),
        **({f"predictions beyond {limit} of a class in an image, not evaluated": beyond} if beyond else {}),
    }, named


def _count_beyond(results: COCO, image: int, limit: int) -> int:
    """Number of predictions of an image that COCO's evaluation leaves out: of each class the best `limit` count."""
    entries = results.load_anns(results.get_ann_ids(img_ids=image))
    return sum(max(0, count - limit) for count in Counter(entry["category_id"] for entry in entries).values())


def _list_deviations(objects: COCO) -> dict[str, str]:
    """Where pycocotools would give other numbers."""
    if 0 not in objects.get_ann_ids():
        return {}
    text = "annotation 0 is matched like any other; pycocotools takes the id 0 for unmatched: number from 1 to compare"
    return {"deviation": text}


def _is_truth_suspect(objects: COCO, path: Path, health: dict[str, Any]) -> bool:
    ids = objects.get_ann_ids()
    flat = [i for sign in health["warnings"] if sign["code"] == "degenerate_bbox" for i in sign["affected_ids"]]
    if (
        objects.load_warnings
        or {sign["code"] for sign in health["errors"]} & TRUTH_SIGNS
        # hotcoco takes an absent list for an empty one, and an absent id for 0.
        or not (ids and objects.get_img_ids() and objects.get_cat_ids())
        or 0 in ids
        or len(objects.get_ann_ids(area_rng=VALID_AREAS)) < len(ids)
        or any(min(entry["bbox"][2:]) < 0 for entry in objects.load_anns(flat))
    ):
        return True
    text = path.read_bytes()
    # hotcoco derives an absent or null box from the mask.
    return text.count(b'"bbox"') < len(ids) or b"null" in text


def _are_predictions_suspect(results: COCO, path: Path, valid: int) -> bool:
    # hotcoco warns of unknown images and classes. It numbers predictions from 1, so there is one more than those with
    # a valid area only if some have none.
    return bool(results.load_warnings or results.load_anns(valid + 1) or _is_text_suspect(path, valid))


def _is_text_suspect(path: Path, entries: int) -> bool:
    """Whether results are no list, lack a score, have a null or a negative side, or only some masks have a box."""
    scores, has_masks = 0, False
    for index, text in enumerate(_read_chunks(path)):
        if not index and not text.lstrip().startswith(b"["):
            return True
        scores += text.count(b'"score":')  # other spellings take the slow path
        # Searching for one byte is much cheaper than for several, and plain results hold neither a minus nor an n.
        if (b"-" in text and NEGATIVE_SIDE.search(text)) or (b"n" in text and b"null" in text):
            return True
        has_masks = has_masks or (b"n" in text and b'"segmentation"' in text)
    # If no mask has a box, hotcoco derives the boxes as pycocotools does.
    return scores < entries or (has_masks and 0 < sum(text.count(b'"bbox"') for text in _read_chunks(path)) < entries)


def _read_chunks(path: Path) -> Iterator[bytes]:
    """A file in chunks, each of which ends at the end of an object."""
    rest = b""
    with open(path, "rb") as stream:
        while text := stream.read(CHUNK):
            objects, end, part = text.rpartition(b"}")
            if end:
                yield rest + objects + end
                rest = part
            else:
                rest += part
    yield rest


def detect_iou_types(predictions: str | os.PathLike[str]) -> list[str]:
    """The IoU types whose geometry any entry of a predictions file has: "bbox", "segm", "keypoints".

    A file without any geometry is evaluated as boxes and masks.

    Raises:
        DataError: The file cannot be read.
    """
    text = read_bytes(Path(predictions))
    return [kind for kind, key in GEOMETRY.items() if re.search(rb'"%b"\s*:' % key.encode(), text)] or ["bbox", "segm"]
