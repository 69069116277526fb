"""The documentation: code runs, links lead somewhere, and the named architectures, configs and functions exist."""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import densevision
from densevision.models import find_architectures
from densevision.tasks import TASKS
from densevision.tasks.registry import Architecture
from densevision.tasks.semantic.models import MODELS
from densevision.testing import check_model

ROOT = Path(__file__).parent.parent
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "docs" / "adr").glob("*.md"),
)


def read_code_blocks(page: Path) -> list[str]:
    """The blocks that are marked as `python`."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def models_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The names that docs/models.md defines, after its blocks ran one after the other in an empty folder."""
    import torch

    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "documentation"}
    for block in read_code_blocks(ROOT / "docs" / "models.md"):
        exec(compile("from __future__ import annotations\n" + block, "docs/models.md", "exec"), namespace)
    return namespace


def test_models_page__runs(models_namespace: dict[str, object]) -> None:
    examples = [name for name, *_ in models_namespace["examples"]]
    assert [next(task for task in TASKS if name in find_architectures(task)) for name in examples] == [
        "detection",
        "instance",
        "semantic",
        "depth",
        "flow",
        "superres",
        "translation",
    ]
    assert models_namespace["boxes"].shape[1] == 4
    assert models_namespace["loaded"].card.classes == ("cup", "spoon", "table")
    assert models_namespace["result"].size == (48, 80)
    fit = re.search(r"def fit.*?return [^\n]*", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)
    assert fit is not None and len(fit[0].splitlines()) <= 10


@pytest.fixture
def pixel_classifier(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the architecture of docs/models.md as the page says."""
    (source,) = (block for block in read_code_blocks(ROOT / "docs" / "models.md") if "class PixelClassifier" in block)
    module = ModuleType("pixel_classifier")
    exec(compile("from __future__ import annotations\n" + source, "pixel_classifier.py", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "pixel_classifier", module)
    architecture = Architecture("pixel_classifier:PixelClassifier", "two convolutions")
    monkeypatch.setitem(MODELS, "pixel_classifier", architecture)
    yield


def test_models_page__its_architecture_satisfies_the_checks(pixel_classifier: None) -> None:
    assert len(densevision.create_model("pixel_classifier", num_classes=5, width=8).layers[0].weight) == 8
    assert check_model("pixel_classifier", settings={"data.size": 64}, skip=["round_trip", "ideal_outputs"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links__lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [
        target
        for target in targets
        if "://" not in target and target[:7] != "mailto:" and not (page.parent / target).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands__name_existing_configs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"--config[ =](?!configs/)([a-z]+/[a-z0-9_]+)", text))
    names |= set(re.findall(r"configs/([a-z]+/[A-Za-z0-9_]+)\.yaml", text))
    missing = [name for name in names if not (ROOT / "configs" / f"{name}.yaml").is_file()]
    assert not missing


def test_public_names__are_not_hidden_by_submodules() -> None:
    for module in pkgutil.iter_modules(densevision.__path__):
        if module.name != "__main__":
            import_module(f"densevision.{module.name}")
    for name in densevision.__all__:
        value = getattr(densevision, name)
        if name not in ("TASKS", "__version__"):
            assert callable(value) and value.__doc__, f"densevision.{name} is {value!r}"
