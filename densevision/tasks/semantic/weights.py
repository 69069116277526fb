"""FCN weights that torchvision published, and how its tensors are called here."""

from __future__ import annotations

from pathlib import Path

import torch

from densevision.errors import WeightsError
from densevision.io.checkpoint import read_state
from densevision.io.weights import PublishedWeights, save_weights
from densevision.tasks.semantic.config import SemanticConfig
from densevision.tasks.semantic.task import Semantic

NAMES = (
    *("__background__", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""Classes of the published weights: those of Pascal VOC."""
LICENSE = "BSD-3-Clause (torchvision); trained on COCO, whose images have terms of their own"
TRAINED_ON = "the images of COCO train2017 that show classes of Pascal VOC"
MODULES = {"backbone": "encoder.network", "classifier": "head.main.layers", "aux_classifier": "head.auxiliary.layers"}
"""Modules of torchvision's FCN -> ours; below them all names agree."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PUBLISHED = tuple(
    PublishedWeights(
        name=f"torchvision/fcn_{backbone}",
        task="semantic",
        address=f"https://download.pytorch.org/models/fcn_{backbone}_coco-{digest}.pth",
        sha256=digest,
        license=LICENSE,
        megabytes=megabytes,
        trained_on=TRAINED_ON,
    )
    for backbone, digest, megabytes in (("resnet50", "1167a1af", 135.0), ("resnet101", "7ecb50ca", 207.7))
)


def convert(weights: PublishedWeights, file: Path, out: Path) -> None:
    """Writes a state dict of torchvision's FCN as weights of ours; other numbers of classes get numbers for names.

    Raises:
        WeightsError: The file is no state dict of this network.
    """
    theirs = _read(file, weights.name)
    scores = theirs["classifier.4.weight"]
    names = NAMES if len(scores) == len(NAMES) else tuple(map(str, range(len(scores))))
    config = SemanticConfig.checked(
        {
            "arch": "fcn",
            "classes": names,
            "backbone": {"name": weights.name.rpartition("_")[2], "output_stride": 8, "mean": MEAN, "std": STD},
            "loss": {"auxiliary": 0.5 if any(name.startswith("aux_classifier.") for name in theirs) else 0.0},
        }
    )
    net = Semantic(config).net()
    tensors = {**{name: net.state_dict()[name] for name in ("encoder.mean", "encoder.std")}, **_renamed(theirs)}
    try:
        net.load_state_dict(tensors)
    except RuntimeError as failure:
        detail = str(failure).splitlines()[1].strip()
        raise WeightsError(f"not a state dict of {weights.name}", file=file, value=detail) from None
    save_weights(out, net.state_dict(), weights.card(config.plain(), names))


def _read(file: Path, name: str) -> dict[str, torch.Tensor]:
    hint = "Give the file that torchvision downloads, or what torch.save(model.state_dict(), FILE) writes."
    tensors = read_state(file, hint)
    if "classifier.4.weight" not in tensors:
        raise WeightsError(f"not a state dict of {name}", file=file, hint=hint)
    return tensors


def _renamed(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by our names; the classifier that torchvision's backbone may carry is left out."""
    ours = {}
    for name, tensor in theirs.items():
        module, _, rest = name.partition(".")
        if not name.startswith("backbone.fc."):
            ours[f"{MODULES.get(module, module)}.{rest}"] = tensor
    return ours
