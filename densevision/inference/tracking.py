"""Identities of objects across the frames of a sequence, by the trackers of the package `trackers`.

Sources: SORT, Bewley et al. 2016; ByteTrack, Zhang et al. 2022; OC-SORT, Cao et al. 2023; BoT-SORT, Aharon et al. 2022.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from densevision.errors import UsageError, did_you_mean
from densevision.io.image import to_display
from densevision.optional_packages import import_optional
from densevision.results import Detections
from densevision.sample import Sample

__all__ = ["TRACKERS", "Tracker", "follow_objects"]

D = TypeVar("D", bound=Detections)

TRACKERS = {
    "bytetrack": "ByteTrackTracker",
    "sort": "SORTTracker",
    "ocsort": "OCSORTTracker",
    "botsort": "BoTSORTTracker",
}
"""Name of a tracker -> its class in the package `trackers`."""

DEFAULT_FRAME_RATE = 30.0
"""Frames per second of a sequence that does not state its rate, such as a folder of images."""


class Tracker:
    """Gives the objects of one sequence identities, frame by frame.

    Boxes are associated whatever their classes are. Identities are positive and are not used again.

    Args:
        name: A name in `TRACKERS`.
        options: Numbers of the tracker's own, such as `lost_track_buffer`, by their names in the package.
        frame_rate: Frames per second of the sequence, by which times are measured.

    Raises:
        UsageError: There is no such tracker or option, a value is out of range, or the package is not installed.

    Example:
        >>> tracker = Tracker("bytetrack")  # doctest: +SKIP
        >>> tracked = [tracker.update(result) for result in results]  # doctest: +SKIP
    """

    def __init__(
        self, name: str = "bytetrack", options: Mapping[str, Any] | None = None, frame_rate: float | None = None
    ):
        if name not in TRACKERS:
            raise UsageError("no such tracker", field="track", value=name, hint=did_you_mean(name, TRACKERS))
        tracker_class = getattr(import_optional("trackers", "tracking", "track"), TRACKERS[name])
        given = _check_options(tracker_class, options or {})
        self.name = name
        try:
            self._tracker = tracker_class(**given, frame_rate=frame_rate or DEFAULT_FRAME_RATE)
        except ValueError as error:
            raise UsageError(f"{name}: {error}", field="track_options", value=given) from None

    def update(self, result: D, image: np.ndarray | None = None, time: float | None = None) -> D:
        """The next frame's objects with identities; -1 for those that the tracker does not follow yet, or not at all.

        Args:
            result: The objects of the frame, in any order.
            image: (H, W, 3) uint8 RGB; botsort estimates the motion of the camera from it, the others need none.
            time: Seconds since any moment, where frames are not evenly spaced; for all frames or for none.
        """
        supervision = import_optional("supervision", "tracking", "track")
        rows = np.arange(len(result))
        objects = supervision.Detections(
            xyxy=result.boxes.astype(np.float64), confidence=result.scores.astype(np.float64), class_id=rows
        )
        frame = image[..., ::-1] if image is not None and self.name == "botsort" else None
        tracked = self._tracker.update(objects, frame=frame, timestamp=time)
        ids = np.full(len(result), -1, np.int64)
        if len(tracked):  # in the tracker's order, and perhaps without some of them; rows travel as classes
            ids[tracked.class_id] = np.where(tracked.tracker_id >= 0, tracked.tracker_id + 1, -1)
        return replace(result, track_ids=ids)


def follow_objects(
    pairs: Iterator[tuple[Sample, Any]], name: str, options: Mapping[str, Any], frame_rate: float | None
) -> Iterator[tuple[Sample, Any]]:
    """Samples and their results with identities; each folder of images is a sequence of its own.

    Raises:
        UsageError: See `Tracker`; raised at once, before the first pair is read.
    """
    return _follow(pairs, Tracker(name, options, frame_rate), lambda: Tracker(name, options, frame_rate))


def _follow(pairs: Iterator[tuple[Sample, Any]], tracker: Tracker, create: Any) -> Iterator[tuple[Sample, Any]]:
    folder: str | None = None
    for sample, result in pairs:
        own_folder = os.path.dirname(sample.file)
        if folder is not None and own_folder != folder:
            tracker = create()
        folder = own_folder
        image = to_display(next(iter(sample.images.values()))) if tracker.name == "botsort" else None
        yield sample, tracker.update(result, image, sample.time)


def _check_options(tracker_class: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, which must be numbers that the tracker's constructor takes.

    Raises:
        UsageError: One is unknown, or of another type.
    """
    parameters = inspect.signature(tracker_class.__init__).parameters  # type: ignore[misc]
    known = {name: item.default for name, item in parameters.items() if isinstance(item.default, (bool, int, float))}
    del known["frame_rate"]  # that of the source
    for name, value in options.items():
        if name not in known:
            raise UsageError(
                "no such option of this tracker", field=f"track_options.{name}", hint=did_you_mean(name, known)
            )
        kind = type(known[name])
        if not (type(value) is kind or (kind is float and type(value) is int)):
            problem = f"must be {'true or false' if kind is bool else 'a number'}, such as {known[name]}"
            raise UsageError(problem, field=f"track_options.{name}", value=value)
    return dict(options)
