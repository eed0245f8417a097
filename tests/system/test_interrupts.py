"""Ctrl-C waits while something would be left half done, and is never lost."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import weakref

import pytest

from aimz_lab.preparing import preparing_line
from aimz_lab.system.imports import late_import
from aimz_lab.system.interrupts import hold_interrupts, in_finalizer, noticed_interrupts


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_waits_for_the_end_of_the_block():
    done = []

    def work():
        with hold_interrupts():
            interrupt()
            done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["whole"]
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_held_ctrl_c_comes_out_of_the_outermost_block():
    done = []

    def work():
        with hold_interrupts():
            with hold_interrupts():
                interrupt()
            done.append("outer goes on")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done


def test_other_threads_are_left_alone():
    seen = []

    def work():
        with hold_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


class Thing:
    pass


def test_ctrl_c_in_a_finalizer_is_not_lost(monkeypatch):
    lost, done = [], []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)

    def remove():
        interrupt()
        done.append("whole")

    def work():
        thing = Thing()
        weakref.finalize(thing, in_finalizer, remove)
        del thing
        assert done
        time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not lost


def test_ctrl_c_that_python_drops_in_a_finalizer_of_others_is_noticed(monkeypatch):
    dropped, done = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: dropped.append(lost.exc_type))

    def work():
        with noticed_interrupts() as raise_noticed:
            thing = Thing()
            weakref.finalize(thing, interrupt)
            del thing
            done.append("went on")
            raise_noticed()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert dropped == [KeyboardInterrupt]
    assert done == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def quiet_call():
    return preparing_line("", enabled=False)


@pytest.mark.parametrize("context", [noticed_interrupts, quiet_call])
def test_ctrl_c_in_a_garbage_collection_takes_effect_after_it(monkeypatch, context):
    dropped, came = [], []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)

    def collected(phase, info):
        if not came:
            came.append(phase)
            interrupt()

    def work():
        with context():
            gc.collect()
            time.sleep(5)

    gc.callbacks.append(collected)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        gc.callbacks.remove(collected)
    assert came
    assert not dropped


def test_an_interrupted_import_is_whole(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = (
        "import signal\nfrom {0} import part\nsignal.raise_signal(signal.SIGINT)\nvalue = part.two"
    )
    package = tmp_path / "slow_to_import"
    package.mkdir()
    (package / "__init__.py").write_text(text.format("slow_to_import"))
    (package / "part.py").write_text("two = 2")
    with pytest.raises(KeyboardInterrupt):
        late_import("slow_to_import")
    assert late_import("slow_to_import").value == 2
