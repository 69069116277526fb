"""Measures start-up, COCO scoring and opening beside peers, images/s of training and prediction, and memory.

    python tools/benchmark.py [start] [score] [speed] [memory] [check] [opening] [export] [peers] [--out FILE]

Every figure is a ratio against a named peer measured in the same run, or stands beside the machine's description.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from densevision.cli.main import VERBS
from densevision.tasks import TASKS


def timed(command: list[str], repeats: int = 5) -> float:
    """Shortest wall time of a whole process, in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def start() -> dict[str, Any]:
    """Start-up of every help page and of the import."""
    python = [sys.executable, "-c"]
    bare = timed([*python, "pass"])
    pages = {f"{task} {verb}": timed(["densevision", task, verb, "--help"], 3) for task in TASKS for verb in VERBS}
    slowest = max(pages, key=pages.__getitem__)
    return {
        "help_s": timed(["densevision", "--help"]),
        "slowest_help_s": pages[slowest],
        "slowest_help": slowest,
        "import_s": timed([*python, "import densevision"]) - bare,
    }


def score() -> dict[str, Any]:
    """`score` on 5,000 images and 500,000 boxes beside hotcoco and pycocotools on the same files."""
    with tempfile.TemporaryDirectory() as folder:
        truth, predictions, counts = _boxes(Path(folder))
        evaluate = "E=COCOeval(G,{},'bbox'); E.evaluate(); E.accumulate(); E.summarize()"
        pycocotools = (
            f"from pycocotools.coco import COCO; from pycocotools.cocoeval import COCOeval; G=COCO('{truth}');"
            + evaluate.format(f"G.loadRes('{predictions}')")
        )
        hotcoco = f"from hotcoco import COCO, COCOeval; G=COCO('{truth}');" + evaluate.format(
            f"G.load_res('{predictions}')"
        )
        command = ["densevision", "detection", "score", "--truth", truth, "--predictions", predictions, "--json"]
        ours = timed(command, 3)
        peers = {
            "hotcoco": timed([sys.executable, "-c", hotcoco], 3),
            "pycocotools": timed([sys.executable, "-c", pycocotools], 1),
        }
    return {
        **counts,
        "score_s": ours,
        **{f"{name}_s": seconds for name, seconds in peers.items()},
        "times_faster_than_pycocotools": peers["pycocotools"] / ours,
        "ratio_to_hotcoco": ours / peers["hotcoco"],
    }


def speed() -> dict[str, Any]:
    """Images per second of prediction with the starter weights, and of training on scenes."""
    figures: dict[str, Any] = {}
    for task in TASKS:
        command = ["densevision", task, "benchmark", "--json", "--size", "320"]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        figures[f"{task}/predict"] = json.loads(result.stdout)
        with tempfile.TemporaryDirectory() as folder:
            settings = ["--set", "train.epochs=2", "--set", "train.batch=8", "--data", "scenes:24:0", "--quiet"]
            subprocess.run(
                ["densevision", task, "train", *settings, "--out", f"{folder}/run"], check=True, capture_output=True
            )
            rows = Path(folder, "run", "metrics.csv").read_text().splitlines()
            last = dict(zip(rows[0].split(","), rows[-1].split(",")))
            figures[f"{task}/train_images_per_second"] = float(last["images_per_second"])
        click.echo(f"{task}: trains on {last['images_per_second']} images/s", err=True)  # all seven take minutes
    return figures


def memory() -> dict[str, Any]:
    """All cases of `benchmark_memory.py`."""
    from benchmark_memory import measure_memory

    return measure_memory()


def check(images: int = 10_000) -> dict[str, Any]:
    """`check` on small JPEGs with boxes: the whole program, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        boxes = _jpegs(Path(folder), images)
        command = ["densevision", "detection", "check", folder, "--json"]
        start = time.perf_counter()
        result = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        report = json.loads(result.stdout)
        found = {finding["name"]: finding["count"] for finding in report["findings"]}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"images": images, "boxes": boxes, "cores": cores, "check_s": seconds, "found": found}


def opening(images: int = 100_000) -> dict[str, Any]:
    """CPU seconds to open COCO JSON with ten boxes per image, in processes that have imported what they need.

    densevision also finds and measures every image; hotcoco and pycocotools read the JSON alone.
    """
    imports = "from time import process_time as clock; "
    ours = imports + (
        "import densevision; densevision.open_dataset('detection', 'scenes:1'); start = clock(); "
        "densevision.open_dataset('detection', {folder!r}); print(clock() - start)"
    )
    peer = imports + "from {module} import COCO; start = clock(); COCO({file!r}); print('', clock() - start, sep='\\n')"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        file = _coco(Path(folder), images)
        environment = {**os.environ, "DENSEVISION_CACHE": cache}

        def measure(program: str, **values: Any) -> float:
            command = [sys.executable, "-c", program.format(**values)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            return float(done.stdout.split()[-1])

        figures = {
            "first_s": measure(ours, folder=folder),
            "hotcoco_s": measure(peer, module="hotcoco", file=str(file)),
            "pycocotools_s": measure(peer, module="pycocotools.coco", file=str(file)),
            "from_index_s": measure(ours, folder=folder),
        }
        index = sum(path.stat().st_size for path in Path(cache).rglob("*.npz"))
        sizes = {"json_mb": file.stat().st_size / 2**20, "index_mb": index / 2**20}
    ratio = figures["first_s"] / figures["pycocotools_s"]
    return {"images": images, "boxes": 10 * images, **sizes, **figures, "ratio_to_pycocotools": ratio}


def _coco(folder: Path, images: int) -> Path:
    """Copies of 200 small JPEGs with ten random boxes each; the split "val" has ten of them."""
    import cv2

    rng, sides = np.random.default_rng(0), [(640, 480), (480, 640), (640, 427), (500, 375)]
    noise = [rng.integers(0, 255, (5, 7, 3), np.uint8) for _ in range(200)]
    drawn = [cv2.resize(each, sides[n % 4], interpolation=cv2.INTER_CUBIC) for n, each in enumerate(noise)]
    contents = [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1].tobytes() for image in drawn]
    for name in ("images", "annotations"):
        (folder / name).mkdir()
    for number in range(images):
        (folder / "images" / f"{number:012d}.jpg").write_bytes(contents[number % 200])
    entries = [
        {"id": n, "file_name": f"{n:012d}.jpg", "width": sides[n % 4][0], "height": sides[n % 4][1]}
        for n in range(images)
    ]
    boxes = np.concatenate([rng.uniform(0, 200, (10 * images, 2)), rng.uniform(4, 170, (10 * images, 2))], 1).round(2)
    labels = rng.integers(1, 81, 10 * images).tolist()
    target_records = [
        {"id": n, "image_id": n // 10, "category_id": label, "bbox": box, "area": round(box[2] * box[3], 3),
         "iscrowd": 0}
        for n, (label, box) in enumerate(zip(labels, boxes.tolist()))
    ]  # fmt: skip
    categories = [{"id": label, "name": f"class {label}"} for label in range(1, 81)]
    for split, count in (("val", 10), ("train", images)):
        file = folder / "annotations" / f"instances_{split}.json"
        content = {"images": entries[:count], "annotations": target_records[: 10 * count], "categories": categories}
        file.write_text(json.dumps(content))
    return file


def export() -> dict[str, Any]:
    """Seconds of the process that exports the bundled detector to ONNX and verifies the file."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["densevision", "detection", "export", "--out", f"{folder}/model.onnx", "--quiet"]
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"onnx_wall_s": after.elapsed - before.elapsed, "onnx_cpu_s": cpu}


