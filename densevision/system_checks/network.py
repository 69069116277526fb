"""Network: offline switches, proxies, certificates and telemetry, as environment variables set them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from densevision.system_checks.finding import SystemFinding

__all__ = ["check_network"]

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
TELEMETRY = "ORT_DISABLE_TELEMETRY"


def check_network() -> Iterator[SystemFinding]:
    """Reads the variables; opens no connection."""
    faults = [*_check_certificates(), *_check_proxies(), *_check_telemetry()]
    yield from faults
    offline = [name for name in OFFLINE if os.environ.get(name, "").lower() in ("1", "true", "yes", "on")]
    if offline:
        text = f"{', '.join(offline)}: published weights must be in the cache"
    else:
        text = "no offline switch: published weights are downloaded when they are named"
    yield SystemFinding("network", "ok", text)


def _check_certificates() -> Iterator[SystemFinding]:
    for name in CERTIFICATES:
        path = os.environ.get(name)
        if path and not os.path.exists(path):
            yield SystemFinding(name, "warning", f"{path} does not exist: downloads fail", "Correct or unset it.")


def _check_proxies() -> Iterator[SystemFinding]:
    for name in PROXIES:
        address = os.environ.get(name)
        if address and not (urlsplit(address).scheme and urlsplit(address).hostname):
            message = f"{address} is not the address of a proxy: downloads fail"
            yield SystemFinding(name, "warning", message, "Write it as http://HOST:PORT.")


def _check_telemetry() -> Iterator[SystemFinding]:
    if os.environ.get(TELEMETRY, "1") != "1":
        message = f"{os.environ[TELEMETRY]}: ONNX Runtime reports to its maker"
        yield SystemFinding(TELEMETRY, "warning", message, "Set it to 1, or unset it.")
