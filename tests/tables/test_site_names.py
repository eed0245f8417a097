"""Axes of sites are named by columns and levels that they follow, and by nothing else."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.tables.encoder import TableEncoder
from aimz_lab.tables.site_names import Arguments, name_sites
from aimz_lab.tables.table_spec import TableSpec

N = 12
TABLE = pd.DataFrame(
    {
        "a": np.arange(N) * 1.0,
        "b": np.arange(N) % 3 * 1.0,
        "site": np.resize(list("xyz"), N),
        "y": 0.5,
    }
)
FORMULAS = {"X": "a + b + C(site)", "y": "y", "clinic": "index(site)", "n_clinics": "levels(site)"}


def kernel(X, clinic, n_clinics, y=None):
    slopes = numpyro.sample("slopes", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    effect = numpyro.sample("effect", dist.Normal(0, 1).expand([n_clinics]).to_event(1))
    numpyro.sample(
        "four", dist.Normal(0, 1).expand([4]).to_event(1)
    )  # as many as columns, by chance
    both = numpyro.sample("both", dist.Normal(0, 1).expand([n_clinics, X.shape[1]]).to_event(2))
    with numpyro.plate("clinics", n_clinics):
        numpyro.sample("in_plate", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.deterministic("parts", X * slopes[None])
        mean = X @ slopes + effect[clinic] + (both[clinic] * X).sum(1)
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def named(kernel, spec):
    encoder = TableEncoder.learn(spec, TABLE)
    values = encoder.encode(TABLE).arguments
    rows = {
        name: jax.ShapeDtypeStruct(value.shape, np.asarray(value).dtype)
        for name, value in values.items()
        if not isinstance(value, int)
    }
    static = {name: value for name, value in values.items() if isinstance(value, int)}
    arguments = Arguments(rows, {}, static)
    structure = trace_spec(kernel, rows=rows, static=static)
    return name_sites(kernel, structure, encoder, arguments)


def test_axes_that_follow_columns_and_levels():
    dims, coords = named(kernel, TableSpec(**FORMULAS))
    assert dims == {
        "slopes": ("X",),
        "effect": ("site",),
        "both": ("site", "X"),
        "in_plate": ("clinics",),
        "parts": ("X",),
    }
    assert sorted(coords["X"]) == ["C(site)[T.y]", "C(site)[T.z]", "a", "b"]
    assert coords["site"].tolist() == coords["clinics"].tolist() == ["x", "y", "z"]


def fixed(X, clinic, n_clinics, y=None):
    effect = numpyro.sample("effect", dist.Normal(0, 1).expand([3]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(effect[clinic], 1.0), obs=y)


def test_what_cannot_be_told_is_said():
    assert named(fixed, TableSpec(**FORMULAS)).dims == {}
    dims, coords = named(fixed, TableSpec(**FORMULAS, dims={"effect": "site"}))
    assert dims == {"effect": ("site",)}
    assert coords["site"].tolist() == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("dims", "said"),
    [
        ({"effect": "a"}, "neither a matrix nor a category"),
        ({"effect": "X"}, "3 entries .* 'X', which has 4"),
        ({"effect": ("site", "X")}, "names 2 dimensions"),
    ],
)
def test_wrong_names_are_refused(dims, said):
    with pytest.raises(ArgumentError, match=said):
        named(fixed, TableSpec(**FORMULAS, dims=dims))


def test_a_name_that_is_a_site_gives_way():
    def clash(X, n_clinics, clinic, y=None):
        site = numpyro.sample("site", dist.Normal(0, 1).expand([n_clinics]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(site[clinic], 1.0), obs=y)

    assert named(clash, TableSpec(**FORMULAS)).dims == {"site": ("site_level",)}
