"""A table of one's own, as it comes: labelled rows, mixed columns, categories, gaps."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pytest

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from aimz_lab.errors import CallError, DataError, DataTypeError, FitWarning, SiteError
from aimz_lab.lab import EarlyStopping
from tests.runs import regression_model

N_DAYS = 40


def shop(X, promo, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0).expand([X.shape[1]]).to_event(1))
    lift = numpyro.sample("lift", dist.Normal(0.0, 5.0))
    with numpyro.plate("day", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slope + lift * promo, 1.0), obs=y)


@pytest.fixture
def table(rng):
    days = pd.date_range("2025-03-01", periods=N_DAYS, name="day")
    return pd.DataFrame(
        {
            "warm": rng.normal(size=N_DAYS),
            "visitors": rng.poisson(3, N_DAYS),
            "store": pd.Categorical(rng.choice(["north", "south"], N_DAYS)),
            "promo": rng.random(N_DAYS) < 0.5,
            "sales": rng.normal(size=N_DAYS),
        },
        index=days,
    )


@pytest.fixture
def im():
    return regression_model(kernel=shop)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
def test_indicators_train_and_results_carry_the_labels(im, table):
    X = pd.get_dummies(table[["warm", "visitors", "store"]])
    im.fit(X, table["sales"], promo=table["promo"], epochs=2, progress=False)
    predicted = im.predict(X, promo=table["promo"], progress=False).posterior_predictive
    assert predicted.y.sel(day="2025-03").sizes["day"] == 31


def test_categories_text_and_gaps_are_named(im, table):
    with pytest.raises(DataTypeError, match=r"Column 'store'.*get_dummies"):
        im.fit(table[["warm", "store"]], table["sales"], promo=table["promo"], progress=False)
    table.loc[table.index[5], "warm"] = np.nan
    with pytest.raises(DataError, match=r"row 5.*allow_nonfinite"):
        im.fit(table[["warm"]], table["sales"], promo=table["promo"], progress=False)
    assert not im.is_fitted()


@pytest.mark.parametrize("column", ["sales", "promo"])
def test_rows_that_do_not_belong_together_are_refused(im, table, column):
    shuffled = {column: table[column].sample(frac=1, random_state=0)}
    columns = {name: shuffled.get(name, table[name]) for name in ("sales", "promo")}
    with pytest.raises(DataError, match=r"label their rows differently.*\.loc\["):
        im.fit(table[["warm"]], columns["sales"], promo=columns["promo"], progress=False)
    assert not im.is_fitted()


def test_labels_of_another_kind_are_others(im, table):
    numbered = table["sales"].set_axis(np.arange(N_DAYS) + 7)
    with pytest.raises(DataError, match="label their rows differently"):
        im.fit(table[["warm"]], numbered, promo=table["promo"], progress=False)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
@pytest.mark.parametrize("kind", ["pandas", "polars", "loader"])
def test_columns_that_were_not_trained_on_are_refused(im, table, kind):
    kinds = {
        "pandas": lambda X: X,
        "polars": lambda X: pl.DataFrame({name: X[name].to_numpy() for name in X}),
        "loader": lambda X: ArrayLoader(
            ArrayDataset(X=X, y=table["sales"], promo=table["promo"]), jax.random.key(0)
        ),
    }
    X = table[["warm", "visitors"]]
    given, rest = kinds[kind](X), {}
    if kind in ("pandas", "polars"):
        rest = {"promo": table["promo"].to_numpy()}
        im.fit(given, table["sales"].to_numpy(), **rest, epochs=2, progress=False)
    else:
        im.fit(given, epochs=2, progress=False)
    im.predict(given, **rest, progress=False)
    im.predict(X.to_numpy()[:, ::-1], promo=table["promo"].to_numpy(), progress=False)
    for other in (X[["visitors", "warm"]], X.rename(columns={"warm": "cold"})):
        with pytest.raises(DataError, match=r"trained on warm, visitors.*X\[\['warm', 'visitors'"):
            im.predict(kinds[kind](other), **rest, progress=False)


@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
@pytest.mark.slow
def test_a_stored_model_knows_its_columns(im, table, tmp_path):
    X, promo = table[["warm", "visitors"]], table["promo"]
    im.fit(X, table["sales"], promo=promo, epochs=2, progress=False)
    loaded = ImpactModel.load(im.save(tmp_path / "model"), shop, im.inference)
    loaded.predict_on_batch(X, promo=promo)
    with pytest.raises(DataError, match="trained on warm, visitors"):
        loaded.predict_on_batch(X[["visitors", "warm"]], promo=promo)


@pytest.mark.slow
@pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape
def test_what_a_newcomer_gets_wrong_is_said_in_words_of_the_call(im, table):
    X, y, promo = table[["warm", "visitors"]], table["sales"], table["promo"]

    def fit(**options):
        return im.fit(X, y, promo=promo, epochs=1, progress=False, **options)

    with pytest.raises(CallError, match=r"callbacks=\[EarlyStopping\(\.\.\.\)\]"):
        fit(callbacks=EarlyStopping())
    with pytest.raises(CallError, match=r"'promo'.*validation=\{'X': \.\.\., 'y': \.\.\., "):
        fit(validation=(X, y))
    with pytest.warns(FitWarning, match="rows that the model is trained on"):
        fit(validation={"X": X, "y": y, "promo": promo})
    assert len(im.last_run.validation) == 1
    with pytest.raises(SiteError, match=r"argument of the kernel and not a site.*promo=\.\.\."):
        im.predict(X, promo=promo, intervention={"promo": 1}, progress=False)
    with pytest.raises(DataError, match=r"columns warm, visitors.*X\.iloc\[\[0\]\]"):
        im.predict(X.iloc[0], promo=[1.0, 1.0], progress=False)
    assert im.predict_on_batch(X.iloc[[0]], promo=[1.0]).posterior_predictive.y.shape[-1] == 1
