"""A page is heard while a cell runs and leaves it alone; Jupyter still needs patches for that."""

from __future__ import annotations

import queue
import time
from contextlib import suppress

import pytest

pytest.importorskip("ipykernel", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

from aimz_lab.lab.dashboard.busy_kernel import answer_reloaded_pages
from aimz_lab.lab.dashboard.comm_routing import hear_beside_cells
from tests.lab.dashboard.test_protocol import Page

LISTEN = """
import json, time, comm
from aimz_lab.lab.dashboard import comm_routing
heard = []
channel = comm.create_comm(target_name="page")
channel.on_msg(heard.append)
comm_routing.{patch}(channel)
{before}
channel.send({{}})
end = time.monotonic() + {patience_s}
while not heard and time.monotonic() < end:
    time.sleep(0.01)
{after}
print("RESULT " + json.dumps(len(heard)))  # in one piece: a message may end between two
"""
FIGURE = """
import matplotlib
matplotlib.use("module://matplotlib_inline.backend_inline")
from matplotlib import pyplot
figure = pyplot.figure()
"""
IS_OPEN = """
time.sleep(0.1)  # the events that follow the message, if there are any
heard = ["heard"] * len(heard) * pyplot.fignum_exists(figure.number)
pyplot.close(figure)
"""


@pytest.fixture(scope="module")
def page():
    page = Page(None)
    yield page
    page.close()


def heard_while_busy(page, patch, patience_s, before="", after=""):
    """How many messages a comm hears while the cell that made it runs."""
    page.run(LISTEN.format(patch=patch, patience_s=patience_s, before=before, after=after))
    opened = page.wait_for(
        lambda m: m["msg_type"] == "comm_open" and m["content"]["target_name"] == "page"
    )
    comm_id = opened["content"]["comm_id"]
    page.wait_for(lambda m: m["msg_type"] == "comm_msg" and m["content"]["comm_id"] == comm_id)
    page.say(comm_id, kind="hello")
    return page.result()


@pytest.fixture
def beside_cells(page):
    if page.subshell is None:
        pytest.skip("this ipykernel delivers no message while a cell runs")
    return page


@pytest.mark.slow
def test_a_patched_comm_hears_the_page_while_a_cell_runs(beside_cells):
    assert heard_while_busy(beside_cells, "hear_beside_cells", patience_s=60) == 1


@pytest.mark.slow
def test_the_choice_of_the_shell_is_still_needed(beside_cells):
    assert heard_while_busy(beside_cells, "fire_no_events_beside_cells", patience_s=2) == 0, (
        "ipykernel follows the page by itself now: delete let_page_choose_shell"
    )


@pytest.mark.slow
def test_a_figure_that_the_cell_draws_stays_open_and_only_with_the_patch(beside_cells):
    drawing = {"patience_s": 60, "before": FIGURE, "after": IS_OPEN}
    assert heard_while_busy(beside_cells, "hear_beside_cells", **drawing) == 1
    assert heard_while_busy(beside_cells, "let_page_choose_shell", **drawing) == 0, (
        "comms fire no events beside cells now: delete fire_no_events_beside_cells"
    )


@pytest.mark.slow
def test_a_comm_without_that_method_is_left_alone():
    hear_beside_cells(object())
    hear_beside_cells(None)
    answer_reloaded_pages(object())
    answer_reloaded_pages(None)


BUSY = """
import time, ipywidgets
from pathlib import Path
from aimz_lab.lab.dashboard.busy_kernel import answer_reloaded_pages
shown = ipywidgets.IntSlider(7)
if {patched}:
    answer_reloaded_pages(get_ipython().kernel)
print("BUSY", flush=True)
end = time.monotonic() + 60
while not Path({over!r}).exists() and time.monotonic() < end:
    time.sleep(0.01)
print("RESULT 1")
"""
QUESTIONS = [
    ("kernel_info_request", {}),
    ("comm_info_request", {"target_name": "jupyter.widget"}),
    ("comm_open", {"comm_id": "c", "target_name": "jupyter.widget.control", "data": {}}),
    ("comm_msg", {"comm_id": "c", "data": {"method": "request_states"}}),
]
ANSWERS = {"kernel_info_reply", "comm_info_reply", "the slider's state"}


def answers_while_busy(page, patched, over, patience_s):
    """What a page hears while a cell runs, if its questions name no subshell."""
    page.run(BUSY.format(patched=patched, over=str(over)))
    page.wait_for(lambda m: m["msg_type"] == "stream" and "BUSY" in m["content"]["text"])
    asked, heard = set(), set()
    for kind, content in QUESTIONS:
        metadata = {"version": "1.0.0"} if kind == "comm_open" else {}
        message = page.client.session.msg(kind, content, metadata=metadata)
        page.client.shell_channel.send(message)
        asked.add(message["header"]["msg_id"])
    deadline = time.monotonic() + patience_s
    while heard != ANSWERS and time.monotonic() < deadline:
        with suppress(queue.Empty):
            reply = page.client.get_shell_msg(timeout=0.1)
            heard |= {reply["msg_type"]} if reply["parent_header"]["msg_id"] in asked else set()
        with suppress(queue.Empty):
            data = page.client.get_iopub_msg(timeout=0.1)["content"].get("data", {})
            states = [one["state"] for one in data.get("states", {}).values()]
            heard |= {"the slider's state"} if any(s.get("value") == 7 for s in states) else set()
    over.touch()
    page.result()
    return heard


@pytest.mark.slow
def test_a_page_that_is_loaded_again_finds_its_widgets_only_with_the_patch(page, tmp_path):
    if page.subshell is None:
        pytest.skip("this ipykernel delivers no message while a cell runs")
    assert answers_while_busy(page, False, tmp_path / "first", patience_s=2) == set(), (
        "ipykernel answers by itself now: delete answer_reloaded_pages"
    )
    assert answers_while_busy(page, True, tmp_path / "second", patience_s=60) == ANSWERS
