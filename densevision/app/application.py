"""The page as an ASGI application: gradio without a network, behind the guard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from densevision.app.options import AppOptions
from densevision.app.work_folder import WorkFolder
from densevision.errors import UsageError
from densevision.serving.options import check_exposure

__all__ = ["build"]

SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_NODE_NUM_WORKERS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""What keeps gradio, and the library of the Hub that it imports, from reporting to their makers. gradio reads them when
it is imported or used."""
MAX_SESSIONS = 64
"""Open pages whose results are kept; of more, those of the oldest are dropped."""


def build(weights: Sequence[Any], runs: Sequence[Any], data: Sequence[Any], options: AppOptions) -> Any:
    """Builds the application; the arguments are those of `densevision.app.build_app`."""
    check_exposure(options)
    os.environ.update(SETTINGS)
    folder = WorkFolder()
    os.environ["GRADIO_TEMP_DIR"] = str(folder.path)  # where gradio keeps uploads, and serves files from
    import gradio
    from fastapi import FastAPI

    from densevision.app.guard import PageGuard
    from densevision.app.page import build_page
    from densevision.app.style import CSS, HEAD, build_theme

    _disable_downloads()
    page = build_page(weights, runs, data, options, folder)
    page.state_session_capacity = MAX_SESSIONS
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gradio.mount_gradio_app(
        app,
        page,
        "/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=options.max_upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=build_theme(),
        css=CSS,
        head=HEAD,
    )
    return PageGuard(app, options)


def _disable_downloads() -> None:
    """Keeps gradio from fetching the address that a request names in the place of an uploaded file.

    There is no option for it. Its own check refuses private addresses only, and this page needs no network at all.
    """
    from gradio import processing_utils

    async def refuse(url: str) -> Any:
        raise UsageError("addresses are not supported", value=url, hint="Upload the file.")

    processing_utils.async_ssrf_protected_get = refuse
