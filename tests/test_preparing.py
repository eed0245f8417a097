"""What a call does before its first result is told while its thread is busy."""

from __future__ import annotations

import io
import re
import time
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS

from aimz_lab import ImpactModel
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.inference.run.events import Callback
from aimz_lab.lab import EarlyStopping, LiveDashboard, ProgressLine, compare, monitor
from aimz_lab.lab.dashboard.views import LineView, RecordingDisplay
from aimz_lab.predictive.results.sinks import MemorySink
from aimz_lab.preparing import Preparation, Preparing, current, doing, preparing_line
from aimz_lab.progress import StatusLine
from tests.runs import mean_field

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

X = np.linspace(-1, 1, 40, dtype=np.float32)


class Slow:
    """A kernel whose first trace takes a while, as that of a large model does."""

    def __init__(self):
        self.wait_s = 0.45

    def __call__(self, X, y=None):
        wait_s, self.wait_s = self.wait_s, 0.0
        time.sleep(wait_s)
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=y)


def slow_model():
    kernel = Slow()
    return ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))


@pytest.mark.slow
def test_it_is_told_twice_a_second_until_the_end():
    told = []
    with Preparation("sales", told.append).under_way() as preparation:
        doing("tracing the model")
        time.sleep(0.4)
        doing("compiling")
        time.sleep(0.6)
        preparation.end()
        time.sleep(0.6)
    assert [each.activity for each in told] == ["tracing the model", "compiling"]
    assert 0.3 <= told[0].seconds < told[1].seconds


def test_a_quick_call_is_not_told_and_costs_little():
    told = []
    began = time.perf_counter()
    for _ in range(20):
        with Preparation("sales", told.append).under_way() as preparation:
            preparation.end()
    assert (time.perf_counter() - began) / 20 < 0.010
    assert told == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["svi", "chains"])
def test_the_time_of_a_run_is_that_of_its_call(method):
    if method == "svi":
        model, options = slow_model(), {"num_steps": 3}
    else:
        kernel = Slow()
        chains = MCMC(NUTS(kernel), num_warmup=2, num_samples=2, progress_bar=False)
        model, options = ImpactModel(kernel, jax.random.key(0), inference=chains), {}
    began = time.monotonic()
    model.fit_on_batch(X, 2 * X, progress=False, **options)
    called_s = time.monotonic() - began
    run = model.last_run
    assert 0.45 <= run.seconds_in["preparing"] < run.elapsed_s <= called_s
    assert run.elapsed_s > sum(run.seconds_in.values()) * 0.99


@pytest.mark.slow
def test_steps_and_held_out_loss_are_compiled_before_the_first_step():
    kernel = Slow()
    kernel.wait_s = 0.0

    class FromHere(Callback):
        def on_fit_begin(self, run):
            kernel.wait_s = 0.45  # as the training steps are traced

    model = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    held_out = X[:5] + 0.5
    model.fit(X, 2 * X, batch_size=20, epochs=5, progress=False, callbacks=[FromHere()],
              validation=(held_out, 2 * held_out))  # fmt: skip
    run = model.last_run
    assert kernel.wait_s == 0
    assert len(run.validation) == 5
    assert "compiling" not in run.seconds_in
    assert run.prepared_s > 0.45
    assert run.trained_s < 0.4 > run.stepping_s
    assert run.elapsed_s > sum(run.seconds_in.values()) * 0.99


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 2])
def test_what_compiles_for_the_first_rate_that_is_set_is_no_training(step):
    """Before the first step, and in the midst of the run."""

    def kernel(X, y=None):
        time.sleep(0.15)  # as the training steps are traced anew, too
        Slow.__call__(SimpleNamespace(wait_s=0.0), X, y)

    class Rate(Callback):
        def at(self, run):
            if run.step == step:
                run.control.set_learning_rate(0.5)

        def on_fit_begin(self, run):
            self.at(run)

        def on_steps_end(self, run, _):
            self.at(run)

    model = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    model.fit(X, 2 * X, batch_size=20, epochs=5, progress=False, callbacks=[Rate()],
              steps_per_call=2)  # fmt: skip
    run = model.last_run
    assert [change.step for change in run.rate_changes] == [step]
    assert run.compiling_s > 0.15
    assert run.trained_s < 0.15 > run.stepping_s
    assert compare(run).loc["steps_per_s"].item() > 10 / 0.15
    times = run.trained_s, run.prepared_s, run.compiling_s
    assert sum(times) == pytest.approx(run.elapsed_s, abs=0.01)


