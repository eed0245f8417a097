"""Arguments that are tied to the rows are told from tables of the same length."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.kernel.rows.whole_arguments import RowTrial

pytestmark = pytest.mark.allow_rank_promotion  # of plates within NumPyro


def observe(X, mean, y):
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def slope():
    return numpyro.sample("slope", dist.Normal())


def indexed(X, g, u, y=None):
    observe(X, slope() * u[g], y)


def weighted_slope(X, u, y=None):
    observe(X, slope() * u * X, y)


def mean_of(X, u, y=None):
    observe(X, slope() * u.mean() * X, y)


def product(X, u, y=None):
    observe(X, (X @ u).sum(-1), y)


def product_of_tables(X, g, u, v, y=None):
    observe(X, slope() * (u * v)[g], y)


def without_a_plate(X, u, y=None):
    numpyro.sample("y", dist.Normal(slope() * u, 1.0), obs=y)


def with_a_table_of_fixed_length(X, g, u, y=None):
    with numpyro.plate("days", 365):
        level = numpyro.sample("level", dist.Normal())
    observe(X, (u * level)[g], y)


def with_a_plate_of_the_table(X, g, u, y=None):
    with numpyro.plate("days", u.shape[0]):
        level = numpyro.sample("level", dist.Normal())
    observe(X, (u * level)[g], y)


def of_a_fixed_number_of_rows(X, u, y=None):
    with numpyro.plate("rows", 50):
        numpyro.sample("y", dist.Normal(u.mean() + X, 1.0), obs=y)


def unused(X, u, y=None):
    observe(X, slope() * X, y)


def weight(X, u, y=None):
    with numpyro.handlers.scale(scale=u):
        observe(X, slope() * X, y)


def mask(X, u, y=None):
    with numpyro.handlers.mask(mask=u > 0):
        observe(X, slope() * X, y)


def factor(X, u, y=None):
    observe(X, slope() * X, y)
    numpyro.factor("penalty", u * X)


def observed_too(X, u, y=None):
    observe(X, slope() * X, y)
    with numpyro.plate("others", X.shape[0]):
        numpyro.sample("t", dist.Normal(X, 1.0), obs=u)


def by_vmap(X, u, y=None):
    observe(X, jax.vmap(lambda x, weight: slope_of(x) * weight)(X, u), y)


def slope_of(x):
    return 2.0 * x


def by_scan(X, u, y=None):
    observe(X, jax.lax.scan(lambda total, row: (total, row[0] * row[1]), 0.0, (X, u))[1], y)


def interpolated(X, u, y=None):
    observe(X, jnp.interp(X, jnp.linspace(0.0, 1.0, u.shape[0]), u), y)


def one_table_among_rows(X, g, h, w, u, y=None):
    observe(X, w * u[g] + slope() * h, y)


def ties(kernel, n_rows, *, observed=True, **shapes):
    rows = {"X": (n_rows,)} | dict.fromkeys(shapes, (n_rows,)) | shapes
    rows |= {"y": (n_rows,)} if observed else {}
    types = {name: jnp.int32 if name == "g" else jnp.float32 for name in rows}
    abstract = {name: jax.ShapeDtypeStruct(shape, types[name]) for name, shape in rows.items()}
    names = [name for name in shapes if name != "X"]
    return RowTrial(kernel, abstract, {}, {}, "y").ties(names)


def ties_of(kernel, names, n_rows, observed=True):
    return ties(kernel, n_rows, observed=observed, **dict.fromkeys(names, (n_rows,)))


@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("n_rows", [50, 2, 1])
class TestOfAnyLength:
    def test_a_table_that_is_indexed_may_be_either(self, n_rows, observed):
        found = ties_of(indexed, ["g", "u"], n_rows, observed)
        assert found == {"g": "rows", "u": "either"}

    def test_an_array_that_meets_the_rows_follows_them(self, n_rows, observed):
        assert ties_of(weighted_slope, ["u"], n_rows, observed) == {"u": "rows"}


@pytest.mark.parametrize(
    "kernel",
    [without_a_plate, weight, mask, factor, observed_too, by_vmap, by_scan],
)
def test_rows(kernel):
    assert ties_of(kernel, ["u"], 50) == {"u": "rows"}


@pytest.mark.parametrize("kernel", [mean_of, interpolated, of_a_fixed_number_of_rows])
def test_either(kernel):
    assert ties_of(kernel, ["u"], 50) == {"u": "either"}


@pytest.mark.parametrize(
    ("kernel", "n_rows", "of_u"),
    [(with_a_table_of_fixed_length, 365, "none"), (with_a_plate_of_the_table, 50, "either")],
)
def test_tables_with_latent_levels(kernel, n_rows, of_u):
    assert ties_of(kernel, ["g", "u"], n_rows) == {"g": "rows", "u": of_u}


def test_tables_that_are_combined_with_one_another():
    found = ties_of(product_of_tables, ["g", "u", "v"], 50)
    assert found == {"g": "rows", "u": "either", "v": "either"}


def test_one_table_among_rows():
    found = ties_of(one_table_among_rows, ["g", "h", "w", "u"], 50)
    assert found == {"g": "rows", "h": "rows", "w": "rows", "u": "either"}


def test_a_matrix_tied_to_the_columns_is_certainly_shared():
    assert ties(product, 5, X=(5, 5), u=(5, 5)) == {"u": "none"}


def test_what_the_kernel_does_not_read_matters_to_nothing():
    assert ties_of(unused, ["u"], 50) == {"u": "unused"}


def test_nothing_is_computed():
    large = {name: np.broadcast_to(np.float32(0), (10**9,)) for name in ("X", "u", "y")}
    assert RowTrial(weighted_slope, large, {}, {}, "y").ties(["u"]) == {"u": "rows"}
