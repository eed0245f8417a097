"""Operations on one value a row, of which random kernels are made.

Each takes the values ``(n,)``, what else the kernel knows, and a small number; it returns values
``(n,)``. Those of ``BY_ROW`` treat rows one by one; those of ``ACROSS`` look at other rows, at the
row's position or at the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

LEVELS = 4
"""Levels of the grouping ``g``, and entries of the latent vector ``a``."""


class Known(NamedTuple):
    """What an operation may use beside the values.

    Attributes:
        X: Two columns, shape ``(n, 2)``.
        g: A level a row, shape ``(n,)``, from 0 to ``LEVELS - 1``.
        a: A latent vector, shape ``(LEVELS,)``.
        w: A latent vector, shape ``(2,)``.
        u: A shared table, or ``None``; its shape is ``(size,)``.
        i: An entry of the table for each row, shape ``(n,)``, or ``None``.
    """

    X: jax.Array
    g: jax.Array
    a: jax.Array
    w: jax.Array
    u: jax.Array | None = None
    i: jax.Array | None = None


Operation = Callable[[jax.Array, Known, int], jax.Array]


def _shifted(values: jax.Array, k: int) -> jax.Array:
    k = min(k, values.shape[0])
    return jnp.concatenate([jnp.zeros(k), values[: values.shape[0] - k]])


def _positions(values: jax.Array) -> jax.Array:
    return jnp.arange(values.shape[0])


def _smoothed(values: jax.Array) -> jax.Array:
    def step(carry, value):
        carry = 0.9 * carry + 0.1 * value
        return carry, carry

    return jax.lax.scan(step, jnp.float32(0), values)[1]


def _sums_of_groups(values: jax.Array, groups: jax.Array) -> jax.Array:
    return jax.ops.segment_sum(values, groups, num_segments=LEVELS)[groups]


def _nearest(x: jax.Array) -> jax.Array:
    knots = jnp.array([-1.5, -0.5, 0.5, 1.5])
    return jnp.argmin(jnp.abs(x[:, None] - knots[None, :]), axis=1)


def _among_sorted(x: jax.Array) -> jax.Array:
    return jnp.searchsorted(jnp.sort(x), x).astype(jnp.float32)


def _means_of_groups(values: jax.Array, groups: jax.Array) -> jax.Array:
    member = jax.nn.one_hot(groups, LEVELS)
    return ((values @ member) / (member.sum(axis=0) + 1))[groups]


BY_ROW: dict[str, Operation] = {
    "line": lambda v, known, k: 0.5 * v + known.X[:, 1],
    "exp": lambda v, known, k: jnp.exp(jnp.clip(v, -3.0, 1.0)),
    "clip": lambda v, known, k: jnp.clip(v, -1.0, 1.0 / k),
    "where": lambda v, known, k: jnp.where(known.X[:, 1] > 0.5, v, -v),
    "level": lambda v, known, k: v + known.a[known.g],
    "take": lambda v, known, k: v + jnp.take(known.a, known.g, axis=0),
    "squared": lambda v, known, k: v + 0.1 * known.X[:, 1] ** 2,
    "softplus": lambda v, known, k: jax.nn.softplus(v),
    "matmul": lambda v, known, k: v + known.X @ known.w,
    "tanh": lambda v, known, k: k * jnp.tanh(v),
    "product": lambda v, known, k: v * known.X[:, 1],
    "one_hot": lambda v, known, k: v + jax.nn.one_hot(known.g, LEVELS) @ known.a,
    "level_of_level": lambda v, known, k: v + known.a[jnp.array([2, 0, 3, 1])[known.g]],
    "floor": lambda v, known, k: v + known.a[jnp.floor(jnp.clip(known.X[:, 1], 0, 3)).astype(int)],
    "halves": lambda v, known, k: v + known.a[known.g // 2],
    "nearest": lambda v, known, k: v + known.a[_nearest(known.X[:, 1])],
    "map": lambda v, known, k: v + jax.lax.map(lambda level: known.a[level], known.g),
    "vmap": lambda v, known, k: jax.vmap(lambda x, r: jnp.sort(r)[0] * x)(v, known.X),
    "select": lambda v, known, k: jnp.select([known.g == 0, known.g == 1], [v, -v], 2 * v),
    "row_sum": lambda v, known, k: v * known.X.sum(axis=1),
    "table": lambda v, known, k: v + known.u[known.i],
}

ACROSS: dict[str, Operation] = {
    "lag": lambda v, known, k: _shifted(v, k),
    "lagged_input": lambda v, known, k: v + _shifted(known.X[:, 1], k),
    "cumsum": lambda v, known, k: 0.1 * jnp.cumsum(v),
    "centre": lambda v, known, k: v - v.mean(),
    "scaled_by_maximum": lambda v, known, k: v / (0.1 + jnp.abs(known.X[:, 1]).max()),
    "since_first": lambda v, known, k: v - v[0],
    "until_last": lambda v, known, k: v - v[-1],
    "reverse": lambda v, known, k: v[::-1],
    "roll": lambda v, known, k: v + jnp.roll(known.X[:, 0], k),
    "sort": lambda v, known, k: jnp.sort(v),
    "step": lambda v, known, k: v + (_positions(v) >= k),
    "until": lambda v, known, k: jnp.where(_positions(v) < k, v, 0.0),
    "ramp": lambda v, known, k: v + 0.01 * _positions(v),
    "late_ramp": lambda v, known, k: v + 0.01 * jnp.maximum(_positions(v) - k, 0),
    "weekday": lambda v, known, k: v + 0.1 * (_positions(v) % 7),
    "one_row": lambda v, known, k: jnp.where(_positions(v) == k, 2.0, v),
    "count": lambda v, known, k: v + (jnp.cumsum(known.X[:, 0] > 0) > k),
    "stock": lambda v, known, k: v * (k - jnp.cumsum(jnp.abs(known.X[:, 0])) > 0),
    "one_row_alone": lambda v, known, k: 2 * v if v.shape[0] == 1 else v,
    "many_rows": lambda v, known, k: v if v.shape[0] < 100 else 2 * v,
    "odd_rows": lambda v, known, k: v if v.shape[0] % 2 else -v,
    "head": lambda v, known, k: v - v[: min(v.shape[0], 100)].mean(),
    "by_number_of_rows": lambda v, known, k: v * (10.0 / v.shape[0]),
    "smoothed": lambda v, known, k: _smoothed(v),
    "sums_of_groups": lambda v, known, k: v + 0.1 * _sums_of_groups(known.X[:, 1], known.g),
    "rank": lambda v, known, k: v + 0.01 * jnp.argsort(jnp.argsort(known.X[:, 0])),
    "week": lambda v, known, k: v + known.a[jnp.minimum(_positions(v) // 7, LEVELS - 1)],
    "adstock": lambda v, known, k: jnp.convolve(v, 0.5 ** jnp.arange(5))[: v.shape[0]],
    "running_maximum": lambda v, known, k: jax.lax.cummax(v),
    "among_sorted": lambda v, known, k: v + 0.01 * _among_sorted(known.X[:, 0]),
    "means_of_groups": lambda v, known, k: v + _means_of_groups(known.X[:, 1], known.g),
    "gram": lambda v, known, k: v + known.X @ (known.X.T @ v) / 100,
    "dot": lambda v, known, k: v + known.X[:, 0] @ known.X[:, 1] / 100,
    "softmax": lambda v, known, k: v + jax.nn.softmax(known.X[:, 1]),
    "if_any": lambda v, known, k: jnp.where((known.X[:, 0] > 2.5).any(), v, -v),
    "top": lambda v, known, k: v - jax.lax.top_k(known.X[:, 0], min(3, v.shape[0]))[0].mean(),
    "square": lambda v, known, k: -v if known.X.shape[0] == known.X.shape[1] else v,
    "whole_block": lambda v, known, k: 2 * v if v.shape[0] % 256 == 0 else v,
    "not_this_many": lambda v, known, k: v if v.shape[0] > k else 2 * v,
    "fill": lambda v, known, k: v + jnp.zeros(300).at[: v.shape[0]].set(1.0).sum() / 100,
    "quantile": lambda v, known, k: v - jnp.quantile(known.X[:, 0], 0.5),
}

WRONG_INDEX: dict[str, Operation] = {
    "previous_level": lambda v, known, k: v + known.a[known.g - 1],
    "next_level": lambda v, known, k: v + known.a[known.g + 1],
}
"""Indices beyond a table, where JAX takes another entry without a word."""

OPERATIONS = BY_ROW | ACROSS | WRONG_INDEX
