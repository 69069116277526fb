"""Scenes: every truth is checked against the images, against the other truths, or against geometry done anew."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from densevision.datasets.scenes import CLASSES, SEMANTIC_CLASSES, Scene, Scenes
from densevision.datasets.scenes.objects import Thing
from densevision.datasets.scenes.world import LEFT, NEXT, RIGHT
from densevision.errors import DataError, UsageError

IMAGES = ("image", "right", "next", "clean")
GROUND_TRUTHS = (
    "boxes",
    "labels",
    "masks",
    "instances",
    "semantic",
    "depth",
    "disparity",
    "disparity_valid",
    "flow",
    "occlusion",
)
EVERYTHING = IMAGES + GROUND_TRUTHS
STUFF = len(SEMANTIC_CLASSES) - len(CLASSES)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(Scenes(24, seed=3))


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    """More and smaller ones, for what is rare."""
    return list(Scenes(150, seed=4, size=(160, 160)))


def warped(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """The image read at x + displacement, (H, W, 3) float32."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        image, x + displacement[0], y + displacement[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return moved.astype(np.float32)


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(np.float32) - other).mean(2)


def centers(size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) homogeneous pixel centers."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.stack([x, y, np.ones_like(x)], 2)


def test_scene__is_a_function_of_seed_and_number():
    scenes = Scenes(5, seed=11, size=(80, 96))
    forwards = [scenes[index] for index in range(5)]
    backwards = [Scenes(5, seed=11, size=(80, 96))[index] for index in (4, 3, 2, 1, 0)][::-1]
    for one, other in zip(forwards, backwards):
        other.flow  # Truths are computed on demand, in whatever order.
        for name in EVERYTHING:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        np.testing.assert_array_equal(one.degraded(2), other.degraded(2))
    assert len({scene.image.tobytes() for scene in forwards}) == 5
    assert not np.array_equal(Scenes(5, seed=12, size=(80, 96))[0].image, forwards[0].image)


def test_scenes__first_continues_the_sequence():
    np.testing.assert_array_equal(Scenes(2, first=3, size=(64, 64))[1].image, Scenes(9, size=(64, 64))[4].image)


def test_scenes__is_a_sequence():
    scenes = Scenes(3, size=(32, 32))
    assert len(scenes) == len(list(scenes)) == 3
    np.testing.assert_array_equal(scenes[-1].image, scenes[2].image)
    with pytest.raises(IndexError):
        scenes[3]


@pytest.mark.parametrize("field, value", [("count", -1), ("seed", -1), ("first", -1), ("size", (0, 32))])
def test_scenes__refuses_nonsense(field, value):
    with pytest.raises(UsageError, match=field):
        Scenes(**{"count": 1, field: value})


@pytest.mark.parametrize("size", [(97, 131), (320, 320), (200, 60), (1, 1), (1, 40), (23, 2)])
def test_scene__any_size(size):
    for scene in Scenes(4, seed=1, size=size):
        count = len(scene.labels)
        shapes = {
            **dict.fromkeys(IMAGES, ((*size, 3), np.uint8)),
            **dict.fromkeys(("semantic", "instances"), (size, np.uint8)),
            **dict.fromkeys(("depth", "disparity"), (size, np.float32)),
            **dict.fromkeys(("disparity_valid", "occlusion"), (size, np.bool_)),
            "boxes": ((count, 4), np.float32),
            "labels": ((count,), np.int64),
            "masks": ((count, *size), np.bool_),
            "flow": ((2, *size), np.float32),
        }
        assert set(shapes) == set(EVERYTHING)
        for name, (shape, kind) in shapes.items():
            truth = getattr(scene, name)
            assert (truth.shape, truth.dtype) == (shape, kind), name
            assert np.isfinite(truth).all(), name


def test_flow__brings_the_second_frame_onto_the_first(scenes):
    visible, unmoved, backwards, hidden = [], [], [], []
    for scene in scenes:
        seen = ~scene.occlusion
        error = difference(warped(scene.next, scene.flow), scene.image)
        visible.append(error[seen].mean())
        unmoved.append(difference(scene.next, scene.image)[seen].mean())
        backwards.append(difference(warped(scene.next, -scene.flow), scene.image)[seen].mean())
        hidden.extend(error[scene.occlusion])
    assert max(visible) < 6
    assert np.mean(visible) < 3
    assert np.mean(unmoved) > 3 * np.mean(visible)
    assert np.mean(backwards) > 3 * np.mean(visible)
    assert np.mean(hidden) > 8 * np.mean(visible)


