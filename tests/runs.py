"""Runs for tests: real ones of a small model, and runs that are only told."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import jax
import numpy as np
import numpyro
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel, settable_rate
from aimz_lab.inference.run.events import Callbacks, Control, Run, RunInfo, Steps
from tests.kernels import regression

STILL = numpyro.optim.SGD(lambda step: 0.0)
"""Trains nothing, so that losses are those of the first parameters; a constant 0 is warned of."""


def mean_field(kernel, optimizer=None):
    """An inference object with a mean-field guide."""
    optimizer = optimizer or numpyro.optim.Adam(0.05)
    return SVI(kernel, AutoNormal(kernel), optimizer, Trace_ELBO())


def mean_field_model(kernel, optimizer=None):
    """A model with a mean-field guide, always the same before it is fitted."""
    return ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel, optimizer))


def regression_model(optimizer=None, kernel=regression):
    """A linear regression with a mean-field guide; the rate of its optimizer can be set."""
    return mean_field_model(kernel, optimizer or settable_rate(numpyro.optim.Adam, 0.05))


def refit(im, X, y, *, seed=1, **options):
    """Fit from the beginning, the same each time; what was compiled before is used again."""
    im._vi_state = None
    options = {"batch_size": 20, "epochs": 3, "num_samples": 10, "progress": False, **options}
    return im.fit(X, y, rng_key=jax.random.key(seed), **options)


def same_bits(a, b):
    """Whether two trees of arrays are equal to the last bit, NaN included."""

    def words(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf).tobytes()

    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(a) == len(b) and all(words(x) == words(y) for x, y in zip(a, b, strict=True))


def told_run(*, rate=None, method="SVI/AutoNormal", **info):
    """A run that nobody trains; its learning rate can be set if it has one."""
    control = Control(can_set_learning_rate=rate is not None, why_not="fixed rate")
    facts = {"n_obs": 1, "steps_per_epoch": 64, "batch_size": 1, "epochs": 1000, **info}
    run = Run(RunInfo("kernel", method, **facts), control=control)
    run.learning_rate = rate
    per_epoch = facts["steps_per_epoch"] or 64
    run.bind(
        params=dict,
        state=lambda: SimpleNamespace(after=run.step),
        position=lambda: divmod(run.step, per_epoch),
    )
    return run


def tell(callbacks, losses, run=None, *, chunk=7, validation=()):
    """Tell callbacks of a run with these losses, as a trainer would, until they stop it.

    Args:
        callbacks: The listeners.
        losses: Loss of each step.
        run: The run; a new one by default.
        chunk: Steps of a chunk.
        validation: Held-out losses; one after each chunk.
    """
    run = run or told_run()
    run.begin()
    listeners, held_out = Callbacks(callbacks, run), iter(validation)
    listeners.emit("on_fit_begin")
    for start in range(0, len(losses), chunk):
        run.learning_rate = run.control.take_learning_rate() or run.learning_rate
        loss = np.asarray(losses[start : start + chunk], np.float32)
        ones = np.ones(len(loss), np.int32)
        first = run.step + 1
        steps = Steps(first, ones, loss, ones, 0 * ones, 0.01, run.learning_rate)
        run.record(steps)
        run.skipped += int(np.count_nonzero(~np.isfinite(loss)))
        listeners.steps_end(steps, ())
        for held_out_loss in [next(held_out)] if validation else []:
            run.validation.append((run.step, held_out_loss))
            listeners.emit("on_validation_end", held_out_loss)
        if run.control.stop_request:
            break
    reason, status = run.control.stop_request or ("all done", "completed")
    run.finish(status, reason)
    listeners.emit("on_fit_end")
    return run


@contextlib.contextmanager
def compilations():
    """Collect the durations of what compiles inside."""
    seen = []

    def listen(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        # This one alone: the product listens too.
        jax.monitoring.unregister_event_duration_listener(listen)
