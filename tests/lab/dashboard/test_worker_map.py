"""The map of a call on workers: what its page is sent, Stop, and the table that stays."""

from __future__ import annotations

import pytest

from aimz_lab import lab
from aimz_lab.cluster.call_log import CallLog
from aimz_lab.cluster.tasks import Part, PartResult
from aimz_lab.errors import CallStoppedError
from aimz_lab.lab import environment
from aimz_lab.lab.dashboard.call_frames import MOST_CELLS, MOST_WORKERS, frame_of, record_of_call
from tests.lab.dashboard.test_views import Outputs

pytest.importorskip("distributed", reason="needs the extra: aimz_lab[cluster]")


def log_of(n_parts, **options):
    """A call of parts of 100 rows, of which the first ones were handed out."""
    made = CallLog("taxi", "row", 100 * n_parts, part_size=100, unit_bytes=40, **options)
    for number in range(min(n_parts, 6)):
        made.submitted(Part(100 * number, 100))
    return made


def result(worker, seconds=0.5):
    return PartResult({}, {}, None, (), worker, seconds)


@pytest.fixture
def log():
    """Six of eight parts: two done, two at workers, one of a lost worker, one waiting."""
    made = log_of(8, link="http://127.0.0.1:8787/status")
    places = {0: ("tcp://a", "<a>"), 100: ("tcp://b", "b"), 200: ("tcp://a", "<a>")}
    made.assigned(places, alive={"tcp://a", "tcp://b"})
    made.computed(0, result("<a>"))
    made.computed(100, result("b"))
    made.assigned({300: ("tcp://b", "b"), 400: ("tcp://b", "b")}, alive={"tcp://b"})
    return made


def test_the_frame_says_who_has_which_part(log):
    frame = frame_of(log)
    assert [state for state, _, _ in frame["cells"]] == [
        *("done", "done", "waiting", "assigned", "assigned", "waiting", "none", "none")
    ]
    assert [worker for _, worker, _ in frame["cells"]] == [0, 1, -1, 1, 1, -1, -1, -1]
    titles = [title for _, _, title in frame["cells"]]
    assert titles[0] == "rows 0 to 99: done by worker <a>"
    assert titles[2] == "rows 200 to 299: waiting, after another was lost"
    assert titles[3] == "rows 300 to 399: at worker b"
    first, second = frame["workers"]
    assert (first["has"], first["lost"], first["parts"]) == ("", "1", "1")
    assert second["has"] == "rows 300 to 399, 400 to 499"
    assert frame["share"] == 0.25
    assert "row 200 of 800 · part 2 of 8 · " in frame["position"]
    assert "1 again after a worker was lost" in frame["position"]


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "completed"), (ValueError(), "failed"), (KeyboardInterrupt(), "stopped")],
)
def test_the_record_says_how_it_ended_and_who_did_what(log, error, status):
    log.end(error)
    record = record_of_call(log)
    assert record["text/plain"].splitlines()[0].startswith(f"taxi: {status} · row 200 of 800")
    assert "&lt;a&gt;" in record["text/html"]
    assert "<a>" not in record["text/html"]
    assert "3.9 KiB" in record["text/plain"]  # 100 rows of 40 bytes


def test_a_call_of_many_parts_on_many_workers_stays_small():
    log = CallLog("taxi", "row", None, part_size=1)
    for number in range(1_000):
        log.submitted(Part(number, 1))
        log.computed(number, result(f"w{number % 100}"))
    frame = frame_of(log)
    assert len(frame["cells"]) <= MOST_CELLS
    assert frame["share"] is None
    assert (len(frame["workers"]), frame["more"]) == (MOST_WORKERS, 100 - MOST_WORKERS)
    assert record_of_call(log)["text/plain"].splitlines()[-1] == f"and {100 - MOST_WORKERS} more"


def test_a_failed_part_is_seen_in_its_cell_among_others():
    log = log_of(4 * MOST_CELLS)
    log.failed(100)
    assert frame_of(log)["cells"][0][0] == "failed"


def test_the_page_stops_the_call_and_keeps_the_table(log, monkeypatch):
    pytest.importorskip("anywidget", reason="needs the lab extra: pip install 'aimz_lab[lab]'")
    outputs = Outputs()
    monkeypatch.setattr("IPython.display.display", outputs.display)
    monkeypatch.setattr(environment, "place", lambda: "page")
    shown = lab.default_display(progress=True).of_call()
    shown.show(log)
    assert outputs == []  # most calls are over before anybody could read it
    monkeypatch.setattr(type(log), "seconds", property(lambda _: 2.0))
    shown.show(log)
    widget, sent = shown.widget, []
    widget.send = sent.append
    assert widget.meta["link"] == "http://127.0.0.1:8787/status"
    widget._handle_custom_msg({"kind": "hello"}, [])
    assert sent == [{"kind": "welcome"}]
    widget._handle_custom_msg({"kind": "else"}, [])
    log.check_stop()
    widget._handle_custom_msg({"kind": "stop"}, [])
    assert widget.call["is_stopping"]
    with pytest.raises(CallStoppedError, match="clicked after 2 of 8 parts") as stopped:
        log.check_stop()
    log.end(stopped.value)
    shown.close(log)
    assert widget.call["status"] == "stopped"
    assert outputs == [widget.record["data"]]
    assert "taxi: stopped · row 200 of 800" in outputs[0]["text/plain"]


def test_elsewhere_a_line_of_text_has_it(monkeypatch):
    monkeypatch.setattr(environment, "place", lambda: "terminal")
    assert lab.default_display(progress=True).of_call() is None
