"""Entries of sites are labelled by the columns of a frame, where they are proven to be these."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from aimz_lab import ImpactModel, TableSpec, lab
from tests.runs import mean_field

pytestmark = pytest.mark.allow_rank_promotion

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(RNG.normal(size=(30, 2)), columns=["age", "income"])
Y = FRAME["age"].to_numpy() - FRAME["income"].to_numpy()
QUIET = {"progress": False}


def kernel(X, y=None):
    w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("feature", X.shape[1]):
        v = numpyro.sample("v", dist.Normal(0.0, 1.0))
    ends = numpyro.sample("ends", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        parts = numpyro.deterministic("parts", X * w)
        numpyro.sample("y", dist.Normal(parts.sum(-1) + X @ v + ends.sum(), 1.0), obs=y)


def model(**options):
    return ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel), **options)


@pytest.fixture(scope="module")
def im():
    with jax.numpy_rank_promotion("allow"):
        return model().fit(FRAME, Y, epochs=2, num_samples=20, **QUIET)


@pytest.mark.slow
def test_entries_of_a_site_have_the_names_of_columns_and_others_of_that_length_have_not(im):
    pytest.importorskip("arviz_stats")
    named = [f"{site}[{column}]" for site in "vw" for column in FRAME]
    labels = im.summary(["v", "w", "ends"]).index.tolist()
    assert labels == [*named, "ends[0]", "ends[1]"]
    posterior = im.posterior_tree.posterior
    assert posterior.w.dims == ("chain", "draw", "w_dim_0")  # as it is called without labels
    assert posterior.v.dims == ("chain", "draw", "feature")
    found = im.last_run.axis_labels()
    assert found["w"] == found["v"] == (["age", "income"],)
    assert found["parts"] == (None, ["age", "income"])
    assert "ends" not in found
    assert lab.explore_model(im).set(site="w").table is not None
    assert "w[age]" in lab.explore_model(im).controls["pair"].options


@pytest.mark.slow
def test_predictions_have_them_too_unless_the_call_names_others(im):
    tree = im.predict(FRAME, return_sites=["parts"], **QUIET)
    assert tree.posterior.w.w_dim_0.values.tolist() == ["age", "income"]
    assert tree.posterior_predictive.parts.parts_dim_1.values.tolist() == ["age", "income"]
    own = {"dims": {"w": ["k"]}, "coords": {"k": ["p", "q"], "feature": ["r", "s"]}}
    tree = im.predict(FRAME, **own, **QUIET)
    assert tree.posterior.w.k.values.tolist() == ["p", "q"]
    assert tree.posterior.v.feature.values.tolist() == ["r", "s"]
    again = model(table=TableSpec(X="age + income", y="y"))
    again.fit(FRAME.assign(y=Y), epochs=1, num_samples=20, **QUIET)
    tree = again.predict(FRAME, dims={"w": ["k"], "v": ["k"], "parts": ["k"]}, **QUIET)
    assert tree.posterior.w.k.values.tolist() == [0, 1]


@pytest.mark.slow
def test_arrays_have_no_names():
    im = model().fit(FRAME.to_numpy(), Y, epochs=1, num_samples=20, **QUIET)
    assert im.last_run.axis_labels() == {}
    assert im.posterior_tree.posterior.w.w_dim_0.values.tolist() == [0, 1]
