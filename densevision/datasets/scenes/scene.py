"""Scenes and their ground truth, computed on first access."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from densevision.cached_property import cached_property
from densevision.datasets.scenes.correspondence import compute_displacement
from densevision.datasets.scenes.render import Frame, render
from densevision.datasets.scenes.room import STUFF, Camera
from densevision.datasets.scenes.shapes import CLASSES
from densevision.datasets.scenes.texture import Materials
from densevision.datasets.scenes.world import LEFT, NEXT, RIGHT, World, build_world
from densevision.datasets.splits import SceneSource
from densevision.errors import UsageError

__all__ = ["SEMANTIC_CLASSES", "Scene", "Scenes"]

SEMANTIC_CLASSES = (*STUFF, *CLASSES)
"""Names of the semantic labels: surfaces of the room, then objects."""

GRAIN_SIDE = 768


@dataclass(frozen=True)
class Scene:
    """One procedural scene: images and exact ground truth.

    Coordinates are pixels, (0, 0) is the top-left corner of the top-left pixel. Ground truth is exact at pixel centers.

    Attributes:
        world: The content of the scene.
        key: (seed, number), the seed of the sensor noise.
    """

    world: World
    key: tuple[int, int]

    @property
    def name(self) -> str:
        """Name of the scene, used as the file of its samples."""
        return _name_scene(*self.key)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.world.camera.size

    @property
    def focal(self) -> float:
        """Focal length in pixels; the principal point is the image center."""
        return self.world.camera.focal

    @property
    def baseline(self) -> float:
        """Distance between the left and the right camera in meters."""
        return self.world.camera.baseline

    @cached_property
    def image(self) -> np.ndarray:
        """First frame of the left camera, (H, W, 3) uint8 RGB."""
        return self._expose(self._left, LEFT)

    @cached_property
    def right(self) -> np.ndarray:
        """First frame of the right camera, rectified, (H, W, 3) uint8 RGB."""
        return self._expose(self._right, RIGHT)

    @cached_property
    def next(self) -> np.ndarray:
        """Second frame of the left camera, (H, W, 3) uint8 RGB."""
        return self._expose(self._next, NEXT)

    @property
    def clean(self) -> np.ndarray:
        """The first frame without blur and noise, (H, W, 3) uint8 RGB."""
        return self._left.image

    def degrade(self, scale: int = 1) -> np.ndarray:
        """Blurs, downscales and compresses the clean image, and adds noise.

        Args:
            scale: Downscaling factor; 1 keeps the size.

        Returns:
            (H // scale, W // scale, 3) uint8 RGB, at least one pixel; the clean image is cropped at the right and
            bottom to a multiple of the scale.
        """
        rng = np.random.default_rng((*self.key, 2, scale))
        height, width = (max(1, side // scale) for side in self.size)
        blur = rng.uniform(0.3, 0.9) * max(scale, 2)
        image = cv2.GaussianBlur(self.clean[: height * scale, : width * scale], (0, 0), blur)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        image = _add_grain(image, rng, rng.uniform(0, 6))
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))]
        encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)

    @cached_property
    def instances(self) -> np.ndarray:
        """(H, W) uint8: i + 1 where object i is visible, 0 elsewhere."""
        table = np.zeros(256, np.uint8)
        table[self._visible] = np.arange(1, len(self._visible) + 1)
        return table[self._left.index]

    @cached_property
    def masks(self) -> np.ndarray:
        """Visible parts of the N >= 0 objects, (N, H, W) bool, without overlap."""
        return self._left.index == self._visible[:, None, None]

    @property
    def object_numbers(self) -> np.ndarray:
        """(N,) int64, the place of each visible object among all objects of the world, from far to near."""
        return self._visible.astype(np.int64) - self.world.planes

    @cached_property
    def boxes(self) -> np.ndarray:
        """Tight boxes of the masks, (N, 4) float32 xyxy."""
        corners = np.array([cv2.boundingRect(mask.view(np.uint8)) for mask in self.masks], np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return corners

    @cached_property
    def labels(self) -> np.ndarray:
        """Classes of the objects, (N,) int64 indices into CLASSES."""
        return self.world.labels[self._visible].astype(np.int64) - len(STUFF)

    @cached_property
    def semantic(self) -> np.ndarray:
        """(H, W) uint8 indices into SEMANTIC_CLASSES."""
        return self.world.labels[self._left.index]

    @cached_property
    def depth(self) -> np.ndarray:
        """Distance along the optical axis, (H, W) float32 meters."""
        return 1 / self._left.inverse

    @cached_property
    def disparity(self) -> np.ndarray:
        """focal * baseline / depth, (H, W) float32 pixels: x in the left image is x - disparity in the right one."""
        return np.float32(self.focal * self.baseline) / self.depth

    @property
    def disparity_valid(self) -> np.ndarray:
        """Whether a pixel of the left image is visible in the right one, (H, W) bool."""
        return ~self._to_right[1]

    @property
    def flow(self) -> np.ndarray:
        """Motion from the first to the second frame, (2, H, W) float32: x and y in pixels."""
        return self._to_next[0]

    @property
    def occlusion(self) -> np.ndarray:
        """Whether a pixel of the first frame is occluded or outside in the second one, (H, W) bool."""
        return self._to_next[1]

    @cached_property
    def _left(self) -> Frame:
        return render(self.world, LEFT)

    @cached_property
    def _right(self) -> Frame:
        return render(self.world, RIGHT)

    @cached_property
    def _next(self) -> Frame:
        return render(self.world, NEXT)

    @cached_property
    def _to_right(self) -> tuple[np.ndarray, np.ndarray]:
        return compute_displacement(self.world, LEFT, self._left, RIGHT, self._right)

    @cached_property
    def _to_next(self) -> tuple[np.ndarray, np.ndarray]:
        return compute_displacement(self.world, LEFT, self._left, NEXT, self._next)

    @cached_property
    def _visible(self) -> np.ndarray:
        """Indices of the surfaces that are visible objects."""
        counts = cv2.calcHist([self._left.index], [0], None, [256], [0, 256])
        return np.flatnonzero(counts[self.world.planes :]).astype(np.uint8) + np.uint8(self.world.planes)

    def _expose(self, frame: Frame, view: int) -> np.ndarray:
        """Adds lens blur and sensor noise."""
        blurred = cv2.GaussianBlur(frame.image, (0, 0), self.world.blur)
        return _add_grain(blurred, np.random.default_rng((*self.key, 1, view)), self.world.noise)


class Scenes:
    """A sequence of scenes; each depends only on the seed and its number.

    Args:
        count: Number of scenes.
        seed: Seed of the sequence.
        size: (height, width) of the images.
        photos: A folder of images that are used as materials besides the procedural ones.
        first: Number of the first scene; sequences of one seed without common numbers share no scene.

    Raises:
        UsageError: A number is negative, or the size is not positive.
        DataError: The folder does not exist, contains no image, or (when a scene is rendered) one that cannot be read.
    """

    classes = CLASSES
    semantic_classes = SEMANTIC_CLASSES

    def __init__(
        self, count: int, seed: int = 0, size: tuple[int, int] = (320, 320), photos: str | None = None, first: int = 0
    ):
        for field, value, minimum in (
            ("count", count, 0),
            ("seed", seed, 0),
            ("first", first, 0),
            ("size", min(size), 1),
        ):
            if value < minimum:
                raise UsageError("is too small for scenes", field=field, value=value, hint=f"Give at least {minimum}.")
        self.count, self.seed, self.size, self.first = count, seed, (int(size[0]), int(size[1])), first
        self.materials = Materials.of(photos)

    @classmethod
    def of(cls, source: SceneSource, size: tuple[int, int]) -> Scenes:
        """Creates the scenes of a parsed dataset name with a size (height, width)."""
        return cls(source.count, source.seed, size, first=source.first)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        if not -self.count <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return self._scene(self.first + index % self.count)

    def name(self, index: int) -> str:
        """Returns the name of a scene without building it."""
        return _name_scene(self.seed, self.first + index % self.count)

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(self.count))

    def get_for_epoch(self, index: int, epoch: int) -> Scene:
        """Returns the scene at an index in an epoch; every epoch has different scenes, so none is seen twice."""
        return self._scene(self.first + epoch * self.count + index)

    def _scene(self, number: int) -> Scene:
        key = (self.seed, number)
        return Scene(build_world(np.random.default_rng((*key, 0)), Camera(self.size), self.materials), key)


def _name_scene(seed: int, number: int) -> str:
    return f"scene {seed}:{number}"


@cache
def _build_grain() -> np.ndarray:
    """Builds a noise field with mean 128 and deviation 32, (GRAIN_SIDE, GRAIN_SIDE, 3) uint8."""
    noise = np.random.default_rng(GRAIN_SIDE).standard_normal((GRAIN_SIDE, GRAIN_SIDE, 3), np.float32) * 32
    return (noise.clip(-127, 127).astype(np.int8) + np.int16(128)).astype(np.uint8)


def _add_grain(image: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Adds noise: a random window of a field that is generated once, since generating noise is slow."""
    height, width = image.shape[:2]
    down, right = max(0, height - GRAIN_SIDE), max(0, width - GRAIN_SIDE)
    grain = cv2.copyMakeBorder(_build_grain(), 0, down, 0, right, cv2.BORDER_WRAP) if down or right else _build_grain()
    top, left = (int(rng.integers(total - side + 1)) for total, side in zip(grain.shape, (height, width)))
    window = grain[top : top + height, left : left + width]
    # OpenCV adds arrays of the same type five times as fast.
    return cv2.addWeighted(image, 1, window, deviation / 32, -4 * deviation)
