"""The inner jaxprs of a jaxpr equation: of ``jit``, ``cond``, ``scan`` and ``while``."""

from __future__ import annotations

from jax.extend.core import ClosedJaxpr, JaxprEqn

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