@pytest.mark.slow
def test_what_a_hand_written_loop_compiles_is_no_training():
    @jax.jit
    def step(x):
        time.sleep(0.3)  # as it is traced
        return x + 1.0

    watch = monitor([1.0, 2.0], epochs=2)
    for batch in watch:
        watch.step(step(batch))
    run = watch.run
    assert run.compiling_s > 0.3
    assert run.trained_s < 0.2 > run.seconds_in["steps"]
    assert run.elapsed_s > sum(run.seconds_in.values()) * 0.99


def test_a_display_that_fails_leaves_the_call_alone():
    def broken(preparing):
        raise RuntimeError

    with Preparation("sales", broken, first_s=0.0).under_way() as preparation:
        time.sleep(0.05)
        preparation.end()


def test_no_time_is_left_once_it_is_used_up():
    told = []
    with Preparation("sales", told.append, first_s=0.01).under_way() as preparation:
        doing("computing scenario 1 of 1", (0, 1))
        preparation.reach(1.0)
        while not told:
            time.sleep(0.01)
        preparation.end()
    assert re.fullmatch(r"computing scenario 1 of 1 · 0\.\d s", told[0].what)


def test_a_line_says_what_and_for_how_long():
    told = Preparing("sales", "compiling the training steps", 2.43)
    assert told.text == "sales: preparing · compiling the training steps · 2.4 s"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.slow
def test_a_fit_tells_its_display_before_there_is_a_run_and_the_run_goes_on_there():
    screen, terminal, plain = RecordingDisplay(), Terminal(), io.StringIO()
    displays = [
        LiveDashboard(view=screen),
        LiveDashboard(view=LineView(StatusLine(terminal))),
        ProgressLine(plain),
    ]
    slow_model().fit(X, X, epochs=3, callbacks=displays)
    assert screen.preparing[0].activity == "tracing the model"
    assert screen.preparing[0].seconds >= 0.3
    assert screen.final["progress"]["status"] == "completed"
    lines = [line.strip() for line in terminal.getvalue().split("\r") if line.strip()]
    assert "Slow: preparing · tracing the model · 0.3 s" in lines[0]
    assert lines[-1].startswith("Slow: completed")
    # Where no line can be written over, it comes once; the next one would come after ten seconds.
    first, *_, last = plain.getvalue().splitlines()
    assert first.startswith("Slow: preparing · tracing the model")
    assert last.startswith("Slow: completed")


def test_what_is_shown_of_a_refused_fit_is_taken_back():
    screen = RecordingDisplay()
    with pytest.raises(DataError):
        slow_model().fit(
            X, X, epochs=3, validation=(X[:3], X[:2]), callbacks=[LiveDashboard(view=screen)]
        )
    assert screen.preparing == []
    assert screen.frames == []


@pytest.mark.slow
@pytest.mark.parametrize("blocking", [True, False])
def test_what_is_shown_of_a_fit_that_a_callback_refuses_is_taken_back(blocking):
    screen, terminal = RecordingDisplay(), Terminal()
    displays = [LiveDashboard(view=screen), LiveDashboard(view=LineView(StatusLine(terminal)))]
    stopping = EarlyStopping(monitor="validation")  # without held-out rows
    with pytest.raises(ArgumentError, match="needs held-out data"):
        slow_model().fit(X, X, epochs=3, callbacks=[stopping, *displays], blocking=blocking)
    assert screen.preparing == []
    assert screen.frames == []
    lines = terminal.getvalue().split("\r")
    assert lines[1].startswith("Slow: preparing")
    assert not lines[-1].strip()


def test_a_loop_by_hand_is_told_of_until_its_first_loss():
    screen = RecordingDisplay()
    for batch in (watch := monitor([1.0, 2.0], callbacks=[LiveDashboard(view=screen)])):
        time.sleep(0.4)
        watch.step(batch)
    assert [each.activity for each in screen.preparing] == ["computing the first step"]


