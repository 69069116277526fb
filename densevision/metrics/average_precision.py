"""COCO's average precision and recall: accumulated from arrays, mergeable between processes, equal to pycocotools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from densevision.errors import DataError, UsageError, did_you_mean
from densevision.metrics.coco_columns import CocoColumns, ImageArrays, ObjectArrays
from densevision.metrics.coco_protocol import (
    MAX_DETECTIONS,
    CocoScores,
    compute_coco_scores,
    define_metrics,
    describe_protocol,
    list_max_detections,
    match_predictions,
)
from densevision.metrics.curves import Curves

if TYPE_CHECKING:
    from densevision.metrics.matches import Matches

__all__ = ["AveragePrecision"]


class AveragePrecision:
    """COCO's metrics over images that arrive one at a time.

    Stores the arrays of every image, about 30 bytes per box, and matches them when the metrics are computed. Images are
    evaluated in the order of their ids, so neither the order of updates nor that of merges matters.

    Args:
        names: Class names, in the order of the labels.
        iou_type: Boxes ("bbox"), masks ("segm"), masks with their boundaries ("boundary"), or "keypoints".
        sigmas: OKS constant of each keypoint; COCO's by default.
        max_detections: Predictions of a class in an image that are evaluated, the best ones; above 10. Keypoints have
            COCO's 20.
    """

    iou_types = ("bbox", "segm", "boundary", "keypoints")

    def __init__(
        self,
        names: Sequence[str],
        iou_type: str = "bbox",
        sigmas: Sequence[float] = (),
        max_detections: int = MAX_DETECTIONS,
    ):
        if iou_type not in self.iou_types:
            hint = did_you_mean(iou_type, self.iou_types)
            raise UsageError("no such IoU type", field="iou_type", value=iou_type, hint=hint)
        self.names, self.iou_type, self.sigmas = tuple(names), iou_type, tuple(sigmas)
        self.max_detections = list_max_detections(iou_type, max_detections)[-1]
        self._images: dict[int | str, ImageArrays] = {}
        self._scores: CocoScores | None = None
        self._matches: Matches | None = None

    @property
    def protocol(self) -> dict[str, Any]:
        """See `metrics.metric.Metric`."""
        if self.iou_type == "boundary":
            from densevision.metrics.boundary import describe_boundary_protocol

            return describe_protocol("segm", (), self.max_detections) | describe_boundary_protocol()
        return describe_protocol(self.iou_type, self.sigmas, self.max_detections)

    def update(self, prediction: ObjectArrays, truth: ObjectArrays, image_id: int | str) -> None:
        """Adds the predictions and the ground truth of one image, either of which may be empty.

        Raises:
            DataError: The image was added before, a box or score is not finite, or a label is out of range.
        """
        arrays = ImageArrays.from_records(prediction, truth, self.iou_type)
        arrays.validate(len(self.names), image_id)
        self._add_images({image_id: arrays})

    def merge(self, other: AveragePrecision) -> None:
        """Adds the images of another accumulator.

        Raises:
            UsageError: It has other classes, another IoU type or other rules.
            DataError: Both have the same image.
        """
        rules, others = ((part.names, part.iou_type, part.sigmas, part.max_detections) for part in (self, other))
        if rules != others:
            raise UsageError("cannot merge average precisions of other classes, IoU types or rules", value=others)
        self._add_images(other._images)

    def compute(self) -> dict[str, float]:
        """AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl; NaN without ground truth.

        With 300 `max_detections`, AR300 takes the place of AR100.
        """
        return self.compute_scores().summary()

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> the same metrics for that class."""
        return self.compute_scores().per_class()

    def curves(self) -> Curves:
        """Precision over recall, and F1 over confidence, by class."""
        return self.compute_scores().curves

    def per_image(self) -> Matches:
        """The matches of each image, from which the metrics of any subset or resample follow."""
        from hotcoco import Params

        from densevision.metrics.matches import Matches, MatchRules

        if self._matches is None:
            ids, columns = self._sort_images()
            parts, definitions = self._match_by_class(columns)
            params = Params(self._geometry)
            areas = dict(zip(params.area_rng_lbl, params.area_rng))
            rules = MatchRules(definitions, np.array(params.iou_thrs), np.array(params.rec_thrs), areas)
            self._matches = Matches(ids, parts, rules)
        return self._matches

    def tide(self, foreground_iou: float = 0.5, background_iou: float = 0.1) -> dict[str, Any]:
        """The cost of each kind of error, by hotcoco: `ap_base`, and `delta_ap` and `counts` by kind.

        Args:
            foreground_iou: Minimum IoU of a correct localization.
            background_iou: Minimum IoU of a wrong localization; below it is background.
        """
        columns = self._sort_images()[1]
        truth = columns.truth(self.names)
        predictions = columns.predictions(truth)
        evaluation = match_predictions(
            truth, predictions, self._geometry, self.sigmas, max_detections=self.max_detections
        )
        return evaluation.tide_errors(foreground_iou, background_iou)

    def counts(self) -> dict[str, int]:
        """How many ground truths and predictions the metrics are based on."""
        images, limit = self._images.values(), self.max_detections
        beyond = sum(int((np.bincount(image.labels) - limit).clip(0).sum()) for image in images)
        return {
            "truths": sum(len(image.true_labels) for image in images),
            "crowd": sum(int(image.crowd.sum()) for image in images),
            "predictions": sum(len(image.labels) for image in images),
            "images without objects": sum(not len(image.true_labels) for image in images),
            "images without predictions": sum(not len(image.labels) for image in images),
            **({f"predictions beyond {limit} of a class in an image, not evaluated": beyond} if beyond else {}),
        }

    def compute_scores(self) -> CocoScores:
        """Matches all images; cached until the next update."""
        if self._scores is None:
            columns = self._sort_images()[1]
            if self.iou_type == "boundary":
                from densevision.metrics.boundary import score_boundaries

                self._scores = score_boundaries(columns.images, self.names, self.max_detections)
            else:
                truth = columns.truth(self.names)
                predictions = columns.predictions(truth)
                self._scores = compute_coco_scores(
                    truth, predictions, self.names, self.iou_type, self.sigmas, self.max_detections
                )
        return self._scores

    @property
    def _geometry(self) -> str:
        return "segm" if self.iou_type == "boundary" else self.iou_type

    def _sort_images(self) -> tuple[list[int | str], CocoColumns]:
        order = sorted(self._images, key=lambda image_id: (isinstance(image_id, str), image_id))
        return order, CocoColumns([self._images[image_id] for image_id in order])

    def _match_by_class(
        self, columns: CocoColumns
    ) -> tuple[Iterable[list[dict[str, Any] | None]], list[dict[str, Any]]]:
        """The matches of every image, one class at a time, and the definitions of the metrics."""
        if self.iou_type == "boundary":
            from densevision.metrics.boundary import get_metric_definitions, match_boundaries

            evaluation = match_boundaries(columns.images, self.names, self.max_detections)
            return [evaluation.evalImgs], get_metric_definitions(self.max_detections)
        truth = columns.truth(self.names)
        predictions = columns.predictions(truth)

        def match(classes: list[int]) -> Any:
            return match_predictions(truth, predictions, self.iou_type, self.sigmas, classes, self.max_detections)

        # There is a dict for each image, class and size: all at once, they would fill gigabytes.
        return (match([category]).eval_imgs for category in range(1, len(self.names) + 1)), define_metrics(match([]))

    def _add_images(self, images: dict[int | str, ImageArrays]) -> None:
        if duplicates := self._images.keys() & images.keys():
            raise DataError("an image is evaluated twice", field="id", value=min(duplicates, key=str))
        self._images.update(images)
        self._scores = self._matches = None
