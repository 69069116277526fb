"""The pretrained weights that timm has for a model: size, license, address, and whether they are in the local cache."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass

import timm
import torch

__all__ = [
    "PERMISSIVE_LICENSES",
    "TimmWeights",
    "can_reach_hub",
    "find_cached_file",
    "find_timm_weights",
    "get_repository",
]

PERMISSIVE_LICENSES = frozenset({"apache-2.0", "bsd-3-clause", "cc-by-4.0", "mit"})
"""Licenses that permit any use, as timm writes them."""
FILE_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Files of a repository of the Hugging Face Hub, in the order in which timm looks for them."""
TIMEOUT = 5.0
"""Seconds to wait for the first answer of the hub, which a machine without a network gives up after."""


@dataclass(frozen=True)
class TimmWeights:
    """Pretrained weights of a timm model.

    Attributes:
        name: Name of the model with the tag of the weights, e.g. "resnet50.a1_in1k".
        license: License as timm states it, e.g. "apache-2.0"; empty where it states none.
        megabytes: Size of the tensors in float32.
        repository: Repository on the Hugging Face Hub; empty where timm has the weights from elsewhere.
        file: The file in the local cache; None where it is not cached.
    """

    name: str
    license: str
    megabytes: float
    repository: str
    file: str | None

    @property
    def address(self) -> str:
        """Where the file can be downloaded; empty where it is not on the hub."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repository, FILE_NAMES[0]) if self.repository else ""

    def describe(self) -> str:
        """Name, size and license in a few words."""
        return f"{self.name}, {self.megabytes:.0f} MB, license {self.license or 'not stated'}"


def find_timm_weights(name: str) -> TimmWeights | None:
    """Describes the weights that `pretrained=True` loads; reads the local cache and no network.

    Args:
        name: A timm model, with or without a tag.

    Returns:
        The weights; None where timm has none for this model, or does not know it.
    """
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is None or not config.has_weights:
        return None
    with torch.device("meta"):
        network = timm.create_model(name)
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    base = name.partition(".")[0]
    tagged = f"{base}.{config.tag}" if config.tag else base
    license_ = "" if config.license in (None, "unknown") else str(config.license)
    repository = get_repository(name)
    return TimmWeights(tagged, license_, size / 1e6, repository, find_cached_file(repository))


def get_repository(name: str) -> str:
    """The repository of a timm model's weights on the Hugging Face Hub; empty where it has none there."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return str(getattr(config, "hf_hub_id", None) or "")


def find_cached_file(repository: str) -> str | None:
    """The weights file of a repository in the cache of huggingface_hub; None where it is not there."""
    if not repository:
        return None
    from huggingface_hub import try_to_load_from_cache

    files = (try_to_load_from_cache(repository, name) for name in FILE_NAMES)
    return next((file for file in files if isinstance(file, str)), None)


def can_reach_hub() -> bool:
    """Whether the Hugging Face Hub, or the mirror of HF_ENDPOINT, answers; asks nothing under HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=TIMEOUT).close()
    except urllib.error.HTTPError:  # an answer
        return True
    except (OSError, ValueError):
        return False
    return True
