"""Judges class maps of any tool from files alone. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densevision.data.mask_layouts import class_list
from densevision.errors import DataError
from densevision.io.image import read_index
from densevision.io.masks import UNKNOWN, Coding
from densevision.io.pictures import list_pictures
from densevision.results import SemanticMap
from densevision.tasks.semantic.metric import SemanticMetric

NUMBERED = 255


def score(truth: Path, predictions: Path) -> dict[str, Any]:
    """mIoU and its companions of a folder of masks against another: metrics, protocol, counts, tables.

    Masks are index pictures of one channel; those of the two folders belong together by their names without suffix. A
    classes.txt in or above the folder of the truth names the classes, one a line in the order of the values; a line `-`
    stands for a value that means unknown, as 255 always does. Without it classes are called by their numbers.

    Args:
        truth: Folder of masks.
        predictions: Folder of masks, one for each of the truth.

    Raises:
        DataError: A folder is empty, a mask is missing, of another size, or holds what is no class.
    """
    told, said = (_masks(folder) for folder in (truth, predictions))
    if missing := sorted(set(told) - set(said)):
        mend = f"{len(missing)} of {len(told)} are missing."
        raise DataError("no prediction for a mask of the truth", file=predictions, value=missing[0], mend=mend)
    names, unknown = class_list(truth)
    names, unknown = (names, unknown) if names else class_list(truth.parent)
    values = tuple(row for row in range(len(names) + len(unknown)) if row not in unknown)
    coding = Coding(len(names), values, unknown=unknown) if names else Coding(NUMBERED)
    metric = SemanticMetric(names or tuple(map(str, range(NUMBERED))))
    for stem, file in told.items():
        wanted, found = coding.read(file), coding.decode(read_index(said[stem]), said[stem])
        if wanted.shape != found.shape:
            problem = "the prediction is of another size than the truth"
            raise DataError(problem, file=said[stem], value=found.shape, mend=f"The truth is {wanted.shape}.")
        size = wanted.shape
        metric.update(*(SemanticMap(labels=x, names=metric.names, size=size) for x in (found, wanted)), stem)
    counts = {"images": len(told), "predictions without truth": len(set(said) - set(told)), **metric.counts()}
    tables = metric.tables()
    if not names:
        seen = np.flatnonzero(~np.isnan(metric.confusion.iou()))
        tables = {"per class": {str(index): tables["per class"][str(index)] for index in seen}}
    return {"metrics": metric.compute(), "protocol": metric.protocol, "counts": counts, "tables": tables}


def _masks(folder: Path) -> dict[str, Path]:
    """Stem -> mask."""
    found = (
        {str(Path(file).with_suffix("")): folder / file for file in list_pictures(folder)} if folder.is_dir() else {}
    )
    if not found:
        raise DataError("no mask is there", file=folder, mend=f"Give a folder of index pictures; {UNKNOWN} is unknown.")
    return found
