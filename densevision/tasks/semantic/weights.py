"""Segmentation weights that others published, and how they become weights files of densevision. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densevision.errors import WeightsError
from densevision.io.checkpoint import check_state_dict, read_state_dict
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.semantic.class_names import ADE20K_NAMES, CITYSCAPES_NAMES, VOC_NAMES
from densevision.tasks.semantic.config import SemanticConfig

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PUBLISHED", "convert"]

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
GOOGLE = {"mean": (128 / 255,) * 3, "std": (128 / 255,) * 3}
"""(x - 128) / 128 of pixels from 0 to 255, as Google's 8-bit networks are fed."""
_HINT = "Give the file that its publisher offers, or what torch.save(model.state_dict(), FILE) writes."
_CONSTANTS = ("encoder.mean", "encoder.std")
"""Buffers that follow from the config and that other projects do not store."""


@dataclass(frozen=True)
class _Published:
    """One published network.

    Attributes:
        config: Options of `SemanticConfig`, without the classes.
        classes: Their names, if the file has as many; else they are called by their numbers.
        layout: How its tensors are named: "torchvision", "eomt" or "smp".
        parameters: Millions of parameters.
        metric: Name and value of the metric that its publisher states.
        measured: What this project measured with the published file.
    """

    name: str
    address: str
    sha256: str
    license: str
    megabytes: float
    trained_on: str
    config: dict[str, Any]
    classes: Sequence[str]
    layout: str
    parameters: float
    metric: tuple[str, float] | None = None
    measured: str = ""


def _torchvision(
    name: str,
    file: str,
    megabytes: float,
    parameters: float,
    mean_iou: float,
    arch: str,
    encoder: str,
    auxiliary: bool = True,
) -> _Published:
    return _Published(
        f"torchvision/{name}",
        f"https://download.pytorch.org/models/{file}",
        file.rpartition("-")[2].removesuffix(".pth"),
        "BSD-3-Clause (torchvision); trained on COCO, whose images have terms of their own",
        megabytes,
        "the images of COCO train2017 that show classes of Pascal VOC",
        {
            "arch": arch,
            "backbone": {"name": encoder, **IMAGENET},
            "loss": {"auxiliary": 0.5 if auxiliary else 0.0},
        },
        VOC_NAMES,
        "torchvision",
        parameters,
        ("COCO mIoU, 21 VOC classes", mean_iou),
    )


def _eomt(
    name: str, size: int, parameters: float, mean_iou: float, classes: Sequence[str], trained_on: str
) -> _Published:
    return _Published(
        f"tue-mps/{name}",
        f"https://huggingface.co/tue-mps/{name}/resolve/main/model.safetensors",
        "",
        "MIT",
        1270.0,
        trained_on,
        {"arch": "eomt_large", "data": {"size": size}},
        classes,
        "eomt",
        parameters,
        (f"{trained_on} mIoU", mean_iou),
    )


def _smp(
    name: str,
    architecture: str,
    encoder: str,
    size: int,
    megabytes: float,
    parameters: float,
    mean_iou: float | None = None,
    license: str = "MIT",
    normalization: Mapping[str, Any] = IMAGENET,
    **options: Any,
) -> _Published:
    return _Published(
        f"smp-hub/{name}",
        f"https://huggingface.co/smp-hub/{name}/resolve/main/model.safetensors",
        "",
        license,
        megabytes,
        "ADE20K",
        {
            "arch": "smp",
            "backbone": {"name": encoder, "options": options.pop("encoder_options", {}), **normalization},
            "model": {"architecture": architecture, "input_size": size, "decoder_options": options},
        },
        ADE20K_NAMES,
        "smp",
        parameters,
        None if mean_iou is None else ("ADE20K mIoU", mean_iou),
    )


def _smp_segformer(size: int, side: int, megabytes: float, parameters: float, mean_iou: float) -> _Published:
    return _smp(
        f"segformer-b{size}-{side}x{side}-ade-160k",
        "segformer",
        f"mit_b{size}",
        side,
        megabytes,
        parameters,
        mean_iou,
        license="NVIDIA (Source Code License for SegFormer): not for commercial use",
        decoder_segmentation_channels=256 if size < 2 else 768,
    )


def _smp_upernet(name: str, encoder: str, megabytes: float, parameters: float, **encoder_options: Any) -> _Published:
    name, encoder = f"upernet-{name}", f"tu-{encoder}"
    options: dict[str, Any] = {"encoder_options": encoder_options, "decoder_channels": 512}
    return _smp(name, "upernet", encoder, 512, megabytes, parameters, **options)


