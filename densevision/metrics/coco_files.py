"""Scores prediction files of any tool against COCO truth files, at about the cost of reading them.

hotcoco reads the files. It lets pass much that would bend the numbers, so the signs of every fault are looked for in
what it read, which is cheap. Only when one shows are the files read again in plain Python, to name the fault exactly.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import UsageError, did_you_mean
from densevision.metrics.coco_faults import GEOMETRY, examine_predictions, examine_truth, text_of
from densevision.metrics.coco_protocol import protocol, score
from densevision.metrics.coco_reader import open_files
from densevision.ops.skeleton import usual_sigmas

if TYPE_CHECKING:
    from hotcoco import COCO

TRUTH_SIGNS = {
    "missing_geometry",
    "orphan_image_id",
    "orphan_category_id",
    "duplicate_image_id",
    "duplicate_ann_id",
    "duplicate_category_id",
}

MEASURED = (0.0, 1e300)
"""Range of areas that leaves out the entries without an area and those with one side below 0."""

PIECE = 1 << 16
"""Bytes of predictions looked through at a time; more leave the processor's cache and take several times longer."""

NEGATIVE_SIDE = re.compile(rb"-[0-9.]+(?:[eE][-+]?[0-9]+)?\s*(?:,[^],]*)?\]")
"""A negative number in the last or last but one place of a list: where the list is a box, its width or height."""


def score_files(
    truth: str | os.PathLike[str], predictions: str | os.PathLike[str], iou_type: str = "bbox"
) -> dict[str, Any]:
    """COCO's numbers of a predictions file, equal to those of pycocotools.

    Args:
        truth: COCO json: images, categories, and annotations with id, image_id, category_id, area and the geometry;
            iscrowd is 0 where absent.
        predictions: COCO results: a json list, maybe empty, of {image_id, category_id, score, and the geometry}.
        iou_type: What overlaps: boxes ("bbox", the geometry is bbox), masks ("segm", it is segmentation) or keypoints,
            whose spread is that of `usual_sigmas`.

    Returns:
        metrics (name -> number, NaN where no truth defines it), protocol, counts, named (images without objects, and
        without predictions), and tables (numbers per class).

    Raises:
        DataError: A file that is missing or broken, or an entry with an absent, unknown, repeated or impossible value.
    """
    if iou_type not in GEOMETRY:
        raise UsageError("no such IoU", field="iou_type", value=iou_type, hint=did_you_mean(iou_type, GEOMETRY))
    truth, predictions = Path(truth), Path(predictions)
    objects, found = open_files(truth, predictions, iou_type)
    sigmas = _sigmas(objects) if iou_type == "keypoints" else ()
    # The matching holds no lock of Python's, so what is checked beside it takes hardly any time of its own.
    with ThreadPoolExecutor(max_workers=1) as pool:
        scoring = pool.submit(score, objects, found, _names(objects), iou_type, sigmas)
        health = objects.healthcheck()
        # Masks and keypoints of a wrong form show no sign: they match nothing, without a word.
        formless = iou_type != "bbox"
        counts, named = _counts(objects, found, health, None if formless else MEASURED)
        if not formless and _truth_is_suspect(objects, truth, health):
            examine_truth(truth, iou_type)
        if formless or _predictions_are_suspect(found, predictions, counts["predictions"]):
            examine_predictions(predictions, truth, iou_type)
        scored = scoring.result()
    return {
        "metrics": scored.summary(),
        "protocol": protocol(iou_type, sigmas) | _deviations(objects),
        "counts": counts,
        "named": named,
        "tables": {"per class": scored.per_class()},
    }


def _names(objects: COCO) -> list[str]:
    """Class names in the order of the ids; those that several classes share carry the id."""
    categories = objects.load_cats(objects.get_cat_ids())
    categories.sort(key=lambda category: category["id"])
    shared = Counter(category["name"] for category in categories)
    return [
        f"{category['name']} ({category['id']})" if shared[category["name"]] > 1 else category["name"]
        for category in categories
    ]


