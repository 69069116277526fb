"""What is looked for in a dataset of boxes. No torch here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from densevision.checks import table
from densevision.checks.box_edits import edit_of
from densevision.checks.boxes import BOXES, judge_boxes, judge_classes
from densevision.checks.pictures import Album
from densevision.checks.survey import FindingsOfSplits, Survey
from densevision.data.recognise import recognise
from densevision.data.scene_splits import SceneSource
from densevision.tasks.detection.config import DetectionConfig

CHECKS = (*table.SHARED, *table.CLASSES, *BOXES)
"""All that `check` may find."""


def check(config: DetectionConfig, survey: Survey) -> None:
    """Looks at every picture and box.

    Raises:
        DataError: The dataset is not recognised, or cannot be read at all.
    """
    found = recognise(config.data.path or "", config.data.train, config.data.val)
    survey.notes += found.notes
    album, counts, names = Album(survey), {}, ()
    findings = FindingsOfSplits()
    for split, source in found.splits.items():
        if isinstance(source, SceneSource):
            survey.counted(split, scenes=source.count)
            continue
        boxes = source.read(findings, config.data.max_pixels)
        folder, names = Path(source.folder), boxes.names
        edit_of(survey.repair, source).keep(boxes)
        album.look(split, [folder / boxes.files[row] for row in range(len(boxes))])
        survey.counted(split, boxes=len(boxes.labels))
        judge_boxes(survey, boxes, folder)
        counts[split] = np.bincount(boxes.labels, minlength=len(names))
    survey.take(findings)
    album.judge()
    if counts:
        judge_classes(survey, names, counts, Path(config.data.path or ""))
