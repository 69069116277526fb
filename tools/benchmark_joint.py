"""Trains joint models beside the single models of their tasks, and compares results, time and memory.

    python tools/benchmark_joint.py scenes thirds --backbone-weights FILE --out docs/results/joint.json
    python tools/benchmark_joint.py photos --photos COCO_FOLDER --backbone-weights FILE --out docs/results/joint.json

`scenes`: every image is labeled for all tasks; each model is trained for the same number of images. One prediction of
the joint model and one of each single model take turns. `thirds`: three disjoint sets of scenes, each labeled for one
task only. `photos`: detection, instance and semantic segmentation of the same photographs, in COCO's format. Every
change is that from the single model to its part of the joint model, with a paired bootstrap interval over the images.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("densevision", "torch", "timm", "segmentation-models-pytorch", "numpy")
OPTIONS: dict[str, dict[str, Any]] = {
    "detection": {"arch": "yolo_n", "augment.mosaic": 0, "augment.scale": [0.7, 1.4], "augment.translate": 0.1},
    "semantic": {
        "arch": "unet",
        "model": {"decoder_options": {"decoder_channels": [96, 48, 32, 16], "interpolation_mode": "bilinear"}},
        "augment.scale": [0.7, 1.4],
        "loss.jaccard": 1,
    },
    "depth": {
        "arch": "depth_unet",
        "model": {"width": 32, "finest_stride": 2},
        "max_depth": 20,
        "augment.scale": [1, 1.4],
        "loss.log_l1": 1,
    },
    "instance": {"arch": "mask_rcnn", "model": {"min_size": 320, "max_size": 448, "fpn_channels": 64}},
}
"""What differs from the defaults, of every task."""
JOINT_OPTIONS: dict[str, dict[str, Any]] = {"scenes": {"balance.weights": {"detection": 2}}, "thirds": {}, "photos": {}}
"""What differs from the defaults of the joint model itself, of every comparison."""
METRICS = {
    "detection": ("AP", "AP50"),
    "semantic": ("mIoU", "aAcc"),
    "depth": ("AbsRel", "delta1"),
    "instance": ("AP",),
}
SCENE_TASKS = ("detection", "semantic", "depth")
TURNS = 15
CANVAS = (480, 640)
SMALL_SIDE = 128
"""Longer side of an image that models of `--size 128` take as it is."""


@dataclass
class Plan:
    """What all models of a comparison share.

    Attributes:
        tasks: The tasks.
        data: Task -> its dataset; the same everywhere where one image teaches all.
        validation: The dataset of the evaluation.
        train: Options of all models.
        epochs: Of every model.
        joint: Options of the joint model alone.
    """

    tasks: tuple[str, ...]
    data: dict[str, str]
    validation: str
    train: dict[str, Any]
    epochs: int
    joint: dict[str, Any]

    @property
    def is_shared(self) -> bool:
        """Whether every image is labeled for all tasks."""
        return len(set(self.data.values())) == 1


@click.command(help=(__doc__ or "").splitlines()[0])
@click.argument("parts", nargs=-1, required=True, type=click.Choice(["scenes", "thirds", "photos", "speed"]))
@click.option("--images", default=2000, show_default=True, help="Scenes of `scenes`, and of all `thirds` together.")
@click.option("--epochs", default=6, show_default=True, help="Epochs of `scenes`; `thirds` have twice as many.")
@click.option("--photo-epochs", default=40, show_default=True, help="Epochs of `photos`.")
@click.option("--photo-tasks", default="detection,semantic,instance", show_default=True, help="Tasks of `photos`.")
@click.option("--photos", type=click.Path(exists=True, path_type=Path), help="A COCO dataset with masks.")
@click.option("--size", default=192, show_default=True, help="Side of the canvas of `scenes` and `thirds`.")
@click.option("--photo-size", default=320, show_default=True, help="Side of the canvas of `photos`.")
@click.option("--backbone", default="mobilenetv2_100", show_default=True, help="The timm backbone of all models.")
@click.option("--backbone-weights", default="true", show_default=True, help="A file, or timm's own.")
@click.option("--work", default="runs/benchmark_joint", show_default=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="JSON; parts that it holds are updated.")
def main(parts: tuple[str, ...], work: Path, out: Path | None, **arguments: Any) -> None:
    """Runs the command."""
    report = json.loads(out.read_text()) if out is not None and out.exists() else {}
    for part in parts:
        if part == "speed":
            report[part] = measure_predictions(work / "scenes", SCENE_TASKS)
        else:
            report[part] = compare_models(make_plan(part, **arguments), work / part)
        report[part]["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        report[part]["versions"] = {name: version(name) for name in PACKAGES}
        shown = {name: value for name, value in arguments.items() if name not in ("photos", "backbone_weights")}
        options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in shown.items())
        report[part]["command"] = f"python tools/benchmark_joint.py {part} {options}"
        click.echo(json.dumps({part: report[part]}, indent=1))
        if out is not None:
            out.write_text(json.dumps(report, indent=1) + "\n")


def make_plan(
    part: str,
    images: int,
    epochs: int,
    photo_epochs: int,
    photo_tasks: str,
    photos: Path | None,
    size: int,
    photo_size: int,
    backbone: str,
    backbone_weights: str,
) -> Plan:
    """The datasets and options of one comparison."""
    tasks = SCENE_TASKS
    train: dict[str, Any] = {
        "backbone.name": backbone,
        "backbone.pretrained": backbone_weights,
        "data.size": size,
        "train.batch": 8,
        "train.lr": 2e-3,
        "train.backbone_lr_scale": 0.3,
        "train.warmup_epochs": 0.3,
        "train.ema_decay": 0.995,
    }
    if part == "photos":
        if photos is None:
            raise click.UsageError("photos needs --photos FOLDER.")
        tasks = tuple(photo_tasks.split(","))
        train |= {"data.size": photo_size, "train.lr": 1e-3, "train.warmup_epochs": 2}
        return Plan(tasks, dict.fromkeys(tasks, str(photos)), str(photos), train, photo_epochs, JOINT_OPTIONS[part])
    data = dict.fromkeys(tasks, f"scenes:{images}:0")
    if part == "thirds":
        data = {task: f"scenes:{images // 3}:{seed}" for seed, task in enumerate(tasks, 1)}
        epochs *= 2
    return Plan(tasks, data, f"scenes:{images}:0", train, epochs, JOINT_OPTIONS[part])


def compare_models(plan: Plan, folder: Path) -> dict[str, Any]:
    """Trains all models, and compares each single model with its part of the joint model."""
    shared = {**plan.train, "train.epochs": plan.epochs, "train.validate_every": plan.epochs}
    weights, seconds = {}, {}
    for task in plan.tasks:
        weights[task], seconds[task] = train(task, plan.data[task], {**shared, **OPTIONS[task]}, folder / task)
    sections = {f"{task}.{name}": value for task in plan.tasks for name, value in OPTIONS[task].items()}
    augment = {"augment.scale": [0.7, 1.4]}
    options = {**shared, **sections, **augment, **plan.joint, "tasks": list(plan.tasks)}
    data = plan.validation if plan.is_shared else None
    if data is None:
        options |= {f"{task}.data.path": path for task, path in plan.data.items()}
    joint, seconds["joint"] = train("joint", data, options, folder / "joint")
    if not (folder / "parts").exists():
        run("joint", "split", joint, folder / "parts")
    rows = {}
    for task in plan.tasks:
        part = next((folder / "parts").glob(f"{task}*.safetensors"))
        found = run(task, "compare", weights[task], part, "--data", plan.validation, "--json", "--quiet")
        differences = json.loads(found)["differences"]
        rows[task] = {metric: differences[metric] for metric in METRICS[task]}
    return {
        "tasks": rows,
        "epochs": plan.epochs,
        "datasets": plan.data if not plan.validation.startswith("/") else "COCO photographs",
        "evaluated_on": "val of the same" if not plan.validation.startswith("scenes") else f"val of {plan.validation}",
        "cpu_seconds_of_training": seconds,
        "options": {name: value for name, value in shared.items() if name != "backbone.pretrained"},
        "options_of_tasks": {task: OPTIONS[task] for task in plan.tasks},
        "options_of_the_joint_model": plan.joint,
    }


def train(task: str, data: str | None, options: dict[str, Any], out: Path) -> tuple[Path, float]:
    """Trains a model, unless it is there; returns its last weights and the CPU seconds."""
    record = out / "cpu_seconds.json"
    if not record.exists():
        settings = [word for name, value in options.items() for word in ("--set", f"{name}={json.dumps(value)}")]
        source = ["--data", data] if data is not None else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(task, "train", *source, "--out", out, "--quiet", *settings)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        record.write_text(json.dumps(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return out / "best.safetensors", round(json.loads(record.read_text()))


def run(*arguments: Any) -> str:
    """Runs the command line; returns what it prints."""
    words = [sys.executable, "-m", "densevision", *map(str, arguments)]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure_predictions(folder: Path, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Milliseconds of one prediction in turns, and megabytes of a process that predicts, of trained models."""
    import densevision
    from densevision.datasets.scenes import Scenes

    files = {name: folder / name / "best.safetensors" for name in ("joint", *tasks)}
    models = {name: densevision.load(file) for name, file in files.items()}
    report: dict[str, Any] = {"canvas": CANVAS, "turns": TURNS}
    report |= measure_times(models, tasks, Scenes(1, 0, CANVAS)[0].image)
    small = tuple(SMALL_SIDE * side // max(CANVAS) for side in CANVAS)
    report["image_that_no_model_resizes"] = {
        "size": small,
        **measure_times(models, tasks, Scenes(1, 0, small)[0].image),
    }
    memory = {name: measure_memory([file]) for name, file in files.items()}
    memory["three single models"] = measure_memory([files[name] for name in tasks])
    memory["no model"] = measure_memory([])
    report["peak_megabytes"] = memory
    growth = {name: memory[name] - memory["no model"] for name in ("joint", "three single models")}
    report["joint_over_singles_of_growth"] = round(growth["joint"] / growth["three single models"], 3)
    return report


def measure_times(models: dict[str, Any], tasks: tuple[str, ...], image: Any) -> dict[str, Any]:
    """Milliseconds of one prediction of each model, in turns, by precision."""
    report = {}
    for precision in ("float32", "auto"):
        times: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(TURNS + 2):
            for name, model in models.items():
                start = time.perf_counter()
                model.predict(image, precision=precision)
                if turn >= 2:
                    times[name].append(1000 * (time.perf_counter() - start))
        medians = {name: statistics.median(values) for name, values in times.items()}
        ratio = medians["joint"] / sum(medians[name] for name in tasks)
        report[precision] = {"milliseconds": medians, "joint_over_sum_of_singles": round(ratio, 3)}
    return report


_MEMORY_PROGRAM = """
import re, sys
import densevision
from densevision.datasets.scenes import Scenes
from densevision.tasks import load_task
image = Scenes(1, 0, (480, 640))[0].image
for task in ("joint", "detection", "semantic", "depth"):
    load_task(task)
models = [densevision.load(file) for file in sys.argv[1:]]
for _ in range(3):
    for model in models:
        model.predict(image)
print(int(re.search(r"VmHWM:[ \t]*([0-9]+)", open("/proc/self/status").read())[1]) / 1024)
"""


def measure_memory(files: list[Path]) -> float:
    """Peak resident megabytes of a new process that loads the models and predicts with each; needs Linux."""
    words = [sys.executable, "-c", _MEMORY_PROGRAM, *map(str, files)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return round(float(done.stdout), 1)


if __name__ == "__main__":
    main()
