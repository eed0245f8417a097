"""The stop button of a real notebook kernel: what it ends, and what runs after it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

manager = pytest.importorskip("jupyter_client.manager")
pytest.importorskip("ipykernel")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals"),
]

SETUP = """
import time
from aimz_lab import Callback
from tests.kernels import regression_data
from tests.runs import refit, regression_model

class Begun(Callback):
    every_epoch = False

    def on_steps_end(self, run, steps):
        if steps.first == 1:
            print("begun", flush=True)

X, y = regression_data(n=103)
im = regression_model()
"""
FIT = "epochs=10**6, callbacks=[Begun()])"
LOOP = """
from types import SimpleNamespace
from aimz_lab import lab
with lab.monitor([0.0] * 10, epochs=10**6, model="by hand", callbacks=[Begun()]) as watch:
    found = SimpleNamespace(last_run=watch.run)
    for _ in watch:
        watch.step(1.0)
"""


class Kernel:
    """A kernel that runs cells, one queued behind the other, and can be stopped while it does."""

    def __init__(self):
        root = Path(__file__).resolve().parents[3]
        self.manager, self.client = manager.start_new_kernel(kernel_name="python3", cwd=str(root))

    def run(self, *cells, stop_after=None, stop_on_error=True):
        """Run cells; press the stop button once the first has printed ``stop_after``.

        A cell with the tag ``raises-exception`` is sent with ``stop_on_error=False``.

        Returns:
            What all of them printed, with names of errors, and the status of each.
        """
        asked = [self.client.execute(cell, stop_on_error=stop_on_error) for cell in cells]
        printed, give_up = "", time.monotonic() + 200
        idle = set()
        while not idle >= set(asked):  # requests of before may become idle meanwhile
            assert time.monotonic() < give_up, printed
            message = self.client.get_iopub_msg(timeout=200)
            content = message["content"]
            printed += content.get("text", "") + content.get("ename", "")
            printed += content.get("data", {}).get("text/plain", "")
            if stop_after and stop_after in printed:
                self.manager.interrupt_kernel()
                stop_after = None
            if content.get("execution_state") == "idle":
                idle.add(message["parent_header"].get("msg_id"))
        replies = {}
        while not replies.keys() >= set(asked):
            reply = self.client.get_shell_msg(timeout=200)
            replies[reply["parent_header"].get("msg_id")] = reply["content"]["status"]
        return printed, [replies[one] for one in asked]

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    printed, _ = kernel.run(SETUP)
    assert "Error" not in printed
    yield kernel
    kernel.close()


def stopped(kernel, cell, **options):
    """Stop a cell with another one queued behind it; return what was printed.

    The cell first leaves the kernel the time to receive the other one: one that arrives after the
    stopped cell has ended is no queued one, and runs.
    """
    cell = f"time.sleep(0.3)\n{cell}\nprint('the rest')"
    return kernel.run(cell, "print('the queued one')", stop_after="begun", **options)


@pytest.mark.parametrize(
    "cell",
    [
        f"found = refit(im, X, y, {FIT}",
        f"found = refit(im, X, y, blocking=False, {FIT}.wait().result()",
        f"found = None\nfor _ in range(3):\n    found = found or refit(im, X, y, {FIT}",
        LOOP,
        f"import asyncio\nfound = refit(im, X, y, {FIT}\nawait asyncio.sleep(0)",
    ],
    ids=["fit", "handle", "branch", "loop by hand", "async cell"],
)
def test_the_stop_button_keeps_the_model_and_leaves_the_rest_and_the_queued_cells_out(kernel, cell):
    kernel.run("found = None")
    printed, statuses = stopped(kernel, cell)
    assert statuses == ["error", "aborted"]
    assert "the rest" not in printed.replace("The rest of this cell", "")
    assert "the queued one" not in printed
    [line] = [line for line in printed.splitlines() if "interrupted after step" in line]
    assert "queued cells were left out" in line
    assert "Warning" not in printed
    report, [status] = kernel.run("run = found.last_run; print(run.status, run.step > 0)")
    assert (report.split(), status) == (["interrupted", "True"], "ok")


def test_queued_cells_run_on_behind_a_cell_that_may_raise(kernel):
    printed, statuses = stopped(kernel, f"refit(im, X, y, {FIT}", stop_on_error=False)
    assert statuses == ["error", "ok"]
    assert "the queued one" in printed
    [line] = [line for line in printed.splitlines() if "interrupted after step" in line]
    assert "The rest of this cell was left out, and the queued cells run on" in line


def test_a_loop_over_fits_ends_with_the_first(kernel):
    printed, statuses = stopped(kernel, f"for _ in range(3):\n    refit(im, X, y, {FIT}")
    assert statuses == ["error", "aborted"]
    assert printed.count("begun") == 1
    assert "KeyboardInterrupt" in printed


def test_the_cells_go_on_where_the_user_says_so(kernel):
    cell = f"refit(im, X, y, on_interrupt='continue', {FIT}"
    printed, statuses = stopped(kernel, cell)
    assert statuses == ["ok", "ok"]
    assert "the rest" in printed
    assert "the queued one" in printed
    assert "interrupted after step" in printed
