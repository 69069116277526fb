"""Measures detectors from a JPEG file to boxes beside their publishers' libraries, on the same weights.

    python tools/benchmark_peers.py [yolox/s] [dfine/small] [--repeats N] [--out FILE]

`yolox/s` runs beside pixeltable-yolox, `dfine/small` beside transformers, on an image of 640 x 640 pixels, batch 1, on
the CPU, in float32 and in bfloat16 (`precision="auto"` where the processor has it; the peers under autocast). All take
turns, so that other load on the machine affects all of them; the median time of each counts. Weights are random. The
peers run without gradients, which pixeltable-yolox leaves to its caller.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

import densevision
from densevision.datasets.scenes import Scenes
from densevision.inference.device import pick_device, pick_precision
from densevision.io.image import write_image
from densevision.published_weights import convert_weights

Call = Callable[[], Any]
SIDE = 640
WARM_UP = 3
SCORE_THRESHOLD = 0.5
DFINE_BACKBONE = {
    "stem_channels": [3, 16, 16],
    "stage_in_channels": [16, 64, 256, 512],
    "stage_mid_channels": [16, 32, 64, 128],
    "stage_out_channels": [64, 256, 512, 1024],
    "hidden_sizes": [64, 256, 512, 1024],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [3, 3, 3, 3],
    "use_learnable_affine_block": True,
    "out_indices": [2, 3, 4],
}
DFINE_SMALL = {
    "hidden_expansion": 0.5,
    "depth_mult": 0.34,
    "decoder_layers": 3,
    "decoder_n_points": [3, 6, 3],
    "encoder_in_channels": [256, 512, 1024],
}
"""D-FINE-S in transformers, where it differs from the defaults."""


def build_yolox(folder: Path, image: Path) -> tuple[Call, str]:
    """Writes random weights of YOLOX-s; returns pixeltable-yolox's prediction and the name of its package."""
    from yolox.config import YoloxConfig
    from yolox.models.processor import YoloxProcessor
    from yolox.models.yolox import Yolox

    config = YoloxConfig.get_named_config("yolox_s")
    module = config.get_model().eval()
    torch.save({"model": module.state_dict()}, folder / "published.pth")
    model = Yolox(module, YoloxProcessor(config))
    return lambda: model([image], threshold=SCORE_THRESHOLD), "pixeltable-yolox"


def build_dfine(folder: Path, image: Path) -> tuple[Call, str]:
    """Writes random weights of D-FINE-S; returns transformers' prediction and the name of its package."""
    from PIL import Image
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config, RTDetrImageProcessor

    config = DFineConfig(backbone_config=HGNetV2Config(**DFINE_BACKBONE), num_labels=80, **DFINE_SMALL)
    model = DFineForObjectDetection(config).eval()
    torch.save(model.state_dict(), folder / "published.pth")
    processor = RTDetrImageProcessor()

    def predict() -> Any:
        with Image.open(image) as opened:
            decoded = opened.convert("RGB")
        outputs = model(**processor(images=decoded, return_tensors="pt"))
        sizes = [(decoded.height, decoded.width)]
        return processor.post_process_object_detection(outputs, target_sizes=sizes, threshold=SCORE_THRESHOLD)

    return predict, "transformers"


PEERS: dict[str, Callable[[Path, Path], tuple[Call, str]]] = {"yolox/s": build_yolox, "dfine/small": build_dfine}


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Times of one model and of its peer, in milliseconds."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image = folder / "image.jpg"
        write_image(image, Scenes(1, 0, (SIDE, SIDE))[0].image)
        peer, package = PEERS[name](folder, image)
        convert_weights(name, folder / "published.pth", folder / "ours.safetensors")
        ours = densevision.load(folder / "ours.safetensors")
        options = {"device": "cpu", "score_threshold": SCORE_THRESHOLD}
        calls: dict[str, Call] = {
            "float32": lambda: ours.predict(image, precision="float32", **options),
            "auto": lambda: ours.predict(image, precision="auto", **options),
            f"{package}_float32": peer,
            f"{package}_bfloat16": lambda: _run_in_bfloat16(peer),
        }
        milliseconds = _take_turns(calls, repeats)
    peer_float32 = milliseconds[f"{package}_float32"]
    return {
        "milliseconds": {key: round(value, 1) for key, value in milliseconds.items()},
        "times_faster": {
            "float32": round(peer_float32 / milliseconds["float32"], 2),
            "auto_against_float32": round(peer_float32 / milliseconds["auto"], 2),
            "auto_against_bfloat16": round(milliseconds[f"{package}_bfloat16"] / milliseconds["auto"], 2),
        },
        "auto_is": pick_precision("auto", pick_device("cpu")),
        "parameters": sum(parameter.numel() for parameter in _get_model(ours).parameters()),
        "peer": f"{package} {metadata.version(package)}",
    }


def _take_turns(calls: dict[str, Call], repeats: int) -> dict[str, float]:
    """The median time of each call in milliseconds; they alternate."""
    times: dict[str, list[float]] = {key: [] for key in calls}
    with torch.inference_mode():
        for number in range(WARM_UP + repeats):
            for key, call in calls.items():
                start = time.perf_counter()
                call()
                if number >= WARM_UP:
                    times[key].append(1000 * (time.perf_counter() - start))
    return {key: statistics.median(values) for key, values in times.items()}


def _run_in_bfloat16(call: Call) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return call()


def _get_model(predictor: Any) -> nn.Module:
    return predictor.model


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(PEERS)))
@click.option("--repeats", default=30, show_default=True, help="Timed predictions of each.")
@click.option("--profile", is_flag=True, help="Print where the time of our prediction goes, instead of measuring.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write the figures as JSON.")
def main(names: tuple[str, ...], repeats: int, profile: bool, out: str | None) -> None:
    figures: dict[str, Any] = {
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "image": f"JPEG, {SIDE} x {SIDE}",
        "repeats": repeats,
    }
    for name in names or PEERS:
        if profile:
            click.echo(profile_prediction(name))
            continue
        figures[name] = measure(name, repeats)
        click.echo(json.dumps({name: figures[name]}, indent=1))
    if out and not profile:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n")


def profile_prediction(name: str) -> str:
    """A table of the operators that take the time of one prediction in float32."""
    from torch.profiler import ProfilerActivity, profile

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image = folder / "image.jpg"
        write_image(image, Scenes(1, 0, (SIDE, SIDE))[0].image)
        PEERS[name](folder, image)
        convert_weights(name, folder / "published.pth", folder / "ours.safetensors")
        ours = densevision.load(folder / "ours.safetensors")
        ours.predict(image, precision="float32")
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            ours.predict(image, precision="float32")
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=15)


if __name__ == "__main__":
    main()
