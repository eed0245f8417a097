"""Columns of the training data: their order and their range, and new rows far outside of it."""

from __future__ import annotations

import warnings

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import HMC, MCMC

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from aimz_lab.data import as_source
from aimz_lab.errors import DataError, OutputWarning
from aimz_lab.inference.feeds.ranges import ColumnRange, ranges_of
from aimz_lab.inference.feeds.training_data import TrainingData
from tests.runs import mean_field, mean_field_model

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

RNG = np.random.default_rng(3)
SCALED = RNG.normal(size=(60, 2)).astype(np.float32)
Y = SCALED.sum(1)
RAW = np.float32([[41.0, 30_000.0]])
NAMED = {"columns": ["age", "income"]}


def slopes(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ b, 1.0), obs=y)


def batches():
    for start in range(0, 60, 20):
        yield {"X": SCALED[start : start + 20], "y": Y[start : start + 20]}


def quiet(call, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call(*args, **options)


@pytest.fixture(scope="module")
def im():
    with jax.numpy_rank_promotion("allow"):
        return mean_field_model(slopes).fit(
            pd.DataFrame(SCALED, **NAMED), Y, num_samples=5, progress=False
        )


@pytest.mark.slow
def test_unscaled_rows_are_warned_about_by_column(im):
    said = r"column 'age' of X goes from 41 to 41, in training from -\d.*'income'.*scale these rows"
    for in_sample in (True, False):
        with pytest.warns(OutputWarning, match=said) as caught:
            im.predict(RAW, in_sample=in_sample, progress=False, store="memory")
        assert len(caught) == 1
    with pytest.warns(OutputWarning, match=said):
        im.predict_on_batch(pd.DataFrame(RAW, **NAMED))
    with pytest.warns(OutputWarning, match=said):
        im.estimate_effect(args_baseline={"X": RAW}, args_intervention={"X": RAW})
    with pytest.warns(OutputWarning, match=r"y goes from -900 to -900"):
        im.log_likelihood(SCALED[:1], np.float32([-900]), progress=False, store="memory")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loader", "stream"])
def test_rows_of_a_loader_and_of_a_stream_are_watched(im, kind):
    near, far = np.zeros((300, 2), np.float32), np.repeat(RAW, 300, 0)
    rows = np.concatenate([near, far])
    data = ArrayLoader(ArrayDataset(X=rows), jax.random.key(0), batch_size=300, shuffle=False)
    if kind == "stream":
        data = [{"X": near}, {"X": far}]
    with pytest.warns(OutputWarning, match="column 'income' of X") as caught:
        im.predict(data, progress=False, store="memory")
    assert len(caught) == 1


@pytest.mark.slow
def test_ordinary_extrapolation_is_quiet(im):
    width = SCALED.max(0) - SCALED.min(0)
    quiet(im.predict_on_batch, SCALED)
    quiet(im.predict_on_batch, SCALED + 4 * width)
    with pytest.warns(OutputWarning, match="far outside"):
        im.predict_on_batch(SCALED + 6 * width)
    quiet(im.sample_prior_predictive_on_batch, RAW, num_samples=3)
    quiet(im.predict_on_batch, np.full((2, 2), np.nan, np.float32), allow_nonfinite=True)


@pytest.mark.slow
def test_a_stored_model_knows_its_range(im, tmp_path):
    loaded = ImpactModel.load(im.save(tmp_path / "model"), slopes, mean_field(slopes))
    with pytest.warns(OutputWarning, match="column 'income' of X goes from 30,000 to 30,000"):
        loaded.predict_on_batch(RAW)
    assert loaded.describe()["trained_on"] == im.describe()["trained_on"]


def two_steps(kernel):
    """A sampler that compiles in a third of the time that NUTS takes."""
    return HMC(kernel, num_steps=2, trajectory_length=None)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["loader", "stream", "steps", "mcmc"])
