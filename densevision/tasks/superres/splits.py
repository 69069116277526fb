"""The image files of a split. No torch here."""

from __future__ import annotations

from pathlib import Path

from densevision.datasets.image_pairs import ImagePairs, find_image_pairs
from densevision.datasets.shards.location import locate_dataset
from densevision.io.label_issues import LabelIssues
from densevision.tasks.superres.config import HELD_OUT, SuperresConfig

__all__ = ["find_pairs"]


def find_pairs(config: SuperresConfig, split: str, issues: LabelIssues) -> ImagePairs:
    """Finds the images of a split below `data.path`, as the config names its folders.

    Raises:
        DataError: There are no images, or the folders are ambiguous.
    """
    is_held_out = config.data.val == HELD_OUT
    source = "train" if is_held_out else split
    folders = getattr(config.data, source) or ()
    folders = (folders,) if isinstance(folders, str) else folders
    root = Path(locate_dataset(config.data))
    return find_image_pairs(root, source, folders, config.scale, issues, split if is_held_out else None)
