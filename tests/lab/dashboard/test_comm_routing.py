"""A page is heard while a cell runs, and ipykernel still needs a patch for that."""

from __future__ import annotations

import pytest

pytest.importorskip("ipykernel", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

from aimz_lab.lab.dashboard.comm_routing import let_page_choose_shell
from tests.lab.dashboard.test_protocol import Page

LISTEN = """
import json, time, comm
from aimz_lab.lab.dashboard.comm_routing import let_page_choose_shell
heard = []
channel = comm.create_comm(target_name="page")
channel.on_msg(heard.append)
if {patched}:
    let_page_choose_shell(channel)
channel.send({{}})
end = time.monotonic() + {patience_s}
while not heard and time.monotonic() < end:
    time.sleep(0.01)
print("RESULT " + json.dumps(len(heard)))  # in one piece: a message may end between two
"""


@pytest.fixture(scope="module")
def page():
    page = Page(None)
    yield page
    page.close()


def heard_while_busy(page, patched, patience_s):
    """How many messages a comm hears while the cell that made it runs."""
    page.run(LISTEN.format(patched=patched, patience_s=patience_s))
    opened = page.wait_for(
        lambda m: m["msg_type"] == "comm_open" and m["content"]["target_name"] == "page"
    )
    comm_id = opened["content"]["comm_id"]
    page.wait_for(lambda m: m["msg_type"] == "comm_msg" and m["content"]["comm_id"] == comm_id)
    page.say(comm_id, kind="hello")
    return page.result()


@pytest.mark.slow
def test_a_patched_comm_hears_the_page_while_a_cell_runs(page):
    if page.subshell is None:
        pytest.skip("this ipykernel delivers no message while a cell runs")
    assert heard_while_busy(page, patched=True, patience_s=60) == 1


@pytest.mark.slow
def test_the_patch_is_still_needed(page):
    if page.subshell is None:
        pytest.skip("this ipykernel delivers no message while a cell runs")
    assert heard_while_busy(page, patched=False, patience_s=2) == 0, (
        "ipykernel follows the page by itself now: delete let_page_choose_shell"
    )


def test_a_comm_without_that_method_is_left_alone():
    let_page_choose_shell(object())
    let_page_choose_shell(None)