_ENTRIES = (
    _torchvision("fcn_resnet50", "fcn_resnet50_coco-1167a1af.pth", 135.0, 35.3, 60.5, "fcn", "resnet50"),
    _torchvision("fcn_resnet101", "fcn_resnet101_coco-7ecb50ca.pth", 207.7, 54.3, 63.7, "fcn", "resnet101"),
    _torchvision(
        "deeplabv3_resnet50",
        "deeplabv3_resnet50_coco-cd0a2569.pth",
        160.5,
        42.0,
        66.4,
        "deeplabv3_torchvision",
        "resnet50",
    ),
    _torchvision(
        "deeplabv3_resnet101",
        "deeplabv3_resnet101_coco-586e9e4e.pth",
        233.2,
        61.0,
        67.4,
        "deeplabv3_torchvision",
        "resnet101",
    ),
    _torchvision(
        "deeplabv3_mobilenet_v3_large",
        "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
        42.3,
        11.0,
        60.3,
        "deeplabv3_torchvision",
        "mobilenetv3_large_100",
    ),
    _torchvision(
        "lraspp_mobilenet_v3_large",
        "lraspp_mobilenet_v3_large-d234d4ea.pth",
        12.5,
        3.2,
        57.9,
        "lraspp",
        "mobilenetv3_large_100",
        auxiliary=False,
    ),
    _Published(
        "google/deeplabv3_mobilenetv2_voc",
        "",  # published for TensorFlow Lite only
        "1d1de3c5f2e54b0e81bd739037d8a42c5727a3cff5764ea0963e47cf320f76e2",
        "Apache-2.0",
        4.5,
        "Pascal VOC 2012",
        {
            "arch": "deeplabv3_torchvision",
            "backbone": {"name": "mobilenetv2_100", **GOOGLE},
            "model": {"atrous_rates": (), "refine": False, "align_corners": True, "input_size": 513},
        },
        VOC_NAMES,
        "torchvision",
        2.1,
        measured="mIoU 0.566 of 17 classes on the 64 images of COCO128 val",
    ),
    _eomt("ade20k_semantic_eomt_large_512", 512, 316.0, 58.4, ADE20K_NAMES, "ADE20K"),
    _eomt("cityscapes_semantic_eomt_large_1024", 1024, 319.0, 84.2, CITYSCAPES_NAMES, "Cityscapes"),
    _smp_upernet("convnext-tiny", "convnext_tiny", 237, 59.3),
    _smp_upernet("convnext-small", "convnext_small", 324, 81.0),
    _smp_upernet("convnext-base", "convnext_base", 485, 120.9),
    _smp_upernet("convnext-large", "convnext_large", 936, 233.2),
    _smp_upernet("convnext-xlarge", "convnext_xlarge", 1560, 388.7),
    _smp_upernet("swin-tiny", "swin_tiny_patch4_window7_224", 237, 59.0, img_size=512),
    _smp_upernet("swin-small", "swin_small_patch4_window7_224", 322, 80.3, img_size=512),
    _smp_upernet("swin-large", "swin_large_patch4_window12_384", 932, 232.2, img_size=512),
    _smp("dpt-large-ade20k", "dpt", "tu-vit_large_patch16_384", 384, 1370, 344.4, normalization=HALF),
    _smp_segformer(0, 512, 15, 3.8, 37.4),
    _smp_segformer(1, 512, 55, 13.7, 42.2),
    _smp_segformer(2, 512, 110, 27.5, 46.5),
    _smp_segformer(3, 512, 189, 47.3, 49.4),
    _smp_segformer(4, 512, 257, 64.1, 50.3),
    _smp_segformer(5, 640, 339, 84.7, 51.0),
)
_BY_NAME = {entry.name: entry for entry in _ENTRIES}

PUBLISHED = tuple(
    PublishedWeights(
        name=entry.name,
        task="semantic",
        address=entry.address,
        sha256=entry.sha256,
        license=entry.license,
        megabytes=entry.megabytes,
        trained_on=entry.trained_on,
        parameters=entry.parameters,
        metric=entry.metric,
        measured=entry.measured,
    )
    for entry in _ENTRIES
)


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Writes published weights as a weights file of densevision.

    Files of another number of classes are converted too; their classes are called by their numbers.

    Raises:
        WeightsError: The file is not a state dict of this network.
    """
    from densevision.tasks.semantic.task import Semantic

    entry = _BY_NAME[weights.name]
    tensors = _rename(read_state_dict(file, _HINT), entry)
    count = _count_classes(tensors, entry.layout)
    if count is None:
        raise WeightsError(f"does not hold {weights.name}", file=file, hint=_HINT)
    classes = tuple(entry.classes) if count == len(entry.classes) else tuple(map(str, range(count)))
    config = SemanticConfig.from_dict({**entry.config, "classes": classes})
    if config.loss.auxiliary and not any(name.startswith("auxiliary.") for name in tensors):
        config = config.replace(loss__auxiliary=0.0)
    if entry.layout == "eomt":
        config = _read_eomt_sizes(config, tensors)
    model = Semantic(config).build_model()
    expected = model.state_dict()
    tensors |= {name: expected[name] for name in _CONSTANTS if name in expected}
    tensors = check_state_dict(tensors, expected, weights.name, file, _HINT)
    save_weights(out, tensors, weights.card(config.to_dict(), classes))


def _rename(tensors: Mapping[str, Tensor], entry: _Published) -> dict[str, Tensor]:
    from densevision.nn import eomt
    from densevision.tasks.semantic.models import torchvision_layout

    if entry.layout == "torchvision":
        return torchvision_layout.convert_state_dict(tensors)
    if entry.layout == "eomt":
        return {f"network.{name}": tensor for name, tensor in eomt.convert_state_dict(tensors).items()}
    return dict(tensors)


def _count_classes(tensors: Mapping[str, Tensor], layout: str) -> int | None:
    """Classes of the last layer; None where the file has no such layer."""
    names = {
        "torchvision": ("head.classifier.weight", "head.4.weight", "head.deep_classifier.weight"),
        "eomt": ("network.class_head.weight",),
        "smp": ("segmentation_head.0.weight", "segmentation_head.head.4.weight"),
    }[layout]
    counts = [len(tensors[name]) for name in names if name in tensors]
    if not counts:
        return None
    return counts[0] - 1 if layout == "eomt" else counts[0]  # the last one is "no object"


def _read_eomt_sizes(config: SemanticConfig, tensors: Mapping[str, Tensor]) -> SemanticConfig:
    """The config with the numbers of queries and blocks that the tensors have."""
    options = {}
    for option, name in (("num_queries", "network.queries.weight"), ("num_blocks", "network.mask_probabilities")):
        if name in tensors:
            options[option] = len(tensors[name])
    return config.replace(model=options)
