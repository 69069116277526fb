"""Builds sdist and wheel, installs the wheel into a fresh environment, and runs it outside the repository.

    python tools/check_wheel.py [--system-site-packages]

With --system-site-packages the environment reuses installed dependencies, which is faster than installing them again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERBS = "train predict evaluate score export check info benchmark analyze compare robustness select".split()
TINY = ["train.epochs=1", "train.batch=4", "backbone.pretrained=false", "data.size=[128,128]"]


def main(reuse: bool) -> None:
    """Raises `subprocess.CalledProcessError` or `AssertionError` at the first thing that fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        isolation = ["--no-isolation"] if reuse else []
        run(sys.executable, "-m", "build", *isolation, "--outdir", folder / "dist", ROOT, folder=folder)
        wheel = next((folder / "dist").glob("*.whl"))
        check_contents(wheel)
        check_source(next((folder / "dist").glob("*.tar.gz")))
        python = make_environment(folder / "venv", reuse)
        run(python, "-m", "pip", "install", "--quiet", *(["--no-deps"] if reuse else []), wheel, folder=folder)
        command = [python, "-m", "densevision"]
        for verb in VERBS:
            run(*command, "detection", verb, "--help", folder=folder)
        for verb in ("demo", "convert", "convert-weights", "info", "doctor"):
            run(*command, verb, "--help", folder=folder)
        run(*command, "models", folder=folder)
        settings = [part for setting in TINY for part in ("--set", setting)]
        train = ["detection", "train", "--config", "detection/coco", "--data", "scenes:8:0", *settings, "--out", "run"]
        run(*command, *train, "--quiet", folder=folder)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, works outside the repository")


def check_contents(wheel: Path) -> None:
    """Configs and weights are in the wheel, tests and tools are not."""
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith("configs/detection/coco.yaml") for name in names), "no configs in the wheel"
    assert any(name.endswith("bundled_weights/detection.safetensors") for name in names), "no weights in the wheel"
    unexpected = [name for name in names if not name.startswith("densevision")]
    assert not unexpected, f"in the wheel, but not of the package: {unexpected[:5]}"


def check_source(archive: Path) -> None:
    """The source archive has every file of the repository that the README links to or shows, and no caches."""
    with tarfile.open(archive) as stream:
        names = {name.split("/", 1)[-1] for name in stream.getnames()}
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    missing = [link for link in links if not any(name == link or name.startswith(f"{link}/") for name in names)]
    assert links and not missing, f"linked by README.md, but not in the source archive: {missing}"
    caches = [name for name in names if "cache" in name.lower() and not name.endswith(".py")]
    assert not caches, f"in the source archive: {caches[:5]}"


def make_environment(folder: Path, reuse: bool) -> Path:
    """Creates a virtual environment; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if reuse:
        own, outer = (
            subprocess.run(
                [each, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.strip()
            for each in (python, sys.executable)
        )
        # Behind the wheel's own folder, so that an editable install there does not come first.
        Path(own, "reused.pth").write_text(f"{outer}\n")
    return python


def run(*command: object, folder: Path) -> None:
    """Runs a command outside the repository; its output is shown only when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        done.check_returncode()


if __name__ == "__main__":
    main("--system-site-packages" in sys.argv[1:])
