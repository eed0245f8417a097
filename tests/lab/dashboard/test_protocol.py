"""Clicks while a cell runs, message by message: this test is the page, and the kernel is real.

It runs with the ipykernel that is installed. To try others, install each into a folder
(``pip install --no-deps --target FOLDER ipykernel==6.31``) and name the folders in
``AIMZ_LAB_IPYKERNELS``, separated as in a PATH.
"""

from __future__ import annotations

import json
import os
import queue
import time
from pathlib import Path

import pytest

pytest.importorskip("ipykernel", reason="needs the lab extra: pip install 'aimz_lab[lab]'")
pytest.importorskip("anywidget", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

from jupyter_client.manager import KernelManager

OTHERS = [*filter(None, os.environ.get("AIMZ_LAB_IPYKERNELS", "").split(os.pathsep))]
HIDDEN = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")
LOOP = """
import time, json, ipykernel
from aimz_lab import lab
with lab.monitor([1.0] * 20, epochs=100_000, model="loop", on_interrupt="continue") as watch:
    for batch in watch:
        watch.step(batch)
        time.sleep(0.01)
        if watch.run.elapsed_s > 300:
            break
print("RESULT " + json.dumps({"status": watch.run.status, "reason": watch.run.reason,
                            "version": ipykernel.__version__}))
"""
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class Page:
    """A page, as a kernel sees it: it runs cells, learns of widgets, and sends messages to them."""

    def __init__(self, folder: str | None):
        self.folder = folder
        env = {name: value for name, value in os.environ.items() if name not in HIDDEN}
        repository = str(Path(__file__).resolve().parents[3])
        paths = (folder, repository, env.get("PYTHONPATH"))
        env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        env["JAX_PLATFORMS"] = "cpu"
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=env)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.seen = []
        self.subshell = self.create_subshell()

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def create_subshell(self):
        """A subshell for messages of widgets, as JupyterLab makes one; ``None`` in old kernels."""
        info = self.client.kernel_info(reply=True, timeout=30)["content"]
        if "kernel subshells" not in info.get("supported_features", []):
            return None
        message = self.client.session.msg("create_subshell_request", {})
        self.client.control_channel.send(message)
        return self.client.get_control_msg(timeout=30)["content"]["subshell_id"]

    def send(self, kind, content, **metadata):
        message = self.client.session.msg(kind, content, metadata=metadata)
        if kind == "comm_msg" and self.subshell:
            message["header"]["subshell_id"] = self.subshell
        self.client.shell_channel.send(message)
        return message["header"]["msg_id"]

    def run(self, code):
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        return self.send("execute_request", content | {"allow_stdin": False}, cellId="a")

    def wait_for(self, wanted, timeout_s=60):
        """The first message from now on that ``wanted`` is true for."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                continue
            self.seen.append(message)
            assert message["msg_type"] != "error", "\n".join(message["content"]["traceback"])
            if wanted(message):
                return message
        raise AssertionError(f"nothing came in {timeout_s} s")

    def widget(self):
        """Wait for the dashboard's widget, and for its first update."""
        opened = self.wait_for(
            lambda m: (
                m["msg_type"] == "comm_open"
                and m["content"]["data"]["state"].get("_model_name") == "AnyModel"
            )
        )
        comm_id = opened["content"]["comm_id"]
        self.wait_for(lambda m: self.is_update(m, comm_id))
        return comm_id

    @staticmethod
    def is_update(message, comm_id):
        content = message["content"]
        own = message["msg_type"] == "comm_msg" and content["comm_id"] == comm_id
        return own and "progress" in content["data"].get("state", {})

    def say(self, comm_id, **message):
        data = {"method": "custom", "content": message}
        self.send("comm_msg", {"comm_id": comm_id, "data": data})

    def answered(self, comm_id, kind, timeout_s):
        def wanted(message):
            data = message["content"].get("data", {})
            own = message["msg_type"] == "comm_msg" and message["content"]["comm_id"] == comm_id
            return own and data.get("content", {}).get("kind") == kind

        try:
            self.wait_for(wanted, timeout_s)
        except AssertionError:
            return False
        return True

    def result(self):
        printed = self.wait_for(
            lambda m: m["msg_type"] == "stream" and "RESULT" in m["content"]["text"]
        )
        return json.loads(printed["content"]["text"].split("RESULT", 1)[1])


