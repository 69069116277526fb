"""Models that threads, forked and spawned processes share process as a single thread does."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import densevision
from densevision import loading
from densevision.cached_property import cached_property
from densevision.inference.sharing import EvaluationMode, ForkSafeLock
from densevision.published_weights import find_bundled_weights

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
TASKS = ("semantic", "depth")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights() -> dict[str, Path]:
    files = {task: find_bundled_weights(task) for task in TASKS}
    if None in files.values():
        pytest.skip("the bundled weights are not part of this checkout")
    return files


def predict(task: str, weights: dict[str, Path]) -> np.ndarray:
    result = densevision.predict(IMAGE, weights=weights[task], device="cpu", precision="float32")
    return result.labels if task == "semantic" else result.depth


def wait_for_exit(child: int, seconds: float = 20) -> int | None:
    """The exit code of a process; None if it hangs, and then it is killed."""
    deadline = time.monotonic() + seconds
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    if done == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
        return None
    return os.waitstatus_to_exitcode(done[1])


def test_predict__eight_threads_and_two_files(weights: dict[str, Path]) -> None:
    expected = {task: predict(task, weights) for task in TASKS}
    turns = [TASKS[number % 2] for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for task, values in zip(turns, pool.map(lambda task: predict(task, weights), turns)):
            np.testing.assert_array_equal(values, expected[task])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore")
def test_predict__fork_while_threads_load_and_prediction(weights: dict[str, Path]) -> None:
    expected, stop = predict("depth", weights), threading.Event()
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked child has no other threads of OpenMP

    def busy() -> None:
        while not stop.is_set():
            for task in TASKS:
                predict(task, weights)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            time.sleep(0.05)
            child = os.fork()
            if child == 0:
                try:
                    os._exit(0 if np.array_equal(predict("depth", weights), expected) else 3)
                finally:
                    os._exit(4)
            assert wait_for_exit(child, seconds=60) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        torch.set_num_threads(threads_before)


def test_predict__spawned_processes(weights: dict[str, Path], tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(
        "import sys, multiprocessing, numpy as np\n"
        "def work(weights):\n"
        "    import densevision\n"
        "    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)\n"
        "    return densevision.predict(image, weights=weights, device='cpu', precision='float32').depth\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        np.save(sys.argv[2], np.stack(pool.map(work, [sys.argv[1]] * 2)))\n"
    )
    out = tmp_path / "out.npy"
    environment = {**os.environ, "PYTHONPATH": str(Path(densevision.__file__).parents[1])}
    subprocess.run([sys.executable, script, str(weights["depth"]), out], check=True, env=environment)
    for values in np.load(out):
        np.testing.assert_allclose(values, predict("depth", weights), rtol=1e-5)


def test_predict__threads_share_one_load(weights: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loads, real = [], loading.load

    def slow(*arguments: object, **keywords: object) -> object:
        loads.append(arguments)
        time.sleep(0.05)
        return real(*arguments, **keywords)

    monkeypatch.setattr(loading, "load", slow)
    monkeypatch.setattr(loading, "_cache", {})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: predict("depth", weights), range(8)))
    assert len(loads) == 1


class EvaluationOnly(nn.Module):
    """Fails in training mode."""

    def forward(self) -> None:
        for _ in range(20):
            assert not self.training
            time.sleep(0.0005)


def test_evaluation_mode__training_returns_after_the_last_thread() -> None:
    net, mode = EvaluationOnly().train(), EvaluationMode()

    def use(number: int) -> None:
        time.sleep(0.002 * (number % 5))
        with mode(net, CPU) as model:
            model()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(40)))
    assert net.training


def test_evaluation_mode__another_device_waits() -> None:
    net, mode, order = EvaluationOnly().eval(), EvaluationMode(), []

    def other() -> None:
        with mode(net, torch.device("meta")):
            order.append("other")

    with mode(net, CPU):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore")
def test_locks__free_in_a_forked_child() -> None:
    lock, mode, net, held, release = (
        ForkSafeLock(),
        EvaluationMode(),
        EvaluationOnly(),
        threading.Event(),
        threading.Event(),
    )

    def hold() -> None:
        with lock, mode(net, CPU):
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        with lock, mode(net, torch.device("meta")):
            os._exit(0)
    code = wait_for_exit(child)
    release.set()
    thread.join()
    assert code == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore")
def test_cached_property__computed_in_a_forked_child_while_a_thread_computes_another() -> None:
    computing, release = threading.Event(), threading.Event()

    class Slow:
        @cached_property
        def value(self) -> int:
            computing.set()
            return release.wait(30) + 1

    thread = threading.Thread(target=lambda: Slow().value)
    thread.start()
    computing.wait()
    child = os.fork()
    if child == 0:
        release.set()
        os._exit(Slow().value)
    code = wait_for_exit(child)
    release.set()
    thread.join()
    assert code == 2


def test_locks__copies_are_new_and_free() -> None:
    lock = ForkSafeLock()
    with lock:
        for other in (pickle.loads(pickle.dumps(lock)), copy.deepcopy(lock)):
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(lambda other=other: other.__enter__()).result(5) is None
    assert pickle.loads(pickle.dumps(EvaluationMode()))._thread_count == 0
