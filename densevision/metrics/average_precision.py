"""COCO's average precision and recall: accumulated from arrays, mergeable between processes, equal to pycocotools.

hotcoco does the matching. Where it and pycocotools part ways, pycocotools is followed:

- Predictions of pictures or classes that the truth does not know are refused; hotcoco leaves them out with a warning.
- A number that no truth defines is NaN; both tools write -1.

Two things are taken as the field means them, although pycocotools fails on them: truth with an empty list of
predictions scores 0, and a truth with the id 0 is matched like any other (pycocotools takes that id for "unmatched").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from densevision.errors import DataError, UsageError, did_you_mean
from densevision.metrics.curves import Curves, curves_of, table

if TYPE_CHECKING:
    from hotcoco import COCO, COCOeval

    from densevision.metrics.matches import Matches


class Objects(Protocol):
    """Objects of one picture, as `Detections` holds them.

    Attributes:
        size: Size of the picture, (height, width).
        boxes: (N, 4) xyxy in pixels.
        scores: (N,) confidences; not read of a truth.
        labels: (N,) indices into the class names.
        areas: (N,) areas in pixels, by which small, medium and large are told apart; read of a truth only.
        crowd: (N,) bool; read of a truth only.

    For the IoU of masks also `masks`, N run-length encodings as COCO writes them ({"size", "counts"}); for keypoints
    `keypoints`, (N, K, 3) x, y and visibility.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray


@dataclass(frozen=True)
class Scored:
    """Precision and recall of a whole dataset.

    Attributes:
        names: Class names, K of them.
        table: Metric name -> (K,) numbers, NaN for a class without truth of that size.
        curves: Precision over recall.
    """

    names: tuple[str, ...]
    table: dict[str, np.ndarray]
    curves: Curves

    def summary(self) -> dict[str, float]:
        """The mean of each metric over the classes that have truth; NaN where none has."""
        known = {name: numbers[~np.isnan(numbers)] for name, numbers in self.table.items()}
        return {name: float(numbers.mean()) if len(numbers) else float("nan") for name, numbers in known.items()}

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> metric name -> number."""
        rows = zip(*(numbers.tolist() for numbers in self.table.values()))
        return {name: dict(zip(self.table, row)) for name, row in zip(self.names, rows)}


def score(
    truth: COCO, predictions: COCO, names: Sequence[str], iou_type: str = "bbox", sigmas: Sequence[float] = ()
) -> Scored:
    """Matches predictions with truth by COCO's rules.

    Args:
        truth: Annotations.
        predictions: Results loaded against `truth`.
        names: Class names in the order of the category ids.
        iou_type: What overlaps: "bbox", "segm" or "keypoints".
        sigmas: Spread of each keypoint; COCO's when not given.
    """
    evaluation = matched(truth, predictions, iou_type, sigmas)
    evaluation.accumulate()
    arrays, params = evaluation.eval, evaluation.params
    curves = curves_of(params, arrays, names)
    return Scored(tuple(names), table(evaluation.metric_defs(), params, arrays["precision"], arrays["recall"]), curves)


def matched(
    truth: COCO,
    predictions: COCO,
    iou_type: str = "bbox",
    sigmas: Sequence[float] = (),
    classes: Sequence[int] | None = None,
) -> COCOeval:
    """An evaluation whose pictures are matched and whose numbers are not yet accumulated; see `score`.

    Args:
        truth: Annotations.
        predictions: Results.
        iou_type: What overlaps.
        sigmas: Spread of each keypoint.
        classes: Ids of the categories; all when not given.
    """
    from hotcoco import COCOeval

    evaluation = COCOeval(truth, predictions, iou_type)
    if sigmas:
        evaluation.params.kpt_oks_sigmas = list(sigmas)
    if classes is not None:
        evaluation.params.cat_ids = list(classes)
    evaluation.evaluate()
    return evaluation


def protocol(iou_type: str = "bbox", sigmas: Sequence[float] = ()) -> dict[str, Any]:
    """All that a reader needs in order to compare the numbers with another tool's; for arguments see `score`."""
    import hotcoco

    params = hotcoco.Params(iou_type)
    spread = {"sigmas": list(sigmas) or params.kpt_oks_sigmas} if iou_type == "keypoints" else {}
    return {
        "tool": f"hotcoco {hotcoco.__version__}",
        "reference": "pycocotools COCOeval",
        "iou_type": iou_type,
        "iou_thresholds": [round(threshold, 2) for threshold in params.iou_thrs],
        "recall_points": len(params.rec_thrs),
        "area_ranges": dict(zip(params.area_rng_lbl, params.area_rng)),
        "max_detections": params.max_dets,
        **spread,
        "crowd": "predictions left over inside a crowd region of their class count neither as hit nor as false alarm",
        "undefined": "NaN where there is no truth; means are over the classes that have truth",
    }


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
        self._pictures: dict[int | str, _Picture] = {}
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
        self._take({id: _Picture.of(answer, truth, self.iou_type).checked(len(self.names), id)})

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

    def _ordered(self) -> tuple[list[int | str], _Columns]:
        order = sorted(self._pictures, key=lambda id: (isinstance(id, str), id))
        return order, _Columns([self._pictures[id] for id in order])

    def _evaluation(self, pictures: _Columns) -> tuple[Iterable[list[dict[str, Any] | None]], list[dict[str, Any]]]:
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

    def _match(self, pictures: _Columns) -> Scored:
        if self.iou_type == "boundary":
            from densevision.metrics.boundary import score_boundaries

            return score_boundaries(pictures.pictures, self.names)
        truth = pictures.truth(self.names)
        return score(truth, pictures.predictions(truth), self.names, self.iou_type, self.sigmas)

    def _take(self, pictures: dict[int | str, _Picture]) -> None:
        if twice := self._pictures.keys() & pictures.keys():
            raise DataError("the same picture is judged twice", field="id", value=min(twice, key=str))
        self._pictures.update(pictures)
        self._scored = self._matches = None