def test_each_way_of_training_keeps_the_range(how):
    im = mean_field_model(slopes)
    options = {"num_samples": 5, "progress": False}
    if how == "loader":
        loader = ArrayLoader(ArrayDataset(X=SCALED, y=Y), jax.random.key(0), batch_size=20)
        im.fit(loader, **options)
    elif how == "stream":
        im.fit(batches, n_obs=60, **options)
    elif how == "mcmc":
        sampler = MCMC(two_steps(slopes), num_warmup=5, num_samples=5, progress_bar=False)
        im = ImpactModel(slopes, jax.random.key(0), sampler).fit_on_batch(SCALED, Y, progress=False)
    else:
        for batch in batches():
            im.train_on_batch(**batch, n_obs=60)
    ranges = im.input_schema.ranges["X"]
    np.testing.assert_array_equal(ranges.low, SCALED.min(0))
    np.testing.assert_array_equal(ranges.high, SCALED.max(0))


def test_small_batches_of_a_stream_are_measured_together_and_none_is_left_out():
    rows = RNG.normal(size=(6_000, 40)).astype(np.float32)
    source = as_source([{"X": rows[at : at + 50]} for at in range(0, 6_000, 50)])
    data = TrainingData.of_stream(source, {}, {})
    for count, _ in enumerate(data.source.epoch(0), 1):
        if count in (1, 77, 120):
            np.testing.assert_array_equal(data.ranges["X"].low, rows[: 50 * count].min(0))
    np.testing.assert_array_equal(data.ranges["X"].high, rows.max(0))


@pytest.mark.parametrize(
    "array",
    [
        RNG.normal(size=(5000, 3)),
        RNG.normal(size=(5000, 3)).T.copy().T,
        RNG.normal(size=5001),
        RNG.integers(-9, 9, (4097, 2, 2)),
        np.where(RNG.random((3000, 2)) < 0.1, np.nan, RNG.normal(size=(3000, 2))),
        np.where(RNG.random((3000, 2)) < 0.1, np.inf, RNG.normal(size=(3000, 2))),
        jax.numpy.arange(12.0).reshape(4, 3),
        np.ones((1, 2)),
    ],
)
def test_the_range_is_that_of_the_finite_values(array):
    ends = ColumnRange.of(array)
    finite = np.where(np.isfinite(array), array, np.nan)
    np.testing.assert_array_equal(ends.low, np.nanmin(finite, 0))
    np.testing.assert_array_equal(ends.high, np.nanmax(finite, 0))


def test_flags_columns_without_numbers_and_very_many_columns():
    assert not ranges_of({"flag": np.ones(3, bool)})
    gap = ColumnRange.of(np.full((3, 1), np.nan))
    assert not gap.far(ColumnRange.of(np.full((3, 1), 1e9))).any()
    assert ColumnRange.of(np.arange(10_000.0).reshape(2, 5000)).high == 9999
    constant = ColumnRange.of(np.full((3, 2), [0.0, 100.0]))
    assert constant.far(ColumnRange.of(np.array([[4.0, 550.0]]))).tolist() == [False, False]
    assert constant.far(ColumnRange.of(np.array([[41.0, 700.0]]))).tolist() == [True, True]


@pytest.mark.slow
def test_columns_in_another_order_are_refused_wherever_they_come_from(im):
    table = pd.DataFrame(SCALED, **NAMED)
    turned = table[["income", "age"]]
    for X in (turned, {"X": turned}, ArrayDataset(X=turned), table.set_axis([1, 0], axis=1)):
        with pytest.raises(DataError, match="trained on age, income"):
            im.predict_on_batch(X)
    quiet(im.predict_on_batch, table.set_axis([0, 1], axis=1))  # nobody named these
    cube = turned.to_xarray().to_dataarray("column").T
    with pytest.raises(DataError, match="trained on age, income"):
        im.predict_on_batch(cube)
    with pytest.raises(DataError, match="trained on age, income"):
        im.predict([{"X": turned}], progress=False, store="memory")
    with pytest.raises(DataError, match="trained on age, income"):
        im.fit(table, Y, validation=(turned, Y), progress=False)


