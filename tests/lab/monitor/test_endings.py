"""However a monitored loop ends, its callbacks see the end that `fit` would report."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from aimz_lab.inference.run.events import Callback
from aimz_lab.lab.monitor import monitor

EVENTS = (
    "on_fit_begin",
    "on_epoch_begin",
    "on_steps_end",
    "on_step_end",
    "on_epoch_end",
    "on_pause",
    "on_resume",
    "on_checkpoint",
)


def callback(kind="user", **events):
    """A callback of some kind from functions by event."""

    def method(function):
        return lambda self, *args: function(*args)

    methods = {name: method(function) for name, function in events.items()}
    return type("Made", (Callback,), {"kind": kind, **methods})()


def fail(*args):
    raise RuntimeError("broken on purpose")


def display(seen):
    """A display that notes how it was closed."""
    return callback(
        "display",
        on_exception=lambda run, error: seen.append(str(error)),
        on_fit_end=lambda run: seen.append(run.status),
    )


def go_through(watch, *, in_block=False, after=lambda watch: None):
    """Run a loop whose steps are long enough for each to be reported from the loop's body."""

    def loop():
        for batch in watch:
            time.sleep(0.06)
            watch.step(batch)
            after(watch)

    if in_block:
        with watch:
            loop()
    else:
        loop()


def ask(watch):
    """Ask for a checkpoint and a short pause."""
    watch.run.control.checkpoint()
    watch.run.control.pause()
    threading.Timer(0.02, watch.run.control.resume).start()


class TestOrder:
    def kinds_at_the_end(self, loop):
        seen = []

        def note(kind):
            def at(event):
                return lambda *args: seen.append((event, kind))

            return callback(kind, on_exception=at("exception"), on_fit_end=at("end"))

        watch = monitor([1.0], callbacks=[note(k) for k in ("display", "checkpoint", "user")])
        loop(watch)
        return seen

    def test_displays_come_last_and_show_what_the_others_did(self):
        seen = self.kinds_at_the_end(go_through)
        assert seen == [("end", kind) for kind in ("user", "checkpoint", "display")]

    def test_after_an_error_too(self):
        def loop(watch):
            with pytest.raises(RuntimeError, match="broken"):
                go_through(watch, in_block=True, after=fail)

        expected = [(e, k) for e in ("exception", "end") for k in ("user", "checkpoint", "display")]
        assert self.kinds_at_the_end(loop) == expected


class TestCallbacksThatRaise:
    @pytest.mark.slow
    @pytest.mark.parametrize("in_block", [False, True])
    @pytest.mark.parametrize("event", EVENTS)
    def test_the_run_has_failed_and_every_callback_sees_it(self, event, in_block):
        seen = []
        callbacks = [display(seen), callback("checkpoint", **{event: fail})]
        watch = monitor([1.0] * 3, callbacks=callbacks)
        with pytest.raises(RuntimeError, match="broken on purpose"):
            go_through(watch, in_block=in_block, after=ask)
        assert seen == ["broken on purpose", "failed"]
        assert watch.run.status == "failed"
        assert isinstance(watch.run.exception, RuntimeError)

    def test_at_the_end_it_passes_once_every_callback_was_called(self):
        seen = []
        watch = monitor([1.0], callbacks=[display(seen), callback(on_fit_end=fail)])
        with pytest.raises(RuntimeError, match="broken on purpose"):
            go_through(watch)
        assert seen == ["completed"]

    def test_further_errors_are_notes(self):
        broken = callback(on_steps_end=fail, on_exception=fail, on_fit_end=fail)
        with pytest.raises(RuntimeError, match="broken on purpose") as caught:
            go_through(monitor([1.0] * 3, callbacks=[broken]))
        note = "At the end of the run also: RuntimeError: broken on purpose"
        assert caught.value.__notes__ == [note, note]

    def test_a_loop_that_ignores_the_error_ends_all_the_same(self):
        seen, batches = [], []
        watch = monitor([1.0] * 9, callbacks=[display(seen), callback(on_steps_end=fail)])
        for batch in watch:
            batches.append(batch)
            time.sleep(0.06)
            with pytest.raises(RuntimeError, match="broken"):
                watch.step(batch)
        assert len(batches) == 1
        assert seen == ["broken on purpose", "failed"]
        assert watch.run.step == 1