class _Picture(NamedTuple):
    """One picture's arrays, copied so that no batch stays in memory for their sake."""

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    true_boxes: np.ndarray
    true_labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    masks: Sequence[dict[str, Any]] | None
    true_masks: Sequence[dict[str, Any]] | None
    keypoints: np.ndarray | None
    true_keypoints: np.ndarray | None

    @classmethod
    def of(cls, answer: Any, truth: Any, iou_type: str) -> _Picture:
        masks, points = iou_type in ("segm", "boundary"), iou_type == "keypoints"
        return cls(
            size=tuple(truth.size),
            boxes=np.array(answer.boxes).reshape(-1, 4),
            scores=np.array(answer.scores),
            labels=np.array(answer.labels, np.int32),
            true_boxes=np.array(truth.boxes).reshape(-1, 4),
            true_labels=np.array(truth.labels, np.int32),
            areas=np.array(truth.areas, np.float64),
            crowd=np.array(truth.crowd, bool),
            masks=list(answer.masks) if masks else None,
            true_masks=list(truth.masks) if masks else None,
            keypoints=np.array(answer.keypoints, np.float64) if points else None,
            true_keypoints=np.array(truth.keypoints, np.float64) if points else None,
        )

    def checked(self, classes: int, id: int | str) -> _Picture:
        for name, boxes, labels in (
            ("answer", self.boxes, self.labels),
            ("truth", self.true_boxes, self.true_labels),
        ):
            if not np.isfinite(boxes).all():
                raise DataError("a box is not finite", field=f"boxes of the {name} of {id}", value=boxes.tolist())
            if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
                mend = f"There are {classes} classes; labels count from 0."
                raise DataError(
                    "a label has no class", field=f"labels of the {name} of {id}", value=labels.tolist(), mend=mend
                )
        if not np.isfinite(self.scores).all():
            raise DataError("a score is not finite", field=f"scores of the answer of {id}", value=self.scores.tolist())
        return self


class _Columns:
    """All pictures as COCO's columns; picture n has the id n + 1, class k the id k + 1."""

    def __init__(self, pictures: Sequence[_Picture]):
        self.pictures = pictures

    def truth(self, names: Sequence[str]) -> COCO:
        from hotcoco import COCO

        sizes = enumerate((picture.size for picture in self.pictures), 1)
        objects = COCO.from_arrays(
            [{"id": number, "height": height, "width": width} for number, (height, width) in sizes],
            [{"id": number, "name": name} for number, name in enumerate(names, 1)],
            self._numbers("true_labels"),
            self._column("true_labels", np.int64) + 1,
            _xywh(self._column("true_boxes", np.float64).reshape(-1, 4)),
            area=self._column("areas", np.float64),
            iscrowd=self._column("crowd", bool),
            segmentation=self._masks("true_masks"),
        )
        if self._points("true_keypoints"):
            objects.update_anns(self._points("true_keypoints"))
        return objects

    def predictions(self, truth: COCO) -> COCO:
        boxes = _xywh(self._column("boxes", np.float64).reshape(-1, 4))
        others = (self._column("scores", np.float64), self._column("labels", np.float64) + 1)
        rows = np.column_stack([self._numbers("labels"), boxes, *others])
        masks = self._masks("masks")
        found = truth.load_res(rows, segmentation=masks)
        if masks:
            from hotcoco.mask import area

            # An array's rows get the areas of their boxes, where COCO's size ranges want those of the masks.
            found.update_anns(ids=np.arange(1, len(masks) + 1), area=area(masks))
        if points := self._points("keypoints"):
            found.update_anns([{**entry, "area": _extent(entry["keypoints"])} for entry in points])
        return found

    def _numbers(self, column: str) -> np.ndarray:
        counts = [len(getattr(picture, column)) for picture in self.pictures]
        return np.repeat(np.arange(1, len(counts) + 1), counts)

    def _column(self, name: str, dtype: type) -> np.ndarray:
        return np.concatenate(
            [np.zeros(0, dtype), *(getattr(picture, name).ravel() for picture in self.pictures)]
        ).astype(dtype)

    def _masks(self, name: str) -> list[dict[str, Any]] | None:
        masks: Iterable[Any] = [getattr(picture, name) for picture in self.pictures]
        return None if any(part is None for part in masks) else [mask for part in masks for mask in part]

    def _points(self, name: str) -> list[dict[str, Any]]:
        """The keypoints of all objects, as changes of annotations."""
        parts = [getattr(picture, name) for picture in self.pictures]
        rows = [points for part in parts if part is not None for points in part]
        return [
            {"id": number, "keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
            for number, points in enumerate(rows, 1)
        ]


def _extent(points: list[float]) -> float:
    """Area of the box around predicted keypoints, by which COCO sorts them."""
    x, y = points[::3], points[1::3]
    return (max(x) - min(x)) * (max(y) - min(y))


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
