"""Files of predictions: each at its image's path below the source, none written over another; one per sequence."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from densevision.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from densevision.draw.trails import Trails
    from densevision.inference.counting import CountWriter, ObjectCounter
    from densevision.io.video import VideoWriter
    from densevision.results import Detections, Result
    from densevision.results.track_files import TrackWriter

__all__ = ["PredictionWriter"]

VIDEO = "mp4"
"""The format that is one file for all predictions."""
TRACKS = {"mot": ".txt", "cocovid": ".json"}
"""Formats that are one file for each sequence of tracked objects -> their suffixes."""
COUNTS = "counts.csv"
DEFAULT_FRAME_RATE = 25.0
"""Frames per second of a video whose source does not state them."""
_PLAIN_FORMATS = frozenset({"png", "json", "npy"})
"""Formats of single predictions that no annotation program has."""


class PredictionWriter:
    """Context manager that writes predictions as they come.

    Args:
        sources: What is predicted, as it was typed.
        folder: Output folder.
        formats: Suffixes: each a file for every prediction, except `VIDEO` and `TRACKS`.
        is_tracked: Whether the objects have identities.
        counter: Counts what crosses lines and is in zones, into `COUNTS`; its regions are drawn on the video.

    Attributes:
        fps: Frames per second of the source, if it states them; to be set before the first prediction is written.
        files: Files of whole sequences, which are complete when the context ends.

    Raises:
        UsageError: A video is requested for something else, or would overwrite the one that is predicted; tracks are
            requested for objects without identities; or a format is that of a dataset, which `autolabel` writes.
    """

    def __init__(
        self,
        sources: Sequence[str],
        folder: Path,
        formats: Sequence[str],
        is_tracked: bool = False,
        counter: ObjectCounter | None = None,
    ):
        self.folder, self.roots = folder, [_find_root(source) for source in sources]
        self.formats = [suffix.lstrip(".") for suffix in formats]
        _refuse_datasets(self.formats)
        self.fps: float | None = None
        self.files: list[Path] = []
        self._name = _name_source(sources[0])
        self._has_video = VIDEO in self.formats
        if self._has_video:
            self._check_video(sources)
        for name in TRACKS.keys() & set(self.formats):
            if not is_tracked:
                hint = "Add --track bytetrack."
                raise UsageError("has no effect on objects without identities", field="--save", value=name, hint=hint)
        self.counter = counter
        self._written: dict[Path, str] = {}
        self._stack, self._sequence = ExitStack(), ExitStack()
        self._video: VideoWriter | None = None
        self._counts: CountWriter | None = None
        self._tracks: dict[str, TrackWriter] = {}
        self._sequence_stem: Path | None = None
        self._trails: Trails | None = None

    def __enter__(self) -> PredictionWriter:
        if self.counter is not None:
            from densevision.inference.counting import CountWriter

            self._counts = self._stack.enter_context(CountWriter(self.folder / COUNTS, self.counter))
            self.files.append(self.folder / COUNTS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._sequence.__exit__(kind, error, trace)
        finally:
            self._stack.__exit__(kind, error, trace)

    def write(self, result: Result, name: str) -> list[Path]:
        """Writes one prediction in every format.

        Args:
            result: The prediction.
            name: Path of its image, or another name.

        Returns:
            The files.

        Raises:
            UsageError: Another prediction was written there, or the result has no such format.
        """
        stem = _relative_stem(Path(name), self.roots)
        if stem in self._written:
            problem = f"would overwrite the prediction of {self._written[stem]}"
            hint = "Predict them separately, each into its own --out."
            raise UsageError(problem, file=name, field="--out", hint=hint)
        self._written[stem] = name
        own_formats = [suffix for suffix in self.formats if suffix != VIDEO and suffix not in TRACKS]
        files = [self.folder / f"{stem}.{suffix}" for suffix in own_formats]
        writers = [result.get_writer(file) for file in files]  # all formats are known before any is written
        for file, write in zip(files, writers):
            write(file)
        self._write_sequence(result, Path(name))
        return files

    def _write_sequence(self, result: Result, name: Path) -> None:
        """Adds a prediction to the files of its sequence."""
        if TRACKS.keys() & set(self.formats):
            self._write_tracks(result, name)  # type: ignore[arg-type]
        if self._counts is not None:
            self._counts.update(result)  # type: ignore[arg-type]
        if self._has_video:
            if self._video is None:
                self._video = self._open_video()
            self._video.write(self._draw_frame(result))

    def _draw_frame(self, result: Result) -> np.ndarray:
        from densevision.draw.trails import Trails
        from densevision.results import Detections

        frame = result.draw_frame()
        if isinstance(result, Detections) and result.track_ids is not None:
            self._trails = self._trails or Trails()
            frame = self._trails.draw(frame, result.boxes, result.track_ids)
        return frame if self.counter is None else self.counter.draw(frame)

    def _write_tracks(self, result: Detections, name: Path) -> None:
        from densevision.results.track_files import CocoVidWriter, MotWriter

        stem = self._name_sequence(result, name)
        if stem != self._sequence_stem:
            self._sequence.close()
            self._sequence, self._sequence_stem = ExitStack(), stem
            for format_name in TRACKS.keys() & set(self.formats):
                file = self.folder / f"{stem}{TRACKS[format_name]}"
                if file in self.files:
                    raise UsageError("two sequences of one name", file=file, hint="Predict them one after the other.")
                is_mot = format_name == "mot"
                track_file = MotWriter(file) if is_mot else CocoVidWriter(file, stem.as_posix(), self.fps)
                self._tracks[format_name] = self._sequence.enter_context(track_file)
                self.files.append(file)
        for writer in self._tracks.values():
            writer.write(result)

    def _name_sequence(self, result: Result, name: Path) -> Path:
        """The name of a video, or of a folder of frames below the source; MOTChallenge's `NAME/img1` is NAME."""
        if not isinstance(result.source, (str, Path)):
            return Path(self._name)
        folder = name.parent.parent if name.parent.name == "img1" else name.parent
        stem = _relative_stem(folder / "frame", self.roots).parent
        return stem if stem.name else Path(folder.resolve().name or "frames")

    def _open_video(self) -> VideoWriter:
        from densevision.io.video import VideoWriter

        path = self.folder / f"{self._name}.{VIDEO}"
        self.files.append(path)
        return self._stack.enter_context(VideoWriter(path, self.fps or DEFAULT_FRAME_RATE))

    def _check_video(self, sources: Sequence[str]) -> None:
        from densevision.io.stream import is_stream
        from densevision.io.video import is_video

        if len(sources) > 1 or not (is_video(sources[0]) or is_stream(sources[0])):
            hint = "Leave it out, or give one video."
            raise UsageError("only the predictions for a video make one", field="--save", value=VIDEO, hint=hint)
        path = self.folder / f"{self._name}.{VIDEO}"
        if path.exists() and Path(sources[0]).exists() and path.samefile(sources[0]):
            raise UsageError("would be overwritten", file=path, field="--out", hint="Name another folder.")


