"""Defaults that follow the data and the machine, and give way to whatever a person sets."""

from __future__ import annotations

import pytest

from densevision.run_config import TrainConfig
from densevision.tasks.detection.config import DetectionConfig
from densevision.training import autoscale as defaults


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "cores", lambda: 4)
    monkeypatch.setattr(defaults.multiprocessing, "get_start_method", lambda: "fork")


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
def test_suited__follows_the_number_of_images(
    images: int, epochs: int, batch: int, workers: int, four_cores: None
) -> None:
    config = DetectionConfig()
    found, changes = defaults.autoscale_defaults(config, config.given(), images)
    assert (found.train.epochs, found.train.batch, found.data.workers) == (epochs, batch, workers)
    assert found == config.changed(**{name.replace(".", "__"): value for name, value in changes.items()})
    assert set(changes) <= {"train.epochs", "train.batch", "data.workers"}


def test_suited__what_was_set_stays(four_cores: None) -> None:
    config = DetectionConfig.resolve(
        None, {"train.epochs": 100, "train.batch": 16, "data.workers": 0, "preset": "nano"}
    )
    assert config.given() >= {"train.epochs", "train.batch", "data.workers", "preset"}
    assert defaults.autoscale_defaults(config, config.given(), 118_287) == (config, {})


def test_suited__batch_that_is_looked_for_stays(four_cores: None) -> None:
    config = DetectionConfig.resolve(None, {"train.batch": "auto"})
    assert defaults.autoscale_defaults(config, set(), 20)[0].train.batch == "auto"


@pytest.mark.parametrize(("method", "cores", "workers"), [("spawn", 4, 0), ("fork", 1, 0), ("fork", 64, 8)])
def test_workers__as_the_machine_allows(method: str, cores: int, workers: int, monkeypatch) -> None:
    monkeypatch.setattr(defaults, "cores", lambda: cores)
    monkeypatch.setattr(defaults.multiprocessing, "get_start_method", lambda: method)
    config = DetectionConfig()
    assert defaults.autoscale_defaults(config, config.given(), 5000)[0].data.workers == workers


def test_given__names_what_was_set() -> None:
    assert TrainConfig().given() == set()
    assert TrainConfig.checked({"lr": 1e-3}).given() == {"lr"}
    assert "train.lr" not in DetectionConfig.resolve(None, {"train.epochs": 3}).given()
