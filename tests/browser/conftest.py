"""JupyterLab in a real browser: a server on a copy of the notebooks, and a page that opens and runs one.

The trap: "Run All" before the kernel session is ready does nothing, silently; hence ``READY``. In CI (``CI`` set) a
missing browser fails; elsewhere it skips with a reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
SHOTS = PROJECT / "build" / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
READY = """async () => {
  const app = window.jupyterapp; await app.restored;
  const end = Date.now() + 40000; let w;
  while (Date.now() < end) {
    w = app.shell.currentWidget;
    if (w && w.sessionContext && w.content && w.content.model) break;
    await new Promise(r => setTimeout(r, 50));
  }
  await w.revealed; await w.context.ready; await w.sessionContext.ready; await w.sessionContext.session.kernel.info;
}"""
DONE = """() => {
  const p = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent.trim());
  return p.length && p.every(x => /^\\[\\d+\\]/.test(x));
}"""
SHUTDOWN = """async () => {
  if (!window.jupyterapp) return;
  const w = window.jupyterapp.shell.currentWidget;
  w.context.model.dirty = false; await w.sessionContext.shutdown();
}"""
VALUE = """async (expression) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({code: '', user_expressions: {value: expression}});
  const result = (await future.done).content.user_expressions.value;
  return result.status === 'ok' ? result.data['text/plain'] : 'error: ' + result.evalue;
}"""

# Key by key: from the press to the first frame with another picture (decoded, or drawn); measured inside the page.
LATENCY = """async ([cell, keys]) => {
  const times = [];
  const handle = cell.querySelector('.noUi-handle');
  const shown = () => {
    const canvas = cell.querySelector('canvas.posekit-heatmaps');
    if (canvas) return canvas.dataset.reading;
    const image = cell.querySelector('img.widget-image');
    return image && image.complete && image.naturalWidth > 0 ? image.src : null;
  };
  handle.focus();
  for (const key of keys) {
    const old = shown(), start = performance.now();
    handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    while (performance.now() < start + 5000) {
      await new Promise(r => requestAnimationFrame(r));
      const now = shown();
      if (now && now !== old) break;
    }
    times.push(performance.now() - start);
    await new Promise(r => setTimeout(r, 150));
  }
  return times;
}"""


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; CI must run the browser lane")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium; ``POSEKIT_CHROMIUM`` names one that is not on the path."""
    found = os.environ.get("POSEKIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        _missing("no Chromium found; install it or set POSEKIT_CHROMIUM")
    return str(found)


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """Address of a JupyterLab that serves a copy of the course's and the tests' notebooks from a folder."""
    root = folder / "root" / "notebooks"
    shutil.copytree(PROJECT / "figures", folder / "root" / "figures")
    root.mkdir()
    for source in (PROJECT / "notebooks", Path(__file__).parent / "notebooks"):
        for notebook in source.glob("*.ipynb"):
            shutil.copy(notebook, root)
    settings = folder / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    news = '{"fetchNews": "false", "checkForUpdates": false}'
    (settings / "notification.jupyterlab-settings").write_text(news)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k != "POSEKIT_HEADLESS"} | {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=t", f"--ServerApp.root_dir={root.parent}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    with open(folder / "lab.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        assert process.poll() is None, (folder / "lab.log").read_text()
        try:
            urllib.request.urlopen(f"{url}/api/status?token=t", timeout=2)
            break
        except OSError:
            time.sleep(0.2)
    yield url
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[str]:
    with jupyterlab(tmp_path_factory.mktemp("lab")) as url:
        yield url


class Notebook:
    """A notebook open in JupyterLab, all of its cells run."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._keep_error)

    def _keep_error(self, message: Any) -> None:
        # Before the first `make figures` the pictures that notebooks embed are not there.
        absent = "/figures/" in message.location["url"] and not (PROJECT / "figures" / "manifest.json").is_file()
        if message.type == "error" and not absent:
            self.errors.append(f"{message.text} {message.location['url']}")

    def open(self, url: str, name: str) -> None:
        self.page.goto(f"{url}/lab/tree/notebooks/{name}?token=t&reset")
        self.page.wait_for_function("() => window.jupyterapp")
        self.page.evaluate(READY)
        # Without this, cells out of view are not in the page and neither are their widgets.
        self.page.evaluate(
            "() => { window.jupyterapp.shell.currentWidget.content.notebookConfig = "
            "{...window.jupyterapp.shell.currentWidget.content.notebookConfig, windowingMode: 'none'} }"
        )
        self.errors.clear()  # what JupyterLab itself said while it started
        self.page.click("text=Run >> nth=0")
        self.page.click('.lm-Menu-item:has-text("Run All Cells"):not(:has-text("Restart"))')
        self.page.wait_for_function(DONE, timeout=240_000)
        shown = self.page.locator("[data-mime-type='application/vnd.jupyter.error']").all_inner_texts()
        assert not shown, shown[0]
        assert self.page.locator(".jupyter-widgets-error-widget").count() == 0, "a widget failed in the page"

    def value(self, expression: str) -> str:
        """The repr of a Python expression in the notebook's kernel."""
        return self.page.evaluate(VALUE, expression)

    def cell(self, text: str) -> Any:
        """The code cell whose source holds a text."""
        return self.page.locator(".jp-CodeCell").filter(has=self.page.locator(f".jp-InputArea:has-text('{text}')"))

    def latency(self, cell: Any, keys: list[str]) -> list[float]:
        """Milliseconds from each key on the cell's first slider to the changed picture."""
        return self.page.evaluate(LATENCY, [cell.element_handle(), keys])

    def shot(self, name: str, part: Any = None) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        (part or self.page).screenshot(path=str(SHOTS / f"{name}.png"))


@contextmanager
def opened_page(chromium: str) -> Iterator[Notebook]:
    """A browser with one page; the kernel of the notebook that was opened in it is shut down afterwards."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 1400})
        page.set_default_timeout(60_000)
        try:
            yield Notebook(page)
            page.evaluate(SHUTDOWN)
        finally:
            browser.close()


@pytest.fixture
def notebook(lab: str, chromium: str) -> Iterator[Callable[[str], Notebook]]:
    """Opens a notebook and runs it: ``notebook("widgets.ipynb")``."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        _missing("playwright is not installed")
    with opened_page(chromium) as opened:

        def open_notebook(name: str) -> Notebook:
            opened.open(lab, name)
            return opened

        yield open_notebook
