"""The page in headless Chromium: every task from upload to download, no request beyond this machine, and axe-core.

Every test also fails if a script of the page has an error.

It needs Chromium (Debian: `apt-get install chromium`), the package playwright, which drives it, and for the check of
accessibility the file axe.min.js of the npm package axe-core, named by AXE_CORE.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import densevision
from densevision.app.examples import write_examples
from densevision.datasets.scenes import SceneVideo
from densevision.io.image import load_image, to_display
from densevision.io.video import VideoReader, VideoWriter

pytest.importorskip("gradio", reason="needs the extra app")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.timeout(1800),
]

ARGUMENTS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
PATIENCE = 120_000
"""Milliseconds for one step; a busy machine predicts slowly."""
LEGENDS = {
    "detection": "best score",
    "semantic": "Classes by area",
    "instance": "best score",
    "depth": "warm is near",
    "flow": "rim of the wheel",
    "superres": "times the input",
    "translation": "pixels, 3 channels",
}
"""What the legend of a task says."""


TOKEN = "a-token-of-some-length"


@contextmanager
def start_app(*options: str) -> Iterator[str]:
    """Starts a page in a process of its own, as `densevision app` does, and yields its address."""
    command = [sys.executable, "-m", "densevision", "app", "--port", "0", "--device", "cpu", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()
        assert process.wait(300) in (0, -15, 143)


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with start_app("--precision", "float32", "--run", str(run), "--data", "scenes:30:2") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Any, address: str, width: int = 1400, color_scheme: str = "light") -> Iterator[Any]:
    """A page; at the end, every request that it made went to this machine, and its scripts had no error."""
    context = browser.new_context(
        viewport={"width": width, "height": 1000}, color_scheme=color_scheme, accept_downloads=True
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    requests: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    yield page
    context.close()
    assert len(requests) > 5 and errors == []
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with open_page(browser, address) as page:
        page.wait_for_selector("#predict-run")
        yield page


def choose(page: Any, field: str, value: str) -> None:
    page.locator(f"{field} input").first.click()
    page.get_by_role("option", name=value, exact=True).first.click()


def predict(page: Any, task: str, files: list[Path]) -> None:
    if task != "detection":  # which is selected at first
        choose(page, "#predict-task", task)
        wait_until_idle(page)
    page.locator("#predict-files input[type=file]").first.set_input_files([str(file) for file in files])
    page.wait_for_function(
        "names => names.every(name => document.querySelector('#predict-files').innerText.replace(/\\s/g, '')"
        ".includes(name))",
        arg=[file.stem for file in files],
    )
    wait_until_idle(page)
    page.click("#predict-run")
    page.wait_for_function(
        "text => document.querySelector('#predict-legend').innerText.includes(text)", arg=LEGENDS[task]
    )
    wait_until_idle(page)


def wait_until_idle(page: Any) -> None:
    """Waits for open calls of handlers; the connection that tells the server that the page is open stays."""
    page.wait_for_timeout(500)
    page.wait_for_function("document.querySelectorAll('.generating, .progress-text, .eta-bar').length == 0")


def download(page: Any, name: str, folder: Path) -> Path:
    choose(page, "#predict-format", name)
    with page.expect_download() as waiting:
        page.click("#predict-download")
    file = folder / waiting.value.suggested_filename
    waiting.value.save_as(file)
    return file


def check_accessibility(page: Any) -> None:
    """Checks that axe-core, if it is there, finds no serious or critical fault."""
    if not AXE.exists():
        return
    page.evaluate(AXE.read_text())
    violations = page.evaluate("axe.run()")["violations"]
    faults = [
        f"{fault['id']}: {[node['target'] for node in fault['nodes']]}"
        for fault in violations
        if fault["impact"] in ("serious", "critical")
    ]
    assert faults == []


@pytest.mark.parametrize("task", LEGENDS)
def test_predict__from_upload_to_download(page: Any, task: str, tmp_path: Path) -> None:
    files = write_examples(task, 3, tmp_path)[: 2 if task == "flow" else 1]
    predict(page, task, files)
    options = {"device": "cpu", "precision": "float32"}
    source = tuple(files) if task == "flow" else files[0]
    if task in ("detection", "instance"):
        field = page.locator("#predict-threshold input[type=number]")
        field.fill("0.6")
        field.press("Enter")
        options["score_threshold"] = 0.6
        count = len(densevision.predict(source, task=task, **options))
        noun = "1 object" if count == 1 else f"{count} objects" if count else "No object"
        page.wait_for_function("text => document.querySelector('#predict-legend').innerText.includes(text)", arg=noun)
    expected = densevision.predict(source, task=task, **options)
    file = download(page, "json", tmp_path)
    assert file.name == f"{files[0].stem}.json"
    assert json.loads(file.read_text()) == json.loads(json.dumps(expected.to_dict()))
    check_accessibility(page)


def test_predict__surface_is_drawn(page: Any, tmp_path: Path) -> None:
    predict(page, "depth", write_examples("depth", 3, tmp_path)[:1])
    page.locator("#predict-views").get_by_label("3-D").click()
    canvas = page.locator("canvas")
    canvas.wait_for()
    for _ in range(60):
        pixels = load_image(canvas.screenshot())[..., :3]
        if pixels.reshape(-1, 3).std(0).max() > 20:
            return
        page.wait_for_timeout(2000)
    pytest.fail("the surface is not drawn")


def test_predict__video(page: Any, tmp_path: Path) -> None:
    frames = [sample.images["image"] for sample in SceneVideo(4, seed=6, size=(96, 128))]
    with VideoWriter(tmp_path / "scenes.mp4", 10.0) as video:
        for frame in frames:
            video.write(to_display(frame))
    page.locator("#predict-files input[type=file]").first.set_input_files([str(tmp_path / "scenes.mp4")])
    page.wait_for_function("document.querySelector('#predict-files').innerText.includes('scenes')")
    wait_until_idle(page)
    page.click("#predict-run")
    page.wait_for_function("document.querySelector('#predict-legend').innerText.includes('4 frames')")
    for suffix in (".webm", ".mp4"):
        with page.expect_download() as waiting:
            page.locator(f"#predict-video-files a[download$='{suffix}']").click()
        file = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(file)
        assert file.suffix == suffix
        assert sum(1 for _ in VideoReader(file)) == len(frames)
    check_accessibility(page)


def walk_through_tabs(page: Any) -> Iterator[str]:
    """Uses every other tab than the first, and yields its name when its result is there."""
    page.get_by_role("tab", name="Compare").click()
    choose(page, "#compare-task", "superres")
    wait_until_idle(page)
    page.click("#compare-examples")
    page.wait_for_function("document.querySelector('#compare-files').innerText.includes('scene')")
    wait_until_idle(page)
    page.click("#compare-run")
    page.wait_for_function("document.querySelector('#compare-table').innerText.includes('mean difference')")
    wait_until_idle(page)
    yield "Compare"
    page.get_by_role("tab", name="Run").click()
    page.click("#run-open")
    page.wait_for_function("document.querySelector('#run-summary').innerText.includes('edsr_baseline')")
    page.click("#run-rank")
    page.wait_for_selector("#run-worst img")
    wait_until_idle(page)
    yield "Run"
    page.get_by_role("tab", name="Dataset").click()
    page.click("#dataset-browse")
    page.locator("#dataset-gallery button img").nth(1).click()
    page.locator("#dataset-legend").get_by_text("object").first.wait_for()
    page.click("#dataset-check")
    page.wait_for_function("document.querySelector('#dataset-findings').innerText.includes('Checked')")
    wait_until_idle(page)
    yield "Dataset"


@pytest.mark.parametrize(("width", "color_scheme"), [(1400, "light"), (390, "dark")])
def test_tabs__fit_and_are_accessible(browser: Any, address: str, width: int, color_scheme: str) -> None:
    with open_page(browser, address, width, color_scheme) as page:
        page.wait_for_selector("#predict-run")
        wait_until_idle(page)
        check_accessibility(page)
        for name in walk_through_tabs(page):
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, name
            check_accessibility(page)


def test_sign_in(browser: Any) -> None:
    with start_app("--token", TOKEN) as address, open_page(browser, address) as page:
        assert page.locator("#predict-run").count() == 0
        check_accessibility(page)
        page.get_by_label("Token").fill("not the token at all")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").get_by_text("not the token").wait_for()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("#predict-run")
