"""Options of the page. Imports neither torch nor gradio."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from densevision.config import Count
from densevision.serving.options import ListenOptions, is_loopback

__all__ = ["AppOptions"]


class AppOptions(ListenOptions):
    """Options of `densevision app`."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 7860
    """Port to listen on; 0 picks a free one."""
    token: str | None = None
    """Token that the page asks for before it shows anything; the environment variable keeps it out of the list of
    processes."""
    max_frames: Count = 300
    """Maximum number of frames of a video that are predicted."""

    @property
    def allows_paths(self) -> bool:
        """Whether paths and names may be typed into the page: by whoever sits at this machine, and by nobody else.

        A token means that others use the page, perhaps through a proxy that listens on this machine.
        """
        return is_loopback(self.host) and self.token is None