def _refuse_datasets(formats: Sequence[str]) -> None:
    """Refuses formats of annotation programs, which hold many images in a file.

    Raises:
        UsageError: One of the formats is such a one.
    """
    unknown = [name for name in formats if name not in _PLAIN_FORMATS]
    if not unknown:  # importing the writers takes a while
        return
    from densevision.datasets.conversion import OBJECT_WRITERS

    for name in unknown:
        if name in OBJECT_WRITERS:
            problem = "is a format of datasets, not of single predictions"
            hint = f"Write labels that people correct: densevision TASK autolabel SOURCE OUT --to {name}"
            raise UsageError(problem, field="--save", value=name, hint=hint)


def _find_root(source: str) -> Path:
    """The folder below which a source's images lie: itself, or the part before the first wildcard or the file name."""
    path = Path(source)
    if path.exists():
        return path if path.is_dir() else path.parent
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))


def _name_source(source: str) -> str:
    """The name of the files of a video or stream.

    >>> [_name_source(source) for source in ("a/clip.mp4", "webcam:0", "rtsp://me:secret@host:554/main?id=1")]
    ['clip', 'webcam-0', 'host-554-main']
    """
    address = re.fullmatch(r"(?i)[a-z]+://(?:[^/]*@)?([^?#]*).*", source)
    if address is None:
        return re.sub(r"[:*?\"<>|]", "-", Path(source).stem or Path(source).name) or "frames"
    return re.sub(r"[^A-Za-z0-9.]+", "-", address[1].removesuffix(Path(address[1]).suffix)).strip("-.") or "stream"


def _relative_stem(path: Path, roots: list[Path]) -> Path:
    """An image's path below the outermost root, without suffix: where its prediction goes in the output folder."""
    relative = [path.relative_to(root) for root in roots if path.is_relative_to(root)]
    inside = [candidate for candidate in relative if ".." not in candidate.parts]
    return max(inside, key=lambda candidate: len(candidate.parts), default=Path(path.name)).with_suffix("")
