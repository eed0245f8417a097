"""Runs made by hand, for the tests of callbacks and panels."""

from __future__ import annotations

import numpy as np

from aimz_lab.inference.run.events import Callbacks, Control, Run, RunInfo, Steps


def chunk(first, loss, *, epoch=1, rows=10, n_pad=0, seconds=0.05, rate=None, **metrics):
    """A chunk of steps with the given losses; the other columns are constant or as given."""
    loss = np.asarray(loss, np.float32)
    k = len(loss)
    return Steps(
        first=first,
        epoch=np.broadcast_to(np.asarray(epoch, np.int32), k),
        loss=loss,
        rows=np.broadcast_to(np.asarray(rows, np.int32), k),
        n_pad=np.broadcast_to(np.asarray(n_pad, np.int32), k),
        seconds=seconds,
        learning_rate=rate,
        metrics={name: np.asarray(values, np.float32) for name, values in metrics.items()},
    )


def begun(*, control=None, get_params=None, model="kernel", **info):
    """A run that has begun."""
    run = Run(
        RunInfo(model, "SVI/AutoNormal", **info),
        control=control or Control(),
        get_params=get_params,
    )
    run.begin()
    return run


def feed(run, loss, **columns):
    """Record a chunk in the run as if its seconds had passed, and return it."""
    steps = chunk(run.step + 1, loss, **columns)
    if run.is_preparing:
        run.clock.begin_steps()
    if run.clock._began is not None:
        run.clock._began -= steps.seconds
        reading = run.clock._reading
        run.clock._reading = reading._replace(trained_s=reading.trained_s + steps.seconds)
    run.record(steps)
    return steps


def play(run, callbacks, chunks, *, status="completed", reason="all steps done"):
    """Send a whole run to the callbacks; ``chunks`` are losses."""
    called = Callbacks(callbacks, run)
    called.emit("on_fit_begin")
    for losses in chunks:
        called.steps_end(feed(run, losses), [])
        if run.control.stop_request:
            reason, status = run.control.stop_request
            break
    run.finish(status, reason)
    called.emit("on_fit_end")
    return called
