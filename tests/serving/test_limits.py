"""What the server refuses: hostile uploads, too much work, strangers, and addresses of its own network."""

from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from densevision.errors import DataError, UsageError
from densevision.serving.app import create_app
from densevision.serving.options import ServerOptions
from densevision.serving.remote_images import download_image, is_public_address

PATH = "/v1/depth/predict"
TOKEN = "correct-horse-battery"


def make_bomb(side: int) -> bytes:
    """A PNG of zeros that states side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    compressor = zlib.compressobj(9)
    rows = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(64)) + compressor.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def blocked(models: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds every prediction of depth until the event is set."""
    release = threading.Event()
    predictor = models["depth"].predictor
    predict_batch = predictor.predict_batch

    def wait(*arguments: Any) -> Any:
        assert release.wait(60)
        return predict_batch(*arguments)

    monkeypatch.setattr(predictor, "predict_batch", wait)
    yield release
    release.set()


def make_hostile_files(image: bytes) -> dict[str, tuple[int, bytes]]:
    """Name -> expected status and content."""
    return {
        "bomb.png": (413, make_bomb(60_000)),
        "small_bomb.png": (422, make_bomb(7_000)),  # allowed by its header, and without most of its pixels
        "truncated.png": (422, image[: len(image) // 2]),
        "page.jpg": (422, b"<!DOCTYPE html><html><body>not found</body></html>"),
        "empty.png": (422, b""),
        "noise.tif": (422, b"II*\0" + bytes(range(256)) * 8),
        "archive.png": (422, b"PK\x03\x04" + bytes(1000)),
    }


def test_uploads__hostile_files_are_refused_quickly_and_the_server_goes_on(serve: Any, encode_image: Any) -> None:
    import psutil

    image = encode_image(64, 64)
    with serve("depth") as client:
        before = psutil.Process().memory_info().rss
        for name, (status, data) in make_hostile_files(image).items():
            start = time.perf_counter()
            response = client.post(PATH, files={"image": (name, data)})
            seconds = time.perf_counter() - start
            assert response.status_code == status, (name, response.text)
            message = response.json()["error"]["message"]
            assert message.startswith((name, "image")) and "/tmp" not in message, message
            assert seconds < 5, name  # a second on an idle machine
        grown = psutil.Process().memory_info().rss - before
        assert grown < 300e6
        assert client.post(PATH, files={"image": ("a.png", image)}).status_code == 200


def test_uploads__size_pixels_and_count(serve: Any, encode_image: Any) -> None:
    image = encode_image(64, 64)
    with serve("depth", max_upload_mb=0.05, max_pixels=10_000, max_images=3) as client:
        whole = client.post(PATH, files={"image": ("a.png", bytes(60_000))})
        start = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        unannounced = client.post(
            PATH,
            content=iter([start, *[bytes(30_000)] * 3]),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        pixels = client.post(PATH, files=[("image", ("a.png", image))] * 3)
        count = client.post(PATH, files=[("image", ("a.png", image))] * 4)
        fits = client.post(PATH, files=[("image", ("a.png", image))] * 2)
    assert [whole.status_code, unannounced.status_code, pixels.status_code, count.status_code] == [413] * 4
    assert fits.status_code == 200


def test_uploads__malformed_forms(serve: Any) -> None:
    with serve("depth") as client:
        for content_type, body in (
            ("multipart/form-data", b"abc"),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: nonsense\r\n\r\n"),
            ("application/json", b"{}"),
            ("image/png", b"\x89PNG"),
        ):
            response = client.post(PATH, content=body, headers={"content-type": content_type})
            assert response.status_code in (400, 422), content_type
            assert response.json()["error"]["message"]
        assert client.get(PATH).status_code == 405
        assert client.post("/v1/flow/predict").status_code == 404  # not served


def test_queue__full_is_429_and_the_accepted_are_completed(serve: Any, encode_image: Any, blocked: Any) -> None:
    upload = {"image": ("a.png", encode_image(32, 32))}
    statuses: list[int] = []
    with serve("depth", queue=3, batch=1) as client:
        threads = [
            threading.Thread(target=lambda: statuses.append(client.post(PATH, files=upload).status_code))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while client.get("/health").json()["active_requests"] < 3:
            assert time.monotonic() < deadline
        refused = client.post(PATH, files=upload)
        blocked.set()
        for thread in threads:
            thread.join()
        after = client.post(PATH, files=upload)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert statuses == [200] * 3 and after.status_code == 200


def test_timeout__is_504_and_waiting_requests_are_not_predicted(serve: Any, encode_image: Any, blocked: Any) -> None:
    upload = {"image": ("a.png", encode_image(32, 32))}
    with serve("depth", timeout=2.0, batch=1) as client:
        statuses = [client.post(PATH, files=upload).status_code for _ in range(2)]
        metrics = client.get("/metrics").text
        blocked.set()
    assert statuses == [504] * 2
    assert 'densevision_batch_images_count{model="bundled",task="depth"} 1.0' in metrics


def test_token__is_needed_everywhere_but_for_health(serve: Any, encode_image: Any) -> None:
    upload = {"image": ("a.png", encode_image(32, 32))}
    with serve("depth", token=TOKEN, host="0.0.0.0") as client:
        for value in (None, TOKEN, "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xe9"):
            headers = {} if value is None else {"authorization": value.encode("latin-1")}
            for path in ("/metrics", "/openapi.json", "/v1/models", "/nothing"):
                response = client.get(path, headers=headers)
                assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert client.post(PATH, files=upload, headers=headers).status_code == 401
        assert client.get("/health").status_code == 200
        accepted = client.post(PATH, files=upload, headers={"authorization": f"Bearer {TOKEN}", "host": "cam.example"})
        assert accepted.status_code == 200


def test_host__other_names_without_token_are_refused(serve: Any) -> None:
    with serve("depth") as client:
        statuses = {
            host: client.get("/v1/models", headers={"host": host}).status_code
            for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "evil.example", "127.0.0.1.evil.example", "")
        }
    assert list(statuses.values()) == [200, 200, 200, 421, 421, 421], statuses


@pytest.mark.parametrize(
    "options", [{"host": "0.0.0.0"}, {"host": "192.168.0.7"}, {"host": "cam.example"}, {"token": "short"}]
)
def test_exposure__needs_a_good_token(options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        create_app([], ServerOptions(**options))


# -- images by URL -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1",
        "64:ff9b::a00:1", "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_is_public_address__private(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_is_public_address__public(address: str) -> None:
    assert is_public_address(address)


class ImageHandler(BaseHTTPRequestHandler):
    """A web server with an image, a redirect, an endless file and a short one."""

    image = b""
    requests: list[str]

    def do_GET(self) -> None:
        type(self).requests.append(self.path)
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/image.png")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/missing" else 200)
        if self.path == "/short":
            self.send_header("Content-Length", str(len(self.image) + 10))
        self.end_headers()
        try:
            if self.path == "/slow":
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            for _ in range(10_000 if self.path == "/endless" else 1):
                self.wfile.write(self.image)
        except OSError:  # the client has gone, as it should
            return

    def log_message(self, *arguments: object) -> None:
        """Prints nothing."""


@pytest.fixture
def site(encode_image: Any) -> Iterator[str]:
    handler = type("Handler", (ImageHandler,), {"image": encode_image(32, 48), "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def allow_any(address: str) -> bool:
    return True


def test_download_image__writes_the_file(site: str, encode_image: Any, tmp_path: Path) -> None:
    size = download_image(f"{site}/image.png", tmp_path / "a", 100_000, 10, allow_any)
    assert (tmp_path / "a").read_bytes() == encode_image(32, 48) and size == len(encode_image(32, 48))


@pytest.mark.parametrize("path", ["/redirect", "/missing", "/endless", "/short", "/slow"])
def test_download_image__refuses(path: str, site: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        download_image(site + path, tmp_path / "a", 100_000, 1.0, allow_any)
    assert not (tmp_path / "a").exists() or (tmp_path / "a").stat().st_size <= 110_000


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://8.8.8.8/a.png", "gopher://8.8.8.8/", "http://", "http://user@8.8.8.8/a.png",
        "http://8.8.8.8:99999/", "http://8.8.8.8/a b", "http://8.8.8.8/\r\nHost: x", "//8.8.8.8/a.png", "http://[::1",
    ],
)  # fmt: skip
def test_download_image__refuses_other_urls(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.create_connection", lambda *arguments, **options: pytest.fail("connected"))
    with pytest.raises(DataError):
        download_image(url, tmp_path / "a", 1000, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_download_image__refuses_its_own_network(host: str, site: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        download_image(site.replace("127.0.0.1", host), tmp_path / "a", 100_000, 5)
    assert not (tmp_path / "a").exists()


def test_download_image__one_private_address_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(2, 1, 6, "", ("8.8.8.8", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *arguments, **options: addresses)
    monkeypatch.setattr("socket.create_connection", lambda *arguments, **options: pytest.fail("connected"))
    with pytest.raises(DataError):
        download_image("http://images.example/a.png", tmp_path / "a", 1000, 1)


def test_urls__only_where_allowed(serve: Any, site: str, monkeypatch: pytest.MonkeyPatch, encode_image: Any) -> None:
    url = f"{site}/image.png"
    with pytest.raises(UsageError), serve("depth", allow_urls=True):  # the tests are offline
        pass
    monkeypatch.setattr("densevision.serving.app.is_offline", lambda: False)
    with serve("depth") as client:
        assert client.post(PATH, data={"image": url}).status_code == 422
    with serve("depth", allow_urls=True) as client:
        refused = client.post(PATH, data={"image": url})
        allowed = partial(download_image, is_allowed=allow_any)
        monkeypatch.setattr("densevision.serving.uploads.download_image", allowed)
        accepted = client.post(PATH, data={"image": url})
        uploaded = client.post(PATH, files={"image": ("a.png", encode_image(32, 48))})
    assert refused.status_code == 422 and "public" in refused.json()["error"]["message"]
    assert accepted.status_code == 200
    assert accepted.json()["results"][0]["depth"] == uploaded.json()["results"][0]["depth"]
