"""`densevision models`: complete names at every width, plain lines for other programs, and the options of a model."""

from __future__ import annotations

import json
import re

import pytest

from densevision.cli.main import run
from densevision.io.weights import PublishedWeights
from densevision.models import list_models
from densevision.published_weights import list_weights
from densevision.tasks import TASKS


def run_models(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    run(["models", *arguments])
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


@pytest.fixture(params=[80, 200])
def terminal_width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The width of a terminal, which the output takes itself to be printed on."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


def list_downloads() -> dict[str, PublishedWeights]:
    return {name: weights for name, weights in list_weights().items() if weights.address}


def test_table__names_sizes_metrics_and_licenses_at_every_width(
    terminal_width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run_models(capsys)
    assert set(list_models()) <= set(text.replace(",", " ").split())  # the sizes of an architecture share a row
    assert "…" not in text and max(map(len, text.splitlines())) <= terminal_width
    rows = {line.split()[0]: line.split() for line in text.splitlines() if "/" in line}
    for name, weights in list_downloads().items():
        parameters, megabytes, value, *license_name = rows[name][1:]
        assert float(parameters) == pytest.approx(weights.parameters, abs=0.5)
        assert float(megabytes) == pytest.approx(weights.megabytes, abs=0.51)
        assert value.endswith("*") == bool(weights.measured)
        assert value == "-" if weights.metric is None else float(value.rstrip("*")) == round(weights.metric[1], 3)
        assert " ".join(license_name).startswith(weights.short_license)


def test_table__compares_only_values_of_the_same_metric(
    terminal_width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    metric = None
    for line in run_models(capsys, "--task", "flow").splitlines():
        if line.startswith("flow: "):
            metric = line.removeprefix("flow: ")
        if (weights := list_weights().get(line.split()[0] if line.split() else "")) is not None:
            assert metric == (weights.metric[0] if weights.metric else "no metric is published")


def test_name_of_weights__shows_everything(capsys: pytest.CaptureFixture[str]) -> None:
    for name, weights in list_weights().items():
        text = " ".join(run_models(capsys, name).split())
        for part in (weights.license, weights.trained_on, weights.address, weights.sha256, weights.measured):
            assert part in text
        assert ("cannot be verified" in text) == (not weights.sha256)


def test_plain__one_line_per_row_without_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run_models(capsys).splitlines()
    rows = {line.split()[0]: line for line in lines if line.strip()}
    for name, weights in list_downloads().items():
        assert weights.license in rows[name] and rows[name].split()[1] == weights.task
    assert not re.search(r"[\u2500-\u257f]", "".join(lines))


def test_json__holds_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    tables = json.loads(run_models(capsys, "--json"))
    assert sorted(row["name"] for row in tables["architectures"]) == list_models()
    assert {row["name"] for row in tables["published"]} == set(list_downloads())
    assert all(row["parameters"] > 0 and row["mb"] > 0 and row["trained_on"] for row in tables["published"])
    assert [row["task"] for row in tables["bundled"]] == [task for task in TASKS if list_models(task)]
    assert all(row["license"] for table in ("bundled", "published") for row in tables[table])


def test_pattern__selects_names(capsys: pytest.CaptureFixture[str]) -> None:
    tables = json.loads(run_models(capsys, "yolox*", "--json"))
    names = [row["name"] for table in ("architectures", "published") for row in tables[table]]
    assert "yolox_nano" in names and "yolox/nano" in names and all(name.startswith("yolox") for name in names)


def test_pattern__is_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    tables = json.loads(run_models(capsys, "depth", "--json"))
    assert {row["task"] for table in tables.values() for row in table} == {"depth"} and tables["published"]


def test_pattern__without_match(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        run(["models", "no-such-name*"])
    assert error.value.code == 2 and "no-such-name*" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "option"),
    [("yolo_n", "width: int = 64"), ("mask_rcnn", "fpn_channels: int = 256"), ("edsr_large", "depth: int = 32")],
)
def test_architecture__prints_arguments_with_defaults(
    name: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.strip() for line in run_models(capsys, name).splitlines()]
    assert option in lines


@pytest.mark.parametrize("name", list_models())
def test_architecture__explains_every_argument(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    description, arguments = run_models(capsys, name).split("\n\nArguments of create_model (--set model.NAME=VALUE):\n")
    assert description.startswith(f"{name}: ")
    lines = arguments.splitlines()
    names = [number for number, line in enumerate(lines) if re.match(r"  \w", line)]
    unexplained = [lines[number] for number in names if not "".join(lines[number + 1 : number + 2]).startswith(" " * 6)]
    assert names and not unexplained
