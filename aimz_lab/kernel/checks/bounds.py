"""Data below or above the support of their distribution: refused, or without density.

NumPyro's densities are whatever their formulas yield there: a ``Uniform`` is as dense outside as
inside, and a ``Categorical`` takes -1 for its last category.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import Distribution, MaskedDistribution
from numpyro.distributions.constraints import boolean, independent

from aimz_lab.errors import DataError
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import Rows, Static


def log_prob_within(distribution: Distribution, value: ArrayLike) -> jax.Array:
    """Log density of a value; ``-inf`` where it lies below or above the support."""
    if isinstance(distribution, MaskedDistribution):
        density = log_prob_within(distribution.base_dist, value)
        return jnp.where(distribution._mask, density, 0.0)
    density = distribution.log_prob(value)
    low, high = _bounds(distribution)
    if low is None and high is None:
        return density
    outside = jnp.zeros(jnp.shape(value), bool)
    if low is not None:
        outside |= value < low
    if high is not None:
        outside |= value > high
    events = tuple(range(-distribution.event_dim, 0))
    return jnp.where(outside.any(events), -jnp.inf, density)


def check_observed(
    kernel: Callable,
    *,
    rows: Rows,
    shared: Mapping[str, PyTree[ArrayLike]],
    static: Static,
) -> None:
    """Check that data which a site observes unchanged lies within the support of the site.

    Bounds that the kernel computes are not checked. Nor are masked sites: their data may hold
    anything.

    Args:
        kernel: The kernel.
        rows: Its per-row arrays, of any number of rows.
        shared: Its shared arguments.
        static: Its static arguments.

    Raises:
        DataError: If a value is out of bounds; it names the argument, the row and the bounds.
    """
    found: list[tuple[str, str, str, ArrayLike | None, ArrayLike | None]] = []

    def run(key: jax.Array, rows: Rows, shared: PyTree[ArrayLike]) -> None:
        trace = handlers.trace(seeded(kernel, key)).get_trace(**rows, **shared, **static)
        names = {id(array): name for name, array in rows.items()}
        for name, site in trace.items():
            if site["type"] != "sample" or not site["is_observed"]:
                continue
            argument = names.get(id(site["value"]))
            if argument is not None and not _is_masked(site["fn"]):
                kind = type(site["fn"]).__name__
                found.append((name, argument, kind, *map(_known, _bounds(site["fn"]))))

    abstract = {name: _abstract(array) for name, array in rows.items()}
    # Validation would trace the eigenvalues of a covariance of all rows.
    with tracing_lock, numpyro.validation_enabled(False):
        jax.eval_shape(run, jax.random.key(0), abstract, jax.tree.map(_abstract, dict(shared)))
    for name, argument, kind, low, high in found:
        values = np.asarray(rows[argument])
        with np.errstate(invalid="ignore"):
            wrong = np.zeros(values.shape, bool)
            wrong |= False if low is None else values < low
            wrong |= False if high is None else values > high
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            upwards = f"from {low} on" if high is None else f"from {low} to {high}"
            msg = (
                f"{argument!r} is {values[at]} at row {at[0]}, but its site {name!r} has a {kind} "
                f"distribution, which has values {upwards}; {wrong.sum():,} of {wrong.size:,} "
                "values lie outside. Recode or drop them, or mask them (numpyro.handlers.mask)."
            )
            raise DataError(msg)


def _abstract(array: ArrayLike) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(array), jax.dtypes.canonicalize_dtype(array.dtype))


def _is_masked(distribution: Distribution) -> bool:
    while not isinstance(distribution, MaskedDistribution):
        distribution = getattr(distribution, "base_dist", None)
        if distribution is None:
            return False
    return True


def _known(bound: ArrayLike | None) -> ArrayLike | None:
    """A bound that is one number, and not computed by the kernel."""
    is_number = not isinstance(bound, jax.core.Tracer) and np.ndim(bound) == 0
    return bound if is_number else None


def _bounds(distribution: Distribution) -> tuple[ArrayLike | None, ArrayLike | None]:
    """The least and the greatest value, if each value of the support lies between two numbers."""
    try:
        support = distribution.support
    except NotImplementedError:  # a mixture of unlike components
        return None, None
    while isinstance(support, independent):
        support = support.base_constraint
    if support is boolean:
        return 0, 1
    if support is None or support.event_dim:
        return None, None
    return getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)
