"""Scenes: ground truth is verified against the images, other ground truth, or independently computed geometry."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest

from densevision.datasets.scenes import CLASSES, SEMANTIC_CLASSES, Scene, Scenes
from densevision.datasets.scenes.objects import SceneObject
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
def small_scenes() -> list[Scene]:
    """Many small scenes, for rare properties."""
    return list(Scenes(150, seed=4, size=(160, 160)))


def warp(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """Samples an image at x + displacement, (H, W, 3) float32."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        image, x + displacement[0], y + displacement[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return moved.astype(np.float32)


def compute_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first.astype(np.float32) - second).mean(2)


def pixel_centers(size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) homogeneous pixel centers."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.stack([x, y, np.ones_like(x)], 2)


def test_scene__depends_only_on_seed_and_number():
    scenes = Scenes(5, seed=11, size=(80, 96))
    forwards = [scenes[index] for index in range(5)]
    backwards = [Scenes(5, seed=11, size=(80, 96))[index] for index in (4, 3, 2, 1, 0)][::-1]
    for scene, other in zip(forwards, backwards):
        other.flow  # Ground truth is computed on demand, in any order.
        for name in EVERYTHING:
            np.testing.assert_array_equal(getattr(scene, name), getattr(other, name), err_msg=name)
        np.testing.assert_array_equal(scene.degrade(2), other.degrade(2))
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
def test_scenes__invalid_values(field, value):
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


def test_flow__warps_the_second_frame_to_the_first(scenes):
    visible, unmoved, backwards, hidden = [], [], [], []
    for scene in scenes:
        is_visible = ~scene.occlusion
        error = compute_difference(warp(scene.next, scene.flow), scene.image)
        visible.append(error[is_visible].mean())
        unmoved.append(compute_difference(scene.next, scene.image)[is_visible].mean())
        backwards.append(compute_difference(warp(scene.next, -scene.flow), scene.image)[is_visible].mean())
        hidden.extend(error[scene.occlusion])
    assert max(visible) < 6
    assert np.mean(visible) < 3
    assert np.mean(unmoved) > 3 * np.mean(visible)
    assert np.mean(backwards) > 3 * np.mean(visible)
    assert np.mean(hidden) > 8 * np.mean(visible)


def test_flow__agrees_with_depth_and_motion(scenes):
    for scene in scenes[:8]:
        world = scene.world
        points = pixel_centers(scene.size) @ np.linalg.inv(world.camera.matrix).T * scene.depth[..., None]
        motions = world.axes[NEXT] @ np.linalg.inv(world.axes[LEFT])
        moved = np.einsum("hwij,hwj->hwi", (world.camera.matrix @ motions)[scene._left.index], points)
        expected = moved[..., :2] / moved[..., 2:] - pixel_centers(scene.size)[..., :2]
        np.testing.assert_allclose(scene.flow, expected.transpose(2, 0, 1), atol=2e-3)


def test_occlusion__includes_pixels_that_leave_the_image(scenes):
    for scene in scenes:
        target = pixel_centers(scene.size)[..., :2].transpose(2, 0, 1) + scene.flow
        inside = (target >= 0).all(0) & (target[0] < scene.size[1]) & (target[1] < scene.size[0])
        assert scene.occlusion[~inside].all()
    shares = [scene.occlusion.mean() for scene in scenes]
    assert 0.01 < np.mean(shares) < 0.15
    assert max(shares) < 0.6


def test_occlusion__pixels_without_the_same_surface_in_the_second_frame(scenes):
    """A pixel is occluded if the second frame shows another surface at its position."""
    agreement = []
    for scene in scenes[:10]:
        target = np.floor(pixel_centers(scene.size)[..., :2].transpose(2, 0, 1) + scene.flow).astype(int)
        x, y = target[0].clip(0, scene.size[1] - 1), target[1].clip(0, scene.size[0] - 1)
        outside = (x != target[0]) | (y != target[1])
        agreement.append((scene.occlusion == (outside | (scene._next.index[y, x] != scene._left.index))).mean())
    assert min(agreement) > 0.97
    assert np.mean(agreement) > 0.99


def test_flow__distribution_of_speeds(small_scenes):
    """Mostly small and sometimes large motion, in images of 160 pixels, as in real videos."""
    speeds = np.concatenate([np.hypot(*scene.flow)[::7, ::7].ravel() for scene in small_scenes])
    low, median, high, top = np.percentile(speeds, [25, 50, 75, 99])
    assert 0.1 < low < 0.6 < median < 2 < high < 6 and 10 < top < 30


def test_disparity__is_focal_times_baseline_over_depth(scenes):
    for scene in scenes:
        np.testing.assert_array_equal(scene.disparity, np.float32(scene.focal * scene.baseline) / scene.depth)
        assert scene.depth.min() > 0.3
        assert scene.depth.max() < 30


def test_disparity__warps_the_right_image_to_the_left(scenes):
    hidden, visible = [], []
    for scene in scenes:
        shift = np.stack([-scene.disparity, np.zeros_like(scene.disparity)])
        error = compute_difference(warp(scene.right, shift), scene.image)
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


