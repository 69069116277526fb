"""Models on the Hugging Face Hub, named `hf://owner/name[@revision]`.

The huggingface_hub library does the work: its cache, its mirrors ($HF_ENDPOINT) and its tokens are used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from densevision.errors import DenseVisionError, UsageError, WeightsError
from densevision.io.download import is_offline

__all__ = [
    "WEIGHTS_FILE",
    "HubAddress",
    "apply_mirror",
    "download_model",
    "find_hub_address",
    "is_hub_address",
    "parse_hub_address",
    "upload_model",
]

WEIGHTS_FILE = "model.safetensors"
"""The only file of a repository that is downloaded."""
TIMEOUT = 20.0
"""Seconds after which a question to the Hub counts as unanswered."""
HUB = "https://huggingface.co"
PREFIX = "hf://"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubAddress:
    """A model on the Hub.

    Attributes:
        repository: "owner/name".
        revision: A branch, a tag or a commit; None for the default branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_hub_address(text: str | os.PathLike[str] | None) -> bool:
    """Whether a `weights` argument names a model on the Hub."""
    return text is not None and os.fspath(text).startswith(PREFIX)


def parse_hub_address(text: str) -> HubAddress:
    """Reads `hf://owner/name[@revision]`.

    Raises:
        UsageError: It is written differently.

    Example:
        >>> parse_hub_address("hf://ann/cells@v1")
        HubAddress(repository='ann/cells', revision='v1')
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise UsageError(
            "not an address on the Hub", value=text, hint="Write hf://owner/name or hf://owner/name@revision."
        )
    return HubAddress(match[1], match[2])


def find_hub_address(file: str | os.PathLike[str]) -> HubAddress | None:
    """The address, with its commit, of a file in the cache of huggingface_hub; None for other files.

    Example:
        >>> str(find_hub_address("hub/models--ann--cells/snapshots/" + "0" * 40 + "/model.safetensors"))[:16]
        'hf://ann/cells@0'
    """
    match = re.search(r"models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})/", Path(file).as_posix())
    return None if match is None else HubAddress(f"{match[1]}/{match[2]}", match[3])


def apply_mirror(address: str) -> str:
    """An address of a file on the Hub as the mirror in $HF_ENDPOINT has it; other addresses as they are."""
    mirror = _get_endpoint()
    return address.replace(HUB, mirror.rstrip("/"), 1) if mirror and address.startswith(f"{HUB}/") else address


def download_model(address: HubAddress) -> tuple[Path, HubAddress]:
    """Downloads the weights of a model, or finds them in the cache of huggingface_hub.

    Before a download its size and license are shown. The file is compared with the hash that the Hub states, on every
    call. A commit that is in the cache is used without asking the Hub; so is, with a warning, the last known state of a
    branch when the Hub cannot be reached.

    Args:
        address: The model.

    Returns:
        The file, and the address with the commit that it is from.

    Raises:
        WeightsError: huggingface_hub is not installed, the repository, its revision or its weights do not exist, access
            is denied, the network is forbidden or out of reach, or the file is not the one on the Hub.
    """
    library = _import_library()
    is_commit = address.revision is not None and _COMMIT.fullmatch(address.revision) is not None
    cached = _find_cached(library, address)
    if cached is not None and (is_commit or is_offline()):
        return _finish(cached, address)
    if is_offline():
        hint = "Unset DENSEVISION_OFFLINE and HF_HUB_OFFLINE, or give a file."
        raise WeightsError("not in the cache, and downloads are forbidden", value=str(address), hint=hint)
    try:
        pinned = _describe(library, address)
    except _UnreachableError as error:
        if cached is None:
            raise _make_error("the Hub cannot be reached", address, error) from None
        log.warning("%s: the Hub cannot be reached; the copy in the cache is used", address)
        return _finish(cached, address)
    try:
        # By the name of the branch, so that the cache knows its state when the Hub cannot be reached.
        file = library.hf_hub_download(
            address.repository, WEIGHTS_FILE, revision=address.revision, endpoint=_get_endpoint()
        )
    except Exception as error:  # of the library, its HTTP client or the file system, which change with its version
        raise _make_error("cannot download", address, error) from None
    found = _finish(Path(file), pinned)
    if found[1] != pinned:
        log.warning("%s: %s is used instead of %s", address, found[1], pinned)
    return found


def upload_model(folder: Path, address: HubAddress, *, is_private: bool = False) -> HubAddress:
    """Uploads all files of a folder in one commit; the repository is created if it does not exist.

    Args:
        folder: The files.
        address: The model; a revision names the branch.
        is_private: Whether a new repository is private.

    Returns:
        The address with the new commit.

    Raises:
        WeightsError: huggingface_hub is not installed, the network is forbidden, or the Hub refuses.
    """
    library = _import_library()
    if is_offline():
        raise WeightsError("cannot upload: DENSEVISION_OFFLINE or HF_HUB_OFFLINE is set", value=str(address))
    api = library.HfApi(endpoint=_get_endpoint())
    try:
        api.create_repo(address.repository, private=is_private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=address.repository,
            folder_path=folder,
            revision=address.revision,
            commit_message="Upload a densevision model",
        )
    except Exception as error:  # of the library or its HTTP client, which change with its version
        raise _make_error("cannot upload", address, error) from None
    return HubAddress(address.repository, commit.oid)


class _UnreachableError(Exception):
    """The Hub does not answer, or answers with an error of its own."""


def _describe(library: Any, address: HubAddress) -> HubAddress:
    """Asks the Hub for the commit, and shows size and license of what will be downloaded."""
    api = library.HfApi(endpoint=_get_endpoint())
    try:
        info = api.model_info(address.repository, revision=address.revision, files_metadata=True, timeout=TIMEOUT)
    except Exception as error:
        if (status := _get_status(error)) is not None and status < 500:
            raise _make_error(_REFUSALS.get(status, "the Hub refuses"), address, error) from None
        raise _UnreachableError(_summarize(error)) from None
    files = {file.rfilename: file for file in info.siblings or ()}
    if WEIGHTS_FILE not in files:
        problem = f"no {WEIGHTS_FILE} in this repository"
        hint = "`densevision push RUN hf://owner/name` writes one." if files else "The repository is empty."
        raise WeightsError(problem, value=str(address), hint=hint)
    pinned = HubAddress(address.repository, info.sha)
    if _find_cached(library, pinned) is None:
        license_name = (info.card_data or {}).get("license") or "not stated"
        size = files[WEIGHTS_FILE].size or 0
        log.warning("downloading %s: %.1f MB, license %s", pinned, size / 1e6, license_name)
    return pinned


def _find_cached(library: Any, address: HubAddress) -> Path | None:
    found = library.try_to_load_from_cache(address.repository, WEIGHTS_FILE, revision=address.revision)
    return Path(found) if isinstance(found, str) else None


def _finish(file: Path, address: HubAddress) -> tuple[Path, HubAddress]:
    """Verifies a file of the cache; its folder is named by the commit, and what it links to by the hash."""
    blob = file.resolve()
    actual = _compute_hash(blob)
    if actual is not None and actual != blob.name:
        blob.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        hint = "It was removed from the cache; try again."
        raise WeightsError(
            "the downloaded file is not the one on the Hub: its hash differs", value=str(address), hint=hint
        )
    commit = file.parent.name
    return file, HubAddress(address.repository, commit if _COMMIT.fullmatch(commit) else address.revision)


def _compute_hash(blob: Path) -> str | None:
    """The hash that names a file of the cache: SHA-256 of large files, git's of small ones; None for other names."""
    if _SHA256.fullmatch(blob.name):
        digest = hashlib.sha256()
    elif _COMMIT.fullmatch(blob.name):
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    else:
        return None
    with open(blob, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


_REFUSALS = {
    401: "access is denied, or there is no such repository or revision on the Hub",
    403: "access is denied",
    404: "there is no such repository or revision on the Hub",
}


def _make_error(problem: str, address: HubAddress, error: Exception) -> DenseVisionError:
    status = _get_status(error)
    if status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError":
        hint = "Log in with `hf auth login`, or set HF_TOKEN."
    elif status == 404:
        hint = "Check the name; private repositories need `hf auth login` or HF_TOKEN."
    else:
        hint = "Try again later, set HF_ENDPOINT to a mirror, or give a file."
    detail = "" if status in _REFUSALS and problem == _REFUSALS[status] else f": {_summarize(error)}"
    return WeightsError(f"{problem}{detail}", value=str(address), hint=hint)


def _get_status(error: Exception) -> int | None:
    """The HTTP status of the library's errors."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _summarize(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _get_endpoint() -> str | None:
    """A mirror of the Hub, as the environment names it now."""
    return os.environ.get("HF_ENDPOINT") or None


def _import_library() -> Any:
    try:
        return import_module("huggingface_hub")
    except ModuleNotFoundError:
        hint = "pip install 'densevision[hub]'"
        raise WeightsError("models on the Hub need the package huggingface_hub", hint=hint) from None
