"""Models on the Hub against a local server: what is pushed is what is loaded, and faults end in clear errors."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import multiprocessing
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

import densevision
from densevision.cli.main import run
from densevision.errors import UsageError, WeightsError
from densevision.io import hub
from densevision.io.download import OFFLINE_VARIABLES
from densevision.io.hub import HubAddress, download_model, find_hub_address, parse_hub_address
from densevision.io.weights import load_card
from densevision.published_weights import find_bundled_weights, resolve_weights

library = pytest.importorskip("huggingface_hub")
BUNDLED = find_bundled_weights("superres")
LICENSE = "license: mit\n"


class FakeHub(BaseHTTPRequestHandler):
    """The parts of the Hub's interface that models need; every repository is a list of commits."""

    protocol_version = "HTTP/1.1"
    repositories: dict[str, list[dict[str, bytes]]] = {}  # noqa: RUF012
    fault: str = ""
    faults_left: int = 0
    requests: list[str] = []  # noqa: RUF012
    stop = threading.Event()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        type(self).requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        elif "resolve" in parts:
            self._send_file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._reply(404, {"error": path})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])) if self.headers["Content-Length"] else b""
        path = urlsplit(self.path).path
        if self.headers.get("Authorization") != "Bearer secret":
            self._reply(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            name = "{organization}/{name}".format(**json.loads(body))
            self.repositories.setdefault(name, [])
            self._reply(200, {"url": f"http://{self.headers['Host']}/{name}", "name": name})
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._reply(200, {"files": files})
        elif "/commit/" in path:
            self._commit("/".join(path.split("/")[3:5]), body)
        elif path == "/api/validate-yaml":
            self._reply(200, {"errors": [], "warnings": []})
        else:
            self._reply(404, {"error": path})

    def _commit(self, name: str, body: bytes) -> None:
        operations = [json.loads(line) for line in body.splitlines()]
        files = {
            each["value"]["path"]: base64.b64decode(each["value"]["content"])
            for each in operations
            if each["key"] == "file"
        }
        commits = self.repositories[name]
        commits.append({**(commits[-1] if commits else {}), **files})
        commit = name_commit(name, len(commits) - 1)
        url = f"http://{self.headers['Host']}/{name}/commit/{commit}"
        self._reply(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _describe(self, name: str, revision: str) -> None:
        found = self._find(name, revision)
        if self.fault == "unavailable":
            self._reply(503, {"error": "down"})
        elif self.fault == "gated":
            self._reply(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        elif found is None:
            code = "RevisionNotFound" if name in self.repositories else "RepoNotFound"
            self._reply(404, {"error": "not found"}, {"X-Error-Code": code})
        else:
            commit, files = found
            siblings = [
                {"rfilename": file, "size": len(content), "blobId": "0" * 40} for file, content in files.items()
            ]
            license_name = "mit" if LICENSE.encode() in files.get("README.md", b"") else None
            card = {"cardData": {"license": license_name}} if license_name else {}
            self._reply(200, {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": [], **card})

    def _find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories.get(name, [])
        for number, files in reversed(list(enumerate(commits))):
            if revision in ("main", name_commit(name, number)):
                return name_commit(name, number), files
        return None

    def _send_file(self, name: str, revision: str, file: str) -> None:
        commit, files = self._find(name, revision) or ("", {})
        if file not in files:
            self._reply(404, {"error": "no file"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        content = files[file]
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        fault = self.fault if self.command == "GET" and self.faults_left > 0 else ""
        type(self).faults_left -= bool(fault)
        if fault == "500":
            self._reply(500, {"error": "broken"})
            return
        if fault.startswith("redirect-"):
            self._reply(302, {}, {"Location": fault.removeprefix("redirect-")})
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        for key, value in {**headers, "Content-Length": str(len(content) - start)}.items():
            self.send_header(key, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault in ("short", "hang"):
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            self.wfile.flush()
            self.stop.wait(10 if fault == "hang" else 0)
            self.close_connection = True
            return
        self.wfile.write(content[start:])

    def _reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps the test output clean."""


def name_commit(name: str, number: int) -> str:
    return hashlib.sha1(f"{name} {number}".encode()).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeHub]]:
    """A server that the environment names as a mirror, with the repository "ann/cells" and an empty cache."""
    FakeHub.repositories = {"ann/cells": [{"model.safetensors": BUNDLED.read_bytes(), "README.md": LICENSE.encode()}]}
    FakeHub.fault, FakeHub.faults_left, FakeHub.requests = "", 0, []
    FakeHub.stop.clear()
    instance = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=instance.serve_forever, daemon=True).start()
    for name in (*OFFLINE_VARIABLES, "http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{instance.server_port}")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # as read when it was imported
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield FakeHub
    FakeHub.stop.set()
    instance.shutdown()
    instance.server_close()


def list_files(folder: Path) -> list[str]:
    """Files that hold weights, whole or in part."""
    return [path.name for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1000]


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("hf://ann/cells", "ann/cells", None),
        ("hf://ann/cells@v1.2", "ann/cells", "v1.2"),
        ("hf://a-b/c.d_e@refs/pr/3", "a-b/c.d_e", "refs/pr/3"),
    ],
)
def test_parse_hub_address__and_back(text: str, repository: str, revision: str | None) -> None:
    assert parse_hub_address(text) == HubAddress(repository, revision)
    assert str(HubAddress(repository, revision)) == text


@pytest.mark.parametrize("text", ["hf://cells", "hf://", "hf://ann/cells@", "hf://ann/cells/more", "hf://ann/cells b"])
def test_parse_hub_address__refuses_other_forms(text: str) -> None:
    with pytest.raises(UsageError):
        parse_hub_address(text)


def test_download_model__is_shown_pinned_and_cached(
    server: type[FakeHub], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.WARNING):
        file, address = download_model(HubAddress("ann/cells"))
    commit = name_commit("ann/cells", 0)
    assert file.read_bytes() == BUNDLED.read_bytes()
    assert address == HubAddress("ann/cells", commit) == find_hub_address(file)
    assert f"{BUNDLED.stat().st_size / 1e6:.1f} MB" in caplog.text and "mit" in caplog.text and commit in caplog.text
    server.requests.clear()
    assert download_model(address) == (file, address)
    assert not server.requests, "a commit in the cache needs no network"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download_model(HubAddress("ann/cells")) == (file, address)
    assert not server.requests
    with pytest.raises(WeightsError):
        download_model(HubAddress("ann/other"))


def test_download_model__follows_the_branch_and_keeps_old_commits(server: type[FakeHub]) -> None:
    old, pinned = download_model(HubAddress("ann/cells"))
    content = find_bundled_weights("detection").read_bytes()
    server.repositories["ann/cells"].append({"model.safetensors": content})
    new, _ = download_model(HubAddress("ann/cells", "main"))
    assert new.read_bytes() == content
    assert download_model(pinned)[0] == old and old.read_bytes() == BUNDLED.read_bytes()


def test_download_model__unreachable_hub_falls_back_to_the_cache(
    server: type[FakeHub], caplog: pytest.LogCaptureFixture
) -> None:
    server.fault = "unavailable"
    with pytest.raises(WeightsError) as error:
        download_model(HubAddress("ann/cells"))
    assert "HF_ENDPOINT" in str(error.value)
    server.fault = ""
    file, address = download_model(HubAddress("ann/cells"))
    server.fault = "unavailable"
    with caplog.at_level(logging.WARNING):
        assert download_model(HubAddress("ann/cells")) == (file, address)
    assert "cannot be reached" in caplog.text


@pytest.mark.parametrize("fault", ["short", "500", "corrupt", "hang", "redirect-file:///etc/hostname"])
def test_download_model__fault_is_an_error_or_the_right_file(fault: str, server: type[FakeHub], tmp_path: Path) -> None:
    server.fault, server.faults_left = fault, 1000
    with pytest.raises(WeightsError):
        download_model(HubAddress("ann/cells"))
    assert not any(path.name == "model.safetensors" for path in (tmp_path / "cache").rglob("*"))
    server.fault = ""
    file, _ = download_model(HubAddress("ann/cells"))
    assert file.read_bytes() == BUNDLED.read_bytes()


def test_download_model__broken_connection_is_resumed(server: type[FakeHub]) -> None:
    server.fault, server.faults_left = "short", 1
    file, _ = download_model(HubAddress("ann/cells"))
    assert file.read_bytes() == BUNDLED.read_bytes()


def test_download_model__damage_in_the_cache_is_noticed(server: type[FakeHub]) -> None:
    file, address = download_model(HubAddress("ann/cells"))
    blob = file.resolve()
    blob.chmod(0o644)
    blob.write_bytes(BUNDLED.read_bytes()[:-1] + b"!")
    with pytest.raises(WeightsError):
        download_model(address)
    assert download_model(address)[0].read_bytes() == BUNDLED.read_bytes()


def test_download_model__refusals(server: type[FakeHub]) -> None:
    for address in (HubAddress("ann/none"), HubAddress("ann/cells", "v9")):
        with pytest.raises(WeightsError) as error:
            download_model(address)
        assert str(address) in str(error.value)
    server.repositories["ann/empty"] = [{"pytorch_model.bin": b"PK\x03\x04" * 1000}]
    with pytest.raises(WeightsError) as error:
        download_model(HubAddress("ann/empty"))
    assert "model.safetensors" in str(error.value)
    server.fault = "gated"
    with pytest.raises(WeightsError) as error:
        download_model(HubAddress("ann/cells"))
    assert "hf auth login" in str(error.value)
    assert not [line for line in server.requests if "pytorch_model" in line], "only safetensors are downloaded"


def test_download_model__two_processes_at_once(server: type[FakeHub], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=download_model, args=(HubAddress("ann/cells"),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    files = list((tmp_path / "cache").rglob("model.safetensors"))
    assert [file.read_bytes() for file in files] == [BUNDLED.read_bytes()]


def test_download_model__without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(hub, "import_module", refuse)
    with pytest.raises(WeightsError) as error:
        download_model(HubAddress("ann/cells"))
    assert "densevision[hub]" in str(error.value)


def test_names_on_the_hub__work_wherever_weights_are_named(server: type[FakeHub], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)
    expected = densevision.predict(image, weights=BUNDLED)
    predictor = densevision.load("hf://ann/cells")
    assert np.array_equal(predictor.predict(image).image, expected.image)
    assert predictor.card.source == f"hf://ann/cells@{name_commit('ann/cells', 0)}"
    assert np.array_equal(densevision.predict(image, "superres", "hf://ann/cells").image, expected.image)
    card = load_card(BUNDLED)
    arguments = {"scale": card.config["scale"], **card.config["model"]}
    model = densevision.create_model(card.config["arch"], pretrained="hf://ann/cells", **arguments)
    assert all(
        np.array_equal(tensor.numpy(), predictor.model.state_dict()[name].numpy())
        for name, tensor in model.state_dict().items()
    )
    with pytest.raises(WeightsError):
        densevision.load("hf://ann/cells", task="detection")


def test_push__what_is_pushed_is_what_is_loaded(server: type[FakeHub], tmp_path: Path) -> None:
    address = densevision.push(BUNDLED, "hf://bob/sharp", license="cc-by-4.0", image=write_photograph(tmp_path))
    assert address == f"hf://bob/sharp@{name_commit('bob/sharp', 0)}"
    files = server.repositories["bob/sharp"][0]
    assert set(files) == {"model.safetensors", "card.json", "README.md", "example.jpg"}
    local = densevision.push(BUNDLED, tmp_path / "folder", license="cc-by-4.0", image=write_photograph(tmp_path))
    assert {path.name: path.read_bytes() for path in Path(local).iterdir() if path.suffix != ".md"} == {
        name: content for name, content in files.items() if not name.endswith(".md")
    }
    readme = files["README.md"].decode()
    metadata = library.ModelCard(readme).data
    assert metadata.license == "cc-by-4.0" and metadata.library_name == "densevision"
    stated = {result.metric_name: result.metric_value for result in metadata.eval_results}
    metrics = load_card(BUNDLED).metrics
    assert stated == {name: value for name, value in metrics["metrics"].items() if value is not None}
    assert all(key in readme for key in metrics["protocol"])
    image = np.random.default_rng(0).integers(0, 255, (32, 40, 3), np.uint8)
    expected = densevision.predict(image, weights=BUNDLED).image
    for weights in (address, "hf://bob/sharp", local):
        assert np.array_equal(densevision.predict(image, weights=weights).image, expected)


def write_photograph(folder: Path) -> Path:
    from densevision.io.image import write_image

    path = folder / "photograph.png"
    write_image(path, np.random.default_rng(1).integers(0, 255, (40, 56, 3), np.uint8))
    return path


def test_push__local_paths_and_images_stay_at_home(weights: Path, tmp_path: Path) -> None:
    from densevision.io.weights import load_weights, save_weights

    tensors, card = load_weights(weights)
    private = tmp_path / "customer" / "scans"
    config = {**card.config, "data": {**card.config["data"], "path": str(private)}}
    save_weights(tmp_path / "best.safetensors", tensors, card.replace(config=config, data={"path": str(private)}))
    densevision.push(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "example.jpg").exists()
    for file in (tmp_path / "out").iterdir():
        assert b"customer" not in file.read_bytes()
    assert load_card(tmp_path / "out" / "model.safetensors").data == {"path": "scans"}
    assert resolve_weights(tmp_path / "out", "detection") == tmp_path / "out" / "model.safetensors"


def test_push__command_line_and_refusals(
    server: type[FakeHub], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["push", str(BUNDLED), str(tmp_path / "out")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    for arguments, code in (
        ([str(BUNDLED), str(tmp_path / "out2"), "--private"], 2),
        ([str(tmp_path), "hf://bob/x"], 4),
        ([str(BUNDLED), "hf://bob"], 2),
    ):
        with pytest.raises(SystemExit) as error:
            run(["push", *arguments])
        assert error.value.code == code
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(WeightsError) as refusal:
        densevision.push(BUNDLED, "hf://bob/x")
    assert "hf auth login" in str(refusal.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError):
        densevision.push(BUNDLED, "hf://bob/x")
