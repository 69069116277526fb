"""Kills trainings and writers with SIGKILL at random moments, and checks what is left.

    python tools/kill_test.py --kills 20 --out docs/results/kills.json

Trainings of detection, depth and translation (scenes, 64 px, CPU) are killed and resumed until they end: weights, best
weights and metrics must equal those of a run that was never stopped, bit for bit. Predictions, conversions and exports
are killed: every file that exists must equal that of an undisturbed call, or not exist. With `--only bulk`, drivers and
workers of bulk predictions on Ray are killed: what the same call then completes must have the rows of an undisturbed
run. Needs a system with fork.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

TINY = ("data.size=64", "train.epochs=3", "train.batch=4", "train.seed=3", "train.precision=float32")
TRAININGS = {
    "detection": ("arch=yolo_n", "backbone.name=mobilenetv2_050", *TINY),
    "depth": ("arch=depth_unet", "backbone.name=mobilenetv2_050", "model.width=8", *TINY),
    "translation": ("arch=pix2pix_unet", "model.width=8", "model.depth=4", *TINY),
}
PACKAGES = ("densevision", "torch", "lightning", "onnx")
CLOCKS = ("seconds", "images_per_second", "memory_mb")
LOG_VARIABLE = "KILL_TEST_LOG"
"""Environment variable that names a file for the output of the children, which is dropped otherwise."""
SECOND_KILL = 0.4
"""Probability that a resumed run is killed as well."""
Arguments = tuple[str, ...]


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--kills", default=20, show_default=True, help="Trials per training and per writer.")
@click.option("--seed", default=0, show_default=True, help="Seed of the moments.")
@click.option("--only", multiple=True, help="Only these trainings and writers.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON with the counts; rows that it holds are updated.")
def main(kills: int, seed: int, only: tuple[str, ...], out: Path | None) -> None:
    """Runs the command."""
    import densevision.cli.main  # loaded once, so that a forked child starts at once
    import densevision.exporting.export
    import densevision.training.train

    rows = json.loads(out.read_text())["results"] if out is not None and out.exists() else {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trials: dict[str, Callable[[random.Random, Path], dict[str, Any]]] = {}
        for task, settings in TRAININGS.items():
            trials[f"train {task}"] = prepare_training(task, settings, folder / task)
        trials |= prepare_writers(folder)
        if "bulk" in only:
            from bulk_kills import prepare_bulk, run_cluster

            import densevision.bulk.run  # noqa: F401

            trials["bulk"] = prepare_bulk(folder, stack.enter_context(run_cluster()), start, finish)
        for name, trial in trials.items():
            if only and name not in only:
                continue
            rng = random.Random(f"{seed} {name}")
            outcomes: list[dict[str, Any]] = []
            for _ in range(kills):
                outcomes.append(trial(rng, folder / "trial"))
                rows[name] = count_outcomes(outcomes)
                if out is not None:  # after each trial: some take minutes
                    write_report(out, rows, kills, seed, only)
            click.echo(f"{name}: {json.dumps(rows[name])}")
    sys.exit(0 if all(row["sound"] == row["trials"] for row in rows.values()) else 1)


def count_outcomes(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """How many trials there were, and how many of them left what they should."""
    victims = [outcome["victim"] for outcome in outcomes if "victim" in outcome]
    return {
        "trials": len(outcomes),
        "kills": sum(outcome["kills"] for outcome in outcomes),
        **({"killed": {each: victims.count(each) for each in sorted(set(victims))}} if victims else {}),
        "sound": sum(outcome["problem"] is None for outcome in outcomes),
        "problems": [outcome["problem"] for outcome in outcomes if outcome["problem"]],
    }


def write_report(out: Path, rows: dict[str, Any], kills: int, seed: int, only: tuple[str, ...]) -> None:
    """Writes the counts with the command and the versions."""
    from densevision.io.atomic_write import write_text

    report = {
        "command": " ".join(["python tools/kill_test.py", *(f"--only {each}" for each in only)])
        + f" --kills {kills} --seed {seed} --out {out}",
        **({} if only == ("bulk",) else {"trainings": {task: " ".join(each) for task, each in TRAININGS.items()}}),
        "versions": {name: version(name) for name in PACKAGES + (("ray", "pyarrow") if "bulk" in only else ())}
        | {"python": sys.version.split()[0]},
        "results": rows,
    }
    write_text(out, json.dumps(report, indent=1) + "\n")


def start(arguments: Arguments) -> int:
    """Runs the command line in a forked child; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        log = os.open(os.environ.get(LOG_VARIABLE, os.devnull), os.O_RDWR | os.O_CREAT | os.O_APPEND)
        for stream in (0, 1, 2):
            os.dup2(log, stream)
        from densevision.cli.main import run

        sys.argv = ["densevision", *arguments]
        run()
        os._exit(0)
    except SystemExit as ending:
        os._exit(int(ending.code or 0))
    finally:
        os._exit(99)


