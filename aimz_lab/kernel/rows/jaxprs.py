"""Read a jaxpr: the programs inside of its equations, and which values depend on which.

Inner programs are those of ``jit``, ``cond``, ``scan`` and ``while``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var

_CALLS = ("jit", "closed_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call")

_PARAMETERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*_CALLS, "scan"), ("jaxpr", "call_jaxpr")),
    "cond": ("branches",),
    "while": ("cond_jaxpr", "body_jaxpr"),
}
"""For the primitives that run programs, the parameters that hold them in any version of JAX."""


def is_call(equation: JaxprEqn) -> bool:
    """Whether an equation runs one program once, with its own operands as the arguments."""
    return equation.primitive.name in _CALLS


def inner_programs(equation: JaxprEqn) -> list[ClosedJaxpr]:
    """Return the programs that an equation runs; none for a plain operation.

    Example:
        >>> import jax
        >>> program = jax.make_jaxpr(lambda x: jax.lax.cond(x > 0, jax.numpy.sin, abs, x))(1.0)
        >>> len(inner_programs(program.eqns[-1]))
        2
    """
    names = _PARAMETERS.get(equation.primitive.name, ())
    programs: list[ClosedJaxpr] = []
    for name in names:
        found = equation.params.get(name, ())
        for program in found if isinstance(found, tuple) else (found,):
            closed = isinstance(program, ClosedJaxpr)
            programs.append(program if closed else ClosedJaxpr(program, ()))
    return programs


def dependent_results(program: Jaxpr, sources: frozenset[Var]) -> list[bool]:
    """Return, for each result of a program, whether it may depend on some of its arguments.

    An operation is taken as a whole, with the programs that it runs: what it computes depends on
    all that it is given.

    Args:
        program: The program.
        sources: The arguments.
    """
    dependent: set[Any] = set(sources)
    for equation in program.eqns:
        if any(isinstance(atom, Var) and atom in dependent for atom in equation.invars):
            dependent.update(equation.outvars)
    return [isinstance(atom, Var) and atom in dependent for atom in program.outvars]


def needed_for(program: Jaxpr, results: Sequence[Any]) -> set[Var]:
    """Return the variables of a program that some of its results depend on, and these themselves.

    Args:
        program: The program.
        results: Some of its variables; literals among them depend on nothing.
    """
    needed = {atom for atom in results if isinstance(atom, Var)}
    for equation in reversed(program.eqns):
        if not needed.isdisjoint(equation.outvars):
            needed.update(atom for atom in equation.invars if isinstance(atom, Var))
    return needed
