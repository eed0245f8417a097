"""Compare quantities computed on a piece of the rows with those computed on all rows at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def differ(
    cut: Array,
    whole: Array,
    numbers: Int[Array, " position"],
    n_rows: int,
    *,
    is_density: bool,
) -> Bool[Array, ""]:
    """Whether a quantity of some rows differs from the one computed on all rows at once.

    Args:
        cut: The quantity of the rows of a piece, with an axis for them or without.
        whole: That of all rows.
        numbers: The numbers of the rows of the piece among all rows; those beyond ``n_rows``
            entries are padding and not compared.
        n_rows: The number of all rows.
        is_density: Whether it is a log density, which magnifies the rounding of its parameters.

    Returns:
        A flag. If the axis of rows is unclear it is true, unless both quantities are equal.

    Example:
        >>> rows = jnp.arange(6.0)
        >>> bool(differ(rows[2:4], rows, jnp.array([2, 3]), 6, is_density=False))
        False
        >>> bool(differ(rows[:2], rows, jnp.array([2, 3]), 6, is_density=False))
        True
    """
    if cut.ndim != whole.ndim or cut.dtype != whole.dtype:
        return jnp.array(True)
    sizes = list(zip(cut.shape, whole.shape, strict=True))
    axes = [axis for axis, (some, every) in enumerate(sizes) if some != every]
    if len(axes) > 1 or any(sizes[axis] != (len(numbers), n_rows) for axis in axes):
        return jnp.array(True)
    expected = whole
    if axes:
        expected = jnp.take(whole, numbers[:n_rows], axis=axes[0])
        cut = jax.lax.slice_in_dim(cut, 0, expected.shape[axes[0]], axis=axes[0])
    same = cut == expected
    if jnp.issubdtype(cut.dtype, jnp.inexact):
        allowed = 1e-2 + 1e-3 * _size(expected)
        if not is_density:
            allowed = allowed_rounding(expected, whole)
        same |= (jnp.abs(cut - expected) <= allowed) | (jnp.isnan(cut) & jnp.isnan(expected))
    return ~same.all()


def allowed_rounding(expected: Array, whole: Array) -> Array:
    """Return the difference that rounding may make: relative to the entry, and to what is usual.

    The tolerance is tight: if rounding exceeds it, rows are kept together for nothing, but a wide
    tolerance would miss an effect that is small beside its baseline.

    Args:
        expected: Entries.
        whole: All entries of the same array.
    """
    # With a mean of square roots, a few large entries do not widen the tolerance of all others.
    usual = jnp.sqrt(_size(whole)).mean() ** 2 if whole.size else 0.0
    return 2e-6 * (_size(expected) + usual)


def _size(values: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(values), jnp.abs(values), 0.0)
