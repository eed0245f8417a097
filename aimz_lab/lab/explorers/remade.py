"""Distributions made anew from their numbers, with what stands around them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import (
    Distribution,
    ExpandedDistribution,
    Independent,
    MaskedDistribution,
)

Path = tuple[str, ...]
"""Names of arguments that lead to a number: ``("base_dist", "loc")`` of a truncated normal."""

_AROUND = (ExpandedDistribution, Independent, MaskedDistribution)


def inner(distribution: Distribution) -> Distribution:
    """Return what stands inside of ``expand``, ``to_event`` and ``mask``.

    Args:
        distribution: A distribution.
    """
    while type(distribution) in _AROUND:
        distribution = distribution.base_dist
    return distribution


def arguments_of(distribution: Distribution) -> dict[str, Any]:
    """Return the arguments that make a distribution of this class anew, by name.

    Args:
        distribution: A distribution without anything around it.

    Raises:
        TypeError: If it does not keep one that it needs.
    """
    found = {}
    for name, parameter in inspect.signature(type(distribution).__init__).parameters.items():
        if name in ("self", "validate_args"):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(name)
        if hasattr(distribution, name):
            found[name] = getattr(distribution, name)
        elif parameter.default is parameter.empty:
            raise TypeError(name)
    return found


def arrays_of(distribution: Distribution, above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the numbers and arrays that a distribution is made of.

    Args:
        distribution: A distribution without anything around it.
        above: Names of the arguments that lead to it.

    Raises:
        TypeError: If it cannot be made anew.
    """
    constraints = type(distribution).arg_constraints
    for name, value in arguments_of(distribution).items():
        if isinstance(value, Distribution):
            yield from arrays_of(value, (*above, name))
        elif isinstance(value, jax.Array | np.ndarray | np.generic):
            yield (*above, name), value
        elif name in constraints and isinstance(value, int | float):
            # Others are sizes, such as those of an LKJ prior.
            yield (*above, name), value


def takes_whole(distribution: Distribution, path: Path) -> bool:
    """Whether an argument takes whole numbers alone, such as a number of trials.

    Args:
        distribution: A distribution without anything around it.
        path: Names of the arguments that lead to it.
    """
    for name in path[:-1]:
        distribution = getattr(distribution, name)
    constraint = type(distribution).arg_constraints.get(path[-1])
    return bool(getattr(constraint, "is_discrete", False))


def remade(distribution: Distribution, numbers: Mapping[Path, Any]) -> Distribution:
    """Make a distribution anew, with other numbers and the same shapes.

    Args:
        distribution: Any distribution; ``expand``, ``to_event`` and ``mask`` around it are kept.
        numbers: The new numbers; others stay.

    Returns:
        A distribution of the same class. What its class raises about a number, it raises here.

    Raises:
        TypeError: If it cannot be made anew.
    """
    kind = type(distribution)
    if kind is ExpandedDistribution:
        return remade(distribution.base_dist, numbers).expand(distribution.batch_shape)
    if kind is Independent:
        events = distribution.reinterpreted_batch_ndims
        return remade(distribution.base_dist, numbers).to_event(events)
    if kind is MaskedDistribution:
        return remade(distribution.base_dist, numbers).mask(distribution._mask)
    given = arguments_of(distribution)
    for name, value in given.items():
        if isinstance(value, Distribution):
            own = {path[1:]: number for path, number in numbers.items() if path[0] == name}
            given[name] = remade(value, own)
        elif (name,) in numbers:
            given[name] = _alike(value, numbers[name,])
    return kind(**given, validate_args=vars(distribution).get("_validate_args"))


def _alike(before: Any, number: Any) -> Any:
    """Return a number in the shape and type of the one before."""
    if isinstance(before, int | float):
        return number
    dtype = jnp.result_type(before)
    return jnp.full(
        jnp.shape(before), number, dtype if jnp.issubdtype(dtype, jnp.floating) else None
    )
