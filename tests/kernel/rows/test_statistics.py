"""Statistics over rows are found in a program, and what goes along rows is none."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.ode import odeint

from aimz_lab.kernel.rows.statistics import statistics_of

pytestmark = pytest.mark.allow_rank_promotion
N = 101
ROWS = {
    "x": jax.ShapeDtypeStruct((N,), "float32"),
    "X": jax.ShapeDtypeStruct((N, 3), "float32"),
    "g": jax.ShapeDtypeStruct((N,), "int32"),
    "w": jax.ShapeDtypeStruct((5,), "float32"),
}


def adstock(x):
    return jax.lax.scan(lambda carry, one: (0.5 * carry + one,) * 2, 0.0, x)[1]


def lags(x):
    return sum(0.5**lag * jnp.pad(x, (lag, 0))[:N] for lag in range(3))


def attention(X):
    return (jax.nn.softmax(X @ X.T, axis=1) @ X).sum(1)


def process(x):
    return jnp.linalg.cholesky(jnp.exp(-((x[:, None] - x) ** 2)) + jnp.eye(N)) @ jnp.ones(N)


def in_order(x, time):
    order = jnp.argsort(time)
    return jnp.cumsum(x[order])[jnp.argsort(order)]


def levels(g, w):
    return w[jnp.unique(g, return_inverse=True, size=5)[1]]


def knots(x):
    return jnp.exp(-((x[:, None] - jnp.linspace(x.min(), x.max(), 6)) ** 2)).sum(1)


def projected(X, x):
    return X @ jnp.linalg.solve(X.T @ X, X.T @ x)


def by_sign(x):
    return jax.lax.cond(x.mean() > 0, lambda: x, lambda: -x)


def solved(x):
    return odeint(lambda state, time: -x * state, x, jnp.array([0.0, 1.0]))[1]


def drawn(x):
    key = jax.random.key(0)
    binomial = jax.random.binomial(key, 5.0, jax.nn.sigmoid(x))
    return jax.random.poisson(key, jnp.exp(x)) + jax.random.gamma(key, jnp.exp(x)) + binomial


ALONG = {
    "row by row": lambda x, X, g, w: jax.nn.softmax(X, axis=1)[:, 0] * x,
    "embedding": lambda x, X, g, w: w[g] * x,
    "mean of what all share": lambda x, X, g, w: x * w.mean(),
    "scan": lambda x, X, g, w: adstock(x),
    "cumulative sum": lambda x, X, g, w: jnp.cumsum(x),
    "convolution": lambda x, X, g, w: jnp.convolve(x, w)[:N],
    "lags": lambda x, X, g, w: lags(x),
    "attention": lambda x, X, g, w: attention(X),
    "Gaussian process": lambda x, X, g, w: process(x),
    "in the order of time": lambda x, X, g, w: in_order(x, X[:, 0]),
    "adaptive solver": lambda x, X, g, w: solved(x),
    "samplers": lambda x, X, g, w: drawn(x),
}

OF_ROWS = {
    "mean": (lambda x, X, g, w: x - x.mean(), "x"),
    "columns": (lambda x, X, g, w: ((X - X.mean(0)) / X.std(0)).sum(1), "X"),
    "median": (lambda x, X, g, w: x - jnp.median(x), "x"),
    "largest": (lambda x, X, g, w: x / x.max(), "x"),
    "ranks": (lambda x, X, g, w: jnp.argsort(jnp.argsort(x)) * 1.0, "x"),
    "numbers of levels": (lambda x, X, g, w: levels(g, w), "g"),
    "knots": (lambda x, X, g, w: knots(x), "x"),
    "regression": (lambda x, X, g, w: projected(X, x), "Xx"),
    "decomposition": (lambda x, X, g, w: jnp.linalg.qr(X)[0].sum(1), "X"),
    "differences": (lambda x, X, g, w: x / jnp.diff(x).std(), "x"),
    "in a loop": (lambda x, X, g, w: adstock(x - x.mean()), "x"),
    "before a solver": (lambda x, X, g, w: solved(x - x.mean()), "x"),
    "in a branch": (lambda x, X, g, w: by_sign(x), "x"),
    "of a shift": (lambda x, X, g, w: (x + w[0]) - (x + w[0]).mean(), "wx"),
    "segments": (lambda x, X, g, w: jax.ops.segment_sum(x, g, 5)[g], "x"),
    "largest of segments": (lambda x, X, g, w: jax.ops.segment_max(x, g, 5)[g], "x"),
    "indicators": (lambda x, X, g, w: (jax.nn.one_hot(g, 5).T @ x)[g], "gx"),
}


def found(function):
    program = jax.make_jaxpr(function)(*ROWS.values()).jaxpr
    [statistics] = statistics_of(program, list(ROWS), N)
    return statistics


@pytest.mark.parametrize("function", ALONG.values(), ids=ALONG)
def test_what_goes_along_rows_is_no_statistic(function):
    assert not found(function)


@pytest.mark.parametrize(("function", "names"), OF_ROWS.values(), ids=OF_ROWS)
def test_a_statistic_of_rows_is_found(function, names):
    assert found(function) == {*names}
