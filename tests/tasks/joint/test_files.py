"""Files of joint models: split, combined, taken over by other runs, exported; and what their cards may not name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import densevision
from densevision.cli.main import run
from densevision.errors import UsageError
from densevision.inference.card_config import read_card_config
from densevision.inference.joint_files import combine, load_matching_parts, split
from densevision.inference.predictor import TorchPredictor
from densevision.io.weights import Card, load_card, load_weights
from densevision.nn.joint_model import JointModel
from densevision.tasks import load_config, load_task
from densevision.training.train import make_card

SETTINGS: dict[str, Any] = {
    "tasks": ["detection", "semantic", "depth"],
    "data.path": "scenes:4:0",
    "data.size": 64,
    "backbone.name": "test_resnet",
    "detection.arch": "yolo_n",
    "detection.model.width": 16,
    "semantic.arch": "unet",
    "depth.model.width": 16,
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose detector finds something, with scores far enough apart to be compared."""
    task_class = load_task("joint")
    config = task_class.infer_from_data(load_config("joint").resolve(None, SETTINGS))
    torch.manual_seed(3)
    model = task_class(config).build_model()
    with torch.no_grad():
        model.get_parameter("heads.detection.head.classify.predict.weight").mul_(100)
    path = tmp_path_factory.mktemp("joint") / "joint.safetensors"
    TorchPredictor(task_class(config), model.eval(), make_card(config, 4)).save(path)
    return path


@pytest.fixture(scope="module")
def parts(weights: Path) -> dict[str, Path]:
    return {path.stem: path for path in split(weights, weights.parent / "parts")}


IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def test_split__single_weights_predict_what_the_joint_ones_do(weights: Path, parts: dict[str, Path]) -> None:
    assert list(parts) == ["detection", "semantic", "depth"]
    options: dict[str, Any] = {"device": "cpu", "precision": "float32"}
    joint = densevision.predict(IMAGE, "joint", weights, score_threshold=0.001, probabilities=True, **options)
    detection = densevision.predict(IMAGE, "detection", parts["detection"], score_threshold=0.001, **options)
    semantic = densevision.predict(IMAGE, "semantic", parts["semantic"], probabilities=True, **options)
    depth = densevision.predict(IMAGE, "depth", parts["depth"], **options)
    np.testing.assert_allclose(depth.depth, joint["depth"].depth, atol=1e-5)
    np.testing.assert_allclose(detection.scores, joint["detection"].scores, atol=1e-6)
    np.testing.assert_allclose(detection.boxes, joint["detection"].boxes, atol=1e-4)
    np.testing.assert_allclose(semantic.probabilities, joint["semantic"].probabilities, atol=1e-3)
    assert load_card(parts["detection"]).classes == tuple(load_card(weights).config["detection"]["classes"])


def test_combine__is_the_inverse(weights: Path, parts: dict[str, Path], tmp_path: Path) -> None:
    run(
        [
            "joint",
            "combine",
            *(f"{name}={path}" for name, path in parts.items()),
            "--out",
            str(tmp_path / "again.safetensors"),
        ]
    )
    tensors, others = (load_weights(path)[0] for path in (weights, tmp_path / "again.safetensors"))
    assert tensors.keys() == others.keys()
    assert [name for name, value in tensors.items() if not torch.equal(value, others[name])] == []
    with pytest.raises(UsageError):
        combine(parts, tmp_path / "x.safetensors", encoder="dept")


def test_init_from__takes_the_encoder_and_the_heads_that_the_file_has(weights: Path, parts: dict[str, Path]) -> None:
    task_class = load_task("joint")
    config = read_card_config(load_card(weights), weights)
    expected = load_weights(weights)[0]
    for file, taken in ((weights, ("detection", "semantic", "depth")), (parts["depth"], ("depth",))):
        task = task_class(config)
        model = task.build_model()
        assert isinstance(model, JointModel)
        load_matching_parts(model, task, file)
        found = model.state_dict()
        same = {name for name, value in expected.items() if torch.equal(value, found[name])}
        assert {name for name in found if name.startswith(("encoder.", *(f"heads.{each}." for each in taken)))} <= same
        assert (len(same) == len(found)) == (file == weights)


def test_card__of_a_part_names_no_file(weights: Path) -> None:
    card = load_card(weights)
    config = dict(card.config)
    config["depth"] = {**config["depth"], "data": {**config["depth"]["data"], "path": "/etc", "train": "passwd"}}
    safe = read_card_config(Card(**{**card.to_dict(), "config": config}), weights)
    assert safe.heads["depth"].data.path == "scenes:4:0" and safe.heads["depth"].data.train is None  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.export
@pytest.mark.parametrize("export_format", ["onnx", "openvino", "torch"])
def test_export__one_file_with_all_outputs(export_format: Any, weights: Path, tmp_path: Path) -> None:
    """`export` itself refuses a file whose outputs differ from PyTorch."""
    suffix = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}[export_format]
    file = densevision.export("joint", weights, out=tmp_path / f"joint{suffix}", export_format=export_format)
    exported = densevision.load(file, "joint")
    options: dict[str, Any] = {"precision": "float32", "device": "cpu", "score_threshold": 0.01}
    result, expected = exported.predict(IMAGE, **options), densevision.predict(IMAGE, "joint", weights, **options)
    np.testing.assert_allclose(result["depth"].depth, expected["depth"].depth, atol=1e-3)
    # Untrained scores lie close to the threshold, so the last ones may be there or not.
    scores, expected_scores = (each["detection"].scores[:20] for each in (result, expected))
    assert len(scores) == 20
    np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
    assert (result["semantic"].labels == expected["semantic"].labels).mean() > 0.99