def peers() -> dict[str, Any]:
    """All rows of `benchmark_peers.py`: the same work by other libraries, in turns."""
    from benchmark_peers import measure_rows

    return measure_rows()


def _jpegs(folder: Path, images: int) -> int:
    """Images of 320 x 240 of coarse noise, no two alike, with five boxes each, as YOLO txt; a tenth validates."""
    import cv2

    rng = np.random.default_rng(0)
    for number in range(images):
        split = "val" if number % 10 == 0 else "train"
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        image = cv2.resize(rng.integers(0, 255, (15, 20, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "images" / split / f"{number}.jpg"), image)
        sides = rng.uniform(0.1, 0.4, (5, 2))
        rows = np.concatenate([rng.uniform(sides / 2, 1 - sides / 2), sides], 1)
        lines = (f"{label} " + " ".join(f"{value:.6f}" for value in row) for label, row in enumerate(rows))
        (folder / "labels" / split / f"{number}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b, c, d, e]\n")
    return 5 * images


def _boxes(folder: Path) -> tuple[str, str, dict[str, int]]:
    """Random truths and predictions with COCO's statistics: sizes, classes per image, crowd, hits and misses."""
    rng = np.random.default_rng(0)
    target_records, predictions = [], []
    for image in range(1, 5001):
        count, classes = min(int(rng.poisson(7.3)), 60), rng.integers(1, 81, 3)
        sides = np.exp(rng.normal(4, 1, (count, 2))).clip(4, 400)
        corners = rng.uniform(0, 1, (count, 2)) * (np.array([640, 480]) - sides).clip(1)
        boxes, labels = np.concatenate([corners, sides], 1), rng.choice(classes, count)
        for box, label in zip(boxes.tolist(), labels.tolist()):
            area = box[2] * box[3] * 0.7
            target_records.append({"id": len(target_records) + 1, "image_id": image, "category_id": label, "bbox": box,
                                   "area": area,
                           "iscrowd": int(rng.random() < 0.01)})  # fmt: skip
        for hit in rng.random(100) < 0.35:
            if hit and count:
                pick = int(rng.integers(count))
                box, label = boxes[pick] * (1 + rng.normal(0, 0.1, 4)), int(labels[pick])
            else:
                box, label = (
                    np.concatenate([rng.uniform(0, 400, 2), np.exp(rng.normal(4, 1, 2))]),
                    int(rng.integers(1, 81)),
                )
            score = float(rng.beta(3, 2) if hit else rng.beta(1, 6))
            bbox = box.clip([0, 0, 1, 1]).round(2).tolist()
            predictions.append({"image_id": image, "category_id": label, "bbox": bbox,
                                "score": round(score, 5)})  # fmt: skip
    images = [{"id": image, "width": 640, "height": 480, "file_name": f"{image}.jpg"} for image in range(1, 5001)]
    categories = [{"id": label, "name": str(label)} for label in range(1, 81)]
    paths = folder / "truth.json", folder / "predictions.json"
    paths[0].write_text(json.dumps({"images": images, "annotations": target_records, "categories": categories}))
    paths[1].write_text(json.dumps(predictions))
    return (
        str(paths[0]),
        str(paths[1]),
        {"images": 5000, "truths": len(target_records), "predictions": len(predictions)},
    )


PARTS = {
    "start": start,
    "score": score,
    "speed": speed,
    "memory": memory,
    "check": check,
    "opening": opening,
    "export": export,
    "peers": peers,
}


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--out", type=click.Path(dir_okay=False), help="Write the figures as JSON.")
def main(parts: tuple[str, ...], out: str | None) -> None:
    figures: dict[str, Any] = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    for part in parts or PARTS:
        figures[part] = PARTS[part]()
        click.echo(json.dumps({part: figures[part]}, indent=1))
    if out:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
