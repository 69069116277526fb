"""Defaults that follow the dataset and the machine, and explicit options that override them."""

from __future__ import annotations

import pytest

from densevision.run_config import TrainConfig
from densevision.tasks.detection.config import DetectionConfig
from densevision.training import autoscale


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscale, "count_cores", lambda: 4)
    monkeypatch.setattr(autoscale.multiprocessing, "get_start_method", lambda: "fork")


@pytest.mark.parametrize(
    ("images", "epochs", "batch", "workers"),
    [
        (1, 100, 2, 0),
        (20, 100, 2, 0),
        (100, 100, 8, 0),
        (127, 100, 8, 0),
        (128, 100, 16, 0),
        (1000, 100, 16, 3),
        (4000, 50, 16, 3),
        (118_287, 12, 16, 3),
    ],
)
def test_autoscale__follows_the_number_of_images(
    images: int, epochs: int, batch: int, workers: int, four_cores: None
) -> None:
    config = DetectionConfig()
    adapted, changes = autoscale.autoscale_defaults(config, config.list_given(), images)
    assert (adapted.train.epochs, adapted.train.batch, adapted.data.workers) == (epochs, batch, workers)
    assert adapted == config.replace(**{name.replace(".", "__"): value for name, value in changes.items()})
    assert set(changes) <= {"train.epochs", "train.batch", "data.workers"}


def test_autoscale__keeps_explicit_options(four_cores: None) -> None:
    config = DetectionConfig.resolve(
        None, {"train.epochs": 100, "train.batch": 16, "data.workers": 0, "arch": "yolo_s"}
    )
    assert config.list_given() >= {"train.epochs", "train.batch", "data.workers", "arch"}
    assert autoscale.autoscale_defaults(config, config.list_given(), 118_287) == (config, {})


def test_autoscale__keeps_batch_auto(four_cores: None) -> None:
    config = DetectionConfig.resolve(None, {"train.batch": "auto"})
    assert autoscale.autoscale_defaults(config, set(), 20)[0].train.batch == "auto"


@pytest.mark.parametrize(("method", "cores", "workers"), [("spawn", 4, 0), ("fork", 1, 0), ("fork", 64, 8)])
def test_workers__follow_the_machine(method: str, cores: int, workers: int, monkeypatch) -> None:
    monkeypatch.setattr(autoscale, "count_cores", lambda: cores)
    monkeypatch.setattr(autoscale.multiprocessing, "get_start_method", lambda: method)
    config = DetectionConfig()
    assert autoscale.autoscale_defaults(config, config.list_given(), 5000)[0].data.workers == workers


def test_given__names_explicit_options() -> None:
    assert TrainConfig().list_given() == set()
    assert TrainConfig.from_dict({"lr": 1e-3}).list_given() == {"lr"}
    assert "train.lr" not in DetectionConfig.resolve(None, {"train.epochs": 3}).list_given()
