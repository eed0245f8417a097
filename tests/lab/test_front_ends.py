"""Front ends that show outputs as they come and replace none: a program's log, a console."""

from __future__ import annotations

import queue

import pytest

pytest.importorskip("ipykernel", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

from jupyter_client.manager import start_new_kernel

from tests.lab.cells import GATED

pytestmark = pytest.mark.slow

SETUP = f"""
import os
os.environ.pop("CI", None), os.environ.pop("PYTEST_CURRENT_TEST", None)
os.environ.pop("PYTEST_VERSION", None), os.environ.pop("GITHUB_ACTIONS", None)
{GATED}
chains = ImpactModel(line, jax.random.key(0), inference=MCMC(NUTS(line), num_warmup=20,
                                                             num_samples=20))
"""
FIT = "im.fit(X, X, batch_size=20, epochs=4);"
SAMPLE = "chains.fit_on_batch(X, X);"
BEHIND = (
    "opened = []; handle = im.fit(X, X, batch_size=20, epochs=4, callbacks=[Gate()], "
    "blocking=False)"
)
WAIT = "opened.append(1); handle.wait();"


@pytest.fixture(scope="module")
def kernel(repository, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(repository))
        manager, client = start_new_kernel(cwd=str(tmp_path_factory.mktemp("kernel")))
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture
def words_of(kernel):
    """Runs cells and returns their words: of streams, and of outputs that are no replacement."""

    def run(code, *, at_console):
        asked = kernel.execute(code, allow_stdin=at_console)
        words = []
        while True:
            try:
                message = kernel.get_iopub_msg(timeout=60)
            except queue.Empty:  # pragma: no cover
                raise AssertionError(words) from None
            content, kind = message["content"], message["msg_type"]
            if kind == "stream":
                words.append(content["text"])
            elif kind == "display_data" and (not at_console or "image/png" not in content["data"]):
                words.append(content["data"]["text/plain"] + "\n")
            elif kind == "error":
                raise AssertionError(content["traceback"])
            own = message["parent_header"].get("msg_id") == asked
            if own and kind == "status" and content["execution_state"] == "idle":
                return "".join(words)

    run(SETUP, at_console=False)
    return run


@pytest.mark.parametrize("at_console", [False, True], ids=["log", "console"])
def test_the_end_is_told_where_no_output_is_replaced(words_of, at_console):
    assert "completed" in words_of(FIT, at_console=at_console)
    assert "completed" in words_of(SAMPLE, at_console=at_console)
    began = words_of(BEHIND, at_console=at_console)
    assert "completed" not in began
    assert ("in the background" in began) is at_console
    ended = words_of(WAIT, at_console=at_console)
    assert "line: completed · epoch 4 of 4 · step 8 of 8" in ended


def test_a_console_prints_the_words_of_pictures(words_of):
    words_of(FIT, at_console=True)
    assert "completed: all 8 steps done" in words_of("lab.show(im)", at_console=True)
    assert "slope" in words_of("lab.explore_model(im, X, X)", at_console=True)
