"""Labels of what a call sets, draws and compares: aligned with its rows and columns, or refused."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

from aimz_lab import ArrayDataset, ArrayLoader
from aimz_lab.errors import CallError, DataError, DataTypeError
from tests.runs import mean_field_model

N = 5
LABELS = pd.Index(list("abcde"), name="day")
X = pd.DataFrame({"p": np.zeros(N), "q": np.ones(N)}, index=LABELS)
DOSE = pd.Series(np.arange(N, dtype=float), index=LABELS)
REVERSED = DOSE[::-1]


def treated(X, size=None, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    size = 0.0 if size is None else size.sum()
    with numpyro.plate("row", X.shape[0]):
        treat = numpyro.sample("treat", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(X @ b + treat + size, 0.001), obs=y)


@pytest.fixture(scope="module")
def im():
    return mean_field_model(treated).set_posterior_sample({"b": np.zeros((4, 2), np.float32)})


def mean(tree):
    return tree.posterior_predictive.y.mean(("chain", "draw")).values


def loader(shuffle):
    return ArrayLoader(ArrayDataset(X=X), jax.random.key(0), batch_size=2, shuffle=shuffle)


@pytest.mark.parametrize("how", ["intervention", "condition"])
@pytest.mark.parametrize("kind", ["series", "array", "count"])
def test_a_value_by_row_in_another_order_is_refused(im, how, kind):
    rows, dose = X, REVERSED
    if kind == "array":
        dose = xr.DataArray(REVERSED.values, dims="day", coords={"day": REVERSED.index.values})
    elif kind == "count":
        rows, dose = X.reset_index(drop=True), DOSE.reset_index(drop=True)[::-1]
    with pytest.raises(DataError, match=rf"{how} of 'treat' have other labels.*row 0 is .*\.loc"):
        im.predict_on_batch(rows, **{how: {"treat": dose}})


@pytest.mark.slow
def test_a_value_with_the_labels_of_the_rows_reaches_its_row(im):
    for dose in (DOSE, DOSE.to_numpy(), DOSE.reset_index(drop=True), DOSE.to_xarray()):
        got = mean(im.predict_on_batch(X, intervention={"treat": dose}))
        np.testing.assert_allclose(got, np.arange(N), atol=0.02)
    got = mean(im.predict_on_batch(X.to_numpy(), intervention={"treat": REVERSED}))
    np.testing.assert_allclose(got, np.arange(N)[::-1], atol=0.02)  # only one has labels


@pytest.mark.slow
def test_rows_of_a_loader_have_labels_and_an_order(im):
    def predict(data, dose):
        options = {"rows": "independent", "progress": False, "store": "memory"}
        return mean(im.predict(data, intervention={"treat": dose}, **options))

    np.testing.assert_allclose(predict(loader(shuffle=False), DOSE), np.arange(N), atol=0.02)
    with pytest.raises(DataError, match="other labels"):
        predict(loader(shuffle=False), REVERSED)
    with pytest.raises(DataError, match="shuffled order"):
        predict(loader(shuffle=True), DOSE.to_numpy())
    with pytest.raises(DataError, match="other labels"):
        predict(loader(shuffle=True), DOSE)
    order = im.predict(loader(shuffle=True), progress=False, store="memory").posterior_predictive
    got = predict(loader(shuffle=True), DOSE[order["row"].values])
    np.testing.assert_allclose(got, DOSE[order["row"].values], atol=0.02)


def test_further_arguments_are_compared_with_the_labels_of_a_dataset(im):
    with pytest.raises(DataError, match="'X' and 'size' label their rows differently"):
        im.predict_on_batch({"X": X}, size=REVERSED, by_row=["size"])
    with pytest.raises(DataError, match="'X' and 'size' label their rows differently"):
        im.predict_on_batch(X, kernel_kwargs={"size": REVERSED}, by_row=["size"])


def test_the_columns_of_the_input_in_another_order_are_refused(im):
    turned = pd.Series([1.0, 2.0], index=["q", "p"])
    draws = pd.DataFrame(np.zeros((4, 2)), columns=["q", "p"])
    other = mean_field_model(treated).set_posterior_sample({"b": draws})
    said = r"are q, p, and 'X' has these in another order: p, q"
    with pytest.raises(DataError, match=said):
        im.predict_on_batch(X, intervention={"b": turned})
    with pytest.raises(DataError, match=said):
        im.predict_on_batch(X, size=turned)
    with pytest.raises(DataError, match=said):
        other.predict_on_batch(X)


def test_the_users_coordinates_are_labels_too(im):
    turned = pd.Series([1.0, 2.0], index=["web", "tv"])
    with pytest.raises(DataError, match=r"'channel' has these in another order: tv, web"):
        im.predict_on_batch(X, intervention={"b": turned}, coords={"channel": ["tv", "web"]})


def test_scenarios_labelled_otherwise_are_refused(im):
    baseline, moved = {"X": X}, {"X": X[::-1], "intervention": {"treat": REVERSED}}
    for options in ({}, {"on_batch": True}):
        with pytest.raises(DataError, match=r"label.*differently.*is a in the baseline"):
            im.estimate_effect(args_baseline=baseline, args_intervention=moved, **options)
    trees = [im.predict_on_batch(rows, rng_key=jax.random.key(1)) for rows in (X, X[::-1])]
    with pytest.raises(DataError, match=r"label 'row' of site 'y' differently"):
        im.estimate_effect(*trees)


def test_an_effect_of_a_labelled_value_is_right(im):
    zero = {"X": X, "intervention": {"treat": 0.0 * DOSE}}
    effect = im.estimate_effect(
        args_baseline=zero, args_intervention={**zero, "intervention": {"treat": DOSE}}
    )
    np.testing.assert_allclose(mean(effect), np.arange(N), atol=1e-3)


def test_values_are_numbers(im):
    with pytest.raises(DataTypeError, match="'treat' holds text"):
        im.predict_on_batch(X, intervention={"treat": "high"})
    with pytest.raises(CallError, match="takes a mapping"):
        im.predict_on_batch(X, condition=3.0)
