"""COCO's average precision and recall: accumulated from arrays, mergeable between processes, equal to pycocotools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from densevision.errors import DataError, UsageError, did_you_mean
from densevision.metrics.coco_columns import Columns, Objects, PictureArrays
from densevision.metrics.coco_rules import Scored, matched, protocol, score
from densevision.metrics.curves import Curves

if TYPE_CHECKING:
    from densevision.metrics.matches import Matches


class AveragePrecision:
    """COCO's numbers over pictures that come one at a time.

    Keeps the arrays of every picture, about 30 bytes per box, and matches them when the numbers are asked for. The
    pictures are taken in the order of their ids, so neither the order of updates nor that of merges matters.

    Args:
        names: Class names, in the order of the labels.
        iou_type: What overlaps: boxes ("bbox"), masks ("segm"), masks with their boundaries ("boundary"), "keypoints".
        sigmas: Spread of each keypoint; COCO's when not given.
    """

    iou_types = ("bbox", "segm", "boundary", "keypoints")

    def __init__(self, names: Sequence[str], iou_type: str = "bbox", sigmas: Sequence[float] = ()):
        if iou_type not in self.iou_types:
            raise UsageError(
                "no such IoU", field="iou_type", value=iou_type, mend=did_you_mean(iou_type, self.iou_types)
            )
        self.names, self.iou_type, self.sigmas = tuple(names), iou_type, tuple(sigmas)
        self._pictures: dict[int | str, PictureArrays] = {}
        self._scored: Scored | None = None
        self._matches: Matches | None = None

    @property
    def protocol(self) -> dict[str, Any]:
        """How the numbers come about."""
        if self.iou_type == "boundary":
            from densevision.metrics.boundary import boundary_protocol

            return protocol("segm") | boundary_protocol()
        return protocol(self.iou_type, self.sigmas)

    def update(self, answer: Objects, truth: Objects, id: int | str) -> None:
        """Takes the predictions and the truth of one picture, either of which may be empty.

        Raises:
            DataError: A picture that was already taken, a box that is not finite, a label that has no name.
        """
        self._take({id: PictureArrays.of(answer, truth, self.iou_type).checked(len(self.names), id)})

    def merge(self, other: AveragePrecision) -> None:
        """Takes the pictures that another accumulator gathered."""
        if (self.names, self.iou_type) != (other.names, other.iou_type):
            raise UsageError("cannot merge average precisions of other classes or another IoU", value=other.names)
        self._take(other._pictures)

    def compute(self) -> dict[str, float]:
        """AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl; NaN where there is no truth."""
        return self.scored().summary()

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> the same numbers for that class alone."""
        return self.scored().per_class()

    def curves(self) -> Curves:
        """Precision over recall, and F1 over confidence, by class."""
        return self.scored().curves

    def by_picture(self) -> Matches:
        """The matches of each picture, from which the numbers of any choice of pictures follow."""
        from hotcoco import Params

        from densevision.metrics.matches import Matches, Rules

        if self._matches is None:
            ids, columns = self._ordered()
            parts, definitions = self._evaluation(columns)
            params = Params(self._geometry)
            areas = dict(zip(params.area_rng_lbl, params.area_rng))
            rules = Rules(definitions, np.array(params.iou_thrs), np.array(params.rec_thrs), areas)
            self._matches = Matches(ids, parts, rules)
        return self._matches

    def tide(self, hit: float = 0.5, near: float = 0.1) -> dict[str, Any]:
        """What each kind of error costs, by hotcoco: `ap_base`, and `delta_ap` and `counts` by kind.

        Args:
            hit: IoU from which a prediction is in the right place.
            near: IoU from which it is near.
        """
        columns = self._ordered()[1]
        truth = columns.truth(self.names)
        evaluation = matched(truth, columns.predictions(truth), self._geometry, self.sigmas)
        return evaluation.tide_errors(hit, near)

    def counts(self) -> dict[str, int]:
        """How many truths and predictions the numbers rest on."""
        pictures = self._pictures.values()
        return {
            "truths": sum(len(picture.true_labels) for picture in pictures),
            "crowd": sum(int(picture.crowd.sum()) for picture in pictures),
            "predictions": sum(len(picture.labels) for picture in pictures),
            "images without objects": sum(not len(picture.true_labels) for picture in pictures),
            "images without predictions": sum(not len(picture.labels) for picture in pictures),
        }

    def scored(self) -> Scored:
        """Matches all pictures, once until the next update."""
        if self._scored is None:
            self._scored = self._match(self._ordered()[1])
        return self._scored

    @property
    def _geometry(self) -> str:
        return "segm" if self.iou_type == "boundary" else self.iou_type

    def _ordered(self) -> tuple[list[int | str], Columns]:
        order = sorted(self._pictures, key=lambda id: (isinstance(id, str), id))
        return order, Columns([self._pictures[id] for id in order])

    def _evaluation(self, pictures: Columns) -> tuple[Iterable[list[dict[str, Any] | None]], list[dict[str, Any]]]:
        """Every picture's matches, a few classes at a time, and what the metrics are made of."""
        if self.iou_type == "boundary":
            from densevision.metrics.boundary import definitions, matched_boundaries

            return [matched_boundaries(pictures.pictures, self.names).evalImgs], definitions()
        truth = pictures.truth(self.names)
        predictions = pictures.predictions(truth)
        # Matches come as a dict for each picture, class and size: all at once, they would fill gigabytes.
        numbers = range(1, len(self.names) + 1)
        each = (matched(truth, predictions, self.iou_type, self.sigmas, [number]).eval_imgs for number in numbers)
        return each, matched(truth, predictions, self.iou_type, self.sigmas, []).metric_defs()

    def _match(self, pictures: Columns) -> Scored:
        if self.iou_type == "boundary":
            from densevision.metrics.boundary import score_boundaries

            return score_boundaries(pictures.pictures, self.names)
        truth = pictures.truth(self.names)
        return score(truth, pictures.predictions(truth), self.names, self.iou_type, self.sigmas)

    def _take(self, pictures: dict[int | str, PictureArrays]) -> None:
        if twice := self._pictures.keys() & pictures.keys():
            raise DataError("the same picture is judged twice", field="id", value=min(twice, key=str))
        self._pictures.update(pictures)
        self._scored = self._matches = None
