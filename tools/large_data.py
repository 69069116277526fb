"""Time and memory of a large dataset in one tar: indexing, opening, and reading every image in the order of training.

    python tools/large_data.py --images 50000 --out docs/results/large_data.json

The images are small and made here; the numbers show that memory does not grow with their number.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densevision.io.atomic_write import write_text
from densevision.run_folder import collect_versions

SEED, SIDE = 0, 32


def write_tar(path: Path, count: int) -> None:
    """Writes images with a box each, and a COCO JSON."""
    rng = np.random.default_rng(SEED)
    images, annotations = [], []
    with tarfile.open(path, "w") as archive:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            archive.members.clear()  # type: ignore[attr-defined]

        for number in range(count):
            pixels = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
            name = f"images/{number:06d}.png"
            add(name, cv2.imencode(".png", pixels)[1].tobytes())
            images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
            entry = {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [4, 4, 20, 20], "area": 400}
            annotations.append({**entry, "iscrowd": 0})
        categories = [{"id": 1, "name": "thing"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        add("instances_train.json", json.dumps(content).encode())


def read_megabytes() -> float:
    """Resident memory of this process."""
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def measure(tar: Path) -> dict[str, Any]:
    """Opens the tar twice and reads all images in random order."""
    from densevision.tasks import load_config, load_task

    config = load_config("detection").resolve(None, {"data.path": str(tar)})
    row: dict[str, Any] = {}
    start = time.perf_counter()
    config = load_task("detection").infer_from_data(config)
    row["index_seconds"] = round(time.perf_counter() - start, 1)
    start = time.perf_counter()
    samples = load_task("detection")(config).open_dataset("train")
    row["open_seconds"] = round(time.perf_counter() - start, 1)
    row["samples"] = len(samples)
    order = np.random.default_rng((SEED, 0)).permutation(len(samples)).tolist()
    tenth = len(order) // 10
    start = time.perf_counter()
    for position, index in enumerate(order, 1):
        samples[index]
        if position in (tenth, len(order)):
            row["megabytes_after_a_tenth" if position == tenth else "megabytes_after_all"] = round(read_megabytes(), 1)
    row["images_per_second"] = round(len(order) / (time.perf_counter() - start))
    return row


def main() -> None:
    """Measures in a cache of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DENSEVISION_CACHE"] = str(Path(folder) / "cache")
        tar = Path(folder) / "set.tar"
        write_tar(tar, arguments.images)
        row = {"images": arguments.images, "tar_megabytes": round(tar.stat().st_size / 1e6, 1), **measure(tar)}
    command = f"python tools/large_data.py --images {arguments.images}"
    report = {
        "command": command,
        "seed": SEED,
        "load_average": os.getloadavg()[0],
        **row,
        "versions": collect_versions(),
    }
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        write_text(arguments.out, text)


if __name__ == "__main__":
    main()
