"""Detectors from a JPEG file to boxes, batch 1."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

import densevision
from densevision.datasets.scenes import Scenes
from densevision.inference.predictor import build_without_weights
from densevision.io.image import write_image
from densevision.nn.inference_form import make_inference_form
from densevision.published_weights import convert_weights
from densevision.sample import make_example_inputs
from peers import OURS, Call, Row, predict_in_precisions, run_in_bfloat16

__all__ = ["ROWS"]

SIDE = 640
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


def prepare_yolox(folder: Path) -> dict[str, Call]:
    """YOLOX-s beside pixeltable-yolox, which leaves it to its caller to run without gradients."""
    from yolox.config import YoloxConfig
    from yolox.models.processor import YoloxProcessor
    from yolox.models.yolox import Yolox

    config = YoloxConfig.get_named_config("yolox_s")
    module = config.get_model().eval()
    torch.save({"model": module.state_dict()}, folder / "published.pth")
    model, image = Yolox(module, YoloxProcessor(config)), _write_scene(folder)

    def predict() -> Any:
        return model([image], threshold=SCORE_THRESHOLD)

    return {
        **_convert("yolox/s", folder, image),
        "pixeltable-yolox float32": predict,
        "pixeltable-yolox bfloat16": run_in_bfloat16(predict),
    }


def prepare_dfine(folder: Path) -> dict[str, Call]:
    """D-FINE-S beside transformers."""
    from PIL import Image
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config, RTDetrImageProcessor

    config = DFineConfig(backbone_config=HGNetV2Config(**DFINE_BACKBONE), num_labels=80, **DFINE_SMALL)
    model = DFineForObjectDetection(config).eval()
    torch.save(model.state_dict(), folder / "published.pth")
    processor, image = RTDetrImageProcessor(), _write_scene(folder)

    def predict() -> Any:
        with Image.open(image) as opened:
            decoded = opened.convert("RGB")
        outputs = model(**processor(images=decoded, return_tensors="pt"))
        sizes = [(decoded.height, decoded.width)]
        return processor.post_process_object_detection(outputs, target_sizes=sizes, threshold=SCORE_THRESHOLD)

    return {
        **_convert("dfine/small", folder, image),
        "transformers float32": predict,
        "transformers bfloat16": run_in_bfloat16(predict),
    }


def prepare_yolo(folder: Path) -> dict[str, Call]:
    """Our nano detector beside Ultralytics' smallest; they differ in size: 1.83 and 2.45 GMACs."""
    from ultralytics import YOLO

    image = folder / "image.jpg"
    write_image(image, Scenes(1, 0, (480, 640))[0].image)
    peer = YOLO("yolo11n.yaml", task="detect")
    options = {"conf": SCORE_THRESHOLD, "imgsz": SIDE, "device": "cpu", "verbose": False}
    names = [str(number) for number in range(80)]
    ours = build_without_weights("detection", {"arch": "yolo_n", "classes": names, "data.size": SIDE})
    calls = _predict(ours, image)
    calls["ultralytics float32"] = lambda: peer.predict(image, **options)
    calls["ultralytics bfloat16"] = run_in_bfloat16(calls["ultralytics float32"])
    return calls


def prepare_network(folder: Path) -> dict[str, Call]:
    """The networks of `prepare_yolo` alone, with their batch norms folded, as both predict."""
    from ultralytics import YOLO

    image = torch.rand(1, 3, 480, SIDE)
    peer = YOLO("yolo11n.yaml", task="detect").model.fuse().eval()
    names = [str(number) for number in range(80)]
    ours = build_without_weights("detection", {"arch": "yolo_n", "classes": names, "data.size": SIDE})
    calls: dict[str, Call] = {}
    for name, dtype in (("float32", torch.float32), ("auto", torch.bfloat16)):
        form = make_inference_form(ours.model, make_example_inputs(ours.task.input_spec, 1), dtype=dtype)
        run = partial(form, image.contiguous(memory_format=torch.channels_last))
        calls[f"{OURS} {name}"] = run if name == "float32" else run_in_bfloat16(run)
    calls["ultralytics float32"] = partial(peer, image)
    calls["ultralytics bfloat16"] = run_in_bfloat16(calls["ultralytics float32"])
    return calls


def _convert(name: str, folder: Path, image: Path) -> dict[str, Call]:
    convert_weights(name, folder / "published.pth", folder / "ours.safetensors")
    return _predict(densevision.load(folder / "ours.safetensors"), image)


def _predict(model: Any, image: Path) -> dict[str, Call]:
    return predict_in_precisions(model, image, device="cpu", score_threshold=SCORE_THRESHOLD)


def _write_scene(folder: Path) -> Path:
    image = folder / "image.jpg"
    write_image(image, Scenes(1, 0, (SIDE, SIDE))[0].image)
    return image


ROWS = {
    "yolox/s": Row("YOLOX-s, JPEG of 640 x 640 to boxes", prepare_yolox, ("pixeltable-yolox",), 1.3),
    "dfine/small": Row("D-FINE-S, JPEG of 640 x 640 to boxes", prepare_dfine, ("transformers",), 1.3),
    "yolo_n": Row("YOLO nano, JPEG of 640 x 480 to boxes", prepare_yolo, ("ultralytics",), 1.5),
    "yolo_n/network": Row("YOLO nano, the network alone, 480 x 640", prepare_network, ("ultralytics",), 1.375),
}