@pytest.mark.slow
def test_a_prediction_shows_a_line_until_its_first_result(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with preparing_line("sales", enabled=True):
        doing("compiling the predictions")
        time.sleep(0.6)
    shown = terminal.getvalue()
    assert "sales: preparing · compiling the predictions · 0.5 s" in shown
    assert shown.endswith("\r")
    with preparing_line("sales", enabled=True, stage="placebo"):
        doing("training copy 2 of 11")
        time.sleep(0.6)
    assert "sales: placebo · training copy 2 of 11 · 0.5 s" in terminal.getvalue()
    shown = terminal.getvalue()
    with preparing_line("sales", enabled=False):
        time.sleep(0.6)
    assert terminal.getvalue() == shown


@pytest.mark.slow
def test_an_interrupted_prediction_says_how_far_it_came_and_that_nothing_is_kept(monkeypatch):
    kernel = slow_model().kernel
    kernel.wait_s = 0.0
    model = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    model.fit_on_batch(X, 2 * X, num_steps=1, progress=False)
    write = MemorySink.write

    def interrupted_at_the_third(sink, span, values):
        if span.first == 2 * span.count:
            raise KeyboardInterrupt
        write(sink, span, values)

    monkeypatch.setattr(MemorySink, "write", interrupted_at_the_third)
    said = r"^Interrupted while computing, after row 1,536 of 8,000; nothing is kept\.$"
    for call in (model.predict, partial(model.log_likelihood, y=np.tile(2 * X, 200))):
        with pytest.raises(KeyboardInterrupt, match=said):
            call(np.tile(X, 200), batch_size=1_000, store="memory", progress=False)


def test_the_time_left_is_known_once_parts_are_done():
    told = []
    with Preparation("sales", told.append, first_s=0.05).under_way() as outer:
        doing("fitting", (0, 4))
        with preparing_line("sales", enabled=False):  # a call within, which has no line
            current().reach(0.5)  # after its compilation, as long as that takes
            time.sleep(0.1)
            share, at_s = outer._left._first
            outer._left._first = share, at_s - 10.0
            current().reach(1.0)
        time.sleep(0.6)
        outer.end()
    assert told[0].left_s is None
    assert told[-1].left_s == pytest.approx(60, rel=0.1)  # half of one of 4 parts took 10 s
    assert re.search(r"fitting · 0\.\d s · (59 s|1:00) left", told[-1].text)


def test_parts_of_a_call_within_are_shares_of_the_part_around_it():
    with Preparation("sales").under_way() as outer:
        doing("computing both scenarios", (0, 1))
        shares = []
        with Preparation("sales").under_way() as inner:
            for number in range(2):
                doing("averaging", (number, 2))
                doing("compiling the predictions")  # within the part
                for share in (0.5, 1.0):
                    inner.reach(share)
                    shares.append(outer._share)
    assert shares == [0.25, 0.5, 0.75, 1.0]


SLOW_CALLS = {
    "effect": lambda im, args: im.estimate_effect(args_baseline=args, args_intervention=args),
    "sweep": lambda im, args: im.sweep("X", [0.0, 1.0], args["X"]),
    "decide": lambda im, args: im.decide({"a": args, "b": args}),
    "overlap": lambda im, args: im.overlap(args, args),
    "check": lambda im, args: im.check(args["X"], args["X"]),
    "calibrate": lambda im, args: im.calibrate(args["X"], 20, num_steps=5, num_draws=20),
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", SLOW_CALLS)
def test_every_slow_call_has_one_line_from_its_beginning(monkeypatch, stage):
    shown = []
    monkeypatch.setattr("aimz_lab.preparing.QUIET_S", 0.0)
    monkeypatch.setattr("aimz_lab.preparing.progress_line", lambda: Recorder(shown))
    im = slow_model()
    im.fit(X, X, epochs=1, num_samples=5, progress=False)
    SLOW_CALLS[stage](im, {"X": X})
    assert shown
    assert all(text.startswith(f"Slow: {stage} · ") for text in shown), shown
    if stage == "check":
        shown.clear()
        im.check(X, X, progress=False)
        assert not shown


class Recorder:
    """A line that keeps what it shows."""

    interval_s = 0.0

    def __init__(self, shown):
        self.write = shown.append

    def clear(self):
        pass
