"""One JupyterLab for all browser tests, a Chromium a module; each test opens its own notebooks."""

from __future__ import annotations

import os
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


@pytest.fixture
def screenshots(tmp_path):
    """Where pictures of the page are kept: ``AIMZ_LAB_SCREENSHOTS``, or the test's own folder."""
    folder = Path(os.environ.get("AIMZ_LAB_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def notebook(server, browser, request, screenshots):
    """Opens a notebook with the given cells, or one that exists with ``None``.

    What the page shows at the end of the test is kept as a picture.
    """
    opened = []

    def open_notebook(cells, name=None, **options):
        name = name or request.node.name.replace("[", "-").replace("]", "")
        opened.append(Notebook(server, browser, name, cells, **options).__enter__())
        return opened[-1]

    yield open_notebook
    for i, notebook in enumerate(opened):
        if not notebook.page.is_closed():
            name = f"{request.node.name}-{i}.png".replace("/", "_")
            notebook.page.screenshot(path=screenshots / name)
        notebook.__exit__()
