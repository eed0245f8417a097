"""The record of a long run is bounded, and says the same however the run came about."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest

from aimz_lab import Control, RunInfo, Steps
from aimz_lab.inference.run.buckets import EXACT_STEPS
from aimz_lab.inference.run.chain_record import ChainPlan, ChainRecord
from aimz_lab.inference.run.events import Callbacks, Run
from aimz_lab.lab.callbacks import EarlyStopping
from tests.runs import same_bits

N = 300_000
WIDTH = 4
PER_EPOCH = 77


def values_of(first, last):
    """The values of steps ``first`` to ``last``, each from its number alone."""
    step = np.arange(first, last + 1)
    noise = np.sin(step * 12.9898) * 43758.5453 % 1
    loss = np.where(step % 1009 == 0, np.nan, 5 + 100 / step + noise)
    return {
        "epoch": ((step - 1) // PER_EPOCH + 1).astype(np.int32),
        "loss": np.where(step == 123_456, 1e6, loss).astype(np.float32),
        "rows": (8 - step % 3).astype(np.int32),
        "n_pad": (step % 3).astype(np.int32),
        "metrics": {"grad_norm": np.where(step % 500 == 1, np.inf, noise).astype(np.float32)},
    }


def new_run(**info):
    info = {"n_obs": 10, "steps_per_epoch": PER_EPOCH, **info}
    return Run(RunInfo("kernel", "SVI/AutoNormal", **info), control=Control())


def record(run, last, *, chunk, seconds=0.01):
    """Record the steps up to ``last``, in chunks; each ends at the time that its steps took."""
    while run.step < last:
        end = min(run.step + chunk, last)
        took = seconds * (end - run.step)
        run.record(
            Steps(run.step + 1, seconds=took, learning_rate=0.5, **values_of(run.step + 1, end))
        )


@pytest.fixture(scope="module")
def long():
    run = new_run()
    record(run, N, chunk=1_000)
    return run


def by_bucket(values, run):
    return np.split(values, np.cumsum(run.bucket_steps)[:-1])


def test_every_loss_is_there(long):
    assert long.step == N
    np.testing.assert_array_equal(long.losses, values_of(1, N)["loss"])


def test_up_to_the_limit_every_value_is_there():
    run = new_run()
    record(run, EXACT_STEPS, chunk=5_000)
    wanted = values_of(1, EXACT_STEPS)
    wanted |= wanted.pop("metrics")
    for name, values in wanted.items():
        assert same_bits(run.column(name), values), name
    assert (run.bucket_steps == 1).all()
    assert same_bits(run.lowest("loss"), wanted["loss"])
    assert set(run.table()) == {*run.columns, *run.metrics, "bucket_steps"}


def test_beyond_it_buckets_are_numpys_of_their_steps(long):
    wanted = values_of(1, N)
    assert len(long.bucket_steps) <= EXACT_STEPS + WIDTH
    assert set(long.bucket_steps[: N // WIDTH]) == {WIDTH}
    for name in ("rows", "n_pad"):
        sums = [part.sum() for part in by_bucket(wanted[name], long)]
        np.testing.assert_array_equal(long.column(name), sums)
    ends = np.cumsum(long.bucket_steps)
    np.testing.assert_array_equal(long.column("epoch"), wanted["epoch"][ends - 1])
    np.testing.assert_allclose(long.column("seconds"), np.ceil(ends / 1000) * 10)
    np.testing.assert_array_equal(long.column("learning_rate"), 0.5)
    for name, values in (("loss", wanted["loss"]), ("grad_norm", wanted["metrics"]["grad_norm"])):
        parts = np.ma.masked_invalid(np.reshape(values, (-1, WIDTH)).astype(float))
        np.testing.assert_allclose(long.column(name), parts.mean(1), rtol=1e-12)
        np.testing.assert_array_equal(long.lowest(name), parts.min(1))
        np.testing.assert_array_equal(long.highest(name), parts.max(1))
    assert long.highest("loss").max() == 1e6  # no spike is lost
    np.testing.assert_array_equal(long.highest("n_pad"), 2)
    table = long.table()
    assert {len(values) for values in table.values()} == {len(long.bucket_steps)}
    np.testing.assert_array_equal(table["loss_high"], long.highest("loss"))
    np.testing.assert_array_equal(table["grad_norm_low"], long.lowest("grad_norm"))


def test_only_measured_values_have_extremes(long):
    for name in ("epoch", "rows", "seconds", "nonsense"):
        with pytest.raises(KeyError, match=name):
            long.lowest(name)


def test_rates_count_steps_and_not_buckets(long):
    assert long.stepping_s == pytest.approx(0.01 * N)
    assert long.steps_per_s == pytest.approx(100)
    assert long.rows_per_s == pytest.approx(700, rel=0.01)


@pytest.mark.parametrize("at", [100_000, 200_003])
def test_a_resumed_run_ends_with_the_same_history(long, at):
    before, after = new_run(), new_run()
    record(before, at, chunk=777)
    after.take_over(*before.kept())
    assert (after.step, after.resumed_at, after.epoch) == (at, at, before.epoch)
    record(after, N, chunk=3_001)
    for one, other in zip(after.kept(), long.kept(), strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"seconds"}:  # these tell the chunks
            assert same_bits(one[name], other[name]), name


def test_a_history_that_does_not_fit_together_is_refused(long):
    columns, metrics = long.kept()
    for name in ("epoch", "rows", "n_pad", "seconds", "learning_rate"):
        with pytest.raises(ValueError, match=f"{N} steps are kept in the shape"):
            new_run().take_over({**columns, name: columns[name][:-1]}, metrics)
    with pytest.raises(ValueError, match=f"{N} steps are kept in the shape"):
        new_run().take_over(columns, {"grad_norm": metrics["grad_norm"][1:]})


def test_a_stop_for_lack_of_progress_comes_at_the_same_step():
    """The losses are exact, so a long run is judged like a short one, resumed or not."""

    def judged(run, last, chunk):
        callbacks = Callbacks([EarlyStopping(patience=2600)], run)
        callbacks.emit("on_fit_begin")
        while run.step < last and run.control.stop_request is None:
            end = min(run.step + chunk, last)
            steps = Steps(run.step + 1, seconds=0.1, **values_of(run.step + 1, end))
            run.record(steps)
            callbacks.steps_end(steps, ())
        return run

    whole = judged(new_run(), N, PER_EPOCH)
    assert EXACT_STEPS < whole.step < N
    before, after = judged(new_run(), 1950 * PER_EPOCH, 770), new_run()
    after.take_over(*before.kept())
    assert judged(after, N, PER_EPOCH).step == whole.step


def test_memory_of_all_but_the_losses_is_bounded():
    def used(last):
        tracemalloc.start()
        run = new_run()
        record(run, last, chunk=50_000)
        now = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return now, sum(kept.nbytes for part in run.kept() for kept in part.values())

    (short, short_kept), (long, long_kept) = used(250_000), used(8 * 250_000)
    more = 7 * 250_000
    assert long - short < 5.2 * more  # the losses, and a quarter of them to grow into
    assert long_kept - short_kept == pytest.approx(4 * more, abs=2_000)  # what a checkpoint has
    assert short < 20 * 2**20


def test_another_thread_reads_a_whole_table_while_the_run_goes_on():
    run = new_run()
    writer = threading.Thread(target=record, args=(run, N), kwargs={"chunk": 500})
    writer.start()
    seen = []
    while writer.is_alive():
        table = run.table()
        assert len({len(values) for values in table.values()}) == 1
        seen.append(int(table["bucket_steps"].sum()))
        if seen[-1]:
            assert table["epoch"][-1] == -(-seen[-1] // PER_EPOCH)
            assert table["n_pad"].sum() == values_of(1, seen[-1])["n_pad"].sum()
    writer.join()
    assert seen == sorted(seen)


ITERATIONS, WARMUP, CHAINS = 40_000, 10_001, 3


@pytest.fixture(scope="module")
def chains():
    """The record of three long chains, and what they reported."""
    values = np.random.default_rng(0).normal(size=(ITERATIONS, CHAINS)).astype(np.float32)
    plan = ChainPlan(CHAINS, WARMUP, ITERATIONS - WARMUP, thinning=10)
    record = ChainRecord(plan, {}, lambda *_: None)
    for start in range(0, ITERATIONS, 999):
        part = values[start : start + 999]
        record.extend({"potential_energy": part, "diverging": part > 2}, len(part))
    return record, values


def test_buckets_of_chains_are_those_of_each_chain(chains):
    record, values = chains
    sizes = record.bucket_iterations
    assert sizes.sum() == record.iterations == ITERATIONS
    assert len(sizes) < 2**14 + 4
    parts = values.reshape(-1, sizes[0], CHAINS)
    energies = record.column("potential_energy")
    np.testing.assert_allclose(energies, parts.mean(1, dtype=float), rtol=1e-12, atol=1e-15)
    after = np.cumsum(sizes) - sizes >= WARMUP
    np.testing.assert_array_equal(record.sampling("diverging"), record.column("diverging")[after])


def test_counts_and_means_of_chains_since_the_warmup_are_exact(chains):
    record, values = chains
    since = values[WARMUP:]
    np.testing.assert_array_equal(record.divergences, (since > 2).sum(0))
    energies = record.mean("potential_energy")
    np.testing.assert_allclose(energies, since.mean(0, dtype=float), rtol=1e-9)
    np.testing.assert_array_equal(record.last("potential_energy"), values[-1])


def test_during_the_warmup_the_mean_is_that_of_the_latest_iterations():
    values = np.arange(200, dtype=np.float32).reshape(100, 2)
    record = ChainRecord(ChainPlan(2, 1000, 1000), {}, lambda *_: None)
    record.extend({"n_steps": values}, 100)
    np.testing.assert_array_equal(record.mean("n_steps"), values[-50:].mean(0))
    assert len(record.sampling("n_steps")) == 0
