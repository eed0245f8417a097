"""The compiled chunks: the same run however it is cut, and nothing compiled twice."""

from __future__ import annotations

import dataclasses
import functools
import gc

import jax
import numpy as np
import numpyro
import optax
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel, settable_rate
from aimz_lab.data import as_source, epoch_order
from aimz_lab.errors import CallError, DataError, DataTypeError
from aimz_lab.inference.compiling import FULL, QUICK
from aimz_lab.inference.feeds.feed import Position
from aimz_lab.inference.feeds.index_feed import INDEX_BYTES, IndexFeed
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.feeds.stream_feed import StreamFeed
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.svi import run_setup
from tests import kernels
from tests.runs import STILL, compilations

# A guide draws with a sample shape, which NumPyro broadcasts over ranks.
pytestmark = pytest.mark.allow_rank_promotion

N, B = 90, 20
X, Y = kernels.regression_data(N, 3, seed=5)


def model(kernel=kernels.regression, optimizer=None, seed=0, **options):
    optimizer = optimizer or numpyro.optim.Adam(0.05)
    svi = SVI(kernel, AutoNormal(kernel), optimizer, Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(seed), svi=svi, **options)


def losses(im=None, data=(X, Y), **options):
    options = {"batch_size": B, "epochs": 7, "num_samples": 1, "progress": False} | options
    return (im or model()).fit(*data, **options).last_run.losses.copy()


@functools.cache
def expected_losses():
    """Losses of a new model on the arrays, as most tests here expect them."""
    return losses()


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_call", [1, 3, 35, 10_000])
def test_losses_are_bitwise_the_same_for_any_chunk_size(steps_per_call):
    np.testing.assert_array_equal(losses(steps_per_call=steps_per_call), expected_losses())


@pytest.mark.slow
def test_full_batches_are_numpyros_own_steps():
    im = model().fit_on_batch(X, Y, num_steps=40, num_samples=1, progress=False)
    svi = im.inference
    begin = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 3)[0]
    expected = svi.run(begin, 40, X, y=Y, progress_bar=False).losses
    np.testing.assert_allclose(im.last_run.losses, expected, rtol=1e-4)


@pytest.mark.slow
def test_a_first_fit_compiles_setup_steps_parameters_and_draws_and_nothing_twice():
    def kernel(X, y=None):  # of names that no other test has compiled programs for
        first = numpyro.sample("first", numpyro.distributions.Normal(0, 2.0))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", numpyro.distributions.Normal(X[:, 0] * first, 1.0), obs=y)

    im = model(kernel)
    with compilations() as seen:
        losses(im, num_samples=50)
    assert len(seen) == 4


@pytest.mark.slow
def test_a_second_fit_with_the_same_shapes_compiles_nothing():
    im = model()
    losses(im, num_samples=50)
    with compilations() as seen:
        losses(im, num_samples=50, epochs=11)
    assert seen == []


def test_steps_on_small_data_are_compiled_quickly_however_many_they_are():
    im = model()
    few = losses(im)
    with compilations() as seen:
        losses(im, epochs=1000)
    assert seen == []
    np.testing.assert_array_equal(losses(epochs=1000)[: len(few)], few)


def test_what_is_spent_on_compiling_follows_from_the_data_alone():
    data = TrainingData.of_rows({"X": X, "y": Y}, {}, {}, jax.random.key(0), 10, True, None)
    assert run_setup.compiler_effort(data) == QUICK
    many = dataclasses.replace(data, n_obs=1_000_000)
    assert run_setup.compiler_effort(many) == FULL
    assert run_setup.compiler_effort(dataclasses.replace(data, n_obs=None)) == FULL


@pytest.mark.slow
def test_another_value_of_a_static_argument_compiles_and_the_old_one_does_not_again():
    def kernel(X, power, y=None):
        beta = numpyro.sample("beta", numpyro.distributions.Normal(0, 2.0).expand([3]).to_event(1))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", numpyro.distributions.Normal(X**power @ beta, 1.0), obs=y)

    im = model(kernel)
    losses(im, power=1)
    losses(im, power=2)
    with compilations() as seen:
        losses(im, power=1)
    assert seen == []