@pytest.mark.slow
def test_a_step_on_columns_in_another_order_is_refused():
    im = mean_field_model(slopes)
    table = pd.DataFrame(SCALED, columns=[0, 1])
    im.train_on_batch(table, Y, n_obs=60)
    with pytest.raises(DataError, match="trained on 0, 1"):
        im.train_on_batch(table[[1, 0]], Y)


@pytest.mark.slow
def test_a_lookup_table_in_another_order_is_refused():
    def lookup(X, size, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(b * size[X], 1.0), obs=y)

    size = pd.Series([1.0, 2.0, 3.0], index=["north", "south", "west"])
    code = np.arange(60) % 3
    im = mean_field_model(lookup).fit(code, Y, size=size, num_samples=5, progress=False)
    quiet(im.predict_on_batch, code, size=size)
    with pytest.raises(DataError, match="argument 'size' are west, south, north"):
        im.predict_on_batch(code, size=size[::-1])


@pytest.mark.slow
def test_observed_data_is_that_of_the_labelled_rows():
    def constant(X, y=None):
        m = numpyro.sample("m", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(m + 0.0 * X, 1.0), obs=y)

    X = pd.Series(np.zeros(3), index=list("abc"))
    im = mean_field_model(constant).fit(X, X + np.arange(1, 4), num_samples=5, progress=False)
    assert im.predict_on_batch(X).observed_data.y.sel(row="c") == 3
    assert "observed_data" not in im.predict_on_batch(X[::-1])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fit", "fit_on_batch", "train_on_batch", "log_likelihood", "mcmc"])
def test_outputs_labelled_otherwise_are_refused_by_each_method(im, how):
    X = pd.DataFrame(SCALED, **NAMED)
    y = pd.Series(Y)[::-1]
    if how == "mcmc":
        sampler = MCMC(two_steps(slopes), num_warmup=5, num_samples=5, progress_bar=False)
        call = ImpactModel(slopes, jax.random.key(0), sampler).fit_on_batch
    else:
        call = getattr(im if how == "log_likelihood" else mean_field_model(slopes), how)
    for rows, outputs in ((X, y), (X[::-1], pd.Series(Y))):
        with pytest.raises(DataError, match="'X' and 'y' label their rows differently"):
            call(rows, outputs)
    if how == "fit":
        with pytest.raises(DataError, match="'X' and 'y' label their rows differently"):
            call(X, Y, validation=(X, y))


@pytest.mark.slow
def test_draws_by_row_belong_to_their_rows():
    def effects(X, y=None):
        with numpyro.plate("row", X.shape[0]):
            a = numpyro.sample("a", dist.Normal(0.0, 1.0))
            numpyro.sample("y", dist.Normal(a + X, 1.0), obs=y)

    X = pd.Series(np.zeros(4), index=list("abcd"))
    im = mean_field_model(effects)
    im.fit_on_batch(X, X, num_steps=2, num_samples=5, progress=False)
    options = {"shard_axis": "draw", "store": "memory", "progress": False}
    im.predict(X, **options)
    with pytest.raises(DataError, match=r"one value per row of 'a', and row 0 was a in training"):
        im.predict(X[::-1], **options)


@pytest.mark.slow
def test_outputs_with_columns_in_another_order_are_refused():
    def two(X, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(X * b[None], 1.0).to_event(1), obs=y)

    y = pd.DataFrame(SCALED, columns=["sales", "visits"])
    im = mean_field_model(two).fit(SCALED, y, num_samples=5, progress=False)
    im.log_likelihood(SCALED, y, progress=False, store="memory")
    with pytest.raises(DataError, match="trained on sales, visits"):
        im.log_likelihood(SCALED, y[["visits", "sales"]], progress=False)
    with pytest.raises(DataError, match="trained on sales, visits"):
        im.fit(SCALED, y, validation=(SCALED, y[["visits", "sales"]]), progress=False)
