"""COCO's average precision and recall: accumulated from arrays, mergeable between processes, equal to pycocotools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from densevision.errors import DataError, UsageError, did_you_mean
from densevision.metrics.coco_columns import Columns, ImageArrays, Objects
from densevision.metrics.coco_protocol import Scored, matched, protocol, score
from densevision.metrics.curves import Curves

if TYPE_CHECKING:
    from densevision.metrics.matches import Matches


class AveragePrecision:
    """COCO's numbers over images that come one at a time.

    Keeps the arrays of every image, about 30 bytes per box, and matches them when the numbers are asked for. The
    images are taken in the order of their ids, so neither the order of updates nor that of merges matters.

    Args:
        names: Class names, in the order of the labels.
        iou_type: What overlaps: boxes ("bbox"), masks ("segm"), masks with their boundaries ("boundary"), "keypoints".
        sigmas: Spread of each keypoint; COCO's when not given.
    """

    iou_types = ("bbox", "segm", "boundary", "keypoints")

    def __init__(self, names: Sequence[str], iou_type: str = "bbox", sigmas: Sequence[float] = ()):
        if iou_type not in self.iou_types:
            raise UsageError(
                "no such IoU", field="iou_type", value=iou_type, hint=did_you_mean(iou_type, self.iou_types)
            )
        self.names, self.iou_type, self.sigmas = tuple(names), iou_type, tuple(sigmas)
        self._images: dict[int | str, ImageArrays] = {}
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
        """Takes the predictions and the truth of one image, either of which may be empty.

        Raises:
            DataError: An image that was already taken, a box that is not finite, a label that has no name.
        """
        self._take({id: ImageArrays.of(answer, truth, self.iou_type).checked(len(self.names), id)})

    def merge(self, other: AveragePrecision) -> None:
        """Takes the images that another accumulator gathered."""
        if (self.names, self.iou_type) != (other.names, other.iou_type):
            raise UsageError("cannot merge average precisions of other classes or another IoU", value=other.names)
        self._take(other._images)

    def compute(self) -> dict[str, float]:
        """AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl; NaN where there is no truth."""
        return self.scored().summary()

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> the same numbers for that class alone."""
        return self.scored().per_class()

    def curves(self) -> Curves:
        """Precision over recall, and F1 over confidence, by class."""
        return self.scored().curves

    def per_image(self) -> Matches:
        """The matches of each image, from which the numbers of any choice of images follow."""
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
        images = self._images.values()
        return {
            "truths": sum(len(image.true_labels) for image in images),
            "crowd": sum(int(image.crowd.sum()) for image in images),
            "predictions": sum(len(image.labels) for image in images),
            "images without objects": sum(not len(image.true_labels) for image in images),
            "images without predictions": sum(not len(image.labels) for image in images),
        }

    def scored(self) -> Scored:
        """Matches all images, once until the next update."""
        if self._scored is None:
            self._scored = self._match(self._ordered()[1])
        return self._scored

    @property
    def _geometry(self) -> str:
        return "segm" if self.iou_type == "boundary" else self.iou_type

    def _ordered(self) -> tuple[list[int | str], Columns]:
        order = sorted(self._images, key=lambda id: (isinstance(id, str), id))
        return order, Columns([self._images[id] for id in order])

    def _evaluation(self, images: Columns) -> tuple[Iterable[list[dict[str, Any] | None]], list[dict[str, Any]]]:
        """Every image's matches, a few classes at a time, and what the metrics are made of."""
        if self.iou_type == "boundary":
            from densevision.metrics.boundary import definitions, matched_boundaries

            return [matched_boundaries(images.images, self.names).evalImgs], definitions()
        truth = images.truth(self.names)
        predictions = images.predictions(truth)
        # Matches come as a dict for each image, class and size: all at once, they would fill gigabytes.
        numbers = range(1, len(self.names) + 1)
        each = (matched(truth, predictions, self.iou_type, self.sigmas, [number]).eval_imgs for number in numbers)
        return each, matched(truth, predictions, self.iou_type, self.sigmas, []).metric_defs()

    def _match(self, images: Columns) -> Scored:
        if self.iou_type == "boundary":
            from densevision.metrics.boundary import score_boundaries

            return score_boundaries(images.images, self.names)
        truth = images.truth(self.names)
        return score(truth, images.predictions(truth), self.names, self.iou_type, self.sigmas)

    def _take(self, images: dict[int | str, ImageArrays]) -> None:
        if twice := self._images.keys() & images.keys():
            raise DataError("the same image is judged twice", field="id", value=min(twice, key=str))
        self._images.update(images)
        self._scored = self._matches = None
