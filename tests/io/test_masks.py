"""Label images: values, colors and palettes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densevision.errors import DataError
from densevision.io.image import read_index_mask, write_image
from densevision.io.masks import CITYSCAPES_IDS, LabelEncoding, write_palette_png


def test_decode__classes_unknown_and_invalid_values() -> None:
    encoding = LabelEncoding(2, values=(7, 9), unknown=(0,))
    actual = encoding.decode(np.array([[7, 9], [0, 255]]), "mask.png")
    np.testing.assert_array_equal(actual, [[0, 1], [255, 255]])
    with pytest.raises(DataError, match=r"mask.png: pixel \(0, 1\): a pixel's value is no class \(got 8\)"):
        encoding.decode(np.array([[7, 8]]), "mask.png")
    np.testing.assert_array_equal(encoding.tolerant().decode(np.array([[7, 8]]), "mask.png"), [[0, 255]])


def test_decode__255_as_foreground() -> None:
    np.testing.assert_array_equal(LabelEncoding(2, values=(0, 255)).decode(np.array([[0, 255]]), ""), [[0, 1]])


def test_decode_colors__any_order(tmp_path: Path) -> None:
    colors = ((255, 0, 0), (0, 0, 255), (0, 255, 0))
    encoding = LabelEncoding(3, colors=colors, unknown_colors=((0, 0, 0),))
    labels = np.array([[0, 1, 2], [2, 255, 0]])
    pixels = np.array([*colors, (0, 0, 0)], np.uint8)[np.where(labels == 255, 3, labels)]
    write_image(tmp_path / "m.png", pixels)
    np.testing.assert_array_equal(encoding.read(tmp_path / "m.png"), labels)
    pixels[1, 2] = (255, 0, 1)
    with pytest.raises(DataError, match=r"not in the palette \(got \(255, 0, 1\)\)"):
        encoding.decode_colors(pixels, "m.png")


def test_cityscapes__label_ids_to_train_ids() -> None:
    ids = np.array([[7, 33, 0, 34, *CITYSCAPES_IDS[:3]]])
    np.testing.assert_array_equal(LabelEncoding.cityscapes().decode(ids, ""), [[0, 18, 255, 255, 0, 1, 2]])


def test_palette_png__indices_and_colors(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 255]], np.uint8)
    write_palette_png(tmp_path / "m.png", labels, np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
    np.testing.assert_array_equal(read_index_mask(tmp_path / "m.png"), labels)
    shown = np.array(Image.open(tmp_path / "m.png").convert("RGB"))
    np.testing.assert_array_equal(shown, [[[1, 2, 3], [4, 5, 6], [0, 0, 0]]])