class TestOtherEnds:
    def test_a_generator_that_is_closed_around_a_block_has_left_the_loop(self):
        seen = []
        watch = monitor([1.0] * 9, callbacks=[display(seen)])

        def losses():
            with watch:
                for batch in watch:
                    watch.step(batch)
                    yield batch

        mine = losses()
        next(mine)
        mine.close()
        assert seen == ["stopped"]
        assert watch.run.reason == "the loop was left after step 1"

    def test_an_exit_from_the_batches_is_reported(self):
        def batches():
            yield 1.0
            raise SystemExit("enough")

        seen = []
        with pytest.raises(SystemExit):
            go_through(monitor(batches, callbacks=[display(seen)]))
        assert seen == ["enough", "failed"]

    def test_an_interrupt_while_a_loss_is_reported_is_one(self):
        def interrupt(*args):
            raise KeyboardInterrupt

        seen = []
        watch = monitor([1.0] * 3, callbacks=[display(seen), callback(on_steps_end=interrupt)])
        with pytest.raises(KeyboardInterrupt):
            go_through(watch)
        assert (seen, watch.run.reason) == (["interrupted"], "interrupted after step 1")

    def test_a_checkpoint_and_a_stop_during_a_pause_are_both_granted(self):
        saved = []

        def stop(run):
            run.control.checkpoint()
            run.control.stop("enough")

        writer = callback("checkpoint", on_checkpoint=lambda run: saved.append(run.step))
        watch = monitor([1.0] * 9, callbacks=[writer, callback(on_pause=stop)])
        go_through(watch, after=lambda watch: watch.run.control.pause())
        assert saved == [1]
        assert (watch.run.status, watch.run.reason) == ("stopped", "enough")


class TestReports:
    def test_no_report_is_without_steps(self):
        sizes, ends = [], []
        spy = callback(
            on_steps_end=lambda run, steps: sizes.append(len(steps)),
            on_epoch_end=lambda run, epoch: ends.append((epoch, run.step)),
        )
        go_through(monitor([1.0, 2.0], epochs=2, callbacks=[spy]))
        assert 0 not in sizes
        assert ends == [(1, 2), (2, 4)]

    def test_steps_before_another_learning_rate_are_reported_with_the_one_they_had(self):
        model, rates = Model(), []
        spy = callback(
            on_steps_end=lambda run, steps: rates.extend([steps.learning_rate] * len(steps))
        )
        spy.every_epoch = False
        watch = monitor([1.0] * 4, model=model, callbacks=[spy])
        for i, batch in enumerate(watch):
            watch.step(batch)
            if i == 2:
                watch.run.control.set_learning_rate(0.5)
        np.testing.assert_allclose(rates, [1.0, 1.0, 1.0, 0.5])

    def test_a_rate_in_the_state_of_a_model_is_known_and_settable_from_the_beginning(self):
        seen = []

        def look(run):
            run.control.check_learning_rate()
            seen.append(run.learning_rate)

        go_through(monitor([1.0], model=Model(), callbacks=[callback(on_fit_begin=look)]))
        assert seen == [1.0]


class Model:
    """A model whose optimizer keeps its rate in its state."""

    n_obs = 4
    kernel = inference = None

    def __init__(self):
        import numpyro
        from numpyro.infer.svi import SVIState

        from aimz_lab import settable_rate

        optimizer = settable_rate(numpyro.optim.Adam, 1.0)
        self._vi_state = SVIState(optimizer.init({"x": np.zeros(2, np.float32)}), None, None)