def test_depth__nearest_surface_is_visible(scenes):
    """Rays are intersected with all surfaces; the visible surface is in front of all others on the ray."""
    for scene in scenes[:8]:
        world, (height, width) = scene.world, scene.size
        rows, columns = np.mgrid[3:height:9, 5:width:9].reshape(2, -1)
        rays = pixel_centers(scene.size)[rows, columns] @ np.linalg.inv(world.camera.matrix).T
        index, depth = scene._left.index[rows, columns], scene.depth[rows, columns]
        for number, axes in enumerate(world.axes[LEFT]):
            normal = np.cross(axes[:, 0], axes[:, 1])
            distance = (normal @ axes[:, 2]) / (rays @ normal)
            np.testing.assert_allclose(depth[index == number], distance[index == number], rtol=1e-4)
            is_on_ray = distance > 0
            if number >= world.planes:
                is_on_ray &= signed_distance(scene, number, columns, rows) > 1
            assert (depth[is_on_ray] <= distance[is_on_ray] * (1 + 1e-4)).all()


def test_masks__are_inside_the_projected_contours(scenes):
    for scene in scenes[:8]:
        for number in scene._visible:
            rows, columns = np.nonzero(scene._left.index == number)
            assert signed_distance(scene, number, columns, rows).min() > -1


def signed_distance(scene: Scene, number: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance in pixels of pixel centers to the contour of an object, positive inside."""
    world = scene.world
    outer, *holes = SceneObject(int(world.labels[number]) - STUFF, world.axes[LEFT, number]).contours(world.camera)

    def distances(contour: np.ndarray) -> np.ndarray:
        contour = contour.astype(np.float32)
        return np.array(
            [cv2.pointPolygonTest(contour, (i + 0.5, j + 0.5), True) for i, j in zip(x.tolist(), y.tolist())]
        )

    return np.min([distances(outer), *(-distances(hole) for hole in holes)], axis=0)


def test_objects__all_classes_and_sizes_occur(small_scenes):
    counts = np.bincount(np.concatenate([scene.labels for scene in small_scenes]), minlength=len(CLASSES))
    assert counts.min() > 0.5 * counts.mean()
    # COCO's small, medium and large, for an image of 320 pixels.
    areas = 4 * np.concatenate([scene.masks.sum((1, 2)) for scene in small_scenes])
    shares = [(areas < 32**2).mean(), (areas > 96**2).mean()]
    assert 0.15 < shares[0] < 0.5
    assert 0.05 < shares[1] < 0.3


def test_objects__some_scenes_are_empty(small_scenes):
    empty = [scene for scene in small_scenes if len(scene.labels) == 0]
    assert 1 <= len(empty) < 0.15 * len(small_scenes)
    assert empty[0].boxes.shape == (0, 4)
    assert empty[0].masks.shape == (0, 160, 160)
    assert empty[0].semantic.max() < STUFF


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 400])
def test_degrade__resembles_the_clean_image(scale):
    scene = Scenes(1, seed=2, size=(97, 131))[0]
    degraded = scene.degrade(scale)
    height, width = max(1, 97 // scale), max(1, 131 // scale)
    assert degraded.shape == (height, width, 3) and degraded.dtype == np.uint8
    part = scene.clean[: height * scale, : width * scale]
    reduced = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    assert 0 < compute_difference(degraded, reduced).mean() < 20


def test_image__is_the_clean_image_with_noise(scenes):
    errors = [compute_difference(scene.image, scene.clean).mean() for scene in scenes]
    assert min(errors) > 0.3
    assert max(errors) < 8


def test_right__is_a_shifted_camera(scenes):
    left, right = scenes[0].world.axes[[LEFT, RIGHT]]
    np.testing.assert_allclose(left[:, :, 2] - right[:, :, 2], [[scenes[0].baseline, 0, 0]] * len(left), atol=1e-12)


def test_photos__are_used_as_materials(tmp_path):
    for number, side in enumerate((40, 700)):
        image = np.zeros((side, side + 9, 3), np.uint8)
        image[..., [0, 2]] = 200
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    (tmp_path / "notes.txt").write_text("not an image")

    def magenta_share(scenes: Scenes) -> float:
        return np.mean([((scene.image > 100) == (True, False, True)).all(2).mean() for scene in scenes])

    with_photos, without = (Scenes(6, size=(64, 64), photos=folder) for folder in (str(tmp_path), None))
    assert magenta_share(with_photos) > 0.4 > 0.2 > magenta_share(without)
    np.testing.assert_array_equal(with_photos[1].image, Scenes(6, size=(64, 64), photos=tmp_path)[1].image)


def test_photos__missing_folder(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        Scenes(1, photos=str(tmp_path / "nowhere"))


def test_photos__folder_without_images(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        Scenes(1, photos=str(tmp_path))


def test_photos__corrupt_image(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a jpeg")
    with pytest.raises(DataError, match=r"broken\.jpg"):
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
