"""Requests that arrive together are predicted together, and none fails another."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densevision
from densevision.errors import DataError
from densevision.inference.predict import check_options
from densevision.serving import batching
from densevision.serving.batching import Batcher, Job


@pytest.fixture
def make_job(models: Any, encode_image: Any, tmp_path: Path) -> Any:
    """Makes a job for a depth model of a new image."""

    def make(seed: int, size: tuple[int, int] = (32, 48), **options: Any) -> Job:
        file = tmp_path / f"{seed}"
        file.write_bytes(encode_image(*size, seed))
        return Job([(file,)], check_options(models["depth"].predictor, options), size[0] * size[1])

    return make


@pytest.fixture
def sizes() -> list[int]:
    """Numbers of images per batch."""
    return []


@pytest.fixture
def batcher(models: Any, sizes: list[int]) -> Any:
    created = Batcher(models["depth"].predictor, 4, 0.2, sizes.append)
    yield created
    created.stop()


def test_batcher__jobs_within_the_window_share_batches(batcher: Any, sizes: list[int], make_job: Any) -> None:
    jobs = [make_job(seed) for seed in range(6)]
    for job in jobs:
        batcher.submit(job)
    batcher.start()
    for job in jobs:
        (result,) = job.future.result(60)
        expected = densevision.predict(job.files[0][0], "depth", batcher.predictor)
        np.testing.assert_allclose(result.depth, expected.depth, rtol=1e-4)
    assert sizes == [4, 2]


def test_batcher__waits_no_longer_than_the_window(batcher: Any, sizes: list[int], make_job: Any) -> None:
    batcher.start()
    first, late = make_job(0), make_job(1)
    batcher.submit(first).result(60)
    batcher.submit(late).result(60)
    assert sizes == [1, 1]


def test_batcher__full_batch_does_not_wait(models: Any, make_job: Any) -> None:
    batcher = Batcher(models["depth"].predictor, 2, 60.0)
    batcher.start()
    start = time.monotonic()
    for future in [batcher.submit(make_job(seed)) for seed in range(2)]:
        future.result(30)
    assert time.monotonic() - start < 30
    batcher.stop()


def test_batcher__other_options_are_predicted_apart(batcher: Any, sizes: list[int], make_job: Any) -> None:
    jobs = [make_job(0), make_job(1, tta="flip"), make_job(2), make_job(3, tta="flip")]
    for job in jobs:
        batcher.submit(job)
    batcher.start()
    for job in jobs:
        job.future.result(60)
    assert sizes == [2, 2]


def test_batcher__large_images_are_predicted_one_by_one(
    batcher: Any, sizes: list[int], make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_BATCH_PIXELS", 2 * 32 * 48)
    jobs = [make_job(seed) for seed in range(3)]
    for job in jobs:
        batcher.submit(job)
    batcher.start()
    for job in jobs:
        job.future.result(60)
    assert sizes == [2, 1]


def test_batcher__failures_stay_with_their_job(batcher: Any, make_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [make_job(seed) for seed in range(4)]
    jobs[1].files[0][0].write_bytes(b"<html>")  # cannot be read
    predict_batch = batcher.predictor.predict_batch

    def fail_on_third(samples: Any, options: Any, previous: Any = None) -> Any:
        if any(sample.id == "2" for sample in samples):
            raise DataError("values beyond the range")
        return predict_batch(samples, options, previous)

    monkeypatch.setattr(batcher.predictor, "predict_batch", fail_on_third)
    for job in jobs:
        batcher.submit(job)
    batcher.start()
    outcomes = [job.future.exception(60) for job in jobs]
    assert [type(outcome) for outcome in outcomes] == [type(None), DataError, DataError, type(None)]


def test_batcher__canceled_jobs_cost_nothing_and_stop_completes_the_rest(
    batcher: Any, sizes: list[int], make_job: Any
) -> None:
    jobs = [make_job(seed) for seed in range(5)]
    for job in jobs:
        batcher.submit(job)
    assert jobs[2].future.cancel()
    batcher.start()
    batcher.stop()
    assert sum(sizes) == 4
    for job in (*jobs[:2], *jobs[3:]):
        assert len(job.future.result(0)) == 1
    with pytest.raises(CancelledError):
        jobs[2].future.result(0)


def test_server__concurrent_requests_form_batches(serve: Any, models: Any, encode_image: Any) -> None:
    images = [encode_image(32, 48, seed) for seed in range(6)]
    statuses: list[int] = []

    with serve("depth", batch=8, batch_window_ms=500.0) as client:

        def send(image: bytes) -> None:
            statuses.append(client.post("/v1/depth/predict", files={"image": ("a.png", image)}).status_code)

        threads = [threading.Thread(target=send, args=(image,)) for image in images]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        metrics = client.get("/metrics").text
    assert statuses == [200] * 6
    lines = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    labels = '{model="bundled",task="depth"}'
    assert float(lines[f"densevision_batch_images_sum{labels}"]) == 6
    assert float(lines[f"densevision_batch_images_count{labels}"]) < 6
    assert float(lines['densevision_requests_total{path="/v1/depth/predict",status="200"}']) == 6
