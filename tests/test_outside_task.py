"""A task in a package of its own: found by its entry point, complete, and told apart from ten broken ones."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densevision
from densevision.errors import UsageError
from densevision.io.image import write_image
from densevision.tasks import TASKS, load_task
from densevision.tasks.base import Task
from densevision.testing import CHECKS, check_task

EXAMPLE = Path(__file__).parent.parent / "examples/matting"
SETTINGS = {"data.path": "scenes:4:0", "data.size": 64, "model.width": 8, "train.batch": 2}
NAMES = [check.__name__.removeprefix("check_") for check in CHECKS]


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The metadata that an installation of the example would have, and the example's folder, on the path."""
    folder = tmp_path_factory.mktemp("site") / "densevision_matting-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: densevision-matting\nVersion: 0.1.0\n")
    section = re.search(r'\[project\.entry-points\."(.+)"\]\n(\w+) = "(\w+)"', (EXAMPLE / "pyproject.toml").read_text())
    assert section is not None
    (folder / "entry_points.txt").write_text("[{}]\n{} = {}\n".format(*section.groups()))
    with pytest.MonkeyPatch.context() as patch:
        for path in (folder.parent, EXAMPLE):
            patch.syspath_prepend(str(path))
        TASKS.__dict__.pop("outside", None)
        yield folder.parent
    TASKS.__dict__.pop("outside", None)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Ground truth and equal predictions."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("mattes")
    for index in range(2):
        matte = rng.integers(0, 256, (20, 30, 1), np.uint8)
        for name in ("truth", "predictions"):
            (root / name).mkdir(exist_ok=True)
            write_image(root / name / f"{index}.png", matte)
    return root / "truth", root / "predictions"


def run_check(names: list[str], files: Any = None) -> list[str]:
    task: type[Task] = load_task("matting")
    config = task.Config.resolve(None, SETTINGS)
    return check_task(task, config, [other for other in NAMES if other not in names], files)


def test_check_task__passes_the_task_of_another_package(files: tuple[Path, Path]) -> None:
    assert run_check(NAMES, files) == NAMES


def test_public_functions__find_the_task(tmp_path: Path) -> None:
    assert "matting" in TASKS and TASKS["matting"] == "The opacity of the foreground in every pixel."
    assert list(TASKS)[-1] == "matting" and "matting" not in TASKS.built_in
    assert densevision.list_models("matting") == ["matting_unet"]
    assert densevision.create_model("matting_unet", width=4).input_spec["image"].multiple_of == 8
    with pytest.raises(UsageError, match="matting"):
        load_task("mating")


def test_folders_are_checked_and_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(2):
            write_image(tmp_path / f"data/images/{split}/{index}.png", rng.integers(0, 256, (40, 48, 3), np.uint8))
            write_image(tmp_path / f"data/mattes/{split}/{index}.png", rng.integers(0, 256, (40, 48, 1), np.uint8))
    write_image(tmp_path / "data/mattes/val/1.png", np.zeros((39, 48, 1), np.uint8))
    report = densevision.check("matting", tmp_path / "data")
    assert [(finding.check.name, finding.count) for finding in report.findings] == [("matte-broken", 1)]
    write_image(tmp_path / "data/mattes/val/1.png", np.zeros((40, 48, 1), np.uint8))
    overrides = {**SETTINGS, "data.path": str(tmp_path / "data"), "data.size": 32, "train.epochs": 1}
    run = densevision.train("matting", overrides=overrides, out=tmp_path / "run", quiet=True)
    metrics = densevision.evaluate(weights=run / "last.safetensors", data=tmp_path / "data").metrics
    assert 0 < metrics["MAE"] < 1


def test_help__searches_for_no_other_package() -> None:
    code = (
        "import sys; from densevision.cli.main import run; run(['--help']);"
        "from densevision.tasks import TASKS; sys.exit('outside' in vars(TASKS) or 'importlib.metadata' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def remove_scoring(patch: pytest.MonkeyPatch) -> None:
    import densevision_matting.scoring as scoring

    patch.delattr(scoring, "open_files")


def miscount(patch: pytest.MonkeyPatch) -> None:
    import densevision_matting.scoring as scoring

    patch.setattr(scoring, "score", lambda *_: {"metrics": {"MAE": 0.5}}, raising=False)


def remove_checks(patch: pytest.MonkeyPatch) -> None:
    import densevision_matting.checks as checks

    patch.delattr(checks, "CHECKS")


def forget_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(load_task("matting").Result, "row_axes", {})


def forget_description(patch: pytest.MonkeyPatch) -> None:
    import densevision_matting.metrics as metrics

    patch.setitem(metrics.METRIC_INFO, "MSE", metrics.MetricInfo(""))


def reverse_monitor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(load_task("matting"), "monitor", ("MAE", "max"))


def ignore_mirror(patch: pytest.MonkeyPatch) -> None:
    whole = Task.to_image_space
    broken = lambda self, maps, view, mirrored=False: whole(self, maps, view)  # noqa: E731
    patch.setattr(load_task("matting"), "to_image_space", broken)


def depend_on_data(patch: pytest.MonkeyPatch) -> None:
    from densevision_matting.models.unet import MattingUNet

    forward = MattingUNet.forward
    patch.setattr(MattingUNet, "forward", lambda self, image: forward(self, image if image.mean() > 0.5 else 1 - image))


def break_counts(patch: pytest.MonkeyPatch) -> None:
    import densevision_matting.metrics as metrics

    patch.delattr(metrics.MattingMetric, "counts")


def break_merge(patch: pytest.MonkeyPatch) -> None:
    import densevision_matting.metrics as metrics

    patch.setattr(metrics.MattingMetric, "merge", lambda self, other: self.rows.clear())


def crop_results(patch: pytest.MonkeyPatch) -> None:
    task = load_task("matting")
    whole = task.to_results
    patch.setattr(
        task,
        "to_results",
        lambda self, *arguments: [result.warp(np.eye(2, 3), (8, 8)) for result in whole(self, *arguments)],
    )


SABOTAGES: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("score", remove_scoring),
    ("score", miscount),
    ("dataset_checks", remove_checks),
    ("tiles", forget_rows),
    ("metric_info", forget_description),
    ("metric_info", reverse_monitor),
    ("flips", ignore_mirror),
    ("export", depend_on_data),
    ("command_line", break_counts),
    ("metric_of_ground_truth", break_merge),
    ("odd_sizes", crop_results),
]


@pytest.mark.parametrize(("name", "sabotage"), SABOTAGES)
def test_check_task__names_what_is_broken(
    name: str, sabotage: Callable[..., None], files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    with pytest.raises(AssertionError, match=f"matting: {name}: "):
        run_check([name], files)
