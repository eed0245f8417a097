"""The stop button of a real notebook kernel."""

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
FIT = "refit(im, X, y, epochs=10**6, callbacks=[Begun()])"
REPORT = "print(im.last_run.status, im.is_fitted(), im.last_run.step == len(im.vi_result.losses))"


class Kernel:
    """A kernel that runs cells and can be stopped while it does."""

    def __init__(self):
        root = Path(__file__).resolve().parents[3]
        self.manager, self.client = manager.start_new_kernel(kernel_name="python3", cwd=str(root))

    def run(self, code, stop_after=None):
        """Run a cell; press the stop button once it has printed ``stop_after``."""
        asked, printed, give_up = self.client.execute(code), "", time.monotonic() + 200
        while time.monotonic() < give_up:
            message = self.client.get_iopub_msg(timeout=200)
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            printed += content.get("text", "") + content.get("ename", "")
            if stop_after and stop_after in printed:
                self.manager.interrupt_kernel()
                stop_after = None
            if content.get("execution_state") == "idle":
                return printed
        raise TimeoutError(printed)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.mark.filterwarnings("default")
def test_the_stop_button_ends_the_fit_and_the_cell_goes_on(kernel):
    assert "Error" not in kernel.run(SETUP)
    printed = kernel.run(f"{FIT}\nprint('the cell goes on')", stop_after="begun")
    assert "the cell goes on" in printed
    assert "interrupted after step" in printed
    assert kernel.run(REPORT).split() == ["interrupted", "True", "True"]
