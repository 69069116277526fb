"""Where the real data is, and small runs that several tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

# Two processes test at once (setup.cfg). Threads of torch beside them would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def peak_megabytes() -> Callable[[Path, Path, str], float]:
    """Measures the peak resident memory of a fresh process that answers a file with weights, and uses the `answer`."""

    def measure(source: Path, weights: Path, use: str) -> float:
        program = (
            "import resource, densevision\n"
            f"answer = densevision.predict({str(source)!r}, weights={str(weights)!r}, precision='float32')\n"
            f"{use}\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        return float(answer.stdout.split()[-1])

    return measure


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images with truth; skips where it is absent."""
    base = Path(os.environ.get("DENSEVISION_TEST_DATA", "../shared"))
    base = base if base.is_absolute() else ROOT / base
    if not (base / "data").is_dir():
        pytest.skip(f"no real data at {base}/data: set DENSEVISION_TEST_DATA")
    return base


TINY: dict[str, Any] = {
    "preset": "nano",
    "backbone.name": "mobilenetv2_050",
    "data.size": 64,
    "train.epochs": 3,
    "train.batch": 4,
    "train.seed": 3,
    "train.precision": "float32",
}


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """Settings of a run over 8 scenes."""
    return dict(TINY)


@pytest.fixture(scope="session")
def weights(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of random weights that does detect something."""
    import torch

    from densevision.datasets.scenes import CLASSES
    from densevision.inference.predictor import TorchModel
    from densevision.inference.seed import seed_everything
    from densevision.tasks import load_config, load_task
    from densevision.training.train import card_of

    config = load_config("detection").resolve(None, {**tiny, "data.path": "scenes:20:5", "classes": list(CLASSES)})
    task = load_task("detection")(config)
    seed_everything(0)
    net = task.net().eval()
    torch.nn.init.normal_(net.head.classify.predict.weight, std=0.5)
    torch.nn.init.constant_(net.head.classify.predict.bias, -1.0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    TorchModel(task, net, card_of(config, 20)).save(path)
    return path
