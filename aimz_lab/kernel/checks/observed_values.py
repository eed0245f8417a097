"""Refuse data outside of the support of the distribution that observes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import constraints

from aimz_lab.errors import DataError
from aimz_lab.kernel.argument_reach import depends_on
from aimz_lab.kernel.checks.bounds import bounds_of, is_masked
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import HasShape, Rows, Static

_WHOLE = (
    type(constraints.boolean),
    constraints.integer_interval,
    constraints.integer_greater_than,
)
_SUMS = (type(constraints.simplex), constraints.multinomial)
_WRAPPERS = (dist.ExpandedDistribution, dist.Independent, dist.MaskedDistribution)


class ObservedSite(NamedTuple):
    """An observed site whose support has bounds, as far as it is known without its data.

    Attributes:
        site: Its name.
        kind: Name of its distribution.
        argument: The argument that it observes; ``None`` for what the kernel computes.
        support: Its support, without what the kernel computes of it.
        is_computed: Whether the kernel computes a part of the support.
        low: The lower bound, if that is one number, and known.
        high: The upper one, likewise.
    """

    site: str
    kind: str
    argument: str | None
    support: Any
    is_computed: bool
    low: ArrayLike | None
    high: ArrayLike | None


def bounded_sites(
    kernel: Callable,
    *,
    rows: Mapping[str, HasShape],
    shared: Mapping[str, PyTree[HasShape]],
    static: Static,
) -> list[ObservedSite]:
    """Trace a kernel, and return the sites whose data :func:`check_observed` can check.

    Args:
        kernel: The kernel.
        rows: Its per-row arrays, of which shapes and types matter.
        shared: Its shared arguments, likewise.
        static: Its static arguments.

    Raises:
        Exception: Any error of the kernel.
    """
    found: list[ObservedSite] = []

    def run(key: jax.Array, rows: Rows, shared: PyTree[ArrayLike]) -> None:
        names = {id(array): name for name, array in rows.items()}
        found.extend(
            ObservedSite(
                name,
                _name_of(site["fn"]),
                names.get(id(site["value"])),
                jax.tree.map(lambda leaf: None if _is_traced(leaf) else leaf, support),
                any(map(_is_traced, jax.tree.leaves(support))),
                *map(_known, bounds_of(site["fn"])),
            )
            for name, site in _trace(kernel, key, rows, shared, static).items()
            for support in [_support_of(site["fn"])]
            if support is not None
        )

    abstract = {name: _abstract(array) for name, array in rows.items()}
    # Validation would trace the eigenvalues of a covariance of all rows.
    with tracing_lock, numpyro.validation_enabled(False):
        jax.eval_shape(run, jax.random.key(0), abstract, jax.tree.map(_abstract, dict(shared)))
    return found


def check_observed(
    kernel: Callable,
    sites: Iterable[ObservedSite],
    *,
    rows: Rows,
    shared: Mapping[str, PyTree[ArrayLike]],
    static: Static,
) -> None:
    """Check that the data of each observed site lies within the support of the site.

    Supports that follow from latent sites are not checked. Nor are masked sites: their data may
    hold anything. A value on the bound of an open interval is data outside only if its density is
    not finite.

    Args:
        kernel: The kernel.
        sites: From :func:`bounded_sites`, for arguments of these shapes.
        rows: Its per-row arrays, of any number of rows.
        shared: Its shared arguments.
        static: Its static arguments.

    Raises:
        DataError: If a value is out of bounds; it names the argument, the row and the bounds.
    """
    for each in [site for site in sites if not _check_argument(site, rows)]:
        _check_computed(each, partial(_trace, kernel, static=static), rows, shared)


def _trace(
    kernel: Callable, key: jax.Array, rows: Rows, shared: PyTree[ArrayLike], static: Static
) -> dict[str, Any]:
    """Return NumPyro's records of the observed sites that no mask leaves out."""
    sites = handlers.trace(seeded(kernel, key)).get_trace(**rows, **shared, **static)
    return {
        name: site
        for name, site in sites.items()
        if site["type"] == "sample" and site["is_observed"] and not is_masked(site["fn"])
    }


def _check_argument(observed: ObservedSite, rows: Rows) -> bool:
    """Check a site that observes an argument; ``False`` if that needs a run of the kernel."""
    if observed.argument is None or observed.is_computed:
        return False
    values = _canonical(rows[observed.argument])
    _refuse(observed, values, _outside(observed.support, values))
    return not _on_bound(observed, values).any()


