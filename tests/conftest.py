"""The folder of real data, and small runs that several tests share."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent / "cases"))

# Two test processes run at once (setup.cfg): more threads of torch would only compete.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Runs start from timm's pretrained backbones where these can be had; tests do not depend on network and cache.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = str(ROOT / "no-cache")


@pytest.fixture(scope="session", autouse=True)
def introspected_backbones() -> Iterator[None]:
    """Introspects each backbone once: the tests build hundreds of small models, most of whose time this is."""
    backbone = sys.modules.get("densevision.nn.backbone")
    if backbone is None:  # no test of this run needs models
        yield
        return
    introspect, known = backbone.introspect_backbone, {}

    def introspect_once(config: Any) -> Any:
        key = repr(config)
        if key not in known:
            known[key] = introspect(config)
        return copy.deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "introspect_backbone", introspect_once)
        yield


@pytest.fixture(scope="session")
def peak_kib() -> str:
    """The expression of a new process's own peak memory; `ru_maxrss` also counts the process that started it."""
    return "int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


@pytest.fixture(scope="session")
def peak_megabytes(peak_kib: str) -> Callable[..., float]:
    """Measures the peak memory of a new process that predicts a file with weights and runs code with the `result`."""

    def measure(source: Path, weights: Path, code: str, precision: str = "float32") -> float:
        program = (
            "import densevision\n"
            f"result = densevision.predict({str(source)!r}, weights={str(weights)!r}, precision={precision!r})\n"
            f"{code}\n"
            f"print({peak_kib} / 1024)"
        )
        process = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        return float(process.stdout.split()[-1])

    return measure


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images with ground truth; skips where it does not exist."""
    base = Path(os.environ.get("DENSEVISION_TEST_DATA", "../shared"))
    base = base if base.is_absolute() else ROOT / base
    if not (base / "data").is_dir():
        pytest.skip(f"no real data at {base}/data: set DENSEVISION_TEST_DATA")
    return base


TINY: dict[str, Any] = {
    "arch": "yolo_n",
    "backbone.name": "test_resnet",
    "model.width": 16,
    "model.depth": 1,
    "data.size": 64,
    "train.epochs": 2,
    "train.batch": 4,
    "train.seed": 3,
    "train.precision": "float32",
}


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Options of a small detection run."""
    return dict(TINY)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with random weights that detects objects."""
    import torch

    from densevision.datasets.scenes import CLASSES
    from densevision.inference.predictor import TorchPredictor
    from densevision.inference.seed import seed_everything
    from densevision.tasks import load_config, load_task
    from densevision.training.train import make_card

    settings = {"arch": "yolo_n", "backbone.name": "mobilenetv2_050", "data.size": 64, "train.precision": "float32"}
    config = load_config("detection").resolve(None, {**settings, "data.path": "scenes:20:5", "classes": list(CLASSES)})
    task = load_task("detection")(config)
    seed_everything(0)
    model = task.build_model().eval()
    torch.nn.init.normal_(model.head.classify.predict.weight, std=0.5)
    torch.nn.init.constant_(model.head.classify.predict.bias, -1.0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    TorchPredictor(task, model, make_card(config, 20)).save(path)
    return path