@pytest.mark.slow
def test_a_loader_trains_as_its_arrays_do():
    key = jax.random.key(9)
    host = ArrayLoader(ArrayDataset(X=X, y=Y), key, batch_size=B, shuffle=True)
    device = ArrayLoader(ArrayDataset(X=X, y=Y, to_jax=True), key, batch_size=B, shuffle=True)
    stream = lambda epoch: (  # noqa: E731
        {"X": X[rows], "y": Y[rows]}
        for rows in np.split(epoch_order(N, key, epoch), range(B, N, B))
    )
    expected = losses(data=(host,), batch_size=None)
    np.testing.assert_allclose(losses(data=(device,), batch_size=None), expected, rtol=1e-5)
    # A stream does not tell that its order is random: its rows weigh alike over an epoch.
    in_order = losses(data=(stream,), batch_size=None, n_obs=N)
    whole = np.arange(len(expected)) % -(-N // B) == 0
    assert in_order.shape == expected.shape
    np.testing.assert_allclose(in_order[whole], expected[whole], rtol=0.3)


@pytest.mark.slow
def test_a_zarr_array_that_a_generator_reads_trains_as_memory_does(tmp_path):
    for name, array in {"X": X, "y": Y}.items():
        zarr.create_array(tmp_path / name, data=array, chunks=(B, *array.shape[1:]))
    stored = {name: zarr.open_array(tmp_path / name, mode="r") for name in ("X", "y")}

    def batches(epoch):
        for start in range(0, N, B):
            yield {name: array[start : start + B] for name, array in stored.items()}

    streamed = losses(data=(batches,), batch_size=None, n_obs=N)
    np.testing.assert_array_equal(streamed, losses(shuffle=False))


@pytest.mark.slow
def test_a_step_is_the_step_that_a_loop_by_hand_takes():
    loader = ArrayLoader(ArrayDataset(X=X, y=Y), jax.random.key(1), batch_size=B, shuffle=True)
    by_hand = model()
    by_hand.n_obs = N
    seen = [by_hand.train_on_batch(**batch)[1] for _ in range(3) for batch, _ in loader]
    fitted = losses(data=(loader,), batch_size=None, epochs=3)
    # The keys of the calls differ, so that only the size of the losses can be compared.
    assert np.shape(seen) == fitted.shape
    np.testing.assert_allclose(np.mean(seen), fitted.mean(), rtol=0.2)


def test_training_goes_on_from_the_state_that_is_there():
    im = model()
    first = losses(im, epochs=30)
    second = losses(im, epochs=30)
    assert second[0] < 0.7 * first[0]


@pytest.mark.slow
def test_accumulated_batches_are_one_large_batch():
    even = (X[:80], Y[:80])
    sgd = numpyro.optim.SGD(1e-4)
    together = model(optimizer=sgd).fit(
        *even, batch_size=80, epochs=1, shuffle=False, num_samples=1, progress=False
    )
    point = together.vi_result.params
    apart = model(optimizer=sgd).fit(
        *even, batch_size=20, accumulate=4, epochs=1, shuffle=False, num_samples=1, progress=False
    )
    begin = model(optimizer=sgd)
    begin.fit(*even, batch_size=20, accumulate=5, epochs=1, num_samples=1, progress=False)
    assert apart.last_run.step == 4
    for name, value in apart.vi_result.params.items():
        assert not np.array_equal(value, begin.vi_result.params[name])  # five were not reached
        # The guide's noise differs between the batches, which SGD's small step makes small.
        np.testing.assert_allclose(value, point[name], atol=0.02)


@pytest.mark.slow
def test_gradient_norms_are_those_of_the_gradient():
    class Norms(Callback):
        metrics = ("grad_norm",)

    im = model(optimizer=numpyro.optim.SGD(1e-3))
    begin = model(optimizer=STILL)
    begin.fit_on_batch(X, Y, num_steps=1, num_samples=1, progress=False)
    im.fit_on_batch(X, Y, num_steps=1, num_samples=1, progress=False, callbacks=[Norms()])
    before, after = (
        np.concatenate(
            [
                np.ravel(v)
                for v in jax.tree.leaves(m.inference.optim.get_params(m._vi_state.optim_state))
            ]
        )
        for m in (begin, im)
    )
    norm = np.linalg.norm(after - before) / 1e-3
    np.testing.assert_allclose(im.last_run.column("grad_norm")[0], norm, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: settable_rate(numpyro.optim.Adam, 0.05),
        lambda: settable_rate(numpyro.optim.ClippedAdam, 0.05, clip_norm=1e9),
        lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.05),
    ],
)
def test_a_settable_rate_takes_the_same_steps(optimizer):
    np.testing.assert_allclose(losses(model(optimizer=optimizer())), expected_losses(), rtol=2e-4)


