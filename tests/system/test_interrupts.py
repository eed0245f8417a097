"""Ctrl-C waits while something would be left half done, and is never lost."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import threading
import time
import weakref

import pytest

from aimz_lab.calls import public
from aimz_lab.dropped_interrupts import dropped_interrupts_come_again
from aimz_lab.system.imports import late_import
from aimz_lab.system.interrupts import (
    hold_interrupts,
    in_finalizer,
)


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


def test_a_held_ctrl_c_is_not_lost_to_an_error():
    def work():
        with contextlib.suppress(ImportError), hold_interrupts():
            interrupt()
            raise ImportError

    with pytest.raises(KeyboardInterrupt):
        work()


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


def in_weak_reference():
    thing = Thing()
    weakref.finalize(thing, interrupt)
    del thing


def in_garbage_collection():
    def collected(phase, info):
        gc.callbacks.remove(collected)
        interrupt()

    gc.callbacks.append(collected)
    gc.collect()


@pytest.mark.parametrize("dropping", [in_weak_reference, in_garbage_collection])
def test_ctrl_c_that_python_drops_comes_again(monkeypatch, dropping):
    dropped, done = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: dropped.append(lost.exc_type))
    hook = sys.unraisablehook

    @public
    def call():
        dropping()
        done.append("went on")
        time.sleep(5)

    with pytest.raises(KeyboardInterrupt, match="call was interrupted"):
        call()
    assert done == ["went on"]
    assert not dropped
    assert sys.unraisablehook is hook


def test_other_errors_in_finalizers_are_printed(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: printed.append(lost.exc_type))
    with dropped_interrupts_come_again():
        thing = Thing()
        weakref.finalize(thing, int, "no number")
        del thing
    assert printed == [ValueError]


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
