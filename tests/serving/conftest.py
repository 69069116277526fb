"""Served models and image files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra serve")

from fastapi.testclient import TestClient

from densevision.serving.app import create_app
from densevision.serving.options import ServerOptions
from densevision.serving.served_models import ServedModel, load_model

Encode = Callable[..., bytes]
Serve = Callable[..., Any]


def encode(height: int = 48, width: int = 64, seed: int = 0, file_format: str = "PNG") -> bytes:
    """An image file with smooth random colors."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(stream, file_format)
    return stream.getvalue()


@pytest.fixture(scope="session")
def encode_image() -> Encode:
    return encode


class LoadedModels(dict[str, ServedModel]):
    """The bundled weights of a task, on the CPU in float32, loaded when they are first needed."""

    def __missing__(self, task: str) -> ServedModel:
        self[task] = load_model(task, ServerOptions(device="cpu", precision="float32"))
        return self[task]


@pytest.fixture(scope="session")
def models() -> dict[str, ServedModel]:
    return LoadedModels()


@pytest.fixture
def serve(models: dict[str, ServedModel]) -> Serve:
    """Opens a client of a server of some tasks with some options."""

    @contextmanager
    def open_client(*tasks: str, **options: Any) -> Iterator[TestClient]:
        app = create_app([models[task] for task in tasks], ServerOptions(**options))
        with TestClient(app, base_url="http://127.0.0.1:8000") as client:
            yield client

    return open_client