@pytest.mark.slow
def test_validation_is_the_loss_per_row_of_the_held_out_rows():
    im = model(optimizer=STILL)
    held_out = kernels.regression_data(33, 3, seed=8)
    losses(im, validation=held_out, validation_every=3, epochs=7)
    steps, values = zip(*im.last_run.validation, strict=True)
    assert steps == (15, 30)
    assert values[0] == values[1]  # the noise is fixed, and SGD(0) does not move
    svi, state = im.inference, im._vi_state
    rows = {"X": held_out[0], "y": held_out[1]}

    def mean_loss(count, rows):
        keys = jax.random.split(jax.random.key(3), count)
        evaluate = jax.jit(jax.vmap(lambda k: svi.evaluate(state._replace(rng_key=k), **rows)))
        return np.mean(evaluate(keys))

    # The expected loss of 33 rows, of which each stands for N / 33 rows beside one prior.
    kl_and_rows = mean_loss(400, rows)
    zero = {name: 0 * array[:1] for name, array in rows.items()}
    none = mean_loss(50, zero) - 0.5 * np.log(2 * np.pi * kernels.NOISE_SD**2)
    expected = (none + (kl_and_rows - none) * N / 33) / N
    np.testing.assert_allclose(values[0], expected, rtol=0.35)


@settings(max_examples=30)
@given(
    n=st.integers(1, 60),
    batch=st.integers(1, 70),
    epochs=st.integers(1, 4),
    steps=st.integers(1, 9),
    align=st.integers(0, 2),
    multiple=st.sampled_from([1, 4]),
    padded=st.booleans(),
)
def test_a_feed_hands_out_every_row_once_an_epoch(n, batch, epochs, steps, align, multiple, padded):
    batch = min(batch, n)
    placement = Placement(None, multiple if padded else 1)
    rows = np.arange(n, dtype=np.int32)
    feed = IndexFeed(
        {"X": rows},
        lambda epoch: epoch_order(n, jax.random.key(1), epoch),
        batch_size=batch,
        epochs=epochs,
        placement=placement,
        padded=padded,
    )
    seen = [[] for _ in range(epochs)]
    ends, begins = [], []
    position = Position()
    while (chunk := feed.next(steps, align)) is not None:
        assert chunk.begin == position
        position = chunk.end
        begins += chunk.epoch_begins
        ends += chunk.epoch_ends
        assert 0 < len(chunk) <= steps
        if align:
            assert all(e % align or e == chunk.epoch[-1] for e in chunk.epoch_ends)
        for i in range(len(chunk)):
            batch_rows = np.asarray(chunk.feed["X"])[i]
            valid = chunk.valid[i]
            assert len(batch_rows) == valid + chunk.n_pad[i]
            assert (batch_rows[valid:] == batch_rows[valid - 1]).all()
            assert (chunk.rows_of(i) == batch_rows[:valid]).all()
            assert padded or chunk.n_pad[i] == 0
            seen[chunk.epoch[i] - 1] += batch_rows[:valid].tolist()
    assert begins == ends == list(range(1, epochs + 1))
    assert all(sorted(epoch) == list(range(n)) for epoch in seen)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices have their own memory")
