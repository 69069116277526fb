"""Contact sheets: positions of images of any size."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.draw.contact_sheet import make_contact_sheet
from densevision.errors import DataError, UsageError


def _fill(height: int, width: int, color: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def test_make_contact_sheet__reading_order():
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]
    sheet = make_contact_sheet([_fill(30, 40, color) for color in colors], columns=3, width=400)
    assert sheet.shape[1] == 400
    centers = [tuple(np.argwhere((sheet == color).all(2)).mean(0).round()) for color in colors]
    rows, columns = zip(*centers)
    assert rows[0] == rows[1] == rows[2] < rows[3] == rows[4]
    assert columns[0] == columns[3] < columns[1] == columns[4] < columns[2]


def test_make_contact_sheet__image_of_the_column_width_is_copied():
    image = np.random.default_rng(0).integers(0, 256, (50, 316, 3), dtype=np.uint8)
    before = image.copy()
    sheet = make_contact_sheet([image], columns=1, width=320)
    np.testing.assert_array_equal(sheet[2:52, 2:318], image)
    np.testing.assert_array_equal(image, before)
    assert (sheet[:2] == 255).all() and (sheet[52:] == 255).all()


def test_make_contact_sheet__captions_are_below_and_do_not_move_the_images():
    images = [_fill(30, 40, (9, 9, 9))] * 3
    plain, named = (
        make_contact_sheet(images, width=400),
        make_contact_sheet(images, ["one", "a long name " * 30], width=400),
    )
    assert len(named) > len(plain)
    assert (named == 50).all(2).any()
    assert (named[:2] == 255).all() and (named[:, :2] == 255).all() and (named[:, -2:] == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3000, 20)])
def test_make_contact_sheet__extreme_images(size):
    sheet = make_contact_sheet([_fill(*size, (0, 0, 0)), _fill(40, 40, (0, 99, 0))], ["a", "b"], columns=2, width=300)
    assert (sheet == 0).all(2).any()
    assert len(sheet) < 300


def test_make_contact_sheet__no_images():
    assert make_contact_sheet([]).shape == (1, 1600, 3)


def test_make_contact_sheet__invalid_arguments():
    with pytest.raises(DataError):
        make_contact_sheet([np.zeros((4, 4))])
    with pytest.raises(UsageError, match="narrow"):
        make_contact_sheet([_fill(4, 4, (0, 0, 0))], columns=50, width=60)
