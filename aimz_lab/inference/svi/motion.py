"""Whether steps move the parameters: seen by their values, and by updates of the optimizer alone.

Optax compiles its learning rate into the steps, where it is not known. That it has come to 0 shows
in the parameters, whatever the optimizer.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpyro.optim import _NumPyroOptim

from aimz_lab.inference.compiling import QUICKEST, compiler_options, named

_UPDATES = 1_000
"""Updates to try: a schedule that begins anew within them is not over."""

_GRADIENT = 1e6
"""Larger than most gradients before, so that an optimizer that divides by them moves, too."""

_HARDLY = 1e-5
"""Part of the largest entry of a parameter; to move by less in many steps is to stand still."""


def have_moved(
    optimizer: _NumPyroOptim, before: PyTree, after: PyTree, *, least: float = 0.0
) -> bool:
    """Return whether a parameter differs between two states of an optimizer.

    Args:
        optimizer: The optimizer.
        before: Its state.
        after: Its state after some steps.
        least: What a parameter has to move by, as part of its largest entry; 0 for any difference.
    """
    pairs = zip(*map(jax.tree.leaves, map(optimizer.get_params, (before, after))), strict=True)
    # Small ones first: as a rule the first one tells, and large ones are slow to fetch.
    for one, other in sorted(pairs, key=lambda pair: pair[0].size):
        old, new = np.asarray(one), np.asarray(other)
        apart = np.abs(new - old).max(initial=0.0)
        if not apart <= least * np.abs(old).max(initial=0.0):
            return True
    return False


def hardly_moved(optimizer: _NumPyroOptim, before: PyTree, after: PyTree) -> bool:
    """Return whether no parameter differs by more than rounding and a rate next to 0 explain.

    Args:
        optimizer: The optimizer.
        before: Its state.
        after: Its state after a few steps.
    """
    return not have_moved(optimizer, before, after, least=_HARDLY)


def is_spent(optimizer: _NumPyroOptim, state: PyTree) -> bool:
    """Return whether an optimizer moves no parameter any more, whatever the gradients.

    The same gradients are given to it again and again; where parameters stand still as their
    gradients are 0, at a minimum, it would move them.

    Args:
        optimizer: The optimizer; one that evaluates the loss itself is taken to move them.
        state: Its state.
    """
    if type(optimizer).eval_and_update is not _NumPyroOptim.eval_and_update:
        return False
    if not jax.tree.leaves(params := optimizer.get_params(state)):
        return False
    gradients = jax.tree.map(lambda param: jnp.full_like(param, _GRADIENT), params)
    loss = jnp.ones((), jnp.result_type(float))

    def updates(state: PyTree) -> PyTree:
        return jax.lax.fori_loop(
            0, _UPDATES, lambda _, now: optimizer.update(gradients, now, value=loss), state
        )

    options = compiler_options(QUICKEST)
    after = jax.jit(named("updates_alone", updates), compiler_options=options)(state)
    return hardly_moved(optimizer, state, after)