def _sigmas(objects: COCO) -> tuple[float, ...]:
    """The usual spread of as many keypoints as the classes name, or where none does, as the objects have."""
    named = [len(category.get("keypoints") or ()) for category in objects.load_cats(objects.get_cat_ids())]
    count = max(named, default=0)
    if not count:
        entries = objects.load_anns(objects.get_ann_ids())
        count = max((len(entry.get("keypoints") or ()) // 3 for entry in entries), default=0)
    return usual_sigmas(count) if count else ()


def image_name(entry: dict[str, Any]) -> str:
    """The file name of an entry of `images`, or its id."""
    return str(entry.get("file_name") or entry["id"])


def class_name(entry: dict[str, Any]) -> str:
    """The name of an entry of `categories`; where it has none, what hotcoco calls it."""
    return str(entry.get("name") or f"cat_{entry['id']}")


def _counts(
    objects: COCO, found: COCO, health: dict[str, Any], areas: tuple[float, float] | None
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """What the numbers rest on, predictions of these areas, and the images without objects or predictions by name."""
    images = objects.get_img_ids()
    answers = [len(found.get_ann_ids(img_ids=image, area_rng=areas)) for image in images]
    without = {"images without predictions": [image for image, count in zip(images, answers) if not count]}
    if health["summary"]["images_without_annotations"]:
        told = [image for image in images if not objects.get_ann_ids(img_ids=image)]
        without["images without objects"] = told
    named = {kind: [image_name(entry) for entry in objects.load_imgs(ids)] for kind, ids in without.items() if ids}
    return {
        "images": len(images),
        "truths": health["summary"]["num_annotations"],
        "crowd": len(objects.get_ann_ids(iscrowd=True)),
        "predictions": sum(answers),
        "images without objects": health["summary"]["images_without_annotations"],
        "images without predictions": answers.count(0),
    }, named


def _deviations(objects: COCO) -> dict[str, str]:
    """Where pycocotools would answer otherwise."""
    told = "annotation 0 is matched like any other; pycocotools takes the id 0 for unmatched: number from 1 to compare"
    return {"deviation": told} if 0 in objects.get_ann_ids() else {}


def _truth_is_suspect(objects: COCO, path: Path, health: dict[str, Any]) -> bool:
    ids = objects.get_ann_ids()
    flat = [i for sign in health["warnings"] if sign["code"] == "degenerate_bbox" for i in sign["affected_ids"]]
    return bool(
        objects.load_warnings
        or {sign["code"] for sign in health["errors"]} & TRUTH_SIGNS
        # hotcoco takes an absent list for an empty one, and an absent id for 0.
        or not (ids and objects.get_img_ids() and objects.get_cat_ids() and min(ids))
        or len(objects.get_ann_ids(area_rng=MEASURED)) < len(ids)
        or any(min(entry["bbox"][2:]) < 0 for entry in objects.load_anns(flat))
        or path.read_bytes().count(b'"bbox"') < len(ids)
    )


def _predictions_are_suspect(found: COCO, path: Path, measured: int) -> bool:
    # hotcoco warns of unknown images and classes. It numbers predictions from 1, so one more than those with an area
    # is there only if some have none.
    return bool(found.load_warnings or found.load_anns(measured + 1) or _text_is_suspect(path, measured))


def _text_is_suspect(path: Path, entries: int) -> bool:
    """Whether results are no list, an entry has no score, a null or a negative side, or only some masks have a box."""
    scores, masks = 0, False
    for number, text in enumerate(_pieces(path)):
        if not number and not text.lstrip().startswith(b"["):
            return True
        scores += text.count(b'"score":')  # written otherwise, it is looked for the slow way
        # A byte is found at a fraction of the cost of more, and plain results hold neither a minus nor an n.
        if (b"-" in text and NEGATIVE_SIDE.search(text)) or (b"n" in text and b"null" in text):
            return True
        masks = masks or (b"n" in text and b'"segmentation"' in text)
    # Around masks that all come without a box, hotcoco draws one as pycocotools does.
    return scores < entries or (masks and 0 < sum(text.count(b'"bbox"') for text in _pieces(path)) < entries)


def _pieces(path: Path) -> Iterator[bytes]:
    """A file in pieces, each of which ends where an object does."""
    rest = b""
    with open(path, "rb") as stream:
        while text := stream.read(PIECE):
            whole, end, part = text.rpartition(b"}")
            if end:
                yield rest + whole + end
                rest = part
            else:
                rest += part
    yield rest


def kinds_of(predictions: str | os.PathLike[str]) -> list[str]:
    """What any entry of a predictions file holds, as IoU types: "bbox", "segm", "keypoints".

    A file whose entries hold nothing of these is judged as boxes and masks are.

    Raises:
        DataError: The file cannot be read.
    """
    text = text_of(Path(predictions))
    return [kind for kind, key in GEOMETRY.items() if re.search(rb'"%b"\s*:' % key.encode(), text)] or ["bbox", "segm"]
