"""Options of `predict` for sequences: videos, live streams, and folders of frames. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from densevision.config import Config, Count, Positive

__all__ = ["DEFAULT_TIMEOUT", "SequenceOptions", "split_sequence_options"]

DEFAULT_TIMEOUT = 10.0
"""Seconds after which a stream that sends nothing has failed."""


class SequenceOptions(Config):
    """Options of `predict` that only sequences have."""

    track: Literal["bytetrack", "sort", "ocsort", "botsort"] | None = None
    """Follow objects from frame to frame with this tracker, which gives each an identity; needs the extra track."""
    track_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the tracker, such as `{lost_track_buffer: 60}`."""
    timeout: Positive | None = None
    """Seconds to wait for a stream to open, and for its next frame, 10 by default; with engine=ray, to read an image,
    60 by default."""
    reconnect: Annotated[int, Field(ge=0)] = 0
    """Attempts in a row to open a stream again whose connection was lost."""
    max_frames: Count | None = None
    """Stop after this many frames of a video or stream."""


def split_sequence_options(options: Mapping[str, Any]) -> tuple[SequenceOptions, dict[str, Any]]:
    """The options of sequences among those of `predict`, and the others; None means not given.

    Raises:
        UsageError: An option of sequences has a wrong type or value.
    """
    names = SequenceOptions.model_fields
    own = {name: value for name, value in options.items() if name in names and value is not None}
    return SequenceOptions.from_dict(own), {name: value for name, value in options.items() if name not in names}
