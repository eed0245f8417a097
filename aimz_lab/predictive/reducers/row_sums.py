"""Sums over rows by group, with the digits that single precision can give."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from aimz_lab.predictive.reducers.contract import Draws


def sums_of_rows(
    values: Draws,
    weights: Num[Array, " row"],
    codes: Int[Array, " row"] | None = None,
    n_groups: int = 1,
) -> Float[Array, "draw group ..."]:
    """Return the weighted sum of the rows of each group, for each draw.

    Large values leave no digits for small ones, so that a group is summed around its own mean: a
    value far away in another group, or in a row without weight, takes no digits from it.

    Args:
        values: Draws, ``(S, R, ...)``; rows without weight may not be finite.
        weights: A weight for each row; 0 for one that does not count.
        codes: The group of each row; ``None`` if all are one.
        n_groups: Number of groups.
    """
    values = values.astype(jnp.result_type(float, values.dtype))
    rows = jnp.moveaxis(values, 1, 0)
    weights = weights.astype(values.dtype)
    by_row = [1] * (rows.ndim - 1)

    def summed(each: jax.Array, over: jax.Array) -> jax.Array:
        over = over.reshape(-1, *by_row)
        parts = jnp.where(over != 0, each * over, 0)
        if codes is None or n_groups == 1:
            return parts.sum(0)[None]
        return jax.ops.segment_sum(parts, codes, num_segments=n_groups)

    ones = jnp.ones((len(weights), *by_row), values.dtype)
    sizes = jnp.abs(weights)
    means = summed(rows, sizes) / summed(ones, sizes)
    means = jnp.where(jnp.isfinite(means), means, 0)
    own = means if codes is None or n_groups == 1 else means[codes]
    return jnp.moveaxis(summed(rows - own, weights) + means * summed(ones, weights), 0, 1)
