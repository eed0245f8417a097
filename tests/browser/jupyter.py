"""A real JupyterLab in a real headless Chromium, in a few words, for the tests and the pictures."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import nbformat

SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/notebook-extension/tracker": {"autoStartDefaultKernel": True},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
# The kernel is a reader's, not a test's: it must not know that it runs in one.
_HIDDEN = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")
_FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
)


@dataclass
class Server:
    """A running JupyterLab.

    Attributes:
        url: Its address, on the loopback.
        token: What it asks for.
        root: Where its notebooks are.
        outside: Requests of pages to anything else.
    """

    url: str
    token: str
    root: Path
    settings: Path
    outside: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str) -> Any:
        """Call the server's interface."""
        request = urllib.request.Request(f"{self.url}/api/{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or "null")

    def use_theme(self, theme: str) -> None:
        """Show pages that are opened from now on in this theme: ``light`` or ``dark``."""
        name = "@jupyterlab/apputils-extension/themes"
        _write_setting(self.settings, name, {"theme": THEMES[theme]})


def _write_setting(folder: Path, name: str, value: dict) -> None:
    file = folder / f"{name}.jupyterlab-settings"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


@contextmanager
def jupyterlab(home: Path, root: Path) -> Iterator[Server]:
    """Run a JupyterLab with folders of its own, and shut it and its kernels down afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
    env |= {"JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(home / "ipython")}
    env |= {name: str(home / name.lower()) for name in _FOLDERS}
    repository = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (repository, env.get("PYTHONPATH"))))
    server = Server(
        f"http://127.0.0.1:{port}", secrets.token_hex(16), root, home / "jupyterlab_settings_dir"
    )
    for name, value in SETTINGS.items():
        _write_setting(server.settings, name, value)
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={server.token}",
        f"--ServerApp.root_dir={root}",
    ]
    log = home / "lab.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=env, stdout=out, stderr=out
        )
        try:
            _wait_for(server, process, log)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(server: Server, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{server.url}/api/status?token={server.token}", timeout=2)
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.1)


@contextmanager
def chromium_browser(executable: str, scale: int = 1):
    """Run a headless Chromium; its pages share a context, which keeps JupyterLab's scripts.

    Args:
        executable: Path of the Chromium.
        scale: Pixels of a picture per pixel of a page.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        try:
            yield browser.new_context(device_scale_factor=scale)
        finally:
            browser.close()


class Notebook:
    """A notebook that is open in a page.

    Args:
        server: Where it is served.
        browser: The context to open it in, of :func:`chromium_browser`.
        name: Its name, without the extension.
        cells: Source of each cell; ``None`` opens a notebook that exists.
        width: Width of the window in pixels; with the side bar closed, about 110 more than a cell.
        height: Its height; tall, so that no cell is virtualised away.
    """

    def __init__(self, server, browser, name, cells=None, *, width=1280, height=2000):
        self.server = server
        self.path = server.root / f"{name}.ipynb"
        if cells is not None:
            made = [nbformat.v4.new_code_cell(source) for source in cells]
            nbformat.write(nbformat.v4.new_notebook(cells=made), self.path)
        self.page = browser.new_page()
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.set_default_timeout(90_000)  # the kernel trains on the cores that draw the page
        self.page.on("request", self._note_request)
        self.page.add_locator_handler(
            self.page.locator(".jp-Dialog", has_text="Select Kernel"),
            lambda: self.page.locator(".jp-Dialog .jp-mod-accept").click(),
        )

    def _note_request(self, request) -> None:
        if not request.url.startswith((self.server.url, "data:", "blob:")):
            self.server.outside.append(request.url)

    def __enter__(self) -> Notebook:
        url = f"{self.server.url}/lab/tree/{self.path.name}?token={self.server.token}&reset"
        self.page.goto(url)
        self.page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
        return self

    def __exit__(self, *_) -> None:
        """Close the page and shut the notebook's kernel down."""
        self.page.close()
        for session in self.server.ask("GET", "sessions"):
            if session["path"] == self.path.name:
                with suppress(HTTPError):  # a kernel that is being restarted cannot be ended
                    self.server.ask("DELETE", f"sessions/{session['id']}")

    def run_all(self) -> None:
        """Run every cell; returns at once."""
        self.menu("Run", "runmenu:run-all")

    def append(self, source: str) -> None:
        """Put a cell at the end, run it, and wait until it has run."""
        last = self.page.locator(".jp-CodeCell").count()
        self.cell(last - 1).locator(".jp-InputPrompt").click()
        self.page.keyboard.press("b")
        self.cell(last).locator(".cm-content").click()
        self.page.keyboard.insert_text(source)
        self.page.keyboard.press("Control+Enter")
        self.wait_until_done(last)

    def menu(self, title: str, command: str) -> None:
        """Choose an entry of a menu."""
        self.page.get_by_role("menuitem", name=title, exact=True).click()
        self.page.locator(f'.lm-Menu-item[data-command="{command}"]').first.click()

    def cell(self, i: int):
        """The i-th code cell."""
        return self.page.locator(".jp-CodeCell").nth(i)

    def running(self, i: int):
        """The prompt that a cell has while it runs."""
        return self.cell(i).locator(".jp-InputPrompt", has_text="[*]:")

    def wait_until_done(self, i: int, timeout_s: float = 90) -> None:
        """Wait until a cell has run."""
        done = self.cell(i).locator(".jp-InputPrompt")
        deadline = time.monotonic() + timeout_s
        while not any(c.isdigit() for c in done.inner_text()):
            assert time.monotonic() < deadline, f"cell {i} still ran after {timeout_s} s"
            self.page.wait_for_timeout(50)

    def output(self, i: int, word: str) -> str:
        """Text with this word that a cell printed."""
        return self.cell(i).locator(".jp-OutputArea-output pre", has_text=word).inner_text()

    def dashboard(self, i: int = 0):
        """The i-th live dashboard of the page."""
        return self.page.locator("section.aimz").nth(i)

    def interrupt(self) -> None:
        """Interrupt the kernel, as its button does."""
        self.menu("Kernel", "kernelmenu:interrupt")

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook, and return what was written."""
        before = self.path.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        deadline = time.monotonic() + 20
        while True:
            # The server empties the file before it writes, so it may be seen in between.
            if self.path.stat().st_mtime_ns != before:
                with suppress(nbformat.reader.NotJSONError):
                    return nbformat.read(self.path, as_version=4)
            assert time.monotonic() < deadline, "the notebook was not saved"
            self.page.wait_for_timeout(100)


def canvas_pixels(dashboard) -> str:
    """What the curve's canvas shows, as a string that changes when the picture does."""
    return dashboard.locator("canvas").evaluate("canvas => canvas.toDataURL()")
