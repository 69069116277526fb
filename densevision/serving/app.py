"""The HTTP application: `POST /v1/TASK/predict`, `/v1/models`, `/health`, `/metrics` and `/openapi.json`."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from densevision.errors import DataError, DenseVisionError, UsageError, did_you_mean
from densevision.inference.predict import check_options
from densevision.io.download import is_offline
from densevision.serving.batching import Job
from densevision.serving.guard import Guard
from densevision.serving.metrics import ServerMetrics
from densevision.serving.openapi import describe_operation
from densevision.serving.options import ServerOptions, check_exposure, parse_options
from densevision.serving.responses import NotAcceptableError, encode_error, encode_results, negotiate_format
from densevision.serving.served_models import ServedModel
from densevision.serving.uploads import (
    RESERVED_FIELDS,
    ContentTooLargeError,
    image_fields,
    rename_file,
    store_images,
)
from densevision.version import __version__

__all__ = ["create_app"]

log = logging.getLogger("densevision")

MAX_FIELDS = 64
"""Form fields of a request besides its files."""
MAX_FIELD_BYTES = 65_536
RETRY_SECONDS = 1
"""Value of the header Retry-After."""


def create_app(models: Sequence[ServedModel], options: ServerOptions | None = None) -> FastAPI:
    """Builds the application.

    Args:
        models: The models; of each task, the first is the default.
        options: Limits, batching and token.

    Raises:
        UsageError: The options need a token or the network, which are missing, or two models have the same name.
    """
    options = options or ServerOptions()
    check_exposure(options)
    if options.allow_urls and is_offline():
        hint = "Unset DENSEVISION_OFFLINE and HF_HUB_OFFLINE, or leave the option out."
        raise UsageError("needs the network, which is switched off", field="allow_urls", value=True, hint=hint)
    return _Server(models, options).app


class _Server:
    """The models, the number of requests in work, and the endpoints."""

    def __init__(self, models: Sequence[ServedModel], options: ServerOptions):
        self.options = options
        self.models: dict[str, dict[str, ServedModel]] = {}
        for model in models:
            named = self.models.setdefault(model.task, {})
            if model.name in named:
                hint = "Rename one of the files."
                raise UsageError(f"two models of {model.task} have the same name", value=model.name, hint=hint)
            named[model.name] = model
        self.active = 0
        self.metrics = ServerMetrics(lambda: self.active)
        self.app = self._build()

    def _build(self) -> FastAPI:
        app = FastAPI(
            title="densevision",
            version=__version__,
            description="Dense prediction over HTTP.",
            docs_url=None,  # these pages load scripts from other servers
            redoc_url=None,
            lifespan=self._run_models,
        )
        app.add_api_route("/health", self.health, summary="Whether the server is ready")
        app.add_api_route("/metrics", self.show_metrics, summary="Metrics in the text format of Prometheus")
        app.add_api_route("/v1/models", self.list_models, summary="The models that are served")
        for task, named in self.models.items():
            app.add_api_route(
                f"/v1/{task}/predict",
                partial(self.predict, task),
                methods=["POST"],
                name=f"predict_{task}",
                operation_id=f"predict_{task}",
                summary=f"Predict {task}",
                response_class=Response,
                response_model=None,
                openapi_extra=describe_operation(list(named.values()), self.options),
            )
        app.add_exception_handler(HTTPException, _handle_http_error)
        app.add_exception_handler(DenseVisionError, _handle_error)
        app.add_middleware(Guard, options=self.options, observe=self._observe)
        if self.options.token is not None:
            components = app.openapi().setdefault("components", {})  # the document is kept
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        return app

    @asynccontextmanager
    async def _run_models(self, app: FastAPI) -> AsyncIterator[None]:
        models = [model for named in self.models.values() for model in named.values()]
        for model in models:
            observed = self.metrics.batches.labels(model.task, model.name)
            model.start(self.options, observed.observe)
        yield
        for model in models:
            await run_sync(model.stop)

    def _observe(self, path: str, status: int, seconds: float) -> None:
        known = {f"/v1/{task}/predict" for task in self.models} | {"/health", "/metrics", "/v1/models", "/openapi.json"}
        self.metrics.observe(path if path in known else "other", status, seconds)

    # -- endpoints -----------------------------------------------------------------------------------------------------

    async def health(self) -> dict[str, Any]:
        """Says that the models are loaded and requests are accepted."""
        return {"status": "ok", "version": __version__, "active_requests": self.active}

    async def show_metrics(self) -> Response:
        """Renders the metrics."""
        return Response(self.metrics.render(), media_type=self.metrics.content_type)

    async def list_models(self) -> dict[str, Any]:
        """Lists task, name, classes and license of each model."""
        return {"models": [model.describe() for named in self.models.values() for model in named.values()]}

    async def predict(self, task: str, request: Request) -> Response:
        """Predicts the images of a request."""
        if self.active >= self.options.queue:
            problem = f"{self.active} requests are in work, as many as the server accepts"
            headers = {"Retry-After": str(RETRY_SECONDS)}
            return JSONResponse(encode_error(problem), 429, headers=headers)
        self.active += 1
        try:
            return await self._predict_in_time(task, request)
        finally:
            self.active -= 1

    async def _predict_in_time(self, task: str, request: Request) -> Response:
        form: FormData | None = None
        try:
            with anyio.fail_after(self.options.timeout):
                form = await request.form(
                    max_files=self.options.max_images * 4, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
                )
                return await self._predict_form(task, request, form)
        except TimeoutError:
            status, what = (408, "the body did not arrive") if form is None else (504, "no result")
            problem = f"{what} within {self.options.timeout:g} seconds"
            return JSONResponse(encode_error(problem), status)
        finally:
            if form is not None:
                await form.close()

    async def _predict_form(self, task: str, request: Request, form: FormData) -> Response:
        fields = [*request.query_params.multi_items(), *form.multi_items()]
        model = self._select_model(task, _take_text(fields, "model"))
        specs = model.predictor.task.input_spec
        image_names = image_fields(specs)
        name = negotiate_format(_take_text(fields, "format"), request.headers.get("accept"), model.result_type)
        sources = {field: [value for key, value in fields if key == field and value != ""] for field in image_names}
        texts: list[tuple[str, str]] = []
        for key, value in fields:
            if key in (*image_names, *RESERVED_FIELDS):
                continue
            if not isinstance(value, str):
                hint = did_you_mean(key, image_names)
                raise UsageError("no such field for files", field=key, value=value.filename, hint=hint)
            texts.append((key, value))
        supported = model.predictor.task.supported_options
        prediction_options = check_options(model.predictor, parse_options(texts, supported))
        with tempfile.TemporaryDirectory(prefix="densevision-", ignore_cleanup_errors=True) as folder:
            store = partial(store_images, sources, Path(folder), self.options, self.options.timeout)
            upload = await run_sync(store, abandon_on_cancel=True)
            if name != "json" and len(upload.files) > 1:
                hint = "Send one image per request, or ask for json."
                raise UsageError("holds a single result", field="format", value=name, hint=hint)
            try:
                job = Job(upload.files, prediction_options, upload.pixels)
                results = await asyncio.wrap_future(model.submit(job))
                labels = [upload.names[files[0]] for files in upload.files]
                encode = partial(encode_results, results, labels, name, task, model.name)
                body, media = await run_sync(encode, abandon_on_cancel=True)
            except DenseVisionError as error:
                raise rename_file(error, upload.names) from None
        return Response(body, media_type=media)

    def _select_model(self, task: str, name: str | None) -> ServedModel:
        named = self.models[task]
        if name is None:
            return next(iter(named.values()))
        if name not in named:
            raise UsageError(f"no such model of {task}", field="model", value=name, hint=did_you_mean(name, named))
        return named[name]


def _take_text(fields: Sequence[tuple[str, Any]], name: str) -> str | None:
    """The value of a text field that may be given once."""
    values = [value for key, value in fields if key == name]
    if len(values) > 1 or not all(isinstance(value, str) for value in values):
        raise UsageError("must be given once, as text", field=name)
    return values[0] if values else None


async def _handle_error(request: Request, error: Exception) -> Response:
    """Answers errors that the client can fix; others are logged."""
    if isinstance(error, ContentTooLargeError):
        return JSONResponse(encode_error(error), 413)
    if isinstance(error, NotAcceptableError):
        return JSONResponse(encode_error(error), 406)
    if isinstance(error, (UsageError, DataError)):
        return JSONResponse(encode_error(error), 422)
    log.error("%s: %s", request.url.path, error)
    return JSONResponse(encode_error("the prediction failed"), 500)


async def _handle_http_error(request: Request, error: Exception) -> Response:
    """Answers unknown paths, wrong methods and malformed forms in the same JSON."""
    if not isinstance(error, HTTPException):
        raise error
    detail = str(error.detail)
    if error.status_code == 404:
        detail = "there is no such path; /v1/models lists what is served, /openapi.json describes it"
    return JSONResponse(encode_error(detail), error.status_code, headers=error.headers)
