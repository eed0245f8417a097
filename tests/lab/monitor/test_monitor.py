"""Monitored loops yield what the loader yields, and report what fit reports."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aimz_lab.data import ArrayDataset, ArrayLoader
from aimz_lab.errors import ArgumentError, CallError, DataError, DataTypeError, FitWarning
from aimz_lab.inference.run.events import Callback
from aimz_lab.lab.monitor import monitor
from aimz_lab.lab.monitor.batches import bytes_of, rows_of


class Spy(Callback):
    """Keeps the names of the events, and the losses."""

    every_epoch = False

    def __init__(self):
        self.events = []
        self.losses = []

    def on_fit_begin(self, run):
        self.events.append("fit_begin")

    def on_epoch_begin(self, run, epoch):
        self.events.append(f"epoch_begin {epoch}")

    def on_steps_end(self, run, steps):
        self.losses += steps.loss.tolist()

    def on_epoch_end(self, run, epoch):
        self.events.append(f"epoch_end {epoch}")

    def on_exception(self, run, exception):
        self.events.append(f"exception {type(exception).__name__}")

    def on_checkpoint(self, run):
        self.events.append(f"checkpoint at {run.step}")

    def on_pause(self, run):
        self.events.append("pause")

    def on_resume(self, run):
        self.events.append("resume")

    def on_fit_end(self, run):
        self.events.append(f"fit_end {run.status}")


@pytest.fixture
def spy():
    return Spy()


@pytest.fixture
def loader(key):
    data = ArrayDataset(X=np.arange(10.0, dtype=np.float32), y=np.zeros(10, np.float32))
    return ArrayLoader(data, key, batch_size=4, shuffle=True)


def losses_of(watch):
    for batch, _ in watch:
        watch.step(batch["X"].sum())


def through(watch):
    for batch in watch:
        watch.step(batch)


class TestWholeLoops:
    def test_it_yields_what_the_loader_yields_epoch_after_epoch(self, loader, key):
        twin = ArrayLoader(loader.dataset, key, batch_size=4, shuffle=True)
        expected = [(batch["X"].tolist(), n_pad) for _ in range(3) for batch, n_pad in twin]
        watch = monitor(loader, epochs=3, callbacks=[])
        seen = []
        for batch, n_pad in watch:
            seen.append((batch["X"].tolist(), n_pad))
            watch.step(1.0)
        assert seen == expected

    def test_losses_rows_and_epochs_are_recorded(self, loader, spy):
        watch = monitor(loader, epochs=2, callbacks=[spy])
        losses_of(watch)
        run = watch.run
        assert (run.status, run.reason) == ("completed", "all 6 steps done")
        assert run.losses.sum() == 2 * np.arange(10).sum()
        assert run.column("rows").tolist() == [4, 4, 2] * 2
        assert run.column("epoch").tolist() == [1, 1, 1, 2, 2, 2]
        assert spy.losses == run.losses.tolist()
        assert (run.info.n_obs, run.info.batch_size) == (10, 4)
        assert (run.info.epochs, run.info.steps_per_epoch) == (2, 3)

    def test_events_come_in_order_and_each_epoch_ends_once(self, loader, spy):
        losses_of(monitor(loader, epochs=2, callbacks=[spy]))
        begun = [e for e in spy.events if not e.startswith("epoch_end")]
        assert begun == ["fit_begin", "epoch_begin 1", "epoch_begin 2", "fit_end completed"]
        assert [e for e in spy.events if e.startswith("epoch_end")] == [
            "epoch_end 1",
            "epoch_end 2",
        ]

    def test_a_callback_that_needs_epochs_gets_them_where_they_end(self, loader):
        steps_at_end = []

        class Exact(Callback):
            def on_epoch_end(self, run, epoch):
                steps_at_end.append((epoch, run.step))

        losses_of(monitor(loader, epochs=3, callbacks=[Exact()]))
        assert steps_at_end == [(1, 3), (2, 6), (3, 9)]

    def test_epoch_by_epoch(self, loader, spy):
        watch = monitor(loader, epochs=2, callbacks=[spy])
        sizes = []
        for epoch in watch.epochs():
            sizes.append(0)
            for batch, _ in epoch:
                watch.log(batch["X"].sum())
                sizes[-1] += 1
        assert sizes == [3, 3]
        assert spy.losses == watch.run.losses.tolist()
        assert watch.run.status == "completed"

    def test_padding_is_counted_apart(self, key):
        devices = np.array(jax.devices()[:1])
        sharding = jax.sharding.NamedSharding(
            jax.sharding.Mesh(devices, "rows"), jax.sharding.PartitionSpec("rows")
        )
        data = ArrayDataset(X=np.arange(10.0, dtype=np.float32))
        watch = monitor(
            ArrayLoader(data, key, batch_size=4, device=sharding), model="m", callbacks=[]
        )
        for batch, n_pad in watch:
            watch.step(batch["X"].sum() + n_pad)
        assert watch.run.info.devices == tuple(devices)
        assert watch.run.column("n_pad").tolist() == [0, 0, 0]
        assert rows_of(({"X": np.zeros((16, 2))}, 6)) == (10, 6)

    def test_further_values_become_metrics(self):
        watch = monitor([1.0, 2.0, 3.0], callbacks=[])
        for i, batch in enumerate(watch):
            watch.step(batch, **({"grad_norm": jnp.float32(i)} if i else {}))
        np.testing.assert_array_equal(watch.run.column("grad_norm"), [np.nan, 1.0, 2.0])

    def test_losses_on_the_device_are_fetched_in_chunks(self, monkeypatch):
        fetched = []
        original = jax.device_get
        monkeypatch.setattr(jax, "device_get", lambda x: fetched.append(len(x)) or original(x))
        watch = monitor([jnp.float32(i) for i in range(500)], callbacks=[])
        for batch in watch:
            watch.step(batch * 2)
        np.testing.assert_array_equal(watch.run.losses, 2 * np.arange(500))
        assert sum(fetched) == 500
        assert len(fetched) < 100


class TestSources:
    def test_a_function_is_called_once_an_epoch(self):
        calls = []

        def batches():
            calls.append(len(calls))
            yield from ({"X": np.ones(3)}, {"X": np.ones(2)})

        watch = monitor(batches, epochs=3, callbacks=[])
        for batch in watch:
            watch.step(batch["X"].sum())
        assert calls == [0, 1, 2]
        assert watch.run.losses.tolist() == [3, 2] * 3
        assert watch.run.info.steps_per_epoch == 2  # learnt from the first epoch

    def test_a_generator_has_one_epoch(self):
        watch = monitor((np.ones(2) for _ in range(3)), callbacks=[])
        for batch in watch:
            watch.step(batch.sum())
        assert watch.run.step == 3
        with pytest.raises(DataTypeError, match="used up after one pass"):
            monitor((i for i in range(3)), epochs=2)

    def test_a_list_knows_its_rows(self):
        batches = [(np.ones((5, 2)), np.ones(5)), (np.ones((3, 2)), np.ones(3))]
        assert monitor(batches, callbacks=[]).run.info.n_obs == 8

    def test_n_obs_of_the_user_wins(self, loader):
        assert monitor(loader, n_obs=1000, callbacks=[]).run.info.n_obs == 1000

    def test_a_loader_of_another_library(self):
        class Loader:
            dataset = range(7)
            batch_size = 4

            def __len__(self):
                return 2

            def __iter__(self):
                yield [np.ones((4, 2)), np.ones(4)]
                yield [np.ones((3, 2)), np.ones(3)]

        watch = monitor(Loader(), epochs=2, callbacks=[])
        for _X, y in watch:
            watch.step(y.sum())
        assert (watch.run.info.n_obs, watch.run.info.batch_size) == (7, 4)
        assert watch.run.column("rows").tolist() == [4, 3] * 2

    @pytest.mark.parametrize("source", [3, None])
    def test_what_is_no_source_is_refused(self, source):
        with pytest.raises(DataTypeError, match="iterable of batches"):
            monitor(source)

    @pytest.mark.parametrize("arguments", [{"epochs": 0}, {"n_obs": 0}, {"epochs": 1.5}])
    def test_numbers_that_are_not_allowed(self, arguments):
        with pytest.raises(ArgumentError):
            monitor([1.0], **arguments)

    def test_bytes_are_those_of_host_arrays(self):
        host = np.zeros((4, 2), np.float32)
        assert bytes_of(({"X": host, "y": jnp.zeros(4)}, 0)) == host.nbytes
        assert bytes_of([host, host]) == 2 * host.nbytes


class TestEarlyEnds:
    def test_stop_ends_the_loop_before_the_next_batch(self, spy):
        watch = monitor([1.0] * 100, epochs=5, callbacks=[spy])
        for i, batch in enumerate(watch):
            watch.step(batch)
            if i == 4:
                watch.run.control.stop("enough")
        assert (watch.run.status, watch.run.reason, watch.run.step) == ("stopped", "enough", 5)
        assert spy.events[-1] == "fit_end stopped"
        assert "epoch_end 1" not in spy.events

    def test_a_break_is_noticed(self, spy):
        watch = monitor([1.0] * 10, callbacks=[spy])
        for i, batch in enumerate(watch):
            if i == 3:
                break
            watch.step(batch)
        assert watch.run.status == "stopped"
        assert watch.run.reason == "the loop was left after step 3, by break, return or an error"
        assert watch.run.notes == []
        assert spy.events[-1] == "fit_end stopped"

    def test_an_error_in_a_block_is_reported_and_raised(self, spy):
        watch = monitor([1.0] * 9, callbacks=[spy])
        with pytest.raises(ZeroDivisionError):
            self.divide(watch)
        assert (watch.run.status, watch.run.step) == ("failed", 2)
        assert spy.events[-2:] == ["exception ZeroDivisionError", "fit_end failed"]

    @staticmethod
    def divide(watch):
        with watch:
            for i, batch in enumerate(watch):
                watch.step(batch / (2 - i))

    def test_an_interrupt_in_a_block_ends_it_quietly_and_keeps_all(self, spy):
        with monitor([1.0] * 9, callbacks=[spy]) as watch:
            for i, batch in enumerate(watch):
                watch.step(batch)
                if i == 5:
                    raise KeyboardInterrupt
        assert (watch.run.status, watch.run.reason) == ("interrupted", "interrupted after step 6")
        assert spy.events[-1] == "fit_end interrupted"

    def test_an_interrupt_without_a_block_passes_and_the_run_is_over(self, spy):
        watch = monitor([1.0] * 9, callbacks=[spy])
        with pytest.raises(KeyboardInterrupt):
            self.interrupted(watch)
        assert (watch.run.status, watch.run.step) == ("stopped", 4)
        assert spy.events[-1] == "fit_end stopped"

    @staticmethod
    def interrupted(watch):
        for i, batch in enumerate(watch):
            watch.step(batch)
            if i == 3:
                raise KeyboardInterrupt

    @pytest.mark.parametrize(
        ("error", "status"), [(KeyboardInterrupt, "interrupted"), (OSError, "failed")]
    )
    def test_an_error_of_the_loader_is_reported(self, spy, error, status):
        def batches():
            yield 1.0
            raise error

        watch = monitor(batches, callbacks=[spy])
        with pytest.raises(error):
            through(watch)
        assert (watch.run.status, watch.run.step) == (status, 1)

    def test_a_callback_that_raises_ends_the_run(self, spy):
        class Strict(Callback):
            def on_epoch_end(self, run, epoch):
                raise RuntimeError("not like this")

        watch = monitor([1.0], epochs=3, callbacks=[spy, Strict()])
        with pytest.raises(RuntimeError, match="not like this"):
            through(watch)
        assert watch.run.status == "failed"

    def test_a_block_whose_loop_never_began_is_nobody_s_run(self, spy):
        with monitor([1.0], callbacks=[spy]):
            pass
        assert spy.events == []


class TestSteering:
    def test_pause_holds_the_loop_and_is_no_stepping_time(self, spy):
        watch = monitor([1.0] * 4, callbacks=[spy])
        for i, batch in enumerate(watch):
            watch.step(batch)
            if i == 1:
                watch.run.control.pause()
                threading.Timer(0.5, watch.run.control.resume).start()
        assert [e for e in spy.events if e in ("pause", "resume")] == ["pause", "resume"]
        assert watch.run.elapsed_s > 0.49
        assert watch.run.column("seconds")[-1] < 0.4

    def test_a_checkpoint_comes_after_all_steps_so_far(self, spy):
        watch = monitor([1.0] * 6, callbacks=[spy])
        assert watch.run.control.can_checkpoint
        for i, batch in enumerate(watch):
            watch.step(batch)
            if i == 2:
                watch.run.control.checkpoint()
        assert "checkpoint at 3" in spy.events

    def test_the_rate_goes_to_the_loop_that_takes_it(self):
        rates = []
        watch = monitor([1.0, 2.0, 5.0], callbacks=[], set_learning_rate=rates.append)
        for batch in watch:
            watch.step(batch)
            watch.run.control.set_learning_rate(0.1 * batch)
        assert rates == [0.1, 0.2, 0.5]

    def test_a_loop_that_does_not_take_it_says_so(self):
        watch = monitor([1.0], callbacks=[])
        with pytest.raises(ArgumentError, match="set_learning_rate= to monitor"):
            watch.run.control.set_learning_rate(0.1)


class TestMisuse:
    def test_forgetting_the_loss_of_a_whole_epoch_is_an_error(self):
        with pytest.raises(CallError, match=r"2 of 2 batches had no loss: call watch\.step"):
            list(monitor([1.0, 2.0], epochs=2, callbacks=[]))

    def test_forgetting_some_is_noted(self):
        watch = monitor([1.0] * 5, callbacks=[])
        for i, batch in enumerate(watch):
            if i % 2:
                watch.step(batch)
        assert watch.run.notes == [
            "3 of 5 batches had no loss: call watch.step(loss) once for each."
        ]

    def test_a_loss_without_a_batch_is_an_error(self):
        watch = monitor([1.0], callbacks=[])
        with pytest.raises(CallError, match="no batch is waiting"):
            watch.step(1.0)
        for batch in watch:
            watch.step(batch)
            with pytest.raises(CallError, match="no batch is waiting"):
                watch.step(batch)

    @pytest.mark.parametrize("loss", [("state", 1.0), np.ones(3), jnp.ones((1,)), [1.0]])
    def test_a_loss_that_is_no_scalar_is_an_error_that_helps(self, loss):
        watch = monitor([1.0], callbacks=[])
        next(iter(watch))
        with pytest.raises(DataError, match="takes scalars"):
            watch.step(loss)

    def test_watching_twice_is_an_error(self):
        watch = monitor([1.0], callbacks=[])
        for batch in watch:
            watch.step(batch)
        with pytest.raises(CallError, match="watched already"):
            next(iter(watch))


class TestModels:
    def test_a_model_learns_the_rows_and_gives_its_names_and_parameters(self, loader, key):
        model = FakeModel()
        watch = monitor(loader, model=model, callbacks=[])
        assert (watch.run.info.model, model.n_obs) == ("wages", 10)
        assert watch.run.info.method == "SVI/AutoNormal, hand-written loop"
        assert watch.run.params == {}
        model._vi_state = "state"
        assert watch.run.params == {"w": "state"}

    def test_a_model_that_knows_its_rows_keeps_them(self, loader):
        model = FakeModel()
        model.n_obs = 77
        assert monitor(loader, model=model, callbacks=[]).run.info.n_obs == 77
        assert model.n_obs == 77

    @pytest.mark.parametrize(("model", "name"), [(None, "loop"), ("mine", "mine"), (len, "len")])
    def test_names(self, model, name):
        assert monitor([1.0], model=model, callbacks=[]).run.info.model == name


class AutoNormal:
    pass


class FakeModel:
    """The parts of an ImpactModel that a monitored loop uses."""

    n_obs = None
    _vi_state = None

    class inference:
        guide = AutoNormal()

        @staticmethod
        def get_params(state):
            return {"w": state}

    def __init__(self):
        self.kernel = wages


def wages(X, y=None):
    pass


class LowerRate(Callback):
    """Lowers the learning rate after 30 epochs."""

    def on_epoch_end(self, run, epoch):
        if epoch == 30:
            run.control.set_learning_rate(0.005)


@pytest.mark.slow
def test_an_impact_model_trained_by_hand_is_scaled_steered_and_fitted(key):
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal as Guide

    from aimz_lab.impact_model import ImpactModel
    from aimz_lab.inference.run.rates import settable_rate

    def linear(X, y=None):
        slope = numpyro.sample("slope", dist.Normal(0.0, 5.0))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=y)

    rng = np.random.default_rng(0)
    X = rng.normal(size=200).astype(np.float32)
    y = (2 * X + rng.normal(size=200)).astype(np.float32)
    optimizer = settable_rate(numpyro.optim.Adam, 0.1)
    im = ImpactModel(linear, key, svi=SVI(linear, Guide(linear), optimizer, Trace_ELBO()))
    loader = ArrayLoader(ArrayDataset(X=X, y=y), key, batch_size=50, shuffle=True)
    watch = monitor(loader, epochs=50, model=im, callbacks=[LowerRate()])
    for batch, _ in watch:
        _, loss = im.train_on_batch(**batch)
        watch.step(loss)
    assert im.n_obs == 200
    assert watch.run.learning_rate == pytest.approx(0.005)
    rates = watch.run.column("learning_rate")
    np.testing.assert_allclose(rates, [0.1] * 120 + [0.005] * 80, rtol=1e-6)
    assert watch.run.params["slope_auto_loc"] == pytest.approx(2.0, abs=0.25)
    # The loss is that of all rows: about 1.4 nats each at unit noise.
    assert watch.run.losses[-50:].mean() / 200 == pytest.approx(1.42, abs=0.15)


def test_a_watch_is_shown_as_its_run_is():
    watch = monitor([1.0, 2.0], model="demo", callbacks=[])
    for batch in watch:
        watch.step(batch)
    assert repr(watch).startswith("<Watch demo (hand-written loop): completed, ")
    assert watch._repr_html_() == watch.run._repr_html_()


def test_a_loss_that_is_not_finite_is_told_once():
    watch = monitor([1.0, 1.0, np.nan, 1.0, np.nan], model="demo", callbacks=[])

    def loop():
        for loss in watch:
            watch.step(loss)

    with pytest.warns(FitWarning, match="The loss was nan at step 3. A loop should") as warned:
        loop()
    assert len(warned) == 1
    assert watch.run.notes == [str(warned[0].message)]
    assert watch.run.status == "completed"
