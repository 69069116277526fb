"""A copy of a run in remote storage, from which it can be continued on another machine."""

from __future__ import annotations

import csv
import io
import logging
import os
from pathlib import Path

from filelock import FileLock

from densevision.errors import DataError, DenseVisionError
from densevision.io import remote
from densevision.io.atomic_write import atomic_write
from densevision.io.file_cache import read_state
from densevision.run_folder import RunFolder
from densevision.yaml_files import read_yaml

__all__ = ["RunMirror", "fetch_run"]

log = logging.getLogger("densevision")


class RunMirror:
    """Copies the files of a run that have changed.

    Args:
        folder: The run.
        address: Folder in remote storage.
    """

    def __init__(self, folder: RunFolder, address: str):
        self.folder, self.address = folder, address
        self._copied: dict[Path, tuple[int, int] | None] = {}

    def copy(self) -> bool:
        """Copies what has changed, the checkpoint last, so that the copy can be continued at any moment.

        A failure is logged, and made up for by the next call: it must not end a run.

        Returns:
            Whether everything was copied.
        """
        files = [path for path in self.folder.path.rglob("*") if path.is_file() and not path.name.startswith(".")]
        try:
            for path in sorted(files, key=lambda path: (path == self.folder.checkpoint, path)):
                state = read_state(path)
                if self._copied.get(path) != state:
                    name = path.relative_to(self.folder.path).as_posix()
                    remote.upload_file(path, remote.join_address(self.address, name))
                    self._copied[path] = state
        except DenseVisionError as error:
            log.warning("the run is not copied: %s", error)
            return False
        return True


def fetch_run(address: str) -> Path:
    """Copies a run from remote storage to `runs/NAME`, to continue it there.

    Nothing is copied where that folder holds the same run with as many epochs: it was continued here before, or another
    process of this machine has copied it.

    Raises:
        DataError: There is no run at the address, or the folder holds another one.
        RemoteError: The storage does not respond or refuses.
    """
    folder = RunFolder(Path("runs") / address.rstrip("/").rpartition("/")[2])
    folder.path.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.path / ".fetch.lock"):
        names = [remote.get_name_below(address, file.address) for file in remote.list_files(address)]
        if folder.config.name not in names:
            raise DataError("no run at this address: config.yaml is missing", file=address)
        if folder.config.exists():
            _check_same_run(folder, address)
            if len(folder.read_rows()) >= _count_rows(address, folder.metrics.name, names):
                return folder.path
        # The table of epochs, by which a copy is known to be complete, comes last.
        for name in sorted(names, key=lambda name: (name == folder.metrics.name, name)):
            path = folder.path.joinpath(*name.split("/"))
            with atomic_write(path) as temporary:
                remote.download_file(remote.join_address(address, name), temporary)
    return folder.path


def _check_same_run(folder: RunFolder, address: str) -> None:
    train = read_yaml(folder.config).get("train")
    mirror = train.get("mirror") if isinstance(train, dict) else None
    if str(mirror or "").rstrip("/") != address.rstrip("/"):
        hint = f"Continue from another folder, or remove {os.fspath(folder.path)}."
        raise DataError("the folder that would take this run holds another one", file=folder.path, hint=hint)


def _count_rows(address: str, name: str, names: list[str]) -> int:
    if name not in names:
        return 0
    text = remote.read_bytes(remote.join_address(address, name)).decode()
    return sum(1 for _ in csv.DictReader(io.StringIO(text)))
