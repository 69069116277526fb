"""Search for the best options with Optuna: a study of short trainings that can be stopped and resumed at any moment."""

from __future__ import annotations

import copy
import csv
import io
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from densevision.config import set_option
from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.io.atomic_write import write_text
from densevision.run_config import TaskConfig
from densevision.run_folder import RunFolder
from densevision.tasks import load_config, load_task
from densevision.training import train as training
from densevision.training.search_space import DEFAULT_SPACE, Choices, Range, parse_space
from densevision.yaml_files import read_yaml

if TYPE_CHECKING:
    import optuna

__all__ = ["Study", "TuneResult", "create_study"]

log = logging.getLogger("densevision")

VALIDATED_POINTS = 100
"""Random points of the space whose configs are validated before the first trial."""
STARTUP_TRIALS = 5
"""Trials that run to their end before others are compared with their median."""


@dataclass(frozen=True)
class TuneResult:
    """The best trial of a study.

    Attributes:
        folder: Folder of the study.
        config: The winner's config, for `train --config`.
        metric: Name of the monitored metric.
        value: Its value.
        settings: The searched options with the winner's values.
        run: Run folder of the winner.
        trials: One row per trial: number, state, value, run, and the searched options.
    """

    folder: Path
    config: Path
    metric: str
    value: float
    settings: dict[str, Any]
    run: Path
    trials: list[dict[str, Any]]


