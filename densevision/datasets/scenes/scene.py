"""Scenes with their truths, each computed when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import cv2
import numpy as np

from densevision.datasets.scenes.correspondence import follow
from densevision.datasets.scenes.render import Frame, render
from densevision.datasets.scenes.room import STUFF, Camera
from densevision.datasets.scenes.shapes import CLASSES
from densevision.datasets.scenes.texture import Materials
from densevision.datasets.scenes.world import LEFT, NEXT, RIGHT, World, build_world
from densevision.datasets.splits import SceneSource
from densevision.errors import UsageError

SEMANTIC_CLASSES = (*STUFF, *CLASSES)
"""Names of the semantic labels: the room's, then the things'."""

_GRAIN = 768


@dataclass(frozen=True)
class Scene:
    """One procedural scene: images, and what is exactly true of them.

    Coordinates are pixels, (0, 0) the top-left corner of the top-left pixel. Truths hold at the pixels' centers.

    Attributes:
        world: What there is to see.
        key: (seed, number), which the sensor's noise follows.
    """

    world: World
    key: tuple[int, int]

    @property
    def name(self) -> str:
        """What samples of it say where they come from."""
        seed, number = self.key
        return f"scene {seed}:{number}"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.world.camera.size

    @property
    def focal(self) -> float:
        """Focal length in pixels; the principal point is the image's middle."""
        return self.world.camera.focal

    @property
    def baseline(self) -> float:
        """Distance between the left and the right camera, in meters."""
        return self.world.camera.baseline

    @cached_property
    def image(self) -> np.ndarray:
        """The left camera's first frame, (H, W, 3) uint8 RGB."""
        return self._exposed(self._left, LEFT)

    @cached_property
    def right(self) -> np.ndarray:
        """The right camera's first frame, rectified, (H, W, 3) uint8 RGB."""
        return self._exposed(self._right, RIGHT)

    @cached_property
    def next(self) -> np.ndarray:
        """The left camera's second frame, (H, W, 3) uint8 RGB."""
        return self._exposed(self._next, NEXT)

    @property
    def clean(self) -> np.ndarray:
        """The first frame before lens and sensor, (H, W, 3) uint8 RGB."""
        return self._left.image

    def degraded(self, scale: int = 1) -> np.ndarray:
        """The clean image blurred, made smaller, noisy, and compressed.

        Args:
            scale: How many times smaller; 1 keeps the size.

        Returns:
            (H // scale, W // scale, 3) uint8 RGB, at least one pixel; it shows the top-left part of the clean image
            that the scale divides.
        """
        rng = np.random.default_rng((*self.key, 2, scale))
        height, width = (max(1, side // scale) for side in self.size)
        blur = rng.uniform(0.3, 0.9) * max(scale, 2)
        image = cv2.GaussianBlur(self.clean[: height * scale, : width * scale], (0, 0), blur)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        image = _grained(image, rng, rng.uniform(0, 6))
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))]
        encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
        return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    @cached_property
    def instances(self) -> np.ndarray:
        """(H, W) uint8: i + 1 where object i is seen, 0 elsewhere."""
        table = np.zeros(256, np.uint8)
        table[self._seen] = np.arange(1, len(self._seen) + 1)
        return table[self._left.index]

    @cached_property
    def masks(self) -> np.ndarray:
        """The visible part of each object, (N, H, W) bool; N is at least 0 and they do not overlap."""
        return self._left.index == self._seen[:, None, None]

    @cached_property
    def boxes(self) -> np.ndarray:
        """The tight boxes of the masks, (N, 4) float32 xyxy."""
        corners = np.array([cv2.boundingRect(mask.view(np.uint8)) for mask in self.masks], np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return corners

    @cached_property
    def labels(self) -> np.ndarray:
        """The objects' classes, (N,) int64 indices into CLASSES."""
        return self.world.labels[self._seen].astype(np.int64) - len(STUFF)

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
        """focal * baseline / depth, (H, W) float32 pixels: the left image's x is the right one's x - disparity."""
        return np.float32(self.focal * self.baseline) / self.depth

    @property
    def disparity_valid(self) -> np.ndarray:
        """Where what the left image shows is in sight of the right camera too, (H, W) bool."""
        return ~self._to_right[1]

    @property
    def flow(self) -> np.ndarray:
        """Motion from the first to the second frame, (2, H, W) float32: x and y in pixels."""
        return self._to_next[0]

    @property
    def occlusion(self) -> np.ndarray:
        """Where what the first frame shows is hidden in the second one or has left it, (H, W) bool."""
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
        return follow(self.world, LEFT, self._left, RIGHT, self._right)

    @cached_property
    def _to_next(self) -> tuple[np.ndarray, np.ndarray]:
        return follow(self.world, LEFT, self._left, NEXT, self._next)

    @cached_property
    def _seen(self) -> np.ndarray:
        """Numbers of the surfaces that are things in sight."""
        counts = cv2.calcHist([self._left.index], [0], None, [256], [0, 256])
        return np.flatnonzero(counts[self.world.planes :]).astype(np.uint8) + np.uint8(self.world.planes)

    def _exposed(self, frame: Frame, view: int) -> np.ndarray:
        """What the lens and the sensor make of a frame."""
        blurred = cv2.GaussianBlur(frame.image, (0, 0), self.world.blur)
        return _grained(blurred, np.random.default_rng((*self.key, 1, view)), self.world.noise)


class Scenes:
    """A sequence of scenes, each a function of the seed and its number alone.

    Args:
        count: How many.
        seed: Which of the endlessly many sequences.
        size: Of the images, (height, width).
        photos: A folder of images that surfaces are covered with, beside the procedural materials.
        first: Number of the first scene: sequences with one seed that do not overlap share no scene.

    Raises:
        UsageError: A negative number, or an image without pixels.
        DataError: The folder does not exist, holds no image, or (when a scene is read) one that cannot be opened.
    """

    classes = CLASSES
    semantic_classes = SEMANTIC_CLASSES

    def __init__(
        self, count: int, seed: int = 0, size: tuple[int, int] = (320, 320), photos: str | None = None, first: int = 0
    ):
        for field, value, least in (
            ("count", count, 0),
            ("seed", seed, 0),
            ("first", first, 0),
            ("size", min(size), 1),
        ):
            if value < least:
                raise UsageError("is too small for scenes", field=field, value=value, hint=f"Give at least {least}.")
        self.count, self.seed, self.size, self.first = count, seed, (int(size[0]), int(size[1])), first
        self.materials = Materials.of(photos)

    @classmethod
    def of(cls, source: SceneSource, size: tuple[int, int]) -> Scenes:
        """The scenes that a dataset's name means, of this size, (height, width)."""
        return cls(source.count, source.seed, size, first=source.first)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        if not -self.count <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return self._scene(self.first + index % self.count)

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(self.count))

    def fresh(self, index: int, epoch: int) -> Scene:
        """What stands at this index in an epoch: each has scenes of its own, so that training never sees one twice."""
        return self._scene(self.first + epoch * self.count + index)

    def _scene(self, number: int) -> Scene:
        key = (self.seed, number)
        return Scene(build_world(np.random.default_rng((*key, 0)), Camera(self.size), self.materials), key)


@cache
def _grain() -> np.ndarray:
    """A field of noise of mean 128 and deviation 32, (_GRAIN, _GRAIN, 3) uint8."""
    noise = np.random.default_rng(_GRAIN).standard_normal((_GRAIN, _GRAIN, 3), np.float32) * 32
    return (noise.clip(-127, 127).astype(np.int8) + np.int16(128)).astype(np.uint8)


def _grained(image: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """The image with noise: a random window of a field that is drawn once, for drawing noise is slow."""
    height, width = image.shape[:2]
    down, right = max(0, height - _GRAIN), max(0, width - _GRAIN)
    grain = cv2.copyMakeBorder(_grain(), 0, down, 0, right, cv2.BORDER_WRAP) if down or right else _grain()
    top, left = (int(rng.integers(whole - side + 1)) for whole, side in zip(grain.shape, (height, width)))
    window = grain[top : top + height, left : left + width]
    # Of one type with the image, for then OpenCV adds them five times as fast.
    return cv2.addWeighted(image, 1, window, deviation / 32, -4 * deviation)
