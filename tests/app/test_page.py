"""The page as an application: what it serves, to whom, and that it needs no network. Imports gradio, which takes
seconds; everything else of the page is tested without."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="needs the extra app")

from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from densevision.app import AppOptions, build_app
from densevision.app.guard import POLICY
from densevision.errors import UsageError

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(build_app(options=AppOptions(device="cpu")), base_url="http://127.0.0.1:7860") as client:
        yield client


@pytest.fixture(scope="module")
def guarded() -> Iterator[Any]:
    options = AppOptions(device="cpu", host="0.0.0.0", token=TOKEN, max_upload_mb=0.01)
    with TestClient(build_app(options=options), base_url="http://box.example:7860", follow_redirects=False) as client:
        yield client


def test_page__loads_nothing_from_elsewhere(client: TestClient) -> None:
    response = client.get("/")
    assert response.status_code == 200 and response.headers["content-security-policy"] == POLICY
    assert "http" not in POLICY and "*" not in POLICY
    css = client.get("/theme.css").text
    assert "@import" not in css and "url(http" not in css


def test_page__config_says_nothing_of_this_machine(client: TestClient) -> None:
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False and config["footer_links"] == []
    labels = {each["props"].get("label") for each in config["components"]}
    assert {"Predict", "Compare", "Run", "Dataset", "Score threshold", "Weights"} <= labels
    # Handlers are for the page alone; they are no API.
    assert {each["api_visibility"] for each in config["dependencies"]} == {"private"}


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd", "/gradio_api/file=setup.cfg", "/gradio_api/file=../../setup.cfg",
        "/gradio_api/file=http://127.0.0.1:1/a", "/gradio_api/proxy=http://127.0.0.1:1/a", "/monitoring",
        "/gradio_api/vibe-code/", "/gradio_api/runs", "/docs", "/openapi.json", "/gradio_api/openapi.json",
        "/gradio_api/info",
    ],
)  # fmt: skip
def test_page__refuses_what_it_does_not_use(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (403, 404)


def test_page__requests_of_other_sites(client: TestClient) -> None:
    assert client.get("/config", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/config", headers={"origin": "null"}).status_code == 403
    assert client.get("/config", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/config", headers={"origin": "http://127.0.0.1:7860"}).status_code == 200
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/gradio_api/stream"):
        pass


def call(client: TestClient, name: str, data: list[Any]) -> str:
    """Calls a handler of the page as its script does, and returns the events."""
    config = client.get("/config").json()
    element = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == name)
    function = next(each["id"] for each in config["dependencies"] if [element, "click"] in each["targets"])
    body = {"data": data, "fn_index": function, "session_hash": "abc", "trigger_id": element}
    assert client.post("/gradio_api/queue/join", json=body).status_code == 200
    return client.get("/gradio_api/queue/data", params={"session_hash": "abc"}).text


def test_page__opens_no_address_and_no_file_of_this_machine(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    looked_up: list[object] = []
    original = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *args, **kw: (looked_up.append(args[0]), original(*args, **kw))[1]
    )
    file = {"meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
    for path in (str(secret), "http://example.com/a.png", "https://example.com/a.png"):
        events = call(client, "predict-run", ["superres", "bicubic", [{**file, "path": path}], 0.25])
        assert '"success":false' in events, events
    assert looked_up == []


def test_page__token(guarded: TestClient) -> None:
    form = guarded.get("/")
    assert form.status_code == 200 and 'name="token"' in form.text and "gradio_config" not in form.text
    for path in ("/config", "/theme.css", "/assets/a.js", "/gradio_api/queue/data"):
        assert guarded.get(path).status_code == 401
    assert guarded.get("/config", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/config", headers={"cookie": f"densevision={TOKEN}"}).status_code == 401
    wrong = guarded.post("/sign-in", data={"token": "not the token at all"})
    assert wrong.status_code == 401 and "set-cookie" not in wrong.headers
    right = guarded.post("/sign-in", data={"token": TOKEN})
    assert right.status_code == 303 and TOKEN not in right.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(right.headers["set-cookie"].split("; "))
    assert guarded.get("/config").status_code == 200  # with the cookie
    assert "gradio_config" in guarded.get("/").text
    too_large = guarded.post("/gradio_api/upload", files={"files": ("a.png", b"0" * 20_000)})
    assert too_large.status_code == 413


def test_page__other_machines_need_a_token() -> None:
    with pytest.raises(UsageError, match="token"):
        build_app(options=AppOptions(host="0.0.0.0"))


def test_page__runs_are_checked_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no run"):
        build_app(runs=[tmp_path], options=AppOptions(device="cpu"))
