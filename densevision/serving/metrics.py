"""Metrics of the server in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["ServerMetrics"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class ServerMetrics:
    """Counters of one server; several servers in a process do not share them.

    Args:
        count_requests: Number of requests in work.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, count_requests: Callable[[], int]):
        self.registry = CollectorRegistry()
        names: dict[str, Any] = {"registry": self.registry, "namespace": "densevision"}
        self.requests = Counter("requests", "Requests by path and status.", ["path", "status"], **names)
        self.seconds = Histogram(
            "request_seconds", "Seconds from request to response.", ["path"], buckets=SECONDS, **names
        )
        self.batches = Histogram("batch_images", "Images per batch.", ["task", "model"], buckets=IMAGES, **names)
        active = Gauge("active_requests", "Requests in work, waiting ones included.", **names)
        active.set_function(count_requests)
        ProcessCollector(registry=self.registry)

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Counts a request."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def render(self) -> bytes:
        """The metrics as text."""
        return generate_latest(self.registry)
