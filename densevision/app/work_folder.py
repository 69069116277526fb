"""The temporary folder of the page: uploads, downloads and surfaces. Nothing outside it is served."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

__all__ = ["MAX_AGE_SECONDS", "WorkFolder"]

MAX_AGE_SECONDS = 6 * 3600
"""Age at which files are removed while the page runs."""


class WorkFolder:
    """A folder that is removed with the process, and whose subfolders are removed when they are old.

    Attributes:
        path: The folder.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="densevision-app-", ignore_cleanup_errors=True)
        self.path = Path(self._folder.name).resolve()

    def create(self) -> Path:
        """A new, empty subfolder; old ones are removed."""
        oldest = time.time() - MAX_AGE_SECONDS
        for folder in self.path.iterdir():
            if folder.is_dir() and folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self.path))
