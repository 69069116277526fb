"""Bulk prediction and evaluation on a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densevision
from densevision.datasets.scenes import Scenes
from densevision.errors import DataError, DenseVisionError, UsageError
from densevision.io.image import write_image

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytest.importorskip("pyarrow")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="clusters of Ray need Linux or macOS"),
]

COUNT = 20


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Any]:
    """Two nodes with one core each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 150 << 20}
        nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        nodes.add_node(**node)
        nodes.wait_for_nodes()
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    scenes = Scenes(COUNT, 5, (96, 128))
    for index in range(COUNT):
        write_image(folder / f"{index:02d}.png", scenes[index].image)
    return folder


@pytest.mark.parametrize("task", ["detection", "semantic"])
def test_predict__equals_prediction_in_one_process(task: str, images: Path, tmp_path: Path) -> None:
    run = densevision.predict(
        images, task, engine="ray", out=tmp_path / "out", save=["jsonl"], workers=2, rows_per_file=6, quiet=True
    )
    assert (len(run), run.failed, run.done_before) == (COUNT, 0, 0)
    rows = {row.source: row.result for row in run}
    assert len(rows) == COUNT
    plain = densevision.predict(str(images), task)
    for expected in plain:
        actual = rows[expected.source]
        for name, array in expected.numpy().items():
            np.testing.assert_allclose(actual.numpy()[name], array, atol=1e-4, err_msg=name)
    again = densevision.predict(
        images, task, engine="ray", out=tmp_path / "out", save=["jsonl"], workers=2, rows_per_file=6, quiet=True
    )
    assert again.done_before == COUNT
    with pytest.raises(UsageError):
        densevision.predict(images, task, engine="ray", out=tmp_path / "out", save=["jsonl"], batch=2, quiet=True)


def test_predict__dead_worker_and_corrupt_image(images: Path, tmp_path: Path) -> None:
    import psutil

    folder = tmp_path / "images"
    folder.mkdir()
    for path in images.iterdir():
        for copy in range(4):
            (folder / f"{copy}{path.name}").write_bytes(path.read_bytes())
    (folder / "corrupt.jpg").write_bytes(b"\xff\xd8\xff nothing")
    killed: list[int] = []

    def kill_predictor() -> None:
        """Kills the process of the model as soon as it computes."""
        end = time.monotonic() + 300
        while not killed and time.monotonic() < end:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    name = " ".join(process.cmdline()[:1])
                    if name.startswith("ray::MapWorker") and "__init__" not in name:
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)
                        return
            time.sleep(0.05)

    thread = threading.Thread(target=kill_predictor)
    thread.start()
    run = densevision.predict(
        folder, "detection", engine="ray", out=tmp_path / "out", rows_per_file=8, on_error="skip", quiet=True
    )
    thread.join()
    assert killed
    sources = [row.source for row in run]
    assert len(sources) == len(set(sources)) == 4 * COUNT + 1
    failures = [row for row in run if row.error is not None]
    assert [row.name for row in failures] == ["corrupt"] and run.failed == 1
    with pytest.raises(DataError) as caught:
        densevision.predict(folder, "detection", engine="ray", out=tmp_path / "strict", quiet=True)
    assert caught.value.file == str(folder / "corrupt.jpg")


def test_predict__store_that_does_not_respond(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    release = threading.Event()

    class Store(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "slow" in self.path:
                release.wait(60)
            data = (images / "00.png").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            """Nothing is logged."""

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Store) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        addresses = [f"http://127.0.0.1:{server.server_address[1]}/{name}.png" for name in ("fast", "slow")]
        out = tmp_path / "out"
        run = densevision.predict(
            addresses, "detection", engine="ray", out=out, on_error="skip", timeout=2.0, workers=1, quiet=True
        )
        rows = {row.name: row for row in run}
        release.set()
        server.shutdown()
    assert rows["fast"].result is not None
    assert rows["slow"].result is None and "2" in (rows["slow"].error or "")


def test_predict__full_destination(images: Path, tmp_path: Path) -> None:
    """What fits is kept; the rest is computed when there is room again."""
    out = tmp_path / "out"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(out)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root on Linux only")
    options: dict[str, Any] = {"out": out, "rows_per_file": 4, "workers": 1, "quiet": True}
    try:
        with pytest.raises(DenseVisionError, match="No space"):
            densevision.predict(images, "semantic", engine="ray", **options)
        subprocess.run(["mount", "-o", "remount,size=8m", str(out)], check=True)
        run = densevision.predict(images, "semantic", engine="ray", **options)
        assert 0 < run.done_before < COUNT
        assert len({row.source for row in run}) == COUNT
    finally:
        subprocess.run(["umount", str(out)], check=True)


@pytest.mark.parametrize("task", ["detection", "semantic", "depth"])
def test_evaluate__equals_one_process_to_the_last_digit(task: str) -> None:
    data = "scenes:150:3"
    one = densevision.evaluate(task, data, quiet=True)
    many = densevision.evaluate(task, data, engine="ray", workers=2, quiet=True)
    for name in ("metrics", "counts", "tables", "protocol"):
        np.testing.assert_equal(getattr(many, name), getattr(one, name))  # to the last digit; NaN equals NaN


def test_ray_predictor__in_a_pipeline_of_ones_own(images: Path) -> None:
    import ray.data

    from densevision.bulk import RayPredictor

    dataset = ray.data.read_images(str(images), include_paths=True, mode="RGB", override_num_blocks=2)
    rows = dataset.map_batches(
        RayPredictor,
        fn_constructor_kwargs={"task": "detection"},
        batch_size=8,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=0.5,
    ).take_all()
    expected = {str(record.source): record for record in densevision.predict(str(images), "detection")}
    assert len(rows) == COUNT
    for row in rows:
        np.testing.assert_allclose(np.array(list(row["scores"]), np.float32), expected[row["path"]].scores, atol=1e-4)