def test_flow__agrees_with_depth_and_motion_in_space(scenes):
    for scene in scenes[:8]:
        world = scene.world
        points = centers(scene.size) @ np.linalg.inv(world.camera.matrix).T * scene.depth[..., None]
        motions = world.axes[NEXT] @ np.linalg.inv(world.axes[LEFT])
        moved = np.einsum("hwij,hwj->hwi", (world.camera.matrix @ motions)[scene._left.index], points)
        expected = moved[..., :2] / moved[..., 2:] - centers(scene.size)[..., :2]
        np.testing.assert_allclose(scene.flow, expected.transpose(2, 0, 1), atol=2e-3)


def test_occlusion__holds_what_leaves_the_image(scenes):
    for scene in scenes:
        target = centers(scene.size)[..., :2].transpose(2, 0, 1) + scene.flow
        inside = (target >= 0).all(0) & (target[0] < scene.size[1]) & (target[1] < scene.size[0])
        assert scene.occlusion[~inside].all()
    shares = [scene.occlusion.mean() for scene in scenes]
    assert 0.01 < np.mean(shares) < 0.15
    assert max(shares) < 0.6


def test_occlusion__is_what_the_second_frame_does_not_show(scenes):
    """A pixel is lost when the surface that the second frame shows at its place is another one, nearer by depth."""
    agreement = []
    for scene in scenes[:10]:
        target = np.floor(centers(scene.size)[..., :2].transpose(2, 0, 1) + scene.flow).astype(int)
        x, y = target[0].clip(0, scene.size[1] - 1), target[1].clip(0, scene.size[0] - 1)
        outside = (x != target[0]) | (y != target[1])
        agreement.append((scene.occlusion == (outside | (scene._next.index[y, x] != scene._left.index))).mean())
    assert min(agreement) > 0.97
    assert np.mean(agreement) > 0.99


def test_flow__paces(many):
    """Mostly small, sometimes large, for images of 160 pixels: what pre-training for real flow asks for."""
    speeds = np.concatenate([np.hypot(*scene.flow)[::7, ::7].ravel() for scene in many])
    low, middle, high, top = np.percentile(speeds, [25, 50, 75, 99])
    assert 0.1 < low < 0.6 < middle < 2 < high < 6 and 10 < top < 30


def test_disparity__is_focal_times_baseline_over_depth(scenes):
    for scene in scenes:
        np.testing.assert_array_equal(scene.disparity, np.float32(scene.focal * scene.baseline) / scene.depth)
        assert scene.depth.min() > 0.3
        assert scene.depth.max() < 30


def test_disparity__brings_the_right_image_onto_the_left(scenes):
    hidden, visible = [], []
    for scene in scenes:
        shift = np.stack([-scene.disparity, np.zeros_like(scene.disparity)])
        error = difference(warped(scene.right, shift), scene.image)
        visible.append(error[scene.disparity_valid].mean())
        hidden.extend(error[~scene.disparity_valid])
        assert 0.5 < scene.disparity_valid.mean() < 1
    assert np.mean(visible) < 3
    assert np.mean(hidden) > 5 * np.mean(visible)