def finish(arguments: Arguments) -> int:
    """Runs the command line to its end; returns the exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(start(arguments), 0)[1])


def kill_after(arguments: Arguments, seconds: float) -> bool:
    """Kills the command after a time; False if it had ended before."""
    child = start(arguments)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def kill_early(call: Callable[[Path], Arguments], out: Path, seconds: float, rng: random.Random) -> float:
    """Kills a call at a random moment; one that ended before is repeated. Returns how long the call takes at most."""
    while True:
        moment = rng.uniform(0, seconds)
        if kill_after(call(out), moment):
            return seconds
        shutil.rmtree(out, ignore_errors=True)
        seconds = moment


def measure(arguments: Arguments) -> float:
    """Seconds that the command takes; it must succeed."""
    begin = time.monotonic()
    code = finish(arguments)
    if code:
        raise click.ClickException(f"densevision {' '.join(arguments)} exits with {code}")
    return time.monotonic() - begin


def prepare_training(task: str, settings: Arguments, reference: Path) -> Callable[[random.Random, Path], dict]:
    """Trains once without a stop, when the first trial runs; a trial kills, resumes and compares."""
    options = tuple(part for setting in settings for part in ("--set", setting))

    def train(out: Path) -> Arguments:
        return (task, "train", "--data", "scenes:8:7", *options, "--quiet", "--out", str(out))

    def trial(rng: random.Random, out: Path) -> dict[str, Any]:
        if not reference.exists():
            trial.seconds = measure(train(reference))  # type: ignore[attr-defined]
        seconds = kill_early(train, out, trial.seconds, rng)  # type: ignore[attr-defined]
        trial.seconds, kills = seconds, 1  # type: ignore[attr-defined]
        while kills < 3 and rng.random() < SECOND_KILL and (out / "config.yaml").exists():
            kills += kill_after((task, "train", "--resume", str(out), "--quiet"), rng.uniform(0, seconds))
        is_started = (out / "config.yaml").exists()
        if not is_started:
            shutil.rmtree(out, ignore_errors=True)
        code = finish((task, "train", "--resume", str(out), "--quiet") if is_started else train(out))
        problem = f"exit code {code}" if code else compare_runs(reference, out)
        shutil.rmtree(out, ignore_errors=True)
        return {"kills": kills, "problem": problem}

    return trial


def compare_runs(reference: Path, run: Path) -> str | None:
    """The first difference of weights or metrics, which must be equal to the bit."""
    from safetensors.torch import load_file

    from densevision.run_folder import RunFolder

    for name in ("last.safetensors", "best.safetensors"):
        expected, actual = load_file(reference / name), load_file(run / name)
        if expected.keys() != actual.keys():
            return f"{name}: other tensors"
        for tensor in expected:
            if expected[tensor].numpy().tobytes() != actual[tensor].numpy().tobytes():
                return f"{name}: {tensor} differs"
    rows, expected_rows = RunFolder(run).read_rows(), RunFolder(reference).read_rows()
    if [drop_clocks(row) for row in rows] != [drop_clocks(row) for row in expected_rows]:
        return "metrics.csv differs"
    return None


def drop_clocks(row: dict[str, str]) -> dict[str, str]:
    """A row of metrics without what depends on the machine."""
    return {name: value for name, value in row.items() if name not in CLOCKS}


def prepare_writers(folder: Path) -> dict[str, Callable[[random.Random, Path], dict]]:
    """Predictions, conversions and exports, with a small dataset to read."""
    images = folder / "images"
    make_dataset(images)
    calls: dict[str, Callable[[Path], Arguments]] = {
        "predict": lambda out: ("detection", "predict", str(images / "images" / "train"), "--out", str(out),
                                "--save", "png", "--save", "json"),
        "predict depth": lambda out: ("depth", "predict", str(images / "images" / "train"), "--out", str(out),
                                      "--save", "npz", "--save", "png"),
        "convert coco": lambda out: ("convert", str(images), str(out), "--to", "coco"),
        "convert voc": lambda out: ("convert", str(images), str(out), "--to", "voc"),
        "export onnx": lambda out: ("superres", "export", "--out", str(out / "a.onnx"), "--format", "onnx"),
        "export torch": lambda out: ("superres", "export", "--out", str(out / "a.pt2"), "--format", "torch"),
    }  # fmt: skip
    return {name: prepare_writer(call, folder / name.replace(" ", "-")) for name, call in calls.items()}


def prepare_writer(call: Callable[[Path], Arguments], reference: Path) -> Callable[[random.Random, Path], dict]:
    """A trial kills one call and compares the files that exist with those of an undisturbed call."""

    def trial(rng: random.Random, out: Path) -> dict[str, Any]:
        if not reference.exists():
            trial.seconds = measure(call(reference))  # type: ignore[attr-defined]
        trial.seconds = kill_early(call, out, trial.seconds, rng)  # type: ignore[attr-defined]
        problem = compare_files(reference, out)
        for left in out.parent.glob(f".{out.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
        return {"kills": 1, "problem": problem}

    return trial


def compare_files(reference: Path, out: Path) -> str | None:
    """The first visible file that differs from the undisturbed call; hidden ones are unfinished."""
    for path in sorted(out.rglob("*")) if out.exists() else ():
        name = path.relative_to(out)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            if not (reference / name).is_file():
                return f"{name}: not among the files of an undisturbed call"
            if path.read_bytes() != (reference / name).read_bytes():
                return f"{name}: {path.stat().st_size} of {(reference / name).stat().st_size} bytes, or other content"
    return None


def make_dataset(folder: Path) -> None:
    """A YOLO dataset of rendered scenes."""
    from densevision.datasets.scenes import CLASSES, Scenes
    from densevision.io.atomic_write import write_text
    from densevision.io.image import write_image

    scenes = Scenes(12, 5, (96, 128))
    for split in ("train", "val"):
        for index in range(len(scenes)):
            scene, (height, width) = scenes[index], scenes.size
            name = f"{split}_{index}"  # Pascal VOC keeps the images of all splits in one folder
            write_image(folder / "images" / split / f"{name}.png", scene.image)
            lines = [
                f"{label} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
                for label, (x1, y1, x2, y2) in zip(scene.labels.tolist(), scene.boxes.tolist())
            ]
            write_text(folder / "labels" / split / f"{name}.txt", "\n".join(lines) + "\n")
    write_text(folder / "data.yaml", json.dumps({"train": "images/train", "val": "images/val", "names": list(CLASSES)}))


if __name__ == "__main__":
    main()
