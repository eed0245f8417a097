"""One JupyterLab for all browser tests, a Chromium a module; each test opens its own notebooks."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("jupyterlab", reason="needs the lab extra: pip install 'aimz_lab[lab]'")
pytest.importorskip("playwright", reason="needs the test extra: pip install 'aimz_lab[test]'")

from tests.browser.jupyter import Notebook, chromium_browser, jupyterlab


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("jupyter")
    root = home / "notebooks"
    root.mkdir()
    with jupyterlab(home, root) as running:
        yield running
    assert running.outside == [], "pages asked for something that is not on this machine"


@pytest.fixture(scope="module")  # an event loop runs in this thread while Playwright is open
def browser(chromium):
    with chromium_browser(chromium) as running:
        yield running


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """Where pictures of pages are kept: ``AIMZ_LAB_SCREENSHOTS``, or a temporary folder."""
    folder = os.environ.get("AIMZ_LAB_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@contextmanager
def _notebooks(server, browser, screenshots, title):
    """Open notebooks by a function; at the end keep a picture of each page, and close it."""
    opened = []

    def open_notebook(cells, name=None, **options):
        opened.append(Notebook(server, browser, name or title, cells, **options).__enter__())
        return opened[-1]

    try:
        yield open_notebook
    finally:
        for i, notebook in enumerate(opened):
            if not notebook.page.is_closed():
                notebook.page.screenshot(path=screenshots / f"{title}-{i}.png")
            notebook.__exit__()


@pytest.fixture
def notebook(server, browser, request, screenshots):
    """Opens a notebook with the given cells, or one that exists with ``None``."""
    with _notebooks(server, browser, screenshots, request.node.name) as open_notebook:
        yield open_notebook


@pytest.fixture(scope="module", params=["light", "dark"])
def ended(server, browser, request, screenshots):
    """A narrow notebook that shows a run that has ended, in either theme; several tests look at it.

    Its cells are the module's ``ENDED``.
    """
    server.use_theme(request.param)
    with _notebooks(server, browser, screenshots, f"ended-{request.param}") as open_notebook:
        notebook = open_notebook(request.module.ENDED, width=720)
        notebook.page.keyboard.press("Control+b")  # the side bar
        notebook.run_all()
        notebook.wait_until_done(1)
        notebook.dashboard().wait_for()
        yield request.param, notebook
    server.use_theme("light")