def test_a_chunk_is_read_where_it_was_gathered():
    arrays = {"X": np.arange(300.0, dtype=np.float32).reshape(100, 3), "y": np.ones(100, bool)}
    feed = IndexFeed(
        arrays, lambda _: np.arange(100)[::-1], batch_size=10, epochs=3, placement=Placement()
    )
    chunks = []
    while chunk := feed.next(5, 0):
        chunks.append(chunk)
        for name, array in arrays.items():
            gathered = np.asarray(chunk.feed[name])[:5].reshape(50, *array.shape[1:])
            first = 50 * (1 - chunk.begin.batch // 5)
            np.testing.assert_array_equal(gathered, array[first : first + 50][::-1])
    assert len(chunks) == 6
    for name in arrays:
        # Copies that all live at once would lie in places of their own, not in the feed's buffers.
        assert len({chunk.feed[name].unsafe_buffer_pointer() for chunk in chunks}) < 6


def test_what_is_on_the_device_already_costs_a_chunk_little():
    feed = IndexFeed(
        {"X": jax.numpy.zeros((5_000, 20))},
        lambda _: np.arange(5_000),
        batch_size=1_000,
        epochs=1,
        placement=Placement(),
        resident=True,
    )
    chunk = feed.next(5, 0)
    assert len(chunk) == 5
    assert 5_000 * 4 <= chunk.nbytes <= INDEX_BYTES


@pytest.mark.slow
def test_a_run_that_is_kept_keeps_no_batches():
    im = model()
    gc.collect()
    gc.disable()  # what goes only when cycles are collected stays until then, run after run
    try:
        losses(im)
        feeds = [thing for thing in gc.get_objects() if type(thing) is IndexFeed]
    finally:
        gc.enable()
    assert im.last_run.step
    assert feeds == []


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    epochs=st.integers(1, 3),
    steps=st.integers(1, 5),
    padded=st.booleans(),
)
def test_a_stream_of_uneven_batches_loses_nothing(sizes, epochs, steps, padded):
    stops = np.cumsum(sizes)
    batches = [{"X": np.arange(stop - size, stop)} for size, stop in zip(sizes, stops, strict=True)]
    feed = StreamFeed(
        as_source(batches),
        batch_size=sizes[0],
        epochs=epochs,
        placement=Placement(),
        padded=padded,
    )
    seen, position = [], Position()
    while (chunk := feed.next(steps, 0)) is not None:
        assert chunk.begin == position
        position = chunk.end
        for i in range(len(chunk)):
            seen += np.asarray(chunk.feed["X"])[i][: chunk.valid[i]].tolist()
    assert seen == list(range(stops[-1])) * epochs
    assert position == Position(epochs)


@pytest.mark.slow
def test_held_out_rows_may_come_in_any_form():
    held_out = kernels.regression_data(33, 3, seed=8)
    rows = {"X": held_out[0], "y": held_out[1]}
    dataset = ArrayDataset(**rows)
    forms = [
        held_out,
        dataset,
        ArrayLoader(dataset, jax.random.key(0), batch_size=7),
        [{name: array[i : i + 10] for name, array in rows.items()} for i in range(0, 33, 10)],
    ]
    seen = []
    for form in forms:
        im = model(optimizer=STILL)
        losses(im, validation=form, epochs=1)
        seen.append(im.last_run.validation)
    assert seen[0] == seen[1] == seen[2] == seen[3]


@pytest.mark.parametrize("form", [lambda **rows: tuple(rows.values()), dict, ArrayDataset])
def test_held_out_values_that_are_not_finite_are_refused(form):
    with pytest.raises(DataError, match="'y' has 1 row with NaN"):
        losses(validation=form(X=X, y=np.where(np.arange(N) == 7, np.nan, Y)))


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True])
def test_held_out_rows_of_another_shape_are_refused_before_the_first_step(trained):
    im = model()
    if trained:
        losses(im)
    key, run, before = im.rng_key, im.last_run, im._vi_state
    constrain = im.inference.constrain_fn
    with pytest.raises(DataError, match=r"cannot be computed.*'X' has rows of shape \(4,\) here"):
        losses(im, validation=(np.ones((30, 4)), Y[:30]))
    assert im.rng_key == key
    assert im.last_run is run
    assert im._vi_state is before
    assert im.inference.constrain_fn is constrain
    assert len(losses(im)) == 35


@pytest.mark.parametrize("wrong", [held := np.ones(3), {"X": 1}, 7, (held,)])
def test_held_out_data_of_another_form_is_refused(wrong):
    with pytest.raises((CallError, DataError, DataTypeError)):
        losses(validation=wrong)