class Study:
    """A study in a folder: tune.yaml (base config, space, seed), study.db (Optuna, SQLite), trials/NUMBER (runs).

    Randomness is a function of the seed and the number of finished trials, and a killed trial is resumed like any run:
    a study that was stopped and resumed equals one that was not.
    """

    def __init__(self, folder: Path, values: Mapping[str, Any]):
        self.folder = folder
        self.seed, self.prune = int(values["seed"]), bool(values["prune"])
        self.base: dict[str, Any] = dict(values["config"])
        self.space = parse_space(values["space"])
        self.config_class = load_config(str(self.base["task"]))
        task = load_task(self.config_class.model_fields["task"].default)(self.make_config({}))
        self.metric, self.direction = task.monitor
        self.storage = f"sqlite:///{(folder / 'study.db').resolve().as_posix()}"

    @classmethod
    def create(cls, folder: Path, base: Mapping[str, Any], space: Mapping[str, Any], seed: int, prune: bool) -> Study:
        """Starts a study in a new folder.

        Raises:
            UsageError: The folder holds a study, or the space or one of its points is no valid config.
        """
        if (folder / "tune.yaml").exists():
            hint = f"Continue it with --resume {folder}, or choose another --out."
            raise UsageError("this folder already holds a study", file=folder, hint=hint)
        values = {"seed": seed, "prune": prune, "space": dict(space), "config": dict(base)}
        study = cls(folder, values)
        study.check_points()
        write_text(folder / "tune.yaml", yaml.safe_dump(_to_plain(values), sort_keys=False, allow_unicode=True))
        return study

    @classmethod
    def open(cls, folder: Path) -> Study:
        """Opens the study of a folder.

        Raises:
            DataError: There is none.
        """
        file = folder / "tune.yaml"
        if not file.exists():
            hint = "Pass the folder that was given to --out."
            raise DataError("no study in this folder: tune.yaml is missing", file=folder, hint=hint)
        return cls(folder, read_yaml(file))

    def run(self, trials: int, quiet: bool, report: Callable[[str], Any]) -> TuneResult:
        """Runs trials until so many are finished.

        Args:
            trials: Number of trials, those of earlier calls included.
            quiet: Suppress the progress of each training.
            report: Called with one line after each trial.

        Raises:
            DenseVisionError: No trial has a defined metric; or the study was interrupted.
        """
        study = self._open_study()
        while len(self._list_finished(study)) < trials:
            self._run_trial(study, quiet, report)
            self._write_results(study)
        return self._write_results(study)

    def make_config(self, settings: Mapping[str, Any]) -> TaskConfig:
        """The base config with the values of a trial."""
        return self.config_class.from_dict(self._merge(settings))

    def check_points(self) -> None:
        """Validates the configs of random points of the space.

        Raises:
            UsageError: One of them is refused; or a trial would need several processes.
        """
        optuna = _import_optuna()
        scratch = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=self.seed))
        for _ in range(VALIDATED_POINTS):
            trial = scratch.ask(self._make_distributions())
            config = self.make_config(self._decode(trial.params))
            scratch.tell(trial, 0.0)
            if config.train.devices * config.train.nodes > 1:
                hint = "Tune on one device, and train with the winner's config on several."
                raise UsageError("a study trains on one device", field="train.devices", hint=hint)
            if config.train.mirror is not None:
                hint = "Copy the folder of the study when it is finished."
                raise UsageError("has no effect on a study", field="train.mirror", hint=hint)

    # -- trials --------------------------------------------------------------------------------------------------------

    def _run_trial(self, study: optuna.Study, quiet: bool, report: Callable[[str], Any]) -> None:
        optuna = _import_optuna()
        number = len(self._list_finished(study))
        study.sampler = optuna.samplers.TPESampler(seed=self.seed * 1_000_003 + number)
        trial = study.ask(self._make_distributions())
        settings = self._decode(trial.params)
        folder = RunFolder(self.folder / "trials" / str(number))
        trial.set_user_attr("run", f"trials/{number}")

        def end_validation(epoch: int, value: float) -> bool:
            trial.report(value, epoch)
            return self.prune and trial.should_prune()

        try:
            is_pruned = self._train(folder, settings, trial, end_validation, quiet)
        except training.Interrupted as error:
            hint = f"Continue with: densevision {self.base['task']} tune --resume {self.folder}"
            interrupted = training.Interrupted(
                f"interrupted in trial {number}, after {number} finished ones", file=self.folder, hint=hint
            )
            interrupted.exit_code = error.exit_code
            raise interrupted from None
        except (DenseVisionError, torch.cuda.OutOfMemoryError) as error:
            if isinstance(error, DenseVisionError) and type(error) is not DenseVisionError:
                raise  # an option, the data or the weights are wrong: the next trial would fail too
            trial.set_user_attr("error", str(error).splitlines()[0])
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            report(f"trial {number}: failed: {str(error).splitlines()[0]}")
            return
        value = self._find_best(folder)
        if value is None:
            trial.set_user_attr("error", f"{self.metric} is undefined")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif is_pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, value)
        # Only runs that may be continued need a checkpoint, which is three times as large as the weights.
        folder.checkpoint.unlink(missing_ok=True)
        text = "undefined" if value is None else f"{value:.4g}"
        options = ", ".join(f"{name}={_format(setting)}" for name, setting in settings.items())
        report(f"trial {number}: {self.metric} {text}{' (pruned)' * is_pruned}: {options}")

    def _train(
        self,
        folder: RunFolder,
        settings: Mapping[str, Any],
        trial: optuna.Trial,
        end_validation: Callable[[int, float], bool],
        quiet: bool,
    ) -> bool:
        """Trains a trial, or continues it; returns whether it was pruned."""
        pruned: list[bool] = []

        def on_validation(epoch: int, value: float) -> bool:
            is_over = end_validation(epoch, value)
            pruned.append(is_over)
            return is_over

        if folder.config.exists():
            for row in folder.read_rows():
                if row.get(self.metric) and on_validation(int(row["epoch"]), float(row[self.metric])):
                    return True
            training.resume(folder.path, quiet, on_validation=on_validation)
        else:
            training.train(self.make_config(settings), folder.path, quiet, on_validation=on_validation)
        return any(pruned)

    def _open_study(self) -> optuna.Study:
        """Opens the study; trials that were running when it was killed wait to be continued."""
        optuna = _import_optuna()
        study = optuna.create_study(
            study_name="densevision",
            storage=self.storage,
            direction="maximize" if self.direction == "max" else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
            load_if_exists=True,
        )
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            study.enqueue_trial(trial.params, skip_if_exists=False)
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return study

    def _list_finished(self, study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
        """Trials that ended; those of a killed process did not."""
        states = _import_optuna().trial.TrialState
        ended = (states.COMPLETE, states.PRUNED)
        trials = study.get_trials(deepcopy=False)
        return [t for t in trials if t.state in ended or (t.state == states.FAIL and "error" in t.user_attrs)]

    # -- results -------------------------------------------------------------------------------------------------------

    def _write_results(self, study: optuna.Study) -> TuneResult:
        """Writes trials.csv and the winner's config."""
        rows = [self._make_row(trial) for trial in self._list_finished(study)]
        self._write_table(rows)
        complete = [row for row in rows if row["state"] == "complete"]
        if not complete:
            if rows and len(rows) >= STARTUP_TRIALS:
                hint = f"See the column error of {self.folder / 'trials.csv'}."
                raise DenseVisionError(f"none of {len(rows)} trials has a defined {self.metric}", hint=hint)
            return TuneResult(self.folder, self.folder / "best.yaml", self.metric, math.nan, {}, self.folder, rows)
        best = (max if self.direction == "max" else min)(complete, key=lambda row: row["value"])
        settings = {name: best[name] for name in self.space}
        text = yaml.safe_dump(_to_plain(self._merge(settings)), sort_keys=False, allow_unicode=True)
        config = self.folder / "best.yaml"
        header = f"# Trial {best['number']} of {len(rows)}: {self.metric} {best['value']:.6g}\n"
        write_text(config, header + text)
        run = self.folder / best["run"]
        return TuneResult(self.folder, config, self.metric, best["value"], settings, run, rows)

    def _make_row(self, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
        run = trial.user_attrs["run"]
        value = trial.value if trial.value is not None else self._find_best(RunFolder(self.folder / run))
        row = {"number": int(run.rsplit("/", 1)[1]), "state": trial.state.name.lower(), "value": value, "run": run}
        return {**row, **self._decode(trial.params), "error": trial.user_attrs.get("error", "")}

    def _write_table(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, ["number", "state", "value", "run", *self.space, "error"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / "trials.csv", text.getvalue())

    def _find_best(self, folder: RunFolder) -> float | None:
        """The best validation of a run."""
        texts = [row.get(self.metric) for row in folder.read_rows()]
        values = [float(text) for text in texts if text and not math.isnan(float(text))]
        return (max if self.direction == "max" else min)(values) if values else None

    # -- space ---------------------------------------------------------------------------------------------------------

    def _make_distributions(self) -> dict[str, Any]:
        return {name: _make_distribution(entry) for name, entry in self.space.items()}

    def _decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values of options, for parameters as the study stores them."""
        settings = {}
        for name, entry in self.space.items():
            value = params[name]
            settings[name] = entry.values[entry.labels.index(value)] if isinstance(entry, Choices) else value
        return settings

    def _merge(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        values = copy.deepcopy(self.base)
        for name, value in settings.items():
            set_option(values, name, value)
        return values


def create_study(
    values: Mapping[str, Any],
    space: Mapping[str, Any],
    seed: int,
    prune: bool,
    out: str | os.PathLike[str] | None = None,
) -> Study:
    """Starts a study; see `Study.create`.

    Args:
        values: The base config as plain data, with its task.
        space: Dotted names of options to ranges or choices; `DEFAULT_SPACE` where it is empty.
        seed: Seed of the search.
        prune: Stop weak trials early.
        out: Folder of the study; runs/<task>/tune-<number> by default.
    """
    if out is None:
        parent = Path("runs") / str(values["task"])
        numbers = [int(path.name[5:]) for path in parent.glob("tune-*") if path.name[5:].isdigit()]
        out = parent / f"tune-{max(numbers, default=0) + 1}"
    return Study.create(Path(out), values, space or DEFAULT_SPACE, seed, prune)


def _make_distribution(entry: Range | Choices) -> Any:
    distributions = _import_optuna().distributions
    if isinstance(entry, Choices):
        return distributions.CategoricalDistribution(entry.labels)
    if entry.is_integer:
        return distributions.IntDistribution(int(entry.low), int(entry.high), entry.log, int(entry.step or 1))
    return distributions.FloatDistribution(float(entry.low), float(entry.high), entry.log, entry.step)


def _import_optuna() -> Any:
    """Imports Optuna.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError("Optuna is not installed", hint='Run: pip install "densevision[tune]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _to_plain(value: Any) -> Any:
    """Lists in place of tuples, for YAML."""
    return json.loads(json.dumps(value))


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