def _check_computed(observed: ObservedSite, trace: Callable, rows: Rows, shared: Any) -> None:
    """Check a site whose data or support the kernel computes from its arguments."""

    def outside(key: jax.Array, rows: Rows, shared: PyTree[ArrayLike]) -> tuple[Any, Any]:
        site = trace(key, rows, shared)[observed.site]
        value = jnp.asarray(site["value"])
        return value, _outside(_support_of(site["fn"]), value)

    def no_density(key: jax.Array, rows: Rows, shared: PyTree[ArrayLike]) -> jax.Array:
        site = trace(key, rows, shared)[observed.site]
        return ~jnp.isfinite(site["fn"].log_prob(site["value"]))

    key, whole = jax.random.key(0), jax.tree.map(jnp.asarray, dict(shared))
    arrays = {name: _canonical(array) for name, array in rows.items()}
    try:
        with tracing_lock, numpyro.validation_enabled(False):
            if depends_on(outside, key, arrays, whole):
                return
            values, wrong = jax.device_get(jax.jit(outside)(key, arrays, whole))
        on_bound = _on_bound(observed, values)
        if on_bound.any():  # NumPyro gives them a density or not where it validates values
            with tracing_lock:
                wrong = wrong | (on_bound & jax.device_get(jax.jit(no_density)(key, arrays, whole)))
    except Exception:  # noqa: BLE001  a kernel for one batch: its loss shows what is wrong
        return
    _refuse(observed, values, wrong)


def _refuse(observed: ObservedSite, values: np.ndarray, wrong: np.ndarray) -> None:
    if not wrong.any():
        return
    at = tuple(np.argwhere(wrong)[0])
    name = f"{observed.argument!r}" if observed.argument else f"The data of {observed.site!r}"
    shown = values[at] if values[at].ndim == 0 else values[at].tolist()
    msg = (
        f"{name} is {shown} at row {at[0]}, but its site {observed.site!r} has the distribution "
        f"{observed.kind}, which has {_described(observed)}; {wrong.sum():,} of {wrong.size:,} "
        "values lie outside. Recode or drop them, or mask them (numpyro.handlers.mask)."
    )
    raise DataError(msg)


def _described(observed: ObservedSite) -> str:
    """The values that a support has, in words."""
    kind, low, high = observed.support, observed.low, observed.high
    if isinstance(kind, type(constraints.simplex)):
        return "shares that add up to 1"
    if isinstance(kind, constraints.multinomial):
        return "whole numbers that add up to its total count"
    what = "whole numbers" if isinstance(kind, _WHOLE) else "values"
    has_low, has_high = hasattr(kind, "lower_bound"), hasattr(kind, "upper_bound")
    if (has_low and low is None) or (has_high and high is None):
        start = "" if low is None else f" from {low}"
        return f"{what}{start} within bounds that the kernel computes"
    if high is None:
        is_open = not isinstance(kind, _WHOLE) and not kind(np.asarray(low))
        return f"{what} above {low}" if is_open else f"{what} from {low} on"
    return f"{what} up to {high}" if low is None else f"{what} from {low} to {high}"


def _outside(support: Any, values: Any) -> Any:
    """Which values, or events, lie outside of a support; NaN is no value."""
    is_number = values == values
    if isinstance(support, _WHOLE):
        return ~support(values) & is_number
    if isinstance(support, _SUMS):
        return ~support(values) & is_number.all(-1)
    low = getattr(support, "lower_bound", -np.inf)
    high = getattr(support, "upper_bound", np.inf)
    return (values < low) | (values > high)


def _on_bound(observed: ObservedSite, values: np.ndarray) -> np.ndarray:
    """Which values lie on a bound that the support itself leaves out."""
    wrong = np.zeros(np.shape(values), bool)
    if isinstance(observed.support, (*_WHOLE, *_SUMS)) or observed.is_computed:
        return wrong
    for bound in (observed.low, observed.high):
        if bound is not None and not observed.support(np.asarray(bound, values.dtype)):
            wrong |= values == bound
    return wrong


def _support_of(distribution: dist.Distribution) -> Any:
    """The support, if it has bounds or sums; ``None`` for all real numbers, and for others."""
    try:
        support = distribution.support
    except NotImplementedError:  # a mixture of unlike components
        return None
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    bounded = hasattr(support, "lower_bound") or hasattr(support, "upper_bound")
    return support if bounded or isinstance(support, (*_WHOLE, *_SUMS)) else None


def _name_of(distribution: dist.Distribution) -> str:
    """The name of a distribution as it is written."""
    while isinstance(distribution, _WRAPPERS):
        distribution = distribution.base_dist
    name = type(distribution).__name__
    if name.endswith("TruncatedDistribution"):
        return f"Truncated{type(distribution.base_dist).__name__}"
    short = name.removesuffix("Logits").removesuffix("Probs")
    return short if hasattr(dist, short) else name


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def _known(bound: ArrayLike | None) -> ArrayLike | None:
    """A bound that is one number, and not computed by the kernel."""
    is_number = not _is_traced(bound) and np.ndim(bound) == 0
    return bound if is_number else None


def _abstract(array: ArrayLike) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(array), jax.dtypes.canonicalize_dtype(array.dtype))


def _canonical(array: ArrayLike) -> np.ndarray:
    return np.asarray(array).astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