def test_boxes__are_tight_around_the_masks(scenes):
    for scene in scenes:
        for box, mask in zip(scene.boxes, scene.masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_masks__are_disjoint_and_agree_with_instances_and_semantic(scenes):
    assert SEMANTIC_CLASSES[STUFF:] == CLASSES
    for scene in scenes:
        assert scene.masks.sum(0).max(initial=0) <= 1
        np.testing.assert_array_equal(scene.masks.any(0), scene.semantic >= STUFF)
        np.testing.assert_array_equal(scene.masks.any(0), scene.instances > 0)
        for number, (mask, label) in enumerate(zip(scene.masks, scene.labels, strict=True), 1):
            assert (scene.semantic[mask] == STUFF + label).all()
            assert (scene.instances[mask] == number).all()


def test_depth__the_nearest_surface_is_seen(scenes):
    """Rays are cut with all surfaces anew; where another one lies in the way, the visible one is in front of it."""
    for scene in scenes[:8]:
        world, (height, width) = scene.world, scene.size
        rows, columns = np.mgrid[3:height:9, 5:width:9].reshape(2, -1)
        rays = centers(scene.size)[rows, columns] @ np.linalg.inv(world.camera.matrix).T
        seen, depth = scene._left.index[rows, columns], scene.depth[rows, columns]
        for number, axes in enumerate(world.axes[LEFT]):
            normal = np.cross(axes[:, 0], axes[:, 1])
            there = (normal @ axes[:, 2]) / (rays @ normal)
            np.testing.assert_allclose(depth[seen == number], there[seen == number], rtol=1e-4)
            in_way = there > 0
            if number >= world.planes:
                in_way &= insideness(scene, number, columns, rows) > 1
            assert (depth[in_way] <= there[in_way] * (1 + 1e-4)).all()


def test_masks__lie_in_the_projected_outlines(scenes):
    for scene in scenes[:8]:
        for number in scene._seen:
            rows, columns = np.nonzero(scene._left.index == number)
            assert insideness(scene, number, columns, rows).min() > -1


def insideness(scene: Scene, number: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance in pixels of pixel centers to the outline of a thing, positive inside."""
    world = scene.world
    outer, *holes = Thing(int(world.labels[number]) - STUFF, world.axes[LEFT, number]).contours(world.camera)

    def distances(contour: np.ndarray) -> np.ndarray:
        contour = contour.astype(np.float32)
        return np.array(
            [cv2.pointPolygonTest(contour, (i + 0.5, j + 0.5), True) for i, j in zip(x.tolist(), y.tolist())]
        )

    return np.min([distances(outer), *(-distances(hole) for hole in holes)], axis=0)


def test_things__every_class_and_every_size_occurs(many):
    counts = np.bincount(np.concatenate([scene.labels for scene in many]), minlength=len(CLASSES))
    assert counts.min() > 0.5 * counts.mean()
    # COCO's small, medium and large, for an image of 320 pixels.
    areas = 4 * np.concatenate([scene.masks.sum((1, 2)) for scene in many])
    shares = [(areas < 32**2).mean(), (areas > 96**2).mean()]
    assert 0.15 < shares[0] < 0.5
    assert 0.05 < shares[1] < 0.3


def test_things__sometimes_there_are_none(many):
    empty = [scene for scene in many if len(scene.labels) == 0]
    assert 1 <= len(empty) < 0.15 * len(many)
    assert empty[0].boxes.shape == (0, 4)
    assert empty[0].masks.shape == (0, 160, 160)
    assert empty[0].semantic.max() < STUFF


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 400])
def test_degraded__is_the_clean_image_made_worse(scale):
    scene = Scenes(1, seed=2, size=(97, 131))[0]
    degraded = scene.degraded(scale)
    height, width = max(1, 97 // scale), max(1, 131 // scale)
    assert degraded.shape == (height, width, 3) and degraded.dtype == np.uint8
    part = scene.clean[: height * scale, : width * scale]
    reduced = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    assert 0 < difference(degraded, reduced).mean() < 20


def test_image__is_the_clean_one_with_a_little_noise(scenes):
    errors = [difference(scene.image, scene.clean).mean() for scene in scenes]
    assert min(errors) > 0.3
    assert max(errors) < 8


def test_right__is_a_shifted_camera(scenes):
    left, right = scenes[0].world.axes[[LEFT, RIGHT]]
    np.testing.assert_allclose(left[:, :, 2] - right[:, :, 2], [[scenes[0].baseline, 0, 0]] * len(left), atol=1e-12)


def test_photos__cover_the_surfaces(tmp_path):
    for number, side in enumerate((40, 700)):
        image = np.zeros((side, side + 9, 3), np.uint8)
        image[..., [0, 2]] = 200
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    (tmp_path / "notes.txt").write_text("not an image")

    def magenta(scenes: Scenes) -> float:
        return np.mean([((scene.image > 100) == (True, False, True)).all(2).mean() for scene in scenes])

    with_photos, without = (Scenes(6, size=(64, 64), photos=folder) for folder in (str(tmp_path), None))
    assert magenta(with_photos) > 0.4 > 0.2 > magenta(without)
    np.testing.assert_array_equal(with_photos[1].image, Scenes(6, size=(64, 64), photos=tmp_path)[1].image)


def test_photos__missing_folder(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*not a folder"):
        Scenes(1, photos=str(tmp_path / "nowhere"))


def test_photos__folder_without_images(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}.*holds no image"):
        Scenes(1, photos=str(tmp_path))


def test_photos__corrupt_image(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a jpeg")
    with pytest.raises(DataError, match=r"broken\.jpg.*cannot be read"):
        [scene.image for scene in Scenes(4, size=(32, 32), photos=str(tmp_path))]


def test_pickle__scenes_and_scene():
    scenes = Scenes(2, seed=9, size=(48, 64))
    scene = scenes[1]
    scene.image
    for copy in (pickle.loads(pickle.dumps(scenes))[1], pickle.loads(pickle.dumps(scene))):
        for name in EVERYTHING:
            np.testing.assert_array_equal(getattr(copy, name), getattr(scene, name), err_msg=name)
    assert len(pickle.dumps(scenes)) < 1000


def test_import__needs_no_torch():
    command = "import sys, densevision.datasets.scenes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
