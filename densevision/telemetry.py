"""Switches that keep libraries from reporting to their makers; libraries read them when they are loaded."""

from __future__ import annotations

import os
import sys

__all__ = ["disable_telemetry"]


def disable_telemetry() -> None:
    """Turns off the telemetry of ONNX Runtime, OpenVINO and Ray in this process and its children.

    ONNX Runtime (since 1.32 on Linux) starts its telemetry in native code while it is imported: it writes a device id
    and a database under ~/.cache/Microsoft and looks up a host. `disable_telemetry_events` comes too late for that; the
    variable does not. `torch.onnx` may load it as well. OpenVINO reports through the package openvino_telemetry, which
    writes ~/intel/openvino_ga_cid, and goes on without where that cannot be imported. Ray reads its variable when a
    cluster starts.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
