"""JSON that Python reads into values no format means: nesting, numbers of any size, and other types than stated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from densevision.datasets.formats.coco_objects import parse_segmentation
from densevision.errors import DataError, WeightsError
from densevision.io.label_issues import LabelIssues
from densevision.io.weights import load_card
from densevision.metrics.coco_files import score_files
from densevision.ops.masks import encode_polygons
from densevision.tasks import load_config
from densevision.tasks.instance.dataset import open_split

TRUTH: dict[str, Any] = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}


@pytest.mark.parametrize("polygon", [[10**400, 1, 5, 1, 5, 5], [1e300, 1, 5, 1, 5, 5], [float("nan"), 1, 5, 1, 5, 5]])
def test_polygon__numbers_that_no_image_has(polygon: list[float], tmp_path: Path) -> None:
    with pytest.raises(DataError) as refusal:
        parse_segmentation([polygon], (8, 8), "annotations[0].segmentation", tmp_path / "a.json", LabelIssues("fail"))
    assert refusal.value.field == "annotations[0].segmentation"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400], ids=["nan", "inf", "digits"])
def test_labelme__coordinates_that_no_image_has(number: float, tmp_path: Path) -> None:
    """They would end the process in pycocotools."""
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    sound = {"label": "a", "shape_type": "polygon", "points": [[4, 4], [12, 4], [12, 12]]}
    shape = {**sound, "points": [[4, 4], [12, 4], [12, number]]}
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": [sound, shape]}))
    with pytest.raises(DataError) as refusal:
        open_split(load_config("instance")().replace(data__path=str(tmp_path)), "train")
    assert refusal.value.file is not None and Path(refusal.value.file).name == "a.json"
    with pytest.raises(DataError):
        encode_polygons([np.array([[4, 4], [12, 4], [12, np.nan]])], (16, 16))


@pytest.mark.parametrize("text", ["[" * 100_000, '[{"image_id": ' + "1" * 5000 + "}]", "[" * 100_000 + "]" * 100_000])
def test_results__nesting_and_endless_numbers(text: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError) as refusal:
        score_files(tmp_path / "truth.json", tmp_path / "results.json")
    assert refusal.value.file == tmp_path / "results.json"


def test_card__number_instead_of_text(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"densevision": "1"})
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data.replace(b'"densevision":"1"', b'"densevision":1.5'))
    with pytest.raises(WeightsError) as refusal:
        load_card(tmp_path / "a.safetensors")
    assert refusal.value.file == tmp_path / "a.safetensors"
