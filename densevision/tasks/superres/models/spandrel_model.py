"""Networks of the community: any file that spandrel knows, answering by the same path as ours."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from densevision.errors import ExportError, WeightsError
from densevision.nn.backbone import ImageOnly
from densevision.tasks.base import DenseModel
from densevision.tasks.superres.config import SuperresConfig
from densevision.tasks.superres.models.superres_head import ImageHead

SCALES = (1, 2, 3, 4, 8, 16)


class Community(nn.Module):
    """A network that spandrel built, one image at a time and in float32: not every family bears less.

    Args:
        descriptor: spandrel's ImageModelDescriptor, which pads images to what its network needs.
    """

    receptive_field_radius = None

    def __init__(self, descriptor: object):
        super().__init__()
        self.model = descriptor.model  # a part of this module, so that it moves to devices with it
        self.descriptor = descriptor

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, scale * H, scale * W), clipped to [0, 1].

        Raises:
            ExportError: It is traced for an export, which holds no loop over images.
        """
        if torch.compiler.is_exporting():
            hint = "Convert the file, if it is one that `densevision models` lists, and export that."
            raise ExportError("networks of community files answer one by one, so they cannot be exported", hint=hint)
        with torch.autocast(image.device.type, enabled=False):
            return torch.cat([self.descriptor(one[None].float()) for one in image])


def open_community(file: Path) -> tuple[SuperresConfig, DenseModel]:
    """The config and the network of a file.

    Raises:
        WeightsError: spandrel is missing, does not know the file, or its network answers no image with an image.
    """
    try:
        import spandrel
    except ModuleNotFoundError:
        hint = "pip install 'densevision[community]', or convert it: python tools/convert.py NAME FILE OUT."
        raise WeightsError("not weights of ours, and spandrel is not installed", file=file, hint=hint) from None
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_file(file)
    except spandrel.UnsupportedModelError:
        hint = "If `densevision models` lists it, convert it: python tools/convert.py NAME FILE OUT."
        raise WeightsError("a network that spandrel does not know", file=file, hint=hint) from None
    except Exception as failure:  # readers of foreign bytes raise anything
        reason = re.split(r"\n|\. |\.$", str(failure).strip())[0] or type(failure).__name__
        hint = "spandrel reads state dicts; if this is one, the file is damaged: fetch it again."
        raise WeightsError(f"spandrel cannot load it: {reason}", file=file, hint=hint) from None
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.scale not in SCALES:
        found = getattr(descriptor, "scale", type(descriptor).__name__)
        raise WeightsError("no network from images to images of a known scale", file=file, value=found)
    channels = descriptor.input_channels
    if descriptor.output_channels != channels:
        found = f"{channels} in, {descriptor.output_channels} out"
        raise WeightsError("the network changes the number of channels", file=file, value=found)
    config = SuperresConfig.checked(
        {
            "arch": "community",
            "scale": descriptor.scale,
            "backbone": {"channels": channels},
            "quality": {"color": "Y" if channels <= 4 else "RGB"},
        }
    )
    net = DenseModel(ImageOnly(channels), ImageHead(Community(descriptor.eval()), descriptor.scale), _inputs(config))
    return config, net


def _inputs(config: SuperresConfig) -> dict:
    from densevision.tasks.superres.task import Superres

    return Superres(config).inputs
