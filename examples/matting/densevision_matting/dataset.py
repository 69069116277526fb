"""Samples of matting: folders of images and mattes, or procedural scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densevision.datasets.scene_samples import SceneSamples
from densevision.datasets.scenes import Scene, Scenes
from densevision.datasets.splits import SPLIT_NAMES, parse_scene_splits
from densevision.errors import DataError
from densevision.io.image import read_image, to_rgb
from densevision.sample import Sample, SampleSet
from densevision_matting.config import MattingConfig
from densevision_matting.result import Matte

__all__ = ["SCENE_SIZE", "FolderSamples", "SceneMattes", "list_pairs", "open_split"]

SCENE_SIZE = (96, 128)


class SceneMattes(SceneSamples):
    """Procedural scenes, whose objects are the foreground."""

    def make_sample(self, index: int, scene: Scene) -> Sample:
        """A scene's image with its matte."""
        alpha = (scene.instances > 0).astype(np.float32)
        return Sample({"image": scene.image}, Matte(size=scene.size, alpha=alpha), scene.name, scene.name)


class FolderSamples:
    """Images with mattes of the same names."""

    notes: Sequence[str] = ()

    def __init__(self, pairs: Sequence[tuple[Path, Path]]):
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        image_file, matte_file = self.pairs[index]
        image, matte = to_rgb(read_image(image_file)), Matte.read(matte_file)
        if matte.size != image.shape[:2]:
            hint = "Save the matte at the size of its image."
            raise DataError("the matte has another size than its image", file=matte_file, value=matte.size, hint=hint)
        return Sample({"image": image}, matte, str(image_file), str(image_file))


def open_split(config: MattingConfig, split: str) -> SampleSet:
    """The samples of "train" or "val".

    Raises:
        DataError: There is no such folder, or an image lacks its matte.
    """
    path = config.data.path or "scenes"
    scenes = parse_scene_splits(path)
    if scenes is not None:
        return SceneMattes(Scenes.of(scenes[split], SCENE_SIZE))
    return FolderSamples(list_pairs(Path(path), split))


def list_pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """The image and the matte file of every sample of a split, sorted by name."""
    folder = next((root / "images" / name for name in SPLIT_NAMES[split] if (root / "images" / name).is_dir()), None)
    if folder is None:
        hint = "Put images below images/train and images/val, mattes of the same names below mattes/ likewise."
        raise DataError(f"there is no {split} split", file=root, hint=hint)
    mattes = {file.stem: file for file in (root / "mattes" / folder.name).glob("*")}
    pairs = []
    for file in sorted(folder.glob("*")):
        if file.stem not in mattes:
            raise DataError("there is no matte for this image", file=file, hint="Add it, or remove the image.")
        pairs.append((file, mattes[file.stem]))
    return pairs