@pytest.fixture(params=[None, *OTHERS], ids=lambda folder: Path(folder).name if folder else "here")
def page(request):
    page = Page(request.param)
    yield page
    page.close()


@pytest.mark.slow
def test_a_click_stops_the_loop_or_the_interrupt_does(page):
    page.run(LOOP)
    comm_id = page.widget()
    page.say(comm_id, kind="hello")
    reached = page.answered(comm_id, "welcome", timeout_s=60 if page.subshell else 5)
    assert reached == (page.subshell is not None)
    if reached:
        page.say(comm_id, kind="stop")
    else:
        page.manager.interrupt_kernel()
    result = page.result()
    if page.folder:
        [info] = Path(page.folder).glob("ipykernel-*.dist-info")
        assert info.name == f"ipykernel-{result['version']}.dist-info"
    expected = ("stopped", "Stop was clicked") if reached else ("interrupted", result["reason"])
    assert (result["status"], result["reason"]) == expected
    self_replaced = [m for m in page.seen if m["msg_type"] == "update_display_data"]
    assert "image/png" in self_replaced[-1]["content"]["data"]


HANDLE = """
import threading, time
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.run.events import Run, RunInfo
run, go_on = Run(RunInfo("kernel", "SVI/AutoNormal", epochs=1)), threading.Event()
run.begin()
def work():
    go_on.wait(60)
    run.finish("completed", "all steps done")
handle = RunHandle(None, run, work)
handle
"""


def test_a_handle_that_a_cell_shows_is_brought_up_to_date_when_its_run_ends(page):
    page.run(HANDLE)
    shown = page.wait_for(lambda m: m["msg_type"] == "display_data")["content"]
    assert "was preparing at " in shown["data"]["text/plain"]
    assert "was preparing at " in shown["data"]["text/html"]
    page.run("go_on.set()")
    ended = page.wait_for(lambda m: m["msg_type"] == "update_display_data")["content"]
    assert ended["transient"] == shown["transient"]
    assert "completed" in ended["data"]["text/html"]
    assert "handle.result() is the model" in ended["data"]["text/html"]
    page.run("handle")
    again = page.wait_for(lambda m: m["msg_type"] == "display_data")["content"]
    assert "completed" in again["data"]["text/plain"]


def test_a_handle_shows_the_facts_once_in_the_cell_of_its_display(page):
    page.run(HANDLE.replace("run, work)", "run, work, is_shown=True)"))
    shown = page.wait_for(lambda m: m["msg_type"] == "display_data")["content"]
    # A page that is loaded anew keeps these words after the end too.
    assert "handle.result() is the model, once the run has ended" in shown["data"]["text/html"]
    assert "<table" not in shown["data"]["text/html"]
    page.run("handle")
    later = page.wait_for(lambda m: m["msg_type"] == "display_data")["content"]
    assert "<table" in later["data"]["text/html"]
    page.run("go_on.set()")
    ends = [page.wait_for(lambda m: m["msg_type"] == "update_display_data") for _ in range(2)]
    texts = {m["content"]["transient"]["display_id"]: m["content"]["data"] for m in ends}
    assert len(texts) == 2
    assert all("handle.result() is the model" in one["text/html"] for one in texts.values())
    assert sum("<table" in one["text/html"] for one in texts.values()) == 1


@pytest.mark.slow
def test_pause_and_resume_are_shown_while_they_happen(page):
    if page.subshell is None:
        pytest.skip("this ipykernel delivers no message while a cell runs")
    page.run(LOOP)
    comm_id = page.widget()

    def shows(status):
        return lambda m: (
            page.is_update(m, comm_id)
            and m["content"]["data"]["state"]["progress"]["status"] == status
        )

    page.say(comm_id, kind="pause")
    page.wait_for(shows("paused"))
    page.say(comm_id, kind="resume")
    page.wait_for(shows("running"))
    page.say(comm_id, kind="stop")
    assert page.result()["status"] == "stopped"


@pytest.mark.slow
def test_updates_stay_few_and_small(page):
    page.run(LOOP)
    comm_id = page.widget()
    began = time.monotonic()
    updates = [page.wait_for(lambda m: page.is_update(m, comm_id)) for _ in range(12)]
    per_second = (len(updates) - 2) / (time.monotonic() - began)  # the first may have waited
    page.manager.interrupt_kernel()
    page.result()
    assert per_second <= 10
    assert max(sum(len(buffer) for buffer in update["buffers"]) for update in updates) < 64_000
