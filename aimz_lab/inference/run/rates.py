"""Learning rates that can be changed during a run.

Such a rate is part of the optimizer's state. Optax's ``inject_hyperparams`` puts it there, and so
does :func:`settable_rate` for NumPyro's optimizers, which otherwise compile it into the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro.optim import _NumPyroOptim

from aimz_lab.calls import public
from aimz_lab.data.options import check_callable, real_number
from aimz_lab.errors import ArgumentError
from aimz_lab.types import shown

_NAMES = ("learning_rate", "step_size")

WHY_FIXED = (
    "The learning rate of this optimizer is fixed when it is made. Use "
    "aimz_lab.settable_rate(numpyro.optim.Adam, 0.01), or "
    "optax.inject_hyperparams(optax.adam)(learning_rate=0.01)."
)


class RateState(NamedTuple):
    """An optimizer's state together with its learning rate.

    Attributes:
        learning_rate: The rate, a scalar array.
        inner: The state of the optimizer.
    """

    learning_rate: jax.Array
    inner: PyTree


@public
def settable_rate(
    optimizer: Callable[..., _NumPyroOptim], step_size: float, **options: object
) -> _NumPyroOptim:
    """Make one of NumPyro's optimizers with a learning rate that you can set during training.

    Args:
        optimizer: A class of ``numpyro.optim`` that takes ``step_size``, such as ``Adam``.
        step_size: The rate to begin with.
        **options: Further arguments of the optimizer.

    Returns:
        An optimizer for ``numpyro.infer.SVI`` that makes the same steps.

    Raises:
        ArgumentError: If ``optimizer`` is no function, or ``step_size`` no positive number. A
            schedule sets the rate itself.

    Example:
        >>> import numpyro
        >>> optimizer = settable_rate(numpyro.optim.Adam, 0.01)
        >>> round(learning_rate(optimizer.init({"x": jnp.zeros(2)})), 6)
        0.01
    """
    check_callable("optimizer", optimizer, "of a step_size, such as numpyro.optim.Adam")
    if not 0 < real_number(step_size) < math.inf:
        msg = f"step_size={shown(step_size)} must be a positive number to begin with."
        raise ArgumentError(msg)
    step_size = real_number(step_size)

    def at(rate: ArrayLike) -> _NumPyroOptim:
        return optimizer(step_size=lambda _: rate, **options)

    try:
        is_one = isinstance(at(step_size), _NumPyroOptim)
    except TypeError as error:
        msg = f"{shown(optimizer)} cannot be made with step_size= and these options: {error}."
        raise ArgumentError(msg) from error
    if not is_one:
        msg = f"optimizer={shown(optimizer)} makes no optimizer of numpyro.optim, such as Adam."
        raise ArgumentError(msg)

    def init(params: PyTree) -> RateState:
        _, inner = at(step_size).init(params)
        return RateState(jnp.asarray(step_size, jnp.result_type(float)), inner)

    def update(i: jax.Array, gradients: PyTree, state: RateState) -> RateState:
        _, inner = at(state.learning_rate).update(gradients, (i, state.inner))
        return RateState(state.learning_rate, inner)

    def get_params(state: RateState) -> PyTree:
        return at(step_size).get_params((0, state.inner))

    return _NumPyroOptim(lambda *functions: functions, init, update, get_params)


def learning_rate(optim_state: PyTree) -> float | None:
    """Return the rate that is part of an optimizer's state, or ``None`` if there is none."""
    found = _find(optim_state)
    return None if found is None else float(found)


def set_learning_rate(optim_state: PyTree, rate: float) -> PyTree:
    """Return the state with another rate.

    Args:
        optim_state: The optimizer's state.
        rate: The rate; positive.

    Raises:
        ArgumentError: If the state holds no rate.
    """
    if _find(optim_state) is None:
        raise ArgumentError(WHY_FIXED)
    return _replace(optim_state, rate)


def _rate_name(hyperparams: object) -> str | None:
    if not isinstance(hyperparams, dict):
        return None
    return next((name for name in _NAMES if name in hyperparams), None)


def _find(state: PyTree) -> jax.Array | None:
    if isinstance(state, RateState):
        return state.learning_rate
    name = _rate_name(getattr(state, "hyperparams", None))
    if name is not None:
        return state.hyperparams[name]
    if isinstance(state, (tuple, list)):
        return next((found for found in map(_find, state) if found is not None), None)
    return None


def _replace(state: PyTree, rate: float) -> PyTree:
    if isinstance(state, RateState):
        return state._replace(learning_rate=jnp.full_like(state.learning_rate, rate))
    name = _rate_name(getattr(state, "hyperparams", None))
    if name is not None:
        new = jnp.full_like(state.hyperparams[name], rate)
        return state._replace(hyperparams={**state.hyperparams, name: new})
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(_replace(part, rate) for part in state))
    if isinstance(state, (tuple, list)):
        return type(state)(_replace(part, rate) for part in state)
    return state
