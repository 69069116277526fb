"""Mutated files of every format: what is mutated (`READERS`), how (`mutations`), and the verdict (`trial`)."""

from fuzzing import dataset_shards, images, labels, models, numbers, shards
from fuzzing.reader import Reader

__all__ = ["READERS", "Reader"]

READERS: dict[str, Reader] = {
    reader.name: reader
    for module in (dataset_shards, images, labels, numbers, models, shards)
    for reader in module.READERS
}
"""Name -> reader."""
