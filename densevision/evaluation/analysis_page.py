"""What every analysis of evaluations writes: one JSON file, and one page that shows it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from densevision.draw.html_page import HTMLPage
from densevision.evaluation.provenance import add_versions
from densevision.io.json_writer import write_json

__all__ = ["AnalysisPage"]


class AnalysisPage(ABC):
    """An analysis that is written as JSON and as a page."""

    file_name: ClassVar[str]
    """Name of the JSON file."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Title of the page."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite are None."""

    @abstractmethod
    def fill_page(self, page: HTMLPage, out: Path) -> None:
        """Adds the content of the page; plots are written into the folder."""

    def write(self, out: Path, command: str = "") -> Path:
        """Writes the JSON file, plots and the page.

        Args:
            out: The folder.
            command: The command that reproduces the page.

        Returns:
            Path of the page.
        """
        write_json(out / self.file_name, self.to_dict())
        page = HTMLPage(self.title)
        self.fill_page(page, out)
        add_versions(page, command)
        return page.write(out / "index.html")
