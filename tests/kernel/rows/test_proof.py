"""A proof that rows are independent is never wrong, and is found for what kernels do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimz_lab.kernel.rows.proof import rows_are_independent
from aimz_lab.predictive import Predictor, crossing
from tests.predictive.models import draws_of_linear, inputs, request_of

KNOTS = jnp.linspace(-1.0, 1.0, 5)
MATRIX = jnp.eye(3) + 0.1


def abstract(n_rows):
    """Two arrays with rows, the numbers of groups, and weights that all rows share."""
    shape = jax.ShapeDtypeStruct
    rows = shape((n_rows, 3), "float32"), shape((n_rows,), "float32")
    return *rows, shape((n_rows,), "int32"), shape((4, 3), "float32")


def is_proven(function):
    return rows_are_independent(function, abstract(8), abstract(16))


def loop(X, z, group, w):
    return jax.lax.fori_loop(0, 5, lambda i, total: total + X[:, 0] * i, z)


def layers(X, z, group, w):
    return jax.lax.scan(lambda carry, row: (jnp.tanh(carry @ MATRIX + row[None]), None), X, w)[0]


def written(X, z, group, w):
    return jax.lax.dynamic_update_slice(jnp.zeros_like(X), z[:, None], (0, 1))


def images(X, z, group, w):
    pictures = X.reshape(-1, 1, 3, 1)
    return jax.lax.conv_general_dilated(pictures, w[:, None, :, None], (1, 1), "SAME")


@jax.custom_jvp
def cube(x):
    return x**3


cube.defjvp(lambda primals, tangents: (cube(*primals), 3 * primals[0] ** 2 * tangents[0]))

APART = {
    "product": lambda X, z, group, w: X @ w.T,
    "product of each row": lambda X, z, group, w: jnp.einsum("nk,nk->n", X, X),
    "sum of columns": lambda X, z, group, w: X.sum(axis=1) + z,
    "largest column": lambda X, z, group, w: X.argmax(axis=1),
    "softmax of columns": lambda X, z, group, w: jax.nn.softmax(X, axis=-1),
    "sorted columns": lambda X, z, group, w: jnp.sort(X, axis=1)[:, ::-1].cumsum(axis=1),
    "one of a group": lambda X, z, group, w: w[group, 1],
    "its own column": lambda X, z, group, w: jnp.take_along_axis(X, group[:, None], axis=1),
    "columns one by one": lambda X, z, group, w: sum(column * z for column in X.T),
    "some columns": lambda X, z, group, w: X[:, jnp.array([2, 0])] + X[:, 1:],
    "columns joined": lambda X, z, group, w: jnp.column_stack([X, z, X[:, 0] * z]),
    "padded columns": lambda X, z, group, w: jnp.pad(X, ((0, 0), (1, 2))),
    "written columns": written,
    "flat and back": lambda X, z, group, w: (
        X.reshape(X.shape[0], 1, 3).transpose(1, 0, 2).squeeze(0)
    ),
    "special functions": lambda X, z, group, w: (
        jsp.special.gammaln(jnp.exp(z)) + jsp.special.erf(z)
    ),
    "a derivative of its own": lambda X, z, group, w: cube(z) + jax.nn.relu(z),
    "the same for all": lambda X, z, group, w: jnp.zeros(X.shape[0]) + w.sum(),
    "loop": loop,
    "layers": layers,
    "branch": lambda X, z, group, w: jax.lax.cond(w[0, 0] > 0, jnp.sin, jnp.cos, z),
    "images": images,
    "Cholesky factor of all": lambda X, z, group, w: jsp.linalg.solve_triangular(MATRIX, X.T).T,
    "Cholesky factor of each": lambda X, z, group, w: jnp.linalg.cholesky(
        MATRIX[None] + jax.vmap(jnp.diag)(X**2)
    ),
    "a column set": lambda X, z, group, w: X.at[:, 1].set(z).at[:, 0].add(z),
    "its own column set": lambda X, z, group, w: jax.vmap(lambda x, i: x.at[i].set(0.0))(X, group),
    "greatest columns": lambda X, z, group, w: jax.lax.top_k(X, 2)[0],
    "repeated": lambda X, z, group, w: (
        jnp.tile(z[:, None], (1, 2)) + jnp.tile(w[0, 0], X.shape[0])[:, None]
    ),
    "decomposition of each": lambda X, z, group, w: jnp.linalg.eigh(
        MATRIX[None] + X[:, :, None] * X[:, None]
    )[0],
    "row by row": lambda X, z, group, w: jax.lax.map(lambda x: jnp.sin(x[0]) + w.sum(), X),
    "unused": lambda X, z, group, w: (jnp.arange(X.shape[0]) + X.mean(), z)[1],
}

ACROSS = {
    "mean": lambda X, z, group, w: z - z.mean(),
    "extremes": lambda X, z, group, w: z / z.max(),
    "number of rows": lambda X, z, group, w: z / X.shape[0],
    "number of rows in a loop": lambda X, z, group, w: jax.lax.fori_loop(
        0, X.shape[0], lambda i, total: total + 1.0, z
    ),
    "place": lambda X, z, group, w: z * jnp.arange(X.shape[0]),
    "place in a constant": lambda X, z, group, w: z * np.arange(X.shape[0]),
    "cumulative sum": lambda X, z, group, w: jnp.cumsum(z),
    "softmax of rows": lambda X, z, group, w: jax.nn.softmax(X, axis=0),
    "sorted": lambda X, z, group, w: jnp.sort(z),
    "reversed": lambda X, z, group, w: z[::-1],
    "shifted": lambda X, z, group, w: jnp.roll(z, 1),
    "differences": lambda X, z, group, w: jnp.diff(z, prepend=0.0),
    "pairs": lambda X, z, group, w: (X @ X.T).sum(axis=1),
    "Gram matrix": lambda X, z, group, w: X @ (X.T @ X),
    "first row": lambda X, z, group, w: z - z[0],
    "rows one by one": lambda X, z, group, w: z + sum(row.sum() for row in X[:8]),
    "row of a number": lambda X, z, group, w: z[group],
    "groups of rows": lambda X, z, group, w: z.reshape(-1, 2).sum(axis=1).repeat(2),
    "columns as rows, in one step": lambda X, z, group, w: jax.lax.reshape(
        X.T, X.T.shape, dimensions=(1, 0)
    ),
    "columns as rows": lambda X, z, group, w: X.reshape(3, -1).T,
    "scan": lambda X, z, group, w: jax.lax.scan(lambda a, b: (a + b, a + b), 0.0, z)[1],
    "one row set": lambda X, z, group, w: z.at[0].set(0.0),
    "rows set by number": lambda X, z, group, w: z.at[group].set(0.0),
    "rows set by others": lambda X, z, group, w: X.at[:, 0].set(z[::-1]),
    "greatest rows": lambda X, z, group, w: z - jax.lax.top_k(z, 1)[0],
    "a period": lambda X, z, group, w: z + jnp.tile(w[:, 0], X.shape[0] // 4),
    "repeated rows": lambda X, z, group, w: jnp.tile(X, (2, 1))[: X.shape[0]].sum(1),
    "row by row beside all": lambda X, z, group, w: jax.lax.map(lambda x: x[0] + z[0], X),
    "row by row with a state": lambda X, z, group, w: jax.lax.scan(
        lambda carry, x: (x, carry), jnp.zeros(3), X
    )[1],
    "row by row with its number": lambda X, z, group, w: jax.lax.map(
        lambda pair: pair[0] * pair[1], (z, jnp.arange(X.shape[0]))
    ),
    "until all are done": lambda X, z, group, w: jax.lax.while_loop(
        lambda z: (z > 1).any(), lambda z: z / 2, z
    ),
    "noise": lambda X, z, group, w: z + jax.random.normal(jax.random.key(0), z.shape),
    "host": lambda X, z, group, w: jax.pure_callback(np.sort, jax.typeof(z), z),
    "means of groups": lambda X, z, group, w: jnp.zeros(4).at[group].add(z)[group],
    "inside a call": lambda X, z, group, w: jax.jit(lambda z: z - z.mean())(z),
    "inside a branch": lambda X, z, group, w: jax.lax.cond(
        w[0, 0] > 0, jnp.sin, lambda z: z - z.sum(), z
    ),
    "of rows chosen by data": lambda X, z, group, w: z * jnp.isin(group, group[:2]),
}


@pytest.mark.parametrize("what", APART)
def test_rows_apart_are_proven_to_be(what):
    assert is_proven(APART[what])


@pytest.mark.parametrize("what", ACROSS)
def test_rows_that_depend_on_others_are_never_proven(what):
    assert not is_proven(ACROSS[what])


def test_what_differs_between_the_traces_is_no_proof():
    count = iter(range(100))
    assert not is_proven(lambda X, z, group, w: z + next(count))


def test_arguments_without_rows_prove_nothing():
    same = jax.ShapeDtypeStruct((3,), "float32")
    assert not rows_are_independent(jnp.sin, (same,), (same,))


@pytest.mark.slow
@settings(max_examples=60)
@given(
    parts=st.lists(st.sampled_from([*APART, *ACROSS]), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_what_is_proven_holds(parts, seed):
    """Of anything composed of the above: a row's result is the same without the other rows."""

    def composed(X, z, group, w):
        for part in parts:
            result = {**APART, **ACROSS}[part](X, z, group, w)
            if result.shape[:1] != z.shape:
                return z.sum()
            z = jnp.asarray(result, "float32").reshape(len(z), -1).sum(axis=1)
        return z

    proven = is_proven(composed)
    assert proven or not all(part in APART for part in parts)
    if proven:
        rng = np.random.default_rng(seed)
        X, z, group = rng.normal(size=(16, 3)), rng.normal(size=16), rng.integers(0, 3, size=16)
        arguments = X.astype("float32"), z.astype("float32"), group
        w = rng.normal(size=(4, 3)).astype("float32")
        few = composed(*(jnp.asarray(array[3:11]) for array in arguments), w)
        many = composed(*map(jnp.asarray, arguments), w)
        np.testing.assert_allclose(few, many[3:11], rtol=1e-4, atol=1e-4)


def test_rows_that_are_proven_to_be_independent_are_not_tested(monkeypatch):
    monkeypatch.setattr(crossing, "differing_draws", lambda *arguments: pytest.fail("tested"))
    request = request_of(rows={"X": inputs(300)}, draws=draws_of_linear(4))
    assert Predictor().predict_arrays(request)["y"].shape == (4, 300)
