"""Files of tracked objects: MOTChallenge's text, and COCO json of videos; written frame by frame.

Sources: MOT16, Milan et al. 2016, section 3 (text); TAO, Dave et al. 2020 (json).
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from densevision.errors import UsageError
from densevision.io.atomic_write import atomic_write
from densevision.results.detections import Detections

__all__ = ["CocoVidWriter", "MotWriter", "TrackWriter"]


class TrackWriter:
    """Context manager that writes the tracked objects of a sequence, atomically; objects without identity are left out.

    Args:
        path: The file.

    Attributes:
        frames: Number of frames written so far.
    """

    def __init__(self, path: str | Path):
        self.path, self.frames = Path(path), 0
        self._stack = ExitStack()

    def __enter__(self) -> TrackWriter:
        self._temporary = self._stack.enter_context(atomic_write(self.path))
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._finish(is_complete=kind is None)
        except BaseException as problem:
            self._stack.__exit__(type(problem), problem, problem.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def write(self, result: Detections) -> None:
        """Adds the objects of the next frame.

        Raises:
            UsageError: The objects were not tracked.
        """
        if result.track_ids is None:
            hint = "Predict with track, or let a Tracker give the objects identities."
            raise UsageError("the objects have no identities", file=self.path, hint=hint)
        self.frames += 1
        self._write(result[result.track_ids >= 0])

    def _open(self) -> None:
        """Opens the temporary file."""
        raise NotImplementedError

    def _write(self, tracked: Detections) -> None:
        raise NotImplementedError

    def _finish(self, is_complete: bool) -> None:
        """Closes the temporary file; it is kept if it is complete."""
        raise NotImplementedError


class MotWriter(TrackWriter):
    """Writes MOTChallenge's text of results: frame, id, left, top, width, height, score, -1, -1, -1.

    Frames and identities count from 1, pixels from 0. Classes are not part of this format.
    """

    def _open(self) -> None:
        self._stream = open(self._temporary, "w", encoding="ascii", newline="\n")  # noqa: SIM115

    def _write(self, tracked: Detections) -> None:
        for track_id, entry in zip(_get_ids(tracked), tracked.to_coco()):
            numbers = ",".join(f"{value:.2f}" for value in entry["bbox"])
            self._stream.write(f"{self.frames},{track_id},{numbers},{entry['score']:.4f},-1,-1,-1\n")

    def _finish(self, is_complete: bool) -> None:
        self._stream.close()


class CocoVidWriter(TrackWriter):
    """Writes COCO json of a video: `videos`, `images`, `tracks`, `annotations` with `track_id`, and `categories`.

    Args:
        path: The file.
        name: Name of the video.
        fps: Frames per second, if known.
    """

    def __init__(self, path: str | Path, name: str, fps: float | None = None):
        super().__init__(path)
        self.name, self.fps = name, fps
        self._tracks: dict[int, int] = {}
        self._categories: list[dict[str, Any]] = []
        self._video: dict[str, Any] = {"id": 1, "name": name} | ({} if fps is None else {"fps": fps})
        self._annotation_count = 0

    def _open(self) -> None:
        # The two lists that grow with the video wait in files, not in memory.
        files = [self._stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in "12"]  # noqa: SIM115
        self._images, self._annotations = files

    def _write(self, tracked: Detections) -> None:
        height, width = tracked.size
        if self.frames == 1:
            self._video |= {"width": width, "height": height}
            ids = tracked.category_ids or range(1, len(tracked.names) + 1)
            self._categories = [{"id": int(own_id), "name": name} for own_id, name in zip(ids, tracked.names)]
        is_file = isinstance(tracked.source, (str, Path))
        file = Path(tracked.source).name if is_file else f"{self.frames:06d}"
        image = {"id": self.frames, "video_id": 1, "frame_id": self.frames - 1, "file_name": f"{self.name}/{file}"}
        _append(self._images, {**image, "width": width, "height": height}, self.frames == 1)
        for track_id, entry in zip(_get_ids(tracked), tracked.to_coco(self.frames)):
            self._tracks.setdefault(track_id, entry["category_id"])
            area = entry["bbox"][2] * entry["bbox"][3]
            own = {"id": self._annotation_count + 1, "video_id": 1, "track_id": track_id, "area": area, "iscrowd": 0}
            _append(self._annotations, {**own, **entry}, self._annotation_count == 0)
            self._annotation_count += 1

    def _finish(self, is_complete: bool) -> None:
        if not is_complete:
            return
        tracks = [{"id": own_id, "category_id": label, "video_id": 1} for own_id, label in self._tracks.items()]
        head = {"videos": [self._video], "categories": self._categories, "tracks": tracks}
        with open(self._temporary, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(head, ensure_ascii=False)[:-1])
            for name, part in (("images", self._images), ("annotations", self._annotations)):
                stream.write(f', "{name}": [')
                part.seek(0)
                while text := part.read(1 << 20):
                    stream.write(text)
                stream.write("]")
            stream.write("}\n")


def _append(stream: IO[str], entry: dict[str, Any], is_first: bool) -> None:
    stream.write(("" if is_first else ",\n") + json.dumps(entry, ensure_ascii=False, allow_nan=False))


def _get_ids(tracked: Detections) -> list[int]:
    return [] if tracked.track_ids is None else tracked.track_ids.tolist()
